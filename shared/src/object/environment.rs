//! What the containers of pods are started with: environments, entry points and arguments. They are the larger part of a pod, and no
//! verdict depends on them, so they are decoded only where it is asked who calls whom.

use serde::Deserialize;

use super::metadata::null_is_default;
use super::{Resource, Undecodable};

/// An object as it came.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'a> {
    /// In protobuf, without the envelope.
    Protobuf(&'a [u8]),
    /// As JSON.
    Json(&'a [u8]),
}

/// What a container is started with.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Environment {
    /// Image reference as declared.
    #[prost(string, tag = "2")]
    pub image: String,
    /// Its entry point, where the pod gives one.
    #[prost(string, repeated, tag = "3")]
    #[serde(deserialize_with = "null_is_default")]
    pub command: Vec<String>,
    /// Arguments.
    #[prost(string, repeated, tag = "4")]
    #[serde(deserialize_with = "null_is_default")]
    pub args: Vec<String>,
    /// Variables.
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<Variable>,
}

/// A variable of a container's environment.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
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

/// The environments of a pod's containers.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Environments {
    /// Containers.
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub containers: Vec<Environment>,
    /// Init containers, native sidecars among them.
    #[prost(message, repeated, tag = "20")]
    #[serde(deserialize_with = "null_is_default")]
    pub init_containers: Vec<Environment>,
}

/// A pod or a template of pods: both have their specification in the same field.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct Specified {
    #[prost(message, optional, tag = "2")]
    spec: Option<Environments>,
}

/// A Deployment, a StatefulSet, or a workload of any kind as JSON.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct Workload {
    #[prost(message, optional, tag = "2")]
    spec: Option<WorkloadSpec>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct WorkloadSpec {
    #[prost(message, optional, tag = "3")]
    template: Option<Specified>,
}

/// A DaemonSet, whose template has another field in protobuf (k8s.io/api/apps/v1/generated.proto).
#[derive(Clone, PartialEq, prost::Message)]
struct DaemonSet {
    #[prost(message, optional, tag = "2")]
    spec: Option<DaemonSetSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DaemonSetSpec {
    #[prost(message, optional, tag = "2")]
    template: Option<Specified>,
}

impl Environments {
    /// Those of a pod, or of the template of a workload. Other kinds have none.
    ///
    /// # Errors
    /// When it is shaped otherwise.
    pub fn of(resource: Resource, encoded: Encoded<'_>) -> Result<Environments, Undecodable> {
        use prost::Message;
        let template = |spec: Option<WorkloadSpec>| spec.and_then(|spec| spec.template);
        let specified = match (resource, encoded) {
            (Resource::Pods, Encoded::Protobuf(bytes)) => Some(Specified::decode(bytes)?),
            (Resource::Pods, Encoded::Json(text)) => Some(serde_json::from_slice(text)?),
            (Resource::Deployments | Resource::StatefulSets, Encoded::Protobuf(bytes)) => template(Workload::decode(bytes)?.spec),
            (Resource::DaemonSets, Encoded::Protobuf(bytes)) => DaemonSet::decode(bytes)?.spec.and_then(|spec| spec.template),
            (Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets | Resource::Rollouts, Encoded::Json(text)) => {
                template(serde_json::from_slice::<Workload>(text)?.spec)
            }
            _ => None,
        };
        Ok(specified.and_then(|specified| specified.spec).unwrap_or_default())
    }

    /// Those of a template of pods.
    ///
    /// # Errors
    /// When it is shaped otherwise.
    pub fn of_template(template: serde_json::Value) -> Result<Environments, Undecodable> {
        Ok(serde_json::from_value::<Specified>(template)?.spec.unwrap_or_default())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Environment> {
        self.containers.iter().chain(&self.init_containers)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_environment_is_read_from_every_kind_and_encoding() {
        let variable = Variable { name: "CA_ADDR".to_owned(), value: "istiod.istio-system.svc:15012".to_owned() };
        let environment = Environment {
            image: "proxyv2".to_owned(),
            command: vec!["run".to_owned()],
            args: vec!["proxy".to_owned()],
            env: vec![variable],
        };
        let environments = Environments { containers: Vec::new(), init_containers: vec![environment] };
        let specified = || Some(Specified { spec: Some(environments.clone()) });
        let pod = specified().unwrap().encode_to_vec();
        let workload = Workload { spec: Some(WorkloadSpec { template: specified() }) }.encode_to_vec();
        let daemon_set = DaemonSet { spec: Some(DaemonSetSpec { template: specified() }) }.encode_to_vec();
        for (resource, bytes) in [
            (Resource::Pods, &pod),
            (Resource::Deployments, &workload),
            (Resource::StatefulSets, &workload),
            (Resource::DaemonSets, &daemon_set),
        ] {
            assert_eq!(Environments::of(resource, Encoded::Protobuf(bytes)), Ok(environments.clone()), "{resource}");
        }
        let container = json!({"name": "istio-proxy", "image": "proxyv2", "command": ["run"], "args": ["proxy"],
            "env": [{"name": "CA_ADDR", "value": "istiod.istio-system.svc:15012"}]});
        let pod = json!({"spec": {"containers": null, "initContainers": [container]}});
        let workload = json!({"spec": {"template": pod}});
        for (resource, object) in [
            (Resource::Pods, &pod),
            (Resource::Deployments, &workload),
            (Resource::StatefulSets, &workload),
            (Resource::DaemonSets, &workload),
            (Resource::Rollouts, &workload),
        ] {
            let text = object.to_string();
            assert_eq!(Environments::of(resource, Encoded::Json(text.as_bytes())), Ok(environments.clone()), "{resource}");
        }
        assert_eq!(Environments::of_template(pod), Ok(environments));
        assert!(Environments::of(Resource::Pods, Encoded::Json(br#"{"spec": {"containers": [{"env": 1}]}}"#)).is_err());
    }
}
