//! `start`, spoilt: at any write the same command goes on, and the old revision is as it was; and by Istio's own program.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use support::rbac::{explained, session_with};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Revision, Session, Workload, plugin};

use crate::start::{canary, old_objects, start, unchanged};

const WORDS: [&str; 5] = ["mesh-upgrade", "start", "--revision", "1-28-2", "--yes"];

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    cluster.namespace("shop", Follows::Revision("1-26-0"))?.run(&Workload::deployment("web"))?;
    Ok(cluster)
}

fn with_manifests(session: &Session, cluster: &Cluster) -> Result<String> {
    let file = session.home().join("manifests.yaml");
    fs::write(&file, canary(cluster)?)?;
    Ok(file.to_string_lossy().into_owned())
}

#[test]
fn spoilt_at_any_write_the_same_command_goes_on() -> Result<()> {
    let cluster = cluster()?;
    let new = Revision::of(IstioVersion::V1_28_2);
    let fates = [Fate::Status(409), Fate::Lose, Fate::Hang, Fate::Status(403)];
    let mut number = 0;
    for (round, fate) in fates.into_iter().cycle().enumerate() {
        let before = old_objects(&cluster)?;
        let writes: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&writes);
        let interceptor = Interceptor::before(&cluster, move |call| {
            if call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number { fate } else { Fate::Pass }
        })?;
        let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?;
        let file = with_manifests(&spoilt, &cluster)?;
        // Nothing runs in pods here, and the istiod of the new revision is not started yet: what is not spoilt waits for it.
        let running = spoilt.start(WORDS.iter().chain(&["-f", &file, "--timeout", "8"]))?;
        if fate == Fate::Hang {
            let held = || Ok((interceptor.held() > 0).then_some(()));
            if cluster.wait("the call", Duration::from_secs(40), held).is_err() {
                break;
            }
            running.kill_now();
        } else {
            let output = running.finish()?;
            ensure!(output.code != Some(0), "no istiod was there: {}", output.transcript());
            if writes.load(Ordering::SeqCst) <= number {
                break;
            }
        }
        unchanged(&before, &old_objects(&cluster)?)?;
        let session = plugin("mesh-upgrade")?.on(&cluster);
        let file = with_manifests(&session, &cluster)?;
        let done = start(&cluster, &session, &["-f", &file])?;
        ensure!(done.code == Some(0), "write {number}: {}", done.transcript());
        unchanged(&before, &old_objects(&cluster)?)?;
        // Back to where it began, by the command that the failure names.
        let removed = session.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--remove", "--yes"])?;
        ensure!(removed.code == Some(0), "write {number}: {}", removed.transcript());
        cluster.stop_istiod(&new);
        number += if round < 4 { 1 } else { 5 };
    }
    ensure!(number > 4, "a start makes more than {number} writes");
    Ok(())
}

#[test]
fn what_somebody_makes_of_it_meanwhile_is_told() -> Result<()> {
    let cluster = cluster()?;
    let (api, is_done) = (cluster.api().clone(), AtomicBool::new(false));
    let interceptor = Interceptor::before(&cluster, move |call| {
        let is_last = call.is_write() && call.target.contains("mutatingwebhookconfigurations");
        if is_last && !is_done.swap(true, Ordering::SeqCst) {
            let edited = json!({"data": {"mesh": "accessLogFile: /dev/stdout\n"}});
            api.patch("/api/v1/namespaces/istio-system/configmaps/istio-1-28-2", &edited).expect("it was written first");
        }
        Fate::Pass
    })?;
    let session = plugin("mesh-upgrade")?.through(&interceptor)?;
    let file = with_manifests(&session, &cluster)?;
    let output = start(&cluster, &session, &["-f", &file])?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stderr.contains("configmaps/istio-1-28-2 -n istio-system"), "{}", output.transcript());
    ensure!(output.stderr.contains("rollback --to 1-26-0"), "{}", output.transcript());
    Ok(())
}

#[test]
fn what_explain_rbac_prints_is_enough() -> Result<()> {
    let cluster = cluster()?;
    let admin = plugin("mesh-upgrade")?.on(&cluster);
    let file = with_manifests(&admin, &cluster)?;
    let permissions = explained(&admin, &["mesh-upgrade", "start", "--revision", "1-28-2", "-f", &file])?;
    let session = session_with("mesh-upgrade", &cluster, "starts", &permissions)?;
    let done = start(&cluster, &session, &["-f", &file])?;
    ensure!(done.code == Some(0), "{}", done.transcript());
    Ok(())
}

#[test]
fn istioctl_may_install_it_and_the_same_is_proved() -> Result<()> {
    let cluster = cluster()?;
    let before = old_objects(&cluster)?;
    let install = [
        "--accept-default-tag",
        "--with",
        "istioctl",
        "--",
        "install",
        "-y",
        "--set",
        "revision=1-28-2",
        "--set",
        "profile=minimal",
    ];
    let missing = plugin("mesh-upgrade")?.on(&cluster).run(WORDS.iter().chain(&install))?;
    ensure!(missing.code == Some(1), "{}", missing.transcript());
    ensure!(missing.stderr.contains("istioctl is needed here and cannot be run"), "{}", missing.transcript());
    let older = plugin("mesh-upgrade")?.on(&cluster).with_istioctl(IstioVersion::V1_26_0)?.run(WORDS.iter().chain(&install))?;
    ensure!(older.code == Some(4), "{}", older.transcript());
    ensure!(older.stderr.contains("its name says 1.28.2, and its istiod is 1.26.0"), "{}", older.transcript());
    unchanged(&before, &old_objects(&cluster)?)?;
    let session = plugin("mesh-upgrade")?.on(&cluster).with_istioctl(IstioVersion::V1_28_2)?;
    let done = start(&cluster, &session, &install)?;
    ensure!(done.code == Some(0), "{}", done.transcript());
    ensure!(done.stdout.contains("got its proxy from revision 1-28-2"), "{}", done.transcript());
    let wrong =
        session.run(["mesh-upgrade", "start", "--revision", "1-28-2", "--with", "istioctl", "--", "uninstall", "--purge"])?;
    ensure!(wrong.code == Some(2), "{}", wrong.transcript());
    Ok(())
}
