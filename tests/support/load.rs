//! Many pods at once, for benchmarks: as many as a large mesh has, in a minute or two instead of the hour that controllers,
//! scheduler and injector would take for them one by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::workload::{Follows, Workload};

impl Cluster {
    /// Adds `pods` running pods, each as the injector of one of `revisions` makes them, ten to a Deployment and a hundred to
    /// a namespace that follows that revision. The namespaces are named `load-0`, `load-1` and so on.
    ///
    /// Controllers and kubelets stand still meanwhile and find a finished world afterwards: every pod runs and has its
    /// ReplicaSet, every ReplicaSet its Deployment, so they have nothing to do.
    pub fn fill(&self, pods: usize, revisions: &[&str]) -> Result<()> {
        let templates: Vec<Value> = revisions.iter().map(|revision| self.injected(revision)).collect::<Result<_>>()?;
        let namespaces = pods.div_ceil(PODS_IN_NAMESPACE);
        for number in 0..namespaces {
            // Without its label yet: nobody is to inject once more.
            self.namespace(&format!("load-{number}"), Follows::Nothing)?;
        }
        let deployments = pods.div_ceil(PODS_IN_DEPLOYMENT);
        let next = AtomicUsize::new(0);
        self.while_it_stands_still(|| {
            let work = || -> Result<()> {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= deployments {
                        return Ok(());
                    }
                    let count = (pods - number * PODS_IN_DEPLOYMENT).min(PODS_IN_DEPLOYMENT);
                    let namespace = number * PODS_IN_DEPLOYMENT / PODS_IN_NAMESPACE;
                    self.deployment_with_pods(namespace, number, count, &templates[namespace % templates.len()])?;
                }
            };
            thread::scope(|scope| {
                let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
            })
            .context("creating pods")?;
            for number in 0..namespaces {
                let labels = json!({"metadata": {"labels": {"istio.io/rev": revisions[number % revisions.len()]}}});
                self.api().patch(&format!("/api/v1/namespaces/load-{number}"), &labels)?;
            }
            Ok(())
        })?;
        self.wait("all the Deployments to be rolled out", Duration::from_secs(600), || {
            let list = self.api().get("/apis/apps/v1/deployments?limit=100000")?;
            let items = list["items"].as_array().context("a list of Deployments has no items")?;
            let done = |item: &&Value| item["status"]["availableReplicas"] == item["spec"]["replicas"];
            let load = || {
                items.iter().filter(|item| item["metadata"]["namespace"].as_str().is_some_and(|name| name.starts_with("load-")))
            };
            Ok((load().all(|item| done(&item)) && load().count() >= deployments).then_some(()))
        })
    }

    /// A pod as the injector makes it now, without what belongs to one pod only.
    fn injected(&self, revision: &str) -> Result<Value> {
        let namespace = self.namespace("load-template", Follows::Revision(revision))?;
        let mut pod =
            namespace.dry_run(&Workload::pod("web")).with_context(|| format!("asking revision {revision} for a pod"))?;
        namespace.remove()?;
        let metadata = &pod["metadata"];
        pod["metadata"] = json!({"labels": metadata["labels"], "annotations": metadata["annotations"]});
        pod["status"] = Value::Null;
        pod["spec"]["nodeName"] = json!("node-0");
        Ok(pod)
    }

    fn deployment_with_pods(&self, namespace: usize, number: usize, count: usize, pod: &Value) -> Result<()> {
        let (namespace, name) = (format!("load-{namespace}"), format!("web-{number}"));
        let replicas = u32::try_from(count).context("a count of pods that fits")?;
        let apps = format!("/apis/apps/v1/namespaces/{namespace}");
        let deployment = Workload::deployment(&name).replicas(replicas);
        let created = self.api().create(&format!("{apps}/deployments"), &deployment.manifest())?;
        // What the Deployment controller would have named so. It adopts any ReplicaSet whose template is the Deployment's.
        let hash = "7d9c6b8f5d";
        let labels = json!({"app": name, "pod-template-hash": hash});
        let mut set = Workload::replica_set(&format!("{name}-{hash}")).replicas(replicas).manifest();
        set["metadata"]["labels"] = labels.clone();
        set["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
        set["metadata"]["ownerReferences"] = owner(&created, "Deployment");
        set["spec"]["selector"]["matchLabels"] = labels.clone();
        set["spec"]["template"]["metadata"]["labels"] = labels.clone();
        let set = self.api().create(&format!("{apps}/replicasets"), &set)?;
        let mut pod = pod.clone();
        pod["metadata"]["ownerReferences"] = owner(&set, "ReplicaSet");
        for (key, value) in labels.as_object().into_iter().flatten() {
            pod["metadata"]["labels"][key] = value.clone();
        }
        let status = running(&pod);
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        for member in 0..count {
            let name = format!("{name}-{hash}-{}", suffix(member));
            pod["metadata"]["name"] = json!(name);
            self.api().create(&pods, &pod)?;
            self.api().patch(&format!("{pods}/{name}/status"), &status)?;
        }
        Ok(())
    }
}

const PODS_IN_DEPLOYMENT: usize = 10;
const PODS_IN_NAMESPACE: usize = 100;
const THREADS: usize = 24;

/// The status that kwok would give the pod, only sooner.
fn running(pod: &Value) -> Value {
    let statuses = |list: &str| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .map(|container| container_status(container, list == "initContainers" && container["restartPolicy"] != "Always"))
            .collect()
    };
    let conditions =
        ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(|name| json!({"type": name, "status": "True"}));
    json!({"status": {
        "phase": "Running", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}], "conditions": conditions,
        "containerStatuses": statuses("containers"), "initContainerStatuses": statuses("initContainers"),
    }})
}

fn container_status(container: &Value, completed: bool) -> Value {
    let state = if completed { json!({"terminated": {"exitCode": 0, "reason": "Completed"}}) } else { json!({"running": {}}) };
    json!({
        "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": !completed,
        "restartCount": 0, "state": state,
    })
}

fn owner(object: &Value, kind: &str) -> Value {
    json!([{
        "apiVersion": "apps/v1", "kind": kind, "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Five characters, as pods of a ReplicaSet have.
fn suffix(number: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5u32).map(|place| char::from(ALPHABET[number / ALPHABET.len().pow(place) % ALPHABET.len()])).collect()
}
