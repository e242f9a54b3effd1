//! Running proxies.

use std::sync::Arc;

use crate::image::Image;
use crate::labels;
use crate::object::{Interner, Metadata, Pod};
use crate::template::{AUTO_IMAGE, CNI, proxy_container, status_revision};
use crate::version::Version;

/// What sort of proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyType {
    /// Beside an application.
    Sidecar,
    /// A gateway of its own Deployment, injected or with a fixed image.
    Gateway,
    /// A gateway whose Deployment istiod makes for a Gateway object.
    GatewayApi,
    /// A waypoint, made likewise.
    Waypoint,
    /// A gateway or waypoint that is an agentgateway, made likewise.
    Agentgateway,
    /// The node proxy of ambient mode.
    Ztunnel,
    /// The CNI plugin, which is no proxy, and has a version that its control plane must fit all the same.
    Cni,
}

impl ProxyType {
    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProxyType::Sidecar => "sidecar",
            ProxyType::Gateway => "gateway",
            ProxyType::GatewayApi => "gateway-api",
            ProxyType::Waypoint => "waypoint",
            ProxyType::Agentgateway => "agentgateway",
            ProxyType::Ztunnel => "ztunnel",
            ProxyType::Cni => "istio-cni",
        }
    }

    /// Whether istiod makes and re-makes its Deployment.
    pub const fn is_made_by_istiod(self) -> bool {
        matches!(self, ProxyType::GatewayApi | ProxyType::Waypoint | ProxyType::Agentgateway)
    }

    /// Whether it stands once on every node, for all revisions.
    pub const fn is_of_node(self) -> bool {
        matches!(self, ProxyType::Ztunnel | ProxyType::Cni)
    }

    /// The type of what istiod makes, by the label that names its controller.
    pub(crate) fn of_manager(manager: &str) -> ProxyType {
        match manager {
            labels::GATEWAY_MANAGED_WAYPOINT => ProxyType::Waypoint,
            manager if labels::GATEWAY_MANAGED_AGENTGATEWAYS.contains(&manager) => ProxyType::Agentgateway,
            _ => ProxyType::GatewayApi,
        }
    }

    /// The type of proxy that pods with this metadata and image have.
    pub(crate) fn of(
        label: impl Fn(&str) -> Option<String>,
        annotation: impl Fn(&str) -> Option<String>,
        image: &str,
    ) -> ProxyType {
        if Image::parse(image).name() == "ztunnel" || label(labels::APP).is_some_and(|app| app == "ztunnel") {
            return ProxyType::Ztunnel;
        }
        if label(labels::K8S_APP).as_deref() == Some(CNI) {
            return ProxyType::Cni;
        }
        if let Some(manager) = label(labels::GATEWAY_MANAGED) {
            return ProxyType::of_manager(&manager);
        }
        let asks_for_gateway = annotation(labels::INJECT_TEMPLATES)
            .is_some_and(|templates| templates.split(',').any(|template| template.trim() == "gateway"));
        let is_component = label("operator.istio.io/component").is_some_and(|component| component.ends_with("Gateways"));
        if asks_for_gateway || is_component { ProxyType::Gateway } else { ProxyType::Sidecar }
    }
}

/// A running proxy. Proxies of one workload that are equal are counted, not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// What sort it is.
    pub proxy_type: ProxyType,
    /// The revision that injected or made it, where the pod says so.
    pub revision: Option<Arc<str>>,
    /// Its declared image.
    pub image: Arc<str>,
    /// Whether it is a native sidecar (an init container that goes on running).
    pub is_native: bool,
}

impl Proxy {
    /// The proxy that a pod runs, if any. Pods that have ended, were evicted or are being deleted run none.
    pub fn of_pod(pod: &Pod, interner: &mut Interner) -> Option<Proxy> {
        let metadata = pod.metadata.as_ref()?;
        let (container, is_native) = proxy_container(metadata, pod.spec.as_ref()?)?;
        if container.image == AUTO_IMAGE {
            return None;
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Proxy {
            proxy_type: ProxyType::of(|key| owned(metadata.label(key)), |key| owned(metadata.annotation(key)), &container.image),
            revision: running_revision(metadata).map(|revision| interner.text(&revision)),
            image: interner.text(&container.image),
            is_native,
        })
    }

    /// The version that its image names.
    pub fn version(&self) -> Option<Version> {
        Image::parse(&self.image).version()
    }
}

/// Whether a pod still counts: terminating and ended pods do not.
pub fn is_alive(pod: &Pod) -> bool {
    let is_deleted = pod.metadata.as_ref().is_some_and(|metadata| metadata.deletion_timestamp.is_some());
    let has_ended = pod.status.as_ref().is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed"));
    !is_deleted && !has_ended
}

/// The revision that a pod says it was injected by: the annotation (since Istio 1.18), else the injector's status
/// (since 1.12). Never the label: it is what the user asked for, and may be a tag.
pub(crate) fn running_revision(metadata: &Metadata) -> Option<String> {
    let annotation = metadata.annotation(labels::REVISION).filter(|revision| !revision.is_empty());
    annotation.map(str::to_owned).or_else(|| metadata.annotation(labels::STATUS).and_then(status_revision))
}
