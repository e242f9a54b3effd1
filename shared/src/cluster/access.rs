//! What a command line needs to be allowed: the rules that `--explain-rbac` prints, and that a finding names when a
//! list is denied. It stands beside [`super::read`] and must name every list that is read there.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::failure::{Cause, Failure};
use super::scope::{CONTROL_PLANE, Scope, WORKLOADS};
use crate::finding::{Finding, Severity};
use crate::object::Resource;

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// In which namespace; everywhere (or cluster-scoped) when `None`.
    pub namespace: Option<String>,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural resource.
    pub resource: &'static str,
    /// Verb.
    pub verb: &'static str,
}

impl Permission {
    fn new(namespace: Option<&str>, resource: Resource, verb: &'static str) -> Permission {
        let namespace = namespace.filter(|_| resource.is_namespaced()).map(str::to_owned);
        Permission { namespace, group: resource.group(), resource: resource.plural(), verb }
    }
}

/// Whether single workloads are asked for by a dry run too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// Only lists are read.
    No,
    /// Pods are created, as dry runs.
    Yes,
}

/// Everything that reading a scope may ask of the API server.
pub fn permissions(scope: &Scope, probing: Probing) -> Vec<Permission> {
    let namespace = scope.namespace.as_deref();
    let control_plane = scope.istio_namespace.as_deref().unwrap_or(ISTIO_NAMESPACE);
    let mut permissions = vec![
        Permission::new(namespace, Resource::Pods, "list"),
        Permission::new(None, Resource::MutatingWebhookConfigurations, "list"),
        Permission::new(None, Resource::ValidatingWebhookConfigurations, "list"),
        Permission::new(None, Resource::ProxyConfigs, "list"),
        // Control planes are looked for everywhere.
        Permission::new(None, Resource::Deployments, "list"),
        Permission::new(Some(control_plane), Resource::ConfigMaps, "get"),
    ];
    let name_space_verb = if namespace.is_some() { "get" } else { "list" };
    permissions.push(Permission::new(None, Resource::Namespaces, name_space_verb));
    let on_demand = [Resource::ReplicaSets, Resource::Jobs, Resource::Gateways];
    for resource in WORKLOADS.into_iter().chain(on_demand) {
        permissions.push(Permission::new(namespace, resource, "list"));
    }
    for resource in CONTROL_PLANE {
        permissions.push(Permission::new(Some(control_plane), resource, "list"));
    }
    if probing == Probing::Yes {
        permissions.push(Permission::new(namespace, Resource::Pods, "create"));
        for resource in WORKLOADS.into_iter().chain([Resource::ReplicaSets, Resource::Jobs, Resource::Pods]) {
            permissions.push(Permission::new(namespace, resource, "get"));
        }
    }
    permissions.sort();
    permissions.dedup();
    let is_everywhere = |permission: &Permission| Permission { namespace: None, ..permission.clone() };
    let all = permissions.clone();
    permissions.retain(|permission| permission.namespace.is_none() || !all.contains(&is_everywhere(permission)));
    permissions
}

/// Everything that [`super::look`] asks for.
pub fn installation_permissions(istio_namespace: Option<&str>) -> Vec<Permission> {
    let control_plane = istio_namespace.unwrap_or(ISTIO_NAMESPACE);
    let everywhere = [
        Resource::MutatingWebhookConfigurations,
        Resource::ValidatingWebhookConfigurations,
        Resource::Deployments,
        Resource::Namespaces,
        Resource::Gateways,
        Resource::Pods,
    ];
    let mut permissions: Vec<Permission> = everywhere.map(|resource| Permission::new(None, resource, "list")).into();
    permissions.extend(CONTROL_PLANE.map(|resource| Permission::new(Some(control_plane), resource, "list")));
    permissions.push(Permission::new(Some(control_plane), Resource::ConfigMaps, "get"));
    permissions
}

/// Everything that writing a tag asks for, with the proof before and after it.
pub fn tag_permissions(istio_namespace: Option<&str>) -> Vec<Permission> {
    let control_plane = istio_namespace.unwrap_or(ISTIO_NAMESPACE);
    let written = [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations, Resource::Services];
    let mut permissions = installation_permissions(istio_namespace);
    for resource in written {
        permissions
            .extend(["get", "create", "update", "delete"].map(|verb| Permission::new(Some(control_plane), resource, verb)));
    }
    permissions.push(Permission::new(Some(control_plane), Resource::Pods, "create"));
    ordered(permissions)
}

/// Everything that labelling namespaces asks for, and looking at what is stale in them then.
pub fn namespace_permissions(istio_namespace: Option<&str>) -> Vec<Permission> {
    let scope = Scope { istio_namespace: istio_namespace.map(str::to_owned), ..Scope::default() };
    let mut all = permissions(&scope, Probing::No);
    all.extend(installation_permissions(istio_namespace));
    all.extend(["get", "list", "patch"].map(|verb| Permission::new(None, Resource::Namespaces, verb)));
    ordered(all)
}

/// Sorted, each once.
fn ordered(mut permissions: Vec<Permission>) -> Vec<Permission> {
    permissions.sort();
    permissions.dedup();
    permissions
}

/// Where control planes are, unless somebody says otherwise.
const ISTIO_NAMESPACE: &str = "istio-system";

/// Verbs by API group and resource.
type Verbs<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a str>>;

/// The permissions as YAML: a ClusterRole for what is needed everywhere, a Role for each namespace.
pub fn manifest(permissions: &[Permission], name: &str) -> String {
    let mut by_namespace: BTreeMap<Option<&str>, Verbs<'_>> = BTreeMap::new();
    for permission in permissions {
        let rules = by_namespace.entry(permission.namespace.as_deref()).or_default();
        rules.entry((permission.group, permission.resource)).or_default().push(permission.verb);
    }
    let documents: Vec<String> = by_namespace.iter().map(|(namespace, rules)| role(*namespace, rules, name)).collect();
    documents.join("---\n")
}

fn role(namespace: Option<&str>, rules: &Verbs<'_>, name: &str) -> String {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let mut text = format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n");
    let writing = "writing to a String never fails";
    if let Some(namespace) = namespace {
        writeln!(text, "  namespace: {namespace}").expect(writing);
    }
    text.push_str("rules:\n");
    // Resources of one group that need the same verbs share a rule.
    let mut shared: BTreeMap<(&str, &[&str]), Vec<&str>> = BTreeMap::new();
    for ((group, resource), verbs) in rules {
        shared.entry((*group, verbs.as_slice())).or_default().push(*resource);
    }
    for ((group, verbs), resources) in shared {
        writeln!(text, "- apiGroups: [{group:?}]").expect(writing);
        writeln!(text, "  resources: [{}]", resources.join(", ")).expect(writing);
        writeln!(text, "  verbs: [{}]", verbs.join(", ")).expect(writing);
    }
    text
}

/// What a user is told when a list is not to be had: what it costs and the rule that would grant it.
pub(super) fn finding(resource: Resource, namespace: Option<&str>, failure: &Failure) -> Finding {
    let place = namespace.map_or(String::new(), |namespace| format!(" in namespace {namespace}"));
    let (code, message) = match &failure.cause {
        Cause::Forbidden => ("forbidden", format!("listing {resource}{place} is denied: {}", cost(resource))),
        _ => ("unread", format!("{failure}: {}", cost(resource))),
    };
    let advice = match &failure.cause {
        Cause::Forbidden => format!(
            "grant it by the rule apiGroups: [{:?}], resources: [{}], verbs: [get, list]; --explain-rbac prints all that this command needs",
            resource.group(),
            resource.plural()
        ),
        _ => "run the command again".to_owned(),
    };
    Finding { severity: Severity::Warning, code, subject: resource.to_string(), message, advice }
}

/// What depends on a list.
const fn cost(resource: Resource) -> &'static str {
    match resource {
        Resource::Namespaces => "which injector serves a namespace is unknown",
        Resource::MutatingWebhookConfigurations => "what a new pod would get is unknown",
        Resource::ConfigMaps => "which image a new pod would get is unknown",
        Resource::ProxyConfigs => "the variant of the image that a new pod would get is unknown",
        Resource::Services | Resource::EndpointSlices => "whether a control plane answers is not certain",
        Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets | Resource::ReplicaSets => {
            "how the pods of its workloads are replaced is unknown"
        }
        Resource::Jobs => "the CronJobs of Jobs are not named",
        Resource::Rollouts => "Argo Rollouts are not recognised",
        Resource::Gateways | Resource::ValidatingWebhookConfigurations => "which revision a gateway belongs to is unknown",
        Resource::Pods => "nothing can be said",
    }
}
