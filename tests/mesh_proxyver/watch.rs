//! `--watch`: the first look whole, then each change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, Workload, plugin, plugins};

#[test]
fn a_change_is_printed_when_it_happens() -> Result<()> {
    let cluster = Cluster::shared()?;
    let watched = cluster.namespace("watched", Follows::Revision("1-26-0"))?;
    watched.run(&Workload::deployment("web"))?;
    watched.run(&Workload::deployment("still").pod_labels(json!({"istio.io/rev": "1-26-0"})))?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    let mut table = session.start(["mesh-proxyver", "-n", "watched", "-w"])?;
    let mut documents = session.start(["mesh-proxyver", "-n", "watched", "-w", "-o", "json"])?;
    table.wait_for("deployment/web     sidecar   current")?;
    documents.wait_for("\n")?;
    cluster.api().patch("/api/v1/namespaces/watched", &json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}}))?;
    table.wait_for("deployment/web     sidecar   stale")?;
    cluster.kubectl(["-n", "watched", "rollout", "restart", "deployment", "web"])?;
    table.wait_for("1.28.2 (1-28-2)   1.28.2 (1-28-2)")?;
    table.interrupt()?;
    documents.interrupt()?;
    let (table, documents) = (table.finish()?, documents.finish()?);
    assert_eq!(table.stdout.matches("WORKLOAD").count(), 1, "one header\n{}", table.stdout);
    // One document a line, each another than the one before it.
    let lines: Vec<Value> =
        documents.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("lines of JSON")?;
    assert!(lines.len() >= 2, "{}", documents.stdout);
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{}", documents.stdout);
    Ok(())
}

#[test]
fn a_dead_connection_is_noticed_and_what_is_true_is_shown() -> Result<()> {
    let cluster = Cluster::shared()?;
    let lost = cluster.namespace("lost", Follows::Revision("1-26-0"))?;
    lost.run(&Workload::deployment("web"))?;
    // Watches begin well, and then nothing comes, until somebody mends the network.
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&is_mended);
    let interceptor = Interceptor::before(cluster, move |call| {
        if call.target.contains("watch=true") && !mended.load(Ordering::SeqCst) { Fate::FallSilent } else { Fate::Pass }
    })?;
    let session = plugins(&["mesh-proxyver", "mesh-upgrade"])?.through(&interceptor)?;
    let mut table = session.start(["mesh-proxyver", "-n", "lost", "-w", "--request-timeout=1s"])?;
    let mut status = session.start(["mesh-upgrade", "status", "-n", "lost", "-w", "--request-timeout=1s"])?;
    table.wait_for("sidecar   current")?;
    status.wait_for("lost")?;
    cluster.api().patch("/api/v1/namespaces/lost", &json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}}))?;
    // Nobody tells of it. A connection that is silent for too long is not trusted.
    table.wait_for("sidecar   stale")?;
    status.wait_for("kubectl mesh-upgrade restart")?;
    for running in [&table, &status] {
        ensure!(running.stderr().contains("nothing was heard for 31 s"), "{}", running.stderr());
        ensure!(running.stderr().contains("looking again"), "{}", running.stderr());
    }
    // From then on changes are seen at once again.
    is_mended.store(true, Ordering::SeqCst);
    cluster.api().patch("/api/v1/namespaces/lost", &json!({"metadata": {"labels": {"istio.io/rev": "1-26-0"}}}))?;
    table.interrupt()?;
    status.interrupt()?;
    table.finish()?;
    status.finish()?;
    Ok(())
}

#[test]
fn watching_goes_on_while_a_server_is_away() -> Result<()> {
    let cluster = Cluster::shared()?;
    let away = cluster.namespace("away", Follows::Revision("1-26-0"))?;
    away.run(&Workload::deployment("web"))?;
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let interceptor = Interceptor::before(cluster, move |call| {
        let is_watch = call.target.contains("watch=true");
        match (away.load(Ordering::SeqCst), is_watch) {
            (true, _) => Fate::Status(503),
            // Ends soon, so that the next one is asked for while the server is away.
            (false, true) => Fate::Close,
            (false, false) => Fate::Pass,
        }
    })?;
    let session = plugin("mesh-proxyver")?.through(&interceptor)?;
    let mut table = session.start(["mesh-proxyver", "-n", "away", "-w"])?;
    table.wait_for("sidecar   current")?;
    is_away.store(true, Ordering::SeqCst);
    cluster.api().patch("/api/v1/namespaces/away", &json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}}))?;
    cluster.wait("a word about the server", Duration::from_secs(60), || {
        Ok(table.stderr().contains("the server answered 503").then_some(()))
    })?;
    is_away.store(false, Ordering::SeqCst);
    table.wait_for("sidecar   stale")?;
    ensure!(table.stderr().contains("looking again"), "{}", table.stderr());
    table.interrupt()?;
    table.finish()?;
    Ok(())
}
