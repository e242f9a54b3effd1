//! Little permission: what `--explain-rbac` prints for a verb is enough for it; without a rule it says what it misses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::rbac::{Permission, explained, session_with};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload, plugin, plugins};

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    Ok(cluster)
}

/// A namespace with a workload of each way of a restart, all stale.
fn stale(cluster: &Cluster, name: &str) -> Result<()> {
    let namespace = cluster.namespace(name, Follows::Revision("1-26-0"))?;
    namespace.run(&Workload::deployment("web"))?;
    namespace.run(&Workload::stateful_set("queue").spec(json!({"updateStrategy": {"type": "OnDelete"}})))?;
    cluster.namespace(name, Follows::Revision("1-28-2")).map(|_| ())
}

#[test]
fn what_is_printed_for_a_verb_is_enough_for_it() -> Result<()> {
    let cluster = cluster()?;
    let admin = plugin("mesh-upgrade")?.on(&cluster);
    plugin("mesh-tag")?.on(&cluster).run(["mesh-tag", "set", "prod", "--revision", "1-28-2", "--yes"])?;
    stale(&cluster, "shop")?;
    let verbs: [&[&str]; 5] = [
        &["mesh-upgrade", "targets"],
        &["mesh-upgrade", "status"],
        &["mesh-upgrade", "plan", "-A"],
        &["mesh-upgrade", "restart", "-A", "--yes"],
        &["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"],
    ];
    for words in verbs {
        let session = session_with("mesh-upgrade", &cluster, words[1], &explained(&admin, words)?)?;
        let output = session.time_limit(Duration::from_secs(180)).run(words)?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        for word in ["forbidden", "denied", "could not be read"] {
            ensure!(!output.stderr.contains(word), "{word}: {}", output.transcript());
        }
    }
    Ok(())
}

/// Everything that is printed for these commands, each once.
fn printed_for(session: &Session, commands: &[&[&str]]) -> Result<Vec<Permission>> {
    let mut all = Vec::new();
    for words in commands {
        all.extend(explained(session, words)?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

#[test]
fn who_has_the_printed_rules_is_refused_by_no_step() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0).by_manifests())?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web").replicas(2))?;
    shop.run(&Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}})))?;
    let new = Revision::of(IstioVersion::V1_28_2);
    let admin = plugins(&["mesh-upgrade", "mesh-tag"])?.on(&cluster);
    let file = admin.home().join("manifests.yaml");
    std::fs::write(&file, new.manifests(&cluster)?)?;
    let file = file.to_str().context("a path")?;
    let precheck: &[&str] = &["mesh-upgrade", "precheck", "--to", "1.28.2", "-o", "json"];
    let start: &[&str] = &["mesh-upgrade", "start", "--revision", "1-28-2", "-f", file, "--yes"];
    let flow: [&[&str]; 8] = [
        &["mesh-upgrade", "targets"],
        &["mesh-tag", "set", "prod", "--revision", "1-28-2", "--yes"],
        &["mesh-tag", "attach", "prod", "shop", "--overwrite"],
        &["mesh-upgrade", "restart", "-A", "--yes"],
        &["mesh-upgrade", "status"],
        // The validator of all configuration moves with this tag.
        &["mesh-tag", "set", "default", "--revision", "1-28-2", "--yes"],
        &["mesh-upgrade", "rollback", "--to", "1-26-0", "--dry-run"],
        &["mesh-upgrade", "complete", "--remove", "1-26-0", "--yes"],
    ];
    let back: &[&str] = &["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"];
    let printed = printed_for(&admin, &[&[precheck, start, back], &flow[..]].concat())?;
    let account = session_with("mesh-upgrade", &cluster, "upgrader", &printed)?;
    let session =
        plugins(&["mesh-upgrade", "mesh-tag"])?.kubeconfig(&account.home().join("account")).time_limit(Duration::from_secs(180));

    let report = session.run(precheck)?;
    let items = report.json()?["items"].as_array().cloned().context("items")?;
    let missing: Vec<_> = items.iter().filter(|item| item["code"] == "permission" || item["code"] == "unread").collect();
    ensure!(report.code == Some(0) && missing.is_empty(), "{missing:#?}\n{}", report.transcript());
    let running = session.start(start)?;
    cluster.start_istiod_when_installed(&new)?;
    let started = running.finish()?;
    ensure!(started.code == Some(0), "{}", started.transcript());
    for words in flow {
        if words[1] == "complete" {
            nothing_is_removed_without_all_rules(&cluster, &printed, words)?;
        }
        let output = session.run(words)?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        ensure!(!output.stderr.contains("forbidden") && !output.stderr.contains("denied"), "{}", output.transcript());
    }
    // Without one of them, precheck says so, and what is not served is missed by nobody.
    let fewer: Vec<Permission> = printed.iter().filter(|(_, _, resource, _)| resource != "networkpolicies").cloned().collect();
    let fewer: Vec<Permission> = fewer.into_iter().filter(|(_, _, resource, _)| resource != "pods/eviction").collect();
    let account = session_with("mesh-upgrade", &cluster, "lesser", &fewer)?;
    let report =
        account.run(["mesh-upgrade", "precheck", "--to", "1.29.1", "--from", "1-28-2", "--for", "all", "-o", "json"])?.json()?;
    let items = report["items"].as_array().cloned().context("items")?;
    let missing: Vec<(&str, &str)> = items
        .iter()
        .filter(|item| item["code"] == "permission")
        .filter_map(|item| Some((item["subject"].as_str()?, item["severity"].as_str()?)))
        .collect();
    ensure!(missing.contains(&("pods/eviction", "error")), "{report:#}");
    ensure!(
        missing.iter().all(|(subject, _)| ["pods/eviction", "networkpolicies.networking.k8s.io"].contains(subject)),
        "{report:#}"
    );
    Ok(())
}

/// A removal that may not delete everything deletes nothing; one that may not try whether pods are injected would not see it stop.
fn nothing_is_removed_without_all_rules(cluster: &Cluster, printed: &[Permission], words: &[&str]) -> Result<()> {
    let webhook = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector-1-26-0";
    let dry_run = [&words[..words.len() - 1], &["--dry-run"]].concat();
    let untried = "whether pods are injected cannot be tried";
    for (resource, verb, line, told) in [
        ("pods", "create", words, untried),
        ("pods", "create", &dry_run[..], untried),
        ("clusterroles", "delete", words, "forbidden: delete clusterroles.rbac.authorization.k8s.io/"),
    ] {
        let rest: Vec<Permission> =
            printed.iter().filter(|(_, _, other, its)| other != resource || its != verb).cloned().collect();
        let account = format!("removes-without-{resource}{}", line[line.len() - 1].trim_start_matches('-'));
        let refused = session_with("mesh-upgrade", cluster, &account, &rest)?.run(line)?;
        ensure!(refused.code == Some(4), "without {verb} {resource}: {}", refused.transcript());
        ensure!(refused.stderr.contains(told), "without {verb} {resource}: {}", refused.transcript());
        ensure!(cluster.api().find(webhook)?.is_some(), "without {verb} {resource}: {}", refused.transcript());
    }
    Ok(())
}

#[test]
fn a_restart_that_may_not_write_says_so_and_changes_nothing() -> Result<()> {
    let cluster = cluster()?;
    let admin = plugin("mesh-upgrade")?.on(&cluster);
    for (resource, verb) in [("pods", "create"), ("deployments", "patch"), ("deployments", "get"), ("pods/eviction", "create")] {
        let shop = format!("shop-{}-{verb}", resource.replace('/', "-"));
        stale(&cluster, &shop)?;
        let words = ["mesh-upgrade", "restart", "-n", &shop, "--yes"];
        let permissions = explained(&admin, &words)?;
        let rest: Vec<Permission> =
            permissions.iter().filter(|(_, _, other, its)| other != resource || its != verb).cloned().collect();
        ensure!(rest.len() < permissions.len(), "{verb} {resource} is among the rules");
        let account = format!("without-{shop}");
        let output = session_with("mesh-upgrade", &cluster, &account, &rest)?.run(words)?;
        ensure!(output.code == Some(4), "without {verb} {resource}: {}", output.transcript());
        let told = format!("{}{}", output.stdout, output.stderr);
        ensure!(told.contains("forbidden") && told.contains(resource), "without {verb} {resource}: {}", output.transcript());
        let web = cluster.api().get(&format!("/apis/apps/v1/namespaces/{shop}/deployments/web"))?;
        let restarted = &web["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
        ensure!(restarted.is_null(), "without {verb} {resource}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn who_may_only_view_is_never_told_that_there_is_nothing_to_do() -> Result<()> {
    let cluster = Cluster::shared()?;
    stale(cluster, "viewed")?;
    let session = session_with("mesh-upgrade", cluster, "viewer", &[])?;
    cluster.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "viewer-views"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": "default"}],
    }))?;
    let restart = session.run(["mesh-upgrade", "restart", "-n", "viewed", "--yes"])?;
    ensure!(restart.code == Some(4), "{}", restart.transcript());
    for told in
        ["2 workloads are undecided", "mutatingwebhookconfigurations", "nothing was restarted", "deployment.apps/web -n viewed"]
    {
        ensure!(restart.stderr.contains(told), "no {told:?} in {}", restart.transcript());
    }
    let plan = session.run(["mesh-upgrade", "plan", "-n", "viewed"])?;
    ensure!(plan.code == Some(4) && plan.stdout.contains("undecided:"), "{}", plan.transcript());
    // Who may do everything does not take the empty plan for a finished one.
    let admin = plugin("mesh-upgrade")?.on(cluster).stdin(plan.stdout.clone());
    let planned = admin.run(["mesh-upgrade", "restart", "--plan", "-", "--yes"])?;
    ensure!(planned.code == Some(4) && planned.stderr.contains("the plan is incomplete"), "{}", planned.transcript());
    let complete = session.run(["mesh-upgrade", "complete", "--remove", "1-26-0", "--yes"])?;
    ensure!(complete.code == Some(4), "{}", complete.transcript());
    let precheck = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2", "-o", "json"])?.json()?;
    let items = precheck["items"].as_array().cloned().context("items")?;
    let unread = items
        .iter()
        .filter(|item| item["severity"] == "error" && ["unread", "forbidden"].iter().any(|code| item["code"] == *code));
    ensure!(unread.count() == 1, "{precheck:#}");
    Ok(())
}
