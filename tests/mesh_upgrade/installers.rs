//! What installers do besides the revision: it is known before, shown, and taken back by a rollback.

use anyhow::{Result, ensure};
use serde_json::json;
use support::{Cluster, Follows, IstioVersion, Options, Revision, Workload, plugin};

use crate::dump::Dump;
use crate::start::{old_objects, start, unchanged};

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

/// What is not of the new revision, but for the account that all share, on which istioctl notes who installed last.
fn others(cluster: &Cluster) -> Result<Dump> {
    Ok(old_objects(cluster)?.only(|key| !key.ends_with(" istio-reader-service-account")))
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
    Ok(())
}
