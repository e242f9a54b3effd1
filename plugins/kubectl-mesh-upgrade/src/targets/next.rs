//! What may come after a revision: pure decisions over the revisions that are here and the releases that are known.

use mesh::advice::Advice;
use std::collections::BTreeSet;

use jiff::civil::Date;
use mesh::platform::{Step, Way};

use crate::revisions::Revision;
use crate::support::Releases;

/// A minor release that may come after a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The revision that it would follow.
    pub from: String,
    /// Whether proxies run `from`, so that there is anything to move.
    pub serves_proxies: bool,
    /// Major and minor number.
    pub line: (u32, u32),
    /// How many minor versions that is upward; 0 is a newer patch.
    pub minors: u32,
    /// Revisions of this line that are here already, sorted.
    pub here: Vec<String>,
    /// Whether it is supported today; `None` where this build does not know the release.
    pub is_supported: Option<bool>,
    /// Whether it may come next.
    pub verdict: Verdict,
    /// What stands against it, and what to mind.
    pub notes: Vec<Advice>,
}

/// Whether a target may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It may.
    Yes,
    /// It may, with what the notes say minded.
    Careful,
    /// It may not, as things are.
    No,
}

impl Verdict {
    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Yes => "yes",
            Verdict::Careful => "careful",
            Verdict::No => "no",
        }
    }
}

/// What may come after each revision that has a control plane of a known version. `kubernetes` is the cluster's version, where it
/// is known.
///
/// istio.io, "Supported Releases", control plane and data plane skew: a control plane may be one version ahead of the data
/// plane, and a data plane never ahead of it. istio.io, "Canary Upgrades": by revisions, two minor versions may be gone at
/// once; the proxies are then two behind until they are restarted.
pub fn targets(revisions: &[Revision], releases: &Releases, kubernetes: Option<(u32, u32)>, today: Date) -> Vec<Target> {
    let after = |revision| after(revision, revisions, releases, kubernetes, today);
    revisions.iter().flat_map(after).collect()
}

fn after(
    from: &Revision,
    revisions: &[Revision],
    releases: &Releases,
    kubernetes: Option<(u32, u32)>,
    today: Date,
) -> Vec<Target> {
    let (Some(plane), Some(version)) = (&from.control_plane, from.version()) else { return Vec::new() };
    let (major, minor) = version.line();
    let mut lines: BTreeSet<(u32, u32)> = (1..=plane.platform.minors_at_once()).map(|ahead| (major, minor + ahead)).collect();
    let newer = revisions.iter().filter_map(Revision::version).filter(|other| *other > version);
    // What is here already is always told: further up than one may go, it is told why not.
    lines.extend(newer.map(|other| other.line()).filter(|line| line.0 == major));
    lines.retain(|line| releases.of_line(*line).is_some() || !here(*line, from, revisions).is_empty());
    let target = |line: (u32, u32)| {
        let release = releases.of_line(line);
        let minors = line.1 - minor;
        let mut verdict = Verdict::Yes;
        let mut notes = Vec::new();
        let mut note = |weight: Verdict, note: Advice| {
            verdict = verdict.max(weight);
            notes.push(note);
        };
        if minors > plane.platform.minors_at_once() {
            note(Verdict::No, Advice::say(format!("{minors} minor versions at once: go by one in between")));
        } else if minors == 2 {
            note(Verdict::Careful, "two minor versions at once: only beside the old one, never in place".into());
        }
        if let Some(oldest) = from.oldest_proxy() {
            let behind = i64::from(line.1) - i64::from(oldest.minor);
            if behind > 2 {
                let why = format!("proxies of {oldest} would be {behind} minor versions behind: restart them first");
                note(Verdict::No, Advice::say(why));
            }
        }
        if let Some(newest) = from.newest_proxy().filter(|newest| newest.line() > line) {
            let why = format!("proxies of {newest} run: a data plane is never ahead of its control plane");
            note(Verdict::No, Advice::say(why));
        }
        match (release, kubernetes) {
            (Some(release), Some(kubernetes)) if !release.supports_kubernetes(kubernetes) => {
                let (weight, word) = if kubernetes < release.oldest_kubernetes {
                    (Verdict::No, "it needs at least")
                } else {
                    (Verdict::Careful, "it was released for at most")
                };
                let bound = if weight == Verdict::No { release.oldest_kubernetes } else { release.newest_kubernetes };
                let (major, minor) = kubernetes;
                note(weight, Advice::say(format!("Kubernetes here is {major}.{minor}, {word} {}.{}", bound.0, bound.1)));
            }
            _ => {}
        }
        if let Way::Elsewhere(how) = plane.platform.way(Step::Start, &from.name) {
            note(Verdict::Careful, how);
        }
        Target {
            from: from.name.clone(),
            serves_proxies: from.proxies > 0,
            line,
            minors,
            here: here(line, from, revisions),
            is_supported: release.map(|release| release.is_supported(today)),
            verdict,
            notes,
        }
    };
    lines.into_iter().map(target).collect()
}

/// Revisions of a line that are newer than `from`.
fn here(line: (u32, u32), from: &Revision, revisions: &[Revision]) -> Vec<String> {
    let is_newer = |revision: &&Revision| {
        revision.version().is_some_and(|version| version.line() == line && from.version().is_some_and(|from| version > from))
    };
    revisions.iter().filter(is_newer).map(|revision| revision.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use mesh::platform::Sail;

    use super::*;
    use crate::revisions::sample;

    fn revision(name: &str, version: &str, proxies: &[&str]) -> Revision {
        let proxy_versions = proxies.iter().map(|version| (version.parse().unwrap(), 1)).collect();
        Revision { proxies: proxies.len() as u32, proxy_versions, ..sample(name, version, 0) }
    }

    fn decide(revisions: &[Revision], kubernetes: (u32, u32)) -> Vec<Target> {
        targets(revisions, Releases::known(), Some(kubernetes), date(2026, 7, 15))
    }

    fn told(note: &Advice) -> String {
        mesh::terminal::advisor::Advisor::default().text(note)
    }

    fn brief(targets: &[Target]) -> Vec<((u32, u32), u32, Verdict)> {
        targets.iter().map(|target| (target.line, target.minors, target.verdict)).collect()
    }

    #[test]
    fn one_minor_upward_or_two_beside_the_old_one() {
        let found = decide(&[revision("1-26-0", "1.26.0", &["1.26.0"])], (1, 32));
        assert_eq!(brief(&found), [((1, 27), 1, Verdict::Yes), ((1, 28), 2, Verdict::Careful)]);
        assert!(told(&found[1].notes[0]).contains("never in place"), "{found:#?}");
        assert_eq!([found[0].is_supported, found[1].is_supported], [Some(false), Some(false)]);
    }

    #[test]
    fn what_is_here_already_is_named_and_a_newer_patch_is_a_target() {
        let revisions =
            [revision("1-28-0", "1.28.0", &["1.28.0"]), revision("1-28-2", "1.28.2", &[]), revision("1-29-1", "1.29.1", &[])];
        let found = decide(&revisions, (1, 33));
        assert_eq!(found[0].line, (1, 28));
        assert_eq!((found[0].minors, &found[0].here[..]), (0, &["1-28-2".to_owned()][..]));
        assert_eq!((found[1].minors, &found[1].here[..]), (1, &["1-29-1".to_owned()][..]));
        // Nothing older is ever a target.
        assert!(found.iter().filter(|target| target.from == "1-29-1").all(|target| target.line > (1, 29)), "{found:#?}");
    }

    #[test]
    fn three_minors_at_once_are_too_many_even_when_it_is_here() {
        let found = decide(&[revision("1-25", "1.25.1", &[]), revision("1-28", "1.28.2", &[])], (1, 32));
        let far = found.iter().find(|target| target.line == (1, 28)).unwrap();
        assert_eq!((far.minors, far.verdict), (3, Verdict::No));
    }

    #[test]
    fn proxies_left_behind_by_an_upgrade_in_place_hold_it_back() {
        let behind = decide(&[revision("default", "1.26.0", &["1.25.2", "1.26.0"])], (1, 32));
        assert_eq!(brief(&behind), [((1, 27), 1, Verdict::Yes), ((1, 28), 2, Verdict::No)]);
        assert!(behind[1].notes.iter().any(|note| told(note).contains("proxies of 1.25.2 would be 3")), "{behind:#?}");
    }

    #[test]
    fn a_data_plane_is_never_ahead() {
        let ahead = decide(&[revision("default", "1.26.0", &["1.28.2"])], (1, 32));
        assert_eq!(brief(&ahead), [((1, 27), 1, Verdict::No), ((1, 28), 2, Verdict::Careful)]);
    }

    #[test]
    fn kubernetes_may_be_too_old_or_newer_than_a_release_knew() {
        let old = decide(&[revision("1-27", "1.27.1", &[])], (1, 29));
        assert_eq!(brief(&old), [((1, 28), 1, Verdict::No), ((1, 29), 2, Verdict::No)]);
        let new = decide(&[revision("1-27", "1.27.1", &[])], (1, 35));
        assert_eq!(brief(&new), [((1, 28), 1, Verdict::Careful), ((1, 29), 2, Verdict::Careful)]);
    }

    #[test]
    fn another_owner_is_told_where_to_go() {
        let mut theirs = revision("default-v1-26-0", "1.26.0", &[]);
        let sail = Sail { kind: "IstioRevision".to_owned(), name: "default-v1-26-0".to_owned() };
        theirs.control_plane.as_mut().unwrap().platform = Box::new(sail);
        let found = decide(&[theirs], (1, 32));
        assert!(found[0].verdict == Verdict::Careful && told(&found[0].notes[0]).contains("spec.version"), "{found:#?}");
    }

    #[test]
    fn a_revision_without_control_plane_or_version_has_no_next() {
        let mut gone = revision("1-24-0", "1.24.0", &["1.24.0"]);
        gone.control_plane = None;
        assert!(decide(&[gone, revision("custom", "latest", &[])], (1, 32)).is_empty());
    }

    #[test]
    fn releases_that_nobody_knows_are_not_invented() {
        let (_, newest) = Releases::known().newest_line();
        let found = decide(&[revision("newest", &format!("1.{newest}.0"), &[])], (1, 33));
        assert!(found.is_empty(), "{found:#?}");
    }
}
