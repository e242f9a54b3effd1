//! Exit codes: one contract for all plugins.

use std::process::ExitCode;

/// What a command ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to report.
    Done,
    /// An error; what was done before it has been said.
    Error,
    /// Wrong usage.
    Usage,
    /// Found something, and `--exit-code` was given.
    Found,
    /// Refused: unsafe, or not known to be safe. Nothing was changed.
    Refused,
    /// Partly done: the rest is listed, and the same command continues it.
    Partly,
    /// Interrupted; as [`Exit::Partly`].
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::Found => 3,
            Exit::Refused => 4,
            Exit::Partly => 5,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_a_contract() {
        let all = [Exit::Done, Exit::Error, Exit::Usage, Exit::Found, Exit::Refused, Exit::Partly, Exit::Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 130]);
    }
}
