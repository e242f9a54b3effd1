//! Workloads: who makes pods, what the pods are made from, and who can bring new ones.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::operator::{Operator, OwnerName};
use crate::proxy::Proxy;
use crate::template::Template;

/// The kinds of pods' owners that Kubernetes has itself, with their groups.
const KUBERNETES_KINDS: [(&str, &str); 8] = [
    ("Pod", ""),
    ("ReplicationController", ""),
    ("Deployment", "apps"),
    ("StatefulSet", "apps"),
    ("DaemonSet", "apps"),
    ("ReplicaSet", "apps"),
    ("Job", "batch"),
    ("CronJob", "batch"),
];

/// The identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadId {
    /// Namespace.
    pub namespace: Arc<str>,
    /// API version, for example `apps/v1`.
    pub api_version: Arc<str>,
    /// Kind, for example `Deployment`.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl WorkloadId {
    /// `deployment/web`: how kubectl takes it. A kind that has the name of one of Kubernetes' own, and is of another group, needs its
    /// group: `statefulset.apps.kruise.io/web`.
    pub fn type_name(&self) -> String {
        let is_taken = KUBERNETES_KINDS.iter().any(|(kind, group)| **kind == *self.kind && *group != self.group());
        if is_taken { self.qualified_name() } else { format!("{}/{}", self.kind.to_lowercase(), self.name) }
    }

    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// `deployment.apps/web`: how kubectl writes it.
    pub fn qualified_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", self.name),
            None => format!("{kind}/{}", self.name),
        }
    }

    fn sort_key(&self) -> (&str, &str, &str, &str) {
        (&self.namespace, &self.kind, &self.name, &self.api_version)
    }
}

impl Ord for WorkloadId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

impl PartialOrd for WorkloadId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.type_name())
    }
}

/// How a workload's pods can be replaced by new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `kubectl rollout restart` brings them.
    Rollout,
    /// As [`Restart::Rollout`], but a StatefulSet's partition keeps so many of the first pods, which a changed template never reaches:
    /// they change when they are deleted.
    Partitioned(i32),
    /// They change when they are deleted: update strategy `OnDelete`.
    OnDelete,
    /// A bare ReplicaSet makes new ones when old ones are evicted.
    Eviction,
    /// An Argo Rollout restarts by its own field.
    ArgoRollout,
    /// An operator makes its pods, and replaces them when it is asked in its own way.
    Operator(&'static Operator),
    /// An operator makes the workload, and would undo a change of its template.
    Owned(OwnerName),
    /// As [`Restart::Owned`], and the user wants its pods evicted: that leaves the template alone.
    EvictOwned(OwnerName),
    /// The workload is paused.
    Paused,
    /// A controller re-creates them in its own time, such as a Job.
    Never(String),
    /// Nobody re-creates them, or only an owner that we do not know.
    Unknown(String),
}

impl Restart {
    /// Whether `kubectl rollout restart` replaces all pods.
    pub const fn is_kubectls(&self) -> bool {
        matches!(self, Restart::Rollout)
    }

    /// Whether new pods can be brought at all.
    pub const fn is_possible(&self) -> bool {
        !matches!(self, Restart::Owned(_) | Restart::Paused | Restart::Never(_) | Restart::Unknown(_))
    }

    /// Whether its pods are replaced by evicting them one by one.
    pub const fn is_by_eviction(&self) -> bool {
        matches!(self, Restart::Partitioned(_) | Restart::OnDelete | Restart::Eviction | Restart::EvictOwned(_))
    }
}

/// A workload with the proxies that run for it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Which one.
    pub id: WorkloadId,
    /// Its uid, where its own object was read with one: what tells it from another one that has its name later.
    pub uid: Option<Arc<str>>,
    /// How many pods it is to have, where its own object tells.
    pub wanted_pods: Option<u32>,
    /// What its new pods are made from.
    pub template: Template,
    /// How new pods come.
    pub restart: Restart,
    /// Name of the Gateway that istiod made it for.
    pub gateway: Option<String>,
    /// The revision or tag that its own label names: for what stands on every node, whose pods do not say whose they are.
    pub revision: Option<Arc<str>>,
    /// Further pods that were made from another template than [`Workload::template`]: owners that are not known here may make each pod
    /// otherwise. Each part has only its own proxies and pods.
    pub others: Vec<Workload>,
    /// Equal proxies, counted; `None` counts the pods without one. Sorted by first appearance.
    pub proxies: Vec<(Option<Proxy>, u32)>,
    /// Its pods, each with its place in `proxies`; empty unless single pods were asked for.
    pub pods: Vec<(Arc<str>, usize)>,
    /// Why the owner or its template is not certain, when it is not.
    pub doubt: Option<OwnerDoubt>,
}

/// What about a workload's owner could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerDoubt {
    /// The list that would tell.
    pub resource: crate::object::Resource,
    /// Whether it is missing from a file, rather than denied by the API server.
    pub is_file: bool,
}

impl Workload {
    /// How many of its pods have a proxy.
    pub fn proxy_count(&self) -> u32 {
        let own: u32 = self.proxies.iter().filter(|(proxy, _)| proxy.is_some()).map(|(_, count)| count).sum();
        own + self.others.iter().map(Workload::proxy_count).sum::<u32>()
    }

    /// Whether it is to have pods and none is there: all of them are being deleted, or none could be made yet.
    pub fn lacks_all_pods(&self) -> bool {
        self.pod_count() == 0 && self.wanted_pods.is_some_and(|wanted| wanted > 0)
    }

    /// How many pods it has.
    pub fn pod_count(&self) -> u32 {
        self.proxies.iter().map(|(_, count)| count).sum::<u32>() + self.others.iter().map(Workload::pod_count).sum::<u32>()
    }
}
