//! Workloads that an operator makes: restarted in the operator's own way, by eviction where the user asks for it, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, Namespace, Workload, plugin};

/// A kind of custom resources whose content nobody checks.
pub fn definition(group: &str, plural: &str, kind: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// Installs it and waits until it is served.
pub fn define(cluster: &Cluster, definition: &Value) -> Result<()> {
    cluster.apply(definition)?;
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let path = format!("/apis/{}/v1/{}", text(&spec["group"]), text(&spec["names"]["plural"]));
    cluster.wait("the kind to be served", Duration::from_secs(60), || cluster.api().find(&path))?;
    Ok(())
}

/// A controller reference to this object.
fn controller(object: &Value) -> Value {
    json!([{
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true,
    }])
}

fn revisions(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
    let mut revisions: Vec<String> = namespace.pods()?.iter().filter_map(revision).collect();
    revisions.sort();
    revisions.dedup();
    Ok(revisions)
}

#[test]
fn what_an_operator_owns_is_blocked_and_evicted_only_when_asked() -> Result<()> {
    let cluster = Cluster::shared()?;
    define(cluster, &definition("example.org", "shops", "Shop"))?;
    let owned = cluster.namespace("operators-owned", Follows::Revision("1-26-0"))?;
    let shop = owned.apply(json!({"apiVersion": "example.org/v1", "kind": "Shop", "metadata": {"name": "main"}}))?;
    let workloads = [Workload::deployment("web").replicas(2), Workload::stateful_set("db")];
    for workload in &workloads {
        let mut manifest = workload.manifest();
        manifest["metadata"]["ownerReferences"] = controller(&shop);
        owned.apply(manifest)?;
        owned.wait_until_rolled_out(workload)?;
    }
    // An owner that is no controller is no operator: garbage collection is all that it is for.
    let mut free = Workload::deployment("free").manifest();
    free["metadata"]["ownerReferences"] = controller(&shop);
    free["metadata"]["ownerReferences"][0]["controller"] = false.into();
    let manifest = cluster.folder().join("operators-free.json");
    free["metadata"]["namespace"] = owned.name().into();
    std::fs::write(&manifest, free.to_string())?;
    cluster.kubectl(["apply", "-f", &manifest.to_string_lossy()])?;
    owned.wait_until_rolled_out(&Workload::deployment("free"))?;
    // Who writes the template is no tool of people here: that and the owner make an operator of it.
    let mut tended = Workload::deployment("tended").manifest();
    tended["metadata"]["ownerReferences"] = free["metadata"]["ownerReferences"].clone();
    owned.apply(tended)?;
    owned.wait_until_rolled_out(&Workload::deployment("tended"))?;
    cluster.namespace("operators-owned", Follows::Revision("1-28-2"))?;
    let generations = || -> Result<Vec<Value>> {
        workloads.iter().map(|workload| Ok(owned.get(workload)?["metadata"]["generation"].clone())).collect()
    };
    let before = generations()?;

    let report = plugin("mesh-proxyver")?.on(cluster);
    let refs = report.run(["mesh-proxyver", "-n", "operators-owned", "--stale", "-o", "refs"])?;
    ensure!(refs.stdout.contains("\"free\"") && !refs.stdout.contains("\"web\""), "{}", refs.transcript());
    let items = report.run(["mesh-proxyver", "-n", "operators-owned", "-o", "json"])?.json()?;
    // Lists tell no field managers, so that `tended` is operated is known when it is about to be restarted.
    let is_controlled = |item: &&Value| item["workload"]["name"] != "free" && item["workload"]["name"] != "tended";
    for item in items["items"].as_array().into_iter().flatten().filter(is_controlled) {
        ensure!(item["state"] == "blocked" && item["reasons"].to_string().contains("\"owner\""), "{item}");
        ensure!(item["advice"].to_string().contains("Shop.example.org/main"), "{item}");
    }

    let session = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(300));
    let output = session.run(["mesh-upgrade", "restart", "-n", "operators-owned", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    for name in ["deployment.apps/web", "statefulset.apps/db"] {
        let told = format!("not restarted: {name} -n operators-owned is blocked");
        ensure!(output.stderr.contains(&told) && output.stderr.contains("Shop.example.org/main"), "{}", output.transcript());
    }
    ensure!(generations()? == before && revisions(&owned)? == ["1-26-0", "1-28-2"], "{}", output.transcript());
    let told =
        "left alone: deployment.apps/tended -n operators-owned: Shop.example.org/main owns it, and the field manager mesh-tests";
    ensure!(output.stderr.contains(told) && output.stderr.contains("1 workload runs"), "{}", output.transcript());

    let planned = session.run(["mesh-upgrade", "plan", "-n", "operators-owned", "--evict-owned"])?;
    ensure!(planned.code == Some(0) && planned.stdout.contains("evict-owned"), "{}", planned.transcript());
    let file = session.home().join("plan.yaml");
    std::fs::write(&file, &planned.stdout)?;
    let output = session.run(["mesh-upgrade", "restart", "--plan", &file.to_string_lossy(), "--yes"])?;
    ensure!(output.code == Some(0) && output.stderr.contains("3 workloads run what is wanted"), "{}", output.transcript());
    ensure!(generations()? == before, "their templates are left alone: {}", output.transcript());
    ensure!(revisions(&owned)? == ["1-28-2"], "{}", output.transcript());
    Ok(())
}

/// Replaces the pods of a custom resource when its annotation changes, as Strimzi and CloudNativePG do: one after another. It takes
/// the annotation away if `is_taken_away`.
fn operate(cluster: &Cluster, path: &str, annotation: &str, pods: &[Value], is_over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (api, path, annotation) = (cluster.api().clone(), path.to_owned(), annotation.to_owned());
    let (pods, is_over) = (pods.to_vec(), Arc::clone(is_over));
    thread::spawn(move || {
        while !is_over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(100));
            let Ok(object) = api.get(&path) else { continue };
            if object["metadata"]["annotations"][&annotation].is_null() {
                continue;
            }
            for pod in &pods {
                let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
                let pods = format!("/api/v1/namespaces/{}/pods", namespace.as_str().unwrap_or_default());
                let own = format!("{pods}/{}", name.as_str().unwrap_or_default());
                let _ = api.delete(&own);
                while matches!(api.find(&own), Ok(Some(_))) {
                    thread::sleep(Duration::from_millis(50));
                }
                let _ = api.create(&pods, pod);
            }
            return;
        }
    })
}

#[test]
fn operators_whose_way_is_documented_are_asked_in_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let operators = [
        ("strimzi", "core.strimzi.io", "strimzipodsets", "StrimziPodSet", "strimzi.io/manual-rolling-update"),
        ("postgres", "postgresql.cnpg.io", "clusters", "Cluster", "kubectl.kubernetes.io/restartedAt"),
    ];
    for (name, group, plural, kind, annotation) in operators {
        define(cluster, &definition(group, plural, kind))?;
        let place = format!("operators-{name}");
        let namespace = cluster.namespace(&place, Follows::Revision("1-26-0"))?;
        let object = namespace.apply(json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "data"}}))?;
        let mut made = Vec::new();
        for number in 0..2 {
            let mut pod = Workload::pod(&format!("data-{number}")).manifest();
            pod["metadata"]["ownerReferences"] = controller(&object);
            pod["metadata"]["namespace"] = place.as_str().into();
            cluster.api().create(&format!("/api/v1/namespaces/{place}/pods"), &pod)?;
            namespace.wait_until_rolled_out(&Workload::pod(&format!("data-{number}")))?;
            made.push(pod);
        }
        cluster.namespace(&place, Follows::Revision("1-28-2"))?;
        let is_over = Arc::default();
        let path = format!("/apis/{group}/v1/namespaces/{place}/{plural}/data");
        let operator = operate(cluster, &path, annotation, &made, &is_over);
        let session = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(120));
        let output = session.run(["mesh-upgrade", "restart", "-n", &place, "--yes", "--timeout", "60"]);
        is_over.store(true, Ordering::SeqCst);
        ensure!(operator.join().is_ok(), "the operator");
        let output = output?;
        ensure!(output.code == Some(0) && output.stderr.contains("1 workload runs"), "{name}: {}", output.transcript());
        ensure!(revisions(&namespace)? == ["1-28-2"], "{name}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn an_operator_that_does_not_answer_is_a_failure() -> Result<()> {
    let cluster = Cluster::shared()?;
    define(cluster, &definition("core.strimzi.io", "strimzipodsets", "StrimziPodSet"))?;
    let namespace = cluster.namespace("operators-silent", Follows::Revision("1-26-0"))?;
    let object =
        namespace.apply(json!({"apiVersion": "core.strimzi.io/v1", "kind": "StrimziPodSet", "metadata": {"name": "data"}}))?;
    let mut pod = Workload::pod("data-0").manifest();
    pod["metadata"]["ownerReferences"] = controller(&object);
    namespace.apply(pod)?;
    namespace.wait_until_rolled_out(&Workload::pod("data-0"))?;
    cluster.namespace("operators-silent", Follows::Revision("1-28-2"))?;
    let session = plugin("mesh-upgrade")?.on(cluster);
    let output = session.run(["mesh-upgrade", "restart", "-n", "operators-silent", "--yes", "--timeout", "3"])?;
    ensure!(output.code == Some(5) && output.stdout.contains("Strimzi was asked to restart it"), "{}", output.transcript());
    ensure!(revisions(&namespace)? == ["1-26-0"], "{}", output.transcript());
    Ok(())
}
