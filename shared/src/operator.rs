//! Operators: controllers that make workloads, or pods, for a custom resource. What an operator makes it also puts back, so
//! a restart by the pod template would be undone, or done twice. Each is asked in its own documented way, or not at all.

use std::fmt;
use std::sync::Arc;

use crate::object::{Metadata, OwnerReference, Resource};

/// Whose operator writes an object, as its owner reference or its labels name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerName {
    /// API version, for example `example.org/v1`.
    pub api_version: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl OwnerName {
    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Who puts the pod template of a workload back, if anybody does: its controller, else the owner that an operator names without
    /// saying that it controls, else the one that an operator's labels name.
    ///
    /// All other owners that are no controllers are there for garbage collection or to group objects (`Application.app.k8s.io`), and
    /// istiod's reference to a Gateway on its Deployment is one of them: it applies only its own fields. Helm, Argo CD and Flux are no
    /// owners here: what they have not written they leave alone.
    pub fn of_workload(metadata: &Metadata) -> Option<OwnerName> {
        let owner = metadata.controller().or_else(|| metadata.owner_references.iter().find(is_silent_controller));
        owner.map(OwnerName::from).or_else(|| OwnerName::of_labels(metadata))
    }

    /// From the labels that an operator puts on all it makes, as of 2026-11.
    ///
    /// Strimzi: `Labels.generateDefaultLabels` (operator-common/src/main/java/io/strimzi/operator/common/model/Labels.java).
    /// Operator Lifecycle Manager: `OwnerLabel` (pkg/lib/ownerutil/util.go).
    fn of_labels(metadata: &Metadata) -> Option<OwnerName> {
        let named = |api_version: &str, kind: &str, name: &str| {
            let name = metadata.label(name)?.into();
            Some(OwnerName { api_version: api_version.into(), kind: metadata.label(kind)?.into(), name })
        };
        if metadata.label("app.kubernetes.io/managed-by") == Some("strimzi-cluster-operator") {
            return named("kafka.strimzi.io/v1", "strimzi.io/kind", "strimzi.io/cluster");
        }
        named("operators.coreos.com/v1alpha1", "olm.owner.kind", "olm.owner")
    }
}

impl OwnerName {
    /// A Rollout of Argo Rollouts.
    pub fn of_rollout(name: &Arc<str>) -> OwnerName {
        OwnerName {
            api_version: Resource::Rollouts.api_version().into(),
            kind: Resource::Rollouts.kind().into(),
            name: Arc::clone(name),
        }
    }

    fn is_rollout(&self) -> bool {
        Resource::of_kind(&self.api_version, &self.kind) == Some(Resource::Rollouts)
    }

    /// Why a workload that it owns is not restarted by its pod template.
    pub fn why(&self) -> String {
        if self.is_rollout() {
            return format!("{self} takes its pod template from it, and would begin an update of its own");
        }
        format!("{self} controls it, and its operator would undo a restart")
    }

    /// What to do for new pods of a workload that it owns, besides evicting them.
    pub fn remedy(&self, namespace: &str) -> String {
        if self.is_rollout() {
            return format!(
                "scale it down once {self} -n {namespace} runs enough pods, as spec.workloadRef.scaleDown of the Rollout does by itself"
            );
        }
        let way = self.way().map_or_else(String::new, |way| format!(" ({way})"));
        format!("restart it through {self} -n {namespace}{way}")
    }

    /// What its owner's documentation says to do for new pods, where that is known and cannot be done from here.
    ///
    /// Knative Serving (2026-11): a Revision cannot be changed, and pods that a restart of its Deployment brings end at once (issue 14705
    /// of knative/serving); a change of the Service's template makes a new Revision (knative.dev/docs/serving/revisions). How much
    /// traffic that one gets is for `spec.traffic` of the Service to say: it may be pinned to the old Revision, or split, so a person
    /// decides.
    fn way(&self) -> Option<&'static str> {
        let is_revision = self.group() == "serving.knative.dev" && &*self.kind == "Revision";
        is_revision.then_some(
            "make a new Revision: change an annotation in spec.template.metadata.annotations of its Knative Service, and \
             see that its spec.traffic sends traffic there",
        )
    }
}

/// Whether an operator controls what it names so, although the reference says `controller: false`, as of 2026-11: Strimzi
/// (`ModelUtils.createOwnerReference`) and the Operator Lifecycle Manager (`NonBlockingOwner` in pkg/lib/ownerutil/util.go). Both leave the
/// reference out where the owner is in another namespace; their labels name it then.
fn is_silent_controller(owner: &&OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    matches!(group, "kafka.strimzi.io" | "operators.coreos.com")
}

impl From<&OwnerReference> for OwnerName {
    fn from(reference: &OwnerReference) -> OwnerName {
        OwnerName {
            api_version: reference.api_version.as_str().into(),
            kind: reference.kind.as_str().into(),
            name: reference.name.as_str().into(),
        }
    }
}

impl fmt::Display for OwnerName {
    /// `Kafka.kafka.strimzi.io/events`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group() {
            "" => write!(formatter, "{}/{}", self.kind, self.name),
            group => write!(formatter, "{}.{group}/{}", self.kind, self.name),
        }
    }
}

/// An operator whose pods have a custom resource of its as their controller, and which restarts them when that resource gets
/// an annotation.
#[derive(Debug, PartialEq, Eq)]
pub struct Operator {
    /// What people call it.
    pub name: &'static str,
    /// API group of the custom resource.
    pub group: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its plural, as in URLs.
    pub plural: &'static str,
    /// The annotation that asks for a restart.
    pub annotation: &'static str,
    /// What the annotation says.
    pub value: AnnotationValue,
}

/// What an annotation says that asks for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationValue {
    /// `true`; the operator takes the annotation away when it is done.
    True,
    /// The time in RFC 3339; the annotation stays.
    Time,
}

/// The operators whose way is documented, as of 2026-11.
///
/// Strimzi: "Managing rolling updates" in its deployment guide: `strimzi.io/manual-rolling-update: "true"` on the StrimziPodSet;
/// the next reconciliation (every two minutes) rolls all its pods with regard to in-sync replicas.
/// CloudNativePG: "Labels and annotations": `kubectl.kubernetes.io/restartedAt` on the Cluster, as `kubectl cnpg restart` sets it;
/// the operator then replaces replicas before the primary. With `primaryUpdateStrategy: supervised` it waits for a person before the
/// primary, and before its pull request 7122 (merged 2025-03) `primaryUpdateMethod: restart` restarted the primary inside of its
/// pod: then the look at the pods afterwards says that the old proxy runs on.
/// Knative is not among them: see `OwnerName::way`.
pub static OPERATORS: [Operator; 2] = [
    Operator {
        name: "Strimzi",
        group: "core.strimzi.io",
        kind: "StrimziPodSet",
        plural: "strimzipodsets",
        annotation: "strimzi.io/manual-rolling-update",
        value: AnnotationValue::True,
    },
    Operator {
        name: "CloudNativePG",
        group: "postgresql.cnpg.io",
        kind: "Cluster",
        plural: "clusters",
        annotation: "kubectl.kubernetes.io/restartedAt",
        value: AnnotationValue::Time,
    },
];

impl Operator {
    /// The operator whose custom resource this is, if its way is known.
    pub fn of(group: &str, kind: &str) -> Option<&'static Operator> {
        OPERATORS.iter().find(|operator| operator.group == group && operator.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_known_by_group_and_kind() {
        let name = |group: &str, kind: &str| Operator::of(group, kind).map(|operator| operator.name);
        assert_eq!(name("core.strimzi.io", "StrimziPodSet"), Some("Strimzi"));
        assert_eq!(name("postgresql.cnpg.io", "Cluster"), Some("CloudNativePG"));
        assert_eq!(name("cluster.x-k8s.io", "Cluster"), None);
        assert_eq!(name("postgresql.cnpg.io", "Pooler"), None);
        assert_eq!(name("kafka.strimzi.io", "Kafka"), None);
    }

    #[test]
    fn whoever_puts_a_template_back_owns_it() {
        let owner = |metadata: serde_json::Value| {
            let metadata: Metadata = serde_json::from_value(metadata).unwrap();
            OwnerName::of_workload(&metadata).map(|owner| owner.to_string())
        };
        let reference = |api_version: &str, kind: &str, controller: bool| serde_json::json!({"apiVersion": api_version, "kind": kind, "name": "a", "uid": "u", "controller": controller});
        let references = |references: &[serde_json::Value]| owner(serde_json::json!({"ownerReferences": references}));
        let named = |name: &str| Some(name.to_owned());
        let kafka = || reference("kafka.strimzi.io/v1beta2", "KafkaBridge", false);
        assert_eq!(references(&[kafka()]), named("KafkaBridge.kafka.strimzi.io/a"));
        let version = || reference("operators.coreos.com/v1alpha1", "ClusterServiceVersion", false);
        assert_eq!(references(&[version()]), named("ClusterServiceVersion.operators.coreos.com/a"));
        assert_eq!(references(&[kafka(), reference("example.org/v1", "Shop", true)]), named("Shop.example.org/a"));
        // A controller of whatever kind; others own for garbage collection alone.
        assert_eq!(references(&[reference("v1", "ConfigMap", true)]), named("ConfigMap/a"));
        for (api_version, kind) in [
            ("example.org/v1", "Shop"),
            ("v1", "ConfigMap"),
            ("apps/v1", "Deployment"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("app.k8s.io/v1beta1", "Application"),
            ("gateway.networking.k8s.io/v1beta1", "Gateway"),
        ] {
            assert_eq!(references(&[reference(api_version, kind, false)]), None, "{kind}");
        }
        let strimzi = serde_json::json!({
            "app.kubernetes.io/managed-by": "strimzi-cluster-operator", "strimzi.io/kind": "Kafka", "strimzi.io/cluster": "events",
        });
        assert_eq!(owner(serde_json::json!({"labels": strimzi})), named("Kafka.kafka.strimzi.io/events"));
        let olm = serde_json::json!({"olm.owner": "shop.v1", "olm.owner.kind": "ClusterServiceVersion"});
        assert_eq!(owner(serde_json::json!({"labels": olm})), named("ClusterServiceVersion.operators.coreos.com/shop.v1"));
        // Those who write only what they have written before, and leave the template's annotations to others.
        let plain = serde_json::json!({
            "app.kubernetes.io/managed-by": "Helm", "argocd.argoproj.io/instance": "shop",
            "kustomize.toolkit.fluxcd.io/name": "shop", "strimzi.io/cluster": "a-client-of-it",
        });
        assert_eq!(owner(serde_json::json!({"labels": plain})), None);
    }

    #[test]
    fn a_knative_revision_is_replaced_through_its_service() {
        let owner = |api_version: &str, kind: &str| OwnerName {
            api_version: api_version.into(),
            kind: kind.into(),
            name: "shop-00001".into(),
        };
        assert!(owner("serving.knative.dev/v1", "Revision").way().unwrap().contains("spec.template.metadata.annotations"));
        assert_eq!(owner("example.org/v1", "Revision").way(), None);
    }

    #[test]
    fn an_owner_is_named_with_its_group() {
        let name = |api_version: &str| {
            let (kind, name) = ("Kafka".into(), "events".into());
            OwnerName { api_version: api_version.into(), kind, name }.to_string()
        };
        assert_eq!(name("kafka.strimzi.io/v1"), "Kafka.kafka.strimzi.io/events");
        assert_eq!(name("v1"), "Kafka/events");
    }
}
