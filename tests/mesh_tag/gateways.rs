//! Gateways of the Gateway API follow tags too, and are replaced as soon as their tag moves.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use support::{Cluster, Follows, IstioVersion, Options, Output, Revision, Session, plugins, transcript};

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

#[test]
fn gateways_that_a_move_would_replace_are_named_first() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    let session = plugins(&["mesh-tag", "mesh-upgrade"])?.on(&cluster);
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
    is_made_by(&cluster, "edge", "public", "1-28-2")?;
    check("gateways_remove_refused", &run(&["remove", "edge", "--yes"])?);
    default_ones(&cluster, &session)?;
    in_namespaces(&cluster, &session)
}

/// Waits until istiod of this revision has made a Gateway.
fn is_made_by(cluster: &Cluster, namespace: &str, gateway: &str, revision: &str) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{gateway}-istio");
    cluster.wait("istiod to make the gateway", Duration::from_secs(30), || {
        let Ok(deployment) = cluster.api().get(&path) else { return Ok(None) };
        Ok((deployment["spec"]["template"]["metadata"]["annotations"]["istio.io/rev"] == revision).then_some(()))
    })
}

fn refused(session: &Session, words: &[&str], told: &[&str]) -> Result<()> {
    let output = session.run(words)?;
    ensure!(output.code == Some(4), "{}", output.transcript());
    for word in told {
        ensure!(output.stderr.contains(word), "{word} is missing: {}", output.transcript());
    }
    Ok(())
}

fn succeeds(session: &Session, words: &[&str]) -> Result<()> {
    let output = session.run(words)?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(())
}

/// Gateways that name nothing follow the tag `default`: it does not go from under them, nor come over them unasked.
fn default_ones(cluster: &Cluster, session: &Session) -> Result<()> {
    let old = IstioVersion::V1_26_0;
    cluster.istioctl(old, ["tag", "set", "default", "--revision", "1-26-0", "--overwrite", "-y"])?;
    let plain = cluster.namespace("plain", Follows::Nothing)?;
    plain.gateway("plain", "istio", json!({}))?;
    let empty = cluster.namespace("empty", Follows::Revision("1-28-2"))?;
    empty.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "empty", "labels": {"istio.io/rev": ""}},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
    }))?;
    is_made_by(cluster, "plain", "plain", "1-26-0")?;
    refused(
        session,
        &["mesh-tag", "remove", "default", "--yes"],
        &["gateway/plain -n plain", "gateway/empty -n empty", "istio.io/rev=REVISION"],
    )?;

    cluster.istioctl(old, ["tag", "remove", "default", "-y"])?;
    cluster.api().delete("/api/v1/namespaces/istio-system/services/istiod-revision-tag-default").ok();
    for dry in [&["--yes"][..], &["--dry-run"], &["--dry-run=server"]] {
        let set = ["mesh-tag", "set", "default", "--revision", "1-28-2"];
        refused(session, &[&set, dry].concat(), &["plain/plain", "--accept-gateway-restart"])?;
    }
    is_made_by(cluster, "plain", "plain", "1-26-0")?;
    succeeds(session, &["mesh-tag", "set", "default", "--revision", "1-26-0", "--yes", "--accept-gateway-restart"])?;
    refused(session, &["mesh-tag", "undo", "default", "--yes", "--accept-gateway-restart"], &["gateway/plain -n plain"])
}

/// What a namespace names counts for the Gateways in it that name nothing themselves.
fn in_namespaces(cluster: &Cluster, session: &Session) -> Result<()> {
    refused(session, &["mesh-tag", "attach", "1-28-2", "plain"], &["plain/plain", "--accept-gateway-restart"])?;
    succeeds(session, &["mesh-tag", "attach", "1-28-2", "plain", "--accept-gateway-restart"])?;
    is_made_by(cluster, "plain", "plain", "1-28-2")?;
    refused(session, &["mesh-tag", "detach", "plain"], &["plain/plain"])?;
    succeeds(session, &["mesh-tag", "set", "edge", "--revision", "1-26-0", "--overwrite", "--yes", "--accept-gateway-restart"])?;
    refused(session, &["mesh-upgrade", "rollback", "--to", "1-26-0", "--yes"], &["plain/plain"])?;
    // Without a default revision they would be nobody's, whoever consents.
    cluster.istioctl(IstioVersion::V1_26_0, ["tag", "remove", "default", "-y"])?;
    refused(session, &["mesh-tag", "detach", "plain", "--accept-gateway-restart"], &["gateway/plain -n plain", "no revision"])?;
    // A control plane that is to come finds Gateways that name it.
    plain_label(cluster, "next")?;
    let file = session.home().join("next.yaml");
    std::fs::write(&file, Revision::new("next", IstioVersion::V1_28_2).manifests(cluster)?)?;
    let file = file.to_string_lossy();
    let start = ["mesh-upgrade", "start", "--revision", "next", "--dry-run", "-f", &file];
    refused(session, &start, &["plain/plain", "--accept-gateway-restart"])?;
    succeeds(session, &[&start[..], &["--accept-gateway-restart"]].concat())
}

fn plain_label(cluster: &Cluster, revision: &str) -> Result<()> {
    let path = "/apis/gateway.networking.k8s.io/v1/namespaces/plain/gateways/plain";
    cluster.api().patch(path, &json!({"metadata": {"labels": {"istio.io/rev": revision}}}))?;
    Ok(())
}
