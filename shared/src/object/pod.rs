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

/// A container: its name and image, and whom it calls. The latter is read and never written: files that are saved hold no
/// value of an environment.
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
    /// Its entry point, where the pod gives one.
    #[prost(string, repeated, tag = "3")]
    #[serde(skip_serializing, deserialize_with = "null_is_default")]
    pub command: Vec<String>,
    /// Arguments.
    #[prost(string, repeated, tag = "4")]
    #[serde(skip_serializing, deserialize_with = "null_is_default")]
    pub args: Vec<String>,
    /// Environment.
    #[prost(message, repeated, tag = "7")]
    #[serde(skip_serializing, deserialize_with = "null_is_default")]
    pub env: Vec<Variable>,
    /// `Always` makes an init container a sidecar.
    #[prost(string, tag = "24")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub restart_policy: String,
}

/// A variable of a container's environment.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Variable {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value; empty when it comes from elsewhere.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub value: String,
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
