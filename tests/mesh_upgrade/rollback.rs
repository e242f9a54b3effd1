//! `rollback`: back to the revision before, from wherever the upgrade has come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Namespace, Options, Revision, Session, Workload, plugin};

/// The revisions of the proxies in a namespace, each once.
fn revisions(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let pods = namespace.pods()?;
    let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
    let mut revisions: Vec<String> = pods.iter().filter_map(revision).collect();
    revisions.sort();
    revisions.dedup();
    Ok(revisions)
}

fn succeed(session: &Session, words: &[&str]) -> Result<String> {
    let output = session.run(words)?;
    anyhow::ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(output.transcript())
}

#[test]
fn tags_labels_and_workloads_go_back() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    let upgrade = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240));
    let tag = plugin("mesh-tag")?.on(&cluster);
    succeed(&tag, &["mesh-tag", "set", "prod", "--revision", "1-26-0", "--yes"])?;
    let by_tag = cluster.namespace("by-tag", Follows::Revision("prod"))?;
    let by_name = cluster.namespace("by-name", Follows::Revision("1-26-0"))?;
    let by_template = cluster.namespace("by-template", Follows::Nothing)?;
    by_tag.run(&Workload::deployment("web").replicas(2))?;
    by_tag.run(&Workload::stateful_set("db"))?;
    by_name.run(&Workload::deployment("api"))?;
    by_template.run(&Workload::deployment("own").pod_labels(json!({"istio.io/rev": "1-28-2"})))?;
    // Half-way: the tag has moved, one of two workloads was restarted; a namespace was relabelled and restarted.
    succeed(&tag, &["mesh-tag", "set", "prod", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?;
    succeed(&tag, &["mesh-tag", "attach", "1-28-2", "by-name", "--overwrite"])?;
    succeed(&upgrade, &["mesh-upgrade", "restart", "deployment/web", "-n", "by-tag", "--yes"])?;
    succeed(&upgrade, &["mesh-upgrade", "restart", "-n", "by-name", "--yes"])?;
    assert_eq!(revisions(&by_tag)?, ["1-26-0", "1-28-2"]);

    let untouched = by_tag.get(&Workload::stateful_set("db"))?["metadata"]["generation"].clone();
    let shown = upgrade.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--dry-run"])?;
    assert_eq!(shown.code, Some(0), "{}", shown.transcript());
    assert!(shown.stderr.contains("tag prod: 1-28-2 -> 1-26-0"), "{}", shown.transcript());
    assert!(shown.stderr.contains("1 namespace labelled istio.io/rev=1-28-2 -> 1-26-0: by-name"), "{}", shown.transcript());
    assert!(shown.stderr.contains("2 workloads run proxies of 1-28-2"), "{}", shown.transcript());
    let refused = upgrade.run(["mesh-upgrade", "rollback", "--to", "1-26-0"])?;
    assert_eq!(refused.code, Some(4), "without a terminal a question is a refusal: {}", refused.transcript());
    assert_eq!(revisions(&by_name)?, ["1-28-2"], "until then nothing was changed");

    let output = upgrade.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
    assert_eq!(output.code, Some(5), "a template's own label is not ours: {}", output.transcript());
    assert!(output.stderr.contains("deployment.apps/own -n by-template: its template has the label"), "{}", output.transcript());
    assert_eq!(revisions(&by_tag)?, ["1-26-0"]);
    assert_eq!(revisions(&by_name)?, ["1-26-0"]);
    assert_eq!(
        by_tag.get(&Workload::stateful_set("db"))?["metadata"]["generation"],
        untouched,
        "what was never upgraded is left"
    );
    let list = tag.run(["mesh-tag", "list", "-o", "json"])?.json()?;
    let entry = list["items"].as_array().and_then(|items| items.iter().find(|item| item["name"] == "prod"));
    assert_eq!(entry.context("the tag is there")?["revision"], "1-26-0");
    // Undone as by hand: nothing is left to take back.
    cluster.api().delete("/apis/apps/v1/namespaces/by-template/deployments/own")?;
    cluster.wait("the pod to go", Duration::from_secs(60), || Ok(by_template.pods()?.is_empty().then_some(())))?;
    let again = succeed(&upgrade, &["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
    assert!(
        again.contains("Everything that followed revision 1-28-2 is back on 1-26-0.")
            && again.contains("complete --remove 1-28-2"),
        "{again}"
    );

    // What is not ready is nothing to go back to.
    let gone = upgrade.run(["mesh-upgrade", "rollback", "--to", "1-27-0", "--yes"])?;
    assert_eq!(gone.code, Some(1), "{}", gone.transcript());
    cluster.kubectl(["-n", "istio-system", "scale", "deployment", "istiod-1-26-0", "--replicas=0"])?;
    cluster.kubectl(["-n", "istio-system", "rollout", "status", "deployment/istiod-1-26-0", "--timeout=60s"])?;
    let dead = upgrade.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
    assert_eq!(dead.code, Some(4), "{}", dead.transcript());
    assert!(dead.stderr.contains("nothing can go back to revision 1-26-0"), "{}", dead.transcript());
    Ok(())
}

/// The revision of a workload's proxies, by the label `app` of its pods.
fn revisions_of(namespace: &Namespace<'_>, app: &str) -> Result<Vec<String>> {
    let pods = namespace.pods()?;
    let own = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app);
    let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
    Ok(own.filter_map(revision).collect())
}

#[test]
fn a_part_of_the_mesh_goes_back_and_takes_nobody_else_along() -> Result<()> {
    let cluster = Cluster::shared()?;
    let upgrade = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(120));
    let tag = plugin("mesh-tag")?.on(cluster);
    succeed(&tag, &["mesh-tag", "set", "part-stable", "--revision", "1-28-2", "--yes"])?;
    let (one, two) = (Follows::Revision("part-stable"), Follows::Revision("part-stable"));
    let (one, two) = (cluster.namespace("part-one", one)?, cluster.namespace("part-two", two)?);
    let named = cluster.namespace("part-named", Follows::Revision("1-28-2"))?;
    for namespace in [&one, &two, &named] {
        for name in ["web", "api"] {
            namespace.create(&Workload::deployment(name))?;
        }
    }
    for (namespace, name) in [(&one, "web"), (&one, "api"), (&two, "web"), (&two, "api"), (&named, "web"), (&named, "api")] {
        namespace.wait_until_rolled_out(&Workload::deployment(name))?;
    }
    let back = |more: &[&str]| upgrade.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"].iter().chain(more));

    let output = back(&["-n", "part-named"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert!(output.stderr.contains("What was selected in namespace part-named is back on 1-26-0."), "{}", output.transcript());
    assert_eq!((revisions(&named)?, revisions(&one)?), (vec!["1-26-0".to_owned()], vec!["1-28-2".to_owned()]));
    let label = cluster.api().get("/api/v1/namespaces/part-named")?["metadata"]["labels"]["istio.io/rev"].clone();
    assert_eq!(label, "1-26-0");

    // A tag that others follow too does not move for a part; the command that helps instead does.
    let refused = back(&["-n", "part-one"])?;
    assert_eq!(refused.code, Some(4), "{}", refused.transcript());
    let why = "tag part-stable cannot go back for namespace part-one alone: others follow it too";
    assert!(refused.stderr.contains(why) && refused.stderr.contains("namespaces/part-two"), "{}", refused.transcript());
    let advice = refused.stderr.lines().find_map(|line| line.strip_prefix("Next: kubectl ")).context("a next command")?;
    let attach = advice.split(';').next().context("a command")?.to_owned();
    assert!(attach.starts_with("mesh-tag attach ") && attach.ends_with(" part-one --overwrite"), "{attach}");
    succeed(&tag, &attach.split(' ').collect::<Vec<_>>())?;
    let output = back(&["-n", "part-one"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert_eq!((revisions(&one)?, revisions(&two)?), (vec!["1-26-0".to_owned()], vec!["1-28-2".to_owned()]));

    // Now nobody else follows it. Of two workloads the one that was named is restarted.
    let dry = back(&["-n", "part-two", "deployment/web", "--dry-run"])?;
    assert!(
        dry.stderr.contains("tag part-stable: 1-28-2 -> 1-26-0") && dry.stderr.contains("1 workload runs"),
        "{}",
        dry.transcript()
    );
    let output = back(&["-n", "part-two", "-l", "app=web"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert_eq!((revisions_of(&two, "web")?, revisions_of(&two, "api")?), (vec!["1-26-0".to_owned()], vec!["1-28-2".to_owned()]));

    // As in restart: what is not there is an error, and one file names its namespaces itself.
    for missing in [&["-n", "part-oen"][..], &["-n", "part-two", "deployment/nope"], &["-A", "-l", "app=nope"]] {
        let output = back(missing)?;
        assert_eq!(output.code, Some(1), "{}", output.transcript());
    }
    assert_eq!(back(&["-n", "part-two", "--remove"])?.code, Some(2));
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": "part-two"}});
    let piped = plugin("mesh-upgrade")?.on(cluster).stdin(reference.to_string());
    let output = piped.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes", "-f", "-"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert_eq!(revisions(&two)?, ["1-26-0"]);
    Ok(())
}

#[test]
fn the_unrevisioned_install_gets_its_namespaces_back() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(IstioVersion::V1_26_0))?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    let upgrade = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240));
    let tag = plugin("mesh-tag")?.on(&cluster);
    let shop = cluster.namespace("shop", Follows::Injection)?;
    let named = cluster.namespace("named", Follows::Revision("default"))?;
    for namespace in [&shop, &named] {
        namespace.run(&Workload::deployment("web"))?;
    }
    succeed(&tag, &["mesh-tag", "set", "default", "--revision", "1-28-2", "--from", "default", "--yes"])?;
    succeed(&upgrade, &["mesh-upgrade", "restart", "-A", "--yes"])?;
    assert_eq!((revisions(&shop)?, revisions(&named)?), (vec!["1-28-2".to_owned()], vec!["1-28-2".to_owned()]));
    succeed(&upgrade, &["mesh-upgrade", "rollback", "--to", "default", "--yes"])?;
    assert_eq!((revisions(&shop)?, revisions(&named)?), (vec!["default".to_owned()], vec!["default".to_owned()]));
    Ok(())
}

#[test]
fn spoilt_at_any_write_the_same_command_goes_on() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    let upgrade = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240));
    let tag = plugin("mesh-tag")?.on(&cluster);
    succeed(&tag, &["mesh-tag", "set", "prod", "--revision", "1-26-0", "--yes"])?;
    let by_tag = cluster.namespace("by-tag", Follows::Revision("prod"))?;
    let by_name = cluster.namespace("by-name", Follows::Revision("1-26-0"))?;
    let web = Workload::deployment("web");
    for namespace in [&by_tag, &by_name] {
        namespace.run(&web)?;
    }
    let fates = [Fate::Status(500), Fate::Lose, Fate::Status(409), Fate::Hang];
    for number in 0.. {
        succeed(&tag, &["mesh-tag", "set", "prod", "--revision", "1-28-2", "--overwrite", "--yes"])?;
        succeed(&tag, &["mesh-tag", "attach", "1-28-2", "by-name", "--overwrite"])?;
        succeed(&upgrade, &["mesh-upgrade", "restart", "-A", "--yes"])?;
        let generation =
            |namespace: &Namespace<'_>| -> Result<Option<i64>> { Ok(namespace.get(&web)?["metadata"]["generation"].as_i64()) };
        let before = (generation(&by_tag)?, generation(&by_name)?);
        let fate = fates[number % fates.len()];
        let writes: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&writes);
        // The n-th call that changes something is spoilt; the ones before and behind it are not.
        let interceptor = Interceptor::before(&cluster, move |call| {
            if call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number { fate } else { Fate::Pass }
        })?;
        let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?;
        let running = spoilt.start(["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
        let mut told = String::new();
        let was_reached = match fate {
            // The API server acts, and whoever asked is killed before it hears of that.
            Fate::Hang => {
                let reached = || Ok((interceptor.held() > 0).then_some(()));
                let reached = cluster.wait("the call", Duration::from_secs(60), reached).is_ok();
                running.kill_now();
                reached
            }
            _ => {
                told = running.finish()?.transcript();
                writes.load(Ordering::SeqCst) > number
            }
        };
        succeed(&upgrade, &["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
        assert_eq!(
            (revisions(&by_tag)?, revisions(&by_name)?),
            (vec!["1-26-0".to_owned()], vec!["1-26-0".to_owned()]),
            "call {number}"
        );
        let after = (generation(&by_tag)?, generation(&by_name)?);
        assert_eq!(after, (before.0.map(|one| one + 1), before.1.map(|one| one + 1)), "call {number}: each was restarted once");
        if !was_reached {
            assert!(number > 3, "a rollback makes more than {number} writes: {told}");
            return Ok(());
        }
    }
    Ok(())
}
