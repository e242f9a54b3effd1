//! `complete`: a revision goes when nothing uses it, whole, and nothing else goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use support::rbac::{asked, explained, session_with};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Output, Revision, Session, Workload, plugin};

use crate::dump::Dump;

const REMOVE: [&str; 5] = ["mesh-upgrade", "complete", "--remove", "1-26-0", "--yes"];

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    Ok(cluster)
}

fn session(cluster: &Cluster) -> Result<Session> {
    Ok(plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(180)))
}

fn succeeded(output: Output) -> Result<Output> {
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(output)
}

#[test]
fn what_belongs_to_the_revision_goes_and_nothing_else_as_with_istioctl() -> Result<()> {
    let ours = cluster()?;
    ours.namespace("shop", Follows::Revision("1-28-2"))?.run(&Workload::deployment("web"))?;
    let before = Dump::of(&ours)?;
    let recording = Interceptor::before(&ours, |_| Fate::Pass)?;
    let through = |recording| plugin("mesh-upgrade")?.through(recording);
    let shown = succeeded(through(&recording)?.run(["mesh-upgrade", "complete", "--remove", "1-26-0", "--dry-run"])?)?;
    assert_eq!(before.gone(&Dump::of(&ours)?), BTreeSet::new(), "a dry run deletes nothing");
    assert_eq!(read_more_often_than(1, &recording.requests()), BTreeMap::new());
    let recording = recording.beside(|_| Fate::Pass)?;
    let output = succeeded(through(&recording)?.run(REMOVE)?)?;
    let requests = recording.requests();
    let looks = requests.iter().take_while(|request| !request.starts_with("DELETE ")).cloned().collect::<Vec<_>>();
    assert_eq!(read_more_often_than(2, &looks), BTreeMap::new(), "once to show it, once more before the first deletion");
    assert!(output.stderr.contains("pods are still injected, and configuration is still validated"), "{}", output.transcript());
    let order: Vec<usize> =
        ["validatingwebhook", "mutatingwebhook", "deployments/", "services/", "configmaps/", "clusterroles.", "serviceaccounts/"]
            .iter()
            .filter_map(|what| shown.stdout.find(&format!("delete {what}")))
            .collect();
    assert!(order.len() == 7 && order.is_sorted(), "{}", shown.transcript());
    let after = Dump::of(&ours)?;
    let by_us = before.gone(&after);
    assert_eq!(before.differences(&after).len(), by_us.len(), "nothing is new or changed");
    assert_eq!(by_us.len(), shown.stdout.lines().count(), "what was shown has gone: {by_us:#?}");
    let again = session(&ours)?.run(REMOVE)?;
    assert_eq!(again.code, Some(1), "{}", again.transcript());

    let theirs = cluster()?;
    let before = Dump::of(&theirs)?;
    theirs.istioctl(IstioVersion::V1_26_0, ["uninstall", "--revision", "1-26-0", "-y"])?;
    theirs.wait("istioctl's deletions", Duration::from_secs(60), || {
        Ok(theirs.api().find("/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-26-0")?.is_none().then_some(()))
    })?;
    let by_istioctl = before.gone(&Dump::of(&theirs)?);
    assert_eq!(by_us, by_istioctl, "the same objects go");
    Ok(())
}

/// What was listed, or asked of discovery, more often than this.
fn read_more_often_than(number: usize, requests: &[String]) -> BTreeMap<&str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let is_list = |request: &&String| {
        let is_question = asked(request).is_none();
        !request.contains("continue=") && (is_question || asked(request).is_some_and(|(.., verb)| verb == "list"))
    };
    for request in requests.iter().filter(is_list) {
        *counts.entry(request).or_default() += 1;
    }
    assert!(counts.len() > 20, "{requests:#?}");
    counts.retain(|_, count| *count > number);
    counts
}

#[test]
fn what_helm_has_installed_goes_by_helm() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0).by_helm())?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    let session = session(&cluster)?;
    let output = session.run(REMOVE)?;
    if output.code == Some(4) {
        // The default validator is the base chart's: it has to move first.
        assert!(output.stderr.contains("istiod-default-validator"), "{}", output.transcript());
        succeeded(plugin("mesh-tag")?.on(&cluster).run([
            "mesh-tag",
            "set",
            "default",
            "--revision",
            "1-28-2",
            "--overwrite",
            "--yes",
        ])?)?;
    }
    let missing = session.run(REMOVE)?;
    assert_eq!(missing.code, Some(1), "{}", missing.transcript());
    assert!(missing.stderr.contains("helm is needed here and cannot be run"), "{}", missing.transcript());
    let output = succeeded(session.with_helm()?.run(REMOVE)?)?;
    assert!(output.stderr.contains("helm uninstall istiod-1-26-0 --namespace istio-system"), "{}", output.transcript());
    let releases =
        cluster.kubectl(["get", "secrets", "-n", "istio-system", "-l", "owner=helm,name=istiod-1-26-0", "-o", "name"])?;
    assert_eq!(releases, "");
    Ok(())
}

#[test]
fn the_unrevisioned_install_goes_once_the_default_tag_has_moved() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(IstioVersion::V1_26_0))?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    let shop = cluster.namespace("shop", Follows::Injection)?;
    shop.run(&Workload::deployment("web"))?;
    let session = session(&cluster)?;
    let words = ["mesh-upgrade", "complete", "--remove", "default", "--yes"];
    let refused = session.run(words)?;
    assert_eq!(refused.code, Some(4), "{}", refused.transcript());
    for user in ["deployment.apps/web -n shop 1 proxy runs", "tag default points to it", "istiod-default-validator"] {
        assert!(refused.stderr.contains(user), "{user}: {}", refused.transcript());
    }
    let tag = plugin("mesh-tag")?.on(&cluster);
    succeeded(tag.run(["mesh-tag", "set", "default", "--revision", "1-28-2", "--overwrite", "--yes"])?)?;
    succeeded(session.run(["mesh-upgrade", "restart", "-A", "--yes"])?)?;
    succeeded(session.run(words)?)?;
    let pod = shop.dry_run(&Workload::pod("later"))?;
    assert_eq!(pod["metadata"]["annotations"]["istio.io/rev"], "1-28-2");
    Ok(())
}

#[test]
fn spoilt_at_any_write_the_same_command_goes_on() -> Result<()> {
    let cluster = cluster()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-28-2"))?;
    shop.run(&Workload::deployment("web"))?;
    let session = session(&cluster)?;
    let old = Revision::of(IstioVersion::V1_26_0);
    let fates = [Fate::Status(500), Fate::Lose, Fate::Hang, Fate::Close];
    // Every second write, each with another fate: installing the revision anew takes its time.
    for number in (0..18).step_by(2) {
        let fate = fates[number / 2 % fates.len()];
        let whole = Dump::of(&cluster)?;
        let writes: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&writes);
        let interceptor = Interceptor::before(&cluster, move |call| {
            if call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number { fate } else { Fate::Pass }
        })?;
        let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?;
        let running = spoilt.start(REMOVE)?;
        if fate == Fate::Hang {
            cluster.wait("the call", Duration::from_secs(60), || Ok((interceptor.held() > 0).then_some(())))?;
            running.kill_now();
        } else {
            let output = running.finish()?;
            ensure!(writes.load(Ordering::SeqCst) > number, "{}", output.transcript());
        }
        let pod = shop.dry_run(&Workload::pod("meanwhile"))?;
        assert_eq!(pod["metadata"]["annotations"]["istio.io/rev"], "1-28-2", "write {number}");
        let again = session.run(REMOVE)?;
        // What was lost was the last answer only: then everything was gone already.
        ensure!(matches!(again.code, Some(0 | 1)), "write {number}: {}", again.transcript());
        let gone = whole.gone(&Dump::of(&cluster)?);
        assert_eq!(gone.len(), 18, "write {number}: {gone:#?}");
        cluster.stop_istiod(&old);
        cluster.install(&old)?;
    }
    Ok(())
}

#[test]
fn what_explain_rbac_prints_is_enough_and_one_list_less_is_a_refusal() -> Result<()> {
    let cluster = cluster()?;
    let admin = session(&cluster)?;
    let permissions = explained(&admin, &["mesh-upgrade", "complete", "--remove", "1-26-0"])?;
    let before = Dump::of(&cluster)?;
    for (number, missing) in permissions.iter().enumerate() {
        let (_, group, resource, verb) = missing;
        // Without pods there is no look at all; secrets are only good to know; these ReplicaSets and ConfigMaps are not asked for, nor
        // budgets where no pod would be evicted.
        if verb != "list"
            || matches!(resource.as_str(), "secrets" | "pods" | "configmaps" | "replicasets" | "poddisruptionbudgets")
        {
            continue;
        }
        // A group of which nothing is served has no lists that could be denied. What is, is found by discovery, and named with its group.
        if resource == "*" && cluster.api().find(&format!("/apis/{group}"))?.is_none() {
            continue;
        }
        let named = if resource == "*" { group } else { resource };
        let rest: Vec<_> = permissions.iter().filter(|one| *one != missing).cloned().collect();
        let account = format!("without-{number}");
        let output = session_with("mesh-upgrade", &cluster, &account, &rest)?.run(REMOVE)?;
        ensure!(matches!(output.code, Some(4)), "without {verb} {resource}: {}", output.transcript());
        ensure!(output.stderr.contains(named.as_str()), "{named} is not named: {}", output.transcript());
    }
    assert_eq!(before.gone(&Dump::of(&cluster)?).iter().filter(|line| line.contains("1-26-0")).count(), 0, "nothing was deleted");
    succeeded(session_with("mesh-upgrade", &cluster, "enough", &permissions)?.run(REMOVE)?)?;
    Ok(())
}

#[test]
fn proxies_are_cut_off_only_by_their_exact_number() -> Result<()> {
    let cluster = cluster()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web").replicas(3))?;
    let session = session(&cluster)?;
    let abandon = |number: &str| session.run(REMOVE.iter().chain(&["--abandon", number]).copied());
    let followed = abandon("3")?;
    assert_eq!(followed.code, Some(4), "what would come back is no proxy to abandon: {}", followed.transcript());
    cluster.namespace("shop", Follows::Revision("1-28-2"))?;
    let plain = session.run(REMOVE)?;
    assert!(plain.stderr.contains("--abandon 3"), "{}", plain.transcript());
    let wrong = abandon("2")?;
    assert_eq!(wrong.code, Some(4), "{}", wrong.transcript());
    let unasked = session.run(["mesh-upgrade", "complete", "--remove", "1-26-0", "--abandon", "3"])?;
    assert_eq!(unasked.code, Some(4), "no terminal and no --yes: {}", unasked.transcript());
    let output = succeeded(abandon("3")?)?;
    assert!(output.stderr.contains("3 proxies are cut off"), "{}", output.transcript());
    Ok(())
}

#[test]
fn the_only_revision_is_never_removed() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let output = session(&cluster)?.run(REMOVE)?;
    assert_eq!(output.code, Some(4), "{}", output.transcript());
    assert!(output.stderr.contains("is the only one"), "{}", output.transcript());
    let json = session(&cluster)?.run(["mesh-upgrade", "complete", "--remove", "1-26-0", "-o", "json", "--dry-run"])?;
    assert_eq!((json.code, json!(json.stdout)), (Some(4), json!("")), "{}", json.transcript());
    Ok(())
}
