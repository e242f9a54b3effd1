//! Who follows a tag or a revision.

use std::collections::BTreeSet;

use super::DEFAULT;
use super::gateways::{is_istios, named};
use crate::census::{Census, PodGroup};
use crate::injector::{Injector, Match};
use crate::installation::{Installation, name, namespace};
use crate::labels;
use crate::object::{Labels, Lookup};
use crate::workload::WorkloadId;

/// Who follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followers {
    /// Namespaces that name it, or that ask for the default injector.
    pub namespaces: BTreeSet<String>,
    /// Workloads whose pods name it themselves, with the number of those pods.
    pub pods: Vec<(WorkloadId, u32)>,
    /// Gateways of the Gateway API that name it, themselves or by their namespace: namespace and name.
    pub gateways: BTreeSet<(String, String)>,
    /// Gateways that name nothing and so belong to the default revision (`IsMine`, pkg/revisions/tag_watcher.go).
    pub unnamed_gateways: BTreeSet<(String, String)>,
    /// Pods with a proxy that its injector would be asked for again, and those of its gateways.
    pub proxies: Vec<Proxies>,
}

/// Equal proxies of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// The workload.
    pub workload: WorkloadId,
    /// The revision that they are of.
    pub revision: String,
    /// How many.
    pub pods: u32,
    /// Who brings new ones.
    pub maker: Maker,
}

/// Who makes pods with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Their workload, when it is restarted.
    Workload,
    /// istiod, for a Gateway, as soon as the revision changes.
    Istiod,
}

impl Followers {
    /// Whether nobody follows by name.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.pods.is_empty() && self.gateways.is_empty()
    }

    /// All proxies.
    pub fn proxy_count(&self) -> u32 {
        self.proxies.iter().map(|proxies| proxies.pods).sum()
    }

    /// The workloads of the proxies.
    pub fn workloads(&self) -> BTreeSet<&WorkloadId> {
        self.proxies.iter().map(|proxies| &proxies.workload).collect()
    }

    /// Pods whose proxy is not of this revision.
    pub fn stale_count(&self, revision: &str) -> u32 {
        self.proxies.iter().filter(|proxies| proxies.revision != revision).map(|proxies| proxies.pods).sum()
    }

    /// Pods whose proxy is not of this revision, and stays so until their workload is restarted.
    pub fn restart_count(&self, revision: &str) -> u32 {
        let stale = self.proxies.iter().filter(|proxies| proxies.revision != revision && proxies.maker == Maker::Workload);
        stale.map(|proxies| proxies.pods).sum()
    }
}

/// Who follows the tag or revision that labels name `value`. `is_own` says which injectors are its own.
pub fn followers(installation: &Installation, census: &Census, value: &str, is_own: impl Fn(&Injector) -> bool) -> Followers {
    let made = census.groups.iter().filter_map(|group| Some((group.workload.namespace.to_string(), group.gateway()?.to_owned())));
    let mut followers = by_label(installation, value, &made.collect());
    let snapshot = &installation.snapshot;
    let active: Vec<&Injector> = snapshot.injectors.iter().filter(|injector| !injector.is_deactivated()).collect();
    let nothing = Labels::default();
    for group in &census.groups {
        let namespace_labels = snapshot.namespaces.get(&group.workload.namespace).unwrap_or(&nothing);
        let asked = active.iter().find(|injector| injector.matches(namespace_labels, &group.labels) != Match::No);
        let is_asked = asked.is_some_and(|injector| is_own(injector));
        let names_it = group.labels.value(labels::REVISION) == Some(value);
        let by_namespace =
            namespace_labels.value(labels::REVISION).is_some() || namespace_labels.value(labels::INJECTION).is_some();
        if is_asked && names_it && !by_namespace {
            add(&mut followers.pods, group);
        }
        if let Some(revision) = &group.revision
            && (is_asked || follows_as_gateway(&followers, group))
        {
            let maker = if group.gateway().is_some() { Maker::Istiod } else { Maker::Workload };
            let (workload, revision) = (group.workload.clone(), revision.to_string());
            followers.proxies.push(Proxies { workload, revision, pods: group.pods, maker });
        }
    }
    followers
}

/// Namespaces and Gateways whose labels name `value`.
pub fn followers_by_label(installation: &Installation, value: &str) -> Followers {
    by_label(installation, value, &BTreeSet::new())
}

/// Likewise. `made` are Gateways for which istiod has made pods, so that it is theirs whatever their class is called: OpenShift, AKS and
/// users name classes of their own after istiod's controller.
fn by_label(installation: &Installation, value: &str, made: &BTreeSet<(String, String)>) -> Followers {
    let mut followers = Followers::default();
    for (name, labels) in &installation.snapshot.namespaces {
        let asks_for_default = value == DEFAULT && labels.value(labels::INJECTION) == Some("enabled");
        if labels.value(labels::REVISION) == Some(value) || asks_for_default {
            followers.namespaces.insert(name.to_string());
        }
    }
    for gateway in &installation.gateways {
        let place = (namespace(gateway).to_owned(), name(gateway).to_owned());
        if !is_istios(gateway) && !made.contains(&place) {
            continue;
        }
        match named(gateway, &installation.snapshot.namespaces) {
            Some(named) if named == value => drop(followers.gateways.insert(place)),
            None if value == DEFAULT => drop(followers.unnamed_gateways.insert(place)),
            _ => {}
        }
    }
    followers
}

fn follows_as_gateway(followers: &Followers, group: &PodGroup) -> bool {
    let Some(gateway) = group.gateway() else { return false };
    let place = (group.workload.namespace.to_string(), gateway.to_owned());
    followers.gateways.contains(&place) || followers.unnamed_gateways.contains(&place)
}

fn add(pods: &mut Vec<(WorkloadId, u32)>, group: &PodGroup) {
    match pods.iter_mut().find(|(workload, _)| *workload == group.workload) {
        Some((_, number)) => *number += group.pods,
        None => pods.push((group.workload.clone(), group.pods)),
    }
}
