//! Folds objects into a snapshot while they arrive. Of pods only counts stay, one small record per owner.

mod control_planes;
mod ownership;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ownership::{count, gateway_of_template};

use super::{GatewayFacts, Snapshot, Unread, UnreadCause};
use crate::control_plane::{Istiod, UNREVISIONED};
use crate::finding::Finding;
use crate::injector::Injector;
use crate::injector_config::InjectorConfig;
use crate::labels;
use crate::mesh_config::MeshConfig;
use crate::object::{
    Deployment, DeploymentTemplate, Interner, LabelSelector, Labels, Metadata, Object, OwnerReference, Pod, PodTemplateSpec,
    ProxyConfig, Resource, Service, WebhookConfiguration, WorkloadRef,
};
use crate::operator::OwnerName;
use crate::proxy::{Proxy, is_alive};
use crate::template::Template;
use crate::workload::Restart;

/// How much of the pods is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Counts per workload.
    Workloads,
    /// The name of every pod too.
    Pods,
}

/// Where the objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The API server, which never gives an object twice.
    Cluster,
    /// Files, whose reader sees to that.
    Files,
}

/// A snapshot in the making.
pub struct SnapshotBuilder {
    detail: Detail,
    origin: Origin,
    interner: Interner,
    resources_seen: BTreeSet<Resource>,
    pods: HashMap<OwnerKey, OwnerPods>,
    /// The uids of DaemonSets of which a pod is being deleted.
    left_daemon_sets: HashSet<Arc<str>>,
    controllers: HashMap<(Resource, Arc<str>, Arc<str>), Controller>,
    istiods: BTreeMap<(String, String), Istiod>,
    services: Vec<Service>,
    endpoint_slices: Vec<(String, String, bool)>,
    injector_configs: BTreeMap<(String, String), FoundConfig<InjectorConfig>>,
    mesh_configs: BTreeMap<(String, String), FoundConfig<MeshConfig>>,
    configurations: BTreeMap<String, WebhookConfiguration>,
    snapshot: Snapshot,
}

/// Who owns some pods; a pod without an owner owns itself.
#[derive(Clone, PartialEq, Eq, Hash)]
struct OwnerKey {
    namespace: Arc<str>,
    api_version: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
    /// What it really is known by; empty in files that leave it out.
    uid: Arc<str>,
    /// Pods of an owner that is not known here may each be made otherwise: the fingerprint of its template.
    template: u64,
}

/// The pods of one owner.
struct OwnerPods {
    /// The name of the first pod.
    first: Arc<str>,
    /// From the first pod; stands in for the owner's where that cannot be read.
    template: Template,
    is_mirror: bool,
    proxies: Vec<(Option<Proxy>, u32)>,
    pods: Vec<(Arc<str>, usize)>,
}

/// A ConfigMap of an istiod's.
struct FoundConfig<T> {
    /// The revision that its label names.
    revision: Option<String>,
    config: Result<T, String>,
}

/// A controller of pods, whatever its kind.
struct Controller {
    /// Empty in files that leave it out.
    uid: Arc<str>,
    template: Option<Template>,
    /// What a Rollout takes its pod template from.
    borrows_template_of: Option<WorkloadRef>,
    selector: Option<(Labels, LabelSelector)>,
    restart: Restart,
    owner: Option<OwnerReference>,
    /// How many pods it is to have; `None` where its specification does not say.
    wanted_pods: Option<u32>,
    /// The Gateway that istiod made it for.
    gateway: Option<String>,
    /// The revision or tag that its own label names.
    revision: Option<Arc<str>>,
}

impl SnapshotBuilder {
    /// An empty one.
    pub fn new(origin: Origin, detail: Detail) -> SnapshotBuilder {
        SnapshotBuilder {
            detail,
            origin,
            interner: Interner::default(),
            resources_seen: BTreeSet::new(),
            pods: HashMap::new(),
            left_daemon_sets: HashSet::new(),
            controllers: HashMap::new(),
            istiods: BTreeMap::new(),
            services: Vec::new(),
            endpoint_slices: Vec::new(),
            injector_configs: BTreeMap::new(),
            mesh_configs: BTreeMap::new(),
            configurations: BTreeMap::new(),
            snapshot: Snapshot::default(),
        }
    }

    /// Takes in one object.
    pub fn add(&mut self, object: &Object) {
        match object {
            Object::Pod(pod) => self.add_pod(pod),
            Object::Namespace(namespace) => {
                let name = self.interner.text(&namespace.metadata.name);
                let labels = self.interner.labels(&namespace.metadata.labels, |_| true);
                self.snapshot.namespaces.insert(name, labels);
            }
            Object::MutatingWebhookConfiguration(configuration) => {
                self.configurations.insert(configuration.metadata.name.clone(), configuration.clone());
            }
            Object::ValidatingWebhookConfiguration(configuration) => self.add_validator(configuration),
            Object::Deployment(deployment) => self.add_deployment(deployment),
            Object::StatefulSet(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                let strategy = spec.update_strategy.unwrap_or_default();
                let partition = strategy.rolling_update.and_then(|update| update.partition).unwrap_or(0);
                let restart = if strategy.r#type == "OnDelete" {
                    Restart::OnDelete
                } else if partition > 0 {
                    Restart::Partitioned(partition)
                } else {
                    Restart::Rollout
                };
                let key = self.add_controller(Resource::StatefulSets, &object.metadata, spec.template, spec.selector, restart);
                self.note_replicas(key, spec.replicas);
            }
            Object::DaemonSet(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                let is_on_delete = spec.update_strategy.is_some_and(|strategy| strategy.r#type == "OnDelete");
                let restart = if is_on_delete { Restart::OnDelete } else { Restart::Rollout };
                self.add_controller(Resource::DaemonSets, &object.metadata, spec.template, spec.selector, restart);
            }
            Object::ReplicaSet(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                let (metadata, selector) = (&object.metadata, spec.selector);
                let key = self.add_controller(Resource::ReplicaSets, metadata, spec.template, selector, Restart::Eviction);
                self.note_replicas(key, spec.replicas);
            }
            Object::Job(object) => {
                let template = object.spec.clone().unwrap_or_default().template;
                let restart = Restart::Never("a Job runs to its end".to_owned());
                self.add_controller(Resource::Jobs, &object.metadata, template, None, restart);
            }
            Object::Rollout(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                let restart = if spec.paused { Restart::Paused } else { Restart::ArgoRollout };
                let key = self.add_controller(Resource::Rollouts, &object.metadata, spec.template, spec.selector, restart);
                self.note_replicas(key.clone(), spec.replicas);
                if let (Some(key), Some(reference)) = (key, spec.workload_ref) {
                    let controller = self.controllers.get_mut(&key).expect("it was added on the line above");
                    controller.borrows_template_of = Some(reference);
                }
            }
            Object::Service(service) => self.services.push(service.clone()),
            Object::EndpointSlice(slice) => self.add_endpoint_slice(slice),
            Object::ConfigMap(map) => self.add_config_map(map),
            Object::ProxyConfig(config) => self.snapshot.proxy_configs.push(config.clone()),
            Object::Gateway(gateway) => {
                let parameters = gateway.spec.infrastructure.as_ref().and_then(|settings| settings.parameters_ref.as_ref());
                let parameters = parameters.filter(|reference| reference.kind == "ConfigMap" && reference.group.is_empty());
                let facts = GatewayFacts {
                    labels: self.interner.labels(&gateway.metadata.labels, |_| true),
                    annotations: self.interner.labels(&gateway.metadata.annotations, labels::decides),
                    class: gateway.spec.gateway_class_name.clone(),
                    parameters: parameters.map(|reference| reference.name.clone()),
                };
                let key = (gateway.metadata.namespace.clone(), gateway.metadata.name.clone());
                self.snapshot.gateways.insert(key, facts);
            }
        }
        self.resources_seen.insert(object.resource());
    }

    /// Notes that all objects of a kind were there, even if there are none.
    pub fn complete(&mut self, resource: Resource) {
        self.resources_seen.insert(resource);
    }

    /// Notes that a list could not be read.
    pub fn unread(&mut self, unread: Unread) {
        if !self.snapshot.unread.contains(&unread) {
            self.snapshot.unread.push(unread);
        }
    }

    /// Notes everything that another one could not read, and what it found odd.
    pub fn doubt_as(&mut self, other: &SnapshotBuilder) {
        other.snapshot.unread.iter().for_each(|unread| self.unread(unread.clone()));
        self.snapshot.findings.extend(other.snapshot.findings.iter().cloned());
        self.snapshot.may_hide_control_planes |= other.snapshot.may_hide_control_planes;
    }

    /// Notes something odd about the objects.
    pub fn finding(&mut self, finding: Finding) {
        self.snapshot.findings.push(finding);
    }

    /// Forgets all pods, for a list that has to begin again.
    pub fn forget_pods(&mut self) {
        self.pods.clear();
        self.left_daemon_sets.clear();
    }

    /// The pod labels that injectors look at.
    pub fn pod_label_keys(&self) -> BTreeSet<String> {
        self.injectors().flat_map(|injector| injector.pod_label_keys().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// The namespaces in which control planes are, as far as injectors and Deployments tell.
    pub fn control_plane_namespaces(&self) -> BTreeSet<String> {
        let targets = self.injectors().filter_map(|injector| injector.target.namespace().map(str::to_owned));
        targets.chain(self.istiods.keys().map(|(namespace, _)| namespace.clone())).collect()
    }

    /// Notes that there may be control planes that nobody could see.
    pub fn control_planes_incomplete(&mut self) {
        self.snapshot.may_hide_control_planes = true;
    }

    /// Lists that nobody needed until these pods came, with the namespaces in which they are needed.
    pub fn wanted_besides(&self) -> BTreeMap<Resource, BTreeSet<String>> {
        let mut wanted: BTreeMap<Resource, BTreeSet<String>> = BTreeMap::new();
        for (key, pods) in &self.pods {
            let has_proxy = pods.proxies.iter().any(|(proxy, _)| proxy.is_some());
            let mut want = |resource| {
                wanted.entry(resource).or_default().insert(key.namespace.to_string());
            };
            match (&*key.api_version, &*key.kind) {
                ("apps/v1", "ReplicaSet") if self.lacks_replica_set(key, pods) => want(Resource::ReplicaSets),
                ("batch/v1", "Job") if has_proxy => want(Resource::Jobs),
                _ => {}
            }
            if gateway_of_template(&pods.template).is_some() {
                want(Resource::Gateways);
                want(Resource::ValidatingWebhookConfigurations);
            }
        }
        for ((_, namespace, _), rollout) in &self.controllers {
            // Of ReplicaSets only the metadata was read.
            let lender = rollout.borrows_template_of.as_ref();
            if lender.and_then(WorkloadRef::resource) == Some(Resource::ReplicaSets) {
                wanted.entry(Resource::ReplicaSets).or_default().insert(namespace.to_string());
            }
        }
        let gateways = self.controllers.iter().filter(|(_, controller)| controller.gateway.is_some());
        for namespace in gateways.map(|((_, namespace, _), _)| namespace) {
            for resource in [Resource::Gateways, Resource::ValidatingWebhookConfigurations] {
                wanted.entry(resource).or_default().insert(namespace.to_string());
            }
        }
        wanted
    }

    /// The ConfigMaps that are laid over Gateways, by namespace and name.
    pub fn overlay_names(&self) -> BTreeSet<(String, String)> {
        let gateways = self.snapshot.gateways.iter();
        gateways.filter_map(|((namespace, _), facts)| Some((namespace.clone(), facts.parameters.clone()?))).collect()
    }

    /// Whether istiod makes a gateway here, over which a ConfigMap may be laid.
    pub fn has_gateways(&self) -> bool {
        !self.snapshot.gateways.is_empty()
    }

    /// Links everything.
    pub fn build(mut self) -> Snapshot {
        if self.origin == Origin::Files {
            self.note_kinds_that_files_lack();
        }
        self.link_workloads();
        self.link_services();
        self.link_control_planes();
        self.snapshot.injectors = self.injectors().collect();
        self.snapshot.proxy_configs.sort_by(|one, other| {
            let key = |config: &ProxyConfig| {
                let metadata = &config.metadata;
                (metadata.creation_timestamp, metadata.name.clone(), metadata.namespace.clone())
            };
            key(one).cmp(&key(other))
        });
        self.snapshot.findings.sort();
        self.snapshot
    }

    /// The entries that inject: those that are named or labelled as Istio's are, and those of any name that lead to an istiod.
    fn injectors(&self) -> impl Iterator<Item = Injector> {
        let candidates = self.configurations.values().flat_map(Injector::all_of);
        candidates.filter(|injector| injector.is_recognised() || self.leads_to_istiod(injector))
    }

    fn add_pod(&mut self, pod: &Pod) {
        let Some(metadata) = pod.metadata.as_ref() else { return };
        if !is_alive(pod) {
            self.note_leaving(metadata);
            return;
        }
        let proxy = Proxy::of_pod(pod, &mut self.interner);
        let mut key = self.owner_key(metadata);
        let interner = &mut self.interner;
        let may_differ = Resource::of_kind(&key.api_version, &key.kind).is_none();
        let template = (may_differ || !self.pods.contains_key(&key)).then(|| Template::of_pod(pod, interner));
        if may_differ {
            key.template = template.as_ref().map_or(0, Template::fingerprint);
        }
        let pods = self.pods.entry(key).or_insert_with(|| OwnerPods {
            first: metadata.name.as_str().into(),
            template: template.unwrap_or_default(),
            is_mirror: metadata.annotation(labels::MIRROR).is_some(),
            proxies: Vec::new(),
            pods: Vec::new(),
        });
        if *pods.first > *metadata.name {
            pods.first = metadata.name.as_str().into();
            if !may_differ {
                pods.template = Template::of_pod(pod, interner);
            }
        }
        let place = count(&mut pods.proxies, proxy, 1);
        if self.detail == Detail::Pods {
            pods.pods.push((metadata.name.as_str().into(), place));
        }
    }

    /// Whose a pod is; one without an owner is its own.
    fn owner_key(&mut self, metadata: &Metadata) -> OwnerKey {
        let namespace = self.interner.text(&metadata.namespace);
        match metadata.controller() {
            Some(owner) => OwnerKey {
                namespace,
                api_version: self.interner.text(&owner.api_version),
                kind: self.interner.text(&owner.kind),
                name: self.interner.text(&owner.name),
                uid: self.interner.text(&owner.uid),
                template: 0,
            },
            None => OwnerKey {
                namespace,
                api_version: self.interner.text("v1"),
                kind: self.interner.text("Pod"),
                name: metadata.name.as_str().into(),
                uid: self.interner.text(""),
                template: 0,
            },
        }
    }

    /// How many pods a DaemonSet is to have is not in its specification: one that is being deleted is one that is missing.
    fn note_leaving(&mut self, metadata: &Metadata) {
        let daemon_set = metadata.controller().filter(|owner| owner.kind == "DaemonSet" && metadata.deletion_timestamp.is_some());
        if let Some(owner) = daemon_set {
            self.left_daemon_sets.insert(owner.uid.as_str().into());
        }
    }

    fn add_deployment(&mut self, deployment: &Deployment) {
        let (Some(metadata), Some(spec)) = (&deployment.metadata, &deployment.spec) else { return };
        if let Some(istiod) = Istiod::of(deployment) {
            let revision = metadata.label(labels::REVISION).unwrap_or(UNREVISIONED).to_owned();
            self.istiods.insert((metadata.namespace.clone(), revision), istiod);
        }
        let restart = if spec.paused { Restart::Paused } else { Restart::Rollout };
        let (template, selector) = (spec.template.clone().map(DeploymentTemplate::pods), spec.selector.clone());
        let key = self.add_controller(Resource::Deployments, &deployment.metadata, template, selector, restart);
        self.note_replicas(key, spec.replicas);
    }

    fn add_controller(
        &mut self,
        resource: Resource,
        metadata: &Option<Metadata>,
        template: Option<PodTemplateSpec>,
        selector: Option<LabelSelector>,
        restart: Restart,
    ) -> Option<(Resource, Arc<str>, Arc<str>)> {
        let metadata = metadata.as_ref()?;
        let key = (resource, self.interner.text(&metadata.namespace), self.interner.text(&metadata.name));
        // An operator's own way, or none: what it makes it puts back. ReplicaSets and Jobs are looked through to their owner.
        let has_template_restart = !matches!(resource, Resource::ReplicaSets | Resource::Jobs);
        let restart = OwnerName::of_workload(metadata).filter(|_| has_template_restart).map_or(restart, Restart::Owned);
        let controller = Controller {
            uid: self.interner.text(&metadata.uid),
            template: template.map(|template| Template::of_workload(&template, &mut self.interner)),
            borrows_template_of: None,
            selector: selector.map(|mut selector| {
                let equal = self.interner.labels(&selector.match_labels, |_| true);
                selector.match_labels = BTreeMap::new();
                (equal, selector)
            }),
            restart,
            owner: metadata.controller().cloned(),
            wanted_pods: None,
            gateway: gateway_of(metadata),
            revision: metadata.label(labels::REVISION).map(|revision| self.interner.text(revision)),
        };
        self.controllers.insert(key.clone(), controller);
        Some(key)
    }

    /// How many pods a controller is to have: one, where its specification does not say (apps/v1 and Argo Rollouts alike).
    fn note_replicas(&mut self, key: Option<(Resource, Arc<str>, Arc<str>)>, replicas: Option<i32>) {
        if let Some(controller) = key.and_then(|key| self.controllers.get_mut(&key)) {
            controller.wanted_pods = u32::try_from(replicas.unwrap_or(1)).ok();
        }
    }

    fn add_validator(&mut self, configuration: &WebhookConfiguration) {
        // The one name that istiod itself looks for (pkg/revisions/tag_watcher.go).
        if configuration.metadata.name == "istiod-default-validator" {
            self.snapshot.default_validator = configuration.metadata.label(labels::REVISION).map(str::to_owned);
        }
    }

    /// What a verdict always needs and a file with no such object cannot tell from there being none.
    fn note_kinds_that_files_lack(&mut self) {
        let needed = [Resource::Pods, Resource::Namespaces, Resource::MutatingWebhookConfigurations, Resource::ConfigMaps];
        let mut lacking: Vec<_> = needed.into_iter().filter(|resource| !self.resources_seen.contains(resource)).collect();
        // Either of them tells whether a control plane is there.
        if !self.resources_seen.contains(&Resource::Services) && self.istiods.is_empty() {
            lacking.push(Resource::Services);
        }
        // Of a control plane that runs elsewhere nothing else tells.
        if !self.resources_seen.contains(&Resource::EndpointSlices) && self.has_injector_without_istiod() {
            lacking.push(Resource::EndpointSlices);
        }
        let has_owner =
            |resource: Resource| self.pods.keys().any(|key| Resource::of_kind(&key.api_version, &key.kind) == Some(resource));
        for resource in [Resource::StatefulSets, Resource::DaemonSets] {
            if has_owner(resource) && !self.resources_seen.contains(&resource) {
                lacking.push(resource);
            }
        }
        let is_deployments_pod = |pods: &OwnerPods| pods.template.label(labels::POD_TEMPLATE_HASH).is_some();
        let wants_deployments = self.pods.iter().any(|(key, pods)| *key.kind == *"ReplicaSet" && is_deployments_pod(pods));
        if wants_deployments && !self.resources_seen.contains(&Resource::Deployments) {
            lacking.push(Resource::Deployments);
        }
        for (resource, _) in self.wanted_besides() {
            if !self.resources_seen.contains(&resource) && resource != Resource::Jobs {
                lacking.push(resource);
            }
        }
        for resource in lacking {
            self.unread(Unread { resource, namespace: None, cause: UnreadCause::NotInFile });
        }
    }
}

/// The Gateway that istiod made a Deployment for: its owner, though not its controller (files/kube-gateway.yaml, every version).
fn gateway_of(metadata: &Metadata) -> Option<String> {
    let is_gateway = |owner: &&OwnerReference| {
        Resource::of_kind(&owner.api_version, &owner.kind) == Some(Resource::Gateways) && !owner.controller
    };
    metadata.owner_references.iter().find(is_gateway).map(|owner| owner.name.clone())
}
