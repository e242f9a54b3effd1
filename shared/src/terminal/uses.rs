//! Uses as lines of a refusal.

use super::advisor::Advisor;
use crate::uses::Use;

/// What uses something and how, and below that what ends the use.
pub fn lines(found: &Use, advisor: &Advisor) -> Vec<String> {
    let advice = (!found.advice.is_empty()).then(|| format!("  {}", advisor.text(&found.advice)));
    std::iter::once(format!("{} {}", found.subject, found.message)).chain(advice).collect()
}
