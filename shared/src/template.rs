//! What of a pod template decides which proxy its pods get.

use std::sync::Arc;

use crate::labels;
use crate::object::{Container, Interner, Labels, Lookup, Metadata, Pod, PodSpec, PodTemplateSpec};

/// Name of the container that is the proxy, of every kind (ztunnel's too).
pub const PROXY_CONTAINER: &str = "istio-proxy";

/// The image that a template gives to a container when the injector is to choose it (`AutoImage`,
/// pkg/kube/inject/webhook.go).
pub const AUTO_IMAGE: &str = "auto";

/// The deciding part of a pod template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Labels of the pods.
    pub labels: Labels,
    /// Those annotations of the pods that decide something.
    pub annotations: Labels,
    /// Whether the pods share the node's network.
    pub host_network: bool,
    /// Image of a container named `istio-proxy` that the template itself has, as written: `auto` included.
    pub proxy_image: Option<Arc<str>>,
    /// Image that the user's own `istio-proxy` container asks for, over the injector's.
    pub overriding_image: Option<Arc<str>>,
}

impl Template {
    /// Reads a workload's template.
    pub fn of_workload(template: &PodTemplateSpec, interner: &mut Interner) -> Template {
        let (metadata, spec) = (template.metadata.as_ref(), template.spec.as_ref());
        Template::read(metadata.unwrap_or(&Metadata::default()), spec.unwrap_or(&PodSpec::default()), interner)
    }

    /// Derives a template from a running pod, for owners whose template cannot be read: what an injection added is
    /// taken away again.
    pub fn of_pod(pod: &Pod, interner: &mut Interner) -> Template {
        let (metadata, spec) = (pod.metadata.as_ref(), pod.spec.as_ref());
        let metadata = metadata.unwrap_or(const { &EMPTY });
        let mut template = Template::read(metadata, spec.unwrap_or(&PodSpec::default()), interner);
        if metadata.annotation(labels::STATUS).is_some_and(status_lists_proxy) {
            template.proxy_image = template.overriding_image.clone();
        }
        template
    }

    fn read(metadata: &Metadata, spec: &PodSpec, interner: &mut Interner) -> Template {
        let proxy_image = proxy_container(spec).map(|(container, _)| interner.text(&container.image));
        let is_injected = metadata.annotation(labels::STATUS).is_some_and(status_lists_proxy);
        let overriding_image = match metadata.annotation(labels::PROXY_OVERRIDES) {
            Some(overrides) => overridden_image(overrides).map(|image| interner.text(&image)),
            None if is_injected => None,
            None => proxy_image.clone().filter(|image| **image != *AUTO_IMAGE && !image.is_empty()),
        };
        Template {
            labels: interner.labels(&metadata.labels, |_| true),
            annotations: interner.labels(&metadata.annotations, |key| labels::DECIDING_ANNOTATIONS.contains(&key)),
            host_network: spec.host_network,
            proxy_image,
            overriding_image,
        }
    }

    /// The image of a proxy that stands in the template itself, so that pods have it without any injector.
    pub fn fixed_image(&self) -> Option<&Arc<str>> {
        self.proxy_image.as_ref().filter(|image| ***image != *AUTO_IMAGE)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.value(key)
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.value(key)
    }
}

const EMPTY: Metadata = Metadata {
    name: String::new(),
    namespace: String::new(),
    uid: String::new(),
    creation_timestamp: None,
    deletion_timestamp: None,
    labels: std::collections::BTreeMap::new(),
    annotations: std::collections::BTreeMap::new(),
    owner_references: Vec::new(),
};

/// The proxy's container, and whether it stands among the init containers (a native sidecar).
pub(crate) fn proxy_container(spec: &PodSpec) -> Option<(&Container, bool)> {
    let named = |container: &&Container| container.name == PROXY_CONTAINER;
    let classic = spec.containers.iter().find(named).map(|container| (container, false));
    classic.or_else(|| spec.init_containers.iter().find(named).map(|container| (container, true)))
}

/// Whether the injector's status annotation says that it added the proxy. Its text is compact JSON of
/// `{"initContainers":[..],"containers":[..],…}` (`SidecarInjectionStatus`, pkg/kube/inject/inject.go).
fn status_lists_proxy(status: &str) -> bool {
    let Ok(status) = serde_json::from_str::<serde_json::Value>(status) else { return false };
    ["containers", "initContainers"].iter().filter_map(|key| status[key].as_array()).flatten().any(|name| name == PROXY_CONTAINER)
}

/// The revision in the injector's status annotation.
pub(crate) fn status_revision(status: &str) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(status).ok()?;
    status["revision"].as_str().filter(|revision| !revision.is_empty()).map(str::to_owned)
}

/// The image that the user's own proxy container had when it was merged into an injected one.
fn overridden_image(overrides: &str) -> Option<String> {
    let overrides: serde_json::Value = serde_json::from_str(overrides).ok()?;
    ["containers", "initContainers"]
        .iter()
        .filter_map(|key| overrides[key].as_array())
        .flatten()
        .find(|container| container["name"] == PROXY_CONTAINER)
        .and_then(|container| container["image"].as_str())
        .filter(|image| !image.is_empty() && *image != AUTO_IMAGE)
        .map(str::to_owned)
}
