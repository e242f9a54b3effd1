//! Why a roll-out does not come to its end: what containers and events say. Read only after a failure.

use std::fmt;

use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::needs::Needs;
use mesh::workload::WorkloadId;
use serde_json::Value;

/// Longer messages are cut.
const LENGTH: usize = 240;

/// What [`reasons`] may ask for.
pub fn needs(namespace: Option<&str>) -> Needs {
    Needs::default().prefer(namespace, [("", "events")], &["list"])
}

/// What the newest warning about the workload or its pods says, and what its containers wait for; empty when nothing does, or
/// nothing may be read.
pub async fn reasons(connection: &Connection, workload: &WorkloadId, pods: &[Value]) -> Vec<String> {
    let mut reasons: Vec<String> = pods.iter().find_map(waiting).into_iter().collect();
    // The failure itself is told in any case: a reason that is not to be had is no second one.
    let events = List::of(("", "v1", "events")).in_namespace(&workload.namespace).with_fields("type=Warning");
    let events = events.whole(connection).await.unwrap_or_default();
    // A pod's own condition and the event about it have the same text of the scheduler's.
    let warning = newest_warning(&events, &workload.name);
    reasons.extend(warning.filter(|warning| !is_said(warning, &reasons)).map(|warning| warning.to_string()));
    reasons
}

/// What the newest event warns of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Warning {
    reason: String,
    message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason, cut(&self.message))
    }
}

fn is_said(warning: &Warning, reasons: &[String]) -> bool {
    let message = cut(&warning.message);
    !message.is_empty() && reasons.iter().any(|reason| reason.contains(&message))
}

/// In a word what a pod waits for that is not ready: the reason of a container that does not run, else its phase.
pub fn waits_for(pod: &Value) -> String {
    let statuses =
        ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|key| pod["status"][key].as_array()).flatten();
    let mut reasons = statuses.filter_map(|status| status["state"]["waiting"]["reason"].as_str());
    let reason = reasons.find(|reason| !matches!(*reason, "PodInitializing" | "ContainerCreating"));
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    reason.unwrap_or(if phase == "Running" { "not ready" } else { phase }).to_owned()
}

/// What a pod waits for: a place, an image, a start that succeeds.
fn waiting(pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let statuses =
        ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|key| pod["status"][key].as_array()).flatten();
    let container = statuses.into_iter().find_map(|status| {
        let state = &status["state"]["waiting"];
        let reason = state["reason"].as_str().filter(|reason| !matches!(*reason, "PodInitializing" | "ContainerCreating"))?;
        let message = state["message"].as_str().map_or(String::new(), |message| format!(" ({})", cut(message)));
        Some(format!("container {} of pod {name}: {reason}{message}", status["name"].as_str().unwrap_or_default()))
    });
    container.or_else(|| {
        let conditions = pod["status"]["conditions"].as_array()?;
        let place = conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False")?;
        Some(format!("pod {name} has no node: {}", cut(place["message"].as_str()?)))
    })
}

/// The newest warning about an object of this name, or of a name that begins with it, as those of its ReplicaSets and pods do.
fn newest_warning(events: &[Value], name: &str) -> Option<Warning> {
    let own = events.iter().filter(|event| {
        let about = event["involvedObject"]["name"].as_str().unwrap_or_default();
        about == name || about.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    });
    let newest = own.max_by_key(|event| {
        let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
        times.into_iter().filter_map(Value::as_str).map(str::to_owned).max()
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Warning { reason: text(&newest["reason"]), message: text(&newest["message"]) })
}

fn cut(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LENGTH { line } else { line.chars().take(LENGTH).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_warning_of_its_own_is_told() {
        let event = |about: &str, time: &str, message: &str| json!({"involvedObject": {"name": about}, "lastTimestamp": time, "reason": "FailedCreate", "message": message});
        let events = [
            event("web-5d", "2026-01-01T00:00:01Z", "first"),
            event("web-5d-x", "2026-01-01T00:00:03Z", "quota  is\n used up"),
            event("website-1", "2026-01-01T00:00:09Z", "another's"),
        ];
        let warning = newest_warning(&events, "web").unwrap();
        assert_eq!(warning.to_string(), "FailedCreate: quota is used up");
        assert!(is_said(&warning, &["pod web-5d-x: quota is used up".to_owned()]), "it is said once");
        assert!(!is_said(&warning, &["pod web-5d-x has no node".to_owned()]));
        assert_eq!(newest_warning(&events, "api"), None);
    }

    #[test]
    fn a_pod_that_is_not_ready_is_said_in_a_word() {
        let pod = |status: Value| waits_for(&json!({"status": status}));
        assert_eq!(pod(json!({"phase": "Pending"})), "Pending");
        assert_eq!(pod(json!({"phase": "Running"})), "not ready");
        let crashing = json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(pod(crashing), "CrashLoopBackOff");
    }

    #[test]
    fn what_a_container_waits_for_is_told() {
        let pod = |status: Value| json!({"metadata": {"name": "web-1"}, "status": status});
        let pulling = json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
        assert_eq!(waiting(&pod(pulling)).as_deref(), Some("container app of pod web-1: ImagePullBackOff (no such image)"));
        let homeless = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]});
        assert_eq!(waiting(&pod(homeless)).as_deref(), Some("pod web-1 has no node: 0/3 nodes"));
        assert_eq!(waiting(&pod(json!({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}))), None);
    }
}
