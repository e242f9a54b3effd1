//! Many pods, quickly: made from one that the real istiod injected, without any controller.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Revision, Workload, say};

/// Pods of a Deployment.
const PODS: usize = 10;
/// Requests under way at once.
const THREADS: usize = 12;
/// Whole objects, in the API server's shorter form.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The metadata of objects, in that form.
pub const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const HASH: &str = "5d4f8c7b9d";

/// A cluster full of pods, its controllers held still so that they neither adopt nor remove any.
pub struct Load {
    /// How many Deployments there are.
    pub deployments: usize,
    held: Vec<libc::pid_t>,
}

impl Load {
    /// Lets the controllers go on, so that they can end.
    pub fn release(&self) {
        signal(&self.held, libc::SIGCONT);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.release();
    }
}

fn signal(processes: &[libc::pid_t], signal: libc::c_int) {
    for process in processes {
        #[expect(unsafe_code, reason = "std has no signals")]
        // SAFETY: these are processes of our own cluster, which has not ended.
        unsafe {
            libc::kill(*process, signal);
        }
    }
}

/// Fills a cluster with so many pods, which the older revision has injected, and so many Deployments to a namespace. What
/// the namespace of a number follows then, `follows` says.
pub fn fill(cluster: &Cluster, pods: usize, deployments: usize, follows: impl Fn(usize) -> String + Sync) -> Result<Load> {
    let model = cluster.namespace("model", Follows::Revision("1-26-0"))?;
    model.run(&Workload::deployment("model"))?;
    let model = model.pods()?.into_iter().next().context("the model has a pod")?;
    let namespaces: Vec<String> = (0..pods.div_ceil(PODS * deployments)).map(|number| format!("load-{number}")).collect();
    side_by_side(namespaces.len(), |number| cluster.namespace(&namespaces[number], Follows::Nothing).map(|_| ()))?;

    let controllers =
        cluster.processes().into_iter().filter(|(_, name)| name.contains("controller-manager") || name.contains("kwok"));
    let held: Vec<libc::pid_t> = controllers.filter_map(|(process, _)| process.try_into().ok()).collect();
    signal(&held, libc::SIGSTOP);
    let load = Load { deployments: pods.div_ceil(PODS), held };
    side_by_side(load.deployments, |number| {
        let namespace = &namespaces[number / deployments];
        let name = format!("workload-{number}");
        let mut deployment = Workload::deployment(&name).replicas(10).manifest();
        deployment["metadata"]["namespace"] = json!(namespace);
        cluster.api().create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), &deployment)?;
        (0..PODS).try_for_each(|pod| create_pod(cluster, &model, namespace, &name, pod))
    })?;
    side_by_side(namespaces.len(), |number| {
        let patch = json!({"metadata": {"labels": {"istio.io/rev": follows(number)}}});
        cluster.api().patch(&format!("/api/v1/namespaces/{}", namespaces[number]), &patch).map(|_| ())
    })?;
    Ok(load)
}

fn create_pod(cluster: &Cluster, model: &Value, namespace: &str, workload: &str, number: usize) -> Result<()> {
    let mut pod = model.clone();
    let name = format!("{workload}-{HASH}-{number:05}");
    let mut metadata = pod["metadata"].take();
    pod["metadata"] = json!({
        "name": name, "namespace": namespace, "labels": metadata["labels"].take(), "annotations": metadata["annotations"].take(),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{workload}-{HASH}"),
            "uid": "00000000-0000-0000-0000-000000000000", "controller": true, "blockOwnerDeletion": true}],
    });
    pod["metadata"]["labels"]["app"] = json!(workload);
    pod["metadata"]["labels"]["pod-template-hash"] = json!(HASH);
    let status = json!({"status": pod["status"].take()});
    pod.as_object_mut().context("a pod is an object")?.remove("status");
    cluster.api().create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)?;
    cluster.api().patch(&format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), &status).map(|_| ())
}

/// Does something so many times, several at once, and says how far it is.
pub fn side_by_side(number: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let mine = next.fetch_add(1, Ordering::Relaxed);
                if mine >= number {
                    return Ok(());
                }
                work(mine)?;
                if mine > 0 && mine.is_multiple_of(1000) {
                    say(format_args!("{mine} of {number}"));
                }
            }
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

/// The two revisions, the older one first.
pub fn install(cluster: &Cluster) -> Result<()> {
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))
}

/// The paths of all pages of the list of pods; `query` is what is asked for besides. A token says where a page begins,
/// whatever the encoding.
pub fn pages(cluster: &Cluster, query: &str) -> Result<Vec<String>> {
    let first = format!("/api/v1/pods?limit=500{query}");
    let mut pages = vec![first.clone()];
    loop {
        let page = cluster.api().get(pages.last().context("there is a first page")?)?;
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => pages.push(format!("{first}&continue={token}")),
            None => return Ok(pages),
        }
    }
}

/// What makes one curl process fetch all pages on one connection, of this type, and throw them away.
pub fn curl_config(cluster: &Cluster, pages: &[String], accept: &str) -> String {
    let kubeconfig = cluster.kubeconfig();
    let mut config = String::new();
    for (number, page) in pages.iter().enumerate() {
        let next = if number == 0 { "" } else { "next\n" };
        writeln!(
            config,
            "{next}url = \"{}{page}\"\ncacert = \"{}\"\nheader = \"Authorization: Bearer {}\"\n\
             header = \"Accept: {accept}\"\noutput = /dev/null",
            kubeconfig.server,
            kubeconfig.authority.display(),
            kubeconfig.token
        )
        .expect("a String takes all text");
    }
    config
}
