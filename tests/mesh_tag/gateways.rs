//! Gateways of the Gateway API follow tags too, and are replaced as soon as their tag moves.

use anyhow::Result;
use serde_json::json;
use support::{Cluster, Follows, IstioVersion, Options, Output, Revision, plugin, transcript};

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

#[test]
fn gateways_that_a_move_would_replace_are_named_first() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    let session = plugin("mesh-tag")?.on(&cluster);
    let run = |words: &[&str]| session.run(["mesh-tag"].iter().chain(words));
    run(&["set", "edge", "--revision", "1-26-0", "--yes"])?;
    let shop = cluster.namespace("edge", Follows::Nothing)?;
    shop.gateway("public", "istio", json!({"istio.io/rev": "edge"}))?;
    let meshed = cluster.namespace("meshed", Follows::Revision("edge"))?;
    meshed.gateway("inner", "istio", json!({}))?;
    // Somebody else's gateway is nobody's business here.
    let foreign = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "foreign"},
        "spec": {"gatewayClassName": "example", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    });
    meshed.apply(foreign)?;
    check("gateways_list", &run(&["list"])?);
    check("gateways_refused", &run(&["set", "edge", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?);
    check(
        "gateways_accepted",
        &run(&["set", "edge", "--revision", "1-28-2", "--from", "1-26-0", "--yes", "--accept-gateway-restart"])?,
    );
    cluster.wait("istiod to replace the gateway", std::time::Duration::from_secs(30), || {
        let deployment = cluster.api().get("/apis/apps/v1/namespaces/edge/deployments/public-istio")?;
        Ok((deployment["spec"]["template"]["metadata"]["annotations"]["istio.io/rev"] == "1-28-2").then_some(()))
    })?;
    check("gateways_remove_refused", &run(&["remove", "edge", "--yes"])?);
    Ok(())
}
