//! Made-up pod templates.

use serde_json::{Map, Value, json};
use support::Workload;

use crate::chance::Chance;

/// What a pod's labels and annotations may name.
pub struct Names<'a> {
    /// Revisions and tags, some of which are not there.
    pub revisions: &'a [&'a str],
    /// Pod templates that `istioctl kube-inject` has filled already.
    pub injected: &'a [Value],
}

/// A pod template to try.
pub struct Case {
    /// A Deployment without pods that has the template.
    pub workload: Workload,
    /// Whether it names the injection template `custom`, whose image nobody can know.
    pub names_custom_template: bool,
    /// Whether an earlier injection has left its proxy there, whose fate depends on where the new one would stand.
    pub was_injected: bool,
}

const OWN_IMAGES: [&str; 3] = ["auto", "auto", "example.com/own/proxyv2:1.25.0"];
const INJECT: [&str; 9] = ["true", "true", "true", "true", "false", "yes", "True", "off", ""];
const PROXY_IMAGES: [&str; 3] = ["example.com:5000/mine/proxyv2:1.2.3", "docker.io/istio/proxyv2@sha256:abcd", "proxyv2x"];
const PROXY_CONFIGS: [&str; 8] = [
    "image: {imageType: debug}",
    "image: {imageType: \"\"}",
    "image: {}",
    "concurrency: 2",
    "image:\n  imageType: distroless\nconcurrency: 1",
    "",
    "image: [",
    "debug",
];
const TEMPLATES: [&str; 10] =
    ["sidecar", "sidecar", "gateway", "grpc-agent", " grpc-agent ", "nonexistent", "sidecar,custom", "custom", "grpc-simple", ""];

/// Makes one up.
pub fn case(name: &str, names: &Names<'_>, chance: &mut Chance) -> Case {
    let mut labels = Map::new();
    let mut annotations = Map::new();
    let set = |map: &mut Map<String, Value>, key: &str, value: &str| drop(map.insert(key.to_owned(), json!(value)));
    if chance.once_in(3) {
        set(&mut labels, "sidecar.istio.io/inject", chance.word(&INJECT));
    }
    if chance.once_in(3) {
        set(&mut labels, "istio.io/rev", chance.word(names.revisions));
    }
    if chance.once_in(4) {
        set(&mut labels, chance.word(&["never", "always", "variant"]), "yes");
    }
    if chance.once_in(6) {
        set(&mut annotations, "sidecar.istio.io/inject", chance.word(&INJECT));
    }
    if chance.once_in(6) {
        set(&mut annotations, "sidecar.istio.io/proxyImage", chance.word(&PROXY_IMAGES));
    }
    if chance.once_in(6) {
        set(&mut annotations, "sidecar.istio.io/proxyImageType", chance.word(&["distroless", "debug", "default", "odd", ""]));
    }
    if chance.once_in(5) {
        set(&mut annotations, "proxy.istio.io/config", chance.word(&PROXY_CONFIGS));
    }
    let templates = if chance.once_in(6) { Some(chance.word(&TEMPLATES)) } else { None };
    if let Some(templates) = templates {
        set(&mut annotations, "inject.istio.io/templates", templates);
    }
    let native = if chance.once_in(4) { Some(chance.word(&["true", "false"])) } else { None };
    if let Some(native) = native {
        set(&mut annotations, "sidecar.istio.io/nativeSidecar", native);
    }
    let injected = if chance.once_in(8) { Some(chance.pick(names.injected)) } else { None };
    let workload = Workload::deployment(name).replicas(0);
    let workload = match injected {
        Some(template) => over(workload, template),
        None => own_proxy(workload, native, chance),
    };
    let workload = workload.pod_labels(Value::Object(labels)).pod_annotations(Value::Object(annotations));
    Case {
        workload: if chance.once_in(16) { workload.host_network() } else { workload },
        names_custom_template: templates.is_some_and(|templates| templates.contains("custom")),
        was_injected: injected.is_some(),
    }
}

/// With what an injection made of another workload's template.
fn over(workload: Workload, template: &Value) -> Workload {
    let mut labels = template["metadata"]["labels"].clone();
    // It has to be the one that the Deployment selects.
    labels.as_object_mut().map(|labels| labels.remove("app"));
    workload.pod_labels(labels).pod_annotations(template["metadata"]["annotations"].clone()).pod_spec(template["spec"].clone())
}

/// Now and then with a proxy container of the user's own, which the injected one is merged into.
fn own_proxy(workload: Workload, native: Option<&str>, chance: &mut Chance) -> Workload {
    if !chance.once_in(6) {
        return workload;
    }
    let proxy = json!({"name": "istio-proxy", "image": chance.word(&OWN_IMAGES)});
    // Among the init containers it is merged only if the injected one is native; otherwise the pod would have both.
    if native == Some("true") && chance.once_in(2) {
        workload.pod_spec(json!({"initContainers": [proxy]}))
    } else {
        workload.containers(json!([{"name": "app", "image": "app:1"}, proxy]))
    }
}
