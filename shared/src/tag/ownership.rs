//! Tags that somebody else owns: who changes them, and how.

use serde_json::{Value, json};

use crate::advice::{Advice, Command, Program};
use crate::change::Change;
use crate::installation::{DEFAULT_VALIDATOR, label, name};
use crate::labels;
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
    Err(Refusal::new(reason, way(owner, first.before.as_ref().unwrap_or(&Value::Null), tag, revision)).with(details))
}

/// How the owner of an object is told to change it.
fn way(owner: &Owner, object: &Value, tag: &str, revision: Option<&str>) -> Advice {
    let target = revision.unwrap_or("REVISION");
    let generate = || Command::mesh_tag("generate").value(tag).flag("--revision", target);
    let upgrade = |release: &str, namespace: &str, values: String| {
        let upgrade = Command::helm("upgrade").value(release).words("CHART").namespace(namespace);
        upgrade.words("--reuse-values").flag("--set", values)
    };
    match (owner, revision) {
        (Owner::Sail { kind, name }, Some(revision)) if kind == "IstioRevisionTag" => Command::kubectl("patch istiorevisiontag")
            .value(name)
            .words("--type=merge")
            .flag("-p", json!({"spec": {"targetRef": {"kind": "IstioRevision", "name": revision}}}).to_string())
            .into(),
        (Owner::Sail { kind, name }, None) if kind == "IstioRevisionTag" => {
            Command::kubectl("delete istiorevisiontag").value(name).into()
        }
        (Owner::Sail { .. }, _) => generate().read_by(Command::kubectl("apply -f -")).into(),
        // The injector without a revision, which a default tag puts out of work: no value of its chart does that.
        (Owner::Helm { release, namespace }, Some(_))
            if label(object, labels::TAG).is_none() && name(object) != DEFAULT_VALIDATOR =>
        {
            Advice::say(format!(
                "{} stays the injector of istio-injection=enabled as long as release {release} -n {namespace} is there; ",
                name(object)
            ))
            .and_say("let namespaces follow a tag of another name: ")
            .and_run(Command::mesh_tag("set TAG").flag("--revision", target))
            .and_say(", then ")
            .and_run(Command::mesh_tag("attach TAG NAMESPACE --overwrite"))
        }
        (Owner::Helm { release, namespace }, _) if name(object) == DEFAULT_VALIDATOR => {
            Advice::run(upgrade(release, namespace, format!("defaultRevision={target}"))).and_say(", then this command again")
        }
        (Owner::Helm { release, namespace }, Some(_)) => Advice::say(format!(
            "take {tag} out of revisionTags of release {release}, and put it into the release of revision {target}: "
        ))
        .and_run(
            Command::helm("upgrade RELEASE CHART")
                .namespace(namespace)
                .words("--reuse-values")
                .flag("--set", format!("revisionTags={{{tag}}}")),
        ),
        (Owner::Helm { release, namespace }, None) => upgrade(release, namespace, "revisionTags=null".to_owned()).into(),
        (owner @ (Owner::ArgoCd { .. } | Owner::Flux { .. }), _) => {
            let source = match owner {
                Owner::ArgoCd { application } if !application.is_empty() => format!("Argo CD application {application}"),
                Owner::Flux { kind, name, namespace } if !name.is_empty() => format!("Flux {kind} {name} -n {namespace}"),
                _ => format!("{owner}, whose label the object does not have"),
            };
            Advice::say(format!("change it in the source of {source}; ")).and_run(generate()).and_say(" prints the objects")
        }
        (Owner::Aks, _) => Advice::run(Command::new(Program::Other("az"), "aks mesh upgrade --help"))
            .and_say(": the AKS add-on changes its own objects"),
        (Owner::Controller { kind, name, .. }, _) => Advice::say(format!("change {kind} {name}, which owns it")),
        (Owner::Istioctl | Owner::IstioctlTag | Owner::Mesh | Owner::Nobody, _) => Advice::none(),
    }
}

/// The Sail operator's own form of a tag (sailoperator.io/v1 `IstioRevisionTag`).
pub(super) fn sail_form(tag: &str, revision: &str) -> Value {
    json!({
        "apiVersion": "sailoperator.io/v1", "kind": "IstioRevisionTag", "metadata": {"name": tag},
        "spec": {"targetRef": {"kind": "IstioRevision", "name": revision}},
    })
}
