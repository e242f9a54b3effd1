//! Trouble on the way: each is told for what it is, and the rest goes on or stops as it should.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Call, Cluster, Fate, Follows, Interceptor, IstioVersion, Namespace, Options, Revision, Session, Workload, plugin};

use crate::start::{canary, start};

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    Ok(cluster)
}

/// A namespace in which these workloads are stale.
fn stale<'a>(cluster: &'a Cluster, name: &str, workloads: &[Workload]) -> Result<Namespace<'a>> {
    let namespace = cluster.namespace(name, Follows::Revision("1-26-0"))?;
    for workload in workloads {
        namespace.run(workload)?;
    }
    cluster.namespace(name, Follows::Revision("1-28-2"))
}

fn generation(namespace: &Namespace<'_>, workload: &Workload) -> Result<i64> {
    namespace.get(workload)?["metadata"]["generation"].as_i64().context("a generation")
}

/// An API server that does what a certain call asks for, and is away for a minute from then on.
struct Absence {
    interceptor: Interceptor,
    refused: Arc<AtomicUsize>,
}

impl Absence {
    fn from(cluster: &Cluster, call: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Result<Absence> {
        let refused: Arc<AtomicUsize> = Arc::default();
        let (counter, since) = (Arc::clone(&refused), OnceLock::new());
        let interceptor = Interceptor::before(cluster, move |asked| {
            if call(asked) && since.set(Instant::now()).is_ok() {
                return Fate::Lose;
            }
            if since.get().is_none_or(|moment| moment.elapsed() > Duration::from_secs(60)) {
                return Fate::Pass;
            }
            counter.fetch_add(1, Ordering::SeqCst);
            Fate::Close
        })?;
        Ok(Absence { interceptor, refused })
    }

    fn session(&self) -> Result<Session> {
        Ok(plugin("mesh-upgrade")?.through(&self.interceptor)?.time_limit(Duration::from_secs(240)))
    }

    fn was_noticed(&self) -> Result<()> {
        ensure!(self.refused.load(Ordering::SeqCst) > 2, "nobody asked while nobody was there");
        Ok(())
    }
}

#[test]
fn restart_waits_for_an_api_server_that_is_away_for_a_minute() -> Result<()> {
    let cluster = cluster()?;
    let web = Workload::deployment("web").replicas(2);
    let shop = stale(&cluster, "shop", std::slice::from_ref(&web))?;
    let before = generation(&shop, &web)?;
    let absence = Absence::from(&cluster, |call| call.method == "PATCH")?;
    let output = absence.session()?.run(["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    absence.was_noticed()?;
    ensure!(generation(&shop, &web)? == before + 1, "it was restarted once");
    Ok(())
}

#[test]
fn start_waits_for_an_api_server_that_is_away_for_a_minute() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let absence = Absence::from(&cluster, |call| call.is_write() && call.target.contains("mutatingwebhookconfigurations"))?;
    let session = absence.session()?;
    let file = session.home().join("manifests.yaml");
    fs::write(&file, canary(&cluster)?)?;
    let output = start(&cluster, &session, &["-f", &file.to_string_lossy()])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    absence.was_noticed()
}

#[test]
fn a_restart_that_somebody_begins_at_the_same_moment_is_waited_for() -> Result<()> {
    let cluster = cluster()?;
    let web = Workload::deployment("web").replicas(2);
    let shop = stale(&cluster, "shop", std::slice::from_ref(&web))?;
    let before = generation(&shop, &web)?;
    let (api, is_done) = (cluster.api().clone(), AtomicBool::new(false));
    let interceptor = Interceptor::before(&cluster, move |call| {
        if call.method == "PATCH" && !is_done.swap(true, Ordering::SeqCst) {
            let by_hand = json!({"spec": {"template": {"metadata": {"annotations": {"example.org/by": "hand"}}}}});
            api.patch("/apis/apps/v1/namespaces/shop/deployments/web", &by_hand).expect("it is there");
        }
        Fate::Pass
    })?;
    let output = plugin("mesh-upgrade")?.through(&interceptor)?.run(["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(generation(&shop, &web)? == before + 1, "the other restart was enough: {}", output.transcript());
    Ok(())
}

#[test]
fn a_namespace_that_goes_in_mid_wave_is_told_and_the_rest_goes_on() -> Result<()> {
    let cluster = cluster()?;
    let workloads = ["a", "b", "c"].map(Workload::deployment);
    stale(&cluster, "going", &workloads)?;
    stale(&cluster, "staying", &workloads[..1])?;
    let session = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240));
    let words = ["mesh-upgrade", "restart", "-A", "--yes", "--max-parallel", "1", "--percent", "100"];
    let mut running = session.start(words)?;
    running.wait_for("a -n going: restarting")?;
    cluster.kubectl(["delete", "namespace", "going", "--wait=false"])?;
    let output = running.finish()?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(
        output.stdout.contains("c -n going: skipped, 1.26.0 (1-26-0) -> 1.28.2 (1-28-2): it is not there any more"),
        "{}",
        output.transcript()
    );
    ensure!(output.stdout.contains("a -n staying: restarted"), "{}", output.transcript());
    Ok(())
}

#[test]
fn whoever_takes_a_restart_back_is_recognised() -> Result<()> {
    let cluster = cluster()?;
    let shop = stale(&cluster, "shop", &[Workload::deployment("web")])?;
    let is_done = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        // As a GitOps tool heals itself: what is not in its source goes.
        scope.spawn(|| {
            let annotation = json!({"kubectl.kubernetes.io/restartedAt": null});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
            while !is_done.load(Ordering::SeqCst) {
                let web = shop.get(&Workload::deployment("web")).unwrap_or_default();
                if !web["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_null() {
                    let _ = cluster.api().patch("/apis/apps/v1/namespaces/shop/deployments/web", &patch);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let output = plugin("mesh-upgrade")?.on(&cluster).run(["mesh-upgrade", "restart", "-n", "shop", "--yes"]);
        is_done.store(true, Ordering::SeqCst);
        output
    })?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stdout.contains("somebody took the restart back"), "{}", output.transcript());
    Ok(())
}

#[test]
fn a_budget_that_allows_nothing_is_named() -> Result<()> {
    let cluster = cluster()?;
    let queue = Workload::stateful_set("queue").spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    let web = Workload::deployment("web");
    let shop = stale(&cluster, "shop", &[queue.clone(), web.clone()])?;
    // A roll-out asks no budget: nothing is said of it.
    shop.apply(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "no-matter"},
        "spec": {"maxUnavailable": 0, "selector": shop.get(&web)?["spec"]["selector"]},
    }))?;
    let labels = shop.get(&queue)?["spec"]["selector"].clone();
    shop.apply(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "tight"},
        "spec": {"maxUnavailable": 0, "selector": labels},
    }))?;
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/tight";
    cluster.wait("the budget to be counted", Duration::from_secs(30), || {
        Ok((cluster.api().get(budget)?["status"]["expectedPods"] == 1).then_some(()))
    })?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    // Everybody who says that a restart brings the new proxy says what is in its way, with what helps: no replica does.
    let why = "error: statefulset.apps/queue -n shop: PodDisruptionBudget tight allows 0 disruptions, and its pods are evicted: its update strategy is OnDelete";
    let way_out = "set maxUnavailable of PodDisruptionBudget tight to 1 or more; more replicas do not help";
    for words in [
        &["restart", "-n", "shop", "--dry-run"][..],
        &["status"],
        &["complete", "--remove", "1-26-0", "--dry-run"],
        &["precheck", "--to", "1-28-2", "-v"],
    ] {
        let output = session.run(["mesh-upgrade"].iter().chain(words))?;
        let told = format!("{}{}", output.stdout, output.stderr);
        ensure!(words[0] == "precheck" || told.contains(why), "{}", output.transcript());
        ensure!(told.contains("allows 0 disruptions") && told.contains(way_out), "{}", output.transcript());
        ensure!(!told.contains("PodDisruptionBudget no-matter"), "{}", output.transcript());
    }
    let words = ["mesh-upgrade", "restart", "-n", "shop", "--yes", "--timeout", "8"];
    let output = session.run(words)?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stdout.contains("disruption budget"), "{}", output.transcript());
    ensure!(!output.stderr.contains("disruption budget"), "a failure is printed once: {}", output.transcript());
    cluster.api().delete(budget)?;
    let output = session.run(words)?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(())
}

#[test]
fn a_roll_out_that_fails_says_why() -> Result<()> {
    let cluster = cluster()?;
    let shop = stale(&cluster, "shop", &[Workload::deployment("web")])?;
    // The dry run fits, and so does nothing beside it: two new pods of this size never come.
    shop.apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "2"}},
    }))?;
    cluster.api().patch("/apis/apps/v1/namespaces/shop/deployments/web", &json!({"spec": {"replicas": 2}}))?;
    cluster.kubectl(["-n", "shop", "rollout", "status", "deployment/web", "--timeout=60s"])?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let output = session.run(["mesh-upgrade", "restart", "-n", "shop", "--yes", "--timeout", "6"])?;
    ensure!(matches!(output.code, Some(4 | 5)), "{}", output.transcript());
    ensure!(format!("{}{}", output.stdout, output.stderr).contains("exceeded quota"), "{}", output.transcript());
    Ok(())
}

#[test]
fn evictions_that_are_interrupted_go_on_and_evict_nothing_twice() -> Result<()> {
    let cluster = cluster()?;
    let queue = Workload::stateful_set("queue").replicas(3).spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    let legacy = Workload::replica_set("legacy").replicas(3);
    let fates = [Fate::Status(500), Fate::Lose, Fate::Hang, Fate::Status(409)];
    for (number, fate) in fates.into_iter().enumerate() {
        let name = format!("shop-{number}");
        let shop = stale(&cluster, &name, &[queue.clone(), legacy.clone()])?;
        let count: Arc<AtomicUsize> = Arc::default();
        let interceptor = Interceptor::before(&cluster, move |call| {
            if call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number + 1 { fate } else { Fate::Pass }
        })?;
        let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?.time_limit(Duration::from_secs(240));
        let words = ["mesh-upgrade", "restart", "-n", &name, "--yes", "--max-parallel", "1"];
        let running = spoilt.start(words)?;
        if fate == Fate::Hang {
            cluster.wait("the call", Duration::from_secs(60), || Ok((interceptor.held() > 0).then_some(())))?;
            running.kill_now();
        } else {
            running.finish()?;
        }
        let new = |pods: Vec<Value>| -> Vec<String> {
            let is_new = |pod: &&Value| pod["metadata"]["annotations"]["istio.io/rev"] == "1-28-2";
            let mut uids: Vec<String> = pods.iter().filter(is_new).map(|pod| pod["metadata"]["uid"].to_string()).collect();
            uids.sort();
            uids
        };
        let between = new(shop.pods()?);
        let again = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240)).run(words)?;
        ensure!(again.code == Some(0), "{fate:?}: {}", again.transcript());
        let after = new(shop.pods()?);
        ensure!(after.len() == 6, "{fate:?}: {after:?}");
        ensure!(between.iter().all(|uid| after.contains(uid)), "{fate:?}: a pod that was right was evicted");
    }
    Ok(())
}

#[test]
fn a_narrow_terminal_is_no_trouble() -> Result<()> {
    let cluster = cluster()?;
    stale(&cluster, "a-namespace-with-a-rather-long-name", &[Workload::deployment("a-workload-with-a-rather-long-name")])?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    for line in ["kubectl mesh-upgrade status", "kubectl mesh-upgrade restart -A --dry-run", "kubectl mesh-upgrade targets"] {
        let output = session.terminal(&format!("stty cols 40; {line}"))?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        ensure!(!output.stdout.trim().is_empty(), "{}", output.transcript());
    }
    // How far a wave is stands below the events, and no column further.
    let restart = session.terminal("stty cols 40; kubectl mesh-upgrade restart -A --yes")?;
    ensure!(restart.code == Some(0), "{}", restart.transcript());
    let live: Vec<&str> = restart.stdout.split("\r\x1b[K").filter(|text| text.starts_with("wave 1: 0 of 1 done")).collect();
    ensure!(!live.is_empty() && live.iter().all(|line| line.chars().count() < 40), "{:?}", restart.stdout);
    let status = session.terminal("stty cols 40; kubectl mesh-upgrade status")?;
    let bars: Vec<&str> =
        status.stdout.lines().filter(|line| line.contains('█') || line.contains('░') || line.contains('#')).collect();
    ensure!(!bars.is_empty() && bars.iter().all(|line| line.chars().count() <= 40), "{}", status.transcript());
    Ok(())
}
