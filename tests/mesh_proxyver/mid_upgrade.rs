//! A whole cluster in the middle of a canary upgrade, with everything in it that makes such a moment hard to see through.
//!
//! The snapshot `tests/snapshots/mid-upgrade.json`, which the README shows, is made here by `--save`:
//! `MESH_UPDATE_SNAPSHOTS=1 tests/run --test mesh_proxyver mid_upgrade` writes it anew.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload, plugin};

use crate::snapshots::check;

const OLD: IstioVersion = IstioVersion::V1_26_0;
const NEW: IstioVersion = IstioVersion::V1_28_2;

/// Revisions 1-26-0 and 1-28-2, `edge` upgraded in place, `1-25-9` removed; the tag `prod-stable` moved to 1-28-2, `prod-old`
/// left pointing to what is gone.
fn build(cluster: &Cluster) -> Result<()> {
    cluster.install_argo_rollouts()?;
    let (old, new) = (Revision::of(OLD), Revision::of(NEW));
    let removed = Revision::new("1-25-9", OLD);
    let edge = Revision::new("edge", OLD);
    for revision in [&old, &new, &removed, &edge] {
        cluster.install(revision)?;
    }
    for (tag, revision) in [("prod-stable", &old), ("prod-canary", &new), ("prod-old", &removed)] {
        cluster.set_tag(tag, revision)?;
    }
    follow_tags(cluster)?;
    gateways(cluster)?;
    odd_ones(cluster)?;

    // The upgrade so far.
    cluster.set_tag("prod-stable", &new)?;
    cluster.install(&Revision::new("edge", NEW))?;
    cluster.uninstall(&removed)?;
    relabel(cluster, "orphans", json!({"istio.io/rev": "prod-canary"}))?;
    relabel(cluster, "left", json!({"istio.io/rev": null}))?;
    relabel(cluster, "joining", json!({"istio.io/rev": "prod-stable"}))?;

    let pay = cluster.namespace("pay", Follows::Revision("prod-canary"))?;
    pay.run(&Workload::deployment("ledger").replicas(2).pod_annotations(json!({"sidecar.istio.io/nativeSidecar": "true"})))?;
    let shop = cluster.namespace("shop", Follows::Revision("prod-stable"))?;
    shop.run(&Workload::deployment("search").replicas(2))?;
    // Half of its pods are new: the roll-out waits for a pod that never gets ready.
    let half = Workload::deployment("checkout")
        .replicas(3)
        .spec(json!({"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}));
    shop.create(&half.never_ready())?;
    cluster.wait("the new pod of checkout", std::time::Duration::from_secs(30), || {
        let images = shop.proxy_images()?;
        let is_there = shop.pods()?.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "checkout").count() == 4;
        Ok((is_there && !images.is_empty()).then_some(()))
    })
}

/// One workload of every kind, behind a tag that is about to move.
fn follow_tags(cluster: &Cluster) -> Result<()> {
    let shop = cluster.namespace("shop", Follows::Revision("prod-stable"))?;
    shop.run(&Workload::deployment("web").replicas(3))?;
    shop.run(&Workload::deployment("checkout").replicas(3))?;
    shop.run(&Workload::stateful_set("db").replicas(2))?;
    shop.run(&Workload::stateful_set("queue").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}})))?;
    shop.run(&Workload::daemon_set("agent"))?;
    shop.run(&Workload::replica_set("legacy").replicas(2))?;
    shop.run(&Workload::rollout("cart").replicas(2))?;
    shop.run(&Workload::job("import"))?;
    shop.run(&Workload::pod("debug"))?;
    shop.run(&Workload::deployment("reports").replicas(0))?;
    shop.run(&Workload::deployment("frozen"))?;
    shop.run(&Workload::deployment("frozen").spec(json!({"paused": true})))?;
    let pinned = json!({"sidecar.istio.io/proxyImage": "docker.io/istio/proxyv2:1.26.0"});
    shop.run(&Workload::deployment("pinned").pod_annotations(pinned))?;
    let native = json!({"sidecar.istio.io/nativeSidecar": "true"});
    shop.run(&Workload::deployment("stream").replicas(2).pod_annotations(native))?;
    shop.run(&Workload::deployment("outside").pod_labels(json!({"sidecar.istio.io/inject": "false"})))?;

    let steady = cluster.namespace("steady", Follows::Revision("1-26-0"))?;
    steady.run(&Workload::deployment("billing").replicas(2))?;
    let edge = cluster.namespace("edge", Follows::Revision("edge"))?;
    edge.run(&Workload::deployment("api").replicas(2))?;
    let orphans = cluster.namespace("orphans", Follows::Revision("1-25-9"))?;
    orphans.run(&Workload::deployment("mail").replicas(2))?;
    let stranded = cluster.namespace("stranded", Follows::Revision("prod-old"))?;
    stranded.run(&Workload::deployment("fax"))?;
    let left = cluster.namespace("left", Follows::Revision("1-26-0"))?;
    left.run(&Workload::deployment("batch"))?;
    let joining = cluster.namespace("joining", Follows::Nothing)?;
    joining.run(&Workload::deployment("blog"))
}

fn gateways(cluster: &Cluster) -> Result<()> {
    let ingress = cluster.namespace("ingress", Follows::Revision("prod-stable"))?;
    ingress.run(&Workload::deployment("public").replicas(2).injected_gateway())?;
    ingress.gateway("internal", "istio", json!({"istio.io/rev": "1-26-0"}))
}

/// What no webhook brings: the output of `istioctl kube-inject`.
fn odd_ones(cluster: &Cluster) -> Result<()> {
    let byhand = cluster.namespace("byhand", Follows::Nothing)?;
    let mut manifest = Workload::deployment("printer").manifest();
    manifest["metadata"]["namespace"] = json!(byhand.name());
    // With the configuration in files istioctl needs no way into istiod's pod.
    let data = |name: &str| cluster.api().get(&format!("/api/v1/namespaces/istio-system/configmaps/{name}"));
    let (injector, mesh) = (data("istio-sidecar-injector-1-26-0")?, data("istio-1-26-0")?);
    let file = |name: &str, content: &str| -> Result<String> {
        let path = cluster.folder().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    };
    let text = |map: &serde_json::Value, key: &str| map["data"][key].as_str().unwrap_or_default().to_owned();
    let files = [
        ("-f", file("printer.json", &manifest.to_string())?),
        ("--injectConfigFile", file("inject.yaml", &text(&injector, "config"))?),
        ("--valuesFile", file("values.json", &text(&injector, "values"))?),
        ("--meshConfigFile", file("mesh.yaml", &text(&mesh, "mesh"))?),
    ];
    let flags = files.iter().flat_map(|(flag, file)| [*flag, file.as_str()]);
    let injected = cluster.istioctl(OLD, ["kube-inject", "--revision", "1-26-0"].into_iter().chain(flags))?;
    let injected = file("printer.yaml", &injected)?;
    cluster.kubectl(["apply", "-f", injected.as_str()])?;
    byhand.wait_until_rolled_out(&Workload::deployment("printer"))
}

fn relabel(cluster: &Cluster, namespace: &str, labels: serde_json::Value) -> Result<()> {
    cluster.api().patch(&format!("/api/v1/namespaces/{namespace}"), &json!({"metadata": {"labels": labels}})).map(|_| ())
}

fn snapshot_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("snapshots/mid-upgrade.json")
}

#[test]
fn every_state_is_told_as_it_is() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    build(&cluster)?;
    let session = plugin("mesh-proxyver")?.on(&cluster);
    let saved = session.home().join("saved.json");
    let live = session.run(["mesh-proxyver", "-A", "-o", "json", "--save", saved.to_str().context("a path in UTF-8")?])?;
    ensure!(live.code == Some(0), "{}", live.transcript());

    // The file gives the same answers as the cluster that it was made from.
    let from_file = session.run(["mesh-proxyver", "-o", "json", "-f", "saved.json"])?;
    assert_eq!(from_file.json()?, live.json()?);

    // So does what kubectl itself writes: the same fields, decoded from JSON instead of protobuf.
    let kinds = "pods,namespaces,services,endpointslices,configmaps,deployments,statefulsets,daemonsets,replicasets,jobs,\
        rollouts.argoproj.io,gateways.gateway.networking.k8s.io,proxyconfigs.networking.istio.io,\
        mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let raw =
        session.shell(&format!("kubectl get {kinds} -A -o json > raw.json && kubectl mesh-proxyver -f raw.json -o json"))?;
    assert_eq!(raw.json()?, live.json()?);

    check("mid_upgrade_table", &session.run(["mesh-proxyver", "-A"])?);
    check("mid_upgrade_wide_of_one", &session.run(["mesh-proxyver", "deploy/web", "-n", "shop", "-o", "wide"])?);
    check("mid_upgrade_by_version", &session.run(["mesh-proxyver", "-A", "--by", "version"])?);
    check("mid_upgrade_by_namespace", &session.run(["mesh-proxyver", "-A", "--by", "namespace"])?);
    check("mid_upgrade_stale_refs", &session.run(["mesh-proxyver", "-A", "--stale", "-o", "refs"])?);
    check("mid_upgrade_args", &session.run(["mesh-proxyver", "-A", "-o", "args"])?);
    check("mid_upgrade_prom", &session.run(["mesh-proxyver", "-A", "-o", "prom"])?);
    check("mid_upgrade_junit", &session.run(["mesh-proxyver", "-n", "shop", "-o", "junit"])?);
    check("mid_upgrade_yaml_of_one", &session.run(["mesh-proxyver", "deploy/stream", "-n", "shop", "-o", "yaml"])?);
    check("mid_upgrade_pods_of_one", &session.run(["mesh-proxyver", "deploy/checkout", "-n", "shop", "--by", "version"])?);

    // The API server's own answers agree with every derived one.
    let probed = session.run(["mesh-proxyver", "-A", "--probe=all", "-o", "json"])?.json()?;
    let findings = probed["findings"].as_array().context("a report has findings")?;
    let differing: Vec<_> = findings.iter().filter(|finding| finding["code"] == "probe-differs").collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let states = |report: &serde_json::Value| -> Vec<String> {
        let items = report["items"].as_array().into_iter().flatten();
        items.map(|item| format!("{} {} {}", item["namespace"], item["workload"]["name"], item["state"])).collect()
    };
    assert_eq!(states(&probed), states(&live.json()?));

    if std::env::var_os("MESH_UPDATE_SNAPSHOTS").is_some() {
        fs::copy(&saved, snapshot_file()).context("writing the snapshot of the README")?;
    }

    // What is stale can be restarted by kubectl, all of it, and then is not stale any more.
    let restarted = session.shell("kubectl mesh-proxyver -A --stale -o refs 2>/dev/null | kubectl rollout restart -f -")?;
    assert_eq!(restarted.code, Some(0), "{}", restarted.transcript());
    cluster.wait("the restarted to be current", std::time::Duration::from_secs(60), || {
        let left = session.run(["mesh-proxyver", "-A", "--stale", "-o", "refs"])?;
        // checkout cannot finish: its new pods never get ready.
        let names: Vec<&str> = left.stdout.lines().filter(|line| !line.contains("checkout")).collect();
        Ok(names.is_empty().then_some(()))
    })?;
    cluster.while_it_stands_still(|| a_saved_file_knows_owners_by_uid(&cluster, &session))
}

/// Owners go away and are made anew while no controller runs that would take their pods or give them to others.
fn a_saved_file_knows_owners_by_uid(cluster: &Cluster, session: &Session) -> Result<()> {
    let anew = |path: String, template: &dyn Fn(&Value) -> Value| -> Result<()> {
        let object = cluster.api().get(&path)?;
        cluster.api().delete(&path)?;
        let (list, _) = path.rsplit_once('/').context("the path of an object")?;
        cluster.api().create(list, &template(&object)).map(|_| ())
    };
    let same = |object: &Value| {
        let metadata = &object["metadata"];
        json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
            "metadata": {"name": metadata["name"], "labels": metadata["labels"]}})
    };
    let replica_set = |namespace: &str, app: &str| -> Result<String> {
        let list = format!("/apis/apps/v1/namespaces/{namespace}/replicasets");
        let pods = cluster.namespace_named(namespace).pods()?;
        let pod = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == app).context("it has a pod")?;
        Ok(format!("{list}/{}", pod["metadata"]["ownerReferences"][0]["name"].as_str().context("the pod has an owner")?))
    };
    // A Deployment and a StatefulSet of the same name, a ReplicaSet of the same name that is nobody's, and no ReplicaSet.
    anew("/apis/apps/v1/namespaces/shop/deployments/web".to_owned(), &same)?;
    anew("/apis/apps/v1/namespaces/shop/statefulsets/db".to_owned(), &same)?;
    anew(replica_set("pay", "ledger")?, &same)?;
    cluster.api().delete(&replica_set("steady", "billing")?)?;

    let live = session.run(["mesh-proxyver", "-A", "-o", "json", "--save", "anew.json"])?;
    let live = live.json()?;
    let items = live["items"].as_array().context("a report has items")?;
    let of = |namespace: &str, app: &str| -> Vec<String> {
        let is_of = |item: &&Value| {
            let name = item["workload"]["name"].as_str().unwrap_or_default();
            item["namespace"] == namespace && item["proxies"] != 0 && name.starts_with(app)
        };
        let text = |item: &Value| format!("{} {}", item["workload"]["kind"], item["state"]);
        items.iter().filter(is_of).map(text).collect()
    };
    for (namespace, app) in [("shop", "web"), ("shop", "db"), ("pay", "ledger")] {
        let of = of(namespace, app);
        ensure!(!of.is_empty() && of.iter().all(|item| item.starts_with("\"Pod\"")), "{app}: {of:?}");
    }
    let billing = of("steady", "billing");
    ensure!(billing.len() == 1 && billing[0].starts_with("\"ReplicaSet\""), "{billing:?}");
    let saved = session.run(["mesh-proxyver", "-o", "json", "-f", "anew.json"])?.json()?;
    assert_eq!(saved["items"], live["items"]);
    Ok(())
}

#[test]
fn the_snapshot_of_the_readme_tells_the_same_story() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    fs::copy(snapshot_file(), session.home().join("mid-upgrade.json")).context("copying the snapshot of the README")?;
    check("readme_table", &session.run(["mesh-proxyver", "-f", "mid-upgrade.json"])?);
    Ok(())
}
