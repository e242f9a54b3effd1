//! The label and annotation keys that Istio and Kubernetes attach a meaning to, each with that meaning.
//! Key strings stand here and nowhere else.

/// On a namespace, a pod or a Gateway: the revision or tag asked for. On a control plane's objects: the revision that
/// they belong to. On a pod as an *annotation*: the revision that injected it (since Istio 1.18).
pub const REVISION: &str = "istio.io/rev";
/// On a webhook configuration or Service: the tag that it is.
pub const TAG: &str = "istio.io/tag";
/// On a namespace: `enabled` asks for the default injector; any other value forbids injection.
pub const INJECTION: &str = "istio-injection";
/// On a namespace or a pod: `ambient` asks for ambient mode.
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// On a pod, as label (stronger) or annotation: `true` or `false` decides injection.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Pod annotation written by the injector: JSON with what it added, and its revision.
pub const STATUS: &str = "sidecar.istio.io/status";
/// Pod annotation: a whole image reference when it contains `/`.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// Pod annotation: the variant of the proxy's image (`distroless`, `debug`, `default`).
pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
/// Pod annotation: YAML of a ProxyConfig for this pod.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Pod annotation: containers of the user's own that an injection merged, as JSON.
pub const PROXY_OVERRIDES: &str = "proxy.istio.io/overrides";
/// Pod annotation: names of the injection templates to use, separated by commas.
pub const INJECT_TEMPLATES: &str = "inject.istio.io/templates";
/// Pod annotation: `true` or `false` decides whether the proxy is a native sidecar.
pub const NATIVE_SIDECAR: &str = "sidecar.istio.io/nativeSidecar";
/// Label of what istiod's gateway controllers generate: which controller.
pub const GATEWAY_MANAGED: &str = "gateway.istio.io/managed";
/// Value of [`GATEWAY_MANAGED`] for waypoints.
pub const GATEWAY_MANAGED_WAYPOINT: &str = "istio.io-mesh-controller";
/// Likewise for gateways and waypoints that are agentgateways, since Istio 1.29.
pub const GATEWAY_MANAGED_AGENTGATEWAYS: [&str; 2] =
    ["istio.io-agentgateway-controller", "istio.io-agentgateway-waypoint-controller"];
/// Label of what istiod's gateway controllers generate: the Gateway's name, as it was until Istio 1.20.
pub const OLD_GATEWAY_NAME: &str = "istio.io/gateway-name";
/// Annotation of a Gateway: the variant of its agentgateway's image, or a whole reference when it contains `/`.
pub const AGENTGATEWAY_IMAGE: &str = "gateway.istio.io/agentgatewayImage";
/// Label of the DaemonSet of the CNI plugin and of its pods, with value `istio-cni-node`.
pub const K8S_APP: &str = "k8s-app";
/// Label of what istiod's gateway controllers generate: the Gateway's name.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Label of a ConfigMap: the GatewayClass whose Gateways' Deployments it gives defaults for
/// (pilot/pkg/config/kube/gateway/conversion.go).
pub const GATEWAY_CLASS_DEFAULTS: &str = "gateway.istio.io/defaults-for-class";
/// Label of a namespace, a Service or a gateway: the network that it stands in, or that it leads into.
pub const NETWORK: &str = "topology.istio.io/network";
/// Label of a Secret: it lets istiods reach another cluster of the mesh.
pub const MULTI_CLUSTER: &str = "istio/multiCluster";
/// Annotation of a WorkloadEntry: which istiod its virtual machine is or was connected to, by the name of the pod.
pub const WORKLOAD_CONTROLLER: &str = "istio.io/workloadController";
/// Annotation of a WorkloadEntry: since when it is connected; absent when it is not.
pub const CONNECTED_AT: &str = "istio.io/connectedAt";
/// Label that an istiod Deployment, its pods and its Services carry with value `istiod`, and ztunnel with `ztunnel`.
pub const APP: &str = "app";
/// Key in the selectors of an injector that was deactivated (istioctl/pkg/util/common.go): nothing carries it.
pub const DEACTIVATED: &str = "istio.io/deactivated";
/// Label of an EndpointSlice: the Service that it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that the Deployment controller puts on its ReplicaSets' pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Label that the Argo Rollouts controller puts on its ReplicaSets' pods.
pub const ROLLOUTS_POD_TEMPLATE_HASH: &str = "rollouts-pod-template-hash";
/// Annotation of a pod of OpenShift: the DeploymentConfig that it belongs to.
pub const DEPLOYMENT_CONFIG: &str = "openshift.io/deployment-config.name";
/// Annotation of a pod that mirrors a static pod of a kubelet.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation that `mesh-tag` leaves on an injector that it deactivated: the selectors before that, as JSON.
pub const SELECTORS: &str = "kubectl-mesh/selectors";
/// Annotation that `mesh-tag` leaves on the default validator: what it was before, as JSON; `null` when it was not there.
pub const PREVIOUS: &str = "kubectl-mesh/previous";
/// Annotation that `mesh-tag` leaves on the webhook of a tag: where the tag has pointed before, as JSON.
pub const HISTORY: &str = "kubectl-mesh/history";

/// Whether a verdict reads an annotation of a pod or template; everything else there may be dropped.
pub fn decides(annotation: &str) -> bool {
    const DECIDING: [&str; 12] = [
        REVISION,
        INJECT,
        STATUS,
        PROXY_IMAGE,
        PROXY_IMAGE_TYPE,
        PROXY_CONFIG,
        PROXY_OVERRIDES,
        INJECT_TEMPLATES,
        NATIVE_SIDECAR,
        MIRROR,
        DEPLOYMENT_CONFIG,
        AGENTGATEWAY_IMAGE,
    ];
    DECIDING.contains(&annotation) || crate::injection::is_checked(annotation)
}
