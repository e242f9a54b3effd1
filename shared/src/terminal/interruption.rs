//! Ctrl-C, as something that a command looks at between two API calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit::Exit;
use crate::cluster::connection::remove_private_files;

/// Whether the user has pressed Ctrl-C. What is under way still ends; a second Ctrl-C ends the process at once.
#[derive(Clone, Debug, Default)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Listens from now on, in the runtime that runs this.
    pub fn listen() -> Interruption {
        let interruption = Interruption::default();
        let flag = Arc::clone(&interruption.0);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.swap(true, Ordering::Relaxed) {
                    remove_private_files();
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
            }
        });
        interruption
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
