//! `restart`: what is stale, and nothing else, in waves, each result proved.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Namespace, Options, Revision, Workload, plugin};

/// A cluster with both revisions.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    Ok(cluster)
}

/// Lets a namespace follow another revision, so that everything in it is stale.
fn follow(cluster: &Cluster, namespace: &str, revision: &str) -> Result<()> {
    cluster.namespace(namespace, Follows::Revision(revision)).map(|_| ())
}

/// The revisions of the proxies in a namespace, each once.
fn revisions(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let pods = namespace.pods()?;
    let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
    let mut revisions: Vec<String> = pods.iter().filter_map(revision).collect();
    revisions.sort();
    revisions.dedup();
    Ok(revisions)
}

#[test]
fn every_kind_is_restarted_and_nothing_that_is_current() -> Result<()> {
    let cluster = cluster()?;
    cluster.install_argo_rollouts()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    for workload in [
        Workload::deployment("web").replicas(3),
        Workload::stateful_set("db").replicas(2),
        Workload::stateful_set("queue").replicas(2).spec(on_delete.clone()),
        Workload::stateful_set("canary").replicas(2).spec(json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}})),
        Workload::daemon_set("agent"),
        Workload::daemon_set("slow").spec(on_delete),
        Workload::replica_set("legacy").replicas(2),
        Workload::rollout("cart").replicas(2),
        Workload::job("once"),
    ] {
        shop.run(&workload)?;
    }
    let steady = cluster.namespace("steady", Follows::Revision("1-28-2"))?;
    steady.run(&Workload::deployment("calm"))?;
    follow(&cluster, "shop", "1-28-2")?;
    let before = steady.get(&Workload::deployment("calm"))?;
    let session = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(300));
    let output = session.run(["mesh-upgrade", "restart", "-A", "--yes", "-o", "json"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    let events = output.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let mut restarted: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "Ended" && event["outcome"] == "restarted")
        .filter_map(|event| event["workload"]["name"].as_str())
        .collect();
    restarted.sort_unstable();
    assert_eq!(restarted, ["agent", "canary", "cart", "db", "legacy", "queue", "slow", "web"], "{}", output.transcript());
    assert!(output.stderr.contains("not restarted: job.batch/once -n shop"), "{}", output.transcript());
    let after = steady.get(&Workload::deployment("calm"))?;
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"], "what is current is left alone");
    // All but the Job's pod run the new revision.
    let stale = plugin("mesh-proxyver")?.on(&cluster).run(["mesh-proxyver", "-A", "-o", "json"])?.json()?;
    let items = stale["items"].as_array().context("a report has items")?;
    let others: Vec<&str> =
        items.iter().filter(|item| item["state"] != "current").filter_map(|item| item["workload"]["name"].as_str()).collect();
    assert_eq!(others, ["once"]);
    // kubectl sees a restart like its own.
    cluster.kubectl(["-n", "shop", "rollout", "undo", "deployment/web"])?;
    let again = session.run(["mesh-upgrade", "restart", "-A", "--yes"])?;
    assert!(again.stderr.contains("Nothing to restart"), "{}", again.transcript());
    Ok(())
}

#[test]
fn what_is_paused_is_told_and_left_alone() -> Result<()> {
    let cluster = cluster()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web"))?;
    shop.run(&Workload::deployment("odd"))?;
    cluster.api().patch("/apis/apps/v1/namespaces/shop/deployments/odd", &json!({"spec": {"paused": true}}))?;
    follow(&cluster, "shop", "1-28-2")?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    // Paused, it is told and left alone, and the other one is restarted.
    let output = session.run(["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert!(output.stderr.contains("not restarted: deployment.apps/odd -n shop is blocked"), "{}", output.transcript());
    assert_eq!(revisions(&shop)?, ["1-26-0", "1-28-2"]);
    Ok(())
}

#[test]
fn the_first_failure_stops_and_leaves_the_rest_untouched() -> Result<()> {
    let cluster = cluster()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    for name in ["a", "b", "c"] {
        shop.run(&Workload::deployment(name))?;
    }
    follow(&cluster, "shop", "1-28-2")?;
    // No new pod may come beside the old ones.
    shop.apply(json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "3"}},
    }))?;
    let used = "/api/v1/namespaces/shop/resourcequotas/tight";
    cluster.wait("the quota to be counted", Duration::from_secs(30), || {
        Ok((cluster.api().get(used)?["status"]["used"]["pods"] == "3").then_some(()))
    })?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let words = ["mesh-upgrade", "restart", "-n", "shop", "--yes", "--max-parallel", "1", "--timeout", "6"];
    let output = session.run(words)?;
    // The dry run of a pod meets the quota too: nothing of the wave is begun.
    assert_eq!(output.code, Some(4), "{}", output.transcript());
    assert!(output.stderr.contains("exceeded quota"), "{}", output.transcript());
    assert_eq!(revisions(&shop)?, ["1-26-0"]);
    // With room for the dry run, but not for two: the roll-out itself is refused.
    cluster.api().delete(used)?;
    let output = session.run(words)?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert_eq!(revisions(&shop)?, ["1-28-2"]);
    Ok(())
}

#[test]
fn killed_at_the_worst_moment_it_goes_on_and_restarts_nothing_twice() -> Result<()> {
    let cluster = cluster()?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    let web = Workload::deployment("web").replicas(2);
    shop.run(&web)?;
    follow(&cluster, "shop", "1-28-2")?;
    let before = shop.get(&web)?["metadata"]["generation"].as_i64().context("a generation")?;
    // The API server acts, and its answer never comes.
    let interceptor = Interceptor::before(&cluster, |call| if call.method == "PATCH" { Fate::Hang } else { Fate::Pass })?;
    let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?;
    let mut running = spoilt.start(["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;
    running.wait_for("restarting")?;
    cluster.wait("the patch to have happened", Duration::from_secs(30), || {
        Ok((shop.get(&web)?["metadata"]["generation"].as_i64() > Some(before)).then_some(()))
    })?;
    running.kill_now();
    let output = plugin("mesh-upgrade")?.on(&cluster).run(["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    assert_eq!(revisions(&shop)?, ["1-28-2"]);
    assert_eq!(shop.get(&web)?["metadata"]["generation"].as_i64(), Some(before + 1), "it was restarted once");
    Ok(())
}

#[test]
fn every_call_may_fail_and_the_same_command_ends_the_same() -> Result<()> {
    let cluster = cluster()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    for (fate, name) in [(Fate::Status(500), "error"), (Fate::Status(409), "conflict"), (Fate::Lose, "lost")] {
        let shop = cluster.namespace(name, Follows::Revision("1-26-0"))?;
        let web = Workload::deployment("web");
        shop.run(&web)?;
        follow(&cluster, name, "1-28-2")?;
        let before = shop.get(&web)?["metadata"]["generation"].as_i64().context("a generation")?;
        let interceptor = Interceptor::before(&cluster, move |call| {
            if call.is_write() && call.of_path == 0 || call.method == "PATCH" && call.number < 40 && call.of_path < 2 {
                fate
            } else {
                Fate::Pass
            }
        })?;
        let spoilt = plugin("mesh-upgrade")?.through(&interceptor)?;
        let first = spoilt.run(["mesh-upgrade", "restart", "-n", name, "--yes"])?;
        if first.code != Some(0) {
            let second = session.run(["mesh-upgrade", "restart", "-n", name, "--yes"])?;
            assert_eq!(second.code, Some(0), "{}{}", first.transcript(), second.transcript());
        }
        assert_eq!(revisions(&shop)?, ["1-28-2"], "{name}: {}", first.transcript());
        assert_eq!(shop.get(&web)?["metadata"]["generation"].as_i64(), Some(before + 1), "{name}: it was restarted once");
    }
    Ok(())
}

#[test]
fn waves_come_one_after_another_and_a_gate_may_end_them() -> Result<()> {
    let cluster = cluster()?;
    for name in ["one", "two", "three"] {
        cluster.namespace(name, Follows::Revision("1-26-0"))?.run(&Workload::deployment("web"))?;
        follow(&cluster, name, "1-28-2")?;
    }
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let output = session.run([
        "mesh-upgrade",
        "restart",
        "-A",
        "--yes",
        "--gate",
        "echo $MESH_WAVE_NAME >> gates; test $MESH_WAVE -lt 2",
    ])?;
    assert_eq!(output.code, Some(5), "{}", output.transcript());
    assert_eq!(std::fs::read_to_string(session.home().join("gates"))?, "one\nthree\n");
    let left = revisions(&cluster.namespace_named("two"))?;
    assert_eq!(left, ["1-26-0"], "the wave behind the gate is untouched");
    let hangs = session.run([
        "mesh-upgrade",
        "restart",
        "-A",
        "--yes",
        "--percent",
        "50",
        "--gate",
        "sleep 60",
        "--gate-timeout",
        "1",
    ])?;
    assert!(matches!(hangs.code, Some(0 | 5)), "{}", hangs.transcript());
    let piped = plugin("mesh-upgrade")?.on(&cluster).stdin("").run(["mesh-upgrade", "restart", "-f", "-", "--yes"])?;
    assert_eq!(piped.code, Some(1), "an empty pipe restarts nothing: {}", piped.transcript());
    let missing = session.run(["mesh-upgrade", "restart", "deployment/nope", "-n", "one", "--yes"])?;
    assert_eq!(missing.code, Some(1), "{}", missing.transcript());
    Ok(())
}

#[test]
fn what_would_go_to_an_older_version_is_refused_by_name_with_its_cause_and_the_rest_is_not_done_either() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (pay, shop) = ("older-pay", "older-shop");
    let (queue, web) = (Workload::stateful_set("queue"), Workload::deployment("web"));
    cluster.namespace(pay, Follows::Revision("1-28-2"))?.run(&queue)?;
    cluster.namespace(shop, Follows::Revision("1-26-0"))?.run(&web)?;
    // Somebody's tool puts one label back, and the other one goes on.
    cluster.kubectl(["label", "namespace", pay, "istio.io/rev=1-26-0", "--overwrite"])?;
    follow(cluster, shop, "1-28-2")?;
    let (pay, shop) = (cluster.namespace_named(pay), cluster.namespace_named(shop));
    let reference = |workload: (&str, &str), namespace: &str| {
        json!({"apiVersion": "apps/v1", "kind": workload.0, "metadata": {"name": workload.1, "namespace": namespace}}).to_string()
    };
    let both = [reference(("StatefulSet", "queue"), pay.name()), reference(("Deployment", "web"), shop.name())].join("\n");
    let restart = |flags: &[&str]| -> Result<support::Output> {
        let session = plugin("mesh-upgrade")?.on(cluster).stdin(both.clone());
        session.run(["mesh-upgrade", "restart", "-f", "-"].iter().chain(flags))
    };
    let back = "statefulset.apps/queue -n older-pay: 1.28.2 (1-28-2) -> 1.26.0 (1-26-0) (downgrade)";
    let up = "deployment.apps/web -n older-shop: 1.26.0 (1-26-0) -> 1.28.2 (1-28-2)";
    for flags in [&["--yes"][..], &["--dry-run"][..]] {
        let refused = restart(flags)?;
        assert_eq!(refused.code, Some(4), "{}", refused.transcript());
        for told in [
            "1 workload would go to an older version; nothing was restarted",
            "namespace older-pay selects 1-26-0 (label istio.io/rev=1-26-0, last written by kubectl-label at 20",
            "kubectl mesh-tag attach 1-28-2 older-pay --overwrite",
            back,
            "kubectl mesh-upgrade restart -f - --skip-downgrades does only the 1 other workload",
            "kubectl mesh-upgrade restart -f - --allow-downgrade takes them to the older version too",
        ] {
            assert!(refused.stderr.contains(told), "no {told:?} in {}", refused.transcript());
        }
        let shown = refused.stdout.contains(&format!("  {up} (dry run)\n"));
        assert_eq!(shown, flags == ["--dry-run"], "{}", refused.transcript());
    }
    assert_eq!((revisions(&pay)?, revisions(&shop)?), (vec!["1-28-2".to_owned()], vec!["1-26-0".to_owned()]));

    let asked = restart(&["--skip-downgrades"])?;
    assert_eq!(asked.code, Some(4), "{}", asked.transcript());
    assert!(asked.stderr.contains("Restart 1 workload in 1 wave: 1.26.0 (1-26-0) -> 1.28.2 (1-28-2)?"), "{}", asked.transcript());
    let rest = restart(&["--skip-downgrades", "--yes", "-o", "json"])?;
    assert_eq!(rest.code, Some(0), "{}", rest.transcript());
    let ended = rest.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let ended = ended.iter().find(|event| event["type"] == "Ended").context("an end")?;
    assert_eq!(
        (&ended["workload"]["change"], &ended["workload"]["from"][0]["version"], &ended["workload"]["to"]["version"]),
        (&json!("upgrade"), &json!("1.26.0"), &json!("1.28.2"))
    );
    assert_eq!((revisions(&pay)?, revisions(&shop)?), (vec!["1-28-2".to_owned()], vec!["1-28-2".to_owned()]));

    // A plan says it too, and is no consent.
    let session = plugin("mesh-upgrade")?.on(cluster);
    let plan = |flags: &[&str]| session.run(["mesh-upgrade", "plan", "-n", "older-pay"].iter().chain(flags));
    let refused = plan(&[])?;
    assert!(refused.code == Some(4) && refused.stdout.is_empty() && refused.stderr.contains(back), "{}", refused.transcript());
    let made = plan(&["--allow-downgrade"])?;
    assert!(made.stdout.contains("change: 1.28.2 (1-28-2) -> 1.26.0 (1-26-0) (downgrade)"), "{}", made.transcript());
    let file = session.home().join("plan.yaml");
    std::fs::write(&file, &made.stdout)?;
    let file = file.to_string_lossy().into_owned();
    let planned = session.run(["mesh-upgrade", "restart", "--plan", &file, "--yes"])?;
    assert!(planned.code == Some(4) && planned.stderr.contains(back), "{}", planned.transcript());
    let allowed = session.run(["mesh-upgrade", "restart", "--plan", &file, "--yes", "--allow-downgrade"])?;
    assert_eq!(allowed.code, Some(0), "{}", allowed.transcript());
    assert!(
        allowed.stdout.contains("queue -n older-pay: restarted, 1.28.2 (1-28-2) -> 1.26.0 (1-26-0) (downgrade)"),
        "{}",
        allowed.transcript()
    );
    assert_eq!(revisions(&pay)?, ["1-26-0"]);
    Ok(())
}
