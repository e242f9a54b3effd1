//! A whole upgrade, back and forth, on API servers that are busy, away for a moment, or lose an answer: every read and every write of
//! each command fails once, nothing is done twice, and everything comes to its end.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{
    Cluster, Fate, Follows, Interceptor, IstioVersion, Namespace, Options, Output, Revision, Workload, once_each, plugin,
};

use crate::start::{canary, start};

const OLD: &str = "1-26-0";
const NEW: &str = "1-28-2";

/// A cluster of which each request of a command fails so once.
fn through(cluster: &Cluster, fate: Fate, run: impl FnOnce(&support::Session) -> Result<Output>) -> Result<()> {
    let count: Arc<AtomicUsize> = Arc::default();
    // A server that has never answered is not waited for when it says nothing at all.
    let is_meant = move |call: &support::Call| fate != Fate::Silence || call.number >= 8;
    let interceptor = Interceptor::before(cluster, once_each(fate, Arc::clone(&count), is_meant))?;
    let session = plugin("mesh-upgrade")?.through(&interceptor)?.time_limit(Duration::from_secs(300));
    let output = run(&session)?;
    ensure!(output.code == Some(0), "{fate:?}: {}", output.transcript());
    ensure!(count.load(Ordering::SeqCst) > 3, "{fate:?}: hardly anything failed: {}", output.transcript());
    Ok(())
}

fn generation(namespace: &Namespace<'_>, workload: &Workload) -> Result<i64> {
    namespace.get(workload)?["metadata"]["generation"].as_i64().context("a generation")
}

/// The pods of a namespace by name and uid.
fn uids(namespace: &Namespace<'_>, revision: &str) -> Result<Vec<String>> {
    let is_of = |pod: &&Value| pod["metadata"]["annotations"]["istio.io/rev"] == revision;
    Ok(namespace.pods()?.iter().filter(is_of).map(|pod| pod["metadata"]["uid"].to_string()).collect())
}

#[test]
fn an_upgrade_comes_through_when_every_request_fails_once() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let web = Workload::deployment("web").replicas(2);
    let queue = Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    let shop = cluster.namespace("shop", Follows::Revision(OLD))?;
    shop.run(&web)?;
    shop.run(&queue)?;

    through(&cluster, Fate::Busy(429, "0"), |session| {
        let file = session.home().join("manifests.yaml");
        fs::write(&file, canary(&cluster)?)?;
        start(&cluster, session, &["-f", &file.to_string_lossy()])
    })?;

    let restart = ["mesh-upgrade", "restart", "-n", "shop", "--yes", "--request-timeout=2s"];
    let rollback = ["mesh-upgrade", "rollback", "--to", OLD, "--yes", "--request-timeout=2s"];
    for (restarts, backs) in
        [(Fate::Status(503), Fate::Lose), (Fate::Busy(503, "1"), Fate::Close), (Fate::Silence, Fate::Status(504))]
    {
        cluster.namespace("shop", Follows::Revision(NEW))?;
        let before = generation(&shop, &web)?;
        through(&cluster, restarts, |session| session.run(restart))?;
        ensure!(generation(&shop, &web)? == before + 1, "{restarts:?}: it was restarted once");
        ensure!(uids(&shop, NEW)?.len() == 4, "{restarts:?}");
        through(&cluster, backs, |session| session.run(rollback))?;
        ensure!(generation(&shop, &web)? == before + 2, "{backs:?}: it was restarted once more");
        ensure!(uids(&shop, OLD)?.len() == 4, "{backs:?}");
    }

    through(&cluster, Fate::Lose, |session| session.run(["mesh-upgrade", "complete", "--remove", NEW, "--yes"]))
}
