//! Folds objects into a snapshot while they arrive. Of pods only counts stay, one small record per owner.

mod withdrawal;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{ServiceFacts, Snapshot, Unread, UnreadCause};
use crate::control_plane::{ControlPlane, Istiod, Read, Readiness, UNREVISIONED, revision_suffix};
use crate::finding::Finding;
use crate::injector::{Injector, Target};
use crate::injector_config::{InjectorConfig, MeshConfig};
use crate::labels;
use crate::object::{
    ConfigMap, Deployment, EndpointSlice, Interner, LabelSelector, Labels, Lookup, Metadata, Object, OwnerReference, Pod,
    PodTemplateSpec, ProxyConfig, Resource, Service, WebhookConfiguration,
};
use crate::operator::{Operator, OwnerName};
use crate::proxy::{Proxy, is_alive};
use crate::template::Template;
use crate::workload::{OwnerDoubt, Restart, Workload, WorkloadId};

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
    controllers: HashMap<(Resource, Arc<str>, Arc<str>), Controller>,
    istiods: BTreeMap<(String, String), Istiod>,
    services: Vec<Service>,
    endpoint_slices: Vec<(String, String, bool)>,
    injector_configs: HashMap<(String, String), FoundConfig>,
    mesh_configs: HashMap<(String, String), Result<MeshConfig, String>>,
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

/// An injector ConfigMap.
struct FoundConfig {
    /// The revision that its label names.
    revision: Option<String>,
    config: Result<InjectorConfig, String>,
}

/// A controller of pods, whatever its kind.
struct Controller {
    /// Empty in files that leave it out.
    uid: Arc<str>,
    template: Option<Template>,
    borrows_template_of: Option<String>,
    selector: Option<(Labels, LabelSelector)>,
    restart: Restart,
    owner: Option<OwnerReference>,
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
            controllers: HashMap::new(),
            istiods: BTreeMap::new(),
            services: Vec::new(),
            endpoint_slices: Vec::new(),
            injector_configs: HashMap::new(),
            mesh_configs: HashMap::new(),
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
                self.add_controller(Resource::StatefulSets, &object.metadata, spec.template, spec.selector, restart);
            }
            Object::DaemonSet(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                let is_on_delete = spec.update_strategy.is_some_and(|strategy| strategy.r#type == "OnDelete");
                let restart = if is_on_delete { Restart::OnDelete } else { Restart::Rollout };
                self.add_controller(Resource::DaemonSets, &object.metadata, spec.template, spec.selector, restart);
            }
            Object::ReplicaSet(object) => {
                let spec = object.spec.clone().unwrap_or_default();
                self.add_controller(Resource::ReplicaSets, &object.metadata, spec.template, spec.selector, Restart::Eviction);
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
                if let (Some(key), Some(reference)) = (key, spec.workload_ref) {
                    let controller = self.controllers.get_mut(&key).expect("it was added on the line above");
                    controller.borrows_template_of = Some(reference.name);
                }
            }
            Object::Service(service) => self.services.push(service.clone()),
            Object::EndpointSlice(slice) => self.add_endpoint_slice(slice),
            Object::ConfigMap(map) => self.add_config_map(map),
            Object::ProxyConfig(config) => self.snapshot.proxy_configs.push(config.clone()),
            Object::Gateway(gateway) => {
                let labels = self.interner.labels(&gateway.metadata.labels, |_| true);
                let key = (gateway.metadata.namespace.clone(), gateway.metadata.name.clone());
                self.snapshot.gateways.insert(key, labels);
            }
        }
        self.resources_seen.insert(object.resource());
    }

    /// Notes that a list could not be read.
    pub fn unread(&mut self, unread: Unread) {
        if !self.snapshot.unread.contains(&unread) {
            self.snapshot.unread.push(unread);
        }
    }

    /// Notes something odd about the objects.
    pub fn finding(&mut self, finding: Finding) {
        self.snapshot.findings.push(finding);
    }

    /// Forgets all pods, for a list that has to begin again.
    pub fn forget_pods(&mut self) {
        self.pods.clear();
    }

    /// The pod labels that injectors look at.
    pub fn pod_label_keys(&self) -> BTreeSet<String> {
        self.injectors().flat_map(|injector| injector.pod_label_keys().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// The namespaces in which control planes are, as far as injectors and Deployments tell.
    pub fn control_plane_namespaces(&self) -> BTreeSet<String> {
        let targets = self.injectors().filter_map(|injector| match injector.target {
            Target::Service(service) => Some(service.namespace),
            Target::Url(_) => None,
        });
        targets.chain(self.istiods.keys().map(|(namespace, _)| namespace.clone())).collect()
    }

    /// Notes that there may be control planes that nobody could see.
    pub fn control_planes_incomplete(&mut self) {
        self.snapshot.may_hide_control_planes = true;
    }

    /// The revisions whose control planes are, or answer, in this namespace.
    pub fn revisions_in(&self, namespace: &str) -> BTreeSet<String> {
        let by_injector = self.injectors().filter_map(|injector| match injector.target {
            Target::Service(service) if service.namespace == namespace => injector.revision,
            _ => None,
        });
        let by_deployment = self.istiods.keys().filter(|(candidate, _)| candidate == namespace);
        by_injector.chain(by_deployment.map(|(_, revision)| revision.clone())).collect()
    }

    /// Whether a control plane here has an injector ConfigMap under another name than istiod's own.
    pub fn lacks_injector_config(&self, namespace: &str) -> bool {
        let has_config = |revision: &String| {
            let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
            self.injector_configs.contains_key(&(namespace.to_owned(), name))
        };
        let mut revisions = self.istiods.keys().filter(|(candidate, _)| candidate == namespace).map(|(_, revision)| revision);
        self.snapshot.unread(Resource::ConfigMaps, namespace).is_none() && revisions.any(|revision| !has_config(revision))
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
            if pods.template.label(labels::GATEWAY_MANAGED).is_some() {
                want(Resource::Gateways);
                want(Resource::ValidatingWebhookConfigurations);
            }
        }
        wanted
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

    fn injectors(&self) -> impl Iterator<Item = Injector> {
        self.configurations.values().flat_map(Injector::all_of)
    }

    fn add_pod(&mut self, pod: &Pod) {
        let Some(metadata) = pod.metadata.as_ref() else { return };
        if !is_alive(pod) {
            return;
        }
        let proxy = Proxy::of_pod(pod, &mut self.interner);
        let namespace = self.interner.text(&metadata.namespace);
        let key = match metadata.controller() {
            Some(owner) => OwnerKey {
                namespace,
                api_version: self.interner.text(&owner.api_version),
                kind: self.interner.text(&owner.kind),
                name: self.interner.text(&owner.name),
                uid: self.interner.text(&owner.uid),
            },
            None => OwnerKey {
                namespace,
                api_version: self.interner.text("v1"),
                kind: self.interner.text("Pod"),
                name: metadata.name.as_str().into(),
                uid: self.interner.text(""),
            },
        };
        let interner = &mut self.interner;
        let pods = self.pods.entry(key).or_insert_with(|| OwnerPods {
            first: metadata.name.as_str().into(),
            template: Template::of_pod(pod, interner),
            is_mirror: metadata.annotation(labels::MIRROR).is_some(),
            proxies: Vec::new(),
            pods: Vec::new(),
        });
        let place = count(&mut pods.proxies, proxy, 1);
        if self.detail == Detail::Pods {
            pods.pods.push((metadata.name.as_str().into(), place));
        }
    }

    fn add_deployment(&mut self, deployment: &Deployment) {
        let (Some(metadata), Some(spec)) = (&deployment.metadata, &deployment.spec) else { return };
        let containers = spec.template.as_ref().and_then(|template| template.spec.as_ref()).map(|spec| &spec.containers);
        let discovery = containers.and_then(|containers| containers.iter().find(|container| container.name == "discovery"));
        if let (Some("istiod"), Some(discovery)) = (metadata.label(labels::APP), discovery) {
            let revision = metadata.label(labels::REVISION).unwrap_or(UNREVISIONED).to_owned();
            let istiod = Istiod {
                name: metadata.name.clone(),
                image: discovery.image.clone(),
                ready_replicas: deployment.status.as_ref().map_or(0, |status| status.ready_replicas),
                is_observed: deployment.status.as_ref().is_none_or(|status| status.observed_generation >= metadata.generation),
            };
            self.istiods.insert((metadata.namespace.clone(), revision), istiod);
        }
        let restart = if spec.paused { Restart::Paused } else { Restart::Rollout };
        self.add_controller(Resource::Deployments, &deployment.metadata, spec.template.clone(), spec.selector.clone(), restart);
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
        };
        self.controllers.insert(key.clone(), controller);
        Some(key)
    }

    fn add_validator(&mut self, configuration: &WebhookConfiguration) {
        // The one name that istiod itself looks for (pkg/revisions/tag_watcher.go).
        if configuration.metadata.name == "istiod-default-validator" {
            self.snapshot.default_validator = configuration.metadata.label(labels::REVISION).map(str::to_owned);
        }
    }

    fn add_endpoint_slice(&mut self, slice: &EndpointSlice) {
        if let Some(service) = slice.metadata.label(labels::SERVICE_NAME) {
            let is_ready = slice.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true));
            self.endpoint_slices.push((slice.metadata.namespace.clone(), service.to_owned(), is_ready));
        }
    }

    fn add_config_map(&mut self, map: &ConfigMap) {
        let key = (map.metadata.namespace.clone(), map.metadata.name.clone());
        if map.data.contains_key("values") && map.data.contains_key("config")
            || map.metadata.name.starts_with("istio-sidecar-injector")
        {
            let revision = map.metadata.label(labels::REVISION).map(str::to_owned);
            self.injector_configs.insert(key, FoundConfig { revision, config: InjectorConfig::parse(map) });
        } else if map.data.contains_key("mesh") {
            self.mesh_configs.insert(key, MeshConfig::parse(map));
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
        let has_owner = |kind: &str| self.pods.keys().any(|key| *key.kind == *kind);
        for resource in [Resource::StatefulSets, Resource::DaemonSets] {
            if has_owner(resource.kind()) && !self.resources_seen.contains(&resource) {
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

    fn link_workloads(&mut self) {
        let mut workloads: HashMap<WorkloadId, Workload> = HashMap::new();
        for (key, pods) in std::mem::take(&mut self.pods) {
            let workload = self.workload_of(&key, &pods);
            match workloads.entry(workload.id.clone()) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(Workload { proxies: pods.proxies, pods: pods.pods, ..workload });
                }
                std::collections::hash_map::Entry::Occupied(mut known) => merge(known.get_mut(), pods),
            }
        }
        for ((resource, namespace, name), controller) in &self.controllers {
            let makes_pods_itself = !matches!(resource, Resource::ReplicaSets | Resource::Jobs);
            if makes_pods_itself {
                let id = self.controller_id(*resource, namespace, name);
                let workload = || self.controller_workload(id.clone(), controller, Template::default());
                workloads.entry(id.clone()).or_insert_with(workload);
            }
        }
        let mut workloads: Vec<_> = workloads.into_values().collect();
        for workload in &mut workloads {
            workload.pods.sort();
            sort_proxies(workload);
            // Those of its pods that nobody saw may run anything.
            if self.has_partial_pods(&workload.id.namespace) {
                workload.doubt = Some(OwnerDoubt { resource: Resource::Pods, is_file: self.origin == Origin::Files });
            }
        }
        workloads.sort_by(|one, other| one.id.cmp(&other.id));
        self.snapshot.workloads = workloads;
    }

    /// Whether some pods of a namespace are known, and others cannot be read or are left out. Input without any pod says
    /// so by itself.
    fn has_partial_pods(&self, namespace: &str) -> bool {
        let unread = self.snapshot.unread(Resource::Pods, namespace);
        unread.is_some_and(|unread| unread.cause != UnreadCause::NotInFile)
    }

    fn controller_id(&self, resource: Resource, namespace: &Arc<str>, name: &Arc<str>) -> WorkloadId {
        WorkloadId {
            namespace: Arc::clone(namespace),
            api_version: resource.api_version().into(),
            kind: resource.kind().into(),
            name: Arc::clone(name),
        }
    }

    /// The workload that an owner's pods belong to, without the pods.
    fn workload_of(&self, key: &OwnerKey, pods: &OwnerPods) -> Workload {
        let id = WorkloadId {
            namespace: Arc::clone(&key.namespace),
            api_version: Arc::clone(&key.api_version),
            kind: Arc::clone(&key.kind),
            name: Arc::clone(&key.name),
        };
        match (&*key.api_version, &*key.kind) {
            ("v1", "Pod") if pods.is_mirror => owned_by_nobody(id, pods, "a static pod: its kubelet makes it from a file"),
            ("v1", "Pod") => owned_by_nobody(id, pods, "a bare pod: nobody makes a new one"),
            ("v1", "Node") => owned_by_nobody(id, pods, "a static pod: its kubelet makes it from a file"),
            ("apps/v1", "ReplicaSet") => self.workload_of_replica_set(id, key, pods),
            ("apps/v1", "StatefulSet") => self.listed_or_doubtful(Resource::StatefulSets, id, &key.uid, pods),
            ("apps/v1", "DaemonSet") => self.listed_or_doubtful(Resource::DaemonSets, id, &key.uid, pods),
            ("batch/v1", "Job") => self.workload_of_job(id, pods),
            _ => owned_by_custom(id, &key.uid, pods),
        }
    }

    /// A ReplicaSet is hardly ever the top owner: it names its own. Only where ReplicaSets could not be read do its name and
    /// the labels of its pods stand in for that.
    fn workload_of_replica_set(&self, id: WorkloadId, key: &OwnerKey, pods: &OwnerPods) -> Workload {
        let replica_set = (Resource::ReplicaSets, Arc::clone(&key.namespace), Arc::clone(&key.name));
        let controller = match self.controllers.get(&replica_set) {
            Some(controller) if is_same(&controller.uid, &key.uid) => controller,
            Some(_) => return replaced(&id, pods),
            None => return self.workload_by_hash(id, key, pods),
        };
        let Some(owner) = &controller.owner else {
            return self.controller_workload(id, controller, pods.template.clone());
        };
        let id = WorkloadId {
            namespace: Arc::clone(&key.namespace),
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
        };
        match Resource::of_kind(&owner.api_version, &owner.kind) {
            Some(resource @ (Resource::Deployments | Resource::Rollouts)) => {
                self.listed_or_doubtful(resource, id, &owner.uid, pods)
            }
            _ => owned_by_unknown(id, pods),
        }
    }

    /// The workload of a ReplicaSet that is not among those read.
    fn workload_by_hash(&self, id: WorkloadId, key: &OwnerKey, pods: &OwnerPods) -> Workload {
        let is_unread = self.origin == Origin::Files || self.snapshot.unread(Resource::ReplicaSets, &key.namespace).is_some();
        match self.controller_by_hash(key, pods).filter(|_| is_unread) {
            Some((resource, name)) => {
                let controller = &self.controllers[&(resource, Arc::clone(&key.namespace), Arc::clone(&name))];
                let id = self.controller_id(resource, &key.namespace, &name);
                self.controller_workload(id, controller, pods.template.clone())
            }
            None => self.doubtful(Resource::ReplicaSets, id, pods),
        }
    }

    /// Whether more has to be read to know whose the pods of a ReplicaSet are, or what a bare one makes them from.
    fn lacks_replica_set(&self, key: &OwnerKey, pods: &OwnerPods) -> bool {
        let replica_set = (Resource::ReplicaSets, Arc::clone(&key.namespace), Arc::clone(&key.name));
        let is_unread = self.snapshot.unread(Resource::ReplicaSets, &key.namespace).is_some();
        match self.controllers.get(&replica_set) {
            Some(controller) => controller.owner.is_none() && controller.template.is_none() && !is_unread,
            None if self.origin == Origin::Files => self.controller_by_hash(key, pods).is_none(),
            None => !is_unread,
        }
    }

    /// The Deployment or Rollout that made the ReplicaSet `key`, where the pods' hash label, the names and the
    /// controller's selector agree (`pkg/controller/deployment/sync.go` names ReplicaSets `DEPLOYMENT-HASH`).
    fn controller_by_hash(&self, key: &OwnerKey, pods: &OwnerPods) -> Option<(Resource, Arc<str>)> {
        let by_label =
            [(Resource::Deployments, labels::POD_TEMPLATE_HASH), (Resource::Rollouts, labels::ROLLOUTS_POD_TEMPLATE_HASH)];
        by_label.into_iter().find_map(|(resource, label)| {
            let hash = pods.template.label(label)?;
            let name: Arc<str> = key.name.strip_suffix(hash)?.strip_suffix('-')?.into();
            let controller = self.controllers.get(&(resource, Arc::clone(&key.namespace), Arc::clone(&name)))?;
            let (equal, rest) = controller.selector.as_ref()?;
            let selects = equal.iter().all(|(key, value)| pods.template.label(key) == Some(value))
                && rest.matches(&pods.template.labels) == Ok(true);
            selects.then_some((resource, name))
        })
    }

    fn workload_of_job(&self, id: WorkloadId, pods: &OwnerPods) -> Workload {
        let key = (Resource::Jobs, Arc::clone(&id.namespace), Arc::clone(&id.name));
        let Some(job) = self.controllers.get(&key) else {
            return owned_by_nobody(id, pods, "").with_restart(Restart::Never("a Job runs to its end".to_owned()));
        };
        let cron_job = job.owner.as_ref().filter(|owner| owner.kind == "CronJob");
        let id = cron_job.map_or(id.clone(), |owner| WorkloadId {
            namespace: Arc::clone(&id.namespace),
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
        });
        self.controller_workload(id, job, pods.template.clone())
    }

    fn listed_or_doubtful(&self, resource: Resource, id: WorkloadId, uid: &str, pods: &OwnerPods) -> Workload {
        let key = (resource, Arc::clone(&id.namespace), Arc::clone(&id.name));
        match self.controllers.get(&key) {
            Some(controller) if is_same(&controller.uid, uid) => {
                // References name the version that the owner was served in when they were written.
                let id = self.controller_id(resource, &id.namespace, &id.name);
                self.controller_workload(id, controller, pods.template.clone())
            }
            Some(_) => replaced(&id, pods),
            None => self.doubtful(resource, id, pods),
        }
    }

    /// A workload whose own object was not among those read: denied, not in the file, or deleted meanwhile.
    fn doubtful(&self, resource: Resource, id: WorkloadId, pods: &OwnerPods) -> Workload {
        match self.snapshot.unread(resource, &id.namespace) {
            Some(unread) => {
                let is_file = unread.cause.is_of_files();
                let mut workload = owned_by_nobody(id, pods, "its owner could not be read");
                workload.doubt = Some(OwnerDoubt { resource, is_file });
                workload
            }
            None => owned_by_nobody(id, pods, "its owner is not there any more"),
        }
    }

    fn controller_workload(&self, id: WorkloadId, controller: &Controller, fallback: Template) -> Workload {
        let borrowed = controller.borrows_template_of.as_ref().and_then(|name| {
            let key = (Resource::Deployments, Arc::clone(&id.namespace), name.as_str().into());
            self.controllers.get(&key)?.template.clone()
        });
        let template = borrowed.or_else(|| controller.template.clone()).unwrap_or(fallback);
        let is_made_by_istiod = template.label(labels::GATEWAY_MANAGED).is_some();
        Workload {
            gateway: template.label(labels::GATEWAY_NAME).filter(|_| is_made_by_istiod).map(str::to_owned),
            id,
            uid: known(&controller.uid),
            template,
            restart: controller.restart.clone(),
            proxies: Vec::new(),
            pods: Vec::new(),
            doubt: None,
        }
    }

    fn link_services(&mut self) {
        for service in std::mem::take(&mut self.services) {
            let metadata = &service.metadata;
            let key = (metadata.namespace.clone(), metadata.name.clone());
            let readiness = self.service_readiness(&key.0, &key.1);
            let facts = ServiceFacts {
                revision: service_revision(&service),
                readiness,
                tag: metadata.label(labels::TAG).map(str::to_owned),
                is_external: service.spec.r#type == "ExternalName",
            };
            self.snapshot.services.insert(key, facts);
        }
    }

    fn service_readiness(&self, namespace: &str, service: &str) -> Readiness {
        let is_of_service = |slice: &&(String, String, bool)| slice.0 == namespace && slice.1 == service;
        let is_unread = self.snapshot.unread(Resource::EndpointSlices, namespace).is_some();
        let lacks_slices = self.origin == Origin::Files && !self.resources_seen.contains(&Resource::EndpointSlices);
        if self.endpoint_slices.iter().filter(is_of_service).any(|(_, _, is_ready)| *is_ready) {
            Readiness::Ready
        } else if is_unread || lacks_slices {
            Readiness::Unknown
        } else {
            Readiness::NotReady
        }
    }

    /// A control plane is known by its Deployment, by its Service, or (when it is elsewhere) by its injector.
    fn link_control_planes(&mut self) {
        let mut keys: BTreeSet<(String, String)> = self.istiods.keys().cloned().collect();
        for ((namespace, _), service) in &self.snapshot.services {
            if let (Some(revision), Readiness::Ready) = (&service.revision, service.readiness) {
                keys.insert((namespace.clone(), revision.clone()));
            }
        }
        for injector in self.injectors() {
            if let (Target::Url(_), Some(revision)) = (&injector.target, &injector.revision)
                && !keys.iter().any(|(_, known)| known == revision)
            {
                keys.insert((self.namespace_of_config(revision).unwrap_or_default(), revision.clone()));
            }
        }
        let control_planes = keys.into_iter().map(|(namespace, revision)| self.control_plane(namespace, revision)).collect();
        self.snapshot.control_planes = control_planes;
    }

    fn namespace_of_config(&self, revision: &str) -> Option<String> {
        let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
        self.injector_configs.keys().find(|(_, candidate)| *candidate == name).map(|(namespace, _)| namespace.clone())
    }

    fn control_plane(&self, namespace: String, revision: String) -> ControlPlane {
        let deployment = self.istiods.get(&(namespace.clone(), revision.clone())).cloned();
        let services = self.snapshot.services.iter().filter(|((in_namespace, _), service)| {
            *in_namespace == namespace && service.revision.as_deref() == Some(revision.as_str())
        });
        let readiness: Vec<_> = services.map(|(_, service)| service.readiness).collect();
        let by_deployment = match &deployment {
            Some(istiod) if istiod.ready_replicas > 0 => Readiness::Ready,
            Some(_) => Readiness::NotReady,
            None => Readiness::Unknown,
        };
        let is_external = self
            .injectors()
            .any(|injector| matches!(injector.target, Target::Url(_)) && injector.revision.as_deref() == Some(revision.as_str()));
        let readiness = if readiness.contains(&Readiness::Ready) || is_external {
            Readiness::Ready
        } else if readiness.is_empty() || readiness.contains(&Readiness::Unknown) {
            by_deployment
        } else {
            Readiness::NotReady
        };
        ControlPlane {
            injector_config: self.injector_config(&namespace, &revision),
            mesh_config: self.mesh_config(&namespace, &revision),
            revision,
            namespace,
            deployment,
            readiness,
        }
    }

    /// istiod reads its ConfigMap by name (pilot/pkg/bootstrap/sidecarinjector.go); installers that name it otherwise
    /// label it with the revision.
    fn injector_config(&self, namespace: &str, revision: &str) -> Read<InjectorConfig> {
        let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
        let by_name = self.injector_configs.get(&(namespace.to_owned(), name));
        let found = by_name.or_else(|| {
            let mut here = self.injector_configs.iter().filter(|((in_namespace, _), _)| in_namespace == namespace);
            here.find(|(_, found)| found.revision.as_deref() == Some(revision)).map(|(_, found)| found)
        });
        match found.map(|found| &found.config) {
            Some(Ok(config)) => Read::Known(config.clone()),
            Some(Err(why)) => Read::Broken(why.clone()),
            None if self.snapshot.unread(Resource::ConfigMaps, namespace).is_some() => Read::Unread,
            None => Read::Absent,
        }
    }

    fn mesh_config(&self, namespace: &str, revision: &str) -> Read<MeshConfig> {
        let name = format!("istio{}", revision_suffix(revision));
        match self.mesh_configs.get(&(namespace.to_owned(), name)) {
            Some(Ok(config)) => Read::Known(config.clone()),
            Some(Err(why)) => Read::Broken(why.clone()),
            None if self.snapshot.unread(Resource::ConfigMaps, namespace).is_some() => Read::Unread,
            None => Read::Absent,
        }
    }
}

impl Workload {
    fn with_restart(self, restart: Restart) -> Workload {
        Workload { restart, ..self }
    }
}

fn owned_by_nobody(id: WorkloadId, pods: &OwnerPods, why: &str) -> Workload {
    let is_made_by_istiod = pods.template.label(labels::GATEWAY_MANAGED).is_some();
    Workload {
        id,
        gateway: pods.template.label(labels::GATEWAY_NAME).filter(|_| is_made_by_istiod).map(str::to_owned),
        template: pods.template.clone(),
        uid: None,
        restart: Restart::Unknown(why.to_owned()),
        proxies: Vec::new(),
        pods: Vec::new(),
        doubt: None,
    }
}

/// Pods whose owner was deleted, while another object has its name: they are none of that one's.
fn replaced(id: &WorkloadId, pods: &OwnerPods) -> Workload {
    let why = format!("its owner {} was deleted, and another one has this name now", id.type_name());
    let pod = WorkloadId {
        namespace: Arc::clone(&id.namespace),
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: Arc::clone(&pods.first),
    };
    owned_by_nobody(pod, pods, &why)
}

/// Pods that a custom resource controls itself.
fn owned_by_custom(id: WorkloadId, uid: &Arc<str>, pods: &OwnerPods) -> Workload {
    let group = id.api_version.split_once('/').map_or("", |(group, _)| group);
    match Operator::of(group, &id.kind) {
        Some(operator) => Workload { uid: known(uid), restart: Restart::Operator(operator), ..owned_by_nobody(id, pods, "") },
        None => owned_by_unknown(id, pods),
    }
}

fn owned_by_unknown(id: WorkloadId, pods: &OwnerPods) -> Workload {
    let why = format!("its owner is a {}, whose way of replacing pods is not known here", id.kind);
    owned_by_nobody(id, pods, &why)
}

/// Whether two uids are one. A file may leave them out: then name, kind and group have to do.
fn is_same(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

fn known(uid: &Arc<str>) -> Option<Arc<str>> {
    (!uid.is_empty()).then(|| Arc::clone(uid))
}

/// Adds the pods of a further ReplicaSet (or Job) of the same workload.
fn merge(workload: &mut Workload, more: OwnerPods) {
    let places: Vec<usize> =
        more.proxies.into_iter().map(|(proxy, number)| count(&mut workload.proxies, proxy, number)).collect();
    workload.pods.extend(more.pods.into_iter().map(|(name, place)| (name, places[place])));
}

/// Counts a proxy among equal ones and says at which place.
fn count(proxies: &mut Vec<(Option<Proxy>, u32)>, proxy: Option<Proxy>, number: u32) -> usize {
    match proxies.iter().position(|(known, _)| *known == proxy) {
        Some(place) => {
            proxies[place].1 += number;
            place
        }
        None => {
            proxies.push((proxy, number));
            proxies.len() - 1
        }
    }
}

/// Orders a workload's proxies by what they are, so that equal clusters give equal output.
fn sort_proxies(workload: &mut Workload) {
    let key = |place: &usize| {
        workload.proxies[*place].0.as_ref().map(|proxy| (proxy.revision.clone(), proxy.image.clone(), proxy.is_native))
    };
    let mut order: Vec<usize> = (0..workload.proxies.len()).collect();
    order.sort_by_key(key);
    if order.is_sorted() {
        return;
    }
    let mut place_of = vec![0; order.len()];
    for (new, old) in order.iter().enumerate() {
        place_of[*old] = new;
    }
    workload.proxies = order.iter().map(|old| workload.proxies[*old].clone()).collect();
    for (_, place) in &mut workload.pods {
        *place = place_of[*place];
    }
}

/// The revision whose istiod a Service selects: a named one selects `istio.io/rev`, the unrevisioned one `istio: pilot`
/// (D/service.yaml of the istiod chart). A Service of istiod without a selector, for a control plane elsewhere, has only
/// its label. Any other Service may carry that label too: those of gateways do.
fn service_revision(service: &Service) -> Option<String> {
    let selector = &service.spec.selector;
    let revision = match selector.value(labels::APP) {
        Some("istiod") => Some(selector.value(labels::REVISION).unwrap_or(UNREVISIONED)),
        _ if selector.value("istio") == Some("pilot") => Some(UNREVISIONED),
        _ if selector.is_empty() && service.metadata.label(labels::APP) == Some("istiod") => {
            service.metadata.label(labels::REVISION)
        }
        _ => None,
    };
    revision.map(str::to_owned)
}
