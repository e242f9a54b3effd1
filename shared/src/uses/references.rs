//! Whether an object names a Service: as a reference, as a host, or by its address in any text of it.

use serde_json::Value;

use super::address::Addresses;
use crate::installation::namespace;

/// Keys whose strings are hosts: a name without a namespace means the object's own namespace there.
const HOSTS: [&str; 18] = [
    "host",
    "hosts",
    "hostname",
    "hostnames",
    "address",
    "addresses",
    "caAddress",
    "discoveryAddress",
    "xdsAddress",
    "remotePilotAddress",
    "externalName",
    "endpoint",
    "endpoints",
    "server",
    "service",
    "serviceName",
    "url",
    "uri",
];

/// Keys whose objects name a Service when they name no kind: `backendRefs` of the Gateway API, `service` of a webhook, of an
/// APIService and of an Ingress.
const SERVICES: [&str; 5] = ["service", "backendRef", "backendRefs", "backend", "serviceReference"];

/// Annotations that repeat the object.
const REPEATED: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];

/// Whether the object names one of the Services.
pub fn names_service(object: &Value, addresses: &Addresses) -> bool {
    let search = Search { addresses, namespace: namespace(object) };
    let Some(fields) = object.as_object() else { return false };
    let metadata = &object["metadata"];
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let mut annotations = annotations.filter(|(key, _)| !REPEATED.contains(&key.as_str()));
    // What an object was told by its status is no wish of anybody's.
    let mut rest = fields.iter().filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"));
    annotations.any(|(_, value)| search.is_in("", value)) || rest.any(|(key, value)| search.is_in(key, value))
}

struct Search<'a> {
    addresses: &'a Addresses,
    namespace: &'a str,
}

impl Search<'_> {
    fn is_in(&self, key: &str, value: &Value) -> bool {
        match value {
            Value::String(text) => self.is_in_text(key, text),
            Value::Array(items) => items.iter().any(|item| self.is_in(key, item)),
            Value::Object(fields) => self.is_reference(key, value) || fields.iter().any(|(key, value)| self.is_in(key, value)),
            _ => false,
        }
    }

    fn is_in_text(&self, key: &str, text: &str) -> bool {
        if HOSTS.contains(&key) {
            // `NAMESPACE/HOST` is how a Gateway and a Sidecar write a host.
            let (namespace, host) = match text.split_once('/') {
                Some((namespace, host)) if !text.contains("://") => (namespace, host),
                _ => (self.namespace, text),
            };
            let namespace = if namespace == "." { self.namespace } else { namespace };
            return self.addresses.are_reached_by(text, self.namespace) || self.addresses.are_reached_by(host, namespace);
        }
        self.addresses.are_in(text) || (text.contains(':') && self.is_in_document(text))
    }

    /// Whole documents stand in ConfigMaps and annotations.
    fn is_in_document(&self, text: &str) -> bool {
        let is_wanted = self.addresses.needles().iter().any(|needle| text.to_ascii_lowercase().contains(needle.as_str()));
        if !is_wanted {
            return false;
        }
        match serde_saphyr::from_str::<Value>(text) {
            Ok(document @ (Value::Object(_) | Value::Array(_))) => self.is_in("", &document),
            _ => false,
        }
    }

    fn is_reference(&self, key: &str, value: &Value) -> bool {
        let Some(name) = value["name"].as_str() else { return false };
        let is_service = match value["kind"].as_str() {
            Some(kind) => kind == "Service" && value["group"].as_str().is_none_or(str::is_empty),
            None => SERVICES.contains(&key),
        };
        is_service && self.addresses.has_service(value["namespace"].as_str().unwrap_or(self.namespace), name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(namespace: &str, rest: Value) -> bool {
        let mut addresses = Addresses::default();
        addresses.add("istio-system", "istiod-1-26-0");
        let mut object = rest;
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["name"] = "x".into();
        names_service(&object, &addresses)
    }

    #[test]
    fn each_kind_that_leads_to_the_service_names_it() {
        let host = "istiod-1-26-0.istio-system.svc.cluster.local";
        let leading = [
            ("shop", json!({"spec": {"http": [{"route": [{"destination": {"host": host}}]}]}})),
            ("istio-system", json!({"spec": {"tls": [{"route": [{"destination": {"host": "istiod-1-26-0"}}]}]}})),
            (
                "shop",
                json!({"spec": {"rules": [{"backendRefs": [{"name": "istiod-1-26-0", "namespace": "istio-system", "port": 15012}]}]}}),
            ),
            ("istio-system", json!({"spec": {"rules": [{"backendRefs": [{"kind": "Service", "name": "istiod-1-26-0"}]}]}})),
            ("istio-system", json!({"spec": {"to": [{"group": "", "kind": "Service", "name": "istiod-1-26-0"}]}})),
            ("istio-system", json!({"spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "istiod-1-26-0"}]}})),
            ("shop", json!({"spec": {"hosts": ["istio-system/istiod-1-26-0.istio-system.svc.cluster.local"]}})),
            ("shop", json!({"spec": {"hosts": ["istio-system/istiod-1-26-0"]}})),
            ("shop", json!({"spec": {"endpoints": [{"address": host}]}})),
            ("", json!({"webhooks": [{"clientConfig": {"service": {"name": "istiod-1-26-0", "namespace": "istio-system"}}}]})),
            ("", json!({"webhooks": [{"clientConfig": {"url": "https://istiod-1-26-0.istio-system.svc/validate"}}]})),
            ("", json!({"spec": {"service": {"name": "istiod-1-26-0", "namespace": "istio-system"}}})),
            (
                "istio-system",
                json!({"spec": {"rules": [{"http": {"paths": [{"backend": {"service": {"name": "istiod-1-26-0"}}}]}}]}}),
            ),
            ("shop", json!({"spec": {"externalName": host}})),
            ("shop", json!({"spec": {"configPatches": [{"match": {"cluster": {"name": format!("outbound|15012||{host}")}}}]}})),
            ("shop", json!({"spec": {"environmentVariables": {"CA_ADDR": "istiod-1-26-0.istio-system:15012"}}})),
            ("istio-system", json!({"data": {"mesh": "defaultConfig:\n  discoveryAddress: istiod-1-26-0:15012\n"}})),
            (
                "shop",
                json!({"spec": {"metadata": {"annotations": {"proxy.istio.io/config": format!("discoveryAddress: {host}:15012")}}}}),
            ),
        ];
        for (namespace, object) in leading {
            assert!(names(namespace, object.clone()), "{namespace}: {object}");
        }
    }

    #[test]
    fn others_of_the_same_name_do_not() {
        let others = [
            ("shop", json!({"spec": {"http": [{"route": [{"destination": {"host": "istiod-1-26-0"}}]}]}})),
            ("shop", json!({"spec": {"rules": [{"backendRefs": [{"name": "istiod-1-26-0"}]}]}})),
            (
                "istio-system",
                json!({"spec": {"rules": [{"backendRefs": [{"kind": "Other", "group": "x.io", "name": "istiod-1-26-0"}]}]}}),
            ),
            ("", json!({"webhooks": [{"clientConfig": {"service": {"name": "istiod-1-26-0", "namespace": "mesh-b"}}}]})),
            (
                "istio-system",
                json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "istiod-1-26-0.istio-system"}}}),
            ),
            ("istio-system", json!({"spec": {"hosts": ["*.istio-system.svc.cluster.local"]}})),
            ("istio-system", json!({"status": {"addresses": ["istiod-1-26-0"]}})),
            ("istio-system", json!({"data": {"text": "the istiod-1-26-0 was here: yes"}})),
        ];
        for (namespace, object) in others {
            assert!(!names(namespace, object.clone()), "{namespace}: {object}");
        }
    }
}
