//! How many stale proxies other ways of looking find, and how often they raise a false alarm: figures for the README.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use support::workload::proxy_image;
use support::{Cluster, Follows, IstioVersion, Namespace, Revision, Workload, plugin, say};

/// A proxy is stale when a dry run of its workload's pod now gives another revision or image.
fn truly_stale(cluster: &Cluster, namespaces: &[(Namespace<'_>, Vec<Workload>)]) -> Result<BTreeSet<String>> {
    let mut stale = BTreeSet::new();
    for (namespace, workloads) in namespaces {
        let pods = namespace.pods()?;
        for workload in workloads {
            let manifest = workload.manifest();
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            let wanted = namespace.dry_run(workload)?;
            let of_workload = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == name);
            let describe = |pod: &serde_json::Value| {
                (proxy_image(pod).map(str::to_owned), pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned))
            };
            if of_workload.map(describe).any(|running| running.0.is_some() && running != describe(&wanted)) {
                stale.insert(format!("{}/{name}", namespace.name()));
            }
        }
    }
    let _ = cluster;
    Ok(stale)
}

/// Makes sixty workloads, moves a tag, upgrades a revision in place, and counts.
pub fn count(cluster: &Cluster) -> Result<()> {
    let edge = Revision::new("edge", IstioVersion::V1_26_0);
    cluster.install(&edge)?;
    cluster.set_tag("moving", &Revision::of(IstioVersion::V1_26_0))?;
    let native = json!({"sidecar.istio.io/nativeSidecar": "true"});
    let pinned = json!({"sidecar.istio.io/proxyImage": "docker.io/istio/proxyv2:1.26.0"});
    let mut namespaces = Vec::new();
    for (name, follows) in [("peers-tag", "moving"), ("peers-edge", "edge"), ("peers-old", "1-26-0"), ("peers-new", "1-28-2")] {
        let namespace = cluster.namespace(name, Follows::Revision(follows))?;
        let workloads: Vec<Workload> = (0..15)
            .map(|number| {
                let workload = Workload::deployment(&format!("w{number}"));
                match number % 5 {
                    0 => workload.pod_annotations(native.clone()),
                    1 if name == "peers-old" => workload.pod_annotations(pinned.clone()),
                    _ => workload,
                }
            })
            .collect();
        for workload in &workloads {
            namespace.create(workload)?;
        }
        for workload in &workloads {
            namespace.wait_until_rolled_out(workload)?;
        }
        namespaces.push((namespace, workloads));
    }
    cluster.set_tag("moving", &Revision::of(IstioVersion::V1_28_2))?;
    cluster.install(&Revision::new("edge", IstioVersion::V1_28_2))?;
    let stale = cluster.wait("istiod to have taken up its new version", Duration::from_secs(30), || {
        let stale = truly_stale(cluster, &namespaces)?;
        Ok((stale.len() == 30).then_some(stale))
    })?;

    let session = plugin("mesh-proxyver")?.on(cluster);
    let report = session.run(["mesh-proxyver", "-A", "--stale", "-o", "json"])?.json()?;
    let items = report["items"].as_array().context("a report has items")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> =
        items.iter().map(|item| format!("{}/{}", text(&item["namespace"]), text(&item["workload"]["name"]))).collect();
    tell("mesh-proxyver --stale", &ours, &stale);
    assert_eq!(ours, stale);

    let analyzed =
        cluster.command(support::Program::Istioctl(IstioVersion::V1_28_2))?.args(["analyze", "-A", "-o", "json"]).output()?;
    let analyzed = String::from_utf8_lossy(&analyzed.stdout).into_owned();
    // Lines of its log stand before the document.
    let start = analyzed.lines().position(|line| line.starts_with('[')).context("istioctl analyze writes a JSON array")?;
    let document: String = analyzed.lines().skip(start).collect();
    let messages: serde_json::Value = serde_json::from_str(&document).context("istioctl analyze writes a JSON array")?;
    // IST0158 names a namespace and its pods in one message.
    let mut by_analyze = BTreeSet::new();
    for message in messages.as_array().into_iter().flatten().filter(|message| message["code"] == "IST0158") {
        by_analyze.extend(pods_in(&message.to_string(), &namespaces)?);
    }
    tell("istioctl analyze (IST0158)", &by_analyze, &stale);

    let script = "kubectl get pods --all-namespaces -o jsonpath='{range .items[*]}{\"\\n\"}{.metadata.namespace}{\"/\"}{.metadata.labels.app}{\":\\t\"}\
        {range .spec.containers[*]}{.image}{\", \"}{end}{end}' | sort | grep proxyv2";
    let grep = session.shell(script)?;
    // People look for what is not the newest version.
    let by_grep: BTreeSet<String> = grep
        .stdout
        .lines()
        .filter(|line| !line.contains("proxyv2:1.28.2") && line.starts_with("peers-"))
        .filter_map(|line| line.split(':').next().map(str::to_owned))
        .collect();
    tell("kubectl get pods | grep proxyv2", &by_grep, &stale);

    for (namespace, workloads) in &namespaces {
        for workload in workloads {
            namespace.delete(workload)?;
        }
    }
    cluster.uninstall(&Revision::new("edge", IstioVersion::V1_28_2))
}

/// The workloads of the pods that a message names.
fn pods_in(message: &str, namespaces: &[(Namespace<'_>, Vec<Workload>)]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (namespace, _) in namespaces.iter().filter(|(namespace, _)| message.contains(namespace.name())) {
        for pod in namespace.pods()? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if message.contains(name) {
                found.insert(format!("{}/{}", namespace.name(), pod["metadata"]["labels"]["app"].as_str().unwrap_or_default()));
            }
        }
    }
    Ok(found)
}

fn tell(tool: &str, found: &BTreeSet<String>, stale: &BTreeSet<String>) {
    let right = found.intersection(stale).count();
    let false_alarms = found.difference(stale).count();
    say(format_args!("{tool}: found {right} of {} stale workloads, {false_alarms} false alarms", stale.len()));
}
