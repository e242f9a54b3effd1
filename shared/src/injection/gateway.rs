//! Gateways and waypoints whose Deployments istiod makes.

use super::image::effective_image_type;
use super::{Doubt, Injected, Injection, Refused, injector_config};
use crate::control_plane::{ControlPlane, Readiness, UNREVISIONED};
use crate::injector_config::InjectorConfig;
use crate::labels;
use crate::object::{ConfigMap, Labels, Lookup, Resource};
use crate::proxy::ProxyType;
use crate::snapshot::{GatewayFacts, Snapshot};
use crate::state::Reason;
use crate::template::{AGENTGATEWAY_CONTAINER, PROXY_CONTAINER, Template};
use crate::yaml;

/// The revision to which a gateway or waypoint that istiod makes belongs, and the image that it would be given.
///
/// Its Gateway's label names it, else the namespace's, else whoever is the default. Source: `IsMine`,
/// pkg/revisions/tag_watcher.go.
pub fn gateway_owner(snapshot: &Snapshot, namespace: &str, gateway: &str, template: &Template) -> Injection {
    let key = (namespace.to_owned(), gateway.to_owned());
    let Some(facts) = snapshot.gateways.get(&key) else {
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
    let asked = facts.labels.value(labels::REVISION).or_else(|| namespace_labels.value(labels::REVISION));
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
        return Injection::Refused(Refused { injector, revision: Some(revision), why, is_unreachable: true, fault: None });
    }
    let image = injector_config(control_plane, &revision)
        .and_then(|config| made_image(snapshot, control_plane, config, (namespace, gateway, facts), template));
    Injection::Injected(Injected { revision, tag, injector: format!("gateway/{gateway}"), image, pin: None, native: None })
}

/// The image of what istiod makes for a Gateway: the annotations are the Gateway's own, ProxyConfigs are selected by its name alone, and
/// ConfigMaps are laid over the result: the oldest of its class, then the one that it names (`render`,
/// pilot/pkg/config/kube/gatewaycommon/deploymentcontroller.go).
fn made_image(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    config: &InjectorConfig,
    (namespace, gateway, facts): (&str, &str, &GatewayFacts),
    template: &Template,
) -> Result<String, Doubt> {
    if let Some(image) = overlay(snapshot, control_plane, namespace, facts)? {
        return Ok(image);
    }
    let is_agentgateway =
        template.label(labels::GATEWAY_MANAGED).is_some_and(|manager| ProxyType::of_manager(manager) == ProxyType::Agentgateway);
    let annotation = |key: &str| facts.annotations.value(key);
    let own = if is_agentgateway { labels::AGENTGATEWAY_IMAGE } else { labels::PROXY_IMAGE };
    if let Some(image) = annotation(own).filter(|image| image.contains('/')) {
        return Ok(image.to_owned());
    }
    let named: Labels = [(labels::GATEWAY_NAME.into(), gateway.into())].into_iter().collect();
    let type_annotation = if is_agentgateway { labels::AGENTGATEWAY_IMAGE } else { labels::PROXY_IMAGE_TYPE };
    let annotations: Labels =
        annotation(type_annotation).map(|value| (labels::PROXY_IMAGE_TYPE.into(), value.into())).into_iter().collect();
    let made = Template { labels: named, annotations, ..Template::default() };
    let image_type = effective_image_type(snapshot, control_plane, config, namespace, &made)?;
    Ok(if is_agentgateway {
        config.image_named("agentgateway", image_type.as_deref())
    } else {
        config.proxy_image(image_type.as_deref())
    })
}

/// The image that is laid over, if any is.
fn overlay(
    snapshot: &Snapshot,
    control_plane: Option<&ControlPlane>,
    namespace: &str,
    facts: &GatewayFacts,
) -> Result<Option<String>, Doubt> {
    let doubt = |why: String| Doubt::new(Reason::InjectorConfig, why);
    let own = match &facts.parameters {
        Some(name) => {
            let key = (namespace.to_owned(), name.clone());
            let unread = snapshot.unread(Resource::ConfigMaps, namespace);
            match (snapshot.overlays.get(&key), unread) {
                (Some(overlay), _) => Some((name, overlay)),
                (None, Some(unread)) => return Err(Doubt::unread(&unread.cause, unread.resource)),
                // One without a Deployment in it changes nothing here.
                (None, None) => None,
            }
        }
        None => None,
    };
    let system = control_plane.map(|control_plane| control_plane.namespace.as_str());
    let of_class = snapshot.overlays.iter().filter(|((namespace, _), overlay)| {
        Some(namespace.as_str()) == system && overlay.class.as_deref() == Some(facts.class.as_str())
    });
    let oldest = of_class.min_by_key(|((_, name), overlay)| (overlay.created, (*name).clone()));
    let laid = own.into_iter().chain(oldest.map(|((_, name), overlay)| (name, overlay)));
    for (name, overlay) in laid {
        match &overlay.image {
            Ok(Some(image)) => return Ok(Some(image.clone())),
            Ok(None) => {}
            Err(why) => return Err(doubt(format!("ConfigMap {name}, which is laid over its Deployment: {why}"))),
        }
    }
    Ok(None)
}

/// The image that a ConfigMap lays over the proxy of a Gateway's Deployment.
pub(crate) fn overlaid_image(map: &ConfigMap) -> Result<Option<String>, String> {
    let Some(text) = map.data.get("deployment") else { return Ok(None) };
    let value = yaml::value(text).map_err(|error| format!("its key \"deployment\" is no YAML: {error}"))?;
    let containers = value["spec"]["template"]["spec"]["containers"].as_array();
    let proxy = containers.into_iter().flatten().find(|container| {
        container["name"].as_str().is_some_and(|name| name == PROXY_CONTAINER || name == AGENTGATEWAY_CONTAINER)
    });
    Ok(proxy.and_then(|container| container["image"].as_str()).map(str::to_owned))
}
