//! What is odd about single workloads and the injectors that are asked about them.

use std::collections::BTreeMap;

use super::namespaces::undiscovered;
use crate::advice::{Advice, Command};
use crate::finding::{Code, Finding, Severity};
use crate::injection::{Injection, answering_revision, asked_injectors, control_plane, injection, lead_to_one_istiod};
use crate::injector::Injector;
use crate::labels;
use crate::object::{Lookup, Resource};
use crate::snapshot::Snapshot;
use crate::template::AUTO_IMAGE;
use crate::workload::Workload;

/// All of it.
pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut doubly: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for workload in snapshot.workloads.iter().filter(|workload| workload.gateway.is_none()) {
        findings.extend(image_auto(snapshot, workload));
        let namespace = &*workload.id.namespace;
        let Ok(asked) = asked_injectors(snapshot, namespace, &workload.template) else { continue };
        if let Some(configurations) = several(snapshot, &asked) {
            let namespaces = doubly.entry(configurations).or_default();
            if namespaces.last() != Some(&namespace) {
                namespaces.push(namespace);
            }
        }
        // A pod may ask for itself, in a namespace that does not.
        if let Some(injector) = asked.last()
            && let Ok(revision) = answering_revision(snapshot, injector)
            && let Ok(Some(control_plane)) = control_plane(snapshot, injector, &revision)
        {
            let labels = snapshot.namespaces.get(namespace);
            findings.extend(labels.and_then(|labels| undiscovered(namespace, labels, control_plane)));
        }
    }
    findings.extend(doubly.into_iter().map(|(configurations, namespaces)| doubly_asked(&configurations, &namespaces)));
    findings
}

/// The configurations of several injectors that one istiod answers.
fn several<'a>(snapshot: &Snapshot, asked: &[&'a Injector]) -> Option<Vec<&'a str>> {
    let mut configurations: Vec<&str> = asked.iter().map(|injector| injector.configuration.as_str()).collect();
    configurations.dedup();
    (configurations.len() > 1 && lead_to_one_istiod(snapshot, asked)).then_some(configurations)
}

fn doubly_asked(configurations: &[&str], namespaces: &[&str]) -> Finding {
    let (last, others) = configurations.split_last().map_or(("", &[][..]), |(last, others)| (*last, others));
    Finding {
        severity: Severity::Warning,
        code: Code::InjectorsOverlap,
        subject: format!("{}/{last}", Resource::MutatingWebhookConfigurations.plural()),
        message: format!(
            "{} and {last} ask one istiod about the same pods in {}: each pod is injected twice, with the same proxy",
            others.join(", "),
            namespaces.join(", ")
        ),
        advice: Advice::run(
            Command::kubectl("get mutatingwebhookconfigurations").values(configurations.to_vec()).words("-o yaml"),
        )
        .and_say(": let one of them no longer match"),
    }
}

/// A proxy container whose image an injector is to fill in, where none does: new pods wait for an image of the name `auto`.
///
/// IST0146 and IST0147 of `istioctl analyze` (pkg/config/analysis/analyzers/deployment and injection/injection-image).
fn image_auto(snapshot: &Snapshot, workload: &Workload) -> Option<Finding> {
    let template = &workload.template;
    if template.proxy_image.as_deref() != Some(AUTO_IMAGE) {
        return None;
    }
    let namespace = &*workload.id.namespace;
    let why = match injection(snapshot, namespace, template) {
        Injection::NoInjector => {
            let forbidding = snapshot.namespaces.get(namespace).and_then(|labels| labels.value(labels::INJECTION));
            match forbidding.filter(|value| *value != "enabled") {
                Some(value) => format!("the label {}={value} of the namespace keeps injectors out", labels::INJECTION),
                None => "no injector is asked about them".to_owned(),
            }
        }
        Injection::Declined(declined) => declined.why,
        _ => return None,
    };
    let id = &workload.id;
    Some(Finding {
        severity: Severity::Error,
        code: Code::ImageAuto,
        subject: format!("{} -n {namespace}", id.qualified_name()),
        message: format!(
            "its container istio-proxy has the image auto, which nobody fills in for new pods of {}: {why}; they cannot pull it",
            id.type_name()
        ),
        advice: Advice::run(Command::kubectl("get namespace").value(namespace).words("--show-labels"))
            .and_say(": let an injector select the pods before any restart"),
    })
}
