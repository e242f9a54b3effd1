//! What of a pod template decides which proxy its pods get.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::labels;
use crate::object::{Container, Interner, Labels, Lookup, Metadata, Pod, PodSpec, PodTemplateSpec};

/// Name of the container that is the proxy, of every kind (ztunnel's too).
pub const PROXY_CONTAINER: &str = "istio-proxy";

/// Name of the container that is an agentgateway.
pub(crate) const AGENTGATEWAY_CONTAINER: &str = "agentgateway";

/// Name of the container that is the CNI plugin's.
const CNI_CONTAINER: &str = "install-cni";

/// What the pods of the CNI plugin have as label `k8s-app`.
pub(crate) const CNI: &str = "istio-cni-node";

/// Whether a container of this name may be a proxy's, or a node's component.
pub(crate) fn may_be_proxy(container: &str) -> bool {
    [PROXY_CONTAINER, AGENTGATEWAY_CONTAINER, CNI_CONTAINER].contains(&container)
}

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
    /// Whether that container stands among the init containers.
    pub has_native_proxy: bool,
    /// Whether that container was left there by an earlier injection, such as `istioctl kube-inject`.
    pub earlier_injection: Option<Earlier>,
}

/// Where an earlier injection put its proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// Among the containers.
    Classic,
    /// Among the init containers.
    Native,
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
        if template.earlier_injection.take().is_some() {
            template.proxy_image = template.overriding_image.clone();
        }
        template
    }

    fn read(metadata: &Metadata, spec: &PodSpec, interner: &mut Interner) -> Template {
        let proxy = proxy_container(metadata, spec);
        let proxy_image = proxy.map(|(container, _)| interner.text(&container.image));
        let earlier_injection = metadata.annotation(labels::STATUS).filter(|_| proxy_image.is_some()).and_then(earlier_injection);
        let overriding_image = match metadata.annotation(labels::PROXY_OVERRIDES) {
            Some(overrides) => overridden_image(overrides).map(|image| interner.text(&image)),
            None if earlier_injection.is_some() => None,
            None => proxy_image.clone().filter(|image| **image != *AUTO_IMAGE && !image.is_empty()),
        };
        Template {
            labels: interner.labels(&metadata.labels, |_| true),
            annotations: interner.labels(&metadata.annotations, labels::decides),
            host_network: spec.host_network,
            proxy_image,
            overriding_image,
            has_native_proxy: proxy.is_some_and(|(_, is_native)| is_native)
                && !metadata.annotations.contains_key(labels::PROXY_OVERRIDES),
            earlier_injection,
        }
    }

    /// The same for templates whose pods get the same: a hash of all that decides, but for what the injector itself leaves there.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        let left_there = [labels::REVISION, labels::STATUS];
        let asked: Vec<_> = self.annotations.iter().filter(|(key, _)| !left_there.contains(key)).collect();
        let labels: Vec<_> = self.labels.iter().collect();
        let earlier = self.earlier_injection.map(|earlier| earlier == Earlier::Native);
        (labels, asked, self.host_network, &self.proxy_image, &self.overriding_image, self.has_native_proxy, earlier)
            .hash(&mut hasher);
        hasher.finish()
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
    generation: 0,
    creation_timestamp: None,
    deletion_timestamp: None,
    labels: std::collections::BTreeMap::new(),
    annotations: std::collections::BTreeMap::new(),
    owner_references: Vec::new(),
};

/// The proxy's container, and whether it stands among the init containers (a native sidecar). Agentgateways and the CNI plugin name theirs
/// otherwise; others use these names too, so that their labels decide.
pub(crate) fn proxy_container<'a>(metadata: &Metadata, spec: &'a PodSpec) -> Option<(&'a Container, bool)> {
    let name = match (metadata.label(labels::GATEWAY_MANAGED), metadata.label(labels::K8S_APP)) {
        (Some(manager), _) if labels::GATEWAY_MANAGED_AGENTGATEWAYS.contains(&manager) => AGENTGATEWAY_CONTAINER,
        (_, Some(CNI)) => CNI_CONTAINER,
        _ => PROXY_CONTAINER,
    };
    let named = |container: &&Container| container.name == name;
    let classic = spec.containers.iter().find(named).map(|container| (container, false));
    classic.or_else(|| spec.init_containers.iter().find(named).map(|container| (container, true)))
}

/// Where the injector's status annotation says that it put the proxy. Its text is compact JSON of
/// `{"initContainers":[..],"containers":[..],…}` (`SidecarInjectionStatus`, pkg/kube/inject/inject.go).
fn earlier_injection(status: &str) -> Option<Earlier> {
    let status: serde_json::Value = serde_json::from_str(status).ok()?;
    let lists_proxy = |key: &str| status[key].as_array().is_some_and(|names| names.iter().any(|name| name == PROXY_CONTAINER));
    if lists_proxy("containers") { Some(Earlier::Classic) } else { lists_proxy("initContainers").then_some(Earlier::Native) }
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
