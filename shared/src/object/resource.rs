//! The lists that a snapshot is made from.

use std::fmt;

/// A kind of object, as the API server serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the resource of its name")]
pub enum Resource {
    Pods,
    Namespaces,
    MutatingWebhookConfigurations,
    ValidatingWebhookConfigurations,
    Deployments,
    StatefulSets,
    DaemonSets,
    ReplicaSets,
    Jobs,
    Rollouts,
    Services,
    EndpointSlices,
    ConfigMaps,
    ProxyConfigs,
    Gateways,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 15] = [
        Resource::Pods,
        Resource::Namespaces,
        Resource::MutatingWebhookConfigurations,
        Resource::ValidatingWebhookConfigurations,
        Resource::Deployments,
        Resource::StatefulSets,
        Resource::DaemonSets,
        Resource::ReplicaSets,
        Resource::Jobs,
        Resource::Rollouts,
        Resource::Services,
        Resource::EndpointSlices,
        Resource::ConfigMaps,
        Resource::ProxyConfigs,
        Resource::Gateways,
    ];

    /// Group (empty for core), version, plural name and kind.
    const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Resource::Pods => ("", "v1", "pods", "Pod"),
            Resource::Namespaces => ("", "v1", "namespaces", "Namespace"),
            Resource::MutatingWebhookConfigurations => {
                ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
            }
            Resource::ValidatingWebhookConfigurations => {
                ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
            }
            Resource::Deployments => ("apps", "v1", "deployments", "Deployment"),
            Resource::StatefulSets => ("apps", "v1", "statefulsets", "StatefulSet"),
            Resource::DaemonSets => ("apps", "v1", "daemonsets", "DaemonSet"),
            Resource::ReplicaSets => ("apps", "v1", "replicasets", "ReplicaSet"),
            Resource::Jobs => ("batch", "v1", "jobs", "Job"),
            Resource::Rollouts => ("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
            Resource::Services => ("", "v1", "services", "Service"),
            Resource::EndpointSlices => ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
            Resource::ConfigMaps => ("", "v1", "configmaps", "ConfigMap"),
            Resource::ProxyConfigs => ("networking.istio.io", "v1beta1", "proxyconfigs", "ProxyConfig"),
            Resource::Gateways => ("gateway.networking.k8s.io", "v1", "gateways", "Gateway"),
        }
    }

    /// API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        self.names().0
    }

    /// API version inside the group.
    pub const fn version(self) -> &'static str {
        self.names().1
    }

    /// Plural name, as in URLs and RBAC rules.
    pub const fn plural(self) -> &'static str {
        self.names().2
    }

    /// Kind of one object.
    pub const fn kind(self) -> &'static str {
        self.names().3
    }

    /// `group/version`, or `version` in the core group.
    pub fn api_version(self) -> String {
        let (group, version, ..) = self.names();
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    /// The resource of a kind, whatever the version, if a snapshot reads it.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Resource> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Resource::ALL.into_iter().find(|resource| resource.kind() == kind && resource.group() == group)
    }

    /// Whether objects live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        !matches!(
            self,
            Resource::Namespaces | Resource::MutatingWebhookConfigurations | Resource::ValidatingWebhookConfigurations
        )
    }

    /// Whether it comes from a custom resource definition, and so may not be served at all.
    pub const fn is_custom(self) -> bool {
        matches!(self, Resource::Rollouts | Resource::ProxyConfigs | Resource::Gateways)
    }

    /// URL path of its list: everywhere, or in one namespace.
    pub fn path(self, namespace: Option<&str>) -> String {
        let (group, version, plural, _) = self.names();
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace {
            Some(namespace) if self.is_namespaced() => format!("{root}/namespaces/{namespace}/{plural}"),
            _ => format!("{root}/{plural}"),
        }
    }
}

impl fmt::Display for Resource {
    /// `plural` or `plural.group`, as kubectl writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, _, plural, _) = self.names();
        if group.is_empty() { formatter.write_str(plural) } else { write!(formatter, "{plural}.{group}") }
    }
}
