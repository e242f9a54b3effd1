//! What the programs ask of the API server by themselves. Which requests they make was seen behind a recording server, with
//! helm 4 and istioctl 1.28.

use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::session::Intent;

use super::Program;
use crate::start::needs::{granting_needs, rendered_needs};

const SECRETS: [(&str, &str); 1] = [("", "secrets")];

impl Program {
    /// What it may ask for when it installs a control plane in this namespace.
    pub fn install_needs(self, namespace: &str, intent: Intent) -> Needs {
        let installing = || rendered_needs(namespace, &["get", "create", "patch"]).and(granting_needs(namespace));
        match (self, intent) {
            (Program::Istioctl, Intent::Read) => Needs::default(),
            (Program::Istioctl, Intent::Write) => installing().and(istioctl_needs(namespace)),
            (Program::Helm, Intent::Read) => release_needs(namespace),
            (Program::Helm, Intent::Write) => installing()
                .and(release_needs(namespace))
                .require(Some(namespace), SECRETS, &["create", "update"])
                // An upgrade forgets the oldest of its revisions.
                .prefer(Some(namespace), SECRETS, &["delete"]),
        }
    }
}

/// Besides what it installs, istioctl looks everywhere for what an earlier installation of the revision has left, and analyses what
/// it has installed.
fn istioctl_needs(namespace: &str) -> Needs {
    let everywhere = [
        ("", "configmaps"),
        ("", "secrets"),
        ("", "serviceaccounts"),
        ("", "services"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("networking.istio.io", "envoyfilters"),
        ("policy", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
    ];
    Needs::default()
        .require(None, everywhere, &["list"])
        .prefer(Some("kube-system"), [Resource::ConfigMaps], &["get"])
        .prefer(None, [("projectcalico.org", "felixconfigurations")], &["get"])
        .prefer(Some(namespace), [("", "pods"), ("", "pods/portforward")], &["get"])
        .prefer(Some(namespace), [("", "pods/portforward")], &["create"])
}

/// Helm keeps what it knows of a release in Secrets of the release's namespace. What installs, changes or removes one reads it
/// first, as a dry run does.
fn release_needs(namespace: &str) -> Needs {
    Needs::default().require(Some(namespace), SECRETS, &["get", "list"])
}

/// What helm may ask for when it removes a release, besides deleting the objects of a control plane.
pub fn uninstall_needs(namespace: &str, intent: Intent) -> Needs {
    let reading = release_needs(namespace);
    match intent {
        Intent::Read => reading,
        Intent::Write => {
            reading.require(Some(namespace), SECRETS, &["update", "delete"]).require(None, [Resource::Namespaces], &["get"])
        }
    }
}
