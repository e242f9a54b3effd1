//! What a test puts into a cluster: namespaces that follow a revision or a tag, and workloads of every kind in them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::api::path_of;
use crate::cluster::{Cluster, DEADLINE, is_ready};

/// What a namespace's labels say about injection.
#[derive(Clone, Debug)]
pub enum Follows<'a> {
    /// Nothing.
    Nothing,
    /// `istio.io/rev`, with the name of a revision or of a tag.
    Revision(&'a str),
    /// `istio-injection=enabled`.
    Injection,
    /// Whatever these labels say.
    Labels(Value),
}

/// A namespace of a test cluster.
#[derive(Clone, Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

/// A workload on its way into a namespace.
#[derive(Clone, Debug)]
pub struct Workload {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    metadata: Value,
    spec: Value,
    pod: Value,
}

impl Cluster {
    /// Makes a namespace, or gives an existing one these labels.
    pub fn namespace(&self, name: &str, follows: Follows<'_>) -> Result<Namespace<'_>> {
        let labels = match follows {
            Follows::Nothing => json!({}),
            Follows::Revision(revision) => json!({"istio.io/rev": revision}),
            Follows::Injection => json!({"istio-injection": "enabled"}),
            Follows::Labels(labels) => labels,
        };
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))?;
        // Pods are refused until their namespace has its account.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        self.wait(&format!("the ServiceAccount of namespace {name}"), DEADLINE, || self.api().find(&account))?;
        Ok(Namespace { cluster: self, name: name.to_owned() })
    }

    /// A namespace that is there already.
    pub fn namespace_named(&self, name: &str) -> Namespace<'_> {
        Namespace { cluster: self, name: name.to_owned() }
    }

    /// Creates or changes any object, as `kubectl apply --server-side --force-conflicts` does.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        self.api().apply(&path_of(object)?, object)
    }

    /// Deletes an object and waits until it is gone.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let path = path_of(object)?;
        self.api().delete(&path)?;
        let gone = || Ok(self.api().find(&path)?.is_none().then_some(()));
        self.wait(&format!("{path} to be gone"), DEADLINE, gone)
    }
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// Creates or changes the workload and waits until it is rolled out.
    pub fn run(&self, workload: &Workload) -> Result<()> {
        self.create(workload)?;
        self.wait_until_rolled_out(workload)
    }

    /// Creates or changes the workload, and does not wait.
    pub fn create(&self, workload: &Workload) -> Result<Value> {
        self.apply(workload.manifest())
    }

    /// What the API server and its webhooks would make of a pod of the workload, by a server-side dry run.
    pub fn dry_run(&self, workload: &Workload) -> Result<Value> {
        let mut pod = workload.pod.clone();
        merge(&mut pod, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": format!("{}-", workload.name)}}));
        self.cluster.api().create(&format!("/api/v1/namespaces/{}/pods?dryRun=All", self.name), &pod)
    }

    /// Creates or changes any object in the namespace.
    pub fn apply(&self, mut object: Value) -> Result<Value> {
        object["metadata"]["namespace"] = json!(self.name);
        self.cluster.apply(&object)
    }

    /// A Gateway of the Gateway API, of class `class`, with the Deployment that istiod makes for it rolled out.
    pub fn gateway(&self, name: &str, class: &str, labels: Value) -> Result<()> {
        let (port, protocol) = if class == "istio-waypoint" { (15008, "HBONE") } else { (80, "HTTP") };
        self.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "labels": labels},
            "spec": {"gatewayClassName": class, "listeners": [{"name": "mesh", "port": port, "protocol": protocol}]},
        }))?;
        // A waypoint's Deployment has the name of the Gateway alone.
        let deployment = if class == "istio-waypoint" { name.to_owned() } else { format!("{name}-{class}") };
        self.wait_until_rolled_out(&Workload::deployment(&deployment))
    }

    /// Waits until the newest generation of the workload is what runs, and all its pods are ready.
    pub fn wait_until_rolled_out(&self, workload: &Workload) -> Result<()> {
        let path = path_of(&self.identity(workload))?;
        self.cluster.wait(&format!("{} {}/{} to be rolled out", workload.kind, self.name, workload.name), DEADLINE, || {
            Ok(self.cluster.api().find(&path)?.filter(is_rolled_out).map(|_| ()))
        })
    }

    /// The object as it is in the cluster now.
    pub fn get(&self, workload: &Workload) -> Result<Value> {
        self.cluster.api().get(&path_of(&self.identity(workload))?)
    }

    /// Deletes the workload and waits until it is gone.
    pub fn delete(&self, workload: &Workload) -> Result<()> {
        self.cluster.delete(&self.identity(workload))
    }

    /// The pods in the namespace that are not on their way out.
    pub fn pods(&self) -> Result<Vec<Value>> {
        let list = self.cluster.api().get(&format!("/api/v1/namespaces/{}/pods", self.name))?;
        let pods = list["items"].as_array().context("a list of pods has no items")?;
        Ok(pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned().collect())
    }

    /// The images of the proxies in the namespace, sorted: one a pod that has one.
    pub fn proxy_images(&self) -> Result<Vec<String>> {
        let mut images: Vec<String> = self.pods()?.iter().filter_map(proxy_image).map(str::to_owned).collect();
        images.sort();
        Ok(images)
    }

    /// Deletes the namespace and everything in it.
    pub fn remove(self) -> Result<()> {
        self.cluster.delete(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}))
    }

    fn identity(&self, workload: &Workload) -> Value {
        json!({
            "apiVersion": workload.api_version, "kind": workload.kind,
            "metadata": {"name": workload.name, "namespace": self.name},
        })
    }
}

impl Workload {
    /// A Deployment.
    pub fn deployment(name: &str) -> Self {
        Self::new("apps/v1", "Deployment", name)
    }

    /// A StatefulSet. Its pods start at once, not one after another.
    pub fn stateful_set(name: &str) -> Self {
        Self::new("apps/v1", "StatefulSet", name).spec(json!({"serviceName": name, "podManagementPolicy": "Parallel"}))
    }

    /// A DaemonSet.
    pub fn daemon_set(name: &str) -> Self {
        Self::new("apps/v1", "DaemonSet", name)
    }

    /// A ReplicaSet that no Deployment owns.
    pub fn replica_set(name: &str) -> Self {
        Self::new("apps/v1", "ReplicaSet", name)
    }

    /// A Job that runs for a day.
    pub fn job(name: &str) -> Self {
        Self::new("batch/v1", "Job", name).pod_spec(json!({"restartPolicy": "Never"})).runs_for(Duration::from_secs(24 * 3600))
    }

    /// A CronJob that is not due for months; `kubectl create job --from` starts one of its Jobs.
    pub fn cron_job(name: &str) -> Self {
        Self::new("batch/v1", "CronJob", name).spec(json!({"schedule": "0 0 1 1 *"})).pod_spec(json!({"restartPolicy": "Never"}))
    }

    /// A pod that nothing owns.
    pub fn pod(name: &str) -> Self {
        Self::new("v1", "Pod", name)
    }

    /// An Argo Rollout that replaces all pods in one step. [`Cluster::install_argo_rollouts`] comes before.
    pub fn rollout(name: &str) -> Self {
        Self::new("argoproj.io/v1alpha1", "Rollout", name).spec(json!({"strategy": {"canary": {}}}))
    }

    /// How many pods it has.
    #[must_use]
    pub fn replicas(self, replicas: u32) -> Self {
        self.spec(json!({"replicas": replicas}))
    }

    /// Labels of the object itself.
    #[must_use]
    pub fn labels(mut self, labels: Value) -> Self {
        merge(&mut self.metadata, json!({"labels": labels}));
        self
    }

    /// Labels of its pods.
    #[must_use]
    pub fn pod_labels(self, labels: Value) -> Self {
        self.template(json!({"metadata": {"labels": labels}}))
    }

    /// Annotations of its pods.
    #[must_use]
    pub fn pod_annotations(self, annotations: Value) -> Self {
        self.template(json!({"metadata": {"annotations": annotations}}))
    }

    /// Finalizers of its pods: a pod that is deleted stays until they are taken away.
    #[must_use]
    pub fn pod_finalizers(self, finalizers: Value) -> Self {
        self.template(json!({"metadata": {"finalizers": finalizers}}))
    }

    /// Its pods share the node's network, which Istio does not inject.
    #[must_use]
    pub fn host_network(self) -> Self {
        self.pod_spec(json!({"hostNetwork": true}))
    }

    /// Its containers, in place of the single `app`.
    #[must_use]
    pub fn containers(self, containers: Value) -> Self {
        self.pod_spec(json!({"containers": containers}))
    }

    /// An injected gateway: istiod replaces the image `auto` and everything around it.
    #[must_use]
    pub fn injected_gateway(self) -> Self {
        self.pod_annotations(json!({"inject.istio.io/templates": "gateway"}))
            .pod_labels(json!({"sidecar.istio.io/inject": "true"}))
            .containers(json!([{"name": "istio-proxy", "image": "auto"}]))
    }

    /// Its pods are scheduled but never get ready.
    #[must_use]
    pub fn never_ready(self) -> Self {
        self.pod_annotations(json!({crate::start::NEVER_READY: "true"}))
    }

    /// Its pods are scheduled and never get ready where their proxy is of this revision.
    #[must_use]
    pub fn never_ready_on(self, revision: &str) -> Self {
        self.pod_annotations(json!({crate::start::NEVER_READY_ON: revision}))
    }

    /// How long each pod of a Job runs.
    #[must_use]
    pub fn runs_for(self, time: Duration) -> Self {
        let (delay, jitter) = ("pod-complete.stage.kwok.x-k8s.io/delay", "pod-complete.stage.kwok.x-k8s.io/jitter-delay");
        let time = format!("{}s", time.as_secs());
        self.pod_annotations(json!({delay: time, jitter: time}))
    }

    /// Merges into the spec of its pods; null removes a field.
    #[must_use]
    pub fn pod_spec(self, spec: Value) -> Self {
        self.template(json!({"spec": spec}))
    }

    /// Merges into the spec of the workload itself; null removes a field.
    #[must_use]
    pub fn spec(mut self, spec: Value) -> Self {
        merge(&mut self.spec, spec);
        self
    }

    /// The object, without a namespace.
    pub fn manifest(&self) -> Value {
        let mut metadata = self.metadata.clone();
        merge(&mut metadata, json!({"name": self.name}));
        let mut object = json!({"apiVersion": self.api_version, "kind": self.kind});
        match self.kind {
            "Pod" => {
                merge(&mut object, self.pod.clone());
                merge(&mut object["metadata"], metadata);
            }
            "CronJob" => {
                merge(&mut object, json!({"metadata": metadata, "spec": {"jobTemplate": {"spec": {"template": self.pod}}}}))
            }
            "Job" => merge(&mut object, json!({"metadata": metadata, "spec": {"template": self.pod}})),
            _ => merge(
                &mut object,
                json!({"metadata": metadata, "spec": {"selector": {"matchLabels": {"app": self.name}}, "template": self.pod}}),
            ),
        }
        if self.kind != "Pod" {
            merge(&mut object["spec"], self.spec.clone());
        }
        object
    }

    fn new(api_version: &'static str, kind: &'static str, name: &str) -> Self {
        let pod = json!({
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}], "terminationGracePeriodSeconds": 0},
        });
        Self { api_version, kind, name: name.to_owned(), metadata: json!({}), spec: json!({}), pod }
    }

    fn template(mut self, template: Value) -> Self {
        merge(&mut self.pod, template);
        self
    }
}

/// The image of the pod's proxy, wherever in the pod it is.
pub fn proxy_image(pod: &Value) -> Option<&str> {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    let mut containers = lists.into_iter().flatten().flatten();
    containers.find(|container| container["name"] == "istio-proxy").and_then(|container| container["image"].as_str())
}

fn is_rolled_out(object: &Value) -> bool {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let all = |fields: &[&str], count: u64| fields.iter().all(|field| number(&status[*field]) == count);
    let observed = || number(&status["observedGeneration"]) >= number(&object["metadata"]["generation"]);
    // Old pods of an OnDelete workload stay until somebody deletes them.
    let on_delete = spec["updateStrategy"]["type"] == "OnDelete";
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => observed() && all(&["replicas", "updatedReplicas", "availableReplicas"], replicas),
        "StatefulSet" => observed() && all(&["readyReplicas"], replicas) && (on_delete || all(&["updatedReplicas"], replicas)),
        "DaemonSet" => {
            let desired = number(&status["desiredNumberScheduled"]);
            observed()
                && desired > 0
                && all(&["numberAvailable"], desired)
                && (on_delete || all(&["updatedNumberScheduled"], desired))
        }
        "ReplicaSet" => observed() && all(&["replicas", "availableReplicas"], replicas),
        "Rollout" => {
            status["phase"] == "Healthy" && status["observedGeneration"] == object["metadata"]["generation"].to_string().as_str()
        }
        "Job" => number(&status["ready"]) + number(&status["succeeded"]) > 0,
        "Pod" => is_ready(object),
        _ => true,
    }
}

/// A JSON merge patch: objects merge, everything else is replaced, null removes.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in patch {
        match (into.as_object_mut(), value) {
            (Some(object), Value::Null) => drop(object.remove(&key)),
            (Some(object), value) => merge(object.entry(key).or_insert(Value::Null), value),
            (None, _) => {}
        }
    }
}
