//! Why a workload is not in the mesh: what a user sees who asks why it has no proxy.

use crate::injection::{Declined, Doubt, Injected, Injection, Refused};
use crate::labels;
use crate::object::{Lookup, Resource};
use crate::snapshot::Snapshot;
use crate::verdict::derived_injection;
use crate::workload::Workload;

/// Why a workload has no proxy and would get none, in words: the label or the rule that decides.
pub fn why_outside(snapshot: &Snapshot, workload: &Workload) -> String {
    let (template, namespace) = (&workload.template, &workload.id.namespace);
    let denies = |value: Option<&str>| value == Some("false");
    if denies(template.labels.value(labels::INJECT)) {
        return format!("its pod label {}=false", labels::INJECT);
    }
    match derived_injection(snapshot, workload) {
        Injection::Declined(Declined { why, .. }) | Injection::Refused(Refused { why, .. }) => why,
        Injection::Unknown(Doubt { why, .. }) => format!("whether it would get a proxy is unknown: {why}"),
        Injection::Injected(Injected { revision, .. }) => format!("its new pods would get a proxy of revision {revision}"),
        Injection::NoInjector => no_injector(snapshot, workload, namespace),
    }
}

/// Which label would make an injector match, or why the one that is there does not.
fn no_injector(snapshot: &Snapshot, workload: &Workload, namespace: &str) -> String {
    let labels_of = snapshot.namespaces.get(namespace);
    let of_namespace = |key: &str| labels_of.and_then(|labels| labels.value(key)).map(str::to_owned);
    let of_pods = workload.template.labels.value(labels::REVISION);
    let is_allowed = workload.template.labels.value(labels::INJECT) == Some("true");
    match (of_namespace(labels::INJECTION), of_namespace(labels::REVISION), of_pods) {
        _ if labels_of.is_none() && snapshot.unread(Resource::Namespaces, namespace).is_some() => {
            format!("the labels of namespace {namespace} could not be read")
        }
        (Some(value), ..) if value != "enabled" => {
            format!("namespace {namespace} has the label {}={value}", labels::INJECTION)
        }
        (Some(value), ..) => format!("no injector answers to the label {}={value} of namespace {namespace}", labels::INJECTION),
        (None, Some(revision), _) => {
            format!("no injector answers to the label {}={revision} of namespace {namespace}", labels::REVISION)
        }
        (None, None, Some(revision)) => format!("no injector answers to its pod label {}={revision}", labels::REVISION),
        (None, None, None) if is_allowed => format!("no injector answers to its pod label {}=true", labels::INJECT),
        (None, None, None) => {
            format!("namespace {namespace} has neither the label {}=enabled nor {}", labels::INJECTION, labels::REVISION)
        }
    }
}
