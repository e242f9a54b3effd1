//! How many stale proxies other ways of looking find, and how often they raise a false alarm: figures for the README.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Cluster, Follows, IstioVersion, Namespace, Program, Revision, Workload, plugin, say};

/// How many proxies are stale in the end: the tag's 15, and of the revision that is upgraded in place all but the pinned.
const STALE: usize = 15 + 12;

/// A proxy is stale when a dry run of its workload's pod now gives one of another revision or image.
fn truly_stale(namespaces: &[(Namespace<'_>, Vec<Workload>)]) -> Result<BTreeSet<String>> {
    let describe = |pod: &Value| {
        let revision = pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
        proxy_image(pod).map(|image| (image.to_owned(), revision))
    };
    let mut stale = BTreeSet::new();
    for (namespace, workloads) in namespaces {
        let pods = namespace.pods()?;
        for workload in workloads {
            let manifest = workload.manifest();
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            let Some(wanted) = describe(&namespace.dry_run(workload)?) else { continue };
            let of_workload = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == name);
            if of_workload.filter_map(describe).any(|running| running != wanted) {
                stale.insert(format!("{}/{name}", namespace.name()));
            }
        }
    }
    Ok(stale)
}

/// Runs sixty workloads; then a tag moves, a revision is upgraded in place, one namespace leaves the mesh and one enters it.
/// Some proxies are native, some pinned.
fn mixed_workloads(cluster: &Cluster) -> Result<Vec<(Namespace<'_>, Vec<Workload>)>> {
    let edge = Revision::new("edge", IstioVersion::V1_26_0);
    cluster.install(&edge)?;
    cluster.set_tag("moving", &Revision::of(IstioVersion::V1_26_0))?;
    let native = json!({"sidecar.istio.io/nativeSidecar": "true"});
    let pinned = json!({"sidecar.istio.io/proxyImage": "docker.io/istio/proxyv2:1.26.0"});
    let follows = |name: &str| match name {
        "peers-tag" => Follows::Revision("moving"),
        "peers-edge" => Follows::Revision("edge"),
        "peers-new" => Follows::Revision("1-28-2"),
        "peers-late" => Follows::Nothing,
        _ => Follows::Revision("1-26-0"),
    };
    let mut namespaces = Vec::new();
    for (name, number) in
        [("peers-tag", 15), ("peers-edge", 15), ("peers-old", 10), ("peers-new", 10), ("peers-left", 5), ("peers-late", 5)]
    {
        let namespace = cluster.namespace(name, follows(name))?;
        let workload = |number: usize| {
            let workload = Workload::deployment(&format!("w{number}"));
            match number % 5 {
                0 => workload.pod_annotations(native.clone()),
                1 if matches!(name, "peers-old" | "peers-edge") => workload.pod_annotations(pinned.clone()),
                _ => workload,
            }
        };
        let workloads: Vec<Workload> = (0..number).map(workload).collect();
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
    cluster.namespace("peers-left", Follows::Nothing)?;
    cluster.namespace("peers-late", Follows::Revision("1-28-2"))?;
    Ok(namespaces)
}

/// Counts what each way of looking finds among sixty workloads.
pub fn count(cluster: &Cluster) -> Result<()> {
    let namespaces = mixed_workloads(cluster)?;
    let stale = cluster.wait("istiod to have taken up its new version", Duration::from_secs(30), || {
        let stale = truly_stale(&namespaces)?;
        Ok((stale.len() == STALE).then_some(stale))
    })?;

    let session = plugin("mesh-proxyver")?.on(cluster);
    let report = session.run(["mesh-proxyver", "-A", "--stale", "-o", "json"])?.json()?;
    let items = report["items"].as_array().context("a report has items")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> =
        items.iter().map(|item| format!("{}/{}", text(&item["namespace"]), text(&item["workload"]["name"]))).collect();
    tell("mesh-proxyver --stale", &ours, &stale);
    assert_eq!(ours, stale);

    tell("istioctl analyze -A (IST0158)", &by_analyze(cluster, &namespaces, "default")?, &stale);
    let mut of_every_revision = BTreeSet::new();
    for revision in ["1-26-0", "1-28-2", "edge"] {
        of_every_revision.extend(by_analyze(cluster, &namespaces, revision)?);
    }
    tell("istioctl analyze -A --revision R, for each revision", &of_every_revision, &stale);

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

/// The workloads that IST0158 names when one revision is analyzed; `default` is what `istioctl analyze` takes by itself.
fn by_analyze(cluster: &Cluster, namespaces: &[(Namespace<'_>, Vec<Workload>)], revision: &str) -> Result<BTreeSet<String>> {
    let mut command = cluster.command(Program::Istioctl(IstioVersion::V1_28_2))?;
    let output = command.args(["analyze", "-A", "--revision", revision, "-o", "json"]).output()?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    // Lines of its log stand before the document.
    let start = output.lines().position(|line| line.starts_with('[')).context("istioctl analyze writes a JSON array")?;
    let document: String = output.lines().skip(start).collect();
    let messages: Value = serde_json::from_str(&document).context("istioctl analyze writes a JSON array")?;
    // It names a namespace and its pods in one message.
    let mut found = BTreeSet::new();
    for message in messages.as_array().into_iter().flatten().filter(|message| message["code"] == "IST0158") {
        found.extend(pods_in(&message.to_string(), namespaces)?);
    }
    Ok(found)
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
