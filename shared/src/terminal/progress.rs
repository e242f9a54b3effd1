//! A line that shows how far a long list is, on a terminal, and leaves no trace.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::Audience;

/// A command that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// The least time between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// So many counts are between two looks at the clock.
const STRIDE: u64 = 256;

/// A count on stderr.
pub struct Progress {
    audience: Audience,
    what: &'static str,
    started: Instant,
    count: Cell<u64>,
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    /// Begins to count `what`, for example `pods`.
    pub fn start(audience: Audience, what: &'static str) -> Progress {
        Progress { audience, what, started: Instant::now(), count: Cell::new(0), drawn: Cell::new(None) }
    }

    /// Counts one more.
    pub fn add_one(&self) {
        let count = self.count.get() + 1;
        self.count.set(count);
        if self.audience == Audience::Person && count.is_multiple_of(STRIDE) {
            self.draw(count);
        }
    }

    /// Begins to count again.
    pub fn restart(&self) {
        self.count.set(0);
    }

    /// Takes the line away again.
    pub fn clear(&self) {
        if self.drawn.take().is_some() {
            // A progress line that cannot be written is no reason to fail.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn draw(&self, count: u64) {
        let now = Instant::now();
        let is_due = match self.drawn.get() {
            Some(drawn) => now - drawn >= PAUSE,
            None => now - self.started >= PATIENCE,
        };
        if is_due {
            self.drawn.set(Some(now));
            let _ = write!(io::stderr(), "\r\x1b[K{count} {} …", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
