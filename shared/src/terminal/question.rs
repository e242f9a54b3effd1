//! Questions before something is changed.

use std::io::{self, BufRead, IsTerminal};

use owo_colors::OwoColorize;
use tokio::sync::oneshot;

use super::stop::Stop;
use super::{Audience, Terminal};
use crate::refusal::Refusal;

/// What `--yes` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It was given: no question is asked.
    Given,
    /// It was not: a person is asked, and a program is refused.
    Ask,
}

impl Consent {
    /// From the flag.
    pub const fn from_flag(yes: bool) -> Consent {
        if yes { Consent::Given } else { Consent::Ask }
    }
}

/// Asks a person to agree to `question`, for example `Move tag prod to revision 1-28-2?`. `--yes` answers it; where no
/// person is, the question is a refusal. `so_far` says what was changed before, such as `nothing was changed`.
///
/// # Errors
/// [`Stop::Refused`] unless the answer begins with `y`.
pub async fn ask(terminal: &mut Terminal, question: &str, consent: Consent, so_far: &str) -> Result<(), Stop> {
    if consent == Consent::Given {
        return Ok(());
    }
    terminal.flush()?;
    let is_person = terminal.err_audience == Audience::Person && io::stdin().is_terminal();
    if !is_person {
        return Err(Refusal::new(format!("{question} Nobody is here to answer; {so_far}"), "the same command with --yes").into());
    }
    let style = terminal.err_styles.warning;
    write!(terminal.err, "{} [y/N] ", question.style(style))?;
    terminal.err.flush()?;
    let answer = line().await.unwrap_or_default();
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Refusal::new(format!("the answer was no; {so_far}"), "").into())
    }
}

/// A line of standard input. It is read on a thread of its own, so that an interruption need not wait for it; that thread ends
/// with the process. Nothing where nothing can be read.
async fn line() -> Option<String> {
    let (sender, receiver) = oneshot::channel();
    let read = move || {
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).is_ok() {
            // Whoever has asked may be gone.
            let _ = sender.send(line);
        }
    };
    std::thread::Builder::new().spawn(read).ok()?;
    receiver.await.ok()
}
