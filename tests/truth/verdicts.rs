//! Our answers beside the cluster's.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Follows, Namespace, plugin};

use crate::cases::{self, Case, Names};
use crate::chance::Chance;
use crate::worlds::World;

/// What a new pod gets, or is said to get.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// A proxy: of this revision, with this image.
    Proxy { revision: String, image: String },
    /// No proxy.
    None,
    /// Nothing: it is refused, because no istiod answers.
    Unreachable,
    /// Nothing: it is refused by istiod.
    Denied,
    /// Nothing: with the proxy in it, the API server finds the pod invalid.
    Invalid,
    /// It cannot be said.
    Unknown { reason: String, message: String },
}

/// What came of all cases.
#[derive(Default)]
pub struct Tally {
    /// Cases so far.
    pub cases: usize,
    /// Those in which the cluster injects.
    pub injected: usize,
    /// Those in which it does not.
    pub none: usize,
    /// Those in which no istiod answers, so that the pod is refused.
    pub unreachable: usize,
    /// Those in which istiod refuses the pod.
    pub denied: usize,
    /// Those whose pod the API server finds invalid after the injection.
    pub invalid: usize,
    /// Those that mesh-proxyver calls unknown, by reason and message.
    pub unknown: BTreeMap<(String, String), usize>,
    /// Cases in which the answers differ, told so that they can be repeated.
    pub differences: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, injected, none, unreachable, denied, invalid, .. } = self;
        let (unknown, differences) = (self.unknown.values().sum::<usize>(), self.differences.len());
        write!(
            f,
            "truth test: {cases} cases: {injected} injected, {none} without a proxy, {unreachable} refused for want of an istiod, \
             {denied} refused by istiod, {invalid} invalid; {unknown} called unknown; {differences} differences"
        )?;
        for ((reason, message), count) in &self.unknown {
            write!(f, "\n  {count} unknown: {reason}: {message}")?;
        }
        Ok(())
    }
}

impl Tally {
    /// Tries so many cases in a world.
    pub fn compare(&mut self, world: &World<'_>, number: usize, chance: &mut Chance) -> Result<()> {
        let namespaces = namespaces(world)?;
        world.settle()?;
        let mut tried = Vec::new();
        for number in 0..number {
            // Half of them where somebody is asked for an injection.
            let (asking, others) = &namespaces;
            let among = if chance.once_in(2) { asking } else { others };
            let namespace = chance.pick(among);
            let name = format!("{}-{number}", world.name);
            let case = cases::case(&name, &Names { revisions: &world.revisions(), injected: world.injected }, chance);
            namespace.create(&case.workload)?;
            tried.push((namespace, name, case));
        }
        let report = plugin("mesh-proxyver")?.on(world.cluster).run(["mesh-proxyver", "-A", "-o", "json"])?;
        let report = report.json().with_context(|| report.transcript())?;
        for (namespace, name, case) in &tried {
            let truth = truth(namespace, case)?;
            let said = said(&report, namespace.name(), name);
            self.count(world, namespace, case, &truth, said)?;
        }
        Ok(())
    }

    fn count(&mut self, world: &World<'_>, namespace: &Namespace<'_>, case: &Case, truth: &Answer, said: Answer) -> Result<()> {
        self.cases += 1;
        *match truth {
            Answer::Proxy { .. } => &mut self.injected,
            Answer::None => &mut self.none,
            Answer::Unreachable => &mut self.unreachable,
            Answer::Denied => &mut self.denied,
            Answer::Invalid => &mut self.invalid,
            Answer::Unknown { reason, message } => bail!("the cluster gives no answer: {reason}: {message}"),
        } += 1;
        match said {
            Answer::Unknown { reason, message } if may_be_unknown(world, case, &reason) => {
                *self.unknown.entry((reason, message)).or_default() += 1;
            }
            said if said == *truth => {}
            said => {
                let path = format!("/api/v1/namespaces/{}", namespace.name());
                let labels = world.cluster.api().get(&path)?["metadata"]["labels"].clone();
                let template = case.workload.manifest()["spec"]["template"].clone();
                self.differences.push(format!(
                    "world {}: the cluster: {truth:?}; mesh-proxyver: {said:?}; namespace {} {labels}; template {template}",
                    world.name,
                    namespace.name()
                ));
            }
        }
        Ok(())
    }

    /// Adds what came of other cases.
    pub fn add(&mut self, other: Tally) {
        self.cases += other.cases;
        self.injected += other.injected;
        self.none += other.none;
        self.unreachable += other.unreachable;
        self.denied += other.denied;
        self.invalid += other.invalid;
        for (why, count) in other.unknown {
            *self.unknown.entry(why).or_default() += count;
        }
        self.differences.extend(other.differences);
    }
}

/// Whether this world and this case give mesh-proxyver a reason not to know. Any other unknown is a fault of ours.
fn may_be_unknown(world: &World<'_>, case: &Case, reason: &str) -> bool {
    match reason {
        "many-injectors" => world.overlaps,
        "match-conditions" => world.has_conditions,
        "injector-config" => case.names_custom_template || case.was_injected,
        _ => false,
    }
}

/// Namespaces whose labels ask one of the world's injectors, and those that do so in every other way, or not at all; one of
/// the system's among them.
fn namespaces<'a>(world: &World<'a>) -> Result<(Vec<Namespace<'a>>, Vec<Namespace<'a>>)> {
    let asking = world.present.iter().map(|revision| json!({"istio.io/rev": revision}));
    let mut others = vec![json!({})];
    others.extend(world.absent.iter().map(|revision| json!({"istio.io/rev": revision})));
    for injection in ["enabled", "disabled", "odd"] {
        others.push(json!({"istio-injection": injection}));
        others.push(json!({"istio-injection": injection, "istio.io/rev": world.present[0]}));
    }
    let make = |number: usize, labels: Value| -> Result<Namespace<'a>> {
        let namespace = world.cluster.namespace(&format!("{}-{number}", world.name), Follows::Labels(labels))?;
        if world.has_proxy_configs {
            proxy_configs(&namespace, number)?;
        }
        Ok(namespace)
    };
    let asking: Vec<_> = asking.enumerate().map(|(number, labels)| make(number, labels)).collect::<Result<_>>()?;
    let number_of = |number: usize| number + asking.len();
    let mut others: Vec<_> =
        others.into_iter().enumerate().map(|(number, labels)| make(number_of(number), labels)).collect::<Result<_>>()?;
    others.push(world.cluster.namespace("kube-public", Follows::Revision(world.present[0]))?);
    Ok((asking, others))
}

/// ProxyConfigs of a namespace: none, one for all its pods, one for some, or both; and one that is another revision's.
fn proxy_configs(namespace: &Namespace<'_>, number: usize) -> Result<()> {
    let config = |name: &str, labels: Value, spec: Value| {
        namespace.apply(json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig",
            "metadata": {"name": name, "labels": labels}, "spec": spec}))
    };
    if number % 4 > 1 {
        config("a-foreign", json!({"istio.io/rev": "nowhere"}), json!({"image": {"imageType": "foreign"}}))?;
        config("b-all", json!({}), json!({"image": {"imageType": "distroless"}}))?;
    }
    if number % 2 == 1 {
        let spec = json!({"selector": {"matchLabels": {"variant": "yes"}}, "image": {"imageType": "debug"}});
        config("some", json!({}), spec)?;
    }
    Ok(())
}

/// The cluster's own answer: a server-side dry run of the pod.
fn truth(namespace: &Namespace<'_>, case: &Case) -> Result<Answer> {
    let pod = match namespace.dry_run(&case.workload) {
        Ok(pod) => pod,
        Err(error) => {
            let error = format!("{error:#}");
            return Ok(if error.contains("failed calling webhook") {
                Answer::Unreachable
            } else if error.contains("admission webhook") {
                Answer::Denied
            } else if error.contains(" is invalid: ") {
                Answer::Invalid
            } else {
                Answer::Unknown { reason: "dry run".to_owned(), message: error }
            });
        }
    };
    // A container `auto` is one that nobody injected.
    Ok(match proxy_image(&pod).filter(|image| *image != "auto") {
        Some(image) => Answer::Proxy { revision: revision(&pod), image: image.to_owned() },
        None => Answer::None,
    })
}

fn revision(pod: &Value) -> String {
    pod["metadata"]["annotations"]["istio.io/rev"].as_str().unwrap_or_default().to_owned()
}

/// What mesh-proxyver says.
fn said(report: &Value, namespace: &str, name: &str) -> Answer {
    let mut items = report["items"].as_array().into_iter().flatten();
    let Some(item) = items.find(|item| item["namespace"] == namespace && item["workload"]["name"] == name) else {
        return Answer::None;
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let reason = text(&item["reasons"][0]);
    match (item["state"].as_str(), reason.as_str(), item["wanted"]["image"].as_str()) {
        (Some("blocked"), "no-control-plane", None) => Answer::Unreachable,
        (Some("blocked"), "injector-config", None) => Answer::Denied,
        (Some("current" | "pinned"), _, Some(image)) => {
            Answer::Proxy { revision: text(&item["wanted"]["revision"]), image: image.to_owned() }
        }
        (Some("unknown"), ..) => Answer::Unknown { reason, message: text(&item["message"]) },
        _ => Answer::Unknown { reason: "not understood".to_owned(), message: item.to_string() },
    }
}
