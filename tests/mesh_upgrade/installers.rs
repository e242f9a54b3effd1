//! What installers do besides the revision: it is known before, shown, and taken back by a rollback.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Program, Revision, Workload, plugin};

use crate::dump::Dump;
use crate::start::{canary, old_objects, start, unchanged};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
const INSTALL: [&str; 8] = ["--with", "istioctl", "--", "install", "-y", "--set", "revision=1-28-2", "--set=profile=minimal"];

/// A mesh of one revision with the tag `prod`, no tag `default`, a default validator, and a namespace that nothing injects.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    let old = Revision::of(IstioVersion::V1_26_0).by_manifests();
    cluster.install(&old)?;
    cluster.set_tag("prod", &old)?;
    cluster.wait_for_validators()?;
    let own = cluster.api().get(&format!("{WEBHOOKS}/validatingwebhookconfigurations/istio-validator-1-26-0-istio-system"))?;
    let mut entry = own["webhooks"][0].clone();
    entry["name"] = "validation.istio.io".into();
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "istiod-default-validator", "labels": {"app": "istiod", "istio.io/rev": "1-26-0"}},
        "webhooks": [entry],
    }))?;
    cluster.namespace("legacy", Follows::Injection)?;
    cluster.namespace("shop", Follows::Revision("prod"))?.run(&Workload::deployment("web"))?;
    Ok(cluster)
}

/// What is not of the new revision, but for the account that all share, on which istioctl notes who installed last, and the lists of
/// revoked certificates that an istiod of 1.28 writes into every namespace once it gets to it.
fn others(cluster: &Cluster) -> Result<Dump> {
    Ok(old_objects(cluster)?
        .only(|key| ![" istio-reader-service-account", " istio-ca-crl"].iter().any(|name| key.ends_with(name))))
}

#[test]
fn the_default_tag_that_istioctl_makes_is_known_before_and_taken_back_by_a_rollback() -> Result<()> {
    let cluster = cluster()?;
    let before = others(&cluster)?;
    let session = plugin("mesh-upgrade")?.on(&cluster).with_istioctl(IstioVersion::V1_28_2)?;
    let words = ["mesh-upgrade", "start", "--revision", "1-28-2"];

    let refused = session.run(words.iter().chain(&["--yes"]).chain(&INSTALL))?;
    ensure!(refused.code == Some(4), "{}", refused.transcript());
    for told in [
        "tag default: istioctl install creates it",
        "nothing injects now: legacy",
        "from 1-26-0 to 1-28-2",
        "--accept-default-tag",
    ] {
        ensure!(refused.stderr.contains(told), "{told}: {}", refused.transcript());
    }
    let dry = session.run(words.iter().chain(&["--accept-default-tag", "--dry-run"]).chain(&INSTALL))?;
    ensure!(dry.code == Some(0), "{}", dry.transcript());
    for told in ["create    deployments/istiod-1-28-2 -n istio-system (dry run)", "create    tag default, by istioctl"] {
        ensure!(dry.stdout.contains(told), "{told}: {}", dry.transcript());
    }
    for told in ["CustomResourceDefinitions are shared", "this cannot be undone", "Dry run: nothing was changed. Next:"] {
        ensure!(dry.stderr.contains(told), "{told}: {}", dry.transcript());
    }
    unchanged(&before, &others(&cluster)?)?;

    let accepted: Vec<&str> = ["--accept-default-tag"].into_iter().chain(INSTALL).collect();
    let done = start(&cluster, &session, &accepted)?;
    ensure!(done.code == Some(0), "{}", done.transcript());
    let tag = || cluster.api().find(&format!("{WEBHOOKS}/mutatingwebhookconfigurations/istio-revision-tag-default"));
    ensure!(tag()?.is_some(), "istioctl makes no default tag any more: {}", done.transcript());

    let back = session.run(["mesh-upgrade", "rollback", "--to", "1-26-0", "--remove", "--yes"])?;
    ensure!(back.code == Some(0), "{}", back.transcript());
    ensure!(tag()?.is_none(), "namespaces are injected that were not before: {}", back.transcript());
    unchanged(&before, &others(&cluster)?)?;
    cluster.stop_istiod(&Revision::of(IstioVersion::V1_28_2));

    // An istioctl that does more than anybody knew.
    let real = Program::Istioctl(IstioVersion::V1_28_2).path()?;
    let path = session.home().join("bin/istioctl");
    fs::remove_file(&path).context("istioctl of the session")?;
    let label = "kubectl label mutatingwebhookconfigurations -l istio.io/tag=prod istio.io/rev=1-28-2 --overwrite";
    fs::write(&path, format!("#!/bin/bash\n{} \"$@\" || exit\n[ \"$1\" != install ] || {label}\n", real.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let moved = start(&cluster, &session, &accepted)?;
    ensure!(moved.code == Some(5), "{}", moved.transcript());
    for told in
        ["pointed to revision 1-26-0, and points to revision 1-28-2 now", "mesh-tag set prod --revision 1-26-0 --overwrite"]
    {
        ensure!(moved.stderr.contains(told), "{told}: {}", moved.transcript());
    }
    Ok(())
}

/// Everything of the new revision that is here.
fn new_objects(cluster: &Cluster) -> Result<Dump> {
    Ok(Dump::of(cluster)?.only(|key| key.contains("1-28-2")))
}

#[test]
fn what_is_left_of_a_revision_is_seen_and_goes_by_the_command_that_is_printed() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let nothing = new_objects(&cluster)?;
    // An installation that ends after the mesh configuration and the definitions.
    let interceptor = Interceptor::before(&cluster, |call| {
        if call.is_write() && call.target.contains("/serviceaccounts") { Fate::Status(403) } else { Fate::Pass }
    })?;
    let session = plugin("mesh-upgrade")?.through(&interceptor)?;
    let file = session.home().join("manifests.yaml");
    fs::write(&file, canary(&cluster)?)?;
    let file = file.to_string_lossy().into_owned();
    let failed = session.run(["mesh-upgrade", "start", "--revision", "1-28-2", "--yes", "--timeout", "8", "-f", &file])?;
    ensure!(failed.code == Some(5), "{}", failed.transcript());
    for told in ["rollback --to 1-26-0 --from 1-28-2 --remove", "were updated to 1.28.2, and stay so"] {
        ensure!(failed.stderr.contains(told), "{told}: {}", failed.transcript());
    }
    let session = plugin("mesh-upgrade")?.on(&cluster);
    for verb in ["status", "targets"] {
        let shown = session.run(["mesh-upgrade", verb])?;
        for told in ["revision 1-28-2 -n istio-system", "partly installed, ", "complete --remove 1-28-2"] {
            ensure!(shown.stderr.contains(told), "{told}: {}", shown.transcript());
        }
    }
    let back = ["mesh-upgrade", "rollback", "--to", "1-26-0", "--remove"];
    let dry = session.run(back.iter().chain(&["--dry-run"]))?;
    ensure!(dry.code == Some(0), "{}", dry.transcript());
    for told in ["delete configmaps/istio-1-28-2 -n istio-system (dry run)", "Dry run: nothing was changed."] {
        ensure!(dry.stderr.contains(told), "{told}: {}", dry.transcript());
    }
    let done = session.run(back.iter().chain(&["--from", "1-28-2", "--yes"]))?;
    ensure!(done.code == Some(0), "{}", done.transcript());
    unchanged(&nothing, &new_objects(&cluster)?)?;

    // A removal that ends before the access rights.
    cluster.install_objects(&Revision::of(IstioVersion::V1_28_2).by_manifests())?;
    let delete = ["delete", "-n", "istio-system", "deployments.apps,configmaps", "-l", "istio.io/rev=1-28-2"];
    cluster.kubectl(delete)?;
    let shown = session.run(["mesh-upgrade", "status", "-o", "json"])?;
    let document: Value = serde_json::from_str(&shown.stdout)?;
    let findings = document["findings"].as_array().context("findings")?;
    let found = findings.iter().find(|finding| finding["code"] == "partly-here");
    let message = found.and_then(|found| found["message"].as_str()).with_context(|| shown.transcript())?;
    ensure!(message.starts_with("partly removed, "), "{message}");
    let removal = session.run(["mesh-upgrade", "complete", "--remove", "1-28-2", "--dry-run=server"])?;
    let count = removal.stdout.lines().count();
    ensure!(removal.code == Some(0) && message.contains(&format!(", {count} objects left")), "{}", removal.transcript());
    ensure!(removal.stdout.lines().all(|line| line.ends_with(" (server dry run)")), "{}", removal.transcript());
    let done = session.run(["mesh-upgrade", "complete", "--remove", "1-28-2", "--yes"])?;
    ensure!(done.code == Some(0), "{}", done.transcript());
    unchanged(&nothing, &new_objects(&cluster)?)?;
    Ok(())
}
