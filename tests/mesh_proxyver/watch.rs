//! `--watch`: the first look whole, then each change.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, Workload, plugin};

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
