//! How far a mesh may go at once: the one rule of precheck, and of every step that precheck is about.

use std::cmp::Ordering;

use clap::Args;

use crate::advice::Advice;
use crate::finding::Code;
use crate::refusal::Refusal;
use crate::terminal::stop::Stop;
use crate::terminal::words::nearest;
use crate::version::Version;

/// How many minor versions a mesh may go upward at once beside the old control plane, unless its platform says otherwise.
///
/// istio.io, "Canary Upgrades": upgrading across two minor versions is supported by revisions.
pub const MINORS_AT_ONCE: u32 = 2;

/// Why one version is not to follow another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFar {
    /// The finding of precheck.
    pub code: Code,
    /// Why.
    pub message: String,
}

/// Whether a mesh may go from one version to another at once.
///
/// # Errors
/// The finding that forbids it; `downgrade` for a way back, which is no upgrade.
pub fn step(from: &Version, to: &Version, minors_at_once: u32) -> Result<(), TooFar> {
    let forbidden = |code, message| Err(TooFar { code, message });
    match to.minors_ahead_of(from) {
        None if to.order(from) == Some(Ordering::Less) => {
            forbidden(Code::Downgrade, format!("{to} is older than {from}, which runs: this is no upgrade"))
        }
        None => forbidden(Code::SkewMajor, format!("{to} is another major version than {from}")),
        Some(ahead) if ahead < 0 || (ahead == 0 && to.order(from) == Some(Ordering::Less)) => {
            forbidden(Code::Downgrade, format!("{to} is older than {from}, which runs: this is no upgrade"))
        }
        Some(ahead) if ahead > i64::from(minors_at_once) => {
            forbidden(Code::SkewTooFar, format!("{ahead} minor versions above {from}: at most {minors_at_once} at once"))
        }
        Some(_) => Ok(()),
    }
}

/// Findings of precheck that a step is to go on in spite of.
#[derive(Args, Clone, Debug, Default)]
pub struct IgnoredArgs {
    /// Go on in spite of these findings of mesh-upgrade precheck, by their codes
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub ignore_precheck: Vec<String>,
}

/// Findings that are ignored, of those that a step asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored(Vec<Code>);

impl IgnoredArgs {
    /// The codes that were typed, of those that this step asks about.
    ///
    /// # Errors
    /// [`Stop::Usage`] for any other: ignored by a misspelled name, a finding would not be ignored, or another one would.
    pub fn of(&self, asked: &[Code]) -> Result<Ignored, Stop> {
        let parse = |typed: &String| {
            asked.iter().copied().find(|code| code.as_str() == typed).ok_or_else(|| {
                let names: Vec<&str> = asked.iter().map(|code| code.as_str()).collect();
                Stop::Usage(format!(
                    "--ignore-precheck: {typed:?} is no finding that this command asks about{}",
                    nearest(typed, &names)
                ))
            })
        };
        self.ignore_precheck.iter().map(parse).collect::<Result<_, _>>().map(Ignored)
    }
}

impl Ignored {
    /// Whether the user goes on in spite of this finding.
    pub fn contains(&self, code: Code) -> bool {
        self.0.contains(&code)
    }

    /// Refuses what precheck forbids: each finding with its subject, and the flag that goes on all the same.
    ///
    /// # Errors
    /// A [`Refusal`] that names every finding that is not ignored.
    pub fn check(&self, undone: &str, found: Vec<(String, TooFar)>) -> Result<(), Refusal> {
        let found: Vec<(String, TooFar)> = found.into_iter().filter(|(_, why)| !self.contains(why.code)).collect();
        let Some((_, first)) = found.first() else { return Ok(()) };
        let mut codes: Vec<&str> = found.iter().map(|(_, why)| why.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        let reason = format!("precheck forbids it ({}); {undone}", codes.join(", "));
        let advice = match first.code {
            Code::SkewTooFar | Code::SkewMajor => "go by a version in between",
            _ => "fix it first",
        };
        let advice =
            Advice::say(format!("{advice}; the same command with --ignore-precheck {} goes on all the same", codes.join(",")));
        let line = |(subject, why): (String, TooFar)| format!("{subject}: {} ({})", why.message, why.code);
        Err(Refusal::new(reason, advice).with(found.into_iter().map(line).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(from: &str, to: &str) -> Option<Code> {
        step(&from.parse().unwrap(), &to.parse().unwrap(), MINORS_AT_ONCE).err().map(|why| why.code)
    }

    #[test]
    fn two_minor_versions_may_be_gone_at_once_and_no_more() {
        for (from, to) in [("1.26.0", "1.27.1"), ("1.26.0", "1.28.2"), ("1.28.0", "1.28.2"), ("1.28.2", "1.28.2")] {
            assert_eq!(code(from, to), None, "{from} {to}");
        }
        assert_eq!(code("1.26.0", "1.29.0"), Some(Code::SkewTooFar));
        assert_eq!(code("1.28.2", "2.0.0"), Some(Code::SkewMajor));
        for (from, to) in [("1.28.2", "1.26.0"), ("1.28.2", "1.28.0"), ("2.0.0", "1.28.2")] {
            assert_eq!(code(from, to), Some(Code::Downgrade), "{from} {to}");
        }
    }

    #[test]
    fn only_what_a_step_asks_about_is_ignored_and_by_its_name() {
        let asked = [Code::SkewTooFar, Code::CrdNewer];
        let typed =
            |codes: &[&str]| IgnoredArgs { ignore_precheck: codes.iter().map(|code| (*code).to_owned()).collect() }.of(&asked);
        let found = || vec![("tag prod".to_owned(), TooFar { code: Code::SkewTooFar, message: "too far".to_owned() })];
        assert!(typed(&["skew-too-far"]).unwrap().check("nothing was changed", found()).is_ok());
        let refusal = typed(&["crd-newer"]).unwrap().check("nothing was changed", found()).unwrap_err();
        assert_eq!(refusal.details, ["tag prod: too far (skew-too-far)"]);
        let told = |codes: &[&str]| match typed(codes) {
            Err(Stop::Usage(message)) => message,
            other => panic!("{other:?}"),
        };
        assert!(told(&["skew-to-far"]).ends_with("; did you mean skew-too-far?"), "{}", told(&["skew-to-far"]));
        assert!(told(&["skew-too-far", "quota"]).contains("there are skew-too-far, crd-newer"));
    }
}
