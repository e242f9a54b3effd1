//! Whom pods and templates call: the addresses in their environment, their arguments and their own configuration of the proxy.
//!
//! A proxy asks the istiod of its effective `discoveryAddress` for configuration and that of its `CA_ADDR` for certificates,
//! whichever revision has injected it (pkg/bootstrap and pkg/istio-agent of Istio). ztunnel, istio-cni, agentgateway and
//! proxyless clients say the same in variables of other names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::variables::{Text, Variables};
use crate::census::workload_of;
use crate::image::Image;
use crate::labels;
use crate::object::{Encoded, Environment, Environments, Interner, Metadata, Object, Pod, Resource, Variable, VolumeMount};
use crate::proxy::{Proxy, is_alive, running_revision};
use crate::workload::WorkloadId;

/// Where ztunnel goes when nothing says otherwise (src/config.rs of ztunnel).
const ZTUNNELS_DEFAULT: &str = "istiod.istio-system.svc:15012";

/// Equal pods of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCallers {
    /// Their workload, as far as their own metadata tells.
    pub workload: WorkloadId,
    /// The revision that they say they are of.
    pub revision: Option<Arc<str>>,
    /// What sort of pods they are.
    pub role: Role,
    /// The addresses that they call.
    pub addresses: Vec<Arc<str>>,
    /// How many.
    pub pods: u32,
}

/// What sort of pod calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has a proxy.
    Proxied,
    /// istiod makes it for a Gateway, and its container is none of Envoy's: agentgateway.
    OtherGateway,
    /// An istiod: what it calls is its own affair.
    Istiod,
    /// Any other.
    Other,
}

/// A template whose pods call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateCallers {
    /// Whose template it is.
    pub workload: WorkloadId,
    /// The addresses that stand in it.
    pub addresses: Vec<Arc<str>>,
}

/// A pod with a proxy that is being deleted: no workload counts it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminating {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The revision that its proxy names.
    pub revision: Option<String>,
    /// The addresses that it calls.
    pub addresses: Vec<Arc<str>>,
}

/// Everybody who calls somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// Living pods that call somebody, sorted by workload.
    pub pods: Vec<PodCallers>,
    /// Templates, sorted.
    pub templates: Vec<TemplateCallers>,
    /// Pods that are on their way out, in the order in which they came.
    pub terminating: Vec<Terminating>,
    /// Pods that have a proxy, as istiod calls them: `NAME.NAMESPACE`.
    pub proxies: HashSet<String>,
    /// ConfigMaps from which pods, and those of templates, have variables or files: namespace and name.
    pub config_maps: BTreeSet<(String, String)>,
    /// Whose environment could not be understood, or comes from where nobody looks: a line each.
    pub unread: Vec<String>,
}

/// Callers in the making: objects are taken in as they arrive, and forgotten.
#[derive(Default)]
pub struct CallersBuilder {
    interner: Interner,
    /// Texts that were taken apart, with the addresses in them.
    texts: HashMap<Arc<str>, Vec<Arc<str>>>,
    pods: HashMap<PodKey, u32>,
    templates: BTreeSet<TemplateCallers>,
    terminating: Vec<Terminating>,
    proxies: HashSet<String>,
    /// Each with the kind of object that reads it.
    config_maps: BTreeSet<(String, String, String)>,
    /// Each with the kind of object that it is about.
    unread: BTreeSet<(String, String)>,
}

/// What is equal in a group of pods.
#[derive(PartialEq, Eq, Hash)]
struct PodKey {
    workload: WorkloadId,
    revision: Option<Arc<str>>,
    role: Role,
    addresses: Vec<Arc<str>>,
}

impl CallersBuilder {
    /// Takes in an object, if it is a pod or has a template of pods.
    pub fn add(&mut self, object: &Object, encoded: Encoded<'_>) {
        /// The metadata of the template of a kind's `spec`, where it is there.
        macro_rules! template {
            ($object:expr) => {
                $object.spec.as_ref().and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref())
            };
        }
        let (resource, metadata) = (object.resource(), object.metadata());
        let environments = match Environments::of(resource, encoded) {
            Ok(environments) => environments,
            Err(why) => {
                let (name, namespace) = (&metadata.name, &metadata.namespace);
                let why = format!("{resource}/{name} -n {namespace}: whom it calls cannot be understood: {why}");
                self.unread.insert((resource.kind().to_owned(), why));
                return;
            }
        };
        let template = match object {
            Object::Pod(pod) => return self.add_pod(pod, &environments),
            Object::Deployment(object) => template!(object),
            Object::StatefulSet(object) => template!(object),
            Object::DaemonSet(object) => template!(object),
            Object::Rollout(object) => template!(object),
            // Jobs and ReplicaSets that have pods are seen by them; those without are in the inventory.
            _ => return,
        };
        let workload = WorkloadId {
            namespace: self.interner.text(&metadata.namespace),
            api_version: resource.api_version().into(),
            kind: resource.kind().into(),
            name: metadata.name.as_str().into(),
        };
        self.add_template(workload, template, &environments);
    }

    /// Takes in the template of a workload of any kind.
    pub fn add_template(&mut self, workload: WorkloadId, metadata: Option<&Metadata>, environments: &Environments) {
        if metadata.is_some_and(is_istiod) {
            return;
        }
        self.note_sources(&workload.kind, &workload, environments);
        let addresses = self.addresses(metadata, environments);
        if !addresses.is_empty() {
            self.templates.insert(TemplateCallers { workload, addresses });
        }
    }

    /// Forgets what came of a list that begins again.
    pub fn forget(&mut self, resource: Resource) {
        self.unread.retain(|(kind, _)| kind != resource.kind());
        self.config_maps.retain(|(kind, ..)| kind != resource.kind());
        if resource == Resource::Pods {
            self.pods.clear();
            self.terminating.clear();
            self.proxies.clear();
        } else {
            self.templates.retain(|template| *template.workload.kind != *resource.kind());
        }
    }

    /// Sorts and ends it.
    pub fn build(self) -> Callers {
        let pods = self.pods.into_iter().map(|(PodKey { workload, revision, role, addresses }, pods)| PodCallers {
            workload,
            revision,
            role,
            addresses,
            pods,
        });
        let mut pods: Vec<PodCallers> = pods.collect();
        pods.sort_by(|one, other| {
            let key = |callers: &PodCallers| (callers.workload.clone(), callers.revision.clone(), callers.addresses.clone());
            key(one).cmp(&key(other))
        });
        let unread = self.unread.into_iter().map(|(_, why)| why);
        let config_maps = self.config_maps.into_iter().map(|(_, namespace, name)| (namespace, name));
        Callers {
            pods,
            templates: self.templates.into_iter().collect(),
            terminating: self.terminating,
            proxies: self.proxies,
            config_maps: config_maps.collect(),
            unread: unread.collect(),
        }
    }

    fn add_pod(&mut self, pod: &Pod, environments: &Environments) {
        let Some(metadata) = pod.metadata.as_ref() else { return };
        let proxy = Proxy::of_pod(pod, &mut self.interner);
        if !is_alive(pod) {
            self.add_terminating(pod, metadata, proxy, environments);
            return;
        }
        let role = match &proxy {
            _ if is_istiod(metadata) => Role::Istiod,
            Some(_) => Role::Proxied,
            None if metadata.label(labels::GATEWAY_MANAGED).is_some() => Role::OtherGateway,
            None => Role::Other,
        };
        if role == Role::Proxied {
            self.proxies.insert(format!("{}.{}", metadata.name, metadata.namespace));
        }
        let workload = workload_of(metadata, &mut self.interner);
        if role != Role::Istiod {
            self.note_sources(Resource::Pods.kind(), &workload, environments);
        }
        let addresses = self.addresses(Some(metadata), environments);
        if addresses.is_empty() && role != Role::OtherGateway {
            return;
        }
        let revision = running_revision(metadata).map(|revision| self.interner.text(&revision));
        *self.pods.entry(PodKey { workload, revision, role, addresses }).or_default() += 1;
    }

    fn add_terminating(&mut self, pod: &Pod, metadata: &Metadata, proxy: Option<Proxy>, environments: &Environments) {
        let has_ended = pod.status.as_ref().is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed"));
        let Some(proxy) = proxy.filter(|_| !has_ended) else { return };
        let addresses = self.addresses(Some(metadata), environments);
        self.terminating.push(Terminating {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            revision: proxy.revision.as_deref().map(str::to_owned),
            addresses,
        });
    }

    /// Notes where else containers have their variables and files from: ConfigMaps, but for those that hold nothing but certificates,
    /// and what nobody looks at. `kind` is that of the object that says so.
    fn note_sources(&mut self, kind: &str, workload: &WorkloadId, environments: &Environments) {
        for name in environments.config_maps().filter(|name| !CERTIFICATES.contains(name)) {
            self.config_maps.insert((kind.to_owned(), workload.namespace.to_string(), name.to_owned()));
        }
        let mut doubts: BTreeSet<String> = BTreeSet::new();
        let is_doubtful = |text: &Text| text.is_incomplete && may_name_istiod(&text.text);
        for container in environments.iter() {
            let variables = Variables::of(container);
            for (name, _) in variables.iter().filter(|(_, text)| is_doubtful(text)) {
                doubts.insert(format!("its variable {name} is composed of values that are not known here"));
            }
            if words(container).any(|word| is_doubtful(&variables.expanded(word))) {
                doubts.insert("an argument of it is composed of values that are not known here".to_owned());
            }
            doubts.extend(secret_bootstrap(container, environments));
        }
        let subject = format!("{} -n {}", workload.qualified_name(), workload.namespace);
        self.unread.extend(doubts.into_iter().map(|why| (kind.to_owned(), format!("{subject}: {why}"))));
    }

    /// What a pod calls, sorted, each once.
    fn addresses(&mut self, metadata: Option<&Metadata>, environments: &Environments) -> Vec<Arc<str>> {
        let mut addresses: BTreeSet<Arc<str>> = BTreeSet::new();
        if let Some(config) = metadata.and_then(|metadata| metadata.annotation(labels::PROXY_CONFIG)) {
            addresses.extend(self.parts_of(config));
        }
        for container in environments.iter() {
            let variables = Variables::of(container);
            for (_, value) in variables.iter().filter(|(name, value)| may_be_address(name, &value.text)) {
                addresses.extend(self.parts_of(&value.text));
            }
            let words = words(container).map(|word| variables.expanded(word).text);
            for word in words.filter(|word| may_be_address("", word)) {
                addresses.insert(self.interner.text(&word));
                addresses.extend(word.split_once('=').map(|(_, value)| self.interner.text(value)));
            }
            if is_ztunnel_without_address(container) {
                addresses.insert(self.interner.text(ZTUNNELS_DEFAULT));
            }
        }
        addresses.into_iter().collect()
    }

    /// A text, and every string that is a value in it where it is YAML or JSON.
    fn parts_of(&mut self, text: &str) -> Vec<Arc<str>> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let whole = self.interner.text(text);
        let mut parts = vec![Arc::clone(&whole)];
        if text.contains(':')
            && let Ok(value) = serde_saphyr::from_str::<Value>(text)
        {
            self.collect_strings(&value, &mut parts);
        }
        self.texts.insert(whole, parts.clone());
        parts
    }

    fn collect_strings(&mut self, value: &Value, parts: &mut Vec<Arc<str>>) {
        match value {
            Value::String(text) => parts.push(self.interner.text(text)),
            Value::Array(items) => items.iter().for_each(|item| self.collect_strings(item, parts)),
            Value::Object(fields) => fields.values().for_each(|field| self.collect_strings(field, parts)),
            _ => {}
        }
    }
}

fn is_istiod(metadata: &Metadata) -> bool {
    metadata.label(labels::APP) == Some("istiod")
}

/// The words that a container is started, asked and ended with.
fn words(container: &Environment) -> impl Iterator<Item = &str> {
    container.command.iter().chain(&container.args).map(String::as_str).chain(container.handled())
}

/// ConfigMaps of every namespace that hold certificates: Kubernetes' and Istio's.
const CERTIFICATES: [&str; 2] = ["kube-root-ca.crt", "istio-ca-root-cert"];

/// Whether a variable or an argument may be an address of an istiod: its name says so, or it is a host with a domain or an IP address,
/// or names an istiod.
fn may_be_address(name: &str, value: &str) -> bool {
    const NAMES: [&str; 6] = ["ADDR", "XDS", "DISCOVERY", "PROXY_CONFIG", "MESH_CONFIG", "PILOT"];
    let has_name = NAMES.iter().any(|part| name.contains(part)) || (name.is_empty() && value.contains("ddress"));
    let is_host = value.contains(['.', ':']) && !value.starts_with('/');
    !value.is_empty() && (has_name || is_host || names_istiod(value))
}

/// Whether a text that is not known as a whole may be an address of an istiod.
fn may_name_istiod(text: &str) -> bool {
    names_istiod(text) || ["istio-system", ":15010", ":15012", ":15017"].iter().any(|part| text.contains(part))
}

fn names_istiod(text: &str) -> bool {
    text.as_bytes().windows(6).any(|part| part.eq_ignore_ascii_case(b"istiod"))
}

/// Why it is not known whom a proxyless client of gRPC asks: its bootstrap stands in a Secret, and those are not read.
fn secret_bootstrap(container: &Environment, environments: &Environments) -> Option<String> {
    let is_secret = |variable: &&Variable| {
        let source = variable.value_from.as_ref();
        source.is_some_and(|source| source.secret_key_ref.is_some()) || is_from_secret(&variable.value, container, environments)
    };
    let bootstraps = container.env.iter().filter(|variable| variable.name.starts_with("GRPC_XDS_BOOTSTRAP"));
    let name = &bootstraps.into_iter().find(is_secret)?.name;
    Some(format!("its {name} stands in a Secret, and those are not read"))
}

/// Whether a file of a container comes from a Secret.
fn is_from_secret(path: &str, container: &Environment, environments: &Environments) -> bool {
    let holds = |mount: &&VolumeMount| {
        path.strip_prefix(mount.mount_path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let Some(mount) = container.volume_mounts.iter().filter(holds).max_by_key(|mount| mount.mount_path.len()) else {
        return false;
    };
    let volume = environments.volumes.iter().find(|volume| volume.name == mount.name);
    volume.and_then(|volume| volume.source.as_ref()).is_some_and(|content| {
        let mut parts = content.projected.iter().flat_map(|projected| &projected.sources);
        content.secret.is_some() || parts.any(|part| part.secret.is_some())
    })
}

fn is_ztunnel_without_address(container: &Environment) -> bool {
    let is_address = |name: &str| matches!(name, "CA_ADDRESS" | "XDS_ADDRESS");
    Image::parse(&container.image).name() == "ztunnel" && !container.env.iter().any(|variable| is_address(&variable.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn callers(objects: &[(Resource, Value)]) -> Callers {
        let mut builder = CallersBuilder::default();
        for (resource, object) in objects {
            let json = object.to_string();
            builder.add(&Object::from_json(*resource, json.as_bytes()).unwrap(), Encoded::Json(json.as_bytes()));
        }
        builder.build()
    }

    fn pod(metadata: Value, container: Value) -> Value {
        json!({"metadata": metadata, "spec": {"containers": [container]}})
    }

    #[test]
    fn addresses_stand_in_variables_arguments_and_annotations() {
        let config = "{\"discoveryAddress\":\"istiod-x.istio-system.svc:15012\"}";
        let metadata =
            json!({"name": "a", "namespace": "shop", "annotations": {"proxy.istio.io/config": "discoveryAddress: short:15012"}});
        let container = json!({"name": "istio-proxy", "image": "proxyv2:1.26.0", "args": ["--xds=istiod-y.ns:15010", "proxy"],
            "env": [{"name": "PROXY_CONFIG", "value": config}, {"name": "CA_ADDR", "value": "10.0.0.1:15012"},
                {"name": "OTHER", "value": "nothing"}, {"name": "POD_NAME", "valueFrom": {}}]});
        let found = callers(&[(Resource::Pods, pod(metadata, container))]);
        let addresses: Vec<&str> = found.pods[0].addresses.iter().map(|address| &**address).collect();
        let expected = [
            "--xds=istiod-y.ns:15010",
            "10.0.0.1:15012",
            "discoveryAddress: short:15012",
            "istiod-x.istio-system.svc:15012",
            "istiod-y.ns:15010",
            "short:15012",
            config,
        ];
        assert_eq!(addresses, expected);
        assert!(found.proxies.contains("a.shop"));
    }

    #[test]
    fn addresses_are_composed_and_asked_by_probes_and_come_from_config_maps() {
        let metadata = json!({"name": "a", "namespace": "shop"});
        let container = json!({
            "name": "app", "image": "i",
            "env": [{"name": "REV", "value": "1-26-0"}, {"name": "D", "value": "istiod-$(REV).istio-system.svc:15012"},
                {"name": "IP", "value": "10.0.0.7:15012"}, {"name": "FILE", "value": "/etc/a.json"}],
            "envFrom": [{"configMapRef": {"name": "one"}}],
            "livenessProbe": {"httpGet": {"host": "istiod-p.istio-system", "port": 15014}},
        });
        let mut object = pod(metadata, container);
        object["spec"]["volumes"] =
            json!([{"name": "ca", "configMap": {"name": "istio-ca-root-cert"}}, {"name": "x", "configMap": {"name": "two"}}]);
        let found = callers(&[(Resource::Pods, object)]);
        let addresses: Vec<&str> = found.pods[0].addresses.iter().map(|address| &**address).collect();
        assert_eq!(addresses, ["10.0.0.7:15012", "istiod-1-26-0.istio-system.svc:15012", "istiod-p.istio-system"]);
        let maps: Vec<&str> = found.config_maps.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!((maps, found.unread.len()), (vec!["one", "two"], 0));
    }

    #[test]
    fn what_comes_from_where_nobody_looks_is_unknown() {
        let unread = |container: Value| {
            let mut object = pod(json!({"name": "a", "namespace": "shop"}), container);
            object["spec"]["volumes"] =
                json!([{"name": "xds", "secret": {"secretName": "bootstrap"}}, {"name": "tmp", "emptyDir": {}}]);
            callers(&[(Resource::Pods, object)]).unread
        };
        let from = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
        let mounts = json!([{"name": "tmp", "mountPath": "/etc"}, {"name": "xds", "mountPath": "/etc/xds"}]);
        for (env, expected) in [
            (json!([from("REV"), {"name": "D", "value": "istiod-$(REV).istio-system.svc"}]), 1),
            (json!([from("DB"), {"name": "D", "value": "$(DB).shop.svc:5432"}]), 0),
            (json!([from("GRPC_XDS_BOOTSTRAP_CONFIG")]), 1),
            (json!([{"name": "GRPC_XDS_BOOTSTRAP", "value": "/etc/xds/bootstrap.json"}]), 1),
            (json!([{"name": "GRPC_XDS_BOOTSTRAP", "value": "/etc/other/bootstrap.json"}]), 0),
            (json!([from("PASSWORD")]), 0),
        ] {
            let found = unread(json!({"name": "app", "image": "i", "env": env, "volumeMounts": mounts}));
            assert_eq!(found.len(), expected, "{env}: {found:?}");
        }
    }

    #[test]
    fn ztunnel_falls_back_to_the_istiod_without_a_revision() {
        let container = json!({"name": "istio-proxy", "image": "docker.io/istio/ztunnel:1.26.0"});
        let template = json!({"metadata": {"name": "ztunnel", "namespace": "istio-system"},
            "spec": {"template": {"spec": {"containers": [container]}}}});
        let found = callers(&[(Resource::DaemonSets, template)]);
        assert_eq!(&*found.templates[0].addresses[0], ZTUNNELS_DEFAULT);
        let told = json!({"name": "istio-proxy", "image": "ztunnel:1.26.0", "env": [{"name": "XDS_ADDRESS", "value": "https://x:15012"}]});
        let template = json!({"metadata": {"name": "ztunnel", "namespace": "istio-system"}, "spec": {"template": {"spec": {"containers": [told]}}}});
        let found = callers(&[(Resource::DaemonSets, template)]);
        assert_eq!(&*found.templates[0].addresses[0], "https://x:15012");
    }

    #[test]
    fn an_istiod_is_no_caller_and_the_ended_call_nobody() {
        let container = json!({"name": "c", "image": "i", "env": [{"name": "X", "value": "istiod.istio-system.svc"}]});
        let istiod = pod(json!({"name": "i", "namespace": "n", "labels": {"app": "istiod"}}), container.clone());
        let mut ended = pod(json!({"name": "e", "namespace": "n"}), container);
        ended["status"]["phase"] = "Succeeded".into();
        let found = callers(&[(Resource::Pods, istiod), (Resource::Pods, ended)]);
        let roles: Vec<Role> = found.pods.iter().map(|pods| pods.role).collect();
        assert_eq!(roles, [Role::Istiod]);
    }
}
