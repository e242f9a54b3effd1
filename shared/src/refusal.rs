//! Refusals: why something is not done, what is in the way, and the way out.

use crate::advice::Advice;

/// Why something is not done, or not to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as a sentence without its full stop.
    pub reason: String,
    /// Every object that is in the way, or is left: one a line.
    pub details: Vec<String>,
    /// Objects in the way, each with what to do about it; told before the details.
    pub obstacles: Vec<(String, Advice)>,
    /// The next command, or what to do.
    pub advice: Advice,
    /// Whether it is a refusal at all, or only that what was named is not there.
    pub cause: RefusalCause,
}

/// What sort of refusal it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalCause {
    /// It is unsafe, or not known to be safe: exit code 4.
    #[default]
    Unsafe,
    /// What was named does not exist: an error like any other.
    NotFound,
}

impl Refusal {
    /// A refusal with one reason and one way out.
    pub fn new(reason: impl Into<String>, advice: impl Into<Advice>) -> Refusal {
        Refusal {
            reason: reason.into(),
            details: Vec::new(),
            obstacles: Vec::new(),
            advice: advice.into(),
            cause: RefusalCause::Unsafe,
        }
    }

    /// What was named is not there.
    pub fn not_found(reason: impl Into<String>, advice: impl Into<Advice>) -> Refusal {
        Refusal { cause: RefusalCause::NotFound, ..Refusal::new(reason, advice) }
    }

    /// With what is in the way, each with what to do about it.
    #[must_use]
    pub fn with_obstacles(self, obstacles: Vec<(String, Advice)>) -> Refusal {
        Refusal { obstacles, ..self }
    }

    /// With what is in the way, one a line.
    #[must_use]
    pub fn with(self, details: Vec<String>) -> Refusal {
        Refusal { details, ..self }
    }
}
