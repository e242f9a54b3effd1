//! The image that a new proxy would have.

use super::{Doubt, Pin};
use crate::control_plane::{ControlPlane, Read, UNREVISIONED};
use crate::injector_config::{InjectorConfig, Template as InjectionTemplate};
use crate::labels;
use crate::mesh_config::MeshConfig;
use crate::object::{Labels, Lookup, ProxyImage, Resource};
use crate::proxy_config::annotated;
use crate::snapshot::Snapshot;
use crate::state::Reason;
use crate::template::{Earlier, Template};

/// The proxy's image, and what of the pod's own fixes it.
pub(super) fn image(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    config: &InjectorConfig,
    templates: &[InjectionTemplate],
    namespace: &str,
    template: &Template,
) -> (Result<String, Doubt>, Option<Pin>) {
    match injected_before(control_plane, template) {
        Before::Replaced => {}
        Before::Kept(image) => return (Ok(image.to_owned()), Some(Pin::Container)),
        Before::Unknown(why) => return (Err(Doubt::new(Reason::InjectorConfig, why)), None),
    }
    // Each template is laid over those before it.
    match templates.iter().rev().find(|template| **template != InjectionTemplate::Neutral) {
        Some(InjectionTemplate::Image(image)) => return (Ok(image.clone()), None),
        Some(InjectionTemplate::OwnImage) => {
            let why = "an injection template of the mesh's own sets the image".to_owned();
            return (Err(Doubt::new(Reason::InjectorConfig, why)), None);
        }
        _ => {}
    }
    if let Some(image) = template.annotation(labels::PROXY_IMAGE).filter(|image| image.contains('/')) {
        return (Ok(image.to_owned()), Some(Pin::Annotation));
    }
    if templates.iter().rev().find(|template| **template != InjectionTemplate::Neutral) == Some(&InjectionTemplate::Composed) {
        return (Ok(config.composed_image()), None);
    }
    // The name of the image in the annotation counts only as a whole reference; then the installation's does.
    let image_type = effective_image_type(snapshot, control_plane, config, namespace, template);
    (image_type.map(|image_type| config.proxy_image(image_type.as_deref())), None)
}

/// The variant that is asked for, the installation's left out: the pod's own annotation, else that of the effective ProxyConfig. From 1.31
/// on a ProxyConfig's image without a type says nothing (`proxyImageURL`, pkg/kube/inject/inject.go), before it hides the installation's.
pub(super) fn effective_image_type(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    config: &InjectorConfig,
    namespace: &str,
    template: &Template,
) -> Result<Option<String>, Doubt> {
    if let Some(image_type) = template.annotation(labels::PROXY_IMAGE_TYPE) {
        return Ok(Some(image_type.to_owned()));
    }
    let image_type = image_type(snapshot, control_plane, namespace, template)?;
    if image_type.as_deref() != Some("") || config.variant.is_empty() {
        return Ok(image_type);
    }
    match control_plane.and_then(ControlPlane::version).map(|version| version.line()) {
        Some(line) if line >= (1, 31) => Ok(None),
        Some(_) => Ok(image_type),
        None => {
            let why = "a ProxyConfig has an image without imageType, which versions of Istio read differently".to_owned();
            Err(Doubt::new(Reason::InjectorConfig, why))
        }
    }
}

/// What becomes of a proxy container that the template has already.
enum Before<'a> {
    /// The injector's image takes its place, or there is none.
    Replaced,
    /// Its image stays.
    Kept(&'a str),
    /// Cannot be said: why.
    Unknown(String),
}

/// A container of the user's own keeps its image. One that an earlier injection left is replaced when the new one stands
/// in the same list, and kept as if it were the user's when it does not: `reapplyOverwrittenContainers`,
/// pkg/kube/inject/webhook.go, looks it up in the list of the new one only; a native proxy of the user's own is found only when the new
/// one is native.
fn injected_before<'a>(control_plane: Option<&ControlPlane>, template: &'a Template) -> Before<'a> {
    let Some(earlier) = template.earlier_injection.filter(|_| template.fixed_image().is_some()) else {
        let Some(image) = template.overriding_image.as_deref() else { return Before::Replaced };
        return match (template.has_native_proxy, native(control_plane, template)) {
            (false, _) | (true, Some(true)) => Before::Kept(image),
            (true, Some(false)) => Before::Unknown(
                "the template has an init container istio-proxy, and a classic proxy would have the same name".to_owned(),
            ),
            (true, None) => Before::Unknown(
                "the template has an init container istio-proxy, whose image counts only where proxies are native sidecars"
                    .to_owned(),
            ),
        };
    };
    let native = template.annotation(labels::NATIVE_SIDECAR);
    let is_default_template = template.annotation(labels::INJECT_TEMPLATES).is_none_or(|templates| templates == "sidecar");
    let is_plain = is_default_template && template.overriding_image.is_none();
    match (earlier, native, &template.proxy_image) {
        (Earlier::Classic, Some("false"), _) if is_plain => Before::Replaced,
        (Earlier::Native, Some("true"), _) if is_plain => Before::Replaced,
        (Earlier::Classic, Some("true"), Some(image)) if is_plain => Before::Kept(image),
        _ => Before::Unknown(
            "the template holds an injected proxy, which is replaced or kept as the new one is native or not".to_owned(),
        ),
    }
}

/// Whether new proxies are native sidecars: as the pod says, else as its istiod is told, which until 1.26 means that they are not where
/// nothing is told (`EnableNativeSidecars`, pilot/pkg/features); newer ones look at the nodes.
fn native(control_plane: Option<&ControlPlane>, template: &Template) -> Option<bool> {
    if let Some(native) = template.annotation(labels::NATIVE_SIDECAR).and_then(|native| native.parse().ok()) {
        return Some(native);
    }
    let control_plane = control_plane?;
    let told = control_plane.deployment.as_ref()?.native_sidecars.as_deref();
    match (told, control_plane.version()?.line()) {
        (Some("true"), _) => Some(true),
        (Some("false"), _) => Some(false),
        (None, line) if line <= (1, 26) => Some(false),
        _ => None,
    }
}

/// The variant of the effective ProxyConfig: `None` when none of them has an `image`.
///
/// From the weakest to the strongest: the mesh's `defaultConfig`, the root namespace's ProxyConfig, the namespace's,
/// the pod's annotation, and the ProxyConfig that selects the pod. Of several equals the oldest counts. Source:
/// `EffectiveProxyConfig`, pilot/pkg/model/proxy_config.go. An `image` takes the place of a weaker one as a whole, so that
/// an empty type hides the weaker one's.
pub(crate) fn image_type(
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
        Some(Read::Several(names)) => {
            let why = format!("each of the ConfigMaps {} could be the mesh configuration", names.join(", "));
            return Err(Doubt::new(Reason::InjectorConfig, why));
        }
        Some(Read::Unread) => return Err(Doubt::new(Reason::Forbidden, "the mesh configuration could not be read")),
        Some(Read::Absent) | None => MeshConfig::default(),
    };
    let root = mesh_config.root_namespace();
    let revision = control_plane.map_or(UNREVISIONED, |control_plane| control_plane.revision.as_str());
    let of_namespace = |wanted: &str| proxy_config_image(snapshot, revision, wanted, None);
    let annotated = template.annotation(labels::PROXY_CONFIG).and_then(|text| annotated(text).ok()?.image);
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
}
