//! What installing a control plane may ask for: the kinds that the charts render, and those that the manifests hold besides.

use std::collections::BTreeSet;

use mesh::cluster::Scope;
use mesh::cluster::discovery::usual_plural;
use mesh::cluster::probe::proof_needs as injection_needs;
use mesh::needs::{GroupResource, Needs};
use mesh::object::Resource;
use mesh::session::Intent;

use super::contents::Contents;

/// API groups and resources of a control plane, as manifests/charts/base and manifests/charts/istio-control/istio-discovery of
/// istio/istio render them for any settings.
const RENDERED: [(&str, &str); 13] = [
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apps", "deployments"),
    ("autoscaling", "horizontalpodautoscalers"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];

/// Those that only some settings render (`global.networkPolicy.enabled`, `experimental.stableValidationPolicy`), and the
/// namespace, which is mostly there before.
const RENDERED_BY_SOME: [(&str, &str); 4] = [
    ("", "namespaces"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("networking.k8s.io", "networkpolicies"),
];

/// These verbs on every kind that the charts render.
pub fn rendered_needs(namespace: &str, verbs: &[&'static str]) -> Needs {
    Needs::default().require(Some(namespace), RENDERED, verbs).prefer(Some(namespace), RENDERED_BY_SOME, verbs)
}

/// Nobody may give away what he does not have, unless he may do just that: `escalate` for what a role allows, `bind` for who
/// gets it (`pkg/registry/rbac` of k8s.io/kubernetes).
pub fn granting_needs(namespace: &str) -> Needs {
    let roles = [("rbac.authorization.k8s.io", "clusterroles"), ("rbac.authorization.k8s.io", "roles")];
    Needs::default().require(Some(namespace), roles, &["escalate", "bind"])
}

/// What planning and writing a control plane in the scope's namespace of control planes may ask for.
pub fn needs(scope: &Scope, intent: Intent) -> Needs {
    // Everything is asked for as a dry run first, which the API server authorizes as it does the writing.
    let writing = rendered_needs(scope.control_plane_namespace(), APPLY)
        .and(granting_needs(scope.control_plane_namespace()))
        // A definition that is here already is replaced: its fields are those of whoever installed the mesh.
        .require(None, [("apiextensions.k8s.io", "customresourcedefinitions")], &["update"]);
    match intent {
        Intent::Read => writing,
        Intent::Write => writing.and(proof_needs(scope.control_plane_namespace())),
    }
}

/// What waiting for a control plane, and proving that it injects, may ask for.
pub fn proof_needs(namespace: &str) -> Needs {
    let namespace = Some(namespace);
    injection_needs("default")
        .require(namespace, [Resource::Deployments], &["get"])
        .require(None, [Resource::MutatingWebhookConfigurations], &["get"])
        .require(namespace, [Resource::EndpointSlices], &["list"])
        .prefer(namespace, [("", "events")], &["list"])
}

/// What these manifests may ask for besides.
pub fn contents_needs(contents: &Contents) -> Needs {
    let mut kinds = BTreeSet::new();
    for object in &contents.objects {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&contents.namespace);
        kinds.insert((namespace, text("apiVersion"), text("kind")));
    }
    let needs = kinds.into_iter().map(|(namespace, api_version, kind)| {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let on = GroupResource { group: group.to_owned(), resource: usual_plural(kind) };
        Needs::default().require(Some(namespace), [on], APPLY)
    });
    needs.collect()
}

/// Server-side apply is a `patch`, and a `create` too where the object is not there
/// (`k8s.io/apiserver/pkg/endpoints/handlers/patch.go`).
const APPLY: &[&str] = &["get", "create", "patch"];

#[cfg(test)]
mod tests {
    use mesh::needs::Permission;
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_that_only_these_manifests_hold_are_needed_where_they_stand() {
        let telemetry = json!({"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "mesh", "namespace": "shop"}});
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "istiod"}});
        let contents =
            Contents { namespace: "mesh".to_owned(), version: None, objects: vec![telemetry, policy], left_out: Vec::new() };
        let found = contents_needs(&contents);
        let told = |(permission, _): (&Permission, _)| {
            format!("{} {} {}", permission.verb, permission.on.resource, permission.namespace.as_deref().unwrap_or_default())
        };
        let told: Vec<String> = found.permissions().map(told).filter(|told| told.starts_with("create")).collect();
        assert_eq!(told, ["create networkpolicies mesh", "create telemetries shop"]);
    }
}
