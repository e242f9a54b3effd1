//! Which way a mesh goes: up to a newer revision, back to an older one, or nowhere. Decided from the moves of tags that were noted,
//! from the labels and who wrote them, and from what runs and would run; where these say different things, it is unknown.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::authorship::Authorship;
use crate::labels;
use crate::object::{Lookup, Resource};
use crate::snapshot::Snapshot;
use crate::terminal::words::plural;
use crate::verdict::Verdict;
use crate::version::Version;

/// The field manager of these plugins: what it has written was meant.
const OWN_MANAGER: &str = crate::cluster::apply::FIELD_MANAGER;

/// A revision between which a mesh may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its name.
    pub name: String,
    /// Its version: its control plane's, else the newest of its proxies.
    pub version: Option<Version>,
    /// When its control plane was created, where that could be read.
    pub created: Option<Timestamp>,
    /// Whether its control plane answers; one that does not is nothing to go to.
    pub is_ready: bool,
}

/// Which way a mesh goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// There is no revision.
    #[default]
    Nowhere,
    /// There is only this one, and nothing changes in it.
    Only(String),
    /// There is only this one, and its proxies get a newer version of it.
    InPlace(String),
    /// To a newer revision.
    Up(Course),
    /// Back to an older revision.
    Back(Course),
    /// Between two revisions, and what is known does not tell which way.
    Unknown(Course),
}

/// Between which revisions, and what tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// The older revision.
    pub older: String,
    /// The newer revision.
    pub newer: String,
    /// What tells the way, or why nothing does: sentences without a full stop.
    pub evidence: Vec<String>,
    /// Whether anything uses the newer revision: a proxy, a tag or a label.
    pub is_newer_used: bool,
}

impl Direction {
    /// The word in documents.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Direction::Nowhere | Direction::Only(_) => "idle",
            Direction::InPlace(_) => "in-place",
            Direction::Up(_) => "up",
            Direction::Back(_) => "back",
            Direction::Unknown(_) => "unknown",
        }
    }

    /// Between which revisions; `None` where there are no two.
    pub const fn course(&self) -> Option<&Course> {
        match self {
            Direction::Up(course) | Direction::Back(course) | Direction::Unknown(course) => Some(course),
            Direction::Nowhere | Direction::Only(_) | Direction::InPlace(_) => None,
        }
    }

    /// Decides. `stations` are the revisions that are here or that proxies run, in any order.
    pub fn of(snapshot: &Snapshot, authorship: &Authorship, verdicts: &[Verdict], stations: &[Station]) -> Direction {
        let Some(newest) = newest(stations) else { return Direction::Nowhere };
        let others: Vec<&Station> = stations.iter().filter(|station| is_before(station, newest)).collect();
        if others.is_empty() {
            let goes_in_place = |verdict: &Verdict| {
                verdict.state.is_stale() && wanted(verdict) == Some(newest.name.as_str()) && runs(verdict, &newest.name) > 0
            };
            let name = newest.name.clone();
            return if verdicts.iter().any(goes_in_place) { Direction::InPlace(name) } else { Direction::Only(name) };
        }
        Sight { snapshot, authorship, verdicts, stations, newest, others }.decide()
    }
}

/// The newest revision that answers, of equal versions the one that was created last; where none answers, the newest.
pub fn newest(stations: &[Station]) -> Option<&Station> {
    stations.iter().max_by_key(|station| (station.is_ready, station.version.clone(), station.created))
}

/// Whether a revision is before another one: older, or of the same version and created before.
fn is_before(station: &Station, other: &Station) -> bool {
    station.name != other.name && (&station.version, station.created) <= (&other.version, other.created)
}

fn wanted(verdict: &Verdict) -> Option<&str> {
    verdict.wanted.as_ref()?.revision.as_deref()
}

/// How many of a workload's proxies run a revision.
fn runs(verdict: &Verdict, revision: &str) -> u32 {
    let of_it = verdict.running.iter().filter(|running| {
        running.proxy.as_ref().is_some_and(|proxy| !proxy.proxy_type.is_of_node() && proxy.revision.as_deref() == Some(revision))
    });
    of_it.map(|running| running.count).sum()
}

/// A move of a tag that these plugins have noted.
struct Act {
    time: Option<Timestamp>,
    way: Ordering,
    words: String,
}

struct Sight<'a> {
    snapshot: &'a Snapshot,
    authorship: &'a Authorship,
    verdicts: &'a [Verdict],
    stations: &'a [Station],
    newest: &'a Station,
    others: Vec<&'a Station>,
}

impl Sight<'_> {
    fn decide(&self) -> Direction {
        let newer = self.newest.name.as_str();
        let selecting = self.selecting();
        let proxies = |want: bool| -> u32 {
            let going =
                self.verdicts.iter().filter(|verdict| (wanted(verdict) == Some(newer)) == want && wanted(verdict).is_some());
            going.map(|verdict| if want { self.runs_others(verdict) } else { runs(verdict, newer) }).sum()
        };
        let (up, back) = (proxies(true), proxies(false));
        let on_newer: u32 = self.verdicts.iter().map(|verdict| runs(verdict, newer)).sum();
        let mut evidence: Vec<String> = Vec::new();
        let act = self.last_act();
        evidence.extend(act.as_ref().map(|act| act.words.clone()));
        let count = |number: u32| plural(u64::from(number), "proxy", "proxies");
        if back > 0 {
            evidence.push(format!("{} of {newer} would get an older revision", count(back)));
        }
        if up > 0 {
            evidence.push(format!("{} of older revisions would get {newer}", count(up)));
        }
        match &selecting {
            Some(selecting) => evidence.push(format!("{selecting} selects {newer}")),
            None => evidence.push(format!("no namespace and no workload selects {newer}")),
        }
        let is_selected = selecting.is_some();
        let unread = self.unread();
        let way = match (act.map(|act| act.way), is_selected) {
            _ if !unread.is_empty() => None,
            // One label that is put back turns nothing; all of them do.
            (Some(Ordering::Greater), _) if is_selected || back == 0 => Some(Ordering::Greater),
            (Some(Ordering::Less), false) => Some(Ordering::Less),
            (Some(_), _) => None,
            (None, true) if back == 0 => Some(Ordering::Greater),
            (None, true) => None,
            (None, false) if back > 0 => Some(Ordering::Less),
            // It runs somewhere, and nothing brings it there any more.
            (None, false) if on_newer > 0 => None,
            (None, false) => self.untouched(&mut evidence).then_some(Ordering::Greater),
        };
        evidence.extend(unread);
        let is_pointed_to = self.snapshot.tags().into_iter().any(|tag| self.snapshot.revision_of_tag(tag) == Some(newer));
        let is_newer_used = on_newer > 0 || is_selected || is_pointed_to;
        let course = |older: String| Course { older, newer: newer.to_owned(), evidence, is_newer_used };
        match way {
            Some(Ordering::Greater) => Direction::Up(course(self.left())),
            Some(Ordering::Less) => Direction::Back(course(self.gone_to())),
            _ => Direction::Unknown(course(self.left())),
        }
    }

    fn runs_others(&self, verdict: &Verdict) -> u32 {
        self.others.iter().map(|station| runs(verdict, &station.name)).sum()
    }

    fn station(&self, name: &str) -> Option<&Station> {
        self.stations.iter().find(|station| station.name == name)
    }

    /// What selects the newest revision: a namespace, by itself or by a tag, or a workload. A tag that nobody follows selects nothing.
    fn selecting(&self) -> Option<String> {
        let newer = self.newest.name.as_str();
        let points_to = |tag: &str| self.snapshot.revision_of_tag(tag) == Some(newer);
        let followed = self.snapshot.namespaces.iter().find_map(|(name, labels)| {
            let value = match labels.value(labels::INJECTION) {
                Some("enabled") => crate::tag::DEFAULT,
                Some(_) => return None,
                None => labels.value(labels::REVISION)?,
            };
            match points_to(value) {
                true => Some(format!("namespace {name}, by tag {value},")),
                false => (value == newer).then(|| format!("namespace {name}")),
            }
        });
        let workload = || self.verdicts.iter().find(|verdict| wanted(verdict) == Some(newer));
        followed
            .or_else(|| workload().map(|verdict| format!("{} -n {}", verdict.workload.type_name(), verdict.workload.namespace)))
    }

    /// The last move of a tag to or from the newest revision that these plugins have noted, and that nobody else has written over.
    fn last_act(&self) -> Option<Act> {
        let newest = self.newest.name.as_str();
        let acts = self.authorship.tags.iter().filter_map(|(tag, write)| {
            let last = write.moves.last()?;
            if write.label.manager.as_deref().is_some_and(|manager| manager != OWN_MANAGER) {
                return None;
            }
            let (from, to) = (last.from.as_deref()?, write.label.value.as_str());
            let time: Option<Timestamp> = last.time.parse().ok();
            let is_old = |name: &str| self.station(name).is_some_and(|station| is_before(station, self.newest));
            if last.undone {
                // Where it had been moved to is not noted; that it came back to where it was, is.
                let words = format!("tag {tag} was moved back to {to}");
                return is_old(to).then_some(Act { time: write.label.time.or(time), way: Ordering::Less, words });
            }
            let words = format!("tag {tag} was moved from {from} to {to} at {}", last.time);
            let way = match (from == newest, to == newest) {
                (false, true) => Ordering::Greater,
                (true, false) if is_old(to) => Ordering::Less,
                _ => return None,
            };
            Some(Act { time, way, words })
        });
        acts.max_by_key(|act| act.time)
    }

    /// What could not be read, and would tell.
    fn unread(&self) -> Vec<String> {
        let deciding = [Resource::MutatingWebhookConfigurations, Resource::Namespaces, Resource::Pods];
        let unread = self.snapshot.unread.iter().filter(|unread| deciding.contains(&unread.resource));
        let mut unread: Vec<String> = unread.map(|unread| format!("{} could not be read", unread.resource)).collect();
        unread.extend(self.authorship.unread.iter().cloned());
        unread.sort();
        unread.dedup();
        unread
    }

    /// Whether everything that follows an older revision does so since before the newest one was installed. Then nothing has gone to
    /// the newest one yet; a label that was written later may have come back from it.
    fn untouched(&self, evidence: &mut Vec<String>) -> bool {
        let newer = &self.newest.name;
        let Some(installed) = self.newest.created else {
            evidence.push(format!("when {newer} was installed could not be read"));
            return false;
        };
        let of_namespaces = self.authorship.namespaces.iter();
        let of_namespaces =
            of_namespaces.flat_map(|(name, writes)| writes.iter().map(move |write| (format!("namespace {name}"), write)));
        let of_tags = self.authorship.tags.iter().map(|(tag, write)| (format!("tag {tag}"), &write.label));
        // What was created with its label has never followed another revision.
        let is_late = |write: &crate::authorship::LabelWrite| {
            write.time.is_none_or(|time| time > installed && write.created.is_none_or(|created| time > created))
        };
        match of_namespaces.chain(of_tags).find(|(_, write)| is_late(write)) {
            Some((subject, write)) => {
                evidence.push(format!("{subject}: {write}, after {newer} was installed at {installed}"));
                false
            }
            None => {
                evidence.push(format!("no label was written since {newer} was installed at {installed}"));
                true
            }
        }
    }

    /// The older revision that most proxies run, else the newest of the older ones.
    fn left(&self) -> String {
        let most = self.most(|verdict, station| runs(verdict, &station.name));
        most.unwrap_or_else(|| self.newest_of_the_older())
    }

    /// The older revision that most proxies would get, else that most run.
    fn gone_to(&self) -> String {
        let would_get = |verdict: &Verdict, station: &Station| {
            if wanted(verdict) == Some(station.name.as_str()) { verdict.proxy_count() } else { 0 }
        };
        self.most(would_get).unwrap_or_else(|| self.left())
    }

    fn most(&self, count: impl Fn(&Verdict, &Station) -> u32) -> Option<String> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for station in &self.others {
            counts.insert(&station.name, self.verdicts.iter().map(|verdict| count(verdict, station)).sum());
        }
        counts.into_iter().filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn newest_of_the_older(&self) -> String {
        let newest = self.others.iter().max_by_key(|station| (station.is_ready, station.version.clone(), station.created));
        newest.map_or_else(String::new, |station| station.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::object::{Interner, StringMap, WebhookConfiguration};
    use crate::proxy::Proxy;
    use crate::proxy::ProxyType;
    use crate::snapshot::{Unread, UnreadCause};
    use crate::template::Template;
    use crate::verdict::verdicts;
    use crate::workload::{Restart, Workload, WorkloadId};

    const INSTALLED: &str = "2026-02-01T00:00:00Z";
    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const AFTER: &str = "2026-03-01T00:00:00Z";

    fn station(name: &str, version: &str, created: &str) -> Station {
        Station { name: name.to_owned(), version: version.parse().ok(), created: created.parse().ok(), is_ready: true }
    }

    fn both() -> Vec<Station> {
        vec![station("1-26-0", "1.26.0", "2025-01-01T00:00:00Z"), station("1-28-2", "1.28.2", INSTALLED)]
    }

    /// A mesh: namespaces with their label and when it was written, tags with where they point and their moves, and workloads with
    /// the revision that they run.
    #[derive(Default)]
    struct Mesh {
        namespaces: Vec<(&'static str, &'static str, &'static str)>,
        tags: Vec<(&'static str, &'static str, &'static str, Value)>,
        workloads: Vec<(&'static str, &'static str)>,
        unread: Vec<Resource>,
    }

    impl Mesh {
        fn direction(&self) -> Direction {
            self.between(&both())
        }

        fn between(&self, stations: &[Station]) -> Direction {
            let owned = |key: &str, manager: &str, time: &str| json!([{"manager": manager, "time": time, "fieldsV1": {"f:metadata": {"f:labels": {format!("f:{key}"): {}}}}}]);
            let namespaces: Vec<Value> = self
                .namespaces
                .iter()
                .map(|(name, value, time)| {
                    json!({"metadata": {"name": name, "labels": {"istio.io/rev": value}, "creationTimestamp": "2025-06-01T00:00:00Z",
                        "managedFields": owned("istio.io/rev", "kubectl-label", time)}})
                })
                .collect();
            let webhooks: Vec<Value> = self
                .tags
                .iter()
                .map(|(tag, revision, manager, moves)| {
                    json!({"metadata": {"name": format!("tag-{tag}"), "labels": {"istio.io/tag": tag, "istio.io/rev": revision},
                        "annotations": {"kubectl-mesh/history": moves.to_string()}, "creationTimestamp": "2025-06-01T00:00:00Z",
                        "managedFields": owned("istio.io/rev", manager, AFTER)},
                        "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io",
                            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
                            "namespaceSelector": {"matchLabels": {"no.namespace.has": tag}}}]})
                })
                .collect();
            let mut interner = Interner::default();
            let mut snapshot = Snapshot::default();
            for (name, value, _) in &self.namespaces {
                let labels: StringMap = [("istio.io/rev".to_owned(), (*value).to_owned())].into();
                snapshot.namespaces.insert(Arc::from(*name), interner.labels(&labels, |_| true));
            }
            for webhook in &webhooks {
                let configuration: WebhookConfiguration = serde_json::from_value(webhook.clone()).unwrap();
                snapshot.injectors.extend(crate::injector::Injector::all_of(&configuration));
            }
            for (place, (namespace, running)) in self.workloads.iter().enumerate() {
                let image = "p:1";
                let proxy = Proxy {
                    proxy_type: ProxyType::Sidecar,
                    revision: Some((*running).into()),
                    image: image.into(),
                    is_native: false,
                };
                // What a new pod gets stands in the template, as its namespace's label says: no injector has to be made up.
                let wanted = self.namespaces.iter().find(|(name, ..)| name == namespace).map_or("", |(_, value, _)| *value);
                let wanted = self.tags.iter().find(|(tag, ..)| *tag == wanted).map_or(wanted, |(_, revision, ..)| revision);
                let annotations = [(interner.text(labels::REVISION), interner.text(wanted))].into_iter().collect();
                snapshot.workloads.push(Workload {
                    id: WorkloadId {
                        namespace: (*namespace).into(),
                        api_version: "apps/v1".into(),
                        kind: "Deployment".into(),
                        name: format!("web-{place}").into(),
                    },
                    uid: None,
                    template: Template { annotations, proxy_image: Some(interner.text(image)), ..Template::default() },
                    restart: Restart::Rollout,
                    gateway: None,
                    proxies: vec![(Some(proxy), 2)],
                    pods: Vec::new(),
                    wanted_pods: None,
                    revision: None,
                    others: Vec::new(),
                    doubt: None,
                });
            }
            let unread = |resource: &Resource| Unread { resource: *resource, namespace: None, cause: UnreadCause::Forbidden };
            snapshot.unread = self.unread.iter().map(unread).collect();
            let authorship = Authorship::new(&namespaces, &webhooks, Vec::new());
            let verdicts = verdicts(&snapshot, &HashMap::new());
            Direction::of(&snapshot, &authorship, &verdicts, stations)
        }
    }

    fn moved(from: &str, undone: bool) -> Value {
        json!([{"from": from, "time": AFTER, "version": "0.1.0", "undone": undone}])
    }

    fn told(direction: &Direction) -> (&'static str, &str) {
        (direction.as_str(), direction.course().map_or("", |course| course.older.as_str()))
    }

    #[test]
    fn a_tag_that_was_moved_up_or_back_says_the_way() {
        let mesh = |revision: &'static str, from: &str, undone: bool, running: &'static str| Mesh {
            namespaces: vec![("shop", "prod", BEFORE)],
            tags: vec![("prod", revision, "kubectl-mesh", moved(from, undone))],
            workloads: vec![("shop", running)],
            ..Mesh::default()
        };
        assert_eq!(told(&mesh("1-28-2", "1-26-0", false, "1-26-0").direction()), ("up", "1-26-0"));
        assert_eq!(told(&mesh("1-26-0", "1-28-2", false, "1-28-2").direction()), ("back", "1-26-0"));
        // Also once everything is back, and when it was undone rather than moved.
        assert_eq!(told(&mesh("1-26-0", "1-28-2", false, "1-26-0").direction()), ("back", "1-26-0"));
        let undone = mesh("1-26-0", "1-26-0", true, "1-26-0").direction();
        assert_eq!(told(&undone), ("back", "1-26-0"));
        assert!(!undone.course().unwrap().is_newer_used);
    }

    #[test]
    fn one_label_that_somebody_puts_back_does_not_turn_a_mesh_whose_tag_went_up() {
        let mesh = Mesh {
            namespaces: vec![("pay", "1-26-0", AFTER), ("shop", "prod", BEFORE)],
            tags: vec![("prod", "1-28-2", "kubectl-mesh", moved("1-26-0", false))],
            workloads: vec![("pay", "1-28-2"), ("shop", "1-28-2")],
            ..Mesh::default()
        };
        assert_eq!(told(&mesh.direction()).0, "up");
        // Without a noted move the two say different things.
        let tags = vec![("prod", "1-28-2", "istioctl", json!([]))];
        let unknown = Mesh { tags, ..mesh }.direction();
        assert_eq!(told(&unknown), ("unknown", "1-26-0"));
        let evidence = unknown.course().unwrap().evidence.join("; ");
        assert_eq!(evidence, "2 proxies of 1-28-2 would get an older revision; namespace shop, by tag prod, selects 1-28-2");
    }

    #[test]
    fn without_tags_labels_and_proxies_tell() {
        let mesh = |label: &'static str, written: &'static str, running: &'static str| Mesh {
            namespaces: vec![("shop", label, written)],
            workloads: vec![("shop", running)],
            ..Mesh::default()
        };
        assert_eq!(told(&mesh("1-28-2", AFTER, "1-26-0").direction()).0, "up");
        assert_eq!(told(&mesh("1-26-0", AFTER, "1-28-2").direction()).0, "back");
        // Only just installed: nothing has moved since.
        assert_eq!(told(&mesh("1-26-0", BEFORE, "1-26-0").direction()).0, "up");
        // Everything is on the older one, by a label that was written later: it may have come back, or have been meant so.
        let late = mesh("1-26-0", AFTER, "1-26-0").direction();
        assert_eq!(told(&late).0, "unknown");
        assert!(late.course().unwrap().evidence[1].contains("last written by kubectl-label"), "{late:?}");
    }

    #[test]
    fn what_somebody_else_has_written_over_a_noted_move_is_no_move_of_ours() {
        let mesh = Mesh {
            namespaces: vec![("shop", "prod", BEFORE)],
            tags: vec![("prod", "1-26-0", "istioctl", moved("1-26-0", false))],
            workloads: vec![("shop", "1-28-2")],
            ..Mesh::default()
        };
        let back = mesh.direction();
        assert_eq!(told(&back), ("back", "1-26-0"), "{back:?}");
    }

    #[test]
    fn tags_that_go_both_ways_are_not_guessed_at() {
        let mesh = Mesh {
            namespaces: vec![("pay", "other", BEFORE), ("shop", "prod", BEFORE)],
            tags: vec![
                ("other", "1-28-2", "kubectl-mesh", json!([{"from": "1-26-0", "time": INSTALLED, "version": "0"}])),
                ("prod", "1-26-0", "kubectl-mesh", moved("1-28-2", false)),
            ],
            workloads: vec![("pay", "1-28-2"), ("shop", "1-28-2")],
            ..Mesh::default()
        };
        assert_eq!(told(&mesh.direction()).0, "unknown");
    }

    #[test]
    fn what_could_not_be_read_leaves_it_unknown() {
        let mesh = Mesh {
            namespaces: vec![("shop", "1-28-2", AFTER)],
            workloads: vec![("shop", "1-26-0")],
            unread: vec![Resource::MutatingWebhookConfigurations],
            ..Mesh::default()
        };
        assert_eq!(told(&mesh.direction()).0, "unknown");
    }

    #[test]
    fn one_revision_is_no_upgrade() {
        let one = vec![station("1-26-0", "1.26.0", INSTALLED)];
        let mesh = Mesh { workloads: vec![("shop", "1-26-0")], namespaces: vec![("shop", "1-26-0", BEFORE)], ..Mesh::default() };
        assert_eq!(mesh.between(&one), Direction::Only("1-26-0".to_owned()));
        assert_eq!(mesh.between(&[]), Direction::Nowhere);
    }
}
