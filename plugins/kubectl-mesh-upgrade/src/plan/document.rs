//! The file of a plan, and what of it is left to do on a cluster.

use mesh::advice::{Advice, Command};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh::cluster::Scope;
use mesh::object::naming;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::state::State;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::{Verdict, Wanted};
use mesh::workload::{Restart, WorkloadId};
use mesh::yaml;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::selection::read_text;
use crate::waves::{Item, Wave};

const API_VERSION: &str = "kubectl-mesh/v1";
const KIND: &str = "RestartPlan";

/// How a plan says that the pods of a workload are evicted although an operator owns it.
const EVICT_OWNED: &str = "evict-owned";

/// A plan. Its waves and workloads may be reordered or left out by hand; what is restarted has to be as it says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    api_version: String,
    kind: String,
    /// For which cluster: the uid of its namespace `kube-system`.
    cluster: String,
    /// Of which workloads nobody knew whether they are to be restarted: such a plan is not carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    undecided: Vec<Undecided>,
    /// The waves, in their order.
    items: Vec<PlannedWave>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Undecided {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    /// What could not be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlannedWave {
    name: String,
    workloads: Vec<PlannedItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlannedItem {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    /// Its uid: a workload that was deleted and made anew is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    /// How it is restarted.
    restart: String,
    /// What its new pods run; nothing for no proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<PlannedProxy>,
    /// From which version to which that is, for whoever reviews the plan: nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlannedProxy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

impl From<&Wanted> for PlannedProxy {
    fn from(wanted: &Wanted) -> PlannedProxy {
        PlannedProxy { revision: wanted.revision.clone(), image: wanted.image.clone() }
    }
}

impl PlannedProxy {
    fn text(proxy: Option<&PlannedProxy>) -> String {
        let Some(proxy) = proxy else { return "no proxy".to_owned() };
        let revision = proxy.revision.as_deref().unwrap_or("unknown");
        proxy.image.as_ref().map_or_else(|| format!("revision {revision}"), |image| format!("revision {revision} ({image})"))
    }
}

/// What of a plan is left.
#[derive(Debug, PartialEq)]
pub struct Left {
    /// What is still to restart; the waves have the numbers that they have in the plan.
    pub waves: Vec<Wave>,
    /// What is worth telling about the rest, a sentence each.
    pub told: Vec<String>,
}

impl Plan {
    /// The plan of these waves, for the cluster of this id. What of the others is undecided stands in it.
    pub fn new(cluster: String, waves: &[Wave], others: &[Verdict]) -> Plan {
        let undecided = others.iter().filter(|verdict| verdict.is_undecided()).map(|verdict| Undecided {
            api_version: verdict.workload.api_version.to_string(),
            kind: verdict.workload.kind.to_string(),
            namespace: verdict.workload.namespace.to_string(),
            name: verdict.workload.name.to_string(),
            why: verdict.why.clone(),
        });
        let items = waves
            .iter()
            .map(|wave| PlannedWave { name: wave.name.clone(), workloads: wave.items.iter().map(PlannedItem::from).collect() });
        Plan {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            cluster,
            undecided: undecided.collect(),
            items: items.collect(),
        }
    }

    /// As it is written.
    pub fn document(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Reads a file, or standard input for `-`; YAML or JSON.
    ///
    /// # Errors
    /// When it is no plan, or names a workload twice.
    pub fn read(path: &Path) -> Result<Plan, Stop> {
        Plan::parse(&read_text(path)?).map_err(|why| {
            let source = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
            let advice = Advice::run(Command::mesh_upgrade("plan -A")).and_say(" > FILE makes one");
            Refusal::not_found(format!("{source} is no plan: {why}"), advice).into()
        })
    }

    fn parse(text: &str) -> Result<Plan, String> {
        let plan: Plan = yaml::parse_whole(text).map_err(|broken| broken.to_string())?;
        if plan.api_version != API_VERSION || plan.kind != KIND {
            return Err(format!("it is a {} of {}, not a {KIND} of {API_VERSION}", plan.kind, plan.api_version));
        }
        let mut seen = BTreeSet::new();
        for item in plan.workloads() {
            let object = json!({
                "apiVersion": item.api_version,
                "kind": item.kind,
                "metadata": {"name": item.name, "namespace": item.namespace},
            });
            if let Some(why) = naming::wrong(&object) {
                return Err(format!("a workload in wave {} cannot be one: {why}", plan.wave_of(item)));
            }
            if !seen.insert(item.id()) {
                return Err(format!("it names {} -n {} twice", item.id().qualified_name(), item.namespace));
            }
        }
        Ok(plan)
    }

    /// A plan whose maker could not decide about everything is refused: what it leaves out is not known to be current.
    ///
    /// # Errors
    /// When a workload was undecided.
    pub fn check_decided(&self) -> Result<(), Refusal> {
        if self.undecided.is_empty() {
            return Ok(());
        }
        let workloads = plural(self.undecided.len() as u64, "workload was", "workloads were");
        let line = |item: &Undecided| format!("{}/{} -n {}: {}", item.kind.to_lowercase(), item.name, item.namespace, item.why);
        let reason = format!("the plan is incomplete: {workloads} undecided when it was made; nothing was restarted");
        let advice = Advice::say("make it again as a user who may read what decides: ").and_run(Command::mesh_upgrade("plan -A"));
        Err(Refusal::new(reason, advice).with(self.undecided.iter().map(line).collect()))
    }

    /// A plan of another cluster is refused, however alike the two may be.
    ///
    /// # Errors
    /// When this is another one.
    pub fn check_cluster(&self, cluster: &str) -> Result<(), Refusal> {
        if self.cluster == cluster {
            return Ok(());
        }
        let reason =
            format!("the plan was made for another cluster (its kube-system has uid {}, this one's has {cluster})", self.cluster);
        Err(Refusal::new(
            reason,
            Advice::say("choose its --context, or make a plan for this one: ").and_run(Command::mesh_upgrade("plan -A")),
        ))
    }

    /// Whether pods of workloads that an operator owns are to be evicted: who made the plan has asked for it.
    pub fn evicts_owned(&self) -> bool {
        self.workloads().any(|item| item.restart == EVICT_OWNED)
    }

    /// What has to be read to know what is left.
    pub fn scope(&self, session: &Session) -> Scope {
        self.within(&Scope { istio_namespace: session.flags.istio_namespace.clone(), ..Scope::default() })
    }

    /// What of a scope the plan is about: one namespace, or everything.
    pub fn within(&self, typed: &Scope) -> Scope {
        let namespaces: BTreeSet<&str> = self.workloads().map(|item| item.namespace.as_str()).collect();
        typed.within(namespaces.first().filter(|_| namespaces.len() == 1).copied())
    }

    /// What is left to do of it.
    ///
    /// # Errors
    /// When a workload is not as the plan says any more: each one is named.
    pub fn left(&self, verdicts: &[Verdict]) -> Result<Left, Refusal> {
        let by_id: BTreeMap<&WorkloadId, &Verdict> = verdicts.iter().map(|verdict| (&verdict.workload, verdict)).collect();
        let (mut waves, mut drifted, mut done) = (Vec::new(), Vec::new(), 0_u64);
        for (place, planned) in self.items.iter().enumerate() {
            let mut items = Vec::new();
            for item in &planned.workloads {
                match item.compare(by_id.get(&item.id()).copied()) {
                    Comparison::Left(item) => items.push(*item),
                    Comparison::Done => done += 1,
                    Comparison::Drifted(why) => {
                        drifted.push(format!("{} -n {} {why}", item.id().qualified_name(), item.namespace));
                    }
                }
            }
            if !items.is_empty() {
                waves.push(Wave { number: place + 1, name: planned.name.clone(), items });
            }
        }
        if !drifted.is_empty() {
            let reason = "the cluster has changed since the plan was made; nothing was restarted";
            return Err(Refusal::new(
                reason,
                Advice::run(Command::mesh_upgrade("plan")).and_say(" with the same flags makes a new one"),
            )
            .with(drifted));
        }
        Ok(Left { told: self.told(done, verdicts), waves })
    }

    fn told(&self, done: u64, verdicts: &[Verdict]) -> Vec<String> {
        let ids: BTreeSet<WorkloadId> = self.workloads().map(PlannedItem::id).collect();
        let others = verdicts.iter().filter(|verdict| verdict.state.is_stale() && !ids.contains(&verdict.workload)).count();
        let done = (done > 0).then(|| {
            format!("{} of the plan already.", plural(done, "workload is as it is to be", "workloads are as they are to be"))
        });
        let others = (others > 0).then(|| {
            format!(
                "{} in none of its waves: they are left alone.",
                plural(others as u64, "stale workload is", "stale workloads are")
            )
        });
        done.into_iter().chain(others).collect()
    }

    /// The place of a workload's wave, counted from 1.
    fn wave_of(&self, item: &PlannedItem) -> usize {
        let is_it = |wave: &&PlannedWave| wave.workloads.iter().any(|planned| std::ptr::eq(planned, item));
        self.items.iter().take_while(|wave| !is_it(wave)).count() + 1
    }

    fn workloads(&self) -> impl Iterator<Item = &PlannedItem> {
        self.items.iter().flat_map(|wave| &wave.workloads)
    }
}

impl From<&Item> for PlannedItem {
    fn from(item: &Item) -> PlannedItem {
        PlannedItem {
            api_version: item.workload.api_version.to_string(),
            kind: item.workload.kind.to_string(),
            namespace: item.workload.namespace.to_string(),
            name: item.workload.name.to_string(),
            uid: item.uid.as_deref().map(str::to_owned),
            restart: word(&item.restart).to_owned(),
            wanted: item.wanted.as_ref().map(PlannedProxy::from),
            change: Some(item.passage_text()),
        }
    }
}

/// How a workload stands to its place in the plan.
enum Comparison {
    Left(Box<Item>),
    Done,
    Drifted(String),
}

impl PlannedItem {
    fn id(&self) -> WorkloadId {
        WorkloadId {
            namespace: self.namespace.as_str().into(),
            api_version: self.api_version.as_str().into(),
            kind: self.kind.as_str().into(),
            name: self.name.as_str().into(),
        }
    }

    fn compare(&self, verdict: Option<&Verdict>) -> Comparison {
        let Some(verdict) = verdict else {
            // A workload that was to lose its proxy and has lost it is no part of the mesh any more.
            return match self.wanted {
                None => Comparison::Done,
                Some(_) => Comparison::Drifted("is not there any more, or no part of the mesh".to_owned()),
            };
        };
        if let (Some(now), Some(then)) = (&verdict.uid, &self.uid)
            && **now != **then
        {
            return Comparison::Drifted("was deleted and made anew since".to_owned());
        }
        let wanted = verdict.wanted.as_ref().map(PlannedProxy::from);
        if wanted != self.wanted {
            let (now, then) = (PlannedProxy::text(wanted.as_ref()), PlannedProxy::text(self.wanted.as_ref()));
            return Comparison::Drifted(format!("would get {now} now, not {then}"));
        }
        if verdict.state == State::Current {
            return Comparison::Done;
        }
        if word(&verdict.restart) != self.restart {
            return Comparison::Drifted(format!("is restarted by {} now, not by {}", word(&verdict.restart), self.restart));
        }
        let is_ready = matches!(verdict.state, State::Stale | State::Orphaned | State::Missing | State::Leaving);
        if is_ready && verdict.restart.is_possible() {
            return Comparison::Left(Box::new(Item::new(verdict)));
        }
        Comparison::Drifted(format!(
            "is {} now: {}",
            verdict.state,
            mesh::terminal::advisor::Advisor::default().text(&verdict.advice())
        ))
    }
}

/// How a workload is restarted, as a plan says it.
const fn word(restart: &Restart) -> &'static str {
    match restart {
        Restart::Rollout => "rollout",
        Restart::Partitioned(_) => "partition",
        Restart::OnDelete => "on-delete",
        Restart::Eviction => "eviction",
        Restart::ArgoRollout => "argo-rollout",
        Restart::Operator(_) => "operator",
        Restart::EvictOwned(_) => EVICT_OWNED,
        Restart::Owned(_) => "nothing: an operator owns it",
        Restart::Paused => "nothing: it is paused",
        Restart::Never(_) | Restart::Unknown(_) => "nothing that is known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
apiVersion: kubectl-mesh/v1
kind: RestartPlan
cluster: uid-1
items:
- name: shop
  workloads:
  - {apiVersion: apps/v1, kind: Deployment, namespace: shop, name: web, restart: rollout, wanted: {revision: 1-28-2, image: proxyv2:1.28.2}}
";

    #[test]
    fn what_is_written_is_read() {
        let plan = Plan::parse(TEXT).unwrap();
        let json = plan.document().to_string();
        assert_eq!(Plan::parse(&json).unwrap(), plan);
    }

    #[test]
    fn what_is_no_plan_is_told() {
        let check = |text: &str, expected: &str| {
            let why = Plan::parse(text).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("kind: Pod", "missing field");
        check(&TEXT.replace("RestartPlan", "Pod"), "it is a Pod of kubectl-mesh/v1");
        check(&TEXT.replace("restart: rollout", "restart: rollout, force: true"), "unknown field `force`");
        check(
            &TEXT.replace("name: web", "name: \"web\\n-A\""),
            "a workload in wave 1 cannot be one: its name \"web\\n-A\" is none of Kubernetes",
        );
        check(&TEXT.replace("name: web", "name: web -A"), "its name \"web -A\" is none of Kubernetes");
        check(&TEXT.replace("namespace: shop", "namespace: \"--all\""), "its namespace \"--all\"");
        check(&TEXT.replace("kind: Deployment", "kind: Deploy/ment"), "its kind");
        check(&format!("{TEXT}---\n{TEXT}"), "a second document begins here");
        check(&TEXT.replace("  workloads:\n", "  workloads: []\n  workloads:\n"), "the key \"workloads\" stands there twice");
        let line = TEXT.lines().last().unwrap();
        check(&format!("{TEXT}{line}\n"), "it names deployment.apps/web -n shop twice");
    }

    #[test]
    fn a_plan_that_is_not_decided_is_refused() {
        assert_eq!(Plan::parse(TEXT).unwrap().check_decided(), Ok(()));
        let line = "undecided: [{apiVersion: apps/v1, kind: Deployment, namespace: shop, name: api, why: no list}]\nitems:";
        let refusal = Plan::parse(&TEXT.replace("items:", line)).unwrap().check_decided().unwrap_err();
        assert!(refusal.reason.starts_with("the plan is incomplete: 1 workload was undecided"), "{}", refusal.reason);
        assert_eq!(refusal.details, ["deployment/api -n shop: no list"]);
    }

    #[test]
    fn another_cluster_is_refused_and_one_that_lost_a_workload_too() {
        let plan = Plan::parse(TEXT).unwrap();
        assert_eq!(plan.check_cluster("uid-1"), Ok(()));
        assert!(plan.check_cluster("uid-2").unwrap_err().reason.contains("another cluster"));
        let refusal = plan.left(&[]).unwrap_err();
        assert_eq!(refusal.details, ["deployment.apps/web -n shop is not there any more, or no part of the mesh"]);
    }
}
