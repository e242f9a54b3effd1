//! Findings: facts that a user should see beside the answer.

mod code;

use std::fmt;

pub use self::code::Code;
use crate::advice::Advice;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work, or will not for the next pod.
    Error,
    /// Something is likely to surprise.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One fact about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What sort of finding it is.
    pub code: Code,
    /// The object that it is about: `resource/name`, with its namespace behind it where it has one.
    pub subject: String,
    /// The fact, as a sentence fragment without a full stop.
    pub message: String,
    /// What to do about it: a command where one exists. May be empty.
    pub advice: Advice,
}
