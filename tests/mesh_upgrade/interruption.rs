//! Ctrl-C while pods roll out: the first starts nothing new, the second waits for nothing any more, and both say so.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use support::hold::{Hold, SIGNALS};
use support::{Cluster, Fate, Follows, Interceptor, Namespace, Running, Workload, plugin};

/// How soon a command has to say something, and to end.
const A_MOMENT: Duration = Duration::from_secs(3);

/// A namespace in which these workloads are stale.
fn stale<'a>(cluster: &'a Cluster, name: &str, workloads: &[Workload]) -> Result<Namespace<'a>> {
    let namespace = cluster.namespace(name, Follows::Revision("1-26-0"))?;
    for workload in workloads {
        namespace.run(workload)?;
    }
    cluster.namespace(name, Follows::Revision("1-28-2"))
}

/// Waits until stderr holds this text.
fn said(running: &mut Running, text: &str) -> Result<()> {
    let begun = Instant::now();
    while !running.stderr().contains(text) {
        ensure!(begun.elapsed() < A_MOMENT && !running.has_ended()?, "{text:?} is not said: {}", running.stderr());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn the_first_signal_starts_nothing_new_and_the_second_waits_for_nothing() -> Result<()> {
    let cluster = Cluster::shared()?;
    for (number, signal) in SIGNALS.into_iter().enumerate() {
        let name = format!("interrupted-{number}");
        let stuck = |name: &str| Workload::deployment(name).replicas(2).never_ready_on("1-28-2");
        let quick = Workload::deployment("a");
        stale(cluster, &name, &[quick, stuck("b"), stuck("c"), stuck("d"), stuck("e"), stuck("f")])?;
        let session = plugin("mesh-upgrade")?.on(cluster);
        let mut running = session.start(["mesh-upgrade", "restart", "-n", &name, "--yes", "--max-parallel", "3"])?;
        running.wait_for(&format!("deployment.apps/d -n {name}: restarting"))?;
        running.signal(signal)?;
        said(&mut running, "Interrupted: nothing new is started; waiting for 3 roll-outs (Ctrl-C again stops waiting)")?;
        ensure!(!running.has_ended()?, "it waits: {}", running.stderr());
        let begun = Instant::now();
        running.signal(signal)?;
        let output = running.finish()?;
        ensure!(begun.elapsed() < A_MOMENT && output.code == Some(130), "{:?}: {}", begun.elapsed(), output.transcript());
        let told = || output.transcript();
        ensure!(output.stderr.contains("interrupted: 1 done, 3 half done, 2 not started"), "{}", told());
        for stuck in ["b", "c", "d"] {
            let half = format!("deployment.apps/{stuck} -n {name}: 0 of 2 pods replaced; its roll-out goes on by itself");
            ensure!(output.stderr.contains(&half), "{}", told());
        }
        ensure!(output.stderr.contains("Next: the same command continues"), "{}", told());
        ensure!(
            !output.stdout.contains(&format!("deployment.apps/e -n {name}: restarting")),
            "nothing new is started: {}",
            told()
        );
        cluster.namespace_named(&name).remove()?;
    }
    Ok(())
}

#[test]
fn between_two_pods_it_stops_and_counts_them() -> Result<()> {
    let cluster = Cluster::shared()?;
    let queue = Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    stale(cluster, "halved", &[queue])?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let hold = Hold::default();
    let interceptor = front.beside(hold.at_write(0))?;
    let session = plugin("mesh-upgrade")?.through(&interceptor)?;

    let words = ["mesh-upgrade", "restart", "-n", "halved", "--yes"];
    let mut running = session.start(words)?;
    ensure!(hold.has_come(&mut running)?, "it writes: {}", running.stderr());
    running.signal(libc::SIGINT)?;
    said(&mut running, "Interrupted: nothing new is started; waiting for")?;
    hold.let_go();
    let output = running.finish()?;
    ensure!(output.code == Some(130), "{}", output.transcript());
    let told = &output.stderr;
    ensure!(told.contains("waiting for 1 roll-out (Ctrl-C again stops waiting)"), "{}", output.transcript());
    ensure!(told.contains("interrupted: 0 done, 1 half done, 0 not started"), "{}", output.transcript());
    let half = "statefulset.apps/queue -n halved: 1 of 2 pods replaced; the others are as they were";
    ensure!(told.contains(half), "{}", output.transcript());
    let again = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(120)).run(words)?;
    ensure!(again.code == Some(0), "the same command continues: {}", again.transcript());
    Ok(())
}
