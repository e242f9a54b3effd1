//! Who owns an object: who would put back what we change, or take away what we add.
//!
//! Installers and operators leave marks on what they make. Some marks are copied on by `istioctl tag set` (it takes over
//! all annotations of the revision's own webhook), so a mark counts only when nothing says that it is a copy.

use std::fmt;

use serde_json::Value;

use crate::advice::Program;
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
        /// Its name; empty where only Argo CD's field manager tells of it.
        application: String,
    },
    /// Flux: a Kustomization or HelmRelease.
    Flux {
        /// `Kustomization` or `HelmRelease`.
        kind: String,
        /// Its name; empty where only Flux's field manager tells of it.
        name: String,
        /// Its namespace; empty likewise.
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
            Owner::Istioctl => write!(formatter, "{} install", Program::Istioctl),
            Owner::IstioctlTag => write!(formatter, "{} tag set", Program::Istioctl),
            Owner::Mesh => write!(formatter, "{}", Program::MeshTag),
            Owner::Helm { release, namespace } => write!(formatter, "Helm release {release} in namespace {namespace}"),
            Owner::Sail { kind, name } => write!(formatter, "the Sail operator's {kind} {name}"),
            Owner::Controller { api_version, kind, name } => write!(formatter, "{kind} {name} ({api_version})"),
            Owner::Aks => formatter.write_str("the AKS add-on"),
            Owner::ArgoCd { application } if application.is_empty() => formatter.write_str("an Argo CD application"),
            Owner::Flux { kind, name, .. } if name.is_empty() => write!(formatter, "a Flux {kind}"),
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
    for (kind, prefix, manager) in FLUX {
        // Both of Flux's controllers label what they apply, and are its field managers (server-side apply).
        let name = label(&format!("{prefix}/name")).filter(|_| !is_copy(manager));
        if name.is_some() || is_manager(object, manager) {
            let labelled = |key: &str| name.and_then(|_| label(&format!("{prefix}/{key}"))).unwrap_or_default().to_owned();
            return Owner::Flux { kind: kind.to_owned(), name: labelled("name"), namespace: labelled("namespace") };
        }
    }
    if has_manager(metadata, |manager| manager.starts_with("flux")) {
        return Owner::Flux { kind: "Kustomization".to_owned(), name: String::new(), namespace: String::new() };
    }
    let is_argo = is_manager(object, "argocd-");
    let application = argo_application(object).filter(|_| is_argo || !is_copy("argocd"));
    // By default Argo CD tracks with a label that charts set too (`application.instanceLabelKey`): it counts only beside Argo
    // CD's own field manager, which is all that a label key of somebody's own choice leaves.
    let tracked = || label("app.kubernetes.io/instance").filter(|_| has_manager(metadata, |found| found.starts_with("argocd-")));
    if let Some(application) = application.or_else(|| tracked().map(str::to_owned)) {
        return Owner::ArgoCd { application };
    }
    if is_argo {
        return Owner::ArgoCd { application: String::new() };
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

/// Who owns some labels of an object: who owns it all, else a Git controller that has itself set one of them. It makes a namespace in
/// passing, and looks after just those labels that it writes.
pub fn owner_of_labels(object: &Value, keys: &[&str]) -> Owner {
    let owner = owner_of(object);
    if !owner.is_ours_to_write() {
        return owner;
    }
    let sets = |prefix: &str| {
        managers(&object["metadata"]).any(|entry| {
            let labels = &entry["fieldsV1"]["f:metadata"]["f:labels"];
            entry["manager"].as_str().is_some_and(|found| found.starts_with(prefix))
                && keys.iter().any(|key| labels[format!("f:{key}")].is_object())
        })
    };
    let flux = |kind: &str| Owner::Flux { kind: kind.to_owned(), name: String::new(), namespace: String::new() };
    let of_flux = FLUX.into_iter().find(|(_, _, manager)| sets(manager)).map(|(kind, ..)| flux(kind));
    match of_flux {
        Some(owner) => owner,
        None if sets("flux") => flux("Kustomization"),
        None if sets("argocd-") => Owner::ArgoCd { application: String::new() },
        None => owner,
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

/// Flux's kinds, the prefix of the labels that each leaves, and its controller's name as a field manager.
const FLUX: [(&str, &str, &str); 2] = [
    ("Kustomization", "kustomize.toolkit.fluxcd.io", "kustomize-controller"),
    ("HelmRelease", "helm.toolkit.fluxcd.io", "helm-controller"),
];

/// Whether a controller whose name begins so has written the object itself. That says nothing of a namespace: controllers make
/// those in passing, for what they put into them, and leave their labels alone.
fn is_manager(object: &Value, name: &str) -> bool {
    object["kind"] != "Namespace" && has_manager(&object["metadata"], |manager| manager.starts_with(name))
}

fn has_manager(metadata: &Value, is_wanted: impl Fn(&str) -> bool) -> bool {
    managers(metadata).filter_map(|entry| entry["manager"].as_str()).any(is_wanted)
}

/// Field managers, but for those who write only the status: they own nothing.
fn managers(metadata: &Value) -> impl Iterator<Item = &Value> {
    let managers = metadata["managedFields"].as_array().into_iter().flatten();
    managers.filter(|entry| entry["subresource"].as_str().is_none_or(str::is_empty))
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
    fn git_controllers_are_known_by_their_field_managers_too() {
        let owner = |kind: &str, labels: Value, managers: &[&str]| {
            let fields: Vec<Value> = managers.iter().map(|manager| json!({"manager": manager, "operation": "Apply"})).collect();
            let metadata = json!({"name": "x", "labels": labels, "managedFields": fields});
            owner_of(&json!({"kind": kind, "metadata": metadata})).to_string()
        };
        let instance = || json!({"app.kubernetes.io/instance": "mesh"});
        // The label alone is what every chart sets.
        assert_eq!(owner("Service", instance(), &["kubectl-client-side-apply"]), "nobody known");
        for manager in ["argocd-controller", "argocd-application-controller"] {
            assert_eq!(owner("Service", instance(), &["pilot-discovery", manager]), "Argo CD application mesh");
            assert_eq!(owner("Service", json!({"example.org/app": "mesh"}), &[manager]), "an Argo CD application");
            assert_eq!(owner("Namespace", instance(), &[manager]), "Argo CD application mesh");
            // `CreateNamespace=true` leaves a namespace that Argo CD does not look after.
            assert_eq!(owner("Namespace", json!({}), &[manager]), "nobody known");
        }
        assert_eq!(owner("Service", json!({}), &["kustomize-controller"]), "a Flux Kustomization");
        assert_eq!(owner("Service", json!({}), &["helm-controller"]), "a Flux HelmRelease");
        assert_eq!(owner("Service", json!({}), &["flux-client-side-apply"]), "a Flux Kustomization");
        let kustomization = json!({"kustomize.toolkit.fluxcd.io/name": "mesh", "kustomize.toolkit.fluxcd.io/namespace": "flux"});
        assert_eq!(owner("Service", kustomization, &["kustomize-controller"]), "Flux Kustomization mesh in namespace flux");
        let release = json!({"helm.toolkit.fluxcd.io/name": "mesh", "helm.toolkit.fluxcd.io/namespace": "flux"});
        assert_eq!(owner("Service", release, &["helm-controller"]), "Flux HelmRelease mesh in namespace flux");
        let status_only = json!({"name": "x", "managedFields": [{"manager": "argocd-controller", "subresource": "status"}]});
        assert_eq!(owner_of(&json!({"kind": "Service", "metadata": status_only})), Owner::Nobody);
    }

    #[test]
    fn a_label_of_a_namespace_belongs_to_the_git_controller_that_sets_it() {
        let namespace = |manager: &str, label: &str| {
            let fields = json!({"f:metadata": {"f:labels": {format!("f:{label}"): {}}}});
            json!({"kind": "Namespace", "metadata": {"name": "shop", "managedFields": [{"manager": manager, "operation": "Apply", "fieldsV1": fields}]}})
        };
        let owner = |manager: &str, label: &str| {
            owner_of_labels(&namespace(manager, label), &["istio.io/rev", "istio-injection"]).to_string()
        };
        assert_eq!(owner("argocd-controller", "istio.io/rev"), "an Argo CD application");
        assert_eq!(owner("kustomize-controller", "istio-injection"), "a Flux Kustomization");
        assert_eq!(owner("helm-controller", "istio.io/rev"), "a Flux HelmRelease");
        for (manager, label) in
            [("argocd-controller", "team"), ("kubectl-client-side-apply", "istio.io/rev"), ("kubectl-mesh", "istio.io/rev")]
        {
            assert_eq!(owner(manager, label), "nobody known", "{manager} {label}");
        }
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
