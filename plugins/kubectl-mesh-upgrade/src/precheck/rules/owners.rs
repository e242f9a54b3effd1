//! Who else writes what an upgrade writes: platforms, and tools that put back what a repository says.

use mesh::advice::{Advice, Command};
use std::collections::BTreeMap;

use mesh::finding::{Code, Finding};
use mesh::labels;
use mesh::owner::{Owner, owner_of, owner_of_labels};
use mesh::platform::{Step, Way};
use serde_json::Value;

use super::webhooks::listed;
use super::workloads::objects;
use crate::precheck::facts::{Facts, List, error, info, label, warning};

/// All of it.
pub fn all(facts: &Facts) -> Vec<Finding> {
    [platforms(facts), namespaces(facts), workloads(facts)].concat()
}

/// A control plane that somebody else owns is upgraded there: see [`mesh::platform`].
fn platforms(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for revision in facts.from().into_iter().chain(facts.to()) {
        let Some(plane) = &revision.control_plane else { continue };
        let subject = format!("revision {}", revision.name);
        match plane.platform.way(Step::Complete, &revision.name) {
            Way::Ours => {}
            Way::Helm { release, namespace } => {
                let message =
                    format!("Helm release {release} in namespace {namespace} owns it: its removal is an uninstall of that");
                findings.push(info(
                    Code::OwnedByHelm,
                    subject,
                    message,
                    Advice::run(Command::mesh_upgrade("complete")).and_say(" runs helm, which has to be installed"),
                ));
            }
            Way::Elsewhere(_) => {
                let Way::Elsewhere(how) = plane.platform.way(Step::Start, &revision.name) else { continue };
                let message = format!(
                    "its control plane belongs to another owner ({}), who installs and removes it",
                    plane.platform.name()
                );
                // The tags, labels and restarts in between are the user's own, so the steps are told, not forbidden, once both are here.
                if facts.target.is_installed {
                    findings.push(warning(Code::OwnedElsewhere, subject, message, how));
                } else {
                    findings.push(error(Code::OwnedElsewhere, subject, message, how));
                }
            }
        }
    }
    findings
}

/// Namespaces whose labels a repository keeps: a label that is set by hand is put back.
fn namespaces(facts: &Facts) -> Vec<Finding> {
    let is_of_mesh = |namespace: &&Value| [labels::REVISION, labels::INJECTION].iter().any(|key| label(namespace, key).is_some());
    let mut by_owner: BTreeMap<Owner, Vec<&str>> = BTreeMap::new();
    for namespace in facts.items(List::Namespaces).iter().filter(is_of_mesh) {
        let owner = owner_of_labels(namespace, &[labels::REVISION, labels::INJECTION]);
        if is_repository(&owner) {
            by_owner.entry(owner).or_default().push(namespace["metadata"]["name"].as_str().unwrap_or_default());
        }
    }
    let finding = |(owner, names): (Owner, Vec<&str>)| {
        let message = format!("{owner} keeps the labels of {}: what is set by hand is put back", listed(&names));
        let advice =
            Advice::say(format!("change the label {} in the repository, or move a tag that they follow", labels::REVISION));
        warning(Code::GitopsNamespace, format!("namespaces/{}", names[0]), message, advice)
    };
    by_owner.into_iter().map(finding).collect()
}

/// Workloads whose template a repository keeps: the restart's annotation may be taken away again, which restarts them once more.
///
/// Argo CD compares only fields that the repository has, so it lets the annotation be, unless it applies server-side with its
/// own schema; Flux's kustomize-controller likewise keeps what others set, unless it is told to force. A Helm release does not look
/// until its next upgrade.
fn workloads(facts: &Facts) -> Vec<Finding> {
    let mut by_owner: BTreeMap<Owner, Vec<String>> = BTreeMap::new();
    for (verdict, object) in objects(facts) {
        let owner = owner_of(object);
        if is_repository(&owner) {
            by_owner.entry(owner).or_default().push(verdict.workload.to_string());
        }
    }
    let finding = |(owner, names): (Owner, Vec<String>)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let message =
            format!("{owner} keeps {}: if it takes a restart's annotation away, they restart once more", listed(&names));
        let advice =
            "let it ignore /spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt (Argo CD: ignoreDifferences)";
        warning(Code::GitopsWorkload, format!("workload {}", names[0]), message, advice)
    };
    by_owner.into_iter().map(finding).collect()
}

fn is_repository(owner: &Owner) -> bool {
    matches!(owner, Owner::ArgoCd { .. } | Owner::Flux { .. })
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Info, Warning};
    use mesh::platform::{Signs, platform_of};
    use mesh::terminal::advisor::Advisor;
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn owned(owner: Owner) -> Facts {
        let mut facts = sample([]);
        let plane = facts.survey.revisions[0].control_plane.as_mut().unwrap();
        let signs = Signs { revision: "1-26-0", namespace: "istio-system", owner: Some(&owner), is_external: false };
        plane.platform = platform_of(signs);
        facts
    }

    #[test]
    fn another_owners_control_plane_is_upgraded_there() {
        let mut sail = owned(Owner::Sail { kind: "IstioRevision".to_owned(), name: "x".to_owned() });
        assert_eq!(brief(&platforms(&sail)), [("owned-elsewhere", Warning)]);
        sail.target.is_installed = false;
        let found = platforms(&sail);
        assert_eq!(brief(&found), [("owned-elsewhere", Error)]);
        assert!(Advisor::default().text(&found[0].advice).contains("spec.version"), "{found:#?}");
        let helm = Owner::Helm { release: "istiod".to_owned(), namespace: "istio-system".to_owned() };
        assert_eq!(brief(&platforms(&owned(helm))), [("owned-by-helm", Info)]);
        assert_eq!(brief(&platforms(&owned(Owner::Istioctl))), []);
    }

    #[test]
    fn labels_that_a_repository_keeps_are_told_once_an_owner() {
        let namespace = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
        let argo = json!({"argocd.argoproj.io/instance": "shop", "istio.io/rev": "prod"});
        let facts = sample([(
            List::Namespaces,
            vec![
                namespace("a", argo.clone()),
                namespace("b", argo),
                namespace("free", json!({"istio.io/rev": "prod"})),
                namespace("outside", json!({"argocd.argoproj.io/instance": "shop"})),
            ],
        )]);
        let found = namespaces(&facts);
        assert_eq!(brief(&found), [("gitops-namespace", Warning)]);
        assert!(found[0].message.contains("labels of a, b:"), "{found:#?}");
    }
}
