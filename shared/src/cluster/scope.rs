//! What is looked at, and which kinds of objects that takes.

use crate::object::Resource;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// One namespace, or everywhere.
    pub namespace: Option<String>,
    /// Only pods with these labels, in kubectl's syntax.
    pub selector: Option<String>,
    /// The control planes' namespace, where the user names it.
    pub istio_namespace: Option<String>,
}

impl Scope {
    /// Where control planes are looked for before it is known where they are: as the user says, or where Istio puts them.
    pub fn control_plane_namespace(&self) -> &str {
        self.istio_namespace.as_deref().unwrap_or(ISTIO_NAMESPACE)
    }

    /// The same control planes, in one namespace or everywhere.
    pub fn within(&self, namespace: Option<&str>) -> Scope {
        Scope { namespace: namespace.map(str::to_owned), ..self.clone() }
    }
}

/// Where control planes are, unless somebody says otherwise.
const ISTIO_NAMESPACE: &str = "istio-system";

/// Workloads whose pods and templates are looked at.
pub(super) const WORKLOADS: [Resource; 4] =
    [Resource::Deployments, Resource::StatefulSets, Resource::DaemonSets, Resource::Rollouts];
