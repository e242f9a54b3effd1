//! SIGINT, SIGTERM and SIGHUP: one listener for the whole process, from its first moment to its last.
//!
//! A command that has written nothing ends at once. One that has ends between two writes: what is under way is finished,
//! nothing more begins, and what was done is said. Changes that are only right together, as those of a tag, are finished together.
//! A second signal ends the process at once, with everything that it has started, and says what it leaves half-way.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::child::{self, Group};
use crate::cluster::connection::remove_private_files;
use crate::terminal::exit::Exit;
use crate::terminal::shown::visible;
use crate::writes::Writes;

/// How long a write that is under way is waited for. A webhook that the API server asks may take 30 seconds
/// (`timeoutSeconds` of admissionregistration.k8s.io/v1).
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a command may take to end once nothing is under way. Programs that it runs have time to end meanwhile.
const STUCK: Duration = Duration::from_secs(8);

/// Whether the user has asked to stop. Every clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Interruption(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_requested: AtomicBool,
    requested: Notify,
    writes: Writes,
    /// The process groups of the programs that run.
    groups: Mutex<Vec<Group>>,
}

impl Interruption {
    /// Listens from now on. A signal that was ignored when the process started, as `nohup` does it, stays ignored.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn listen() -> io::Result<Interruption> {
        let interruption = Interruption::default();
        let heard = interruption.clone();
        signals::each(move || heard.hear())?;
        Ok(interruption)
    }

    /// What the command has changed so far.
    pub fn writes(&self) -> &Writes {
        &self.0.writes
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.is_requested.load(Ordering::SeqCst)
    }

    /// Waits until the command is to end: the user has asked for it, and no write is under way, or it has not ended for long.
    pub async fn takes_effect(&self) {
        loop {
            let requested = self.0.requested.notified();
            tokio::pin!(requested);
            // From here on no request is missed, however early it comes.
            requested.as_mut().enable();
            if self.is_requested() {
                break;
            }
            requested.await;
        }
        // What was not waited for to its end is reported as unknown.
        let _ = tokio::time::timeout(PATIENCE, self.0.writes.are_settled()).await;
    }

    pub(crate) fn started(&self, group: Group) {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    pub(crate) fn ended(&self, group: Group) {
        self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != group);
    }

    fn hear(&self) {
        let is_first = !self.0.is_requested.swap(true, Ordering::SeqCst);
        let has_written = self.0.writes.end();
        if !is_first {
            if has_written {
                self.say_last_words();
            }
            self.leave(Duration::ZERO);
        }
        if has_written {
            self.0.requested.notify_waiters();
            self.leave_when_stuck();
            return;
        }
        if self.0.writes.are_allowed() {
            // Where nobody reads it, the exit code says the same.
            let _ = writeln!(io::stderr(), "interrupted: nothing was changed");
        }
        self.leave(child::GRACE);
    }

    /// Nothing but the process itself is left to say what it leaves half-way. Where nobody reads it, the exit code says the same.
    fn say_last_words(&self) {
        let words = self.0.writes.last_words();
        let _ = words.iter().try_for_each(|line| writeln!(io::stderr(), "{}", visible(line)));
    }

    /// Ends the process once nothing has been under way for a while, and it is still there: it waits for somebody to take its
    /// output, and would do so for ever.
    fn leave_when_stuck(&self) {
        const PAUSE: Duration = Duration::from_millis(100);
        let watched = self.clone();
        let watch = move || {
            let mut idle = Duration::ZERO;
            while idle < STUCK {
                std::thread::sleep(PAUSE);
                idle = if watched.0.writes.is_settled() { idle + PAUSE } else { Duration::ZERO };
            }
            watched.leave(child::GRACE)
        };
        // Where no thread can be had, a second signal does the same.
        let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
    }

    /// Ends the process, and what it has started. `grace` is how long programs have to end by themselves.
    fn leave(&self, grace: Duration) -> ! {
        for group in self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            group.end(grace, || ());
        }
        remove_private_files();
        std::process::exit(i32::from(Exit::Interrupted.code()))
    }
}

#[cfg(unix)]
mod signals {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// Calls `hear` for each signal, on a thread of its own: whatever else the process does, it is heard.
    pub fn each(hear: impl Fn() + Send + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let listened = {
            let _context = runtime.enter();
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            kinds.into_iter().filter(|kind| !is_ignored(*kind)).map(signal).collect::<io::Result<Vec<Signal>>>()?
        };
        if listened.is_empty() {
            return Ok(());
        }
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(forward(listened, hear)))?;
        Ok(())
    }

    async fn forward(mut signals: Vec<Signal>, hear: impl Fn()) {
        loop {
            let next = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures::future::select_all(next).await;
            hear();
        }
    }

    /// Whether whoever started the process wants it to ignore a signal.
    fn is_ignored(kind: SignalKind) -> bool {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        #[expect(unsafe_code, reason = "only the C library says how a signal is handled, and std does not ask it")]
        // SAFETY: without a new action, sigaction only fills in the present one, which is zeroed memory of its own type.
        let (answer, handler) = unsafe {
            let answer = libc::sigaction(kind.as_raw_value(), std::ptr::null(), action.as_mut_ptr());
            (answer, action.assume_init().sa_sigaction)
        };
        answer == 0 && handler == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
mod signals {
    use std::io;

    /// Calls `hear` for each Ctrl-C, on a thread of its own: whatever else the process does, it is heard.
    pub fn each(hear: impl Fn() + Send + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    hear();
                }
            });
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_request_takes_effect_between_two_writes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let interruption = Interruption::default();
            interruption.writes().allow();
            let writing = interruption.writes().begin("changing a").await.unwrap();
            interruption.hear();
            assert!(interruption.is_requested());
            assert!(interruption.takes_effect().now_or_never().is_none());
            writing.done();
            interruption.takes_effect().await;
        });
    }
}
