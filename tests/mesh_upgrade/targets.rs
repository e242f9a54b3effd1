//! `mesh-upgrade targets`: the revisions that are here, and what may come next.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload, plugin};

use crate::status::uninstall;

fn document(session: &Session) -> Result<Value> {
    session.run(["mesh-upgrade", "targets", "-o", "json"])?.json()
}

fn item(document: &Value, revision: &str) -> Result<Value> {
    let mut items = document["items"].as_array().into_iter().flatten();
    items.find(|item| item["revision"] == revision).cloned().with_context(|| format!("no {revision} in {document:#}"))
}

#[test]
fn revisions_are_told_with_what_may_follow_them() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(IstioVersion::V1_28_2).by_helm());
    cluster.install(&old)?;
    cluster.install(&new)?;
    cluster.set_tag("prod-stable", &old)?;
    let shop = cluster.namespace("shop", Follows::Revision("prod-stable"))?;
    shop.run(&Workload::deployment("web").replicas(3))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);

    let report = document(&session)?;
    assert_eq!((&report["kind"], &report["kubernetes"]), (&json!("UpgradeTargets"), &json!("1.35")), "{report:#}");
    let stable = item(&report, "1-26-0")?;
    let facts = ["version", "readiness", "proxies", "owner", "platform", "namespace"].map(|key| stable[key].clone());
    assert_eq!(
        facts,
        [json!("1.26.0"), json!("ready"), json!(3), json!("istioctl install"), json!("istio"), json!("istio-system")]
    );
    assert!(stable["tags"].as_array().is_some_and(|tags| tags.contains(&json!("prod-stable"))), "{stable:#}");
    assert_eq!(stable["endOfSupport"], json!({"date": "2025-12-22", "isExpected": false, "source": "support-status"}));
    assert!(stable["created"].as_str().is_some_and(|created| created.ends_with('Z')), "{stable:#}");
    let next: Vec<[&Value; 3]> =
        stable["next"].as_array().into_iter().flatten().map(|next| [&next["version"], &next["minors"], &next["here"]]).collect();
    assert_eq!(next, [[&json!("1.27"), &json!(1), &json!([])], [&json!("1.28"), &json!(2), &json!(["1-28-2"])]]);
    let canary = item(&report, "1-28-2")?;
    assert_eq!(canary["owner"], "Helm release istiod-1-28-2 in namespace istio-system");
    // Equal clusters give equal bytes.
    assert_eq!(document(&session)?, report);

    let table = session.run(["mesh-upgrade", "targets"])?;
    assert_eq!(table.code, Some(0), "{}", table.transcript());
    let header = "REVISION   VERSION   READY   AGE";
    assert!(table.stdout.starts_with(header), "{}", table.transcript());
    assert!(table.stderr.contains("Next: kubectl mesh-upgrade precheck --to 1-28-2"), "{}", table.transcript());
    let yaml = session.run(["mesh-upgrade", "targets", "-o", "yaml"])?;
    assert!(yaml.stdout.contains("kind: UpgradeTargets"), "{}", yaml.transcript());
    Ok(())
}

#[test]
fn a_revision_that_only_proxies_remember_is_told_as_gone() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let old = Revision::of(IstioVersion::V1_26_0);
    cluster.install(&old)?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    cluster.namespace("shop", Follows::Revision("1-26-0"))?.run(&Workload::deployment("web").replicas(2))?;
    uninstall(&cluster, &old)?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let gone = item(&document(&session)?, "1-26-0")?;
    assert_eq!([&gone["readiness"], &gone["proxies"], &gone["next"]], [&json!("gone"), &json!(2), &json!([])], "{gone:#}");
    Ok(())
}

#[test]
fn a_cluster_without_a_mesh_says_so() -> Result<()> {
    let cluster = Cluster::start(&Options { gateway_api: false, ..Options::default() })?;
    let output = plugin("mesh-upgrade")?.on(&cluster).run(["mesh-upgrade", "targets"])?;
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{}", output.transcript());
    assert!(output.stderr.contains("No mesh here"), "{}", output.transcript());
    Ok(())
}

#[test]
fn an_add_on_of_azure_is_recognised_and_sent_to_az() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::new("asm-1-26", IstioVersion::V1_26_0).namespace("aks-istio-system"))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let report = document(&session)?;
    let add_on = item(&report, "asm-1-26")?;
    assert_eq!(add_on["platform"], "aks", "{add_on:#}");
    assert!(add_on["next"][0]["notes"].to_string().contains("az aks mesh get-upgrades"), "{add_on:#}");
    let refused = session.run(["mesh-upgrade", "precheck", "--to", "asm-1-28"])?;
    assert_eq!(refused.code, Some(4), "{}", refused.transcript());
    assert!(refused.stderr.contains("az aks mesh upgrade start"), "{}", refused.transcript());
    Ok(())
}
