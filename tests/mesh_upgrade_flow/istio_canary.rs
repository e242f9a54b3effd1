//! Istio's own page "Canary Upgrades", step by step with these commands; at each step, what the page promises.

use anyhow::{Result, ensure};
use serde_json::Value;
use support::{IstioVersion, Revision};

use crate::world::{Following, NEW, World};

fn names(world: &World, path: &str) -> Result<Vec<String>> {
    let list = world.cluster.api().get(path)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

#[test]
fn the_page_canary_upgrades_step_by_step() -> Result<()> {
    let world = World::new(&Revision::unrevisioned(IstioVersion::V1_26_0), Following::Injection, 2, 3)?;
    let (namespace, other) = (world.namespaces[0].as_str(), world.namespaces[1].as_str());
    // "Before you upgrade": the check names what is in the way, or nothing.
    let precheck = world.session.run(["mesh-upgrade", "precheck", "--to", "1.28.2"])?;
    ensure!(matches!(precheck.code, Some(0 | 4)), "{}", precheck.transcript());

    // "Control plane": two control planes side by side, two injectors, and no sidecar has changed.
    world.start()?;
    let deployments = names(&world, "/apis/apps/v1/namespaces/istio-system/deployments?labelSelector=app%3Distiod")?;
    ensure!(deployments == ["istiod", "istiod-1-28-2"], "{deployments:?}");
    let services = names(&world, "/api/v1/namespaces/istio-system/services?labelSelector=app%3Distiod")?;
    ensure!(services.iter().filter(|name| !name.contains("tag")).eq(["istiod", "istiod-1-28-2"]), "{services:?}");
    let webhooks = names(&world, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations")?;
    ensure!(webhooks.iter().any(|name| name == "istio-sidecar-injector-1-28-2"), "{webhooks:?}");
    world.all_run("default")?;

    // "Data plane": the label istio-injection goes, istio.io/rev comes, in one step; then the pods are restarted.
    world.run(&["mesh-tag", "attach", NEW, namespace])?;
    let labels = world.cluster.api().get(&format!("/api/v1/namespaces/{namespace}"))?["metadata"]["labels"].clone();
    ensure!(labels["istio.io/rev"] == NEW && labels["istio-injection"].is_null(), "{labels}");
    world.run(&["mesh-upgrade", "restart", "-n", namespace, "--yes"])?;
    ensure!(world.revisions(namespace)?.iter().eq([NEW]), "the pods are of the new revision");
    ensure!(world.revisions(other)?.iter().eq(["default"]), "and others are not");
    // The page asks `proxy-status` for one pod; here every workload is told.
    let report = world.run(&["mesh-proxyver", "-n", namespace, "-o", "json"])?.json()?;
    let items = report["items"].as_array().cloned().unwrap_or_default();
    ensure!(items.len() == 3 && items.iter().all(|item| item["state"] == "current"), "{report}");

    // "Stable revision labels": prod points to the old revision, canary to the new one; then prod moves.
    world.run(&["mesh-tag", "set", "prod", "--revision", "default", "--yes"])?;
    world.run(&["mesh-tag", "set", "canary", "--revision", NEW, "--yes"])?;
    world.run(&["mesh-tag", "attach", "prod", other])?;
    let still = world.run(&["mesh-proxyver", "-n", other, "--stale", "-o", "name"])?;
    ensure!(still.stdout.is_empty(), "a tag for the same revision makes nothing stale: {}", still.transcript());
    world.run(&["mesh-tag", "set", "prod", "--revision", NEW, "--from", "default", "--yes"])?;
    let stale = world.run(&["mesh-proxyver", "-n", other, "--stale", "-o", "name"])?;
    ensure!(stale.stdout.lines().count() == 3, "{}", stale.transcript());
    world.run(&["mesh-upgrade", "restart", "-n", other, "--yes"])?;
    world.all_run(NEW)?;

    // "Uninstall old control plane": the page's command leaves the default tag and validator without anybody behind them; here
    // they have to move first.
    let refused = world.session.run(["mesh-upgrade", "complete", "--remove", "default", "--yes"])?;
    ensure!(refused.code == Some(4) && refused.stderr.contains("istiod-default-validator"), "{}", refused.transcript());
    world.run(&["mesh-tag", "set", "default", "--revision", NEW, "--overwrite", "--yes"])?;
    world.run(&["mesh-upgrade", "complete", "--remove", "default", "--yes"])?;
    let deployments = names(&world, "/apis/apps/v1/namespaces/istio-system/deployments?labelSelector=app%3Distiod")?;
    ensure!(deployments == ["istiod-1-28-2"], "{deployments:?}");
    // Shared resources stay, as the page says.
    let definitions = names(&world, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")?;
    ensure!(definitions.iter().any(|name| name == "virtualservices.networking.istio.io"), "{definitions:?}");
    let reader: Value =
        world.cluster.api().get("/api/v1/namespaces/istio-system/serviceaccounts/istio-reader-service-account")?;
    ensure!(reader["metadata"]["name"] == "istio-reader-service-account", "{reader}");
    Ok(())
}
