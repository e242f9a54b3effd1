//! Pods that need time to stop: while one of them is being deleted, no other one of its workload goes, and it proves nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, Namespace, Output, Workload, plugin, plugins};

/// How long each pod takes to stop.
const STOP: Duration = Duration::from_millis(3500);

/// A workload whose pods are there until somebody takes their finalizer away: as a long grace period keeps them.
fn slow(workload: Workload) -> Workload {
    workload.pod_finalizers(json!(["example.org/slow"]))
}

fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// All pods of a workload, those that are being deleted too.
fn all_pods(namespace: &Namespace<'_>, workload: &str) -> Result<Vec<Value>> {
    let cluster = namespace.cluster();
    let list = cluster.api().get(&format!("/api/v1/namespaces/{}/pods?labelSelector=app%3D{workload}", namespace.name()))?;
    Ok(list["items"].as_array().context("a list")?.clone())
}

fn let_go(namespace: &Namespace<'_>, pod: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a name")?;
    let path = format!("/api/v1/namespaces/{}/pods/{name}", namespace.name());
    namespace.cluster().api().patch(&path, &json!({"metadata": {"finalizers": null}})).map(drop)
}

/// Ends the pods of workloads, each after [`STOP`], until it is told to stop. Gives the fewest living pods that each workload had.
fn stop_slowly(
    namespace: &Namespace<'_>,
    workloads: &[&'static str],
    is_over: &AtomicBool,
) -> Result<HashMap<&'static str, usize>> {
    let (mut since, mut fewest) = (HashMap::new(), HashMap::new());
    while !is_over.load(Ordering::SeqCst) {
        for workload in workloads {
            let pods = all_pods(namespace, workload)?;
            let living = pods.iter().filter(|pod| !is_leaving(pod)).count();
            fewest.entry(*workload).and_modify(|fewest: &mut usize| *fewest = living.min(*fewest)).or_insert(living);
            for pod in pods.iter().filter(|pod| is_leaving(pod)) {
                let uid = pod["metadata"]["uid"].as_str().context("a uid")?.to_owned();
                if since.entry(uid).or_insert_with(Instant::now).elapsed() > STOP {
                    // It may be gone meanwhile.
                    let _ = let_go(namespace, pod);
                }
            }
        }
        thread::sleep(Duration::from_millis(150));
    }
    Ok(fewest)
}

/// What runs, of a workload of which so many pods are to run.
fn ensure_new(namespace: &Namespace<'_>, workload: &str, count: usize, output: &Output) -> Result<()> {
    let pods = all_pods(namespace, workload)?;
    let is_new = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        !is_leaving(pod) && is_ready && pod["metadata"]["annotations"]["istio.io/rev"] == "1-28-2"
    };
    let new = pods.iter().filter(is_new).count();
    ensure!(new == count, "{new} of {count} pods of {workload} are new, living and ready: {}", output.transcript());
    Ok(())
}

#[test]
fn no_pod_is_evicted_before_the_last_one_is_gone_and_its_replacement_is_ready() -> Result<()> {
    let cluster = Cluster::shared()?;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let slow_ones = cluster.namespace("slow-stops", Follows::Revision("1-26-0"))?;
    for workload in [
        Workload::stateful_set("zk").replicas(3).spec(on_delete.clone()),
        Workload::stateful_set("part").replicas(3).spec(json!({"updateStrategy": {"rollingUpdate": {"partition": 3}}})),
        Workload::stateful_set("early").replicas(2).spec(on_delete.clone()),
        Workload::daemon_set("agent").spec(on_delete),
        Workload::replica_set("legacy").replicas(2),
    ] {
        slow_ones.run(&slow(workload))?;
    }
    let slow_ones = cluster.namespace("slow-stops", Follows::Revision("1-28-2"))?;
    // One of them is being deleted already, and one more may not be missing.
    cluster.api().delete("/api/v1/namespaces/slow-stops/pods/early-0")?;
    let workloads = ["zk", "part", "early", "agent", "legacy"];
    let session = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(180));
    let is_over = AtomicBool::new(false);
    let (output, fewest) = thread::scope(|scope| -> Result<_> {
        let stopping = scope.spawn(|| stop_slowly(&slow_ones, &workloads, &is_over));
        let output = session.run(["mesh-upgrade", "restart", "-n", "slow-stops", "--yes"]);
        // Whether they are new and ready is looked at before anything more happens.
        let checked = output.as_ref().ok().map(|output| {
            let counts = [("zk", 3), ("part", 3), ("early", 2), ("agent", 1), ("legacy", 2)];
            counts.into_iter().try_for_each(|(workload, count)| ensure_new(&slow_ones, workload, count, output))
        });
        is_over.store(true, Ordering::SeqCst);
        let fewest = stopping.join().map_err(|_| anyhow::anyhow!("the thread that stops pods has panicked"))??;
        checked.transpose()?;
        Ok((output?, fewest))
    })?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(output.stderr.contains("5 workloads run what is wanted"), "{}", output.transcript());
    for (workload, least) in [("zk", 2), ("part", 2), ("early", 1), ("legacy", 1)] {
        ensure!(fewest[workload] >= least, "{workload} had {} living pods: {}", fewest[workload], output.transcript());
    }
    for workload in workloads {
        for pod in all_pods(&slow_ones, workload)? {
            let_go(&slow_ones, &pod)?;
        }
    }
    Ok(())
}

#[test]
fn a_workload_that_is_scaled_to_zero_meanwhile_proves_nothing() -> Result<()> {
    let cluster = Cluster::shared()?;
    let queue = slow(Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}})));
    cluster.namespace("slow-zero", Follows::Revision("1-26-0"))?.run(&queue)?;
    let zero = cluster.namespace("slow-zero", Follows::Revision("1-28-2"))?;
    let session = plugin("mesh-upgrade")?.on(cluster);
    let mut running = session.start(["mesh-upgrade", "restart", "-n", "slow-zero", "--yes"])?;
    running.wait_for("restarting")?;
    cluster
        .wait("an eviction", Duration::from_secs(30), || Ok(all_pods(&zero, "queue")?.iter().any(is_leaving).then_some(())))?;
    cluster.api().patch("/apis/apps/v1/namespaces/slow-zero/statefulsets/queue", &json!({"spec": {"replicas": 0}}))?;
    cluster.wait("all pods to be gone", Duration::from_secs(30), || {
        let pods = all_pods(&zero, "queue")?;
        pods.iter().filter(|pod| is_leaving(pod)).try_for_each(|pod| let_go(&zero, pod))?;
        Ok(pods.is_empty().then_some(()))
    })?;
    let output = running.finish()?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    let told = "statefulset.apps/queue -n slow-zero: skipped, 1.26.0 (1-26-0) -> 1.28.2 (1-28-2): \
                scaled to 0: there is nothing left to prove";
    ensure!(output.stdout.contains(told), "{}", output.transcript());
    ensure!(output.stderr.contains("0 workloads run what is wanted"), "{}", output.transcript());
    Ok(())
}

#[test]
fn an_eviction_that_is_done_and_misreported_is_looked_up_at_once() -> Result<()> {
    let cluster = Cluster::shared()?;
    let queue = Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    cluster.namespace("slow-told", Follows::Revision("1-26-0"))?.run(&queue)?;
    let told = cluster.namespace("slow-told", Follows::Revision("1-28-2"))?;
    let evictions = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&evictions);
    let interceptor = Interceptor::before(cluster, move |call| {
        if call.method == "POST" && call.target.contains("/eviction") {
            count.fetch_add(1, Ordering::SeqCst);
            return Fate::Misreport(504);
        }
        Fate::Pass
    })?;
    let start = Instant::now();
    let output = plugin("mesh-upgrade")?.through(&interceptor)?.run(["mesh-upgrade", "restart", "-n", "slow-told", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(evictions.load(Ordering::SeqCst) == 2, "one for each pod: {}", output.transcript());
    ensure!(start.elapsed() < Duration::from_secs(60), "it took {:?}: {}", start.elapsed(), output.transcript());
    ensure_new(&told, "queue", 2, &output)
}

#[test]
fn a_workload_whose_pods_are_all_being_deleted_is_not_current() -> Result<()> {
    let cluster = Cluster::shared()?;
    let gone = cluster.namespace("slow-gone", Follows::Revision("1-28-2"))?;
    let workloads = [Workload::stateful_set("lone"), Workload::daemon_set("agent"), Workload::stateful_set("asleep").replicas(0)];
    for workload in workloads {
        gone.run(&slow(workload))?;
    }
    let pods = gone.pods()?;
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        cluster.api().delete(&format!("/api/v1/namespaces/slow-gone/pods/{name}"))?;
    }
    let session = plugins(&["mesh-proxyver", "mesh-upgrade"])?.on(cluster);
    let report = session.run(["mesh-proxyver", "-n", "slow-gone", "-o", "json"])?;
    for pod in &pods {
        let_go(&gone, pod)?;
    }
    let items = report.json()?["items"].as_array().cloned().context("items")?;
    let told: Vec<(&str, &str, &Value)> = items
        .iter()
        .filter_map(|item| Some((item["workload"]["name"].as_str()?, item["state"].as_str()?, &item["reasons"])))
        .collect();
    let no_pods = json!(["no-pods"]);
    let expected = [("agent", "unknown", &no_pods), ("asleep", "current", &no_pods), ("lone", "unknown", &no_pods)];
    ensure!(told == expected, "{told:?}: {}", report.transcript());
    Ok(())
}

#[test]
fn what_a_partition_keeps_is_not_for_kubectl_to_restart() -> Result<()> {
    let cluster = Cluster::shared()?;
    let kept = cluster.namespace("slow-kept", Follows::Revision("1-26-0"))?;
    let partition = |number: u32| json!({"updateStrategy": {"rollingUpdate": {"partition": number}}});
    kept.run(&Workload::stateful_set("part").replicas(2).spec(partition(1)))?;
    cluster.namespace("slow-kept", Follows::Revision("1-28-2"))?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    let restart = "kubectl mesh-upgrade restart -n slow-kept statefulset.apps/part";
    for format in ["refs", "args"] {
        let listed = session.run(["mesh-proxyver", "-n", "slow-kept", "--stale", "-o", format])?;
        ensure!(listed.stdout.is_empty() && listed.stderr.contains(restart), "{}", listed.transcript());
    }
    let table = session.run(["mesh-proxyver", "-n", "slow-kept"])?;
    ensure!(table.stderr.contains(&format!("Next: {restart}")), "{}", table.transcript());
    // A partition that keeps no pod is none.
    kept.run(&Workload::stateful_set("free").replicas(2).spec(partition(0)))?;
    cluster.kubectl(["label", "namespace", "slow-kept", "istio.io/rev=1-26-0", "--overwrite"])?;
    let listed = session.run(["mesh-proxyver", "-n", "slow-kept", "--stale", "-o", "refs"])?;
    ensure!(listed.stdout.contains("\"name\":\"free\""), "{}", listed.transcript());
    Ok(())
}
