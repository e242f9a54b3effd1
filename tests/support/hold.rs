//! A request that is kept back until the test lets it go: the moment in which a signal comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::intercept::{Call, Fate};
use crate::plugin::Running;

/// The signals by which a command is asked to end.
pub const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A request that is kept back.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    has_come: Arc<AtomicBool>,
    may_go: Arc<AtomicBool>,
    /// Writes that have come so far, this one too.
    writes: Arc<AtomicUsize>,
}

impl Hold {
    /// Keeps back the write with this number, counted from 0.
    pub fn at_write(&self, number: usize) -> impl Fn(&Call) -> Fate + Send + Sync + 'static {
        self.at_write_after(number, |_| Fate::Pass)
    }

    /// Keeps back the write with this number, counted from 0; each write has the fate that `fate` gives its number.
    pub fn at_write_after(
        &self,
        number: usize,
        fate: impl Fn(usize) -> Fate + Send + Sync + 'static,
    ) -> impl Fn(&Call) -> Fate + Send + Sync + 'static {
        let hold = self.clone();
        move |call| {
            if !call.is_write() {
                return Fate::Pass;
            }
            let write = hold.writes.fetch_add(1, Ordering::SeqCst);
            if write == number {
                hold.keep();
            }
            fate(write)
        }
    }

    /// Lets nobody answer the read with this number, counted from 0.
    pub fn silent_at_read(&self, number: usize) -> impl Fn(&Call) -> Fate + Send + Sync + 'static {
        let (hold, reads) = (self.clone(), AtomicUsize::new(0));
        move |call| {
            if call.is_write() {
                hold.writes.fetch_add(1, Ordering::SeqCst);
            } else if reads.fetch_add(1, Ordering::SeqCst) == number {
                hold.has_come.store(true, Ordering::SeqCst);
                return Fate::Silence;
            }
            Fate::Pass
        }
    }

    /// Lets the request go.
    pub fn let_go(&self) {
        self.may_go.store(true, Ordering::SeqCst);
    }

    /// How many writes have come so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// Waits until the request has come; false when the command ends without it.
    pub fn has_come(&self, running: &mut Running) -> Result<bool> {
        while !self.has_come.load(Ordering::SeqCst) {
            if running.has_ended()? {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }

    fn keep(&self) {
        self.has_come.store(true, Ordering::SeqCst);
        while !self.may_go.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
