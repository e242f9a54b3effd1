//! What `complete` deletes, and what it says when something of it goes wrong: only what belongs to the control plane that is meant,
//! and nothing is called done that is not.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::json;
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Revision, Session, Workload, plugin};

use crate::dump::Dump;

const REMOVE: [&str; 5] = ["mesh-upgrade", "complete", "--remove", "1-26-0", "--yes"];

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    cluster.namespace("shop", Follows::Revision("1-28-2"))?.run(&Workload::deployment("web"))?;
    Ok(cluster)
}

fn session(cluster: &Cluster) -> Result<Session> {
    Ok(plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(180)))
}

#[test]
fn a_control_plane_of_the_same_name_elsewhere_loses_nothing() -> Result<()> {
    let cluster = cluster()?;
    // The newest of its kind: both have a revision called 1-26-0.
    cluster.install(&Revision::of(IstioVersion::V1_26_0).namespace("mesh-b").by_helm())?;
    let before = Dump::of(&cluster)?;
    let session = session(&cluster)?;
    let unclear = session.run(REMOVE)?;
    ensure!(unclear.code == Some(4) && unclear.stderr.contains("several namespaces"), "{}", unclear.transcript());
    let output = session.run(REMOVE.iter().chain(&["-i", "istio-system"]).copied())?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    let gone = before.gone(&Dump::of(&cluster)?);
    ensure!(gone.iter().any(|line| line.starts_with("MutatingWebhookConfiguration")), "{gone:#?}");
    ensure!(gone.iter().all(|line| !line.contains("mesh-b")), "{gone:#?}");
    Ok(())
}

#[test]
fn what_is_still_there_or_answers_no_longer_is_told_with_5() -> Result<()> {
    let cluster = cluster()?;
    let service = "/api/v1/namespaces/istio-system/services/istiod-1-26-0";
    cluster.api().patch(service, &json!({"metadata": {"finalizers": ["example.org/hold"]}}))?;
    let held = session(&cluster)?.run(REMOVE)?;
    ensure!(held.code == Some(5), "{}", held.transcript());
    ensure!(held.stderr.contains("services/istiod-1-26-0 -n istio-system is being deleted"), "{}", held.transcript());
    ensure!(held.stderr.contains("example.org/hold"), "{}", held.transcript());
    cluster.api().patch(service, &json!({"metadata": {"finalizers": null}}))?;

    // The other control plane fails while the first object goes.
    let old = Revision::of(IstioVersion::V1_26_0);
    cluster.stop_istiod(&old);
    cluster.install(&old)?;
    let (deleting, begun) = mpsc::channel();
    let (stopped, stop) = mpsc::channel::<()>();
    let (deleting, stop) = (Mutex::new(Some(deleting)), Arc::new(Mutex::new(stop)));
    let interceptor = Interceptor::before(&cluster, move |call| {
        if call.method == "DELETE"
            && let Some(deleting) = deleting.lock().expect("no holder panics").take()
        {
            let _ = deleting.send(());
            let _ = stop.lock().expect("no holder panics").recv_timeout(Duration::from_secs(30));
        }
        Fate::Pass
    })?;
    let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?.time_limit(Duration::from_secs(180));
    let mut running = spoilt.start(REMOVE)?;
    while begun.recv_timeout(Duration::from_millis(100)).is_err() {
        if running.has_ended()? {
            let output = running.finish()?;
            bail!("it deleted nothing: {}", output.transcript());
        }
    }
    let new = Revision::of(IstioVersion::V1_28_2);
    cluster.stop_istiod(&new);
    let _ = stopped.send(());
    let output = running.finish()?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stderr.contains("mutatingwebhookconfigurations/istio-sidecar-injector-1-28-2"), "{}", output.transcript());
    Ok(())
}

/// What an istiod that nobody is connected to says on its monitoring port.
const NOBODY: &str = "# TYPE istio_build gauge\nistio_build{component=\"pilot\",tag=\"1.26.0\"} 1\n";
const SOMEBODY: &str = "istio_build{component=\"pilot\",tag=\"1.26.0\"} 1\npilot_xds{version=\"1.26.0\"} 2\n";
const A_MACHINE: &str = r#"{"totalClients":1,"clients":[{"connectionId":"vm-1.machines-7"}]}"#;

#[test]
fn what_its_istiods_say_decides_about_clients_that_nobody_sees() -> Result<()> {
    let cluster = cluster()?;
    let group = json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup",
        "metadata": {"name": "machines", "namespace": "shop"}, "spec": {"template": {"serviceAccount": "vm"}}});
    cluster.apply(&group)?;
    let first = Interceptor::before(&cluster, |_| Fate::Pass)?;
    let said = |list: Fate, metrics: Fate| -> Result<support::Output> {
        let interceptor = first.beside(move |call| match () {
            () if call.target.ends_with(":15014/proxy/debug/connections") => list,
            () if call.target.ends_with(":15014/proxy/metrics") => metrics,
            () => Fate::Pass,
        })?;
        let words = ["mesh-upgrade", "complete", "--remove", "1-26-0", "--dry-run"];
        plugin("mesh-upgrade")?.through(&interceptor)?.run(words)
    };
    let unauthorized = Fate::Status(401);
    for (list, metrics, named) in [
        (unauthorized, Fate::Answer(SOMEBODY), "2 clients are connected"),
        (Fate::Answer(A_MACHINE), Fate::Answer(NOBODY), "vm-1.machines is connected to istiod-1-26-0"),
        (unauthorized, Fate::Answer("go_goroutines 7\n"), "its metrics are not those of an istiod"),
        (unauthorized, Fate::Status(403), "unknown: istiod-1-26-0"),
        (Fate::Answer("{}"), Fate::Status(503), "unknown: istiod-1-26-0"),
    ] {
        let output = said(list, metrics)?;
        ensure!(output.code == Some(4), "{named}: {}", output.transcript());
        ensure!(output.stderr.contains(named), "{named}: {}", output.transcript());
        ensure!(output.stderr.contains("workloadgroups/machines -n shop"), "{}", output.transcript());
    }
    let output = said(unauthorized, Fate::Answer(NOBODY))?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(output.stderr.contains("nobody is connected"), "{}", output.transcript());
    Ok(())
}
