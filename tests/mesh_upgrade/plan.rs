//! `plan`, and `restart --plan`: exactly what was reviewed, or nothing.

use anyhow::Result;
use serde_json::json;
use support::{Cluster, Follows, IstioVersion, Options, Revision, Workload, plugin};

#[test]
fn what_was_reviewed_is_restarted_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    for (name, ring) in [("one", "10"), ("two", "9")] {
        let namespace = cluster.namespace(name, Follows::Revision("1-26-0"))?;
        for workload in ["web", "api"] {
            namespace.run(&Workload::deployment(workload))?;
        }
        cluster.namespace(name, Follows::Revision("1-28-2"))?;
        cluster.kubectl(["label", "namespace", name, &format!("ring={ring}")])?;
    }
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let plan = session.run(["mesh-upgrade", "plan", "-A", "--by-label", "ring"])?;
    assert_eq!(plan.code, Some(0), "{}", plan.transcript());
    assert!(plan.stderr.starts_with("4 workloads in 2 waves.\n"), "{}", plan.transcript());
    assert_eq!(
        plan.stdout,
        session.run(["mesh-upgrade", "plan", "-A", "--by-label", "ring"])?.stdout,
        "it is the same each time"
    );
    let waves: Vec<&str> = plan.stdout.lines().filter(|line| line.contains("ring=")).map(str::trim).collect();
    assert!(waves[0].contains("ring=9") && waves[1].contains("ring=10"), "{waves:?}");
    let restart = |text: &str, more: &[&str]| {
        let words = ["mesh-upgrade", "restart", "--plan", "-", "--yes"];
        plugin("mesh-upgrade")?.on(&cluster).stdin(text).run(words.iter().chain(more).copied())
    };

    // Of another cluster, or not a plan: nothing happens.
    let uid = cluster.api().get("/api/v1/namespaces/kube-system")?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let foreign = restart(&plan.stdout.replace(&uid, "another"), &[])?;
    assert_eq!(foreign.code, Some(4), "{}", foreign.transcript());
    assert!(foreign.stderr.contains("made for another cluster"), "{}", foreign.transcript());
    let broken = restart(&plan.stdout.replace("cluster:", "force: true\ncluster:"), &[])?;
    assert_eq!(broken.code, Some(1), "{}", broken.transcript());
    assert!(broken.stderr.contains("unknown field"), "{}", broken.transcript());
    // An edit that asks for what the cluster would not bring is drift like any other.
    let edited = restart(&plan.stdout.replace("revision: 1-28-2", "revision: 1-27-0"), &[])?;
    assert_eq!(edited.code, Some(4), "{}", edited.transcript());
    assert!(edited.stderr.contains("would get revision 1-28-2"), "{}", edited.transcript());
    assert!(edited.stderr.contains("not revision 1-27-0"), "{}", edited.transcript());

    // One wave, and then the rest; what was made stale since is left alone.
    let first = restart(&plan.stdout, &["--wave", "1"])?;
    assert_eq!(first.code, Some(0), "{}", first.transcript());
    assert!(
        first.stdout.contains("web -n two: restarted") && !first.stdout.contains("-n one: restarted"),
        "{}",
        first.transcript()
    );
    let late = cluster.namespace("late", Follows::Revision("1-26-0"))?;
    late.run(&Workload::deployment("new"))?;
    cluster.namespace("late", Follows::Revision("1-28-2"))?;
    let rest = restart(&plan.stdout, &[])?;
    assert_eq!(rest.code, Some(0), "{}", rest.transcript());
    assert!(rest.stdout.contains("wave 2 of 2: ring=10 (2 workloads)"), "{}", rest.transcript());
    assert!(rest.stderr.contains("1 stale workload is in none of its waves"), "{}", rest.transcript());
    let done = restart(&plan.stdout, &[])?;
    assert!(done.stderr.contains("Nothing to restart: everything in the plan"), "{}", done.transcript());

    // What has gone since is drift.
    cluster.api().delete("/apis/apps/v1/namespaces/one/deployments/web")?;
    let gone = restart(&plan.stdout, &[])?;
    assert_eq!(gone.code, Some(4), "{}", gone.transcript());
    assert!(gone.stderr.contains("deployment.apps/web -n one is not there any more"), "{}", gone.transcript());
    // Another way of a restart, too.
    let spec = json!({"spec": {"paused": true}});
    cluster.api().patch("/apis/apps/v1/namespaces/late/deployments/new", &spec)?;
    let paused = session.run(["mesh-upgrade", "plan", "-n", "late"])?;
    assert!(paused.stderr.contains("not restarted: deployment.apps/new -n late is blocked"), "{}", paused.transcript());
    Ok(())
}
