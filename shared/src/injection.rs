//! Which proxy a new pod would get: the heart of every verdict.
//!
//! Three steps, each as the real ones do it: the API server asks the injectors whose selectors match
//! ([`Injector::matches`]); the istiod that answers decides once more (`declines`); then it composes the image
//! ([`Injected::image`]). Sources: pkg/kube/inject/inject.go and webhook.go, pilot/pkg/model/proxy_config.go.

use crate::control_plane::{ControlPlane, Read, Readiness, UNREVISIONED};
use crate::finding::Code;
use crate::injector::{FailurePolicy, Injector, Match, Target};
use crate::injector_config::{InjectorConfig, Policy, Template as InjectionTemplate, annotated_image};
use crate::labels;
use crate::object::{LabelSelector, Labels, Lookup, ProxyImage, Resource};
use crate::snapshot::{Snapshot, UnreadCause};
use crate::state::Reason;
use crate::template::{Earlier, Template};
use crate::version::Version;

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
    let asked = match asked_injector(snapshot, namespace, template) {
        Ok(Some(injector)) => injector,
        Ok(None) => return Injection::NoInjector,
        Err(doubt) => return Injection::Unknown(doubt),
    };
    let revision = match answering_revision(snapshot, asked) {
        Ok(revision) => revision,
        Err(fault) => return unreachable(asked, fault),
    };
    let control_plane = control_plane(snapshot, asked, &revision);
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
    let templates = match usable_templates(config, template) {
        Ok(templates) => templates,
        Err(why) => {
            return Injection::Refused(Refused {
                injector: asked.configuration.clone(),
                revision: Some(revision),
                why,
                is_unreachable: false,
            });
        }
    };
    if templates.iter().all(|template| *template == InjectionTemplate::Neutral) {
        let why = "its injection templates add no proxy".to_owned();
        return Injection::Declined(Declined { injector: asked.configuration.clone(), why, is_unreachable: false });
    }
    let (image, pin) = image(snapshot, control_plane, config, &templates, namespace, template);
    Injection::Injected(Injected {
        revision,
        tag: asked.tag.clone(),
        injector: asked.configuration.clone(),
        image,
        pin,
        native: template.annotation(labels::NATIVE_SIDECAR).and_then(|native| native.parse().ok()),
    })
}

/// The one injector that the API server would ask; several are a doubt, for the last one wins and nobody meant that.
fn asked_injector<'a>(snapshot: &'a Snapshot, namespace: &str, template: &Template) -> Result<Option<&'a Injector>, Doubt> {
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
    if let Some(doubt) = doubt {
        return Err(doubt);
    }
    let mut configurations: Vec<_> = asked.iter().map(|injector| injector.configuration.as_str()).collect();
    configurations.dedup();
    if configurations.len() > 1 {
        return Err(Doubt::new(Reason::ManyInjectors, format!("several injectors match: {}", configurations.join(", "))));
    }
    Ok(asked.last().copied())
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
        FailurePolicy::Fail => {
            Injection::Refused(Refused { injector, revision: fault.revision, why: fault.why, is_unreachable: true })
        }
        FailurePolicy::Ignore => {
            let why = format!("{}, which its failurePolicy ignores", fault.why);
            Injection::Declined(Declined { injector, why, is_unreachable: true })
        }
    }
}

/// The control plane of a revision; in the namespace of the injector's Service, if the name occurs in several.
fn control_plane<'a>(snapshot: &'a Snapshot, asked: &Injector, revision: &str) -> Option<&'a ControlPlane> {
    let namespace = match &asked.target {
        Target::Service(service) => Some(service.namespace.as_str()),
        Target::Url(_) => None,
    };
    let is_near = |control_plane: &&ControlPlane| namespace.is_none_or(|namespace| control_plane.namespace == namespace);
    snapshot.control_planes_of(revision).find(is_near)
}

fn injector_config<'a>(control_plane: Option<&'a ControlPlane>, revision: &str) -> Result<&'a InjectorConfig, Doubt> {
    match control_plane.map(|control_plane| &control_plane.injector_config) {
        Some(Read::Known(config)) => Ok(config),
        Some(Read::Broken(why)) => {
            Err(Doubt::new(Reason::InjectorConfig, format!("the injector ConfigMap of {revision}: {why}")))
        }
        Some(Read::Unread) => {
            Err(Doubt::new(Reason::Forbidden, format!("the injector ConfigMap of {revision} could not be read")))
        }
        Some(Read::Absent) | None => {
            Err(Doubt::new(Reason::InjectorConfig, format!("revision {revision} has no injector ConfigMap here")))
        }
    }
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
    if let Some(Err(why)) = template.annotation(labels::PROXY_CONFIG).map(annotated_image) {
        return Err(format!("its annotation {} is no ProxyConfig: {why}", labels::PROXY_CONFIG));
    }
    let names: Vec<&str> = match template.annotation(labels::INJECT_TEMPLATES) {
        Some(names) => names.split(',').map(str::trim).collect(),
        None => config.default_templates.iter().map(String::as_str).collect(),
    };
    config.resolve_templates(&names).map_err(|unknown| format!("the injection template {unknown:?} does not exist there"))
}

/// The proxy's image, and what of the pod's own fixes it.
fn image(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    config: &InjectorConfig,
    templates: &[InjectionTemplate],
    namespace: &str,
    template: &Template,
) -> (Result<String, Doubt>, Option<Pin>) {
    match injected_before(template) {
        Before::Replaced => {}
        Before::Kept(image) => return (Ok(image.to_owned()), Some(Pin::Container)),
        Before::Unknown => {
            let why =
                "the template holds an injected proxy, which is replaced or kept as the new one is native or not".to_owned();
            return (Err(Doubt::new(Reason::InjectorConfig, why)), None);
        }
    }
    if templates.contains(&InjectionTemplate::OwnImage) {
        let why = "an injection template of the mesh's own sets the image".to_owned();
        return (Err(Doubt::new(Reason::InjectorConfig, why)), None);
    }
    if let Some(image) = template.annotation(labels::PROXY_IMAGE).filter(|image| image.contains('/')) {
        return (Ok(image.to_owned()), Some(Pin::Annotation));
    }
    // The name of the image in the annotation counts only as a whole reference; then the installation's does.
    let image_type = match template.annotation(labels::PROXY_IMAGE_TYPE) {
        Some(image_type) => Ok(Some(image_type.to_owned())),
        None => image_type(snapshot, control_plane, namespace, template),
    };
    (image_type.map(|image_type| config.proxy_image(image_type.as_deref())), None)
}

/// What becomes of a proxy container that the template has already.
enum Before<'a> {
    /// The injector's image takes its place, or there is none.
    Replaced,
    /// Its image stays.
    Kept(&'a str),
    /// Cannot be said.
    Unknown,
}

/// A container of the user's own keeps its image. One that an earlier injection left is replaced when the new one stands
/// in the same list, and kept as if it were the user's when it does not: `reapplyOverwrittenContainers`,
/// pkg/kube/inject/webhook.go, looks it up in the list of the new one only.
fn injected_before(template: &Template) -> Before<'_> {
    let Some(earlier) = template.earlier_injection.filter(|_| template.fixed_image().is_some()) else {
        return template.overriding_image.as_deref().map_or(Before::Replaced, Before::Kept);
    };
    let native = template.annotation(labels::NATIVE_SIDECAR);
    let is_default_template = template.annotation(labels::INJECT_TEMPLATES).is_none_or(|templates| templates == "sidecar");
    let is_plain = is_default_template && template.overriding_image.is_none();
    match (earlier, native, &template.proxy_image) {
        (Earlier::Classic, Some("false"), _) if is_plain => Before::Replaced,
        (Earlier::Native, Some("true"), _) if is_plain => Before::Replaced,
        (Earlier::Classic, Some("true"), Some(image)) if is_plain => Before::Kept(image),
        _ => Before::Unknown,
    }
}

/// The variant of the effective ProxyConfig: `None` when none of them has an `image`.
///
/// From the weakest to the strongest: the mesh's `defaultConfig`, the root namespace's ProxyConfig, the namespace's,
/// the pod's annotation, and the ProxyConfig that selects the pod. Of several equals the oldest counts. Source:
/// `EffectiveProxyConfig`, pilot/pkg/model/proxy_config.go. An `image` takes the place of a weaker one as a whole, so that
/// an empty type hides the weaker one's.
fn image_type(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    namespace: &str,
    template: &Template,
) -> Result<Option<String>, Doubt> {
    if let Some(unread) = snapshot.unread(Resource::ProxyConfigs, namespace) {
        return Err(Doubt::unread(&unread.cause, unread.resource));
    }
    let mesh_config = match control_plane.map(|control_plane| &control_plane.mesh_config) {
        Some(Read::Known(config)) => config.clone(),
        Some(Read::Broken(why)) => {
            return Err(Doubt::new(Reason::InjectorConfig, format!("the mesh configuration: {why}")));
        }
        Some(Read::Unread) => return Err(Doubt::new(Reason::Forbidden, "the mesh configuration could not be read")),
        Some(Read::Absent) | None => Default::default(),
    };
    let own_namespace = control_plane.map_or("istio-system", |control_plane| control_plane.namespace.as_str());
    let root = mesh_config.root_namespace.as_deref().unwrap_or(own_namespace);
    let revision = control_plane.map_or(UNREVISIONED, |control_plane| control_plane.revision.as_str());
    let of_namespace = |wanted: &str| proxy_config_image(snapshot, revision, wanted, None);
    let annotated = template.annotation(labels::PROXY_CONFIG).and_then(|text| annotated_image(text).ok().flatten());
    let strongest_last = [
        mesh_config.image.clone(),
        of_namespace(root),
        if namespace == root { None } else { of_namespace(namespace) },
        annotated,
        proxy_config_image(snapshot, revision, namespace, Some(&template.labels)),
    ];
    Ok(strongest_last.into_iter().flatten().last().map(|image| image.image_type))
}

/// `image` of the ProxyConfig of a namespace: the one without a selector, or the one that selects these pods. A
/// ProxyConfig that is labelled with another revision is not for this istiod.
fn proxy_config_image(snapshot: &Snapshot, revision: &str, namespace: &str, pod: Option<&Labels>) -> Option<ProxyImage> {
    let config = snapshot.proxy_configs.iter().find(|config| {
        let selector = config.spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty());
        let is_mine = config.metadata.label(labels::REVISION).is_none_or(|label| label == revision);
        let selects = match (selector, pod) {
            (None, None) => config.spec.selector.is_none(),
            (Some(selector), Some(pod)) => selector.iter().all(|(key, value)| pod.value(key) == Some(value)),
            _ => false,
        };
        is_mine && config.metadata.namespace == namespace && selects
    })?;
    config.spec.image.clone()
}

/// The revision to which a gateway or waypoint that istiod makes belongs, and the image that it would be given.
///
/// Its Gateway's label names it, else the namespace's, else whoever is the default. Source: `IsMine`,
/// pkg/revisions/tag_watcher.go.
pub fn gateway_owner(snapshot: &Snapshot, namespace: &str, gateway: &str, template: &Template) -> Injection {
    let key = (namespace.to_owned(), gateway.to_owned());
    let Some(gateway_labels) = snapshot.gateways.get(&key) else {
        let doubt = match snapshot.unread(Resource::Gateways, namespace) {
            Some(unread) => Doubt::unread(&unread.cause, unread.resource),
            None => Doubt::new(Reason::Owner, format!("Gateway {gateway} is not there any more")),
        };
        return Injection::Unknown(doubt);
    };
    let Some(namespace_labels) = snapshot.namespaces.get(namespace) else {
        let doubt = snapshot.unread(Resource::Namespaces, namespace).map(|unread| Doubt::unread(&unread.cause, unread.resource));
        return Injection::Unknown(
            doubt.unwrap_or_else(|| Doubt::new(Reason::NotInFile, format!("namespace {namespace} was not read"))),
        );
    };
    let asked = gateway_labels.value(labels::REVISION).or_else(|| namespace_labels.value(labels::REVISION));
    let default = || snapshot.revision_of_tag(UNREVISIONED).or(snapshot.default_validator.as_deref());
    let (tag, revision) = match asked.filter(|asked| !asked.is_empty()) {
        Some(name) => match snapshot.revision_of_tag(name) {
            Some(revision) => (Some(name.to_owned()), revision.to_owned()),
            None => (None, name.to_owned()),
        },
        None => (None, default().unwrap_or(UNREVISIONED).to_owned()),
    };
    let control_plane = snapshot.control_planes_of(&revision).next();
    if control_plane.is_none_or(|control_plane| control_plane.readiness == Readiness::NotReady) {
        let why = format!("revision {revision} has no ready control plane to make its Deployment");
        let injector = format!("gateway/{gateway}");
        return Injection::Refused(Refused { injector, revision: Some(revision), why, is_unreachable: true });
    }
    let image = injector_config(control_plane, &revision).and_then(|config| {
        if let Some(image) = template.annotation(labels::PROXY_IMAGE).filter(|image| image.contains('/')) {
            return Ok(image.to_owned());
        }
        let image_type = match template.annotation(labels::PROXY_IMAGE_TYPE) {
            Some(image_type) => Some(image_type.to_owned()),
            None => image_type(snapshot, control_plane, namespace, template)?,
        };
        Ok(config.proxy_image(image_type.as_deref()))
    });
    Injection::Injected(Injected { revision, tag, injector: format!("gateway/{gateway}"), image, pin: None, native: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Metadata, ProxyConfig, ProxyConfigSpec};

    fn annotated(config: &str) -> Template {
        let annotations = [(labels::PROXY_CONFIG.into(), config.into())].into_iter().collect();
        Template { annotations, ..Template::default() }
    }

    #[test]
    fn a_stronger_image_hides_a_weaker_one_even_without_a_type() {
        let metadata = Metadata { namespace: "shop".to_owned(), ..Metadata::default() };
        let image = Some(ProxyImage { image_type: "debug".to_owned() });
        let spec = ProxyConfigSpec { selector: None, image };
        let snapshot = Snapshot { proxy_configs: vec![ProxyConfig { metadata, spec }], ..Snapshot::default() };
        let image_type = |config: &str| image_type(&snapshot, None, "shop", &annotated(config)).unwrap();
        assert_eq!(image_type("concurrency: 2").as_deref(), Some("debug"));
        assert_eq!(image_type("image: {imageType: distroless}").as_deref(), Some("distroless"));
        assert_eq!(image_type("image: {}").as_deref(), Some(""));
    }

    #[test]
    fn a_pod_that_istiod_cannot_read_is_refused_with_the_reason() {
        let config = InjectorConfig::default();
        let why = usable_templates(&config, &annotated("image: [")).unwrap_err();
        assert!(why.starts_with("its annotation proxy.istio.io/config is no ProxyConfig: "), "{why}");
        assert_eq!(usable_templates(&config, &annotated("image: {}")), Ok(Vec::new()));
    }
}
