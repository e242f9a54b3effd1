//! Proxies of every sort, and owners of every kind, one by one.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload, plugin};

/// The item of a workload in the report of everything.
fn item(session: &Session, namespace: &str, name: &str) -> Result<Value> {
    let output = session.run(["mesh-proxyver", "-n", namespace, "-o", "json"])?;
    let report = output.json()?;
    let mut items = report["items"].as_array().into_iter().flatten();
    let item = items.find(|item| item["workload"]["name"] == name);
    item.cloned().with_context(|| format!("{name} is not listed: {}", output.transcript()))
}

#[test]
fn ambient_proxies_are_told_apart() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(IstioVersion::V1_28_2).profile("ambient"))?;
    let ambient = cluster.namespace("ambient", Follows::Labels(json!({"istio.io/dataplane-mode": "ambient"})))?;
    ambient.gateway("waypoint", "istio-waypoint", json!({}))?;
    let session = plugin("mesh-proxyver")?.on(&cluster);
    let waypoint = item(&session, "ambient", "waypoint")?;
    assert_eq!((&waypoint["proxyType"], &waypoint["state"]), (&json!("waypoint"), &json!("current")), "{waypoint:#}");
    let ztunnel = item(&session, "istio-system", "ztunnel")?;
    assert_eq!((&ztunnel["proxyType"], &ztunnel["state"]), (&json!("ztunnel"), &json!("current")), "{ztunnel:#}");
    assert_eq!(ztunnel["running"][0]["version"], "1.28.2");
    Ok(())
}

#[test]
fn a_gateway_that_istiod_makes_is_never_to_be_restarted() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(IstioVersion::V1_28_2));
    cluster.install(&old)?;
    cluster.install(&new)?;
    cluster.set_tag("edge-tag", &old)?;
    let gates = cluster.namespace("gates", Follows::Nothing)?;
    gates.gateway("front", "istio", json!({"istio.io/rev": "edge-tag"}))?;
    let session = plugin("mesh-proxyver")?.on(&cluster);
    let before = item(&session, "gates", "front-istio")?;
    assert_eq!((&before["state"], &before["wanted"]["tag"]), (&json!("current"), &json!("edge-tag")), "{before:#}");
    // With its istiod gone it can follow nobody, and no restart helps.
    cluster.uninstall(&old)?;
    let stranded = item(&session, "gates", "front-istio")?;
    assert_eq!((&stranded["state"], &stranded["proxyType"]), (&json!("blocked"), &json!("gateway-api")), "{stranded:#}");
    assert_eq!(stranded["reasons"], json!(["no-control-plane", "owner"]));
    let refs = session.run(["mesh-proxyver", "-n", "gates", "-o", "refs"])?;
    assert_eq!(refs.stdout, "", "{}", refs.transcript());
    // When the tag moves, the new istiod makes the Deployment anew, and its pods roll by themselves.
    cluster.set_tag("edge-tag", &new)?;
    cluster.wait("the gateway to follow its tag", Duration::from_secs(30), || {
        let after = item(&session, "gates", "front-istio")?;
        Ok((after["state"] == "current" && after["running"][0]["version"] == "1.28.2").then_some(()))
    })
}

#[test]
fn owners_that_nobody_knows_are_blocked_and_named() -> Result<()> {
    let cluster = Cluster::shared()?;
    let owned = cluster.namespace("owned", Follows::Revision("1-26-0"))?;
    let owner = owned.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}))?;
    let mut pod = Workload::pod("member").manifest();
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": "PodGang", "name": "gang",
        "uid": owner["metadata"]["uid"], "controller": true}]);
    owned.apply(pod)?;
    cluster.api().patch("/api/v1/namespaces/owned", &json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}}))?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    let report = session.run(["mesh-proxyver", "-n", "owned", "-o", "json"])?.json()?;
    let item = &report["items"][0];
    assert_eq!((&item["workload"]["kind"], &item["state"]), (&json!("PodGang"), &json!("blocked")), "{report:#}");
    // The owner is the workload itself: it is not sent to itself, and how it brings new pods is its documentation's to say.
    let advice = "bring new pods in the way that is documented for podgang.example.com/gang: how a PodGang replaces them is not known here";
    assert_eq!(item["advice"], advice);
    Ok(())
}

#[test]
fn a_gateway_with_a_fixed_image_is_pinned() -> Result<()> {
    let cluster = Cluster::shared()?;
    let fixed = cluster.namespace("fixed", Follows::Revision("1-28-2"))?;
    let gateway = Workload::deployment("component")
        .pod_labels(json!({"sidecar.istio.io/inject": "false", "operator.istio.io/component": "IngressGateways"}))
        .pod_annotations(json!({"istio.io/rev": "1-26-0"}))
        .containers(json!([{"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.26.0"}]));
    fixed.run(&gateway)?;
    let item = item(&plugin("mesh-proxyver")?.on(cluster), "fixed", "component")?;
    assert_eq!((&item["state"], &item["proxyType"]), (&json!("pinned"), &json!("gateway")), "{item:#}");
    Ok(())
}

#[test]
fn a_control_plane_in_another_namespace_and_registry_is_found() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let revision = Revision::new("asm-1-28", IstioVersion::V1_28_2)
        .namespace("aks-istio-system")
        .set("hub=mcr.microsoft.com/oss/istio")
        .set("tag=1.28.2-distroless");
    cluster.install(&revision)?;
    let shop = cluster.namespace("shop", Follows::Revision("asm-1-28"))?;
    shop.run(&Workload::deployment("web"))?;
    let item = item(&plugin("mesh-proxyver")?.on(&cluster), "shop", "web")?;
    assert_eq!(item["state"], "current", "{item:#}");
    assert_eq!(item["wanted"]["image"], "mcr.microsoft.com/oss/istio/proxyv2:1.28.2-distroless");
    Ok(())
}

#[test]
fn pods_are_rows_when_asked_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let single = cluster.namespace("single", Follows::Revision("1-28-2"))?;
    single.run(&Workload::stateful_set("db").replicas(2))?;
    single.run(&Workload::deployment("web"))?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    let by_pod = session.run(["mesh-proxyver", "-n", "single", "--by", "pod", "-o", "json"])?.json()?;
    assert_eq!(by_pod["items"].as_array().map(Vec::len), Some(3), "{by_pod:#}");
    let one = session.run(["mesh-proxyver", "pod/db-1", "-n", "single", "-o", "json"])?.json()?;
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1), "{one:#}");
    assert_eq!((&one["items"][0]["pod"], &one["items"][0]["running"][0]["count"]), (&json!("db-1"), &json!(1)));
    let by_label = session.run(["mesh-proxyver", "-n", "single", "-l", "app=web", "-o", "name"])?;
    assert_eq!(by_label.stdout, "deployment.apps/web\n", "{}", by_label.transcript());
    Ok(())
}

#[test]
fn a_probe_asks_the_api_server_and_its_answer_counts() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_28_2))?;
    // A bare pod carries what an injection has added, which is no pod that somebody would create.
    let alone = cluster.namespace("alone", Follows::Revision("1-28-2"))?;
    alone.run(&Workload::pod("debug"))?;
    alone.run(&Workload::pod("native").pod_annotations(json!({"sidecar.istio.io/nativeSidecar": "true"})))?;
    let pods = plugin("mesh-proxyver")?.on(&cluster).run(["mesh-proxyver", "-n", "alone", "--probe=all", "-o", "json"])?;
    let report = pods.json()?;
    assert_eq!(report["findings"], json!([]), "{}", pods.transcript());
    for item in report["items"].as_array().context("a report has items")? {
        assert_eq!((&item["state"], &item["wanted"]["revision"]), (&json!("current"), &json!("1-28-2")), "{}", pods.transcript());
    }
    assert!(!pods.stdout.contains("no-injector"), "{}", pods.transcript());
    let doubt = cluster.namespace("doubt", Follows::Revision("1-28-2"))?;
    doubt.run(&Workload::deployment("web"))?;
    doubt.run(&Workload::deployment("api"))?;
    // A condition in CEL that nobody evaluates here makes both unknown.
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector-1-28-2";
    let mut configuration = cluster.api().get(path)?;
    for webhook in configuration["webhooks"].as_array_mut().context("a configuration has webhooks")? {
        webhook["matchConditions"] = json!([{"name": "web", "expression": "object.metadata.labels.app == 'web'"}]);
    }
    cluster.api().patch(path, &json!({"webhooks": configuration["webhooks"]}))?;
    let session = plugin("mesh-proxyver")?.on(&cluster);
    assert_eq!(item(&session, "doubt", "web")?["reasons"], json!(["match-conditions"]));
    let probed = |flag: &str| -> Result<Vec<Value>> {
        let report = session.run(["mesh-proxyver", "-n", "doubt", flag, "-o", "json"])?.json()?;
        let items = report["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().map(|item| json!([item["workload"]["name"], item["state"]])).collect())
    };
    // The API server takes a moment to compile a condition.
    cluster.wait("the condition to hold", Duration::from_secs(20), || {
        Ok((probed("--probe")? == [json!(["api", "leaving"]), json!(["web", "current"])]).then_some(()))
    })?;
    // A bound on the number of probes leaves the rest as it was.
    assert_eq!(probed("--probe=1")?.iter().filter(|pair| pair[1] == "unknown").count(), 1);
    Ok(())
}
