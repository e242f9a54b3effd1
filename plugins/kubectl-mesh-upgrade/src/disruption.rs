//! PodDisruptionBudgets that allow no eviction, where only evictions bring new pods. A rolling update asks no budget.

use mesh::advice::Advice;
use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::finding::{Code, Finding, Severity};
use mesh::needs::Needs;
use mesh::object::LabelSelector;
use mesh::snapshot::Snapshot;
use mesh::workload::{Restart, Workload};
use serde_json::Value;

use crate::lists::Found;

/// What [`read`] may ask for.
pub fn needs(namespace: Option<&str>) -> Needs {
    Needs::default().prefer(namespace, [("policy", "poddisruptionbudgets")], &["list"])
}

/// The findings about those workloads of a snapshot that are meant. Nothing is read where none of them is replaced by evictions.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn read(
    connection: &Connection,
    namespace: Option<&str>,
    snapshot: &Snapshot,
    is_meant: impl Fn(&Workload) -> bool,
) -> Result<Vec<Finding>, Failure> {
    let evicted: Vec<&Workload> =
        snapshot.workloads.iter().filter(|workload| is_evicted(workload) && is_meant(workload)).collect();
    if evicted.is_empty() {
        return Ok(Vec::new());
    }
    let list = List::of(("policy", "v1", "poddisruptionbudgets")).within(namespace);
    Ok(match Found::of(list.whole(connection).await)? {
        Found::Items(budgets) => findings(&budgets, evicted.into_iter()),
        Found::Unread(why) => {
            let subject = |workload: &&Workload| format!("{} -n {}", workload.id.qualified_name(), workload.id.namespace);
            let message = format!("whether a PodDisruptionBudget allows its evictions is not known: {why}");
            let unknown = |workload: &Workload| Finding {
                severity: Severity::Warning,
                code: Code::Forbidden,
                subject: subject(&workload),
                message: message.clone(),
                advice: Advice::say("--explain-rbac prints what this command needs"),
            };
            evicted.into_iter().map(unknown).collect()
        }
    })
}

/// Whether only evictions replace the pods of a workload, and some of them have a proxy.
fn is_evicted(workload: &Workload) -> bool {
    workload.proxy_count() > 0 && workload.restart.is_by_eviction()
}

/// What of these budgets keeps the pods of these workloads from being evicted.
pub fn findings<'a>(budgets: &[Value], workloads: impl Iterator<Item = &'a Workload> + Clone) -> Vec<Finding> {
    let mut findings = Vec::new();
    let exhausted = budgets.iter().filter(|budget| {
        let status = &budget["status"];
        status["disruptionsAllowed"] == 0 && status["expectedPods"].as_u64().is_some_and(|pods| pods > 0)
    });
    for budget in exhausted {
        let Ok(selector) = serde_json::from_value::<LabelSelector>(budget["spec"]["selector"].clone()) else { continue };
        let name = budget["metadata"]["name"].as_str().unwrap_or_default();
        let is_selected = |workload: &&Workload| {
            let is_here = budget["metadata"]["namespace"] == *workload.id.namespace;
            is_here && is_evicted(workload) && selector.matches(&workload.template.labels) != Ok(false)
        };
        for workload in workloads.clone().filter(is_selected) {
            let subject = format!("{} -n {}", workload.id.qualified_name(), workload.id.namespace);
            let why = match workload.restart {
                Restart::OnDelete => "its update strategy is OnDelete",
                Restart::Partitioned(_) => "its partition keeps a roll-out from them",
                Restart::EvictOwned(_) => "its operator would undo a restart",
                _ => "no roll-out replaces them",
            };
            let message = format!("PodDisruptionBudget {name} allows 0 disruptions, and its pods are evicted: {why}");
            let advice = Advice::say(way_out(budget, name));
            findings.push(Finding { severity: Severity::Error, code: Code::PdbBlocks, subject, message, advice });
        }
    }
    findings
}

/// What makes a budget allow an eviction. It allows as many as there are healthy pods above those that it desires; the latter
/// are all but `maxUnavailable`, or `minAvailable` (`getExpectedPodCount`, k8s.io/kubernetes/pkg/controller/disruption/disruption.go).
fn way_out(budget: &Value, name: &str) -> String {
    let (spec, status) = (&budget["spec"], &budget["status"]);
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let (expected, desired, healthy) = (number("expectedPods"), number("desiredHealthy"), number("currentHealthy"));
    let is_share = |value: &Value, share: &str| value.as_str() == Some(share);
    if spec["maxUnavailable"] == 0 || is_share(&spec["maxUnavailable"], "0%") {
        return format!("set maxUnavailable of PodDisruptionBudget {name} to 1 or more; more replicas do not help");
    }
    if is_share(&spec["minAvailable"], "100%") {
        return format!("set minAvailable of PodDisruptionBudget {name} below 100%; more replicas do not help");
    }
    if desired < expected {
        return format!("wait until its pods are ready: {healthy} of {expected} are, and the budget needs {desired}");
    }
    format!("add a replica, or lower minAvailable of PodDisruptionBudget {name}: it needs all {expected} pods")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn more_replicas_are_advised_only_where_they_help() {
        let advice = |spec: Value, expected: u64, desired: u64, healthy: u64| {
            let status = json!({"expectedPods": expected, "desiredHealthy": desired, "currentHealthy": healthy});
            way_out(&json!({"spec": spec, "status": status}), "tight")
        };
        let never = "set maxUnavailable of PodDisruptionBudget tight to 1 or more; more replicas do not help";
        assert_eq!(advice(json!({"maxUnavailable": 0}), 3, 3, 3), never);
        assert_eq!(advice(json!({"maxUnavailable": "0%"}), 3, 3, 3), never);
        assert!(advice(json!({"minAvailable": "100%"}), 3, 3, 3).contains("more replicas do not help"));
        assert!(advice(json!({"minAvailable": 2}), 2, 2, 2).starts_with("add a replica, or lower minAvailable"));
        assert!(advice(json!({"maxUnavailable": 1}), 2, 1, 1).starts_with("wait until its pods are ready: 1 of 2 are"));
        assert!(advice(json!({"minAvailable": 1}), 2, 1, 1).starts_with("wait until its pods are ready"));
    }
}
