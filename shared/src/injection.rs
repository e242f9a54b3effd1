//! Which proxy a new pod would get: the heart of every verdict.
//!
//! Three steps, each as the real ones do it: the API server asks the injectors whose selectors match
//! ([`Injector::matches`]); the istiod that answers decides once more (`declines`); then it composes the image
//! ([`Injected::image`]). Sources: pkg/kube/inject/inject.go and webhook.go, pilot/pkg/model/proxy_config.go.

mod gateway;
mod image;
mod refusal;

use crate::control_plane::{ControlPlane, Read, Readiness, UNREVISIONED};
use crate::finding::Code;
use crate::injector::{FailurePolicy, Injector, Match, Target};
use crate::injector_config::{InjectorConfig, Policy, Template as InjectionTemplate};
use crate::labels;
use crate::object::{LabelSelector, Resource};
use crate::platform;
use crate::snapshot::{Snapshot, UnreadCause};
use crate::state::Reason;
use crate::template::Template;
use crate::version::Version;

pub use gateway::gateway_owner;
pub(crate) use gateway::overlaid_image;
pub(crate) use refusal::is_checked;
pub use refusal::newly_refused;

/// Namespaces in which istiod never injects (`IgnoredNamespaces`, pkg/kube/inject/initializer.go).
const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Whether istiod never injects into pods of this namespace, whatever its labels say.
pub fn is_never_injected(namespace: &str) -> bool {
    IGNORED_NAMESPACES.contains(&namespace)
}

/// What a new pod would get.
#[derive(Clone, Debug, PartialEq)]
pub enum Injection {
    /// A proxy.
    Injected(Injected),
    /// No proxy, because no injector is asked.
    NoInjector,
    /// No proxy, although an injector is asked: it declines, or it cannot be reached and that is ignored.
    Declined(Declined),
    /// The pod would be refused.
    Refused(Refused),
    /// Cannot be said.
    Unknown(Doubt),
}

/// The proxy that would be injected.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The revision that injects.
    pub revision: String,
    /// The tag through which it is asked.
    pub tag: Option<String>,
    /// The configuration that asks it.
    pub injector: String,
    /// The image, or why it cannot be said.
    pub image: Result<String, Doubt>,
    /// What of the workload fixes the image, if anything does.
    pub pin: Option<Pin>,
    /// Whether it is to be a native sidecar, where the pod says so itself; otherwise istiod's settings and the nodes
    /// decide.
    pub native: Option<bool>,
}

/// What fixes an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The annotation `sidecar.istio.io/proxyImage`.
    Annotation,
    /// A container `istio-proxy` of the workload's own, with an image other than `auto`.
    Container,
}

/// Why an injector that is asked adds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The configuration that asks.
    pub injector: String,
    /// The rule, in words.
    pub why: String,
    /// Whether it is because nobody answers.
    pub is_unreachable: bool,
}

/// Why a pod would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The configuration that asks.
    pub injector: String,
    /// The revision that does not answer.
    pub revision: Option<String>,
    /// The cause, in words.
    pub why: String,
    /// Whether the cause is that nobody answers (rather than that the answer is an error).
    pub is_unreachable: bool,
    /// What stands between the injector and its istiod, where that is the cause and it is known.
    pub fault: Option<Code>,
}

/// Why something cannot be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The stable code.
    pub reason: Reason,
    /// In words.
    pub why: String,
}

impl Doubt {
    pub(crate) fn new(reason: Reason, why: impl Into<String>) -> Doubt {
        Doubt { reason, why: why.into() }
    }

    /// A list that could not be read.
    pub(crate) fn unread(cause: &UnreadCause, resource: Resource) -> Doubt {
        match cause {
            UnreadCause::Forbidden => Doubt::new(Reason::Forbidden, format!("{resource} cannot be listed")),
            UnreadCause::NotInFile => Doubt::new(Reason::NotInFile, format!("the input has no {resource}")),
            UnreadCause::PartlyInFile(why) => Doubt::new(Reason::NotInFile, format!("{resource} are not all known: {why}")),
            UnreadCause::Failed(why) => Doubt::new(Reason::Forbidden, format!("{resource} could not be read: {why}")),
        }
    }
}

/// Decides for pods made from this template in this namespace.
pub fn injection(snapshot: &Snapshot, namespace: &str, template: &Template) -> Injection {
    let asked = match asked_injectors(snapshot, namespace, template) {
        Ok(asked) => asked,
        Err(doubt) => return Injection::Unknown(doubt),
    };
    let Answer { asked, revision, control_plane } = match answer(snapshot, &asked) {
        Ok(Some(answer)) => answer,
        Ok(None) => return Injection::NoInjector,
        Err(other) => return *other,
    };
    let config = match injector_config(control_plane, &revision) {
        Ok(config) => config,
        Err(doubt) => return without_config(asked, revision, namespace, template, doubt),
    };
    match declines(control_plane, config, namespace, template) {
        Ok(None) => {}
        Ok(Some(why)) => {
            return Injection::Declined(Declined { injector: asked.configuration.clone(), why, is_unreachable: false });
        }
        Err(doubt) => return Injection::Unknown(doubt),
    }
    let refused = |why| {
        Injection::Refused(Refused {
            injector: asked.configuration.clone(),
            revision: Some(revision.clone()),
            why,
            is_unreachable: false,
            fault: None,
        })
    };
    match refusal::of_annotations(control_plane, template) {
        Ok(None) => {}
        Ok(Some(why)) => return refused(why),
        Err(doubt) => return Injection::Unknown(doubt),
    }
    let templates = match usable_templates(config, template) {
        Ok(templates) => templates,
        Err(why) => return refused(why),
    };
    if templates.iter().all(|template| *template == InjectionTemplate::Neutral) {
        let why = "its injection templates add no proxy".to_owned();
        return Injection::Declined(Declined { injector: asked.configuration.clone(), why, is_unreachable: false });
    }
    let (image, pin) = image::image(snapshot, control_plane, config, &templates, namespace, template);
    Injection::Injected(Injected {
        revision,
        tag: asked.tag.clone(),
        injector: asked.configuration.clone(),
        image,
        pin,
        native: template.annotation(labels::NATIVE_SIDECAR).and_then(|native| native.parse().ok()),
    })
}

/// The injectors that the API server would ask, in its order.
pub(crate) fn asked_injectors<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    template: &Template,
) -> Result<Vec<&'a Injector>, Doubt> {
    if let Some(unread) = snapshot.unread(Resource::MutatingWebhookConfigurations, "") {
        return Err(Doubt::unread(&unread.cause, unread.resource));
    }
    let Some(namespace_labels) = snapshot.namespaces.get(namespace) else {
        return Err(match snapshot.unread(Resource::Namespaces, namespace) {
            Some(unread) => Doubt::unread(&unread.cause, unread.resource),
            None => Doubt::new(Reason::NotInFile, format!("namespace {namespace} was not read")),
        });
    };
    let mut asked: Vec<&Injector> = Vec::new();
    let mut doubt = None;
    for injector in &snapshot.injectors {
        match injector.matches(namespace_labels, &template.labels) {
            Match::Yes => asked.push(injector),
            Match::No => {}
            Match::Conditions => {
                let why = format!("matchConditions of {} decide", injector.configuration);
                doubt = Some(Doubt::new(Reason::MatchConditions, why));
            }
            Match::UnknownOperator(operator) => {
                let why = format!("a selector of {} has the unknown operator {:?}", injector.configuration, operator.0);
                doubt = Some(Doubt::new(Reason::Selector, why));
            }
        }
    }
    doubt.map_or(Ok(asked), Err)
}

/// Whether one control plane answers for all of these: who is asked last then changes nothing.
pub fn lead_to_one_istiod(snapshot: &Snapshot, injectors: &[&Injector]) -> bool {
    matches!(answer(snapshot, injectors), Ok(Some(_)))
}

/// Who answers for the injectors that are asked.
struct Answer<'a> {
    asked: &'a Injector,
    revision: String,
    control_plane: Option<&'a ControlPlane>,
}

/// The one istiod that all injectors lead to. Where each of them is answered by another, the last one wins and nobody meant that: a
/// doubt. One that cannot be reached refuses the pod, or is passed over.
fn answer<'a>(snapshot: &'a Snapshot, asked: &[&'a Injector]) -> Result<Option<Answer<'a>>, Box<Injection>> {
    let mut answers: Vec<Answer<'a>> = Vec::new();
    let mut unreachable_one = None;
    for asked in asked {
        match answering_revision(snapshot, asked) {
            Ok(revision) => match control_plane(snapshot, asked, &revision) {
                Ok(control_plane) => answers.push(Answer { asked, revision, control_plane }),
                Err(doubt) => return Err(Box::new(Injection::Unknown(doubt))),
            },
            Err(fault) => match unreachable(asked, fault) {
                refused @ Injection::Refused(_) => return Err(Box::new(refused)),
                passed_over => unreachable_one = Some(passed_over),
            },
        }
    }
    let place = |answer: &Answer<'_>| {
        (answer.control_plane.map(|control_plane| control_plane.namespace.clone()), answer.revision.clone())
    };
    let mut places: Vec<_> = answers.iter().map(place).collect();
    places.dedup();
    if places.len() > 1 {
        let mut configurations: Vec<_> = answers.iter().map(|answer| answer.asked.configuration.as_str()).collect();
        configurations.dedup();
        let why = format!("several injectors match, and another control plane answers for each: {}", configurations.join(", "));
        return Err(Box::new(Injection::Unknown(Doubt::new(Reason::ManyInjectors, why))));
    }
    match (answers.pop(), unreachable_one) {
        (Some(answer), _) => Ok(Some(answer)),
        (None, Some(passed_over)) => Err(Box::new(passed_over)),
        (None, None) => Ok(None),
    }
}

/// What is wrong with the way to an injector's istiod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code of the finding.
    pub code: Code,
    /// In words.
    pub why: String,
    /// The revision that should answer, where known.
    pub revision: Option<String>,
}

/// The revision whose istiod answers for an injector: that of the Service, or the label's where the Service is
/// elsewhere or cannot be seen.
pub fn answering_revision(snapshot: &Snapshot, injector: &Injector) -> Result<String, Fault> {
    let by_label = injector.revision.clone();
    let fault = |code, why| Fault { code, why, revision: by_label.clone() };
    let revision = by_label.clone().unwrap_or_else(|| UNREVISIONED.to_owned());
    let Target::Service(service) = &injector.target else { return Ok(revision) };
    if injector.ca_bundle.is_none() {
        return Err(fault(Code::NoCaBundle, "it has no caBundle: the API server cannot verify its istiod".to_owned()));
    }
    let Some(facts) = snapshot.services.get(&(service.namespace.clone(), service.name.clone())) else {
        if snapshot.unread(Resource::Services, &service.namespace).is_some() {
            return match snapshot.readiness(&revision) {
                Readiness::NotReady => Err(fault(Code::NoEndpoints, format!("revision {revision} has no ready control plane"))),
                _ => Ok(revision),
            };
        }
        return Err(fault(Code::NoService, format!("service {} -n {} does not exist", service.name, service.namespace)));
    };
    let revision = facts.revision.clone().unwrap_or(revision);
    if facts.is_external {
        return Ok(revision);
    }
    let readiness = match facts.readiness {
        Readiness::Unknown => snapshot.readiness(&revision),
        known => known,
    };
    match readiness {
        Readiness::NotReady => {
            let why = format!("service {} -n {} has no ready endpoints", service.name, service.namespace);
            Err(Fault { code: Code::NoEndpoints, why, revision: Some(revision) })
        }
        _ => Ok(revision),
    }
}

fn unreachable(asked: &Injector, fault: Fault) -> Injection {
    let injector = asked.configuration.clone();
    match asked.failure_policy {
        FailurePolicy::Fail => Injection::Refused(Refused {
            injector,
            revision: fault.revision,
            why: fault.why,
            is_unreachable: true,
            fault: Some(fault.code),
        }),
        FailurePolicy::Ignore => {
            let why = format!("{}, which its failurePolicy ignores", fault.why);
            Injection::Declined(Declined { injector, why, is_unreachable: true })
        }
    }
}

/// The control plane that answers for an injector: the one of the revision in the namespace of its Service. An address elsewhere does
/// not say which it is, if there may be several.
pub(crate) fn control_plane<'a>(
    snapshot: &'a Snapshot,
    asked: &Injector,
    revision: &str,
) -> Result<Option<&'a ControlPlane>, Doubt> {
    let mut control_planes = snapshot.control_planes_of(revision);
    match &asked.target {
        Target::Service(service) => Ok(control_planes.find(|control_plane| control_plane.namespace == service.namespace)),
        Target::Url(_) => {
            let all: Vec<_> = control_planes.collect();
            if all.len() > 1 {
                let namespaces: Vec<_> = all.iter().map(|control_plane| control_plane.namespace.as_str()).collect();
                let namespaces = namespaces.join(", ");
                let why = format!(
                    "{} leads to an address, and the configuration of revision {revision} in each of the namespaces {namespaces} could be meant",
                    asked.configuration
                );
                return Err(Doubt::new(Reason::InjectorConfig, why));
            }
            Ok(all.into_iter().next())
        }
    }
}

fn injector_config<'a>(control_plane: Option<&'a ControlPlane>, revision: &str) -> Result<&'a InjectorConfig, Doubt> {
    let doubt = |why| Err(Doubt::new(Reason::InjectorConfig, why));
    match control_plane.map(|control_plane| &control_plane.injector_config) {
        Some(Read::Known(config)) => Ok(config),
        Some(Read::Broken(why)) => doubt(format!("the injector ConfigMap of {revision}: {why}")),
        Some(Read::Several(names)) => {
            doubt(format!("each of the ConfigMaps {} could be the injector configuration of {revision}", names.join(", ")))
        }
        Some(Read::Unread) => {
            Err(Doubt::new(Reason::Forbidden, format!("the injector ConfigMap of {revision} could not be read")))
        }
        Some(Read::Absent) | None if control_plane.is_some_and(|control_plane| control_plane.is_elsewhere) => {
            let whose = whose_control_plane(revision);
            doubt(format!("{whose} {revision} runs outside of this cluster, and what it injects cannot be read here"))
        }
        Some(Read::Absent) | None => doubt(format!("revision {revision} has no injector ConfigMap here")),
    }
}

/// Whose a control plane is that runs elsewhere, as far as its revision's name tells.
fn whose_control_plane(revision: &str) -> &'static str {
    if platform::Gke::is_revision(revision) { "Google's managed control plane" } else { "the control plane of revision" }
}

/// What can still be said when nobody knows what the answering istiod is configured to inject.
fn without_config(asked: &Injector, revision: String, namespace: &str, template: &Template, doubt: Doubt) -> Injection {
    let injector = asked.configuration.clone();
    if let Some(why) = always_declines(namespace, template) {
        return Injection::Declined(Declined { injector, why, is_unreachable: false });
    }
    if template.label(labels::INJECT).or(template.annotation(labels::INJECT)) != Some("true") {
        return Injection::Unknown(doubt);
    }
    Injection::Injected(Injected {
        revision,
        tag: asked.tag.clone(),
        injector,
        image: Err(doubt),
        pin: None,
        native: template.annotation(labels::NATIVE_SIDECAR).and_then(|native| native.parse().ok()),
    })
}

/// Why istiod adds nothing to a pod that it is asked about, if so. Source: `injectRequired`, pkg/kube/inject/inject.go.
fn declines(
    control_plane: Option<&ControlPlane>,
    config: &InjectorConfig,
    namespace: &str,
    template: &Template,
) -> Result<Option<String>, Doubt> {
    if let Some(why) = always_declines(namespace, template) {
        return Ok(Some(why));
    }
    if config.policy == Policy::Illegal {
        return Ok(Some("the injector's policy is neither enabled nor disabled".to_owned()));
    }
    match wish(template, control_plane.and_then(ControlPlane::version))? {
        Wish::Proxy => return Ok(None),
        Wish::NoProxy => return Ok(Some(format!("{} is not \"true\"", labels::INJECT))),
        Wish::Nothing => {}
    }
    let selects = |selectors: &[LabelSelector]| {
        selectors.iter().any(|selector| !selector.is_empty() && selector.matches(&template.labels) == Ok(true))
    };
    if selects(&config.never) {
        return Ok(Some("neverInjectSelector matches".to_owned()));
    }
    if selects(&config.always) {
        return Ok(None);
    }
    Ok((config.policy == Policy::Disabled).then(|| "the injector's policy is disabled".to_owned()))
}

/// What a pod asks for by `sidecar.istio.io/inject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Proxy,
    NoProxy,
    /// The injector's selectors and policy decide.
    Nothing,
}

/// The pod's wish; its label is stronger than its annotation, whatever it says.
///
/// Values other than `true` and `false` mean something else to each version: until 1.26 the words of YAML for true ask for a
/// proxy and all others for none, from 1.28 on they mean nothing (`injectRequired` of those versions). Which of the two
/// 1.27 does has not been seen.
fn wish(template: &Template, version: Option<Version>) -> Result<Wish, Doubt> {
    let value = template.label(labels::INJECT).or(template.annotation(labels::INJECT)).unwrap_or_default();
    match value {
        "true" => return Ok(Wish::Proxy),
        "false" => return Ok(Wish::NoProxy),
        "" => return Ok(Wish::Nothing),
        _ => {}
    }
    match version.map(|version| version.line()) {
        Some(line) if line >= (1, 28) => Ok(Wish::Nothing),
        Some(line) if line <= (1, 26) => {
            let is_true = ["y", "yes", "true", "on"].contains(&value.to_lowercase().as_str());
            Ok(if is_true { Wish::Proxy } else { Wish::NoProxy })
        }
        _ => {
            let why = format!("versions of Istio differ on {}={value:?}", labels::INJECT);
            Err(Doubt::new(Reason::InjectorConfig, why))
        }
    }
}

/// What makes every istiod decline, however it is configured.
fn always_declines(namespace: &str, template: &Template) -> Option<String> {
    if template.host_network {
        return Some("hostNetwork pods get no sidecar".to_owned());
    }
    if IGNORED_NAMESPACES.contains(&namespace) {
        return Some(format!("nothing is injected in {namespace}"));
    }
    let asked_for = template.label(labels::INJECT).or(template.annotation(labels::INJECT));
    (asked_for == Some("false")).then(|| format!("{} is \"false\"", labels::INJECT))
}

/// The injection templates that a pod names, or the default ones; the error says why istiod refuses the pod (`RunTemplate`,
/// pkg/kube/inject/inject.go).
fn usable_templates(config: &InjectorConfig, template: &Template) -> Result<Vec<InjectionTemplate>, String> {
    let names: Vec<&str> = match template.annotation(labels::INJECT_TEMPLATES) {
        Some(names) => names.split(',').map(str::trim).collect(),
        None => config.default_templates.iter().map(String::as_str).collect(),
    };
    config.resolve_templates(&names).map_err(|unknown| format!("the injection template {unknown:?} does not exist there"))
}
