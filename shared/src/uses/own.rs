//! What belongs to a revision or a tag itself, and so is no use of it.

use serde_json::Value;

use super::address::Addresses;
use super::inventory::CHART_POLICY;
use super::{Departing, Departure};
use crate::control_plane::revision_suffix;
use crate::injector::Target;
use crate::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use crate::labels;

/// Names of a revision's ConfigMaps, without the revision (manifests/charts/istio-control/istio-discovery of Istio).
pub const CONFIG_MAPS: [&str; 4] = ["istio", "istio-sidecar-injector", "values", "pilot-jwks-extra-cacerts"];

/// The Services of what is to go, with what leads to them.
pub(super) fn addresses(installation: &Installation, departure: &Departure<'_>) -> Addresses {
    let Departure { what, name: own_name, namespace: own_namespace } = *departure;
    let mut addresses = Addresses::default();
    let conventional = match what {
        Departing::Revision => format!("istiod{}", revision_suffix(own_name)),
        Departing::Tag => format!("istiod-revision-tag-{own_name}"),
    };
    addresses.add(own_namespace, &conventional);
    if what == Departing::Revision {
        for injector in &installation.snapshot.injectors {
            if let Target::Service(service) = &injector.target
                && service.namespace == own_namespace
                && injector.tag.is_none()
                && injector.revision.as_deref() == Some(own_name)
            {
                addresses.add(&service.namespace, &service.name);
            }
        }
    }
    for service in installation.services.iter().filter(|service| namespace(service) == own_namespace) {
        if is_own_service(service, departure) || addresses.has_service(own_namespace, name(service)) {
            addresses.add_service(service);
        }
    }
    addresses
}

/// Whether a Service in the control plane's namespace is its own.
pub(super) fn is_own_service(service: &Value, departure: &Departure<'_>) -> bool {
    let Departure { what, name: own_name, namespace: own_namespace } = *departure;
    // Services of gateways carry the label of a revision too.
    let is_istiods = label(service, labels::APP) == Some("istiod") || service["spec"]["selector"]["app"] == "istiod";
    let is_named = match what {
        Departing::Revision => label(service, labels::REVISION) == Some(own_name) && label(service, labels::TAG).is_none(),
        Departing::Tag => label(service, labels::TAG) == Some(own_name),
    };
    namespace(service) == own_namespace && is_istiods && is_named
}

/// Whether all that a webhook configuration asks stands in this namespace; `None` where it asks addresses elsewhere only.
pub fn asks_namespace(configuration: &Value, wanted: &str) -> Option<bool> {
    let entries = configuration["webhooks"].as_array().into_iter().flatten();
    let mut namespaces = entries.filter_map(|entry| entry["clientConfig"]["service"]["namespace"].as_str()).peekable();
    namespaces.peek()?;
    Some(namespaces.all(|found| found == wanted))
}

/// Whether a webhook configuration belongs to the control plane of a namespace: by the Service that it asks, and where it asks
/// an address elsewhere by the name that Istio's charts give it there
/// (manifests/charts/istio-control/istio-discovery/templates/{mutatingwebhook,validatingwebhookconfiguration}.yaml).
pub fn is_of_control_plane(configuration: &Value, revision: &str, wanted: &str) -> bool {
    asks_namespace(configuration, wanted).unwrap_or_else(|| {
        let suffix = revision_suffix(revision);
        let injector = if wanted == "istio-system" {
            format!("istio-sidecar-injector{suffix}")
        } else {
            format!("istio-sidecar-injector{suffix}-{wanted}")
        };
        [injector, format!("istio-validator{suffix}-{wanted}")].iter().any(|own| own == name(configuration))
    })
}

/// Whether a webhook configuration is what is to go itself.
pub(super) fn is_own_webhook(configuration: &Value, departure: &Departure<'_>) -> bool {
    let Departure { what, name: own_name, namespace: own_namespace } = *departure;
    match what {
        Departing::Revision => {
            label(configuration, labels::REVISION) == Some(own_name)
                && label(configuration, labels::TAG).is_none()
                && name(configuration) != DEFAULT_VALIDATOR
                && is_of_control_plane(configuration, own_name, own_namespace)
        }
        Departing::Tag => {
            label(configuration, labels::TAG) == Some(own_name) && asks_namespace(configuration, own_namespace).unwrap_or(true)
        }
    }
}

/// Whether a ConfigMap is one of a revision's own.
pub fn is_own_config_map(map: &Value, revision: &str, wanted: &str) -> bool {
    let suffix = revision_suffix(revision);
    let is_named = CONFIG_MAPS.iter().any(|base| name(map).strip_prefix(base) == Some(&*suffix));
    namespace(map) == wanted && (is_named || name(map) == gateway_class_map(map, revision))
}

/// The name of the ConfigMap with a revision's defaults for a GatewayClass (templates/gateway-class-configmap.yaml of the same
/// chart); what none is named.
fn gateway_class_map(map: &Value, revision: &str) -> String {
    let revision = if revision.is_empty() { "default" } else { revision };
    label(map, labels::GATEWAY_CLASS_DEFAULTS).map_or(String::new(), |class| format!("istio-{revision}-gatewayclass-{class}"))
}

/// Whether a ValidatingAdmissionPolicy or its binding is what Istio's chart makes for a revision of this control plane
/// (templates/validatingadmissionpolicy.yaml of the same chart).
pub fn is_own_policy(object: &Value, revision: &str, wanted: &str) -> bool {
    let suffix = revision_suffix(revision);
    ["", "-binding"].iter().any(|role| name(object) == format!("{CHART_POLICY}{role}{suffix}-{wanted}.istio.io"))
}
