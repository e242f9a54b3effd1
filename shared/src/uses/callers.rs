//! Whom pods and templates call: the addresses in their environment, their arguments and their own configuration of the proxy.
//!
//! A proxy asks the istiod of its effective `discoveryAddress` for configuration and that of its `CA_ADDR` for certificates,
//! whichever revision has injected it (pkg/bootstrap and pkg/istio-agent of Istio). ztunnel, istio-cni, agentgateway and
//! proxyless clients say the same in variables of other names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::census::workload_of;
use crate::image::Image;
use crate::labels;
use crate::object::{Encoded, Environment, Environments, Interner, Metadata, Object, Pod, Resource};
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
    /// Whose environment could not be understood: a line each.
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
    unread: Vec<(Resource, String)>,
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
                return self.unread.push((resource, why));
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
        let addresses = self.addresses(metadata, environments);
        if !addresses.is_empty() {
            self.templates.insert(TemplateCallers { workload, addresses });
        }
    }

    /// Forgets what came of a list that begins again.
    pub fn forget(&mut self, resource: Resource) {
        self.unread.retain(|(of, _)| *of != resource);
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
        Callers {
            pods,
            templates: self.templates.into_iter().collect(),
            terminating: self.terminating,
            proxies: self.proxies,
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
        let addresses = self.addresses(Some(metadata), environments);
        if addresses.is_empty() && role != Role::OtherGateway {
            return;
        }
        let revision = running_revision(metadata).map(|revision| self.interner.text(&revision));
        let workload = workload_of(metadata, &mut self.interner);
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

    /// What a pod calls, sorted, each once.
    fn addresses(&mut self, metadata: Option<&Metadata>, environments: &Environments) -> Vec<Arc<str>> {
        let mut addresses: BTreeSet<Arc<str>> = BTreeSet::new();
        if let Some(config) = metadata.and_then(|metadata| metadata.annotation(labels::PROXY_CONFIG)) {
            addresses.extend(self.parts_of(config));
        }
        for container in environments.iter() {
            for variable in container.env.iter().filter(|variable| may_be_address(&variable.name, &variable.value)) {
                addresses.extend(self.parts_of(&variable.value));
            }
            for argument in container.command.iter().chain(&container.args).filter(|argument| may_be_address("", argument)) {
                addresses.insert(self.interner.text(argument));
                addresses.extend(argument.split_once('=').map(|(_, value)| self.interner.text(value)));
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

/// Whether a variable or an argument may name an istiod: it says so itself, or its name does.
fn may_be_address(name: &str, value: &str) -> bool {
    const NAMES: [&str; 6] = ["ADDR", "XDS", "DISCOVERY", "PROXY_CONFIG", "MESH_CONFIG", "PILOT"];
    let has_name = NAMES.iter().any(|part| name.contains(part)) || (name.is_empty() && value.contains("ddress"));
    !value.is_empty() && (has_name || value.as_bytes().windows(6).any(|part| part.eq_ignore_ascii_case(b"istiod")))
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
