//! Made-up pod templates.

use serde_json::{Map, Value, json};
use support::Workload;

use crate::chance::Chance;

/// What a pod's labels and annotations may name.
pub struct Names<'a> {
    /// Revisions and tags, some of which are not there.
    pub revisions: &'a [&'a str],
}

/// A Deployment without pods; its template is the case.
pub fn workload(name: &str, names: &Names<'_>, chance: &mut Chance) -> Workload {
    let mut labels = Map::new();
    let mut annotations = Map::new();
    let set = |map: &mut Map<String, Value>, key: &str, value: &str| drop(map.insert(key.to_owned(), json!(value)));
    if chance.once_in(3) {
        set(&mut labels, "sidecar.istio.io/inject", chance.word(&["true", "true", "false", "yes", ""]));
    }
    if chance.once_in(3) {
        set(&mut labels, "istio.io/rev", chance.word(names.revisions));
    }
    if chance.once_in(4) {
        set(&mut labels, chance.word(&["never", "always", "variant"]), "yes");
    }
    if chance.once_in(5) {
        set(&mut annotations, "sidecar.istio.io/inject", chance.word(&["true", "false", "no"]));
    }
    if chance.once_in(6) {
        let image = chance.word(&["example.com:5000/mine/proxyv2:1.2.3", "docker.io/istio/proxyv2@sha256:abcd", "proxyv2x"]);
        set(&mut annotations, "sidecar.istio.io/proxyImage", image);
    }
    if chance.once_in(6) {
        set(&mut annotations, "sidecar.istio.io/proxyImageType", chance.word(&["distroless", "debug", "default", "odd"]));
    }
    if chance.once_in(6) {
        let config =
            ["image: {imageType: debug}", "image: {}", "concurrency: 2", "image:\n  imageType: distroless\nconcurrency: 1"];
        set(&mut annotations, "proxy.istio.io/config", chance.word(&config));
    }
    if chance.once_in(6) {
        let templates = ["sidecar", "gateway", "grpc-agent", " grpc-agent ", "nonexistent", "sidecar,custom", "grpc-simple"];
        set(&mut annotations, "inject.istio.io/templates", chance.word(&templates));
    }
    if chance.once_in(4) {
        set(&mut annotations, "sidecar.istio.io/nativeSidecar", chance.word(&["true", "false"]));
    }
    let app = json!({"name": "app", "image": "app:1"});
    let mut containers = vec![app];
    if chance.once_in(6) {
        let image = chance.word(&["auto", "auto", "example.com/own/proxyv2:1.25.0"]);
        containers.push(json!({"name": "istio-proxy", "image": image}));
        if chance.once_in(2) {
            // As an earlier injection or `istioctl kube-inject` leaves it.
            set(&mut annotations, "sidecar.istio.io/status", r#"{"containers":["istio-proxy"],"revision":"1-25-0"}"#);
            set(&mut annotations, "istio.io/rev", "1-25-0");
        }
    }
    let workload = Workload::deployment(name)
        .replicas(0)
        .pod_labels(Value::Object(labels))
        .pod_annotations(Value::Object(annotations))
        .containers(json!(containers));
    if chance.once_in(12) { workload.host_network() } else { workload }
}
