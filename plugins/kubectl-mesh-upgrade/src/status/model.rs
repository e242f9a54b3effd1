//! What a status says: pure decisions over a snapshot and its verdicts.

use mesh::advice::Command;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh::labels;
use mesh::object::Lookup;
use mesh::proxy::{Proxy, ProxyType};
use mesh::snapshot::Snapshot;
use mesh::state::{Reason, State};
use mesh::verdict::{Verdict, verdicts};

use crate::revisions::Revision;

/// How far an upgrade is.
#[derive(Debug)]
pub struct Status {
    /// The revision that everything moves to; `None` where no revision is here.
    pub to: Option<String>,
    /// Namespaces with proxies, sorted.
    pub namespaces: Vec<Share>,
    /// Workloads that are not there yet, sorted.
    pub left: Vec<Left>,
    /// Every workload with a proxy, sorted.
    pub workloads: Vec<Verdict>,
    /// Older revisions than `to` that have a control plane here, the oldest first.
    pub others: Vec<String>,
    /// Newer ones, which are not ready or not meant.
    pub newer: Vec<String>,
    /// Whether a list that decides was not to be had.
    pub is_incomplete: bool,
}

/// The share of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub namespace: Arc<str>,
    /// Running proxies.
    pub proxies: u32,
    /// Those that run the revision that everything moves to, and nothing older of it.
    pub migrated: u32,
    /// Proxies by revision; the empty name counts those that name none.
    pub by_revision: BTreeMap<String, u32>,
}

/// A workload that is not there yet.
#[derive(Clone, Debug)]
pub struct Left {
    /// The verdict on it.
    pub verdict: Verdict,
    /// How many of its proxies are not there yet.
    pub proxies: u32,
    /// Why.
    pub why: Why,
}

/// Why a workload is not there yet. Declared from the most to the least urgent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A restart brings it there, and its own control plane is gone.
    Orphaned,
    /// A restart changes it.
    Stale,
    /// What a restart would bring cannot be said.
    Unknown(Reason),
    /// Nobody can bring a new pod.
    Blocked(Reason),
    /// It runs what it would get, by a tag that points elsewhere.
    Tag {
        /// The tag.
        tag: String,
        /// Where it points.
        revision: String,
    },
    /// It runs what it would get, by its namespace's label, which names another revision.
    Label {
        /// The revision.
        revision: String,
    },
    /// It runs what it would get, by a label of its own pods or Gateway, which names another revision.
    OwnLabel {
        /// The revision.
        revision: String,
    },
    /// It runs what it would get by `istio-injection=enabled`, which another revision answers.
    Injection {
        /// The revision.
        revision: String,
    },
    /// Its image or revision is fixed by itself.
    Pinned,
    /// A new pod would have no proxy.
    Leaving,
}

impl Why {
    /// The stable code in documents.
    pub fn code(&self) -> &'static str {
        match self {
            Why::Orphaned => "orphaned",
            Why::Stale => "stale",
            Why::Unknown(_) => "unknown",
            Why::Blocked(_) => "blocked",
            Why::Tag { .. } => "follows-tag",
            Why::Label { .. } => "follows-label",
            Why::OwnLabel { .. } => "follows-own-label",
            Why::Injection { .. } => "follows-injection",
            Why::Pinned => "pinned",
            Why::Leaving => "leaving",
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Why::Orphaned => "orphaned: a restart brings the wanted proxy, and its own control plane is gone".to_owned(),
            Why::Stale => "stale: a restart brings the wanted proxy".to_owned(),
            Why::Unknown(reason) => format!("unknown ({reason})"),
            Why::Blocked(reason) => format!("blocked ({reason}): nobody can bring a new pod safely"),
            Why::Tag { tag, revision } => format!("follows tag {tag}, which points to {revision}"),
            Why::Label { revision } => format!("follows revision {revision} by its namespace's label"),
            Why::OwnLabel { revision } => format!("follows revision {revision} by a label of its own"),
            Why::Injection { revision } => format!("follows {}=enabled, which {revision} answers", labels::INJECTION),
            Why::Pinned => "pinned: its image or revision is fixed by itself".to_owned(),
            Why::Leaving => "leaving: its next pod has no proxy".to_owned(),
        }
    }
}

/// A revision was named that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRevision {
    /// Its name.
    pub name: String,
    /// Those that are here.
    pub here: Vec<String>,
}

/// Decides. `to` is the revision that everything moves to, where the user names it.
///
/// # Errors
/// When that revision has no control plane here.
pub fn status(snapshot: &Snapshot, revisions: &[Revision], to: Option<&str>) -> Result<Status, NoSuchRevision> {
    let installed = || revisions.iter().filter(|revision| revision.control_plane.is_some());
    let to = match to {
        Some(name) if installed().any(|revision| revision.name == name) => Some(name.to_owned()),
        Some(name) => {
            let here = installed().map(|revision| revision.name.clone()).collect();
            return Err(NoSuchRevision { name: name.to_owned(), here });
        }
        None => newest(revisions).map(|revision| revision.name.clone()),
    };
    let (others, newer) = around(revisions, to.as_deref());
    let mut status = Status {
        to,
        namespaces: Vec::new(),
        left: Vec::new(),
        workloads: Vec::new(),
        others,
        newer,
        is_incomplete: !snapshot.unread.is_empty(),
    };
    for verdict in verdicts(snapshot, &HashMap::new()) {
        // ztunnel is one DaemonSet for all revisions, so it moves with none; a workload that has no proxy yet has nothing to move.
        if verdict.proxy_type == ProxyType::Ztunnel || verdict.proxy_count() == 0 {
            continue;
        }
        let migrated = status.count(&verdict);
        let proxies = verdict.proxy_count() - migrated;
        if proxies > 0 {
            let why = why(snapshot, &verdict);
            status.left.push(Left { verdict: verdict.clone(), proxies, why });
        }
        status.workloads.push(verdict);
    }
    Ok(status)
}

/// The newest revision that answers; of equal versions the one that was created last. Where none answers, the newest.
fn newest(revisions: &[Revision]) -> Option<&Revision> {
    let key = |revision: &&Revision| {
        let plane = revision.control_plane.as_ref();
        (revision.is_ready(), revision.version().cloned(), plane.and_then(|plane| plane.created))
    };
    revisions.iter().filter(|revision| revision.control_plane.is_some()).max_by_key(key)
}

/// The revisions with a control plane before and behind `to`, in the order of their versions.
fn around(revisions: &[Revision], to: Option<&str>) -> (Vec<String>, Vec<String>) {
    let names: Vec<&String> =
        revisions.iter().filter(|revision| revision.control_plane.is_some()).map(|revision| &revision.name).collect();
    let place = names.iter().position(|name| Some(name.as_str()) == to).unwrap_or(names.len());
    let owned = |names: &[&String]| names.iter().map(|name| (*name).clone()).collect();
    (owned(&names[..place]), owned(names.get(place + 1..).unwrap_or_default()))
}

/// Why a workload's proxies are not there yet.
fn why(snapshot: &Snapshot, verdict: &Verdict) -> Why {
    let reason = || {
        let says_least = [Reason::Revision, Reason::Image, Reason::SkewAhead, Reason::SkewBehind, Reason::NoControlPlane];
        let told = verdict.reasons.iter().find(|reason| !says_least.contains(reason));
        told.or(verdict.reasons.first()).copied().unwrap_or(Reason::Probe)
    };
    match verdict.state {
        State::Orphaned => return Why::Orphaned,
        State::Stale | State::Missing => return Why::Stale,
        State::Blocked => return Why::Blocked(reason()),
        State::Unknown => return Why::Unknown(reason()),
        State::Leaving => return Why::Leaving,
        State::Pinned => return Why::Pinned,
        State::Current => {}
    }
    let Some(wanted) = &verdict.wanted else { return Why::Unknown(Reason::Probe) };
    let revision = wanted.revision.clone().unwrap_or_default();
    if let Some(tag) = &wanted.tag {
        return Why::Tag { tag: tag.clone(), revision };
    }
    let namespace = snapshot.namespaces.get(&verdict.workload.namespace);
    let label = |key| namespace.and_then(|labels| labels.value(key));
    if label(labels::REVISION).is_some_and(|name| name == revision) {
        Why::Label { revision }
    } else if label(labels::INJECTION) == Some("enabled") {
        Why::Injection { revision }
    } else {
        Why::OwnLabel { revision }
    }
}

impl Status {
    /// Counts a workload's proxies into its namespace's share, and says how many are there already.
    fn count(&mut self, verdict: &Verdict) -> u32 {
        let namespace = &verdict.workload.namespace;
        // Verdicts come sorted by namespace, so a new one is always the last.
        if self.namespaces.last().is_none_or(|last| last.namespace != *namespace) {
            self.namespaces.push(Share { namespace: Arc::clone(namespace), ..Share::default() });
        }
        let share = self.namespaces.last_mut().expect("one was pushed above");
        let mut migrated = 0;
        for running in &verdict.running {
            let Some(proxy) = &running.proxy else { continue };
            share.proxies += running.count;
            *share.by_revision.entry(proxy.revision.as_deref().unwrap_or_default().to_owned()).or_default() += running.count;
            if is_there(proxy, running.differs, self.to.as_deref()) {
                migrated += running.count;
            }
        }
        share.migrated += migrated;
        migrated
    }

    /// What a revision is in this upgrade: `new`, `old`, `newer`, or `gone` where it has no control plane.
    pub fn role(&self, revision: &Revision) -> &'static str {
        match &self.to {
            _ if revision.control_plane.is_none() => "gone",
            Some(to) if *to == revision.name => "new",
            _ if self.newer.contains(&revision.name) => "newer",
            _ => "old",
        }
    }

    /// Whether anything is left to do.
    pub fn has_left(&self) -> bool {
        !self.left.is_empty() || !self.others.is_empty() || !self.newer.is_empty() || self.is_incomplete
    }

    /// All namespaces together.
    pub fn total(&self) -> Share {
        let mut total = Share { namespace: "all".into(), ..Share::default() };
        for share in &self.namespaces {
            total.proxies += share.proxies;
            total.migrated += share.migrated;
            for (revision, count) in &share.by_revision {
                *total.by_revision.entry(revision.clone()).or_default() += count;
            }
        }
        total
    }

    /// What is left, in groups of one cause, the most urgent first: workloads and proxies of each.
    pub fn groups(&self) -> BTreeMap<&Why, (usize, u32)> {
        let mut groups: BTreeMap<&Why, (usize, u32)> = BTreeMap::new();
        for left in &self.left {
            let (workloads, proxies) = groups.entry(&left.why).or_default();
            *workloads += 1;
            *proxies += left.proxies;
        }
        groups
    }

    /// The command that deals with a cause; of one that no single command deals with, the command that lists it.
    pub fn command(&self, why: &Why, namespace: Option<&str>) -> Option<Command> {
        let to = self.to.as_deref()?;
        let placed = |command: Command| match namespace {
            Some(namespace) => command.namespace(namespace),
            None => command.words("-A"),
        };
        let listed = |state: State| placed(Command::mesh_proxyver("")).flag("--state", state.as_str());
        Some(match why {
            Why::Orphaned | Why::Stale => placed(Command::mesh_upgrade("restart")),
            Why::Tag { tag, revision } => Command::mesh_tag("set").value(tag).flag("--revision", to).flag("--from", revision),
            Why::Label { .. } | Why::Injection { .. } => {
                let mut namespaces: Vec<&str> =
                    self.left.iter().filter(|left| left.why == *why).map(|left| &*left.verdict.workload.namespace).collect();
                namespaces.dedup();
                let attach = Command::mesh_tag("attach").value(to);
                // So many names make a command that nobody reads.
                if namespaces.len() > 5 { attach.words("NAMESPACE …") } else { attach.values(namespaces) }
            }
            Why::OwnLabel { .. } => {
                let first = self.left.iter().find(|left| left.why == *why)?;
                relabel(first, to)
            }
            Why::Unknown(_) => listed(State::Unknown).words("--probe"),
            Why::Blocked(_) => listed(State::Blocked).words("-o wide"),
            Why::Pinned => listed(State::Pinned).words("-o wide"),
            Why::Leaving => listed(State::Leaving).words("-o wide"),
        })
    }

    /// The one command that goes on from here.
    pub fn next_command(&self, namespace: Option<&str>) -> Option<Command> {
        self.to.as_ref()?;
        if let Some(why) = self.groups().into_keys().next() {
            return self.command(why, namespace);
        }
        match self.others.first() {
            // What could not be read may use another revision, or be one.
            _ if self.is_incomplete => None,
            // One namespace says nothing of the others.
            Some(_) if namespace.is_some() => Some(Command::mesh_upgrade("status")),
            Some(old) => Some(Command::mesh_upgrade("complete").flag("--remove", old)),
            None => match self.newer.last() {
                Some(newer) => Some(Command::mesh_upgrade("precheck").flag("--to", newer)),
                None => Some(Command::mesh_upgrade("targets")),
            },
        }
    }
}

/// The command that lets a workload's own label name another revision: its Gateway's, or that of its pods.
fn relabel(left: &Left, to: &str) -> Command {
    let id = &left.verdict.workload;
    let label = labels::REVISION;
    let kubectl = Command::kubectl("").namespace(&id.namespace);
    if left.verdict.proxy_type.is_made_by_istiod() {
        let gateway = kubectl.words("label gateways.gateway.networking.k8s.io GATEWAY");
        return gateway.value(format!("{label}={to}")).words("--overwrite");
    }
    let patch = serde_json::json!({"spec": {"template": {"metadata": {"labels": {label: to}}}}});
    kubectl.words("patch").value(id.qualified_name()).words("--type merge").flag("-p", patch.to_string())
}

/// Whether a proxy is where everything moves to: of that revision, and what a new pod would have too.
fn is_there(proxy: &Proxy, differs: bool, to: Option<&str>) -> bool {
    proxy.revision.is_some() && proxy.revision.as_deref() == to && !differs
}

#[cfg(test)]
mod tests {
    use mesh::control_plane::Readiness;
    use mesh::object::{Interner, Labels};
    use mesh::snapshot::{Unread, UnreadCause};
    use mesh::template::Template;
    use mesh::terminal::advisor::Advisor;
    use mesh::workload::{Restart, Workload, WorkloadId};

    use super::*;
    use crate::revisions::sample as revision;

    const IMAGE: &str = "docker.io/istio/proxyv2:1.26.0";

    /// A workload whose proxies come from its own template, so that its verdict needs no injector.
    fn workload(name: &str, of: &str, count: u32) -> Workload {
        let mut interner = Interner::default();
        let proxy = Proxy { proxy_type: ProxyType::Sidecar, revision: Some(of.into()), image: IMAGE.into(), is_native: false };
        let annotations = [(interner.text(labels::REVISION), interner.text(of))].into_iter().collect();
        Workload {
            id: WorkloadId {
                namespace: "shop".into(),
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: name.into(),
            },
            template: Template { annotations, proxy_image: Some(interner.text(IMAGE)), ..Template::default() },
            restart: Restart::Rollout,
            gateway: None,
            proxies: vec![(Some(proxy), count)],
            pods: Vec::new(),
            uid: None,
            wanted_pods: None,
            doubt: None,
        }
    }

    fn snapshot(workloads: Vec<Workload>) -> Snapshot {
        let namespaces = [("shop".into(), Labels::default())].into_iter().collect();
        Snapshot { namespaces, workloads, ..Snapshot::default() }
    }

    fn typed(command: Option<Command>) -> Option<String> {
        command.map(|command| Advisor::default().command(&command))
    }

    #[test]
    fn everything_moves_to_the_newest_that_answers() {
        let mut revisions = vec![revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 0)];
        let to = |revisions: &[Revision]| status(&snapshot(Vec::new()), revisions, None).unwrap().to;
        assert_eq!(to(&revisions).as_deref(), Some("1-28-2"));
        revisions[1].control_plane.as_mut().unwrap().readiness = Readiness::NotReady;
        assert_eq!(to(&revisions).as_deref(), Some("1-26-0"));
        assert_eq!(to(&[]), None);
        let missing = status(&snapshot(Vec::new()), &revisions, Some("1-99"));
        assert_eq!(missing.unwrap_err().here, ["1-26-0", "1-28-2"]);
    }

    #[test]
    fn shares_are_counted_by_namespace_and_revision() {
        let workloads = vec![workload("new", "1-28-2", 2), workload("old", "1-26-0", 3)];
        let revisions = [revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 2)];
        let status = status(&snapshot(workloads), &revisions, None).unwrap();
        let by_revision = [("1-26-0".to_owned(), 3), ("1-28-2".to_owned(), 2)].into();
        assert_eq!(status.namespaces, [Share { namespace: "shop".into(), proxies: 5, migrated: 2, by_revision }]);
        assert_eq!(status.left.len(), 1);
        assert_eq!((status.left[0].proxies, &status.left[0].why), (3, &Why::Pinned));
        assert_eq!(status.groups().into_values().collect::<Vec<_>>(), [(1, 3)]);
        assert!(status.has_left());
    }

    #[test]
    fn an_old_revision_is_removed_only_when_all_was_read() {
        let revisions = [revision("1-26-0", "1.26.0", 0), revision("1-28-2", "1.28.2", 2)];
        let mut snapshot = snapshot(vec![workload("new", "1-28-2", 2)]);
        let next = |snapshot: &Snapshot, namespace| typed(status(snapshot, &revisions, None).unwrap().next_command(namespace));
        assert_eq!(next(&snapshot, None).as_deref(), Some("kubectl mesh-upgrade complete --remove 1-26-0"));
        assert_eq!(next(&snapshot, Some("shop")).as_deref(), Some("kubectl mesh-upgrade status"));
        let resource = mesh::object::Resource::StatefulSets;
        snapshot.unread.push(Unread { resource, namespace: None, cause: UnreadCause::Forbidden });
        assert_eq!(next(&snapshot, None), None);
    }

    #[test]
    fn a_newer_revision_that_is_not_ready_is_checked_and_never_removed() {
        let mut revisions = [revision("1-26-0", "1.26.0", 0), revision("1-28-2", "1.28.2", 0)];
        revisions[1].control_plane.as_mut().unwrap().readiness = Readiness::NotReady;
        let status = status(&snapshot(Vec::new()), &revisions, None).unwrap();
        assert_eq!((&status.others[..], &status.newer[..]), (&[][..], &["1-28-2".to_owned()][..]));
        assert_eq!(typed(status.next_command(None)).as_deref(), Some("kubectl mesh-upgrade precheck --to 1-28-2"));
    }

    #[test]
    fn each_cause_has_its_command() {
        let revisions = [revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 0)];
        let mut status = status(&snapshot(vec![workload("old", "1-26-0", 3)]), &revisions, None).unwrap();
        let mut command = |why: Why| {
            status.left[0].why = why.clone();
            typed(status.command(&why, None)).unwrap_or_default()
        };
        let revision = || "1-26-0".to_owned();
        assert_eq!(command(Why::Stale), "kubectl mesh-upgrade restart -A");
        assert_eq!(
            command(Why::Tag { tag: "prod".to_owned(), revision: revision() }),
            "kubectl mesh-tag set prod --revision 1-28-2 --from 1-26-0"
        );
        assert_eq!(command(Why::Label { revision: revision() }), "kubectl mesh-tag attach 1-28-2 shop");
        assert_eq!(command(Why::Injection { revision: revision() }), "kubectl mesh-tag attach 1-28-2 shop");
        assert_eq!(
            command(Why::OwnLabel { revision: revision() }),
            r#"kubectl -n shop patch deployment.apps/old --type merge -p '{"spec":{"template":{"metadata":{"labels":{"istio.io/rev":"1-28-2"}}}}}'"#
        );
        assert_eq!(command(Why::Unknown(Reason::Forbidden)), "kubectl mesh-proxyver -A --state unknown --probe");
        assert_eq!(command(Why::Pinned), "kubectl mesh-proxyver -A --state pinned -o wide");
    }
}
