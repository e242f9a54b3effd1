//! Operators: controllers that make workloads, or pods, for a custom resource. What an operator makes it also puts back, so
//! a restart by the pod template would be undone, or done twice. Each is asked in its own documented way, or not at all.

use std::fmt;
use std::sync::Arc;

use crate::object::OwnerReference;

/// The controller of an object, as its owner reference names it.
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
/// the operator then replaces replicas before the primary. Versions before 1.21 may restart the primary inside of its pod, which
/// the look at the pods afterwards shows.
/// Knative is not among them: its Revisions cannot be restarted, only replaced by a new Revision of the Service.
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
    fn an_owner_is_named_with_its_group() {
        let name = |api_version: &str| {
            let (kind, name) = ("Kafka".into(), "events".into());
            OwnerName { api_version: api_version.into(), kind, name }.to_string()
        };
        assert_eq!(name("kafka.strimzi.io/v1"), "Kafka.kafka.strimzi.io/events");
        assert_eq!(name("v1"), "Kafka/events");
    }
}
