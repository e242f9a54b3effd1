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
    /// Objects whose entries are variables.
    #[prost(message, repeated, tag = "19")]
    #[serde(deserialize_with = "null_is_default")]
    pub env_from: Vec<VariableSource>,
    /// Where volumes stand.
    #[prost(message, repeated, tag = "9")]
    #[serde(deserialize_with = "null_is_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// What the kubelet asks while it runs.
    #[prost(message, optional, tag = "10")]
    pub liveness_probe: Option<Probe>,
    /// What the kubelet asks before traffic comes.
    #[prost(message, optional, tag = "11")]
    pub readiness_probe: Option<Probe>,
    /// What the kubelet asks while it starts.
    #[prost(message, optional, tag = "22")]
    pub startup_probe: Option<Probe>,
    /// What is done when it starts and ends.
    #[prost(message, optional, tag = "12")]
    pub lifecycle: Option<Lifecycle>,
}

/// A probe, as far as it names a host: its handler is a part of it in JSON, and a field of its own in protobuf.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// What is asked.
    #[prost(message, optional, tag = "1")]
    #[serde(flatten)]
    pub handler: Option<Handler>,
}

/// Hooks of a container.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// After its start.
    #[prost(message, optional, tag = "1")]
    pub post_start: Option<Handler>,
    /// Before its end.
    #[prost(message, optional, tag = "2")]
    pub pre_stop: Option<Handler>,
}

/// What a probe or a hook does (`ProbeHandler` and `LifecycleHandler`, whose fields have the same numbers).
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Handler {
    /// A command.
    #[prost(message, optional, tag = "1")]
    pub exec: Option<Exec>,
    /// A request.
    #[prost(message, optional, tag = "2")]
    pub http_get: Option<Request>,
    /// A connection.
    #[prost(message, optional, tag = "3")]
    pub tcp_socket: Option<Socket>,
}

/// A command that is run in a container.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Its words.
    #[prost(string, repeated, tag = "1")]
    #[serde(deserialize_with = "null_is_default")]
    pub command: Vec<String>,
}

/// A request to a host; empty for the pod itself.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The host.
    #[prost(string, tag = "3")]
    #[serde(deserialize_with = "null_is_default")]
    pub host: String,
}

/// A connection to a host; empty for the pod itself.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Socket {
    /// The host.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "null_is_default")]
    pub host: String,
}

/// Where a volume stands in a container.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMount {
    /// The volume.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its path.
    #[prost(string, tag = "3")]
    pub mount_path: String,
}

/// The name of an object in the pod's namespace.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// The name.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

/// A reference that is a field of its own in protobuf, and a part of what holds it in JSON.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Source {
    /// What is referred to.
    #[prost(message, optional, tag = "1")]
    #[serde(flatten)]
    pub reference: Option<Reference>,
}

impl Source {
    /// The name of what is referred to.
    pub fn name(&self) -> &str {
        self.reference.as_ref().map_or("", |reference| reference.name.as_str())
    }
}

/// Where the variables of a container come from.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VariableSource {
    /// A ConfigMap.
    #[prost(message, optional, tag = "2")]
    pub config_map_ref: Option<Source>,
    /// A Secret.
    #[prost(message, optional, tag = "3")]
    pub secret_ref: Option<Source>,
}

/// Where the value of a variable comes from.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValueSource {
    /// An entry of a ConfigMap.
    #[prost(message, optional, tag = "3")]
    pub config_map_key_ref: Option<Source>,
    /// An entry of a Secret.
    #[prost(message, optional, tag = "4")]
    pub secret_key_ref: Option<Source>,
}

/// A volume of a pod, as far as it is made of objects (`Volume`, which holds a `VolumeSource`).
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is made of.
    #[prost(message, optional, tag = "2")]
    #[serde(flatten)]
    pub source: Option<VolumeContent>,
}

/// What a volume is made of.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeContent {
    /// A Secret.
    #[prost(message, optional, tag = "6")]
    pub secret: Option<SecretVolume>,
    /// A ConfigMap.
    #[prost(message, optional, tag = "19")]
    pub config_map: Option<Source>,
    /// Several objects.
    #[prost(message, optional, tag = "26")]
    pub projected: Option<Projected>,
}

/// A volume from a Secret.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretVolume {
    /// The Secret.
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "null_is_default")]
    pub secret_name: String,
}

/// A volume from several objects.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub struct Projected {
    /// The objects.
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "null_is_default")]
    pub sources: Vec<Projection>,
}

/// One of them.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Projection {
    /// A Secret.
    #[prost(message, optional, tag = "1")]
    pub secret: Option<Source>,
    /// A ConfigMap.
    #[prost(message, optional, tag = "3")]
    pub config_map: Option<Source>,
}

impl Environment {
    /// The hosts that its probes and hooks call, and the words of their commands.
    pub fn handled(&self) -> impl Iterator<Item = &str> {
        let probes = [&self.liveness_probe, &self.readiness_probe, &self.startup_probe];
        let probes = probes.into_iter().flatten().filter_map(|probe| probe.handler.as_ref());
        let hooks = self.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]).flatten();
        probes.chain(hooks).flat_map(|handler| {
            let words = handler.exec.iter().flat_map(|exec| exec.command.iter().map(String::as_str));
            let request = handler.http_get.iter().map(|request| request.host.as_str());
            let socket = handler.tcp_socket.iter().map(|socket| socket.host.as_str());
            words.chain(request).chain(socket)
        })
    }
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
    /// Where its value comes from, when it is not given here.
    #[prost(message, optional, tag = "3")]
    pub value_from: Option<ValueSource>,
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
    /// Volumes.
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
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

    /// The ConfigMaps that they read, each name as often as it is named.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        let variables = self.iter().flat_map(|container| {
            let whole = container.env_from.iter().filter_map(|source| source.config_map_ref.as_ref());
            let entries = container.env.iter().filter_map(|variable| variable.value_from.as_ref()?.config_map_key_ref.as_ref());
            whole.chain(entries)
        });
        let contents = self.volumes.iter().filter_map(|volume| volume.source.as_ref());
        let volumes = contents.flat_map(|content| {
            let projected = content.projected.iter().flat_map(|projected| &projected.sources);
            content.config_map.iter().chain(projected.filter_map(|source| source.config_map.as_ref()))
        });
        variables.chain(volumes).map(Source::name).filter(|name| !name.is_empty())
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
        let named = |name: &str| Some(Source { reference: Some(Reference { name: name.to_owned() }) });
        let value = "istiod.istio-system.svc:15012".to_owned();
        let variable = Variable { name: "CA_ADDR".to_owned(), value, value_from: None };
        let value_from = Some(ValueSource { config_map_key_ref: named("one"), secret_key_ref: None });
        let composed = Variable { name: "REV".to_owned(), value: String::new(), value_from };
        let request = |host: &str| Handler { http_get: Some(Request { host: host.to_owned() }), ..Handler::default() };
        let environment = Environment {
            image: "proxyv2".to_owned(),
            command: vec!["run".to_owned()],
            args: vec!["proxy".to_owned()],
            env: vec![variable, composed],
            env_from: vec![VariableSource { config_map_ref: named("whole"), secret_ref: None }],
            volume_mounts: vec![VolumeMount { name: "files".to_owned(), mount_path: "/etc/xds".to_owned() }],
            liveness_probe: Some(Probe { handler: Some(request("alive")) }),
            lifecycle: Some(Lifecycle { post_start: None, pre_stop: Some(request("ending")) }),
            ..Environment::default()
        };
        let projected = Projected { sources: vec![Projection { secret: None, config_map: named("part") }] };
        let volume = |content: VolumeContent| Volume { name: "files".to_owned(), source: Some(content) };
        let volumes = vec![
            volume(VolumeContent { config_map: named("mounted"), ..VolumeContent::default() }),
            volume(VolumeContent { projected: Some(projected), ..VolumeContent::default() }),
        ];
        let environments = Environments { containers: Vec::new(), init_containers: vec![environment], volumes };
        assert_eq!(environments.config_maps().collect::<Vec<_>>(), ["whole", "one", "mounted", "part"]);
        assert_eq!(environments.iter().flat_map(Environment::handled).collect::<Vec<_>>(), ["alive", "ending"]);
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
            "env": [{"name": "CA_ADDR", "value": "istiod.istio-system.svc:15012"},
                {"name": "REV", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "rev"}}}],
            "envFrom": [{"configMapRef": {"name": "whole"}}],
            "volumeMounts": [{"name": "files", "mountPath": "/etc/xds"}],
            "livenessProbe": {"httpGet": {"host": "alive", "port": 80}, "periodSeconds": 3},
            "lifecycle": {"preStop": {"httpGet": {"host": "ending", "port": 80}}}});
        let volumes = json!([{"name": "files", "configMap": {"name": "mounted"}},
            {"name": "files", "projected": {"sources": [{"configMap": {"name": "part"}}]}}]);
        let pod = json!({"spec": {"containers": null, "initContainers": [container], "volumes": volumes}});
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
