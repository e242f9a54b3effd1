//! The health of what injects: injectors nobody answers, tags that point two ways, namespaces that nobody serves.

mod namespaces;
mod workloads;

use std::collections::BTreeSet;

use crate::advice::{Advice, Command};
use crate::control_plane::{Read, UNREVISIONED};
use crate::finding::{Code, Finding, Severity};
use crate::injection::answering_revision;
use crate::injector::{FailurePolicy, Injector, Target};
use crate::labels;
use crate::object::Resource;
use crate::snapshot::{Snapshot, UnreadCause};

pub use namespaces::undiscovered;

/// All that is wrong with injectors, tags and namespace labels; sorted.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = snapshot.findings.clone();
    let mut configurations = BTreeSet::new();
    for injector in &snapshot.injectors {
        // The entries of one configuration go to one place: one word about it is enough.
        if configurations.insert((&injector.configuration, &injector.target)) && !injector.is_deactivated() {
            findings.extend(fault_of(snapshot, injector));
            findings.extend(split(snapshot, injector));
        }
    }
    if snapshot.unread(Resource::MutatingWebhookConfigurations, "").is_none() {
        findings.extend(namespaces::findings(snapshot));
        findings.extend(workloads::findings(snapshot));
    }
    for control_plane in &snapshot.control_planes {
        if let Some(why) = unusable(&control_plane.injector_config) {
            findings.push(Finding {
                severity: Severity::Error,
                code: Code::InjectorConfig,
                subject: format!("configmaps -n {}", control_plane.namespace),
                message: format!("the injector ConfigMap of revision {} {why}", control_plane.revision),
                advice: Command::kubectl("")
                    .namespace(&control_plane.namespace)
                    .words("get configmap")
                    .flag("-l", format!("{}={}", labels::REVISION, control_plane.revision))
                    .words("-o yaml")
                    .into(),
            });
        }
    }
    let lacking = snapshot.unread.iter().filter(|unread| unread.cause == UnreadCause::NotInFile);
    findings.extend(not_in_file(&lacking.map(|unread| unread.resource).collect::<Vec<_>>()));
    findings.sort();
    findings.dedup();
    findings
}

/// Why a ConfigMap that is there is of no use.
fn unusable<T>(config: &Read<T>) -> Option<String> {
    match config {
        Read::Broken(why) => Some(format!("cannot be read: {why}")),
        Read::Several(names) => Some(format!("could be each of {}", names.join(", "))),
        Read::Known(_) | Read::Absent | Read::Unread => None,
    }
}

/// What stands between an injector and its istiod.
pub(crate) fn fault_of(snapshot: &Snapshot, injector: &Injector) -> Option<Finding> {
    let fault = answering_revision(snapshot, injector).err()?;
    let consequence = match injector.failure_policy {
        FailurePolicy::Fail => "new pods that it selects are refused",
        FailurePolicy::Ignore => "new pods that it selects get no proxy",
    };
    let revision = fault.revision.as_deref().unwrap_or(UNREVISIONED);
    let advice = match &injector.tag {
        _ if fault.code == Code::NoCaBundle => {
            let get = Command::kubectl("get mutatingwebhookconfiguration").value(&injector.configuration).words("-o yaml");
            Advice::say("its istiod writes the caBundle once it runs and may change it: ")
                .and_run(get)
                .and_say(" shows what is there")
        }
        Some(tag) => Advice::run(repoint(tag, "REVISION")).and_say(", to a revision that is ready"),
        None => Command::kubectl("get deployments,services -A").flag("-l", format!("{}={revision}", labels::REVISION)).into(),
    };
    Some(Finding {
        severity: Severity::Error,
        code: fault.code,
        subject: subject(injector),
        message: format!("{}: {consequence}", fault.why),
        advice,
    })
}

/// A tag whose label and Service name different revisions: the Service answers, the label decides who keeps its
/// certificate fresh.
fn split(snapshot: &Snapshot, injector: &Injector) -> Option<Finding> {
    answers_for_another(snapshot, injector).or_else(|| {
        let (tag, label) = (injector.tag.as_deref()?, injector.revision.as_deref()?);
        let by_service = snapshot.services.values().filter(|facts| facts.tag.as_deref() == Some(tag));
        let other = by_service.filter_map(|facts| facts.revision.as_deref()).find(|revision| *revision != label)?;
        Some(Finding {
            severity: Severity::Error,
            code: Code::Split,
            subject: subject(injector),
            message: format!("the tag's webhook points to revision {label}, its service to {other}: both own its gateways"),
            advice: repoint(tag, label).into(),
        })
    })
}

/// An injector whose label names one revision, and whose Service is another's.
pub(crate) fn answers_for_another(snapshot: &Snapshot, injector: &Injector) -> Option<Finding> {
    let Target::Service(service) = &injector.target else { return None };
    let facts = snapshot.services.get(&(service.namespace.clone(), service.name.clone()))?;
    let (label, answers) = (injector.revision.as_deref()?, facts.revision.as_deref()?);
    let is_here = snapshot.control_planes_of(label).next().is_some();
    let advice = match &injector.tag {
        Some(tag) => repoint(tag, if is_here { label } else { answers }).into(),
        None => "point both to the same revision".into(),
    };
    (label != answers).then(|| Finding {
        severity: Severity::Error,
        code: Code::Split,
        subject: subject(injector),
        message: format!("its label says revision {label}, its service {} belongs to {answers}", service.name),
        advice,
    })
}

/// What files lack. One command collects all of it, so each finding has the same.
fn not_in_file(lacking: &[Resource]) -> impl Iterator<Item = Finding> {
    let mut names: Vec<String> = lacking.iter().map(Resource::to_string).collect();
    names.sort();
    names.dedup();
    let all = names.join(",");
    names.into_iter().map(move |name| Finding {
        severity: Severity::Warning,
        code: Code::NotInFile,
        message: format!("the input has no {name}, so what depends on them is unknown"),
        subject: name,
        advice: Advice::run(Command::kubectl("get").value(all.clone()).words("-A -o json"))
            .and_say(", and give that file too with -f"),
    })
}

/// The command that lets a tag point to a revision, whatever it points to now.
pub(crate) fn repoint(tag: &str, revision: &str) -> Command {
    Command::mesh_tag("set").value(tag).flag("--revision", revision).words("--overwrite")
}

fn subject(injector: &Injector) -> String {
    format!("{}/{}", Resource::MutatingWebhookConfigurations.plural(), injector.configuration)
}
