//! Kubernetes and Istio objects, cut down to the fields that a verdict uses. They come off the wire or out of a file,
//! are folded into a snapshot at once, and are what a snapshot file is written from.

mod admission;
mod apps;
mod core;
mod environment;
mod labels;
mod metadata;
pub mod naming;
mod pod;
mod resource;
mod selector;

use std::fmt;

pub use admission::{ClientConfig, MatchCondition, Rule, ServiceReference, Webhook, WebhookConfiguration};
pub use apps::{
    ConfigMapVolume, DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, Deployment, DeploymentPodSpec, DeploymentSpec,
    DeploymentStatus, DeploymentTemplate, Job, JobSpec, LocalReference, MountedVolume, PlainVariable, ReplicaSet, ReplicaSetSpec,
    Rollout, RolloutSpec, StartedContainer, StatefulSet, StatefulSetRollingUpdate, StatefulSetSpec, StatefulSetUpdateStrategy,
    Volume, VolumeSource, WorkloadRef,
};
pub use core::{
    ConfigMap, Endpoint, EndpointConditions, EndpointSlice, Gateway, GatewaySpec, Infrastructure, Namespace, ParametersReference,
    ProxyConfig, ProxyConfigSpec, ProxyImage, Service, ServiceSpec, WorkloadSelector,
};
pub use environment::{Encoded, Environment, Environments, Variable, VolumeMount};
pub use labels::{Interner, Labels, Lookup};
pub use metadata::{Metadata, OwnerReference, StringMap, Time};
pub use pod::{Container, Pod, PodSpec, PodStatus, PodTemplateSpec};
pub use resource::Resource;
pub use selector::{InvalidSelector, LabelSelector, Requirement, UnknownOperator};

/// Any object that a snapshot is made from.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the kind of its name")]
pub enum Object {
    Pod(Pod),
    Namespace(Namespace),
    MutatingWebhookConfiguration(WebhookConfiguration),
    ValidatingWebhookConfiguration(WebhookConfiguration),
    Deployment(Deployment),
    StatefulSet(StatefulSet),
    DaemonSet(DaemonSet),
    ReplicaSet(ReplicaSet),
    Job(Job),
    Rollout(Rollout),
    Service(Service),
    EndpointSlice(EndpointSlice),
    ConfigMap(ConfigMap),
    ProxyConfig(ProxyConfig),
    Gateway(Gateway),
}

/// Why bytes are no object of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable(String);

impl fmt::Display for Undecodable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Undecodable {}

impl From<serde_json::Error> for Undecodable {
    fn from(error: serde_json::Error) -> Undecodable {
        Undecodable(error.to_string())
    }
}

impl From<prost::DecodeError> for Undecodable {
    fn from(error: prost::DecodeError) -> Undecodable {
        Undecodable(error.to_string())
    }
}

/// Runs the same expression on whichever kind an [`Object`] is.
macro_rules! each_kind {
    ($object:expr, $name:ident => $body:expr) => {
        match $object {
            Object::Pod($name) => $body,
            Object::Namespace($name) => $body,
            Object::MutatingWebhookConfiguration($name) => $body,
            Object::ValidatingWebhookConfiguration($name) => $body,
            Object::Deployment($name) => $body,
            Object::StatefulSet($name) => $body,
            Object::DaemonSet($name) => $body,
            Object::ReplicaSet($name) => $body,
            Object::Job($name) => $body,
            Object::Rollout($name) => $body,
            Object::Service($name) => $body,
            Object::EndpointSlice($name) => $body,
            Object::ConfigMap($name) => $body,
            Object::ProxyConfig($name) => $body,
            Object::Gateway($name) => $body,
        }
    };
}

impl Object {
    /// Which list it belongs to.
    pub fn resource(&self) -> Resource {
        match self {
            Object::Pod(_) => Resource::Pods,
            Object::Namespace(_) => Resource::Namespaces,
            Object::MutatingWebhookConfiguration(_) => Resource::MutatingWebhookConfigurations,
            Object::ValidatingWebhookConfiguration(_) => Resource::ValidatingWebhookConfigurations,
            Object::Deployment(_) => Resource::Deployments,
            Object::StatefulSet(_) => Resource::StatefulSets,
            Object::DaemonSet(_) => Resource::DaemonSets,
            Object::ReplicaSet(_) => Resource::ReplicaSets,
            Object::Job(_) => Resource::Jobs,
            Object::Rollout(_) => Resource::Rollouts,
            Object::Service(_) => Resource::Services,
            Object::EndpointSlice(_) => Resource::EndpointSlices,
            Object::ConfigMap(_) => Resource::ConfigMaps,
            Object::ProxyConfig(_) => Resource::ProxyConfigs,
            Object::Gateway(_) => Resource::Gateways,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata {
            name: String::new(),
            namespace: String::new(),
            uid: String::new(),
            generation: 0,
            creation_timestamp: None,
            deletion_timestamp: None,
            labels: StringMap::new(),
            annotations: StringMap::new(),
            owner_references: Vec::new(),
        };
        match self {
            Object::Pod(object) => object.metadata.as_ref(),
            Object::Deployment(object) => object.metadata.as_ref(),
            Object::StatefulSet(object) => object.metadata.as_ref(),
            Object::DaemonSet(object) => object.metadata.as_ref(),
            Object::ReplicaSet(object) => object.metadata.as_ref(),
            Object::Job(object) => object.metadata.as_ref(),
            Object::Rollout(object) => object.metadata.as_ref(),
            Object::Namespace(object) => Some(&object.metadata),
            Object::MutatingWebhookConfiguration(object) | Object::ValidatingWebhookConfiguration(object) => {
                Some(&object.metadata)
            }
            Object::Service(object) => Some(&object.metadata),
            Object::EndpointSlice(object) => Some(&object.metadata),
            Object::ConfigMap(object) => Some(&object.metadata),
            Object::ProxyConfig(object) => Some(&object.metadata),
            Object::Gateway(object) => Some(&object.metadata),
        }
        .unwrap_or(&NONE)
    }

    /// Reads one object of a known kind from JSON.
    ///
    /// # Errors
    /// When it is no JSON, is shaped otherwise, or has a name that no object of Kubernetes can have.
    pub fn from_json(resource: Resource, json: &[u8]) -> Result<Object, Undecodable> {
        use serde_json::from_slice;
        let object = match resource {
            Resource::Pods => Object::Pod(from_slice(json)?),
            Resource::Namespaces => Object::Namespace(from_slice(json)?),
            Resource::MutatingWebhookConfigurations => Object::MutatingWebhookConfiguration(from_slice(json)?),
            Resource::ValidatingWebhookConfigurations => Object::ValidatingWebhookConfiguration(from_slice(json)?),
            Resource::Deployments => Object::Deployment(from_slice(json)?),
            Resource::StatefulSets => Object::StatefulSet(from_slice(json)?),
            Resource::DaemonSets => Object::DaemonSet(from_slice(json)?),
            Resource::ReplicaSets => Object::ReplicaSet(from_slice(json)?),
            Resource::Jobs => Object::Job(from_slice(json)?),
            Resource::Rollouts => Object::Rollout(from_slice(json)?),
            Resource::Services => Object::Service(from_slice(json)?),
            Resource::EndpointSlices => Object::EndpointSlice(from_slice(json)?),
            Resource::ConfigMaps => Object::ConfigMap(from_slice(json)?),
            Resource::ProxyConfigs => Object::ProxyConfig(from_slice(json)?),
            Resource::Gateways => Object::Gateway(from_slice(json)?),
        };
        object.checked()
    }

    /// Reads one object of a known kind from protobuf. `None` for kinds that are only read as JSON.
    pub fn from_protobuf(resource: Resource, bytes: &[u8]) -> Option<Result<Object, Undecodable>> {
        use prost::Message;
        let object = match resource {
            Resource::Pods => Pod::decode(bytes).map(Object::Pod),
            Resource::Deployments => Deployment::decode(bytes).map(Object::Deployment),
            Resource::StatefulSets => StatefulSet::decode(bytes).map(Object::StatefulSet),
            Resource::DaemonSets => DaemonSet::decode(bytes).map(Object::DaemonSet),
            Resource::ReplicaSets => ReplicaSet::decode(bytes).map(Object::ReplicaSet),
            Resource::Jobs => Job::decode(bytes).map(Object::Job),
            _ => return None,
        };
        Some(object.map_err(Undecodable::from).and_then(Object::checked))
    }

    /// Reads a `PartialObjectMetadata` from protobuf: an object of a known kind of which only the metadata is there. `None`
    /// for kinds that are never read so.
    pub fn from_partial_metadata(resource: Resource, bytes: &[u8]) -> Option<Result<Object, Undecodable>> {
        use prost::Message;
        // k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto: the metadata is field 1, as in every object.
        let metadata = || Pod::decode(bytes).map(|partial| partial.metadata.unwrap_or_default());
        let object = match resource {
            Resource::Pods => Pod::decode(bytes).map(Object::Pod),
            Resource::Namespaces => metadata().map(|metadata| Object::Namespace(Namespace { metadata })),
            Resource::ReplicaSets => {
                metadata().map(|metadata| Object::ReplicaSet(ReplicaSet { metadata: Some(metadata), spec: None }))
            }
            _ => return None,
        };
        Some(object.map_err(Undecodable::from).and_then(Object::checked))
    }

    /// The object, if its names are names.
    fn checked(mut self) -> Result<Object, Undecodable> {
        let mut none = Metadata::default();
        let metadata = match &mut self {
            Object::Pod(object) => object.metadata.as_mut(),
            Object::Deployment(object) => object.metadata.as_mut(),
            Object::StatefulSet(object) => object.metadata.as_mut(),
            Object::DaemonSet(object) => object.metadata.as_mut(),
            Object::ReplicaSet(object) => object.metadata.as_mut(),
            Object::Job(object) => object.metadata.as_mut(),
            Object::Rollout(object) => object.metadata.as_mut(),
            Object::Namespace(object) => Some(&mut object.metadata),
            Object::MutatingWebhookConfiguration(object) | Object::ValidatingWebhookConfiguration(object) => {
                Some(&mut object.metadata)
            }
            Object::Service(object) => Some(&mut object.metadata),
            Object::EndpointSlice(object) => Some(&mut object.metadata),
            Object::ConfigMap(object) => Some(&mut object.metadata),
            Object::ProxyConfig(object) => Some(&mut object.metadata),
            Object::Gateway(object) => Some(&mut object.metadata),
        };
        naming::check(metadata.unwrap_or(&mut none)).map_err(Undecodable)?;
        Ok(self)
    }

    /// The metadata of an object that cannot be decoded whole, from protobuf: what names it is mostly still readable.
    pub fn metadata_from_protobuf(bytes: &[u8]) -> Option<Metadata> {
        /// Any object: its metadata is field 1, and the rest is passed over.
        #[derive(Clone, PartialEq, prost::Message)]
        struct Named {
            #[prost(message, optional, tag = "1")]
            metadata: Option<Metadata>,
        }
        use prost::Message;
        Named::decode(bytes).ok()?.metadata
    }

    /// The metadata of an object that cannot be read whole, from JSON.
    pub fn metadata_from_json(json: &[u8]) -> Option<Metadata> {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: Metadata,
        }
        serde_json::from_slice::<Named>(json).ok().map(|named| named.metadata)
    }

    /// Writes its fields as JSON, without `apiVersion` and `kind`: equal objects give equal bytes.
    pub fn write_fields(&self, out: impl std::io::Write) {
        each_kind!(self, object => serde_json::to_writer(out, object)).expect("these types have only string keys");
    }

    /// As JSON with `apiVersion` and `kind`, as a List holds it.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = each_kind!(self, object => serde_json::to_value(object)).expect("these types have only string keys");
        let resource = self.resource();
        let fields = value.as_object_mut().expect("every kind is a JSON object");
        fields.insert("apiVersion".to_owned(), resource.api_version().into());
        fields.insert("kind".to_owned(), resource.kind().into());
        value
    }
}

/// Whether a value is its type's default, and so need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
