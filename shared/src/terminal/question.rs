//! Questions before something is changed.

use std::io::{self, BufRead, IsTerminal, Write};

use owo_colors::OwoColorize;

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
/// person is, the question is a refusal.
///
/// # Errors
/// [`Stop::Refused`] unless the answer begins with `y`.
pub fn ask(terminal: &mut Terminal, question: &str, consent: Consent) -> Result<(), Stop> {
    if consent == Consent::Given {
        return Ok(());
    }
    terminal.flush()?;
    let is_person = terminal.err_audience == Audience::Person && io::stdin().is_terminal();
    if !is_person {
        return Err(Refusal::new(
            format!("{question} Nobody is here to answer; nothing was changed"),
            "the same command with --yes",
        )
        .into());
    }
    let style = terminal.err_styles.warning;
    write!(terminal.err, "{} [y/N] ", question.style(style))?;
    terminal.err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Refusal::new("the answer was no; nothing was changed", "").into())
    }
}
