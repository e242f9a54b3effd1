//! The controllers of pods: `apps/v1`, `batch/v1` and Argo Rollouts.

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::pod::PodTemplateSpec;
use super::resource::Resource;
use super::selector::LabelSelector;

/// Declares a controller kind: `metadata` and a `spec` whose fields have the given protobuf tags.
macro_rules! controller {
    ($(#[$kind_doc:meta])* $kind:ident, $(#[$spec_doc:meta])* $spec:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$kind_doc])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $kind {
            /// Metadata.
            #[prost(message, optional, tag = "1")]
            pub metadata: Option<Metadata>,
            /// Specification.
            #[prost(message, optional, tag = "2")]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub spec: Option<$spec>,
        }

        $(#[$spec_doc])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $spec {
            $($(#[$attribute])* #[serde(skip_serializing_if = "crate::object::is_default")] pub $field: $type,)*
        }
    };
}

/// `apps/v1` Deployment.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// Metadata.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// Specification.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<DeploymentSpec>,
    /// Status.
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeploymentStatus>,
}

/// A Deployment's specification.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    /// Wanted number of pods; 1 when absent.
    #[prost(int32, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Which pods are its own.
    #[prost(message, optional, tag = "2")]
    pub selector: Option<LabelSelector>,
    /// What new pods are made from.
    #[prost(message, optional, tag = "3")]
    pub template: Option<PodTemplateSpec>,
    /// Whether changes of the template are held back.
    #[prost(bool, tag = "7")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// The part of a Deployment's status that readiness is read from.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    /// The generation that the controller has seen.
    #[prost(int64, tag = "1")]
    #[serde(skip_serializing_if = "crate::object::is_default")]
    pub observed_generation: i64,
    /// Pods that are ready.
    #[prost(int32, tag = "7")]
    #[serde(skip_serializing_if = "crate::object::is_default")]
    pub ready_replicas: i32,
}

controller! {
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// Its specification.
    StatefulSetSpec {
        /// Wanted number of pods; 1 when absent.
        #[prost(int32, optional, tag = "1")] replicas: Option<i32>,
        /// Which pods are its own.
        #[prost(message, optional, tag = "2")] selector: Option<LabelSelector>,
        /// What new pods are made from.
        #[prost(message, optional, tag = "3")] template: Option<PodTemplateSpec>,
        /// How a changed template reaches the pods.
        #[prost(message, optional, tag = "7")] update_strategy: Option<StatefulSetUpdateStrategy>,
    }
}

controller! {
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// Its specification.
    DaemonSetSpec {
        /// Which pods are its own.
        #[prost(message, optional, tag = "1")] selector: Option<LabelSelector>,
        /// What new pods are made from.
        #[prost(message, optional, tag = "2")] template: Option<PodTemplateSpec>,
        /// How a changed template reaches the pods.
        #[prost(message, optional, tag = "3")] update_strategy: Option<DaemonSetUpdateStrategy>,
    }
}

controller! {
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// Its specification.
    ReplicaSetSpec {
        /// Wanted number of pods; 1 when absent.
        #[prost(int32, optional, tag = "1")] replicas: Option<i32>,
        /// Which pods are its own.
        #[prost(message, optional, tag = "2")] selector: Option<LabelSelector>,
        /// What new pods are made from.
        #[prost(message, optional, tag = "3")] template: Option<PodTemplateSpec>,
    }
}

controller! {
    /// `batch/v1` Job.
    Job,
    /// Its specification.
    JobSpec {
        /// What its pods are made from.
        #[prost(message, optional, tag = "6")] template: Option<PodTemplateSpec>,
    }
}

controller! {
    /// `argoproj.io/v1alpha1` Rollout. A custom resource: it has no protobuf encoding, so its tags mean nothing.
    Rollout,
    /// Its specification.
    RolloutSpec {
        /// Wanted number of pods; 1 when absent.
        #[prost(int32, optional, tag = "1")] replicas: Option<i32>,
        /// Which pods are its own.
        #[prost(message, optional, tag = "2")] selector: Option<LabelSelector>,
        /// What new pods are made from; absent when it refers to a Deployment's.
        #[prost(message, optional, tag = "3")] template: Option<PodTemplateSpec>,
        /// The workload whose template it uses instead of its own.
        #[prost(message, optional, tag = "4")] workload_ref: Option<WorkloadRef>,
        /// Whether changes of the template are held back.
        #[prost(bool, tag = "7")] paused: bool,
    }
}

/// The workload whose template a Rollout uses.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadRef {
    /// Kind, for example `Deployment`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Name, in the Rollout's namespace.
    #[prost(string, tag = "2")]
    pub name: String,
    /// API version, for example `apps/v1`.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
}

impl WorkloadRef {
    /// What it refers to, where a snapshot reads that. Argo Rollouts takes the pod template of a Deployment, a ReplicaSet or a
    /// PodTemplate (`infoByGroupKind` in rollout/templateref.go, 1.8).
    pub fn resource(&self) -> Option<Resource> {
        // Files of an earlier --save leave the version out.
        let api_version = if self.api_version.is_empty() { "apps/v1" } else { &self.api_version };
        let resource = Resource::of_kind(api_version, &self.kind);
        resource.filter(|resource| matches!(resource, Resource::Deployments | Resource::ReplicaSets))
    }
}

/// How a changed template reaches the pods of a StatefulSet.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetUpdateStrategy {
    /// `RollingUpdate` or `OnDelete`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Details of `RollingUpdate`.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<StatefulSetRollingUpdate>,
}

/// Details of a StatefulSet's `RollingUpdate`.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetRollingUpdate {
    /// Pods with a lower ordinal keep the old template; 0 when absent.
    #[prost(int32, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
}

/// How a changed template reaches the pods of a DaemonSet.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetUpdateStrategy {
    /// `RollingUpdate` or `OnDelete`.
    #[prost(string, tag = "1")]
    pub r#type: String,
}
