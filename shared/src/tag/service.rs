//! The Service of a tag, which Istio 1.28 introduced (istio/istio#56963): an address for XDS and certificates that moves
//! with the tag, and by which istiod knows its tags where there is no webhook.

use serde_json::{Map, Value, json};

use super::injectors::inherited_labels;
use crate::labels;

/// Name of a tag's Service (manifests/charts/istio-control/istio-discovery/templates/revision-tags-svc.yaml).
pub(super) fn service_name(tag: &str) -> String {
    format!("istiod-revision-tag-{tag}")
}

/// The Service of `tag`, made from the Service of the revision. `live` is the tag's Service as it is.
pub(super) fn service(canonical: &Value, tag: &str, live: Option<&Value>) -> Value {
    let mut service = live.cloned().unwrap_or_else(|| {
        let metadata = &canonical["metadata"];
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service_name(tag), "namespace": metadata["namespace"], "labels": inherited_labels(canonical)},
            "spec": {},
        })
    });
    service["metadata"]["labels"][labels::TAG] = tag.into();
    service["metadata"]["labels"][labels::REVISION] = canonical["metadata"]["labels"][labels::REVISION].clone();
    for field in ["selector", "ports"] {
        let value = match field {
            "ports" => ports(&canonical["spec"]["ports"]),
            _ => canonical["spec"][field].clone(),
        };
        service["spec"][field] = merged_ports(&service["spec"][field], value, field);
    }
    for field in ["type", "externalName", "ipFamilyPolicy"] {
        if live.is_none() && !canonical["spec"][field].is_null() {
            service["spec"][field] = canonical["spec"][field].clone();
        }
    }
    service
}

/// The ports without what the API server assigned to the revision's own Service.
fn ports(ports: &Value) -> Value {
    let without_node_port = |port: &Value| -> Value {
        let fields = port.as_object().cloned().unwrap_or_default();
        Value::Object(fields.into_iter().filter(|(field, _)| field != "nodePort").collect::<Map<_, _>>())
    };
    Value::Array(ports.as_array().into_iter().flatten().map(without_node_port).collect())
}

/// Ports of the live Service that are the same but for what the API server assigned stay as they are.
fn merged_ports(live: &Value, wanted: Value, field: &str) -> Value {
    if field == "ports" && ports(live) == wanted { live.clone() } else { wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(revision: &str) -> Value {
        json!({
            "metadata": {
                "name": format!("istiod-{revision}"), "namespace": "istio-system", "uid": "1",
                "labels": {"app": "istiod", "istio.io/rev": revision, "operator.istio.io/component": "Pilot"},
                "annotations": {"meta.helm.sh/release-name": "istiod"},
            },
            "spec": {
                "clusterIP": "10.0.0.7", "type": "ClusterIP", "selector": {"app": "istiod", "istio.io/rev": revision},
                "ports": [{"name": "https-dns", "port": 15012, "nodePort": 31000}],
            },
        })
    }

    #[test]
    fn a_new_service_selects_the_revision_and_takes_nothing_that_belongs_to_another() {
        let service = service(&canonical("x"), "prod", None);
        let expected = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "istiod-revision-tag-prod", "namespace": "istio-system",
                "labels": {"app": "istiod", "istio.io/rev": "x", "istio.io/tag": "prod"},
            },
            "spec": {"type": "ClusterIP", "selector": {"app": "istiod", "istio.io/rev": "x"}, "ports": [{"name": "https-dns", "port": 15012}]},
        });
        assert_eq!(service, expected);
    }

    #[test]
    fn a_move_keeps_the_address() {
        let mut live = service(&canonical("x"), "prod", None);
        live["spec"]["clusterIP"] = "10.0.0.9".into();
        let moved = service(&canonical("y"), "prod", Some(&live));
        assert_eq!((&moved["spec"]["clusterIP"], &moved["spec"]["selector"]["istio.io/rev"]), (&json!("10.0.0.9"), &json!("y")));
        assert_eq!(moved["metadata"]["labels"]["istio.io/rev"], "y");
    }
}
