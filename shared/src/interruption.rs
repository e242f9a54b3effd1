//! SIGINT, SIGTERM and SIGHUP: one listener for the whole process, from its first moment to its last.
//!
//! A command that has written nothing ends at once. One that has ends between two writes: what is under way is finished,
//! nothing more begins, and what was done is said. Changes that are only right together, as those of a tag, are finished together.
//! A second signal ends the process at once, with everything that it has started, and says what it leaves half-way. While a command
//! attends to interruptions itself (see [`Interruption::attend`]), the first signal asks it to begin nothing new, the second to wait for
//! nothing any more, and the third ends the process.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// How many signals have come.
    signals: AtomicUsize,
    heard: Notify,
    /// Whether the command itself says how it ends.
    is_attended: AtomicBool,
    /// Whether it has seen the first signal, and waits for what it has begun.
    is_waiting: AtomicBool,
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
        self.0.signals.load(Ordering::SeqCst) > 0
    }

    /// Waits until the command is to end: the user has asked for it, nobody attends to that, and no write is under way, or it
    /// has not ended for long.
    pub async fn takes_effect(&self) {
        self.is(|shared| shared.signals.load(Ordering::SeqCst) > 0 && !shared.is_attended.load(Ordering::SeqCst)).await;
        self.settles().await;
    }

    /// Waits until the user has asked the command to stop.
    pub async fn is_heard(&self) {
        self.is(|shared| shared.signals.load(Ordering::SeqCst) > 0).await;
    }

    /// Waits until nothing new is to begin: the user has asked the command to stop, and no write is under way, or it has not
    /// ended for long.
    pub async fn forbids_more(&self) {
        self.is_heard().await;
        self.settles().await;
    }

    /// Waits until the user has asked a second time, so that nothing is waited for any more.
    pub async fn insists(&self) {
        self.is(|shared| shared.signals.load(Ordering::SeqCst) > 1).await;
    }

    /// From now on, as long as the answer lives, the command itself says how it ends when it is interrupted.
    pub fn attend(&self) -> Attendance {
        self.0.is_attended.store(true, Ordering::SeqCst);
        Attendance(self.clone())
    }

    /// Waits until something is so that signals bring about.
    async fn is(&self, holds: impl Fn(&Shared) -> bool) {
        loop {
            let heard = self.0.heard.notified();
            tokio::pin!(heard);
            // From here on no signal is missed, however early it comes.
            heard.as_mut().enable();
            if holds(&self.0) {
                return;
            }
            heard.await;
        }
    }

    async fn settles(&self) {
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
        let signals = self.0.signals.fetch_add(1, Ordering::SeqCst) + 1;
        let has_written = self.0.writes.end();
        match signals {
            1 if has_written => {
                self.0.heard.notify_waiters();
                self.leave_when_stuck();
                return;
            }
            2 if has_written && self.0.is_waiting.load(Ordering::SeqCst) => {
                self.0.heard.notify_waiters();
                return;
            }
            1 => {}
            _ => {
                if has_written {
                    self.say_last_words();
                }
                self.leave(Duration::ZERO)
            }
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
    /// output, and would do so for ever. What waits for something that it has begun is no such process, until a second signal.
    fn leave_when_stuck(&self) {
        const PAUSE: Duration = Duration::from_millis(100);
        let watched = self.clone();
        let watch = move || {
            let mut idle = Duration::ZERO;
            while idle < STUCK {
                std::thread::sleep(PAUSE);
                let waits = watched.0.is_waiting.load(Ordering::SeqCst) && watched.0.signals.load(Ordering::SeqCst) < 2;
                idle = if watched.0.writes.is_settled() && !waits { idle + PAUSE } else { Duration::ZERO };
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

/// A command that says itself how it ends when it is interrupted. When it is dropped, interruptions end the command as ever.
#[derive(Debug)]
#[must_use]
pub struct Attendance(Interruption);

impl Attendance {
    /// The first signal was seen, and what has begun is waited for: the next one ends the waiting, and not the process.
    pub fn is_waiting(&self) {
        self.0.0.is_waiting.store(true, Ordering::SeqCst);
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let shared = &self.0.0;
        shared.is_waiting.store(false, Ordering::SeqCst);
        shared.is_attended.store(false, Ordering::SeqCst);
        shared.heard.notify_waiters();
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

    #[test]
    fn a_command_that_attends_is_asked_first_to_begin_nothing_and_then_to_wait_for_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let interruption = Interruption::default();
            interruption.writes().allow();
            interruption.writes().begin("changing a").await.unwrap().done();
            let attendance = interruption.attend();
            assert!(interruption.forbids_more().now_or_never().is_none());
            interruption.hear();
            interruption.forbids_more().await;
            assert!(interruption.takes_effect().now_or_never().is_none(), "it says itself how it ends");
            assert!(interruption.insists().now_or_never().is_none());
            attendance.is_waiting();
            interruption.hear();
            interruption.insists().await;
            drop(attendance);
            interruption.takes_effect().await;
        });
    }
}
