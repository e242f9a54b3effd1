//! A full quota: what a restart brings cannot be proved where no dry-run pod fits in, which is no reason to stop the others.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use support::{Cluster, Follows, Workload, plugin};

#[test]
fn a_full_quota_is_named_and_stops_only_who_needs_room_for_one_more_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace("quota", Follows::Revision("1-26-0"))?;
    let none_more = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}});
    for workload in [
        Workload::deployment("full"),
        Workload::deployment("swap").spec(none_more),
        Workload::stateful_set("db"),
        Workload::daemon_set("agent"),
    ] {
        namespace.run(&workload)?;
    }
    let pods = namespace.pods()?.len().to_string();
    namespace.apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": pods}},
    }))?;
    cluster.wait("the quota to be counted", Duration::from_secs(30), || {
        let quota = cluster.api().get("/api/v1/namespaces/quota/resourcequotas/tight")?;
        Ok((quota["status"]["used"]["pods"] == pods.as_str()).then_some(()))
    })?;
    cluster.namespace("quota", Follows::Revision("1-28-2"))?;
    let session = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(120));
    let output = session.run(["mesh-upgrade", "restart", "-n", "quota", "--yes"])?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    let named = format!(
        "deployment.apps/full -n quota: it could not be proved what a restart brings: quota quota/tight is full (pods {pods} of {pods})"
    );
    ensure!(output.stderr.contains(&named), "{}", output.transcript());
    ensure!(output.stderr.contains("0 failed, 1 not proved, 3 restarted, 0 left untouched"), "{}", output.transcript());
    ensure!(output.stderr.contains("--skip-unproved"), "what comes next helps: {}", output.transcript());
    for name in ["deployment.apps/swap", "statefulset.apps/db", "daemonset.apps/agent"] {
        ensure!(output.stdout.contains(&format!("{name} -n quota: restarted")), "{}", output.transcript());
    }
    let again = session.run(["mesh-upgrade", "restart", "-n", "quota", "--yes"])?;
    ensure!(again.code == Some(4), "now nothing was changed: {}", again.transcript());
    let skipped = session.run(["mesh-upgrade", "restart", "-n", "quota", "--yes", "--skip-unproved"])?;
    ensure!(skipped.code == Some(0), "{}", skipped.transcript());
    ensure!(skipped.stderr.contains("left alone: deployment.apps/full -n quota"), "{}", skipped.transcript());
    Ok(())
}
