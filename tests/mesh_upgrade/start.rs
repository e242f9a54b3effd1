//! `mesh-upgrade start`: the new control plane beside the old one, from what Istio's own tools render.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Output, Program, Revision, Session, Workload, plugin};

use crate::dump::Dump;

const NEW: &str = "1-28-2";

/// Everything but what belongs to the new revision, and definitions, which may become newer.
pub fn old_objects(cluster: &Cluster) -> Result<Dump> {
    Ok(Dump::of(cluster)?.only(|key| !key.contains(NEW) && !key.starts_with("CustomResourceDefinition")))
}

/// Fails with what has changed.
pub fn unchanged(before: &Dump, after: &Dump) -> Result<()> {
    let differences = before.differences(after);
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// What `istioctl manifest generate` renders.
fn manifests(cluster: &Cluster, version: IstioVersion, settings: &[&str]) -> Result<String> {
    let words = ["manifest", "generate"].into_iter().chain(settings.iter().flat_map(|setting| ["--set", setting]));
    cluster.istioctl(version, words)
}

/// The new revision, as istioctl renders it.
pub fn canary(cluster: &Cluster) -> Result<String> {
    manifests(cluster, IstioVersion::V1_28_2, &["revision=1-28-2", "profile=minimal"])
}

/// Runs `start`, and the istiod that its objects ask for as soon as they are there: no pod runs anything here.
pub fn start(cluster: &Cluster, session: &Session, words: &[&str]) -> Result<Output> {
    let running = session.start(["mesh-upgrade", "start", "--revision", NEW, "--yes"].iter().chain(words))?;
    cluster.start_istiod_when_installed(&Revision::of(IstioVersion::V1_28_2))?;
    running.finish()
}

fn session_with(cluster: &Cluster, manifests: &str) -> Result<(Session, String)> {
    let session = plugin("mesh-upgrade")?.on(cluster);
    let file = session.home().join("manifests.yaml");
    fs::write(&file, manifests)?;
    Ok((session, file.to_string_lossy().into_owned()))
}

#[test]
fn a_canary_is_started_from_what_istioctl_renders_and_again_is_nothing_to_do() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web"))?;
    let before = old_objects(&cluster)?;
    let (session, file) = session_with(&cluster, &canary(&cluster)?)?;

    let dry = session.run(["mesh-upgrade", "start", "--revision", NEW, "-f", &file, "--dry-run"])?;
    assert_eq!(dry.code, Some(0), "{}", dry.transcript());
    assert!(dry.stdout.contains("create    deployments/istiod-1-28-2 -n istio-system"), "{}", dry.transcript());
    assert!(dry.stdout.contains("left out  serviceaccounts/istio-reader-service-account"), "{}", dry.transcript());
    let asked = session.run(["mesh-upgrade", "start", "--revision", NEW, "-f", &file])?;
    assert_eq!(asked.code, Some(4), "{}", asked.transcript());
    assert_eq!(cluster.api().find("/api/v1/namespaces/istio-system/services/istiod-1-28-2")?, None);

    let done = start(&cluster, &session, &["-f", &file])?;
    assert_eq!(done.code, Some(0), "{}", done.transcript());
    assert!(done.stdout.contains("got its proxy from revision 1-28-2"), "{}", done.transcript());
    let place = |text: &str| done.stdout.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", done.transcript()));
    let order = [
        "created configmaps/istio-1-28-2",
        "created serviceaccounts/istiod-1-28-2",
        "created deployments/istiod-1-28-2",
        "waiting for endpoints",
        "created mutatingwebhookconfigurations.admissionregistration.k8s.io/istio-sidecar-injector-1-28-2",
    ]
    .map(place);
    assert!(order.is_sorted(), "{}", done.transcript());
    unchanged(&before, &old_objects(&cluster)?)?;
    let new = cluster.namespace("new", Follows::Revision(NEW))?;
    new.run(&Workload::deployment("web"))?;
    assert!(new.proxy_images()?.iter().all(|image| image.ends_with(":1.28.2")), "{:?}", new.proxy_images()?);

    let after = Dump::of(&cluster)?;
    let again = session.run(["mesh-upgrade", "start", "--revision", NEW, "-f", &file, "--yes"])?;
    assert_eq!(again.code, Some(0), "{}", again.transcript());
    assert!(!again.stdout.contains("created ") && !again.stdout.contains("updated "), "{}", again.transcript());
    unchanged(&after, &Dump::of(&cluster)?)?;
    Ok(())
}

#[test]
fn a_canary_is_started_beside_an_unrevisioned_mesh_from_what_helm_renders() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(IstioVersion::V1_26_0))?;
    let shop = cluster.namespace("shop", Follows::Injection)?;
    shop.run(&Workload::deployment("web"))?;
    let mesh = "/api/v1/namespaces/istio-system/configmaps/istio";
    let edited =
        cluster.api().get(mesh)?["data"]["mesh"].as_str().unwrap_or_default().to_owned() + "\naccessLogFile: /dev/stdout\n";
    cluster.api().patch(mesh, &json!({"data": {"mesh": edited}}))?;
    let before = old_objects(&cluster)?;
    let charts = IstioVersion::V1_28_2.source()?.join("manifests/charts/istio-control/istio-discovery");
    let charts = charts.to_string_lossy();
    let words = ["template", "istiod-1-28-2", &charts, "-n", "istio-system"];
    let settings =
        ["--set", "revision=1-28-2", "--set", "profile=", "--set", "global.tag=1.28.2", "--set", "global.hub=docker.io/istio"];
    let rendered = cluster.run(Program::Helm, words.into_iter().chain(settings))?;
    let session = plugin("mesh-upgrade")?.on(&cluster).stdin(rendered);
    let done = start(&cluster, &session, &["-f", "-", "--carry-mesh-config", "-o", "json"])?;
    assert_eq!(done.code, Some(0), "{}", done.transcript());
    let events: Vec<Value> = done.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(events.iter().all(|event| event["kind"] == "StartEvent"), "{}", done.transcript());
    let told = events.iter().find(|event| event["type"] == "MeshConfiguration" && event["key"] == "accessLogFile");
    assert!(told.is_some_and(|event| event["message"].to_string().contains("carried over")), "{}", done.transcript());
    let carried = cluster.api().get("/api/v1/namespaces/istio-system/configmaps/istio-1-28-2")?;
    assert!(carried["data"]["mesh"].to_string().contains("accessLogFile: /dev/stdout"), "{carried:#}");
    unchanged(&before, &old_objects(&cluster)?)?;
    Ok(())
}

#[test]
fn what_would_disturb_the_mesh_is_refused_by_name_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let old = Revision::of(IstioVersion::V1_26_0);
    cluster.install(&old)?;
    let labels = json!({"app": "istio-ingressgateway", "istio": "ingressgateway"});
    let container = json!({"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.26.0"});
    cluster.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "istio-ingressgateway", "namespace": "istio-system", "labels": {"istio.io/rev": "1-26-0"}},
        "spec": {"selector": {"matchLabels": labels}, "replicas": 0, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }))?;
    cluster.set_tag("prod", &old)?;
    let before = Dump::of(&cluster)?;
    let canary = canary(&cluster)?;
    let new = IstioVersion::V1_28_2;
    let gateway = manifests(&cluster, new, &["revision=1-28-2"])?;
    let of_tag = manifests(&cluster, new, &["revision=prod", "profile=minimal"])?;
    let unrevisioned = manifests(&cluster, new, &["profile=minimal"])?;
    let other_trust = manifests(
        &cluster,
        new,
        &["revision=1-28-2", "profile=minimal", "meshConfig.trustDomain=example.com", "values.global.meshID=other"],
    )?;
    let two = format!("{canary}\n---\n{}", manifests(&cluster, IstioVersion::V1_26_0, &["revision=1-26-0", "profile=minimal"])?);
    let in_place = manifests(&cluster, new, &["revision=1-26-0", "profile=minimal"])?;
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        ("1-28-2", &gateway, "a gateway", &["deployments/istio-ingressgateway -n istio-system: it belongs to revision 1-26-0"]),
        ("prod", &of_tag, "a tag's name", &["tag prod: a tag has this name"]),
        (
            "1-28-2",
            &unrevisioned,
            "no revision",
            &["ConfigMap istio -n istio-system (document ", "it belongs to revision default, not 1-28-2"],
        ),
        ("1-28-2", &other_trust, "another trust domain", &["trustDomain is \"example.com\"", "global.meshID is \"other\""]),
        (
            "1-28-2",
            &two,
            "two revisions",
            &["Deployment istiod-1-26-0 -n istio-system", "it belongs to revision 1-26-0, not 1-28-2"],
        ),
        ("1-26-0", &in_place, "in place", &["revision 1-26-0: it runs here already, in version 1.26.0"]),
        ("1-28-2", "profile: minimal\n", "no Kubernetes", &["document 1, line 1: it is no object of Kubernetes"]),
        ("1-28-2", "a: [\n", "no YAML", &["it is no YAML"]),
        ("1-28-2", "", "nothing", &["no Deployment istiod-1-28-2 is in them"]),
    ];
    for (revision, manifests, what, told) in cases {
        let (session, file) = session_with(&cluster, manifests)?;
        let output = session.run(["mesh-upgrade", "start", "--revision", revision, "-f", &file, "--yes"])?;
        assert_eq!(output.code, Some(4), "{what}: {}", output.transcript());
        for text in told {
            assert!(output.stderr.contains(text), "{what}: no {text:?} in {}", output.transcript());
        }
    }
    unchanged(&before, &Dump::of(&cluster)?)?;
    what_precheck_forbids_is_refused(&cluster, &canary)
}

/// Definitions that are newer, and too many minor versions at once: a refusal by the finding's code, which alone goes on all the same.
fn what_precheck_forbids_is_refused(cluster: &Cluster, canary: &str) -> Result<()> {
    cluster.kubectl(["label", "customresourcedefinitions", "--all", "operator.istio.io/version=1.31.0", "--overwrite"])?;
    let istiod = "discovery=docker.io/istio/pilot:1.24.0";
    cluster.kubectl(["-n", "istio-system", "set", "image", "deployment/istiod-1-26-0", istiod])?;
    let (session, file) = session_with(cluster, canary)?;
    let start =
        |flags: &[&str]| session.run(["mesh-upgrade", "start", "--revision", NEW, "-f", &file, "--dry-run"].iter().chain(flags));
    let refused = start(&[])?;
    assert_eq!(refused.code, Some(4), "{}", refused.transcript());
    for told in [
        "skew-too-far: revision 1-26-0 runs: 4 minor versions above 1.24.0: at most 2 at once",
        "crd-newer: 14 CustomResourceDefinitions here are newer than these, the newest of Istio 1.31.0",
        "istioctl manifest generate --set components.base.enabled=false",
    ] {
        assert_eq!(refused.stderr.matches(told).count(), 1, "{told:?} in {}", refused.transcript());
    }
    let half = start(&["--ignore-precheck", "crd-newer"])?;
    assert!(half.code == Some(4) && !half.stderr.contains("crd-newer"), "{}", half.transcript());
    let ignored = start(&["--ignore-precheck", "crd-newer,skew-too-far"])?;
    assert_eq!(ignored.code, Some(0), "{}", ignored.transcript());
    assert!(!ignored.stdout.contains("update    customresourcedefinitions"), "{}", ignored.transcript());
    let mistyped = start(&["--ignore-precheck", "skew-to-far"])?;
    assert!(mistyped.code == Some(2) && mistyped.stderr.contains("did you mean skew-too-far?"), "{}", mistyped.transcript());
    let precheck = session.run(["mesh-upgrade", "precheck", "--to", NEW])?;
    assert!(precheck.code == Some(4) && precheck.stderr.contains("(crd-newer)"), "{}", precheck.transcript());
    Ok(())
}
