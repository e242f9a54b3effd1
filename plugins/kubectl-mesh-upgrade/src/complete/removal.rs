//! What a removal deletes: the objects of one revision, by their names, kinds and labels, and in which order.
//!
//! Names and labels: manifests/charts/istio-control/istio-discovery/templates of Istio. The label of a revision alone is never
//! enough: shared objects, such as the definitions, carry the one of whoever installed last.

use mesh::change::{Change, Subject};
use mesh::cluster::apply;
use mesh::control_plane::revision_suffix;
use mesh::installation::{Installation, label, name, namespace};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::owner::owner_of;
use mesh::refusal::Refusal;
use serde_json::Value;

/// Parts of a control plane, in the order in which they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the API server asks: nothing may ask for what is gone.
    Webhook,
    /// What runs, and what runs it.
    Workload,
    /// What it is reached by.
    Service,
    /// What it reads.
    Configuration,
    /// What it may do.
    Access,
}

/// Kinds of a control plane's parts: API version, kind, plural.
const KINDS: [(Part, &str, &str, &str); 11] = [
    (Part::Workload, "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    (Part::Workload, "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    (Part::Workload, "apps/v1", "Deployment", "deployments"),
    (Part::Service, "v1", "Service", "services"),
    (Part::Configuration, "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    (Part::Configuration, "v1", "ConfigMap", "configmaps"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "Role", "roles"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    (Part::Access, "v1", "ServiceAccount", "serviceaccounts"),
];

/// Every object that a revision in this namespace may consist of, besides webhooks, which are found by their labels.
pub fn parts(revision: &str, namespace: &str) -> Vec<(Part, Subject)> {
    let suffix = revision_suffix(revision);
    let cluster_roles = ["istiod-clusterrole", "istiod-gateway-controller", "istio-reader-clusterrole"]
        .map(|base| format!("{base}{suffix}-{namespace}"));
    let config_maps =
        ["istio", "istio-sidecar-injector", "values", "pilot-jwks-extra-cacerts"].map(|base| format!("{base}{suffix}"));
    let mut parts = Vec::new();
    for (part, api_version, kind, plural) in KINDS {
        let is_cluster_wide = kind.starts_with("Cluster");
        let names = match kind {
            "ClusterRole" | "ClusterRoleBinding" => cluster_roles.to_vec(),
            "ConfigMap" => config_maps.to_vec(),
            _ => vec![format!("istiod{suffix}")],
        };
        parts.extend(names.into_iter().map(|name| {
            let subject = Subject {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                namespace: (!is_cluster_wide).then(|| namespace.to_owned()),
                name,
            };
            (part, subject)
        }));
    }
    parts
}

/// What is deleted, in its order.
///
/// # Errors
/// A [`Refusal`] when an object of that name belongs to somebody else.
pub fn removal(installation: &Installation, found: Vec<(Part, Value)>, revision: &str) -> Result<Vec<Change>, Refusal> {
    let validators = installation.revision_validator(revision).into_iter();
    let webhooks = validators
        .map(|object| (Resource::ValidatingWebhookConfigurations, object))
        .chain(installation.revision_webhooks(revision).map(|object| (Resource::MutatingWebhookConfigurations, object)))
        .map(|(resource, object)| (Part::Webhook, Subject::new(resource, None, name(object)), object.clone()));
    let others = found.into_iter().map(|(part, object)| (part, subject_of(&object), object));
    let mut all: Vec<(Part, Subject, Value)> = webhooks.chain(others).collect();
    // Stable: within a part they go in the order in which they are listed.
    all.sort_by_key(|(part, ..)| *part);
    let foreign: Vec<String> = all.iter().filter_map(|(_, subject, object)| foreign(subject, object, revision)).collect();
    if !foreign.is_empty() {
        let reason = format!("objects with the names of revision {revision}'s are not its own");
        return Err(Refusal::new(reason, "rename or delete them yourself, if they may go").with(foreign));
    }
    Ok(all.into_iter().map(|(_, subject, object)| deletion(subject, object)).collect())
}

/// Why an object is not the revision's own.
fn foreign(subject: &Subject, object: &Value, revision: &str) -> Option<String> {
    let owner = owner_of(object);
    if !owner.is_ours_to_write() {
        return Some(format!("{subject} belongs to {owner}"));
    }
    match label(object, labels::REVISION) {
        Some(other) if other != revision => Some(format!("{subject} has the label {}={other}", labels::REVISION)),
        Some(_) => None,
        // Helm's charts give these no revision (trap of istio.io/rev on RBAC objects): then the name and the app say it.
        None if matches!(
            subject.kind.as_str(),
            "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding"
        ) =>
        {
            let app = label(object, labels::APP);
            (!matches!(app, Some("istiod" | "istio-reader"))).then(|| format!("{subject} has no label app=istiod"))
        }
        // Its edits are the user's; only the plain name `values` could be anybody's.
        None if subject.kind == "ConfigMap" && subject.name != "values" => None,
        None => Some(format!("{subject} has no label {}", labels::REVISION)),
    }
}

fn subject_of(object: &Value) -> Subject {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    Subject {
        api_version: text("apiVersion"),
        kind: text("kind"),
        plural: text("plural"),
        namespace: Some(namespace(object)).filter(|namespace| !namespace.is_empty()).map(str::to_owned),
        name: name(object).to_owned(),
    }
}

/// The uid is the precondition. The version is none: a Deployment's status changes all the time.
fn deletion(subject: Subject, mut object: Value) -> Change {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    Change { subject, before: Some(object), after: None }
}

/// API groups and resources of a control plane's parts, besides webhooks.
fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().map(|(_, api_version, _, plural)| (api_version.split_once('/').map_or("", |(group, _)| group), *plural))
}

/// What reading the parts may ask for, by their names.
pub fn reading_needs(namespace: &str) -> Needs {
    Needs::default().require(Some(namespace), resources(), &["get"])
}

/// What deleting a revision may ask for.
pub fn needs(namespace: &str) -> Needs {
    let webhooks = [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations];
    apply::needs(None, webhooks, &["delete"]).and(apply::needs(Some(namespace), resources(), &["delete"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, labels: Value) -> Value {
        let (api_version, plural) = match kind {
            "Deployment" => ("apps/v1", "deployments"),
            "ClusterRole" => ("rbac.authorization.k8s.io/v1", "clusterroles"),
            _ => ("v1", "services"),
        };
        json!({"apiVersion": api_version, "kind": kind, "plural": plural,
            "metadata": {"name": name, "labels": labels, "uid": "u", "resourceVersion": "7"}})
    }

    #[test]
    fn what_serves_goes_after_what_asks_and_access_last() {
        let found = vec![
            (Part::Access, object("ClusterRole", "istiod-clusterrole-1-26-0-istio-system", json!({"app": "istiod"}))),
            (Part::Workload, object("Deployment", "istiod-1-26-0", json!({"istio.io/rev": "1-26-0"}))),
        ];
        let webhook = json!({"metadata": {"name": "istio-sidecar-injector-1-26-0", "labels": {"istio.io/rev": "1-26-0"}}});
        let installation = Installation { injectors: vec![webhook], ..Installation::default() };
        let changes = removal(&installation, found, "1-26-0").unwrap();
        let kinds: Vec<&str> = changes.iter().map(|change| change.subject.kind.as_str()).collect();
        assert_eq!(kinds, ["MutatingWebhookConfiguration", "Deployment", "ClusterRole"]);
        assert!(changes.iter().all(|change| change.before.as_ref().unwrap()["metadata"]["resourceVersion"].is_null()));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_never_deleted() {
        let refused =
            |found: Value| removal(&Installation::default(), vec![(Part::Workload, found)], "1-26-0").unwrap_err().details;
        let other = refused(object("Deployment", "istiod-1-26-0", json!({"istio.io/rev": "1-28-2"})));
        assert_eq!(other, ["deployments/istiod-1-26-0 has the label istio.io/rev=1-28-2"]);
        let none = refused(object("Service", "istiod-1-26-0", json!({})));
        assert_eq!(none, ["services/istiod-1-26-0 has no label istio.io/rev"]);
        let role = refused(object("ClusterRole", "istiod-clusterrole-1-26-0-istio-system", json!({"app": "mine"})));
        assert_eq!(role.len(), 1);
    }

    #[test]
    fn the_reader_account_and_the_definitions_are_no_parts() {
        for (_, subject) in parts("default", "istio-system") {
            assert_ne!(subject.name, "istio-reader-service-account");
            assert!(!["CustomResourceDefinition", "Secret", "Namespace"].contains(&subject.kind.as_str()), "{subject}");
        }
    }
}
