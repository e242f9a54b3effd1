//! The controllers of pods: `apps/v1`, `batch/v1` and Argo Rollouts.

use serde::{Deserialize, Serialize};

use super::metadata::{Metadata, null_is_default};
use super::pod::{Container, PodSpec, PodTemplateSpec};
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
    pub template: Option<DeploymentTemplate>,
    /// Whether changes of the template are held back.
    #[prost(bool, tag = "7")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// A Deployment's template: as every other, and with what an istiod is started with.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentTemplate {
    /// Metadata.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// Specification.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<DeploymentPodSpec>,
}

/// The specification of a Deployment's pods.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentPodSpec {
    /// Volumes.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
    /// Containers.
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<StartedContainer>,
    /// Init containers, native sidecars among them.
    #[prost(message, repeated, tag = "20")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub init_containers: Vec<Container>,
    /// Whether it shares the node's network.
    #[prost(bool, tag = "11")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
}

/// A container with what it is started with.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartedContainer {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Image reference as declared.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Variables.
    #[prost(message, repeated, tag = "7")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<PlainVariable>,
    /// Where volumes are mounted.
    #[prost(message, repeated, tag = "9")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub volume_mounts: Vec<MountedVolume>,
}

/// A variable with the value that is written there; empty when it comes from elsewhere.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PlainVariable {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub value: String,
}

/// A volume; only of ConfigMaps.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where it comes from.
    #[prost(message, optional, tag = "2")]
    #[serde(flatten)]
    pub source: Option<VolumeSource>,
}

/// Where a volume comes from. In protobuf it is a message of its own, in JSON its members stand in the volume.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSource {
    /// The ConfigMap that it is.
    #[prost(message, optional, tag = "19")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
}

/// A ConfigMap as a volume.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigMapVolume {
    /// Its name, in protobuf inside of a reference.
    #[prost(message, optional, tag = "1")]
    #[serde(flatten)]
    pub reference: Option<LocalReference>,
}

/// A name in the same namespace.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalReference {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Where a volume is mounted.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountedVolume {
    /// The volume's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The path.
    #[prost(string, tag = "3")]
    pub mount_path: String,
}

impl DeploymentTemplate {
    /// As every other template of pods.
    pub fn pods(self) -> PodTemplateSpec {
        let plain = |container: StartedContainer| Container {
            name: container.name,
            image: container.image,
            restart_policy: String::new(),
        };
        let spec = self.spec.map(|spec| PodSpec {
            containers: spec.containers.into_iter().map(plain).collect(),
            init_containers: spec.init_containers,
            host_network: spec.host_network,
        });
        PodTemplateSpec { metadata: self.metadata, spec }
    }

    /// The ConfigMap that one of its containers has mounted at this path.
    pub fn config_map_at(&self, path: &str) -> Option<&str> {
        let spec = self.spec.as_ref()?;
        let mounts = spec.containers.iter().flat_map(|container| &container.volume_mounts);
        let mut of_path = mounts.filter(|mount| mount.mount_path.trim_end_matches('/') == path);
        of_path.find_map(|mount| {
            let volume = spec.volumes.iter().find(|volume| volume.name == mount.name)?;
            Some(volume.source.as_ref()?.config_map.as_ref()?.reference.as_ref()?.name.as_str())
        })
    }
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
