//! Pods and pod templates.

use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, null_is_default};

/// A pod.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Metadata.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// Specification.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<PodSpec>,
    /// Status.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PodStatus>,
}

/// What a workload's new pods are made from.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplateSpec {
    /// Metadata.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// Specification.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<PodSpec>,
}

/// The part of `PodSpec` that verdicts use.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers.
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Container>,
    /// Init containers, native sidecars among them.
    #[prost(message, repeated, tag = "20")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// Whether it shares the node's network.
    #[prost(bool, tag = "11")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
}

/// A container: its name and image.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Image reference as declared.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// `Always` makes an init container a sidecar.
    #[prost(string, tag = "24")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub restart_policy: String,
}

/// The part of `PodStatus` that verdicts use.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
}
