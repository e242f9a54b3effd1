//! The other kinds that a verdict reads: namespaces, Services and their endpoints, ConfigMaps, ProxyConfigs, Gateways.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::metadata::{Metadata, StringMap, null_is_default};

/// `v1` Namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Metadata; its labels decide injection.
    pub metadata: Metadata,
}

/// `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Metadata.
    pub metadata: Metadata,
    /// Specification.
    #[serde(deserialize_with = "null_is_default")]
    pub spec: ServiceSpec,
}

/// The part of `ServiceSpec` that verdicts use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Which pods serve it; empty when somebody else writes its endpoints.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub selector: StringMap,
    /// `ExternalName` has no endpoints at all.
    #[serde(skip_serializing_if = "is_default")]
    pub r#type: String,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Metadata; a label names the Service.
    pub metadata: Metadata,
    /// Endpoints.
    #[serde(deserialize_with = "null_is_default")]
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its conditions.
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: EndpointConditions,
}

/// Conditions of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    /// Whether it takes traffic; absent means yes (k8s.io/api/discovery/v1/types.go).
    #[serde(skip_serializing_if = "is_default")]
    pub ready: Option<bool>,
}

/// `v1` ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Metadata.
    pub metadata: Metadata,
    /// Entries.
    #[serde(deserialize_with = "null_is_default")]
    pub data: StringMap,
}

/// `networking.istio.io/v1beta1` ProxyConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Metadata.
    pub metadata: Metadata,
    /// Specification.
    #[serde(deserialize_with = "null_is_default")]
    pub spec: ProxyConfigSpec,
}

/// The part of a ProxyConfig that decides the image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfigSpec {
    /// Which workloads; the whole namespace when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<WorkloadSelector>,
    /// The image's variant.
    #[serde(skip_serializing_if = "is_default")]
    pub image: Option<ProxyImage>,
}

/// Istio's selector of workloads: only equal labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels that a pod must have.
    #[serde(deserialize_with = "null_is_default")]
    pub match_labels: StringMap,
}

/// `image` of a ProxyConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyImage {
    /// `default`, `debug`, `distroless`; empty for none.
    #[serde(skip_serializing_if = "is_default")]
    pub image_type: String,
}

/// `gateway.networking.k8s.io/v1` Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// Metadata.
    pub metadata: Metadata,
    /// Specification.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub spec: GatewaySpec,
}

/// The part of a Gateway that decides what istiod makes for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its class.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway_class_name: String,
    /// Settings of what is made for it.
    #[serde(skip_serializing_if = "is_default")]
    pub infrastructure: Option<Infrastructure>,
}

/// Settings of what is made for a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// What is laid over the Deployment and its like.
    #[serde(skip_serializing_if = "is_default")]
    pub parameters_ref: Option<ParametersReference>,
}

/// An object in the Gateway's namespace; istiod takes ConfigMaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParametersReference {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}
