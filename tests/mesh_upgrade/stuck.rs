//! Back out of roll-outs that are stuck because the new proxies are broken: nobody waits for them, and where the old pods still run
//! what is wanted, no new pod is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::rbac::{explained, session_with};
use support::{Cluster, Follows, IstioVersion, Namespace, Options, Revision, Workload, plugin};

const OLD: &str = "1-26-0";
const NEW: &str = "1-28-2";

/// The pods of one workload, by their label `app`: their uids, each with the revision of its proxy.
fn pods(namespace: &Namespace<'_>, app: &str) -> Result<BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = namespace.pods()?;
    let own = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
    Ok(own.map(|pod| (text(&pod["metadata"]["uid"]), text(&pod["metadata"]["annotations"]["istio.io/rev"]))).collect())
}

/// Those of them with a proxy of this revision.
fn of(pods: &BTreeMap<String, String>, revision: &str) -> Vec<String> {
    pods.iter().filter(|(_, running)| *running == revision).map(|(uid, _)| uid.clone()).collect()
}

fn delete_pod(cluster: &Cluster, namespace: &str, app: &str) -> Result<()> {
    let namespace = cluster.namespace_named(namespace);
    let pods = namespace.pods()?;
    // The last of a StatefulSet.
    let own =
        pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).filter_map(|pod| pod["metadata"]["name"].as_str());
    let name = own.max().context("it has a pod")?;
    cluster.api().delete(&format!("/api/v1/namespaces/{}/pods/{name}", namespace.name())).map(|_| ())
}

#[test]
fn a_roll_out_that_is_stuck_is_replaced_and_needs_no_new_pod_where_the_old_ones_are_right() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    cluster.install_argo_rollouts()?;
    let shop = cluster.namespace("shop", Follows::Revision(OLD))?;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let ordered = json!({"podManagementPolicy": "OrderedReady"});
    let workloads = [
        Workload::deployment("cart").replicas(2),
        Workload::deployment("late").spec(json!({"progressDeadlineSeconds": 1})),
        Workload::deployment("alone").spec(json!({"strategy": {"type": "Recreate"}})),
        Workload::deployment("changed"),
        Workload::deployment("held"),
        Workload::stateful_set("db").replicas(2).spec(ordered.clone()),
        Workload::stateful_set("solo").spec(ordered),
        Workload::stateful_set("queue").replicas(2).spec(on_delete),
        Workload::daemon_set("agent"),
        Workload::replica_set("legacy").replicas(2),
        Workload::rollout("canary").replicas(2),
    ]
    .map(|workload| workload.never_ready_on(NEW));
    for workload in &workloads {
        shop.create(workload)?;
    }
    let healthy = Workload::deployment("healthy");
    for workload in workloads.iter().chain([&healthy]) {
        shop.run(workload)?;
    }
    let before: BTreeMap<&str, BTreeMap<String, String>> =
        ["cart", "late", "db", "queue"].into_iter().map(|app| Ok((app, pods(&shop, app)?))).collect::<Result<_>>()?;

    // Forward, each in the way of its kind, into a proxy that never gets ready.
    cluster.namespace("shop", Follows::Revision(NEW))?;
    let application = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}}});
    cluster.api().patch("/apis/apps/v1/namespaces/shop/deployments/changed", &application)?;
    let restarted = ["deployment/cart", "deployment/late", "deployment/alone", "deployment/held", "deployment/healthy"];
    cluster.kubectl(["-n", "shop", "rollout", "restart"].into_iter().chain(restarted))?;
    cluster.kubectl(["-n", "shop", "rollout", "restart", "statefulset/db", "statefulset/solo", "daemonset/agent"])?;
    for app in ["queue", "legacy"] {
        delete_pod(&cluster, "shop", app)?;
    }
    let rollout = "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/canary";
    let cart = shop.get(&Workload::deployment("cart"))?;
    let now = &cart["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
    cluster.api().patch(rollout, &json!({"spec": {"restartAt": now}}))?;
    let apps = ["cart", "late", "alone", "changed", "held", "db", "solo", "queue", "agent", "legacy", "canary", "healthy"];
    cluster.wait("every roll-out to have a new pod", Duration::from_secs(120), || {
        let stuck = apps.into_iter().map(|app| Ok(!of(&pods(&shop, app)?, NEW).is_empty())).collect::<Result<Vec<bool>>>()?;
        Ok(stuck.into_iter().all(|is_stuck| is_stuck).then_some(()))
    })?;
    cluster.api().patch("/apis/apps/v1/namespaces/shop/deployments/held", &json!({"spec": {"paused": true}}))?;
    shop.wait_until_rolled_out(&healthy)?;
    cluster.wait("the deadline to be exceeded", Duration::from_secs(30), || {
        let late = shop.get(&Workload::deployment("late"))?;
        let conditions = late["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.iter().any(|condition| condition["reason"] == "ProgressDeadlineExceeded").then_some(()))
    })?;
    // A budget that counts the broken pod among those that it needs.
    let labels = shop.get(&Workload::stateful_set("queue"))?["spec"]["selector"].clone();
    shop.apply(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "tight"},
        "spec": {"minAvailable": 1, "selector": labels},
    }))?;

    let words = ["mesh-upgrade", "rollback", "--to", OLD, "--yes", "--timeout", "60", "--max-parallel", "20"];
    // What it says that it needs is enough.
    let permissions = explained(&plugin("mesh-upgrade")?.on(&cluster), &words)?;
    let session = session_with("mesh-upgrade", &cluster, "going-back", &permissions)?.time_limit(Duration::from_secs(240));
    let output = session.run(words)?;
    let told = || output.transcript();
    ensure!(output.code == Some(5), "what is paused is left: {}", told());
    ensure!(output.stdout.contains("deployment.apps/cart -n shop: roll-out to 1-28-2 is stuck (pod "), "{}", told());
    ensure!(output.stdout.contains("s); replacing it\n"), "{}", told());
    for app in apps.into_iter().filter(|app| *app != "held") {
        let now = pods(&shop, app)?;
        ensure!(of(&now, OLD).len() == now.len() && !now.is_empty(), "{app}: {now:?}: {}", told());
    }
    // No new pod was needed, and the template says what it said before.
    for app in ["cart", "late"] {
        ensure!(pods(&shop, app)? == before[app], "{app}: {}", told());
        let object = shop.get(&Workload::deployment(app))?;
        let mark = &object["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
        ensure!(mark.is_null(), "{app}: {mark}");
    }
    // Of a StatefulSet, only the pod that was broken is a new one.
    for app in ["db", "queue"] {
        let (now, before) = (pods(&shop, app)?, &before[app]);
        let kept = now.keys().filter(|uid| before.contains_key(*uid)).count();
        ensure!(kept == 1, "{app}: {now:?} and {before:?}: {}", told());
    }
    // What somebody else has changed is not taken back, and said.
    let changed = shop.get(&Workload::deployment("changed"))?;
    ensure!(changed["spec"]["template"]["spec"]["containers"][0]["image"] == "app:2", "{changed}");
    let why = "deployment.apps/changed -n shop: roll-out to 1-28-2 is stuck (pod ";
    ensure!(
        output.stdout.contains(why) && output.stdout.contains("changes more of the template than a restart does"),
        "{}",
        told()
    );
    ensure!(output.stderr.contains("held -n shop"), "{}", told());
    ensure!(output.stderr.contains("rollout resume"), "{}", told());

    // Resumed, it goes back like the others, and everything is done.
    cluster.kubectl(["-n", "shop", "rollout", "resume", "deployment/held"])?;
    let again = session.run(words)?;
    ensure!(again.code == Some(0), "{}", again.transcript());
    Ok(())
}
