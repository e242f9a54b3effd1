//! Little permission: what `--explain-rbac` prints for a verb is enough for it; without a rule it says what it misses.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use support::rbac::{Permission, explained, session_with};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Workload, plugin};

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
        ensure!(matches!(output.code, Some(4 | 5)), "without {verb} {resource}: {}", output.transcript());
        let told = format!("{}{}", output.stdout, output.stderr);
        ensure!(told.contains("forbidden") && told.contains(resource), "without {verb} {resource}: {}", output.transcript());
        if resource == "deployments" {
            let web = cluster.api().get(&format!("/apis/apps/v1/namespaces/{shop}/deployments/web"))?;
            ensure!(
                web["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_null(),
                "{}",
                output.transcript()
            );
        }
    }
    Ok(())
}
