//! Tags that somebody else owns: who changes them, and how.

use serde_json::{Value, json};

use crate::change::Change;
use crate::installation::{DEFAULT_VALIDATOR, name};
use crate::owner::{Owner, owner_of};
use crate::refusal::Refusal;

/// Refuses when one of the objects to be changed belongs to somebody who would revert it. `revision` is where the tag is to
/// point; `None` when it is to go.
pub(super) fn check(changes: &[Change], tag: &str, revision: Option<&str>) -> Result<(), Refusal> {
    let owned = changes.iter().filter_map(|change| {
        let owner = owner_of(change.before.as_ref()?);
        (change.action() != crate::change::Action::None && !owner.is_ours_to_write()).then_some((change, owner))
    });
    let owned: Vec<_> = owned.collect();
    let Some((first, owner)) = owned.first() else { return Ok(()) };
    let details = owned.iter().map(|(change, owner)| format!("{} belongs to {owner}", change.subject)).collect();
    let reason = format!("tag {tag} is not ours to change: its owner would put it back");
    Err(Refusal::new(reason, way(owner, name(first.before.as_ref().unwrap_or(&Value::Null)), tag, revision)).with(details))
}

/// How the owner of an object is told to change it.
fn way(owner: &Owner, object: &str, tag: &str, revision: Option<&str>) -> String {
    let target = revision.unwrap_or("REVISION");
    match (owner, revision) {
        (Owner::Sail { kind, name }, Some(revision)) if kind == "IstioRevisionTag" => format!(
            "kubectl patch istiorevisiontag {name} --type=merge -p '{}'",
            json!({"spec": {"targetRef": {"kind": "IstioRevision", "name": revision}}})
        ),
        (Owner::Sail { kind, name }, None) if kind == "IstioRevisionTag" => format!("kubectl delete istiorevisiontag {name}"),
        (Owner::Sail { .. }, _) => format!("kubectl mesh-tag generate {tag} --revision {target} | kubectl apply -f -"),
        (Owner::Helm { release, namespace }, _) if object == DEFAULT_VALIDATOR => format!(
            "helm upgrade {release} CHART -n {namespace} --reuse-values --set defaultRevision={target}, then this command again"
        ),
        (Owner::Helm { release, namespace }, Some(_)) => format!(
            "take {tag} out of revisionTags of release {release}, and put it into the release of revision {target}: helm upgrade RELEASE CHART -n {namespace} --reuse-values --set 'revisionTags={{{tag}}}'"
        ),
        (Owner::Helm { release, namespace }, None) => {
            format!("helm upgrade {release} CHART -n {namespace} --reuse-values --set revisionTags=null")
        }
        (Owner::ArgoCd { application }, _) if !application.is_empty() => format!(
            "change it in the source of Argo CD application {application}; kubectl mesh-tag generate {tag} --revision {target} prints the objects"
        ),
        (Owner::Flux { kind, name, namespace }, _) if !name.is_empty() => format!(
            "change it in the source of Flux {kind} {name} -n {namespace}; kubectl mesh-tag generate {tag} --revision {target} prints the objects"
        ),
        (owner @ (Owner::ArgoCd { .. } | Owner::Flux { .. }), _) => format!(
            "change it in the source of {owner}, whose label the object does not have; kubectl mesh-tag generate {tag} --revision {target} prints the objects"
        ),
        (Owner::Aks, _) => "az aks mesh upgrade --help: the AKS add-on changes its own objects".to_owned(),
        (Owner::Controller { kind, name, .. }, _) => format!("change {kind} {name}, which owns it"),
        (Owner::Istioctl | Owner::IstioctlTag | Owner::Mesh | Owner::Nobody, _) => String::new(),
    }
}

/// The Sail operator's own form of a tag (sailoperator.io/v1 `IstioRevisionTag`).
pub(super) fn sail_form(tag: &str, revision: &str) -> Value {
    json!({
        "apiVersion": "sailoperator.io/v1", "kind": "IstioRevisionTag", "metadata": {"name": tag},
        "spec": {"targetRef": {"kind": "IstioRevision", "name": revision}},
    })
}
