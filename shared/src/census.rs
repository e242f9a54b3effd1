//! A census: how many pods there are of each sort, counted from their metadata alone. It says which revision injected
//! them and who asked for it, and costs a fraction of what whole pods cost.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::labels;
use crate::object::{Interner, Labels, Lookup, Metadata, Pod};
use crate::proxy::running_revision;
use crate::workload::WorkloadId;

/// Pods that are equal in everything that decides about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// Their workload, as far as their own labels and owner tell: the Deployment of a ReplicaSet by its hash label.
    pub workload: WorkloadId,
    /// Those of their labels that an injector or a Gateway may ask for.
    pub labels: Labels,
    /// The revision that their proxies say they are of; `None` when they have none.
    pub revision: Option<Arc<str>>,
    /// How many.
    pub pods: u32,
}

impl PodGroup {
    /// Whether istiod makes these pods for a Gateway: its name.
    pub fn gateway(&self) -> Option<&str> {
        let name = self.labels.value(labels::GATEWAY_NAME).or(self.labels.value(labels::OLD_GATEWAY_NAME))?;
        // It marks them since 1.24; before that it names the Gateway, and lets nobody inject.
        let is_old = self.labels.value(labels::INJECT) == Some("false") && self.revision.is_some();
        (self.labels.value(labels::GATEWAY_MANAGED).is_some() || is_old).then_some(name)
    }
}

/// All pods, grouped and sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The groups.
    pub groups: Vec<PodGroup>,
}

/// A census in the making.
pub struct CensusBuilder {
    interner: Interner,
    keys: BTreeSet<String>,
    groups: HashMap<GroupKey, u32>,
}

/// What is equal in a group.
#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    workload: WorkloadId,
    labels: Vec<(Arc<str>, Arc<str>)>,
    revision: Option<Arc<str>>,
}

impl CensusBuilder {
    /// Begins one. `keys` are the label keys that injectors ask for.
    pub fn new(keys: impl IntoIterator<Item = String>) -> CensusBuilder {
        let mut keys: BTreeSet<String> = keys.into_iter().collect();
        let always = [labels::REVISION, labels::INJECT, labels::GATEWAY_MANAGED, labels::GATEWAY_NAME, labels::OLD_GATEWAY_NAME];
        keys.extend(always.map(str::to_owned));
        CensusBuilder { interner: Interner::default(), keys, groups: HashMap::new() }
    }

    /// Counts a pod. Those that are on their way out do not count.
    pub fn add(&mut self, pod: &Pod) {
        let Some(metadata) = pod.metadata.as_ref().filter(|metadata| metadata.deletion_timestamp.is_none()) else { return };
        let interner = &mut self.interner;
        let wanted = metadata.labels.iter().filter(|(key, _)| self.keys.contains(key.as_str()));
        let labels = wanted.map(|(key, value)| (interner.text(key), interner.text(value))).collect();
        let revision = running_revision(metadata).map(|revision| interner.text(&revision));
        let workload = workload_of(metadata, interner);
        *self.groups.entry(GroupKey { workload, labels, revision }).or_default() += 1;
    }

    /// Forgets all, for a list that begins again.
    pub fn restart(&mut self) {
        self.groups.clear();
    }

    /// Sorts and ends it.
    pub fn build(self) -> Census {
        let mut groups: Vec<PodGroup> = self
            .groups
            .into_iter()
            .map(|(GroupKey { workload, labels, revision }, pods)| PodGroup {
                workload,
                labels: labels.into_iter().collect(),
                revision,
                pods,
            })
            .collect();
        groups.sort_by(|one, other| {
            let key = |group: &PodGroup| (group.workload.clone(), group.revision.clone());
            key(one).cmp(&key(other)).then_with(|| one.labels.iter().cmp(other.labels.iter()))
        });
        Census { groups }
    }
}

pub(crate) fn workload_of(metadata: &Metadata, interner: &mut Interner) -> WorkloadId {
    let namespace = interner.text(&metadata.namespace);
    let Some(owner) = metadata.controller() else {
        return WorkloadId {
            namespace,
            api_version: interner.text("v1"),
            kind: interner.text("Pod"),
            name: metadata.name.as_str().into(),
        };
    };
    // The Deployment controller names its ReplicaSets DEPLOYMENT-HASH and labels their pods with the hash.
    let made_by = |label: &str| owner.name.strip_suffix(metadata.label(label)?)?.strip_suffix('-');
    let (api_version, kind, name) = match () {
        () if owner.kind != "ReplicaSet" => (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()),
        () => match (made_by(labels::POD_TEMPLATE_HASH), made_by(labels::ROLLOUTS_POD_TEMPLATE_HASH)) {
            (Some(name), _) => ("apps/v1", "Deployment", name),
            (None, Some(name)) => ("argoproj.io/v1alpha1", "Rollout", name),
            (None, None) => ("apps/v1", "ReplicaSet", owner.name.as_str()),
        },
    };
    let (api_version, kind, name) = (interner.text(api_version), interner.text(kind), interner.text(name));
    WorkloadId { namespace, api_version, kind, name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, metadata: serde_json::Value) -> Pod {
        let mut metadata = metadata;
        metadata["name"] = name.into();
        metadata["namespace"] = "shop".into();
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn equal_pods_are_counted_and_belong_to_their_deployment() {
        let of_deployment = json!({
            "labels": {"pod-template-hash": "abc", "app": "web", "istio.io/rev": "prod"},
            "annotations": {"istio.io/rev": "1-26-0"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "controller": true}],
        });
        let mut builder = CensusBuilder::new([]);
        builder.add(&pod("web-abc-1", of_deployment.clone()));
        builder.add(&pod("web-abc-2", of_deployment));
        builder.add(&pod("bare", json!({})));
        builder.add(&pod("gone", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})));
        let census = builder.build();
        let told: Vec<_> = census
            .groups
            .iter()
            .map(|group| (group.workload.to_string(), group.revision.as_deref().map(str::to_owned), group.pods))
            .collect();
        let expected = [("shop/deployment/web".to_owned(), Some("1-26-0".to_owned()), 2), ("shop/pod/bare".to_owned(), None, 1)];
        assert_eq!(told, expected);
        assert_eq!(census.groups[0].labels.iter().collect::<Vec<_>>(), [("istio.io/rev", "prod")]);
    }
}
