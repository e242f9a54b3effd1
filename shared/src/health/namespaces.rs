//! What is odd about namespaces: the labels by which they ask for proxies, and whether those who serve them look at them at all.

use crate::advice::{Advice, Command};
use crate::control_plane::{ControlPlane, Read};
use crate::finding::{Code, Finding, Severity};
use crate::injection::{answering_revision, control_plane};
use crate::injector::{Injector, Match};
use crate::labels;
use crate::object::{Labels, Lookup};
use crate::snapshot::Snapshot;

/// All of it.
pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, labels) in &snapshot.namespaces {
        findings.extend(asking_labels(snapshot, name, labels));
        findings.extend(ambient_and_injection(snapshot, name, labels));
        let serving = snapshot.injectors.iter().filter(|injector| injector.matches(labels, &Labels::default()) == Match::Yes);
        findings.extend(serving.filter_map(|injector| undiscovered_by(snapshot, name, injector)));
    }
    findings
}

/// What is odd about the labels by which a namespace asks for injection.
fn asking_labels(snapshot: &Snapshot, name: &str, namespace: &Labels) -> Option<Finding> {
    let label = || Command::kubectl("label namespace").value(name);
    let (injection, revision) = (namespace.value(labels::INJECTION), namespace.value(labels::REVISION));
    let finding = |code, message, advice: Advice| {
        Some(Finding { severity: Severity::Warning, code, subject: subject(name), message, advice })
    };
    match (injection, revision) {
        (Some("enabled"), Some(revision)) => finding(
            Code::BothLabels,
            format!("{}=enabled is stronger than {}={revision}", labels::INJECTION, labels::REVISION),
            label().value(format!("{}-", labels::INJECTION)).into(),
        ),
        // Without the first label the second one switches injection on.
        (Some(injection), Some(revision)) => finding(
            Code::BothLabels,
            format!(
                "{}={injection} is stronger than {}={revision}: nothing is injected, and would be without the first label",
                labels::INJECTION,
                labels::REVISION
            ),
            Advice::run(label().value(format!("{}-", labels::REVISION))).and_say(" keeps it so with one label"),
        ),
        (None, Some("")) => finding(
            Code::EmptyRevision,
            format!("its label {} is empty: nothing is injected", labels::REVISION),
            label().value(format!("{}=REVISION", labels::REVISION)).words("--overwrite").into(),
        ),
        (None, Some(revision)) if !is_served(snapshot, namespace) => {
            let asked = format!("{}={revision}", labels::REVISION);
            let (message, advice) = excluded(snapshot, name, namespace, labels::REVISION, &asked).unwrap_or_else(|| {
                let advice = label().value(format!("{}=REVISION", labels::REVISION)).words("--overwrite");
                let advice = Advice::run(advice).and_say(", with a revision or tag that is here");
                (format!("no injector serves {asked}: new pods get no proxy"), advice)
            });
            finding(Code::NoInjector, message, advice)
        }
        (Some("enabled"), None) if !is_served(snapshot, namespace) => {
            let asked = format!("{}=enabled", labels::INJECTION);
            let (message, advice) = excluded(snapshot, name, namespace, labels::INJECTION, &asked).unwrap_or_else(|| {
                let advice = label().value(format!("{}-", labels::INJECTION)).value(format!("{}=REVISION", labels::REVISION));
                (format!("no injector serves {asked}: new pods get no proxy"), advice.into())
            });
            finding(Code::NoInjector, message, advice)
        }
        _ => None,
    }
}

/// What keeps a namespace out whose label an injector does ask for: another term of its selector.
fn excluded(snapshot: &Snapshot, name: &str, namespace: &Labels, asked_key: &str, asked: &str) -> Option<(String, Advice)> {
    let (injector, keys) = snapshot.injectors.iter().find_map(|injector| {
        let keys = injector.excluded_by(namespace, asked_key);
        (!keys.is_empty()).then_some((injector, keys))
    })?;
    let (there, lacking): (Vec<&str>, Vec<&str>) = keys.into_iter().partition(|key| namespace.value(key).is_some());
    let configuration = &injector.configuration;
    let get = Command::kubectl("get mutatingwebhookconfiguration").value(configuration).words("-o yaml");
    let shown = Advice::run(get).and_say(" shows its namespaceSelector");
    let told =
        |cause: String| format!("{configuration} would serve {asked}, but excludes the namespace {cause}: new pods get no proxy");
    if there.is_empty() {
        let cause = format!("for want of the label {}", lacking.join(", "));
        return Some((told(cause), shown));
    }
    let with_values: Vec<String> =
        there.iter().map(|key| format!("{key}={}", namespace.value(key).unwrap_or_default())).collect();
    let remove =
        there.iter().fold(Command::kubectl("label namespace").value(name), |command, key| command.value(format!("{key}-")));
    let advice = Advice::say("if nothing else needs that label: ").and_run(remove).and_say("; ").and(shown);
    Some((told(format!("by its label {}", with_values.join(", "))), advice))
}

/// Whether some injector would be asked about a pod that says nothing itself.
fn is_served(snapshot: &Snapshot, namespace: &Labels) -> bool {
    snapshot.injectors.iter().any(|injector| injector.matches(namespace, &Labels::default()) != Match::No)
}

/// Ambient mode leaves out pods that have a sidecar (cni/pkg/util/podutil.go, `PodRedirectionEnabled`).
fn ambient_and_injection(snapshot: &Snapshot, name: &str, namespace: &Labels) -> Option<Finding> {
    let is_ambient = namespace.value(labels::DATAPLANE_MODE) == Some("ambient");
    let is_injected = snapshot.injectors.iter().any(|injector| injector.matches(namespace, &Labels::default()) == Match::Yes);
    (is_ambient && is_injected).then(|| {
        let label = Command::kubectl("label namespace").value(name);
        Finding {
            severity: Severity::Warning,
            code: Code::AmbientAndInjection,
            subject: subject(name),
            message: format!(
                "it asks for ambient mode ({}=ambient) and for sidecars: new pods get a sidecar, and ztunnel leaves them out",
                labels::DATAPLANE_MODE
            ),
            advice: Advice::say("decide for one: ")
                .and_run(label.value(format!("{}-", labels::DATAPLANE_MODE)))
                .and_say(" for sidecars, or take away the label that asks for injection"),
        }
    })
}

fn undiscovered_by(snapshot: &Snapshot, name: &str, injector: &Injector) -> Option<Finding> {
    let revision = answering_revision(snapshot, injector).ok()?;
    let control_plane = control_plane(snapshot, injector, &revision).ok()??;
    undiscovered(name, snapshot.namespaces.get(name)?, control_plane)
}

/// That a control plane does not look at a namespace: what is injected there gets no configuration, and never becomes ready. A dry run of a
/// pod cannot show it.
pub fn undiscovered(name: &str, namespace: &impl Lookup, control_plane: &ControlPlane) -> Option<Finding> {
    let Read::Known(mesh) = &control_plane.mesh_config else { return None };
    if mesh.discovers(namespace) != Ok(false) {
        return None;
    }
    let revision = &control_plane.revision;
    let advice = match mesh.discovering_labels() {
        Some(wanted) => {
            let label = Command::kubectl("label namespace").value(name);
            let label = wanted.iter().fold(label, |command, (key, value)| command.value(format!("{key}={value}")));
            Advice::run(label.words("--overwrite")).and_say(", before any pod there is restarted")
        }
        None => "give the namespace the labels that discoverySelectors of the mesh configuration ask for, before any pod there is restarted".into(),
    };
    Some(Finding {
        severity: Severity::Error,
        code: Code::NotDiscovered,
        subject: subject(name),
        message: format!(
            "revision {revision} does not discover it: no discoverySelectors select it, so new proxies of {revision} there get no configuration and never become ready"
        ),
        advice,
    })
}

fn subject(namespace: &str) -> String {
    format!("namespaces/{namespace}")
}
