//! `mesh-upgrade status`: how far an upgrade is, in every form, and while it goes on.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Revision, Session, Workload, plugin, plugins};

/// A mesh in mid-upgrade: one namespace is there, one waits for a restart, one for its tag and one for its label.
fn in_mid_upgrade() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(IstioVersion::V1_28_2));
    cluster.install(&old)?;
    cluster.install(&new)?;
    cluster.set_tag("prod-stable", &old)?;
    cluster.set_tag("prod-canary", &new)?;
    for (name, follows) in [("bank", "prod-canary"), ("shop", "prod-stable"), ("tagged", "prod-stable"), ("edge", "1-26-0")] {
        let namespace = cluster.namespace(name, Follows::Revision(follows))?;
        namespace.create(&Workload::deployment("web").replicas(2))?;
        namespace.run(&Workload::stateful_set("db"))?;
        namespace.wait_until_rolled_out(&Workload::deployment("web").replicas(2))?;
    }
    follow(&cluster, "shop", "prod-canary")?;
    Ok(cluster)
}

fn follow(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let labels = json!({"metadata": {"labels": {"istio.io/rev": name}}});
    cluster.api().patch(&format!("/api/v1/namespaces/{namespace}"), &labels).map(|_| ())
}

/// Uninstalls a revision and waits until its Deployment is gone too: istioctl does not.
pub fn uninstall(cluster: &Cluster, revision: &Revision) -> Result<()> {
    cluster.uninstall(revision)?;
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", revision.namespace, revision.istiod());
    cluster
        .wait("the control plane to be gone", Duration::from_secs(60), || Ok(cluster.api().find(&path)?.is_none().then_some(())))
}

fn document(session: &Session) -> Result<Value> {
    session.run(["mesh-upgrade", "status", "-o", "json"])?.json()
}

/// Namespace, proxies, and those that are there.
fn shares(document: &Value) -> Vec<[Value; 3]> {
    let items = document["items"].as_array().into_iter().flatten();
    items.map(|item| ["namespace", "proxies", "migrated"].map(|key| item[key].clone())).collect()
}

#[test]
fn it_says_how_far_what_is_left_and_what_comes_next() -> Result<()> {
    let cluster = in_mid_upgrade()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let status = document(&session)?;
    assert_eq!((&status["kind"], &status["to"]), (&json!("UpgradeStatus"), &json!("1-28-2")), "{status:#}");
    let share = |namespace: &str, migrated: u32| [json!(namespace), json!(3), json!(migrated)];
    assert_eq!(shares(&status), [share("bank", 3), share("edge", 0), share("shop", 0), share("tagged", 0)]);
    let mut left: Vec<[&Value; 2]> =
        status["left"].as_array().into_iter().flatten().map(|left| [&left["namespace"], &left["why"]]).collect();
    left.dedup();
    let expected = [["edge", "follows-label"], ["shop", "stale"], ["tagged", "follows-tag"]];
    assert_eq!(json!(left), json!(expected), "{status:#}");
    assert_eq!(status["next"], "kubectl mesh-upgrade restart -A");
    assert_eq!(document(&session)?, status);

    // Each step that it names brings it on, to the last.
    let next = || -> Result<String> { Ok(document(&session)?["next"].as_str().unwrap_or_default().to_owned()) };
    let restart = |namespace: &str| -> Result<()> {
        cluster.kubectl(["-n", namespace, "rollout", "restart", "deployment/web", "statefulset/db"])?;
        for kind in ["deployment/web", "statefulset/db"] {
            cluster.kubectl(["-n", namespace, "rollout", "status", kind, "--timeout=60s"])?;
        }
        Ok(())
    };
    restart("shop")?;
    assert_eq!(next()?, "kubectl mesh-tag set prod-stable --revision 1-28-2 --from 1-26-0");
    cluster.set_tag("prod-stable", &Revision::of(IstioVersion::V1_28_2))?;
    restart("tagged")?;
    // A tag that points there is preferred, and a label that is there is replaced.
    assert_eq!(next()?, "kubectl mesh-tag attach prod-canary edge --overwrite");
    follow(&cluster, "edge", "1-28-2")?;
    restart("edge")?;
    assert_eq!(next()?, "kubectl mesh-upgrade complete --remove 1-26-0");
    let found = session.run(["mesh-upgrade", "status", "--exit-code"])?;
    assert_eq!(found.code, Some(3), "{}", found.transcript());
    assert!(found.stdout.contains("Left\n  revision 1-26-0 is still installed\n"), "{}", found.transcript());
    assert!(found.stdout.starts_with("Upgrading 1-26-0 -> 1-28-2, 100 %\n"), "{}", found.transcript());
    uninstall(&cluster, &Revision::of(IstioVersion::V1_26_0))?;
    let done = session.run(["mesh-upgrade", "status", "--exit-code"])?;
    assert_eq!(done.code, Some(0), "{}", done.transcript());
    assert!(done.stdout.starts_with("No upgrade in progress: 1-28-2 is the only revision\n"), "{}", done.transcript());
    assert_eq!(document(&session)?["revisions"][0]["role"], "only");
    assert_eq!(next()?, "kubectl mesh-upgrade targets");
    Ok(())
}

#[test]
fn it_knows_which_way_the_mesh_goes_and_what_turned_back_on_the_way() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    let session = plugins(&["mesh-upgrade", "mesh-tag"])?.on(&cluster).time_limit(Duration::from_secs(120));
    let succeed = |words: &[&str]| -> Result<()> {
        let output = session.run(words)?;
        anyhow::ensure!(output.code == Some(0), "{}", output.transcript());
        Ok(())
    };
    let page = || -> Result<String> { Ok(session.run(["mesh-upgrade", "status"])?.stdout) };
    succeed(&["mesh-tag", "set", "prod", "--revision", "1-26-0", "--yes"])?;
    let shop = cluster.namespace("shop", Follows::Revision("prod"))?;
    shop.run(&Workload::deployment("web"))?;
    assert!(page()?.starts_with("Upgrading 1-26-0 -> 1-28-2, 0 %\n"), "{}", page()?);
    succeed(&["mesh-tag", "set", "prod", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?;
    succeed(&["mesh-upgrade", "restart", "-n", "shop", "--yes"])?;

    // Somebody's tool puts back one label of what is there already; another namespace has nothing in it.
    let pay = cluster.namespace("pay", Follows::Revision("1-28-2"))?;
    pay.run(&Workload::stateful_set("queue").replicas(2))?;
    cluster.kubectl(["label", "namespace", "pay", "istio.io/rev=1-26-0", "--overwrite"])?;
    cluster.namespace("idle", Follows::Revision("1-26-0"))?;
    let status = document(&session)?;
    assert_eq!((&status["direction"]["way"], &status["to"]), (&json!("up"), &json!("1-28-2")), "{status:#}");
    assert_eq!(shares(&status), [[json!("pay"), json!(2), json!(2)], [json!("shop"), json!(1), json!(1)]], "{status:#}");
    let left = &status["left"][0];
    assert_eq!((&left["why"], &left["proxies"]), (&json!("went-back"), &json!(2)), "{status:#}");
    let cure = "kubectl mesh-tag attach prod pay --overwrite";
    assert_eq!((&left["advice"], &status["next"]), (&json!(cure), &json!(cure)), "{status:#}");
    let told = page()?;
    for text in [
        "Upgrading 1-26-0 -> 1-28-2, 100 %\n",
        "would go back with a restart: namespace pay selects 1-26-0 (label istio.io/rev=1-26-0, last written by kubectl-label at ",
        "1 namespace without proxies selects 1-26-0: idle",
        "kubectl mesh-tag attach prod idle --overwrite",
    ] {
        assert!(told.contains(text), "no {text:?} in {told}");
    }
    succeed(&["mesh-tag", "attach", "prod", "pay", "--overwrite"])?;
    assert_eq!(document(&session)?["next"], "kubectl mesh-tag attach prod idle --overwrite");

    // Pods that are not ready are not there yet; one without a node never comes.
    shop.create(&Workload::deployment("late").never_ready())?;
    shop.create(&Workload::deployment("lost").pod_spec(json!({"nodeSelector": {"no": "node"}})))?;
    let is_seen = || -> Result<Option<Value>> {
        let status = document(&session)?;
        let whys: Vec<&Value> = status["left"].as_array().into_iter().flatten().map(|left| &left["why"]).collect();
        Ok((whys == ["rolling-out", "stuck"]).then(|| status.clone()))
    };
    let status = cluster.wait("both pods", Duration::from_secs(60), is_seen)?;
    assert_eq!(shares(&status)[1], [json!("shop"), json!(3), json!(1)], "{status:#}");
    assert_eq!(status["summary"]["notReady"], 2, "{status:#}");
    let told = page()?;
    assert!(told.contains("stuck: pods do not get ready: no node: ") && told.contains(" (since "), "{told}");
    assert!(told.contains("rolling out: pods are not ready yet (since "), "{told}");
    for name in ["late", "lost"] {
        shop.delete(&Workload::deployment(name))?;
    }

    // The way back is known while it is gone, and afterwards.
    succeed(&["mesh-tag", "undo", "prod", "--yes"])?;
    let status = document(&session)?;
    assert_eq!((&status["direction"]["way"], &status["to"]), (&json!("back"), &json!("1-26-0")), "{status:#}");
    assert_eq!(status["next"], "kubectl mesh-upgrade rollback --to 1-26-0", "{status:#}");
    assert!(page()?.starts_with("Rolling back to 1-26-0, 0 %\n"), "{}", page()?);
    succeed(&["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"])?;
    let status = document(&session)?;
    assert_eq!(status["next"], "kubectl mesh-upgrade complete --remove 1-28-2", "{status:#}");
    assert_eq!(status["stillInstalled"], json!(["1-28-2"]), "{status:#}");
    assert!(page()?.starts_with("Rolling back to 1-26-0, 100 %\n"), "{}", page()?);

    Ok(())
}

#[test]
fn every_format_says_the_same() -> Result<()> {
    let cluster = in_mid_upgrade()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let prom = session.run(["mesh-upgrade", "status", "-o", "prom"])?;
    for line in [
        "mesh_upgrade_proxies{namespace=\"shop\",revision=\"1-26-0\"} 3",
        "mesh_upgrade_migrated_proxies{namespace=\"bank\",to=\"1-28-2\"} 3",
        "mesh_upgrade_left_workloads{to=\"1-28-2\",why=\"stale\"} 2",
        "mesh_upgrade_complete{to=\"1-28-2\"} 0",
    ] {
        assert!(prom.stdout.lines().any(|found| found == line), "no {line} in {}", prom.transcript());
    }
    let junit = session.run(["mesh-upgrade", "status", "-o", "junit"])?;
    assert!(
        junit.stdout.contains("<testsuite name=\"bank\" tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"0\">")
            && junit.stdout.contains("<testsuite name=\"shop\" tests=\"2\" failures=\"2\" errors=\"0\" skipped=\"0\">"),
        "{}",
        junit.transcript()
    );
    let wide = session.run(["mesh-upgrade", "status", "-o", "wide", "-n", "shop"])?;
    assert!(wide.stdout.contains("statefulset.apps/db -n shop (1)"), "{}", wide.transcript());
    assert!(wide.stderr.contains("Next: kubectl mesh-upgrade restart -n shop"), "{}", wide.transcript());
    // A narrow terminal: no bar and no fact is wider, only what can be copied is never cut.
    let narrow = session.terminal("stty cols 40 && kubectl mesh-upgrade status --color never")?;
    assert!(narrow.stdout.contains("1-28-2 (new): version 1.28.2"), "{}", narrow.transcript());
    let widest = narrow.stdout.lines().filter(|line| !line.contains("kubectl ")).map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|widest| widest <= 40), "{widest:?}: {}", narrow.transcript());
    Ok(())
}

#[test]
fn watching_prints_what_has_changed() -> Result<()> {
    let cluster = in_mid_upgrade()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let mut running = session.start(["mesh-upgrade", "status", "-w", "-o", "json"])?;
    running.wait_for("\"why\":\"stale\"")?;
    cluster.kubectl(["-n", "shop", "rollout", "restart", "deployment/web", "statefulset/db"])?;
    running.wait_for("{\"migrated\":3,\"namespace\":\"shop\"")?;
    running.interrupt()?;
    let lines = running.finish()?.stdout;
    for line in lines.lines() {
        let document: Value = serde_json::from_str(line).with_context(|| format!("one document a line: {line}"))?;
        assert_eq!(document["kind"], "UpgradeStatus");
    }
    assert_eq!(session.run(["mesh-upgrade", "status", "-w", "-o", "prom"])?.code, Some(2));
    // On a terminal the page is drawn over the last one.
    let drawn = session.terminal("timeout -s INT 4 kubectl mesh-upgrade status -w")?;
    assert!(drawn.stdout.contains("\u{1b}[2J\u{1b}[H") && drawn.stdout.contains("\u{1b}[K\n"), "{drawn:?}");
    assert!(drawn.stdout.contains("Next: "), "{drawn:?}");
    Ok(())
}

#[test]
fn orphans_come_first_and_their_certificates_are_told() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let old = Revision::of(IstioVersion::V1_26_0);
    cluster.install(&old)?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web").replicas(2))?;
    follow(&cluster, "shop", "1-28-2")?;
    uninstall(&cluster, &old)?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let status = document(&session)?;
    assert_eq!(status["left"][0]["why"], "orphaned", "{status:#}");
    // With the Deployment gone nothing tells when the certificates end, and that is said.
    assert_eq!(status["revisions"][0]["certificates"], json!({"renewed": false}), "{status:#}");
    let page = session.run(["mesh-upgrade", "status"])?;
    assert!(page.stdout.contains("nothing in the cluster tells when they end"), "{}", page.transcript());
    Ok(())
}

#[test]
fn a_revision_that_is_not_here_is_an_error_that_names_those_that_are() -> Result<()> {
    let cluster = Cluster::shared()?;
    let output = plugin("mesh-upgrade")?.on(cluster).run(["mesh-upgrade", "status", "--to", "1-99-0"])?;
    assert_eq!(output.code, Some(1), "{}", output.transcript());
    assert!(output.stderr.contains("there is no revision 1-99-0; here are: 1-26-0, 1-28-2"), "{}", output.transcript());
    Ok(())
}

#[test]
fn what_could_not_be_read_is_never_taken_for_done() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    cluster.namespace("shop", Follows::Revision("1-28-2"))?.run(&Workload::deployment("web").replicas(2))?;
    let next = |session: Session| -> Result<(Option<i32>, String)> {
        let output = session.run(["mesh-upgrade", "status", "--exit-code"])?;
        Ok((output.code, output.stderr))
    };
    let (code, told) = next(plugin("mesh-upgrade")?.on(&cluster))?;
    assert!(code == Some(3) && told.contains("Next: kubectl mesh-upgrade complete --remove 1-26-0"), "{told}");
    for part in ["/namespaces", "/mutatingwebhookconfigurations", "/statefulsets", "/deployments", "/services"] {
        let is_spoiled = move |target: &str| target.split('?').next().is_some_and(|path| path.ends_with(part));
        let interceptor =
            Interceptor::before(&cluster, move |call| if is_spoiled(&call.target) { Fate::Status(403) } else { Fate::Pass })?;
        let (code, told) = next(plugin("mesh-upgrade")?.through(&interceptor)?)?;
        assert!(code == Some(3) && !told.contains("complete --remove"), "{part}: {code:?} {told}");
    }
    Ok(())
}

#[test]
fn the_rules_that_it_prints_are_enough() -> Result<()> {
    let cluster = Cluster::shared()?;
    cluster.namespace("least", Follows::Revision("1-26-0"))?.run(&Workload::deployment("web"))?;
    let session = plugin("mesh-upgrade")?.on(cluster);
    let verbs: [&[&str]; 3] = [&["status", "-o", "prom"], &["status", "-n", "least", "-o", "prom"], &["targets"]];
    for (number, verb) in verbs.into_iter().enumerate() {
        let command: Vec<&str> = std::iter::once("mesh-upgrade").chain(verb.iter().copied()).collect();
        let printed = session.run(command.iter().copied().chain(["--explain-rbac"]))?;
        assert_eq!(printed.code, Some(0), "{}", printed.transcript());
        let file = session.home().join("rules.yaml");
        std::fs::write(&file, &printed.stdout)?;
        let roles = cluster.kubectl(["create", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()])?;
        let roles = serde_json::Deserializer::from_str(&roles).into_iter::<Value>().collect::<Result<Vec<_>, _>>()?;
        let rules: Vec<Value> = roles.iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect();
        let reader = session.home().join("reader");
        cluster.kubeconfig_for(&format!("status-reader-{number}"), json!(rules))?.write(&reader)?;
        let output = plugin("mesh-upgrade")?.kubeconfig(&reader).run(command.iter().copied())?;
        assert_eq!(output.code, Some(0), "{}", output.transcript());
        assert!(!output.stderr.contains("denied") && !output.stdout.is_empty(), "{}", output.transcript());
    }
    Ok(())
}
