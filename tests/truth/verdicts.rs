//! Our answers beside the cluster's.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Follows, Namespace, Workload, plugin};

use crate::cases::{self, Names};
use crate::chance::Chance;
use crate::worlds::World;

/// What a new pod gets, or is said to get.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// A proxy: of this revision, with this image.
    Proxy { revision: String, image: String },
    /// No proxy.
    None,
    /// Nothing: it is refused.
    Refused,
    /// It cannot be said: why.
    Unknown(String),
}

/// Reasons for which an answer may be missing; any other is a fault of ours.
const MAY_BE_UNKNOWN: [&str; 3] = ["many-injectors", "match-conditions", "injector-config"];

/// What came of all cases.
#[derive(Default)]
pub struct Tally {
    /// Cases so far.
    pub cases: usize,
    /// Those in which the cluster injects.
    pub injected: usize,
    /// Those in which it does not.
    pub none: usize,
    /// Those in which it refuses the pod.
    pub refused: usize,
    /// Those whose pod the API server finds invalid after the injection: no injector decides these.
    pub invalid: usize,
    /// Those that mesh-proxyver calls unknown, by reason.
    pub unknown: BTreeMap<String, usize>,
    /// Cases in which the answers differ, told so that they can be repeated.
    pub differences: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, injected, none, refused, invalid, .. } = self;
        let unknown: Vec<String> = self.unknown.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let unknown = if unknown.is_empty() { "none".to_owned() } else { unknown.join(", ") };
        let differences = self.differences.len();
        write!(
            f,
            "truth test: {cases} cases: {injected} injected, {none} without a proxy, {refused} refused, {invalid} invalid; unknown: {unknown}; \
             {differences} differences"
        )
    }
}

impl Tally {
    /// Tries so many cases in a world.
    pub fn compare(&mut self, world: &World<'_>, number: usize, chance: &mut Chance) -> Result<()> {
        let namespaces = namespaces(world)?;
        let mut tried = Vec::new();
        for number in 0..number {
            let namespace = chance.pick(&namespaces);
            let name = format!("{}-{number}", world.name);
            let workload = cases::workload(&name, &Names { revisions: world.revisions }, chance);
            namespace.create(&workload)?;
            tried.push((namespace, workload));
        }
        let report = plugin("mesh-proxyver")?.on(world.cluster).run(["mesh-proxyver", "-A", "-o", "json"])?;
        let report = report.json().with_context(|| report.transcript())?;
        for (namespace, workload) in &tried {
            let truth = truth(namespace, workload)?;
            let name = workload.manifest()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let said = said(&report, namespace.name(), &name);
            self.count(world, namespace, workload, &truth, &said)?;
        }
        for (namespace, workload) in &tried {
            namespace.delete(workload)?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        world: &World<'_>,
        namespace: &Namespace<'_>,
        workload: &Workload,
        truth: &Answer,
        said: &Answer,
    ) -> Result<()> {
        self.cases += 1;
        match truth {
            Answer::Proxy { .. } => self.injected += 1,
            Answer::None => self.none += 1,
            Answer::Refused => self.refused += 1,
            // Two templates that each add the proxy, one of them as a native sidecar, make a pod that nobody accepts.
            Answer::Unknown(why) if why.contains("Duplicate value: \"istio-proxy\"") => {
                self.invalid += 1;
                return Ok(());
            }
            Answer::Unknown(why) => anyhow::bail!("the cluster gives no answer: {why}"),
        }
        match said {
            Answer::Unknown(reason) if MAY_BE_UNKNOWN.contains(&reason.as_str()) => {
                *self.unknown.entry(reason.clone()).or_default() += 1
            }
            said if said == truth => {}
            said => {
                let labels =
                    world.cluster.api().get(&format!("/api/v1/namespaces/{}", namespace.name()))?["metadata"]["labels"].clone();
                let template = workload.manifest()["spec"]["template"].clone();
                self.differences.push(format!(
                    "world {}: the cluster: {truth:?}; mesh-proxyver: {said:?}; namespace {} {labels}; template {template}",
                    world.name,
                    namespace.name()
                ));
            }
        }
        Ok(())
    }
}

/// A namespace for each way of asking for injection, and one of the system's.
fn namespaces<'a>(world: &World<'a>) -> Result<Vec<Namespace<'a>>> {
    let mut labels = vec![json!({}), json!({"istio.io/rev": ""})];
    for revision in world.revisions {
        labels.push(json!({"istio.io/rev": revision}));
    }
    for injection in ["enabled", "disabled", "odd"] {
        labels.push(json!({"istio-injection": injection}));
        labels.push(json!({"istio-injection": injection, "istio.io/rev": world.revisions[0]}));
    }
    let mut namespaces: Vec<Namespace<'a>> = Vec::new();
    for (number, labels) in labels.into_iter().enumerate() {
        namespaces.push(world.cluster.namespace(&format!("{}-{number}", world.name), Follows::Labels(labels))?);
    }
    namespaces.push(world.cluster.namespace("kube-public", Follows::Revision(world.revisions[0]))?);
    Ok(namespaces)
}

/// The cluster's own answer: a server-side dry run of the pod.
fn truth(namespace: &Namespace<'_>, workload: &Workload) -> Result<Answer> {
    let pod = match namespace.dry_run(workload) {
        Ok(pod) => pod,
        Err(error) => {
            let error = format!("{error:#}");
            let by_webhook = error.contains("failed calling webhook") || error.contains("admission webhook");
            return if by_webhook { Ok(Answer::Refused) } else { Ok(Answer::Unknown(error)) };
        }
    };
    // A container `auto` is one that nobody injected.
    Ok(match proxy_image(&pod).filter(|image| *image != "auto") {
        Some(image) => Answer::Proxy { revision: revision(&pod), image: image.to_owned() },
        None => Answer::None,
    })
}

fn revision(pod: &Value) -> String {
    let annotations = &pod["metadata"]["annotations"];
    if let Some(revision) = annotations["istio.io/rev"].as_str() {
        return revision.to_owned();
    }
    let status: Option<Value> =
        annotations["sidecar.istio.io/status"].as_str().and_then(|status| serde_json::from_str(status).ok());
    status.and_then(|status| status["revision"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// What mesh-proxyver says.
fn said(report: &Value, namespace: &str, name: &str) -> Answer {
    let mut items = report["items"].as_array().into_iter().flatten();
    let Some(item) = items.find(|item| item["namespace"] == namespace && item["workload"]["name"] == name) else {
        return Answer::None;
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (item["state"].as_str(), item["wanted"]["image"].as_str()) {
        (Some("blocked"), _) if text(&item["message"]).contains("refused") => Answer::Refused,
        (Some("unknown"), _) => Answer::Unknown(text(&item["reasons"][0])),
        (_, Some(image)) => Answer::Proxy { revision: text(&item["wanted"]["revision"]), image: image.to_owned() },
        _ => Answer::Unknown(item.to_string()),
    }
}
