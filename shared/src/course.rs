//! Which way a restart takes proxies: to a newer version, to an older one, or where nobody can say.

use std::cmp::Ordering;
use std::fmt;

use crate::image::Image;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::verdict::{Running, Wanted};
use crate::version::Version;

/// Which way the proxies of a workload go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Course {
    /// At least one goes to an older version.
    Downgrade,
    /// At least one goes where nothing tells whether it is newer.
    #[default]
    Unknown,
    /// They go to a newer version.
    Upgrade,
    /// They get their first proxy.
    First,
    /// They lose their proxy.
    Last,
    /// The version stays.
    Same,
}

impl Course {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Course::Downgrade => "downgrade",
            Course::Unknown => "unknown",
            Course::Upgrade => "upgrade",
            Course::First => "first-proxy",
            Course::Last => "no-proxy",
            Course::Same => "same-version",
        }
    }
}

/// A version and the revision that it is of, each as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// The revision's name.
    pub revision: Option<String>,
    /// The version that the image names.
    pub version: Option<Version>,
}

impl fmt::Display for Stand {
    /// `1.26.0 (1-26-0)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, &self.revision) {
            (Some(version), Some(revision)) => write!(formatter, "{version} ({revision})"),
            (Some(version), None) => write!(formatter, "{version} (unknown revision)"),
            (None, Some(revision)) => write!(formatter, "unknown version ({revision})"),
            (None, None) => formatter.write_str("unknown version"),
        }
    }
}

/// From where the proxies of a workload go, and to where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// What runs and would be something else, each once; `None` for pods without a proxy.
    pub from: Vec<Option<Stand>>,
    /// What a new pod would run; `None` for no proxy.
    pub to: Option<Stand>,
    /// Which way that is.
    pub course: Course,
}

impl Passage {
    /// From what runs to what is wanted.
    pub fn new(snapshot: &Snapshot, running: &[Running], wanted: Option<&Wanted>) -> Passage {
        let goes = |running: &&Running| running.differs || matches!(running.state, State::Leaving | State::Missing);
        let going: Vec<&Running> = if running.iter().any(|running| goes(&running)) {
            running.iter().filter(goes).collect()
        } else {
            running.iter().collect()
        };
        let stays_without = going.iter().all(|running| matches!(running.state, State::Leaving | State::Current));
        let to = match wanted {
            Some(wanted) => Some(stand_of_wanted(wanted)),
            None if stays_without => None,
            None => Some(Stand::default()),
        };
        let mut from: Vec<Option<Stand>> = Vec::new();
        for stand in going.iter().map(|running| running.proxy.as_ref().map(stand_of_proxy)) {
            if !from.contains(&stand) {
                from.push(stand);
            }
        }
        let course = from.iter().map(|from| course(snapshot, from.as_ref(), to.as_ref())).min().unwrap_or(Course::Same);
        Passage { from, to, course }
    }

    /// The same, once a dry run has shown which image new pods get.
    #[must_use]
    pub fn to(&self, snapshot: &Snapshot, wanted: Option<&Wanted>) -> Passage {
        let to = wanted.map(stand_of_wanted);
        let course = self.from.iter().map(|from| course(snapshot, from.as_ref(), to.as_ref())).min().unwrap_or(Course::Same);
        Passage { from: self.from.clone(), to, course }
    }
}

impl fmt::Display for Passage {
    /// `1.26.0 (1-26-0) -> 1.28.2 (1-28-2)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |stand: &Option<Stand>| stand.as_ref().map_or_else(|| "no proxy".to_owned(), ToString::to_string);
        let from: Vec<String> = self.from.iter().map(text).collect();
        let from = if from.is_empty() { "no pod".to_owned() } else { from.join(", ") };
        write!(formatter, "{from} -> {}", text(&self.to))
    }
}

fn stand_of_proxy(proxy: &Proxy) -> Stand {
    Stand { revision: proxy.revision.as_deref().map(str::to_owned), version: proxy.version() }
}

fn stand_of_wanted(wanted: &Wanted) -> Stand {
    let version = wanted.image.as_deref().and_then(|image| Image::parse(image).version());
    Stand { revision: wanted.revision.clone(), version }
}

/// Which way one proxy goes. Images decide; where they name no version, the control planes of two revisions can still show that
/// it is a way back, and never that it is one up.
fn course(snapshot: &Snapshot, from: Option<&Stand>, to: Option<&Stand>) -> Course {
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (None, Some(_)) => return Course::First,
        (Some(_), None) => return Course::Last,
        (None, None) => return Course::Same,
    };
    if let (Some(from), Some(to)) = (&from.version, &to.version) {
        return match to.order(from) {
            Some(Ordering::Less) => Course::Downgrade,
            Some(Ordering::Equal) => Course::Same,
            Some(Ordering::Greater) => Course::Upgrade,
            None => Course::Unknown,
        };
    }
    let plane = |stand: &Stand| {
        let revision = stand.revision.as_deref()?;
        snapshot.control_planes_of(revision).find_map(|control_plane| control_plane.version())
    };
    match (plane(from), plane(to)) {
        (Some(from), Some(to)) if to.order(&from) == Some(Ordering::Less) => Course::Downgrade,
        _ => Course::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{ControlPlane, Istiod, Read, Readiness};
    use crate::proxy::ProxyType;

    fn running(revision: &str, image: &str, state: State) -> Running {
        let proxy =
            Proxy { proxy_type: ProxyType::Sidecar, revision: Some(revision.into()), image: image.into(), is_native: false };
        Running { proxy: Some(proxy), count: 1, state, reasons: Vec::new(), differs: state.is_stale() }
    }

    fn wanted(revision: &str, image: &str) -> Wanted {
        Wanted { revision: Some(revision.to_owned()), tag: None, injector: None, image: Some(image.to_owned()) }
    }

    fn plane(revision: &str, image: &str) -> ControlPlane {
        ControlPlane {
            revision: revision.to_owned(),
            namespace: "istio-system".to_owned(),
            deployment: Some(Istiod {
                name: "istiod".to_owned(),
                image: image.to_owned(),
                ready_replicas: 1,
                is_observed: true,
                ..Istiod::default()
            }),
            is_elsewhere: false,
            injector_config: Read::Absent,
            mesh_config: Read::Absent,
            readiness: Readiness::Ready,
        }
    }

    #[test]
    fn versions_of_images_tell_the_way() {
        let way = |from: &str, to: &str| {
            let running = [running("old", &format!("istio/proxyv2:{from}"), State::Stale)];
            Passage::new(&Snapshot::default(), &running, Some(&wanted("new", &format!("istio/proxyv2:{to}")))).course
        };
        assert_eq!(way("1.26.0", "1.28.2"), Course::Upgrade);
        assert_eq!(way("1.28.2", "1.26.0"), Course::Downgrade);
        assert_eq!(way("1.28.2", "1.28.0-distroless"), Course::Downgrade);
        assert_eq!(way("1.28.2", "1.28.2-distroless"), Course::Same);
        for (from, to) in [("latest", "1.28.2"), ("1.26.0", "corp-7"), ("1.28", "1.28.2")] {
            assert_eq!(way(from, to), Course::Unknown, "{from} {to}");
        }
    }

    #[test]
    fn the_worst_of_several_ways_is_the_workloads() {
        let both = [running("1-28-2", "p:1.28.2", State::Stale), running("1-26-0", "p:1.26.0", State::Stale)];
        let passage = Passage::new(&Snapshot::default(), &both, Some(&wanted("1-27-1", "p:1.27.1")));
        assert_eq!(passage.course, Course::Downgrade);
        assert_eq!(passage.to_string(), "1.28.2 (1-28-2), 1.26.0 (1-26-0) -> 1.27.1 (1-27-1)");
        // What is there already goes nowhere.
        let half = [running("1-28-2", "p:1.28.2", State::Stale), running("1-26-0", "p:1.26.0", State::Current)];
        let passage = Passage::new(&Snapshot::default(), &half, Some(&wanted("1-26-0", "p:1.26.0")));
        assert_eq!(passage.to_string(), "1.28.2 (1-28-2) -> 1.26.0 (1-26-0)");
    }

    #[test]
    fn control_planes_show_a_way_back_and_never_one_up() {
        let planes = vec![plane("old", "pilot:1.26.0"), plane("new", "pilot:1.28.2")];
        let snapshot = Snapshot { control_planes: planes, ..Snapshot::default() };
        let way = |from: &str, to: &str| {
            let running = [running(from, "corp/proxyv2@sha256:ab", State::Stale)];
            Passage::new(&snapshot, &running, Some(&wanted(to, "corp/proxyv2@sha256:cd")))
        };
        assert_eq!(way("new", "old").course, Course::Downgrade);
        assert_eq!(way("old", "new").course, Course::Unknown);
        assert_eq!(way("old", "new").to_string(), "unknown version (old) -> unknown version (new)");
    }

    #[test]
    fn a_first_proxy_and_a_last_one_are_neither_up_nor_down() {
        let without = Running { proxy: None, count: 2, state: State::Missing, reasons: Vec::new(), differs: false };
        let first = Passage::new(&Snapshot::default(), &[without], Some(&wanted("1-26-0", "p:1.26.0")));
        assert_eq!((first.course, first.to_string().as_str()), (Course::First, "no proxy -> 1.26.0 (1-26-0)"));
        let last = Passage::new(&Snapshot::default(), &[running("1-28-2", "p:1.28.2", State::Leaving)], None);
        assert_eq!((last.course, last.to_string().as_str()), (Course::Last, "1.28.2 (1-28-2) -> no proxy"));
        let unknown = Passage::new(&Snapshot::default(), &[running("1-28-2", "p:1.28.2", State::Unknown)], None);
        assert_eq!((unknown.course, unknown.to_string().as_str()), (Course::Unknown, "1.28.2 (1-28-2) -> unknown version"));
    }
}
