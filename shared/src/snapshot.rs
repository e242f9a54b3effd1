//! A snapshot: everything that a verdict is made from, linked. It is built from objects in any order, live or from
//! files, and asks nothing of anybody afterwards.

mod builder;
#[cfg(test)]
mod ownership_tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use builder::{Detail, Origin, SnapshotBuilder};

use crate::advice::Command;
use crate::control_plane::{ControlPlane, Readiness};
use crate::finding::{Code, Finding};
use crate::injector::Injector;
use crate::labels;
use crate::object::{Labels, Lookup, ProxyConfig, Resource, Time};
use crate::refusal::Refusal;
use crate::workload::{Restart, Workload};

/// A cluster at one moment, as far as it could be read.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<Arc<str>, Labels>,
    /// Injectors, in the order in which the API server asks them: by the name of their configuration, then as listed.
    pub injectors: Vec<Injector>,
    /// Control planes, by namespace and revision.
    pub control_planes: Vec<ControlPlane>,
    /// The Services that control planes answer through, by namespace and name.
    pub services: HashMap<(String, String), ServiceFacts>,
    /// ProxyConfigs, the oldest first, as istiod prefers them.
    pub proxy_configs: Vec<ProxyConfig>,
    /// The Gateways, by namespace and name.
    pub gateways: HashMap<(String, String), GatewayFacts>,
    /// What ConfigMaps lay over the Deployments of Gateways, by namespace and name.
    pub overlays: BTreeMap<(String, String), Overlay>,
    /// The revision that validates configuration by default.
    pub default_validator: Option<String>,
    /// Workloads, sorted.
    pub workloads: Vec<Workload>,
    /// Whether there may be control planes that nobody could see.
    pub may_hide_control_planes: bool,
    /// Whether the pods of workloads may be evicted that an operator owns.
    pub may_evict_owned: bool,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// What was odd about the objects themselves.
    pub findings: Vec<Finding>,
}

/// What is known of a control plane's Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The revision of the istiod that it selects.
    pub revision: Option<String>,
    /// Whether it has a ready endpoint.
    pub readiness: Readiness,
    /// The tag that it is a Service of, since Istio 1.28.
    pub tag: Option<String>,
    /// Whether it only names an address elsewhere.
    pub is_external: bool,
    /// Whether it selects pods here.
    pub has_selector: bool,
}

/// What is known of a Gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayFacts {
    /// Its labels.
    pub labels: Labels,
    /// Those of its annotations that decide something.
    pub annotations: Labels,
    /// Its class.
    pub class: String,
    /// The ConfigMap in its namespace that is laid over its Deployment.
    pub parameters: Option<String>,
}

/// A ConfigMap that is laid over the Deployment that istiod makes for a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// The class whose Gateways have it, where it is such a one.
    pub class: Option<String>,
    /// When it was made: of several for one class the oldest counts.
    pub created: Option<Time>,
    /// The image that it gives to the proxy, if it does; the error says why that cannot be read.
    pub image: Result<Option<String>, String>,
}

/// A list that could not be read, or not completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which list.
    pub resource: Resource,
    /// In which namespace; everywhere when `None`.
    pub namespace: Option<String>,
    /// Why.
    pub cause: UnreadCause,
}

/// Why a list is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnreadCause {
    /// The API server denies it.
    Forbidden,
    /// The files given hold no object of this kind.
    NotInFile,
    /// The files given hold only a part of it that can be read: why.
    PartlyInFile(String),
    /// It broke off: the message.
    Failed(String),
}

impl UnreadCause {
    /// Whether other files would tell.
    pub const fn is_of_files(&self) -> bool {
        matches!(self, UnreadCause::NotInFile | UnreadCause::PartlyInFile(_))
    }
}

impl Snapshot {
    /// Why a list is not there, in this namespace or everywhere; `None` when it is.
    pub fn unread(&self, resource: Resource, namespace: &str) -> Option<&Unread> {
        self.unread
            .iter()
            .find(|unread| unread.resource == resource && unread.namespace.as_deref().is_none_or(|unread| unread == namespace))
    }

    /// What was named and is not there is an error, as in kubectl. What could not be read may be there.
    ///
    /// # Errors
    /// When the namespace does not exist, or when there are control planes and none is where they were said to be.
    pub fn check_places(&self, namespace: Option<&str>, istio_namespace: Option<&str>) -> Result<(), Refusal> {
        let is_missing = |name: &&str| {
            !self.namespaces.contains_key(*name)
                && self.unread(Resource::Namespaces, name).is_none()
                && !self.workloads.iter().any(|workload| *workload.id.namespace == **name)
        };
        if let Some(name) = namespace.filter(is_missing) {
            let reason = format!("namespaces {name:?} not found");
            return Err(Refusal::not_found(reason, Command::kubectl("get namespaces")));
        }
        let planes = self.control_plane_namespaces();
        let may_be_hidden = self.may_hide_control_planes
            || self.unread(Resource::MutatingWebhookConfigurations, "").is_some()
            || istio_namespace.is_some_and(|name| self.unread(Resource::Services, name).is_some());
        match istio_namespace.filter(|name| !planes.is_empty() && !planes.contains(*name) && !may_be_hidden) {
            Some(name) => {
                let places = Vec::from_iter(planes).join(", ");
                let reason = format!("no control plane is in namespace {name:?} (-i); control planes are in {places}");
                Err(Refusal::not_found(reason, "leave out -i, or name one of these namespaces"))
            }
            None => Ok(()),
        }
    }

    /// What to tell of the lists that are not there: what depends on them is not known.
    pub fn unread_findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.code, Code::Forbidden | Code::Unread | Code::Undecodable))
    }

    /// The namespaces in which control planes are, or in which injectors say that they are.
    pub fn control_plane_namespaces(&self) -> BTreeSet<String> {
        let planes = self.control_planes.iter().map(|plane| plane.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let targets = self.injectors.iter().filter_map(|injector| injector.target.namespace());
        planes.chain(targets).map(str::to_owned).collect()
    }

    /// The control planes of a revision, in whichever namespace.
    pub fn control_planes_of(&self, revision: &str) -> impl Iterator<Item = &ControlPlane> {
        self.control_planes.iter().filter(move |control_plane| control_plane.revision == revision)
    }

    /// Whether a revision has a ready control plane. An external one counts as ready: nothing of it can be seen. That none is known says
    /// that none is there only where control planes are kept in this cluster, and all of them could be seen.
    pub fn readiness(&self, revision: &str) -> Readiness {
        let mut readiness = None;
        for control_plane in self.control_planes_of(revision) {
            match control_plane.readiness {
                Readiness::Ready => return Readiness::Ready,
                Readiness::Unknown => readiness = Some(Readiness::Unknown),
                Readiness::NotReady => readiness = readiness.or(Some(Readiness::NotReady)),
            }
        }
        readiness.unwrap_or_else(|| {
            let deciding = [Resource::Services, Resource::MutatingWebhookConfigurations];
            let is_unread = |resource: Resource| self.unread.iter().any(|unread| unread.resource == resource);
            let is_elsewhere = self.control_planes.iter().any(|control_plane| control_plane.is_elsewhere)
                && self.control_planes.iter().all(|control_plane| control_plane.deployment.is_none());
            if !self.may_hide_control_planes && !is_elsewhere && !deciding.into_iter().any(is_unread) {
                Readiness::NotReady
            } else {
                Readiness::Unknown
            }
        })
    }

    /// The revision that a tag points to, by its injector's label, else by its Service's.
    pub fn revision_of_tag(&self, tag: &str) -> Option<&str> {
        let by_injector = self.injectors.iter().find(|injector| injector.tag.as_deref() == Some(tag));
        by_injector.and_then(|injector| injector.revision.as_deref()).or_else(|| {
            self.services
                .values()
                .find(|service| service.tag.as_deref() == Some(tag))
                .and_then(|service| service.revision.as_deref())
        })
    }

    /// The tag by which namespaces best follow a revision: of those that point to it the one that most namespaces follow, of equal
    /// ones the first. The tag `default` is none of them: it is followed by another label.
    pub fn tag_for(&self, revision: &str) -> Option<&str> {
        let followers = |tag: &str| self.namespaces.values().filter(|labels| labels.value(labels::REVISION) == Some(tag)).count();
        let mut tags = self.tags();
        tags.retain(|tag| *tag != crate::tag::DEFAULT && self.revision_of_tag(tag) == Some(revision));
        // The last of equal ones is taken, so the first comes last.
        tags.into_iter().rev().max_by_key(|tag| followers(tag))
    }

    /// All tags, sorted.
    pub fn tags(&self) -> Vec<&str> {
        let injectors = self.injectors.iter().filter_map(|injector| injector.tag.as_deref());
        let mut tags: Vec<_> = injectors.chain(self.services.values().filter_map(|service| service.tag.as_deref())).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// All revisions that are installed, sorted.
    pub fn revisions(&self) -> Vec<&str> {
        let mut revisions: Vec<_> = self.control_planes.iter().map(|control_plane| control_plane.revision.as_str()).collect();
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    /// Lets the pods of workloads be evicted that an operator owns: the user has asked for it.
    pub fn evict_owned(&mut self) {
        self.may_evict_owned = true;
        for workload in &mut self.workloads {
            if let Restart::Owned(owner) = &workload.restart {
                workload.restart = Restart::EvictOwned(owner.clone());
            }
        }
    }

    /// Whether there is any sign of a mesh: an injector, a control plane or a proxy.
    pub fn has_mesh(&self) -> bool {
        !self.injectors.is_empty()
            || !self.control_planes.is_empty()
            || self.workloads.iter().any(|workload| workload.proxy_count() > 0)
    }
}
