//! Whose pods are whose: from the owner that a pod names to the workload that can be restarted.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Controller, Origin, OwnerKey, OwnerPods, SnapshotBuilder};
use crate::labels;
use crate::object::Resource;
use crate::operator::{Operator, OwnerName};
use crate::proxy::{Proxy, ProxyType};
use crate::snapshot::UnreadCause;
use crate::template::Template;
use crate::workload::{OwnerDoubt, Restart, Workload, WorkloadId};

impl SnapshotBuilder {
    /// A Deployment whose pod template a Rollout takes is not restarted by that: the Rollout would begin an update of its own. Nor
    /// does a restart of the Rollout touch the Deployment's pods ("Running Rollout and Deployment side-by-side" in the migration guide
    /// of Argo Rollouts).
    fn link_borrowed_templates(&mut self) {
        let borrowed = self.controllers.iter().filter_map(|((_, namespace, name), rollout)| {
            let reference = rollout.borrows_template_of.as_ref()?;
            let lender = (reference.resource()?, Arc::clone(namespace), Arc::from(reference.name.as_str()));
            Some((lender, OwnerName::of_rollout(name)))
        });
        let borrowed: Vec<_> = borrowed.collect();
        for (lender, rollout) in borrowed {
            if let Some(controller) = self.controllers.get_mut(&lender)
                && !matches!(controller.restart, Restart::Owned(_))
            {
                controller.restart = Restart::Owned(rollout);
            }
        }
    }

    pub(super) fn link_workloads(&mut self) {
        self.link_borrowed_templates();
        for controller in self.controllers.values_mut().filter(|controller| controller.wanted_pods.is_none()) {
            controller.wanted_pods = self.left_daemon_sets.contains(&controller.uid).then_some(1);
        }
        let mut workloads: HashMap<WorkloadId, Workload> = HashMap::new();
        // In the order of their first pods, so that equal clusters give equal answers.
        let mut owners: Vec<_> = std::mem::take(&mut self.pods).into_iter().collect();
        owners.sort_by(|(_, one), (_, other)| one.first.cmp(&other.first));
        for (key, pods) in owners {
            let workload = self.workload_of(&key, &pods);
            match workloads.entry(workload.id.clone()) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(Workload { proxies: pods.proxies, pods: pods.pods, ..workload });
                }
                std::collections::hash_map::Entry::Occupied(mut known) if keeps_template(&workload) => {
                    known.get_mut().others.push(Workload { proxies: pods.proxies, pods: pods.pods, ..workload });
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
            finish(workload);
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
            ("batch/v1", "Job") => self.workload_of_job(id, &key.uid, pods),
            ("v1", "ReplicationController") => of_replication_controller(id, pods),
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
        match self.controller_by_hash(key, pods).filter(|_| self.lacks_replica_sets(key)) {
            Some((resource, name)) => {
                let controller = &self.controllers[&(resource, Arc::clone(&key.namespace), Arc::clone(&name))];
                let id = self.controller_id(resource, &key.namespace, &name);
                self.controller_workload(id, controller, pods.template.clone())
            }
            None => self.doubtful(Resource::ReplicaSets, id, pods),
        }
    }

    /// Whether the ReplicaSets beside these pods are not all there. Files with some hold all, or say that they do not; those that
    /// leave uids out hold just those that no Deployment owns.
    fn lacks_replica_sets(&self, key: &OwnerKey) -> bool {
        let is_unread = self.snapshot.unread(Resource::ReplicaSets, &key.namespace).is_some();
        let are_of_files = self.origin == Origin::Files;
        is_unread || are_of_files && (key.uid.is_empty() || !self.resources_seen.contains(&Resource::ReplicaSets))
    }

    /// Whether more has to be read to know whose the pods of a ReplicaSet are, or what a bare one makes them from.
    pub(super) fn lacks_replica_set(&self, key: &OwnerKey, pods: &OwnerPods) -> bool {
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

    fn workload_of_job(&self, id: WorkloadId, uid: &str, pods: &OwnerPods) -> Workload {
        let key = (Resource::Jobs, Arc::clone(&id.namespace), Arc::clone(&id.name));
        let Some(job) = self.controllers.get(&key).filter(|job| is_same(&job.uid, uid)) else {
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
        let lender = controller.borrows_template_of.as_ref();
        let borrowed = lender.and_then(|reference| {
            let key = (reference.resource()?, Arc::clone(&id.namespace), reference.name.as_str().into());
            self.controllers.get(&key)?.template.clone()
        });
        // What is made from a template that is not known may be anything.
        let doubt = OwnerDoubt { resource: Resource::Rollouts, is_file: self.origin == Origin::Files };
        let doubt = (lender.is_some() && borrowed.is_none()).then_some(doubt);
        let template = borrowed.or_else(|| controller.template.clone()).unwrap_or(fallback);
        Workload {
            gateway: controller.gateway.clone().or_else(|| gateway_of_template(&template)),
            revision: controller.revision.clone(),
            others: Vec::new(),
            id,
            uid: known(&controller.uid),
            wanted_pods: controller.wanted_pods,
            template,
            restart: controller.restart.clone(),
            proxies: Vec::new(),
            pods: Vec::new(),
            doubt,
        }
    }
}

impl Workload {
    fn with_restart(self, restart: Restart) -> Workload {
        Workload { restart, ..self }
    }
}

fn owned_by_nobody(id: WorkloadId, pods: &OwnerPods, why: &str) -> Workload {
    Workload {
        id,
        gateway: gateway_of_template(&pods.template),
        revision: None,
        others: Vec::new(),
        template: pods.template.clone(),
        uid: None,
        wanted_pods: None,
        restart: Restart::Unknown(why.to_owned()),
        proxies: Vec::new(),
        pods: Vec::new(),
        doubt: None,
    }
}

/// The Gateway that istiod made pods for, by their labels: it marks them since 1.24; until then it names the Gateway and lets nobody inject.
/// Whoever fills in a name alone has a gateway of his own.
pub(super) fn gateway_of_template(template: &Template) -> Option<String> {
    let name = template.label(labels::GATEWAY_NAME).or(template.label(labels::OLD_GATEWAY_NAME))?;
    let is_old = || {
        let is_never_injected = template.label(labels::INJECT) == Some("false") && template.annotation(labels::STATUS).is_none();
        is_never_injected && template.annotation(labels::REVISION).is_some() && template.fixed_image().is_some()
    };
    (template.label(labels::GATEWAY_MANAGED).is_some() || is_old()).then(|| name.to_owned())
}

/// Whether pods of this workload may differ in their template: those of owners that are not known here.
fn keeps_template(workload: &Workload) -> bool {
    let is_known = Resource::of_kind(&workload.id.api_version, &workload.id.kind).is_some();
    !is_known && !matches!((&*workload.id.api_version, &*workload.id.kind), ("batch/v1", "CronJob") | ("v1", "Node"))
}

/// Sorts what the order of arrival has decided, and gives what istiod has made its type: its pods say it only since 1.24.
fn finish(workload: &mut Workload) {
    workload.pods.sort();
    let made = workload.gateway.is_some();
    for (proxy, _) in &mut workload.proxies {
        if let Some(proxy) = proxy.as_mut().filter(|proxy| made && !proxy.proxy_type.is_made_by_istiod()) {
            proxy.proxy_type = ProxyType::GatewayApi;
        }
    }
    sort_proxies(workload);
    workload.others.iter_mut().for_each(finish);
}

/// Pods of a ReplicationController, which on OpenShift belongs to a DeploymentConfig that they name.
fn of_replication_controller(id: WorkloadId, pods: &OwnerPods) -> Workload {
    match pods.template.annotation(labels::DEPLOYMENT_CONFIG) {
        Some(config) => {
            let id = WorkloadId {
                api_version: "apps.openshift.io/v1".into(),
                kind: "DeploymentConfig".into(),
                name: config.into(),
                ..id
            };
            owned_by_nobody(id, pods, "a DeploymentConfig of OpenShift is rolled out by oc")
        }
        None => owned_by_nobody(id, pods, "a ReplicationController does not replace its pods by itself"),
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
pub(super) fn count(proxies: &mut Vec<(Option<Proxy>, u32)>, proxy: Option<Proxy>, number: u32) -> usize {
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
