//! Workloads that a restart may hurt, or that nobody can restart.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::proxy::ProxyType;
use mesh::state::State;
use mesh::verdict::Verdict;
use mesh::workload::Restart;
use serde_json::Value;

use crate::disruption;
use crate::precheck::facts::{Facts, List, error, info, subject, warning};
use crate::rolling_update::{needs_room, replicas, surge_and_unavailable};

/// `deployments.apps/web -n shop`.
fn subject_of(verdict: &Verdict) -> String {
    let id = &verdict.workload;
    format!("{} -n {}", id.qualified_name(), id.namespace)
}

/// Workloads with proxies.
fn with_proxies(facts: &Facts) -> impl Iterator<Item = &Verdict> {
    facts.verdicts.iter().filter(|verdict| verdict.proxy_count() > 0)
}

/// Workloads with proxies, each with the whole object, where it is of a kind that is listed.
pub fn objects(facts: &Facts) -> impl Iterator<Item = (&Verdict, &Value)> {
    with_proxies(facts).filter_map(|verdict| {
        let id = &verdict.workload;
        let list = match &*id.kind {
            "Deployment" => List::Deployments,
            "StatefulSet" => List::StatefulSets,
            "DaemonSet" => List::DaemonSets,
            _ => return None,
        };
        Some((verdict, facts.object(list, &id.namespace, &id.name)?))
    })
}

/// A restart during which nobody serves: all pods at once, or the only one.
pub fn without_surge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (verdict, object) in objects(facts) {
        let count = replicas(object);
        if count == 0 {
            continue;
        }
        let message = match &*verdict.workload.kind {
            "Deployment" if object["spec"]["strategy"]["type"] == "Recreate" => {
                "strategy Recreate: a restart ends all pods before the first new one comes".to_owned()
            }
            "Deployment" => {
                let (_, unavailable) = surge_and_unavailable(object);
                if unavailable < count {
                    continue;
                }
                format!("a restart may end {} at once: maxUnavailable is {unavailable}", pods(count))
            }
            "StatefulSet" if count == 1 => "one replica: while it restarts nobody serves".to_owned(),
            _ => continue,
        };
        let advice = "give it a second replica or a surge, or restart it when a gap is no harm";
        findings.push(warning(Code::NoSurge, subject_of(verdict), message, advice));
    }
    findings
}

fn pods(count: u64) -> String {
    if count == 1 { "its only pod".to_owned() } else { format!("all {count} pods") }
}

/// Budgets that allow no disruption, where only evictions replace pods.
pub fn disruption_budgets(facts: &Facts) -> Vec<Finding> {
    disruption::findings(facts.items(List::PodDisruptionBudgets), facts.survey.snapshot.workloads.iter())
}

/// What is no plain roll-out: paused, by deletion, in part, by nobody, or fixed.
pub fn hard_to_replace(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for verdict in with_proxies(facts) {
        let subject = subject_of(verdict);
        let advice = verdict.advice();
        match verdict.state {
            State::Unknown => {
                let message = format!("what its new pods would get is unknown: {}", verdict.why);
                findings.push(error(Code::Unknown, subject, message, advice));
                continue;
            }
            State::Orphaned => {
                let message = "its own control plane is gone: its certificates and configuration run out";
                findings.push(warning(Code::Orphaned, subject.clone(), message, advice));
            }
            State::Leaving => {
                let message = format!("its next pod has no proxy: {}", verdict.why);
                let advice = Advice::run(Command::mesh_upgrade("restart"))
                    .and_say(" leaves it alone; every other restart takes its proxy away");
                findings.push(warning(Code::Leaving, subject.clone(), message, advice));
            }
            // A gateway with a fixed image is told as one.
            State::Pinned if verdict.proxy_type == ProxyType::Gateway => continue,
            State::Pinned => {
                let message = "its proxy is fixed by itself: a restart brings the same";
                findings.push(warning(Code::Pinned, subject, message, advice));
                continue;
            }
            _ => {}
        }
        match &verdict.restart {
            Restart::Rollout | Restart::ArgoRollout => {}
            Restart::Paused => {
                let resume = match &*verdict.workload.kind {
                    "Deployment" => {
                        let place = Command::kubectl("").namespace(&verdict.workload.namespace);
                        place.words("rollout resume deployment").value(&*verdict.workload.name).into()
                    }
                    _ => Advice::say("take spec.paused away"),
                };
                findings.push(warning(Code::Paused, subject, "it is paused: a restart does nothing before it goes on", resume));
            }
            Restart::OnDelete => {
                let message = "its pods change only when they are deleted";
                findings.push(info(Code::OnDelete, subject, message, evicted()));
            }
            Restart::Partitioned(partition) => {
                let message = format!("its partition keeps the pods below {partition} as they are");
                findings.push(warning(Code::Partition, subject, message, "set spec.updateStrategy.rollingUpdate.partition to 0"));
            }
            Restart::Eviction => {
                let message = "a ReplicaSet without a Deployment: its pods change only when they are evicted";
                findings.push(info(Code::BareReplicaSet, subject, message, evicted()));
            }
            Restart::Operator(operator) => {
                let message = format!("{} makes its pods, and restarts them in its own way", operator.name);
                findings.push(info(
                    Code::Operator,
                    subject,
                    message,
                    Advice::run(Command::mesh_upgrade("restart")).and_say(" asks it to"),
                ));
            }
            Restart::Owned(owner) | Restart::EvictOwned(owner) => {
                let remedy = owner.remedy(&verdict.workload.namespace);
                let advice = Advice::say(format!("{remedy}, or let restart --evict-owned evict its pods one by one"));
                findings.push(warning(Code::OperatorOwned, subject, owner.why(), advice));
            }
            Restart::Never(why) => {
                findings.push(info(Code::RunsToItsEnd, subject, format!("{why}: it keeps its proxy until then"), "wait for it"));
            }
            Restart::Unknown(why) if &*verdict.workload.kind == "Pod" => {
                let message = format!("nobody brings it back: {why}");
                findings.push(warning(Code::BarePod, subject, message, "delete and create it again, when its work allows"));
            }
            Restart::Unknown(why) => {
                let message = format!("nobody here knows how to restart it: {why}");
                findings.push(warning(Code::UnknownOwner, subject, message, "restart it through its owner"));
            }
        }
    }
    findings
}

fn evicted() -> Advice {
    Advice::run(Command::mesh_upgrade("restart")).and_say(" evicts them one by one")
}

/// Requests and limits of the proxy that a workload fixes by its own annotations: a newer proxy may need more than an older one got.
///
/// The annotations of `istio.io/api/annotation` that the injection template reads (manifests/charts/istio-control/istio-discovery/
/// files/injection-template.yaml).
pub fn proxy_resources(facts: &Facts) -> Vec<Finding> {
    const FIXED: [&str; 4] = [
        "sidecar.istio.io/proxyCPU",
        "sidecar.istio.io/proxyCPULimit",
        "sidecar.istio.io/proxyMemory",
        "sidecar.istio.io/proxyMemoryLimit",
    ];
    let mut findings = Vec::new();
    for (verdict, object) in objects(facts) {
        let annotations = &object["spec"]["template"]["metadata"]["annotations"];
        let fixed: Vec<String> = FIXED.iter().filter_map(|key| Some(format!("{key}={}", annotations[*key].as_str()?))).collect();
        if !fixed.is_empty() {
            let message = format!("fixes its proxy's resources by {}: a newer proxy may need more", fixed.join(", "));
            findings.push(info(
                Code::ProxyResources,
                subject_of(verdict),
                message,
                "compare with what the first workload that moves uses",
            ));
        }
    }
    findings
}

/// What is not well before the upgrade will be taken for its harm.
pub fn not_healthy(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (verdict, object) in objects(facts) {
        let status = &object["status"];
        let (wanted, ready) = match &*verdict.workload.kind {
            "DaemonSet" => (status["desiredNumberScheduled"].as_u64().unwrap_or(0), &status["numberReady"]),
            _ => (replicas(object), &status["readyReplicas"]),
        };
        let ready = ready.as_u64().unwrap_or(0);
        if ready < wanted {
            let id = &verdict.workload;
            let status = Command::kubectl("").namespace(&id.namespace).words("rollout status").value(id.type_name());
            let advice = Advice::run(status).and_say(" says what it waits for");
            findings.push(warning(Code::NotReady, subject_of(verdict), format!("{ready} of {wanted} pods are ready"), advice));
        }
    }
    findings
}

/// Quotas that leave no room for one more pod: a roll-out that may not take away before it adds waits for ever.
pub fn quotas(facts: &Facts) -> Vec<Finding> {
    const ROOM: [&str; 8] =
        ["pods", "count/pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
    let mut findings = Vec::new();
    for quota in facts.items(List::ResourceQuotas) {
        let (hard, used) = (&quota["status"]["hard"], &quota["status"]["used"]);
        let full: Vec<&str> = ROOM.into_iter().filter(|key| hard[*key].is_string() && hard[*key] == used[*key]).collect();
        if full.is_empty() {
            continue;
        }
        for (verdict, object) in objects(facts) {
            let is_here = quota["metadata"]["namespace"] == *verdict.workload.namespace;
            if is_here && needs_room(&verdict.workload.kind, object) {
                let message = format!(
                    "a restart needs room for one more pod, and {} has none: {} is used up",
                    subject("resourcequotas", quota),
                    full.join(", ")
                );
                findings.push(warning(
                    Code::Quota,
                    subject_of(verdict),
                    message,
                    "raise the quota, or let one pod be unavailable",
                ));
            }
        }
    }
    findings
}

/// Autoscalers at their maximum: under load, a restart takes away pods that nobody can add.
pub fn autoscalers(facts: &Facts) -> Vec<Finding> {
    let is_istiods = |namespace: &Value, name: &Value| {
        facts
            .survey
            .istiods
            .iter()
            .any(|istiod| istiod["metadata"]["namespace"] == *namespace && istiod["metadata"]["name"] == *name)
    };
    let is_of_mesh = |kind: &Value, namespace: &Value, name: &Value| {
        with_proxies(facts).any(|verdict| {
            let id = &verdict.workload;
            *kind == *id.kind && *namespace == *id.namespace && *name == *id.name
        })
    };
    let mut findings = Vec::new();
    for autoscaler in facts.items(List::HorizontalPodAutoscalers) {
        let (spec, status) = (&autoscaler["spec"], &autoscaler["status"]);
        let (Some(most), Some(current)) = (spec["maxReplicas"].as_u64(), status["currentReplicas"].as_u64()) else { continue };
        // One that may have a single pod is at its maximum always.
        if current < most || most <= 1 {
            continue;
        }
        let (target, namespace) = (&spec["scaleTargetRef"], &autoscaler["metadata"]["namespace"]);
        let is_ours = is_of_mesh(&target["kind"], namespace, &target["name"]) || is_istiods(namespace, &target["name"]);
        if is_ours {
            let message = format!("is at its maximum of {most}: nothing is added while a restart takes pods away");
            let advice = "raise maxReplicas, or wait for less load";
            findings.push(warning(
                Code::HpaAtMaximum,
                subject("horizontalpodautoscalers.autoscaling", autoscaler),
                message,
                advice,
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh::finding::Severity::{Error, Info, Warning};
    use mesh::proxy::Proxy;
    use mesh::template::Template;
    use mesh::workload::{Workload, WorkloadId};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn proxy() -> Proxy {
        Proxy {
            proxy_type: ProxyType::Sidecar,
            revision: Some("1-26-0".into()),
            image: "docker.io/istio/proxyv2:1.26.0".into(),
            is_native: false,
        }
    }

    /// A workload `web` in `shop` with three proxies.
    fn workload(kind: &str, restart: Restart) -> Workload {
        let mut interner = mesh::object::Interner::default();
        let labels = [(interner.text("app"), interner.text("web"))].into_iter().collect();
        Workload {
            id: WorkloadId {
                namespace: "shop".into(),
                api_version: if kind == "Pod" { "v1".into() } else { "apps/v1".into() },
                kind: Arc::from(kind),
                name: "web".into(),
            },
            template: Template { labels, ..Template::default() },
            restart,
            gateway: None,
            proxies: vec![(Some(proxy()), 3)],
            pods: Vec::new(),
            uid: None,
            wanted_pods: None,
            revision: None,
            others: Vec::new(),
            doubt: None,
        }
    }

    fn facts(kind: &str, restart: Restart, lists: Vec<(List, Vec<Value>)>) -> Facts {
        let mut facts = sample(lists);
        facts.survey.snapshot.namespaces.insert("shop".into(), mesh::object::Labels::default());
        facts.survey.snapshot.workloads = vec![workload(kind, restart)];
        facts.verdicts = mesh::verdict::verdicts(&facts.survey.snapshot, &std::collections::HashMap::new());
        assert_eq!(facts.verdicts.len(), 1);
        // Nobody injects here, which is not what these tests are about.
        facts.verdicts[0].state = State::Current;
        facts
    }

    fn deployment(spec: Value) -> Vec<(List, Vec<Value>)> {
        vec![(List::Deployments, vec![json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})])]
    }

    #[test]
    fn a_restart_that_leaves_nobody_serving_is_told() {
        let found = |spec| brief(&without_surge(&facts("Deployment", Restart::Rollout, deployment(spec))));
        let rolling =
            |surge: Value, unavailable: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        assert_eq!(found(json!({"replicas": 1})), []);
        assert_eq!(found(json!({"replicas": 1, "strategy": rolling(json!(0), json!(1))})), [("no-surge", Warning)]);
        assert_eq!(found(json!({"replicas": 1, "strategy": rolling(json!("25%"), json!("25%"))})), []);
        assert_eq!(found(json!({"replicas": 3, "strategy": rolling(json!(0), json!("100%"))})), [("no-surge", Warning)]);
        assert_eq!(found(json!({"replicas": 3, "strategy": rolling(json!(0), json!(1))})), []);
        assert_eq!(found(json!({"replicas": 3, "strategy": {"type": "Recreate"}})), [("no-surge", Warning)]);
        assert_eq!(found(json!({"replicas": 0, "strategy": {"type": "Recreate"}})), []);
        let stateful = |replicas: u32| {
            let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": replicas}});
            brief(&without_surge(&facts("StatefulSet", Restart::Rollout, vec![(List::StatefulSets, vec![object])])))
        };
        assert_eq!((stateful(1), stateful(2)), (vec![("no-surge", Warning)], Vec::new()));
    }

    #[test]
    fn a_budget_at_zero_blocks_evictions_and_no_roll_out() {
        let budget = |allowed: u32, app: &str| {
            json!({"metadata": {"name": "budget", "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": app}}},
                "status": {"disruptionsAllowed": allowed, "expectedPods": 3}})
        };
        let found = |restart, budget| {
            brief(&disruption_budgets(&facts("StatefulSet", restart, vec![(List::PodDisruptionBudgets, vec![budget])])))
        };
        assert_eq!(found(Restart::Rollout, budget(0, "web")), []);
        assert_eq!(found(Restart::Eviction, budget(0, "web")), [("pdb-blocks", Error)]);
        assert_eq!(found(Restart::Partitioned(1), budget(0, "web")), [("pdb-blocks", Error)]);
        assert_eq!(found(Restart::OnDelete, budget(0, "web")), [("pdb-blocks", Error)]);
        assert_eq!(found(Restart::OnDelete, budget(1, "web")), []);
        assert_eq!(found(Restart::OnDelete, budget(0, "other")), []);
    }

    #[test]
    fn every_way_of_replacing_pods_that_is_no_roll_out_is_told() {
        let found = |kind, restart| brief(&hard_to_replace(&facts(kind, restart, Vec::new())));
        assert_eq!(found("Deployment", Restart::Rollout), []);
        assert_eq!(found("Deployment", Restart::Paused), [("paused", Warning)]);
        assert_eq!(found("StatefulSet", Restart::OnDelete), [("on-delete", Info)]);
        assert_eq!(found("StatefulSet", Restart::Partitioned(2)), [("partition", Warning)]);
        assert_eq!(found("ReplicaSet", Restart::Eviction), [("bare-replica-set", Info)]);
        assert_eq!(found("Job", Restart::Never("a Job".to_owned())), [("runs-to-its-end", Info)]);
        assert_eq!(found("Pod", Restart::Unknown("no owner".to_owned())), [("bare-pod", Warning)]);
        assert_eq!(found("PodGang", Restart::Unknown("an owner".to_owned())), [("unknown-owner", Warning)]);
    }

    #[test]
    fn what_is_unknown_blocks_and_what_is_pinned_orphaned_or_leaving_is_told() {
        let mut unknown = facts("Deployment", Restart::Rollout, Vec::new());
        unknown.verdicts[0].state = State::Unknown;
        assert_eq!(brief(&hard_to_replace(&unknown)), [("unknown", Error)]);
        for (state, code) in [(State::Pinned, "pinned"), (State::Orphaned, "orphaned"), (State::Leaving, "leaving")] {
            unknown.verdicts[0].state = state;
            assert_eq!(brief(&hard_to_replace(&unknown)), [(code, Warning)]);
        }
        unknown.verdicts[0].state = State::Pinned;
        unknown.verdicts[0].proxy_type = ProxyType::Gateway;
        assert_eq!(brief(&hard_to_replace(&unknown)), []);
    }

    #[test]
    fn resources_that_a_workload_fixes_for_its_proxy_are_told() {
        let found = |annotations: Value| {
            let spec = json!({"template": {"metadata": {"annotations": annotations}}});
            proxy_resources(&facts("Deployment", Restart::Rollout, deployment(spec)))
        };
        assert!(found(json!({"other": "1"})).is_empty());
        let told = found(json!({"sidecar.istio.io/proxyMemoryLimit": "128Mi"}));
        assert_eq!(brief(&told), [("proxy-resources", Info)]);
        assert!(told[0].message.contains("proxyMemoryLimit=128Mi"), "{told:#?}");
    }

    #[test]
    fn pods_that_are_not_ready_before_are_told() {
        let found = |ready: u32| {
            let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": 3}, "status": {"readyReplicas": ready}});
            brief(&not_healthy(&facts("Deployment", Restart::Rollout, vec![(List::Deployments, vec![object])])))
        };
        assert_eq!((found(3), found(2)), (Vec::new(), vec![("not-ready", Warning)]));
    }

    #[test]
    fn a_full_quota_holds_up_who_needs_one_more_pod() {
        let found = |unavailable: u32, used: &str| {
            let strategy = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": unavailable}});
            let mut lists = deployment(json!({"replicas": 3, "strategy": strategy}));
            let quota = json!({"metadata": {"name": "quota", "namespace": "shop"}, "status": {"hard": {"pods": "3"}, "used": {"pods": used}}});
            lists.push((List::ResourceQuotas, vec![quota]));
            brief(&quotas(&facts("Deployment", Restart::Rollout, lists)))
        };
        assert_eq!(found(0, "3"), [("quota", Warning)]);
        assert_eq!(found(0, "2"), []);
        assert_eq!(found(1, "3"), []);
    }

    #[test]
    fn an_autoscaler_at_its_maximum_is_told_where_it_is_the_meshs() {
        let found = |current: u32, name: &str| {
            let autoscaler = json!({"metadata": {"name": "web", "namespace": "shop"},
                "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": name}}, "status": {"currentReplicas": current}});
            brief(&autoscalers(&facts("Deployment", Restart::Rollout, vec![(List::HorizontalPodAutoscalers, vec![autoscaler])])))
        };
        assert_eq!(found(5, "web"), [("hpa-at-maximum", Warning)]);
        assert_eq!((found(4, "web"), found(5, "other")), (Vec::new(), Vec::new()));
    }
}
