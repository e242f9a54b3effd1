//! The health of what injects: injectors nobody answers, tags that point two ways, namespaces that nobody serves.

use std::collections::BTreeSet;

use crate::advice::{Advice, Command};
use crate::control_plane::{Read, UNREVISIONED};
use crate::finding::{Code, Finding, Severity};
use crate::injection::answering_revision;
use crate::injector::{FailurePolicy, Injector, Match, Target};
use crate::labels;
use crate::object::{Labels, Lookup, Resource};
use crate::snapshot::{Snapshot, UnreadCause};

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
        for (name, labels) in &snapshot.namespaces {
            findings.extend(namespace_labels(snapshot, name, labels));
        }
    }
    for control_plane in &snapshot.control_planes {
        if let Read::Broken(why) = &control_plane.injector_config {
            findings.push(Finding {
                severity: Severity::Error,
                code: Code::InjectorConfig,
                subject: format!("configmaps -n {}", control_plane.namespace),
                message: format!("the injector ConfigMap of revision {} cannot be read: {why}", control_plane.revision),
                advice: Command::kubectl("")
                    .namespace(&control_plane.namespace)
                    .words("get configmap")
                    .flag("-l", format!("{}={}", labels::REVISION, control_plane.revision))
                    .words("-o yaml")
                    .into(),
            });
        }
    }
    findings.extend(
        snapshot.unread.iter().filter(|unread| unread.cause == UnreadCause::NotInFile).map(|unread| not_in_file(unread.resource)),
    );
    findings.sort();
    findings.dedup();
    findings
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

/// What is odd about the labels by which a namespace asks for injection.
fn namespace_labels(snapshot: &Snapshot, name: &str, namespace: &Labels) -> Option<Finding> {
    let label = || Command::kubectl("label namespace").value(name);
    let (injection, revision) = (namespace.value(labels::INJECTION), namespace.value(labels::REVISION));
    let finding = |code, message, advice: Advice| {
        Some(Finding { severity: Severity::Warning, code, subject: format!("namespaces/{name}"), message, advice })
    };
    match (injection, revision) {
        (Some(injection), Some(revision)) => finding(
            Code::BothLabels,
            format!("{}={injection} is stronger than {}={revision}", labels::INJECTION, labels::REVISION),
            label().value(format!("{}-", labels::INJECTION)).into(),
        ),
        (None, Some("")) => finding(
            Code::EmptyRevision,
            format!("its label {} is empty: nothing is injected", labels::REVISION),
            label().value(format!("{}=REVISION", labels::REVISION)).words("--overwrite").into(),
        ),
        (None, Some(revision)) if !is_served(snapshot, namespace) => finding(
            Code::NoInjector,
            format!("no injector serves {}={revision}: new pods get no proxy", labels::REVISION),
            Advice::run(label().value(format!("{}=REVISION", labels::REVISION)).words("--overwrite"))
                .and_say(", with a revision or tag that is here"),
        ),
        (Some("enabled"), None) if !is_served(snapshot, namespace) => finding(
            Code::NoInjector,
            format!("no injector serves {}=enabled: new pods get no proxy", labels::INJECTION),
            label().value(format!("{}-", labels::INJECTION)).value(format!("{}=REVISION", labels::REVISION)).into(),
        ),
        _ => None,
    }
}

/// Whether some injector would be asked about a pod that says nothing itself.
fn is_served(snapshot: &Snapshot, namespace: &Labels) -> bool {
    snapshot.injectors.iter().any(|injector| injector.matches(namespace, &Labels::default()) != Match::No)
}

fn not_in_file(resource: Resource) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: Code::NotInFile,
        subject: resource.to_string(),
        message: format!("the input has no {resource}, so what depends on them is unknown"),
        advice: Advice::run(Command::kubectl("get").value(resource.to_string()).words("-A -o json"))
            .and_say(", and give that file too with -f"),
    }
}

/// The command that lets a tag point to a revision, whatever it points to now.
pub(crate) fn repoint(tag: &str, revision: &str) -> Command {
    Command::mesh_tag("set").value(tag).flag("--revision", revision).words("--overwrite")
}

fn subject(injector: &Injector) -> String {
    format!("{}/{}", Resource::MutatingWebhookConfigurations.plural(), injector.configuration)
}
