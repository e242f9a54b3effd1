//! Who owns an object: who would put back what we change, or take away what we add.
//!
//! Installers and operators leave marks on what they make. Some marks are copied on by `istioctl tag set` (it takes over
//! all annotations of the revision's own webhook), so a mark counts only when nothing says that it is a copy.

use std::fmt;

use serde_json::Value;

use crate::labels;

/// Who owns an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// `istioctl install`, or an object that it rendered; the namespace and version are those of its labels.
    Istioctl,
    /// `istioctl tag set`.
    IstioctlTag,
    /// One of these plugins.
    Mesh,
    /// A Helm release.
    Helm {
        /// Its name.
        release: String,
        /// Its namespace.
        namespace: String,
    },
    /// An object of the Sail operator.
    Sail {
        /// `Istio`, `IstioRevision` or `IstioRevisionTag`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Another controller, by its owner reference.
    Controller {
        /// Its API version.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The Azure Kubernetes Service add-on.
    Aks,
    /// An application of Argo CD.
    ArgoCd {
        /// Its name.
        application: String,
    },
    /// Flux: a Kustomization or HelmRelease.
    Flux {
        /// `Kustomization` or `HelmRelease`.
        kind: String,
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Somebody who leaves no mark: `kubectl apply`, rendered manifests.
    Nobody,
}

impl Owner {
    /// Whether the object may be written by us: nobody would revert or remove it.
    pub const fn is_ours_to_write(&self) -> bool {
        matches!(self, Owner::Istioctl | Owner::IstioctlTag | Owner::Mesh | Owner::Nobody)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Istioctl => formatter.write_str("istioctl install"),
            Owner::IstioctlTag => formatter.write_str("istioctl tag set"),
            Owner::Mesh => formatter.write_str("kubectl mesh-tag"),
            Owner::Helm { release, namespace } => write!(formatter, "Helm release {release} in namespace {namespace}"),
            Owner::Sail { kind, name } => write!(formatter, "the Sail operator's {kind} {name}"),
            Owner::Controller { api_version, kind, name } => write!(formatter, "{kind} {name} ({api_version})"),
            Owner::Aks => formatter.write_str("the AKS add-on"),
            Owner::ArgoCd { application } => write!(formatter, "Argo CD application {application}"),
            Owner::Flux { kind, name, namespace } => write!(formatter, "Flux {kind} {name} in namespace {namespace}"),
            Owner::Nobody => formatter.write_str("nobody known"),
        }
    }
}

/// Who owns this object, read whole from the API server.
pub fn owner_of(object: &Value) -> Owner {
    let metadata = &object["metadata"];
    let label = |key: &str| metadata["labels"][key].as_str();
    let annotation = |key: &str| metadata["annotations"][key].as_str();
    if let Some(owner) = controller(metadata) {
        return owner;
    }
    // `istioctl tag set` and we write under manager names of our own (pkg/kube/client.go): whatever else such an object
    // carries was copied from the revision's webhook, unless its owner has written it too.
    let written_by_tag_set = has_manager(metadata, |manager| manager == "istio-ci");
    let written_by_mesh = annotation(labels::HISTORY).is_some();
    let is_copy =
        |manager: &str| (written_by_tag_set || written_by_mesh) && !has_manager(metadata, |found| found.contains(manager));
    if let Some(name) = label("kustomize.toolkit.fluxcd.io/name").filter(|_| !is_copy("kustomize-controller")) {
        let namespace = label("kustomize.toolkit.fluxcd.io/namespace").unwrap_or_default().to_owned();
        return Owner::Flux { kind: "Kustomization".to_owned(), name: name.to_owned(), namespace };
    }
    if let Some(name) = label("helm.toolkit.fluxcd.io/name").filter(|_| !is_copy("helm")) {
        let namespace = label("helm.toolkit.fluxcd.io/namespace").unwrap_or_default().to_owned();
        return Owner::Flux { kind: "HelmRelease".to_owned(), name: name.to_owned(), namespace };
    }
    if let Some(application) = argo_application(object).filter(|_| !is_copy("argocd")) {
        return Owner::ArgoCd { application };
    }
    if let Some(release) = annotation("meta.helm.sh/release-name").filter(|_| !is_copy("helm")) {
        let namespace = annotation("meta.helm.sh/release-namespace").unwrap_or_default().to_owned();
        return Owner::Helm { release: release.to_owned(), namespace };
    }
    let aks = ["kubernetes.azure.com/managedby", "app.kubernetes.io/managed-by"];
    if aks.iter().any(|key| label(key).is_some_and(|value| value.eq_ignore_ascii_case("aks"))) && !is_copy("aks") {
        return Owner::Aks;
    }
    match () {
        () if written_by_mesh => Owner::Mesh,
        () if written_by_tag_set => Owner::IstioctlTag,
        () if label("operator.istio.io/managed").is_some() || label("operator.istio.io/component").is_some() => Owner::Istioctl,
        () => Owner::Nobody,
    }
}

fn controller(metadata: &Value) -> Option<Owner> {
    let references = metadata["ownerReferences"].as_array()?;
    let reference = references.iter().find(|reference| reference["controller"] == true).or_else(|| references.first())?;
    let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    Some(if api_version.starts_with("sailoperator.io/") {
        Owner::Sail { kind, name }
    } else {
        Owner::Controller { api_version, kind, name }
    })
}

/// Argo CD's tracking id is `APPLICATION:GROUP/KIND:NAMESPACE/NAME`; one that names another object was copied.
fn argo_application(object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    if let Some(id) = metadata["annotations"]["argocd.argoproj.io/tracking-id"].as_str() {
        let (application, rest) = id.split_once(':')?;
        let (_, name) = rest.rsplit_once('/')?;
        return (metadata["name"].as_str() == Some(name)).then(|| application.to_owned());
    }
    metadata["labels"]["argocd.argoproj.io/instance"].as_str().map(str::to_owned)
}

fn has_manager(metadata: &Value, is_wanted: impl Fn(&str) -> bool) -> bool {
    let managers = metadata["managedFields"].as_array().into_iter().flatten();
    managers.filter_map(|entry| entry["manager"].as_str()).any(is_wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(metadata: Value) -> Owner {
        owner_of(&json!({"metadata": metadata}))
    }

    #[test]
    fn each_mark_names_its_owner() {
        let helm = json!({"meta.helm.sh/release-name": "istiod", "meta.helm.sh/release-namespace": "istio-system"});
        assert_eq!(owner(json!({"annotations": helm})).to_string(), "Helm release istiod in namespace istio-system");
        let sail = json!([{"apiVersion": "sailoperator.io/v1", "kind": "IstioRevisionTag", "name": "prod", "controller": true}]);
        assert_eq!(
            owner(json!({"ownerReferences": sail})),
            Owner::Sail { kind: "IstioRevisionTag".to_owned(), name: "prod".to_owned() }
        );
        assert_eq!(owner(json!({"labels": {"kubernetes.azure.com/managedby": "aks"}})), Owner::Aks);
        let flux = json!({"kustomize.toolkit.fluxcd.io/name": "mesh", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
        assert!(matches!(owner(json!({"labels": flux})), Owner::Flux { .. }));
        assert_eq!(owner(json!({"labels": {"operator.istio.io/managed": "Reconcile"}})), Owner::Istioctl);
        assert_eq!(owner(json!({})), Owner::Nobody);
    }

    #[test]
    fn marks_that_tag_set_copied_do_not_count() {
        let annotations = json!({
            "meta.helm.sh/release-name": "istiod", "meta.helm.sh/release-namespace": "istio-system",
            "argocd.argoproj.io/tracking-id": "mesh:admissionregistration.k8s.io/MutatingWebhookConfiguration:/istio-sidecar-injector-1",
        });
        let copied =
            json!({"name": "istio-revision-tag-prod", "annotations": annotations, "managedFields": [{"manager": "istio-ci"}]});
        assert_eq!(owner(copied), Owner::IstioctlTag);
        let original = json!({"name": "istio-sidecar-injector-1", "annotations": annotations, "managedFields": [{"manager": "argocd-controller"}]});
        assert_eq!(owner(original), Owner::ArgoCd { application: "mesh".to_owned() });
    }
}
