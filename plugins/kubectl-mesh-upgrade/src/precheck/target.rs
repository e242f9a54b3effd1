//! What an upgrade goes to, and from where.

use mesh::terminal::stop::Stop;
use mesh::version::Version;

use crate::revisions::Revision;
use crate::survey::Survey;

/// The upgrade in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The revision, where one was named.
    pub revision: Option<String>,
    /// Its version; `None` when a revision that is here names none.
    pub version: Option<Version>,
    /// Whether the revision is here already.
    pub is_installed: bool,
    /// The revision that is upgraded from; itself where it is upgraded in place, and `None` where no other has a control plane
    /// or proxies.
    pub from: Option<String>,
}

impl Target {
    /// Finds out what was meant by `--to`, `--target-version` and `--from`.
    ///
    /// # Errors
    /// A revision to come whose version nobody says, a tag in the place of a revision, or a `--from` that is not here.
    pub fn resolve(to: &str, version: Option<&Version>, from: Option<&str>, survey: &Survey) -> Result<Target, Stop> {
        let tags = survey.snapshot.tags();
        Target::find(to, version, from, &survey.revisions, &tags)
    }

    fn find(
        to: &str,
        version: Option<&Version>,
        from: Option<&str>,
        revisions: &[Revision],
        tags: &[&str],
    ) -> Result<Target, Stop> {
        let installed = revisions.iter().find(|revision| revision.name == to && revision.control_plane.is_some());
        if installed.is_none() && tags.contains(&to) {
            return Err(Stop::Usage(format!("{to} is a tag: --to takes a revision or a version")));
        }
        if from == Some(to) {
            return Err(Stop::Usage(format!("--from and --to are both {to}: nothing would change")));
        }
        let from = match from {
            None if installed.is_some_and(|revision| version.is_some() && version != revision.version()) => Some(to.to_owned()),
            Some(name) if revisions.iter().any(|revision| revision.name == name) => Some(name.to_owned()),
            Some(name) => return Err(Stop::Message(format!("there is no revision {name} to upgrade from"))),
            None => most_run(to, revisions).map(|revision| revision.name.clone()),
        };
        if let Some(revision) = installed {
            let version = version.or(revision.version()).cloned();
            return Ok(Target { revision: Some(to.to_owned()), version, is_installed: true, from });
        }
        if let (None, Ok(version)) = (version, to.parse::<Version>()) {
            return Ok(Target { revision: None, version: Some(version), is_installed: false, from });
        }
        let version = version.cloned().or_else(|| version_in_name(to)).ok_or_else(|| {
            Stop::Usage(format!("revision {to} is not here, and its name says no version: add --target-version VERSION"))
        })?;
        Ok(Target { revision: Some(to.to_owned()), version: Some(version), is_installed: false, from })
    }

    /// The revision's name; made from the version where none was given, as Istio's documentation names revisions.
    pub fn revision_name(&self) -> String {
        let made = || self.version.as_ref().map(|version| version.to_string().replace('.', "-"));
        self.revision.clone().or_else(made).unwrap_or_else(|| "REVISION".to_owned())
    }

    /// Whether the revision keeps its name and gets another version.
    pub fn is_in_place(&self) -> bool {
        self.is_installed && self.revision == self.from
    }

    /// `1-28-2 (Istio 1.28.2)`, `Istio 1.28.2`.
    pub fn description(&self) -> String {
        match (&self.revision, &self.version) {
            (Some(revision), Some(version)) => format!("{revision} (Istio {version})"),
            (Some(revision), None) => revision.clone(),
            (None, Some(version)) => format!("Istio {version}"),
            (None, None) => "nothing".to_owned(),
        }
    }
}

/// The revision that most proxies run, besides the target; of equal ones the oldest, which is the first.
fn most_run<'a>(to: &str, revisions: &'a [Revision]) -> Option<&'a Revision> {
    let others = || revisions.iter().filter(|revision| revision.name != to);
    let most = others().map(|revision| revision.proxies).max()?;
    others().find(|revision| revision.proxies == most)
}

/// The version that a revision's name says: `1-28-2`, `v1-28-2`, `istio-1-28`, `asm-1-28`.
fn version_in_name(name: &str) -> Option<Version> {
    let digits = name.find(|character: char| character.is_ascii_digit())?;
    name[digits..].replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revisions::sample as revision;

    fn find(to: &str, version: Option<&str>, revisions: &[Revision]) -> Result<Target, Stop> {
        let version: Option<Version> = version.map(|version| version.parse().unwrap());
        Target::find(to, version.as_ref(), None, revisions, &["prod-stable"])
    }

    #[test]
    fn a_revision_that_is_here_has_its_own_version() {
        let revisions = [revision("1-26-0", "1.26.0", 5), revision("canary", "1.28.2", 1)];
        let target = find("canary", None, &revisions).unwrap();
        assert_eq!((target.version.clone().unwrap().to_string().as_str(), target.is_installed), ("1.28.2", true));
        assert_eq!((target.from.as_deref(), target.description().as_str()), (Some("1-26-0"), "canary (Istio 1.28.2)"));
    }

    #[test]
    fn a_revision_to_come_says_its_version_by_its_name_or_the_flag() {
        let version = |to: &str, flag| find(to, flag, &[]).map(|target| target.version.unwrap().to_string());
        for (name, expected) in [("1-28-2", "1.28.2"), ("v1-28-2", "1.28.2"), ("asm-1-28", "1.28"), ("istio-1-28", "1.28")] {
            assert_eq!(version(name, None).unwrap(), expected, "{name}");
        }
        assert_eq!(version("canary", Some("1.28.2")).unwrap(), "1.28.2");
        assert!(matches!(version("canary", None), Err(Stop::Usage(_))));
    }

    #[test]
    fn a_revision_that_gets_another_version_is_upgraded_in_place() {
        let revisions = [revision("prod", "1.26.0", 5), revision("canary", "1.28.2", 1)];
        let to = |version| find("prod", version, &revisions).unwrap();
        let target = to(Some("1.26.3"));
        assert_eq!((target.from.as_deref(), target.is_in_place()), (Some("prod"), true));
        assert_eq!(target.version.unwrap().to_string(), "1.26.3");
        for version in [None, Some("1.26.0")] {
            assert_eq!((to(version).from.as_deref(), to(version).is_in_place()), (Some("canary"), false));
        }
    }

    #[test]
    fn a_version_stands_for_a_revision_to_come() {
        let target = find("1.28.2", None, &[]).unwrap();
        assert_eq!((target.revision.as_deref(), target.revision_name().as_str(), target.from), (None, "1-28-2", None));
    }

    #[test]
    fn a_tag_is_no_target_and_from_has_to_be_here() {
        assert!(matches!(find("prod-stable", None, &[]), Err(Stop::Usage(message)) if message.contains("is a tag")));
        let gone = Target::find("1.28.2", None, Some("1-20"), &[], &[]);
        assert!(matches!(gone, Err(Stop::Message(message)) if message.contains("1-20")));
        let same = Target::find("1-26-0", None, Some("1-26-0"), &[revision("1-26-0", "1.26.0", 5)], &[]);
        assert!(matches!(same, Err(Stop::Usage(_))));
    }
}
