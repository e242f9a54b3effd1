//! Uses by objects that name it: by the label of a revision, or by its Service.

use serde_json::Value;

use super::inventory::Listed;
use super::own::{is_own_config_map, is_own_policy, is_own_service, is_own_webhook};
use super::references::names_service;
use super::{Graph, Use, UseKind, Uses};
use crate::advice::{Advice, Command};
use crate::installation::{DEFAULT_VALIDATOR, label, name, namespace};
use crate::labels;

/// Groups of kinds that carry a revision's label for what they are made for, and not for what made them.
const WEBHOOKS: [&str; 2] = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];

impl Graph<'_> {
    /// Everything in the inventory that is no template.
    pub(super) fn objects(&self, uses: &mut Uses) {
        for listed in self.evidence.inventory.objects.iter().filter(|listed| !self.is_own(listed)) {
            if self.is_for_it_alone(listed) {
                uses.found.push(self.configuration(listed));
            }
            if let Some(how) = self.leads_to_it(listed) {
                uses.found.push(Use {
                    kind: UseKind::Caller,
                    subject: listed.subject(),
                    message: how.to_owned(),
                    advice: Advice::say("point it to another revision, or delete it"),
                });
            }
        }
    }

    /// Whether it goes with what is to go, or is reported in another way.
    fn is_own(&self, listed: &Listed) -> bool {
        let object = &listed.object;
        match (listed.group.as_str(), listed.plural.as_str()) {
            ("admissionregistration.k8s.io", plural) if WEBHOOKS.contains(&plural) => {
                let is_tags = self.is_revision() && label(object, labels::TAG).is_some();
                is_own_webhook(object, self.departure)
                    || self.is_namesakes_webhook(object)
                    || is_tags
                    || name(object) == DEFAULT_VALIDATOR
            }
            ("admissionregistration.k8s.io", _) => is_own_policy(object, self.departure.name, self.departure.namespace),
            ("", "services") => {
                let is_tags = self.is_revision() && label(object, labels::TAG).is_some();
                is_own_service(object, self.departure) || is_tags || self.addresses.has_service(namespace(object), name(object))
            }
            ("", "configmaps") => self.is_revision() && is_own_config_map(object, self.departure.name, self.departure.namespace),
            ("", "secrets" | "pods" | "podtemplates" | "replicationcontrollers")
            | ("batch" | "apps" | "apps.openshift.io", _) => true,
            _ => false,
        }
    }

    /// Whether its label keeps it to what is to go, so that nobody else reads it.
    fn is_for_it_alone(&self, listed: &Listed) -> bool {
        if label(&listed.object, labels::REVISION) != Some(self.departure.name) {
            return false;
        }
        match (listed.group.as_str(), listed.plural.as_str()) {
            // Those are Gateways' uses.
            ("gateway.networking.k8s.io", "gateways") => false,
            // Istio's own kinds compare with the revision alone (pkg/config/model.go): where there is one of the tag's name, it is
            // meant.
            (group, _) if listed.is_configuration() => {
                let is_of_revision =
                    group.ends_with("istio.io") && self.evidence.snapshot.control_planes_of(self.departure.name).next().is_some();
                self.is_revision() || !is_of_revision
            }
            ("admissionregistration.k8s.io", _) => self.is_revision(),
            ("", "configmaps") => label(&listed.object, labels::GATEWAY_CLASS_DEFAULTS).is_some(),
            _ => false,
        }
    }

    fn configuration(&self, listed: &Listed) -> Use {
        let named = self.departure.name;
        let place = format!("{}/{}", listed.qualified_plural(), name(&listed.object));
        let unlabel = Command::kubectl("label").value(place).namespace(namespace(&listed.object)).words("istio.io/rev-");
        Use {
            kind: UseKind::Configuration,
            subject: listed.subject(),
            message: format!("its label {}={named} keeps it to that revision: no other one reads it", labels::REVISION),
            advice: unlabel.into(),
        }
    }

    /// How an object leads to its Service, if it does.
    fn leads_to_it(&self, listed: &Listed) -> Option<&'static str> {
        let object = &listed.object;
        match (listed.group.as_str(), listed.plural.as_str()) {
            ("discovery.k8s.io", "endpointslices") => self.has_its_endpoints(object).then_some("holds addresses of its istiods"),
            ("", "services") if self.selects_its_istiods_alone(object) => Some("selects its istiods, and no others"),
            ("admissionregistration.k8s.io", plural) if WEBHOOKS.contains(&plural) => {
                names_service(object, &self.addresses).then_some("calls its Service")
            }
            _ if names_service(object, &self.addresses) => Some("names its Service"),
            _ if listed.is_configuration() && self.names_its_config_map(object) => Some("refers to one of its ConfigMaps"),
            _ => None,
        }
    }

    /// EndpointSlices that somebody else than the controller of Kubernetes has written.
    fn has_its_endpoints(&self, slice: &Value) -> bool {
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let mut addresses = endpoints.filter_map(|endpoint| endpoint["addresses"].as_array()).flatten();
        let service = label(slice, labels::SERVICE_NAME).unwrap_or_default();
        !self.addresses.has_service(namespace(slice), service)
            && addresses.any(|address| address.as_str().is_some_and(|address| self.addresses.are_in(address)))
    }

    /// Whether a Service that is not its own leads to its pods, and would lead nowhere without them.
    fn selects_its_istiods_alone(&self, service: &Value) -> bool {
        let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
            return false;
        };
        if !self.is_revision() {
            return false;
        }
        let istiods = self.evidence.inventory.objects.iter().filter(|listed| listed.is("", "pods"));
        let selected = istiods.filter(|pod| {
            let matches = |(key, value): (&String, &Value)| label(&pod.object, key) == value.as_str();
            namespace(&pod.object) == namespace(service) && selector.iter().all(matches)
        });
        let (own, others): (Vec<_>, Vec<_>) = selected.partition(|pod| self.is_its_istiod(&pod.object));
        !own.is_empty() && others.is_empty()
    }

    /// Whether a pod is one of its istiods.
    pub(super) fn is_its_istiod(&self, pod: &Value) -> bool {
        namespace(pod) == self.departure.namespace
            && label(pod, labels::APP) == Some("istiod")
            && label(pod, labels::REVISION).unwrap_or("default") == self.departure.name
    }

    /// Such as the `parametersRef` of a GatewayClass.
    fn names_its_config_map(&self, object: &Value) -> bool {
        self.is_revision() && has_config_map(object, self.departure.name, self.departure.namespace, namespace(object))
    }
}

fn has_config_map(value: &Value, revision: &str, wanted: &str, in_namespace: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| has_config_map(item, revision, wanted, in_namespace)),
        Value::Object(fields) => {
            let name = value["name"].as_str().unwrap_or_default();
            let place = value["namespace"].as_str().unwrap_or(in_namespace);
            let is_map = value["kind"] == "ConfigMap" && place == wanted;
            let class = name.strip_prefix(&format!("istio-{revision}-gatewayclass-"));
            let map = serde_json::json!({"metadata": {"name": name, "namespace": place,
                "labels": class.map(|class| serde_json::json!({labels::GATEWAY_CLASS_DEFAULTS: class}))}});
            (is_map && is_own_config_map(&map, revision, wanted))
                || fields.values().any(|field| has_config_map(field, revision, wanted, in_namespace))
        }
        _ => false,
    }
}
