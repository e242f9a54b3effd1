//! How far a roll-out is, read off the object: the rules of `kubectl rollout status`
//! (k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go), and of Argo Rollouts.

use mesh::workload::Restart;
use serde_json::Value;

use super::step::Replaced;

/// Annotation by which kubectl restarts; ours is the same, so that `kubectl rollout history` and `undo` behave as ever.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// How far a roll-out is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its newest template runs, and nothing else.
    Complete,
    /// It goes on: what it waits for.
    Running(String),
    /// It has given up: why.
    Failed(String),
}

/// How far it is.
pub fn progress(object: &Value, restart: &Restart) -> Progress {
    // What an operator makes of its custom resource is its own affair; its pods tell.
    if let Restart::Operator(_) = restart {
        return Progress::Complete;
    }
    // Argo writes its observedGeneration as a text.
    let number = |pointer: &str| match object.pointer(pointer) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    };
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Progress::Running("its controller has not seen the change yet".to_owned());
    }
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => deployment(object, &number),
        // Its pods tell: nothing of its status changes when one of them is evicted.
        _ if restart.is_by_eviction() => Progress::Complete,
        "StatefulSet" => stateful_set(object, &number),
        "DaemonSet" => daemon_set(&number),
        "Rollout" => argo(object),
        _ => replicas_ready(&number, object),
    }
}

/// How many of its pods are made from its newest template and are available, as its status tells; `None` where it tells nothing of
/// that. A pod that is not available is taken for a new one: an old one was available before.
pub fn replaced(object: &Value) -> Option<Replaced> {
    let number = |key: &str| object["status"][key].as_u64().unwrap_or(0);
    let (of, total, updated, available) = match object["kind"].as_str()? {
        "Deployment" => (wanted_replicas(object), number("replicas"), number("updatedReplicas"), number("availableReplicas")),
        "StatefulSet" => (wanted_replicas(object), number("replicas"), number("updatedReplicas"), number("readyReplicas")),
        "DaemonSet" => {
            let of = number("desiredNumberScheduled");
            (of.try_into().ok()?, of, number("updatedNumberScheduled"), number("numberAvailable"))
        }
        _ => return None,
    };
    let of = of.try_into().ok()?;
    if object["status"]["observedGeneration"].as_i64() < object["metadata"]["generation"].as_i64() {
        return Some(Replaced { done: 0, of });
    }
    let old = total.saturating_sub(updated);
    Some(Replaced { done: available.saturating_sub(old).min(updated), of })
}

/// When its controller has given a roll-out up, if it has.
pub fn given_up_at(object: &Value) -> Option<Value> {
    let found = exceeded(object)?;
    Some(found["lastUpdateTime"].clone())
}

fn exceeded(object: &Value) -> Option<&Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded")
}

fn deployment(object: &Value, number: &dyn Fn(&str) -> i64) -> Progress {
    if let Some(condition) = exceeded(object) {
        return Progress::Failed(condition["message"].as_str().unwrap_or("its progress deadline is exceeded").to_owned());
    }
    let wanted = wanted_replicas(object);
    let (updated, total, available) =
        (number("/status/updatedReplicas"), number("/status/replicas"), number("/status/availableReplicas"));
    if updated < wanted {
        let failure = failure_message(object).map_or(String::new(), |why| format!(": {why}"));
        Progress::Running(format!("{updated} of {wanted} new pods are there{failure}"))
    } else if total > updated {
        Progress::Running(format!("{} old pods are still there", total - updated))
    } else if available < updated {
        Progress::Running(format!("{available} of {updated} new pods are available"))
    } else {
        Progress::Complete
    }
}

fn stateful_set(object: &Value, number: &dyn Fn(&str) -> i64) -> Progress {
    let (wanted, updated) = (wanted_replicas(object), number("/status/updatedReplicas"));
    let is_updated = object["status"]["updateRevision"] == object["status"]["currentRevision"];
    if number("/status/readyReplicas") < wanted {
        Progress::Running(format!("{} of {wanted} pods are ready", number("/status/readyReplicas")))
    } else if !is_updated {
        Progress::Running(format!("{updated} of {wanted} new pods are there"))
    } else {
        Progress::Complete
    }
}

fn daemon_set(number: &dyn Fn(&str) -> i64) -> Progress {
    let (wanted, updated, available) =
        (number("/status/desiredNumberScheduled"), number("/status/updatedNumberScheduled"), number("/status/numberAvailable"));
    if updated < wanted {
        Progress::Running(format!("{updated} of {wanted} new pods are there"))
    } else if available < wanted {
        Progress::Running(format!("{available} of {wanted} pods are available"))
    } else {
        Progress::Complete
    }
}

fn replicas_ready(number: &dyn Fn(&str) -> i64, object: &Value) -> Progress {
    let (wanted, ready) = (wanted_replicas(object), number("/status/readyReplicas"));
    if ready < wanted { Progress::Running(format!("{ready} of {wanted} pods are ready")) } else { Progress::Complete }
}

/// Argo restarts pods one by one, and notes the restart when the last is done (rollout/restart.go of argo-rollouts).
fn argo(object: &Value) -> Progress {
    let (asked, done) = (&object["spec"]["restartAt"], &object["status"]["restartedAt"]);
    if asked.is_string() && asked != done {
        return Progress::Running("its controller is restarting the pods".to_owned());
    }
    match object["status"]["phase"].as_str() {
        Some("Healthy") => Progress::Complete,
        Some("Degraded") => Progress::Failed(object["status"]["message"].as_str().unwrap_or("it is degraded").to_owned()),
        phase => Progress::Running(format!("its phase is {}", phase.unwrap_or("unknown"))),
    }
}

fn wanted_replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// Why pods cannot be created: a quota, a policy, a webhook.
fn failure_message(object: &Value) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let failure = conditions.iter().find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")?;
    failure["message"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is(object: Value, restart: Restart, expected: &Progress) {
        assert_eq!(progress(&object, &restart), *expected, "{object}");
    }

    #[test]
    fn a_deployment_is_complete_when_only_new_pods_are_there_and_available() {
        let object = |status: Value| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        let running = |why: &str| Progress::Running(why.to_owned());
        is(object(json!({"observedGeneration": 1})), Restart::Rollout, &running("its controller has not seen the change yet"));
        is(
            object(json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 3})),
            Restart::Rollout,
            &running("1 of 2 new pods are there"),
        );
        is(
            object(json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3})),
            Restart::Rollout,
            &running("1 old pods are still there"),
        );
        is(
            object(json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 1})),
            Restart::Rollout,
            &running("1 of 2 new pods are available"),
        );
        is(
            object(json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2})),
            Restart::Rollout,
            &Progress::Complete,
        );
        let exceeded = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "too slow"}]);
        is(
            object(json!({"observedGeneration": 2, "conditions": exceeded})),
            Restart::Rollout,
            &Progress::Failed("too slow".to_owned()),
        );
    }

    #[test]
    fn what_was_replaced_is_new_and_available() {
        let object = |status: Value| json!({"kind": "Deployment", "spec": {"replicas": 2}, "status": status});
        let replaced = |status: Value| replaced(&object(status)).map(|replaced| replaced.to_string());
        let told = |done: u64| Some(format!("{done} of 2 pods replaced"));
        assert_eq!(replaced(json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2})), told(0));
        assert_eq!(replaced(json!({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2})), told(1));
        assert_eq!(replaced(json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2})), told(2));
        assert_eq!(replaced(json!({"replicas": 1, "updatedReplicas": 0, "availableReplicas": 1})), told(0));
        assert_eq!(super::replaced(&json!({"kind": "Rollout"})), None);
        let mut unseen = object(json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}));
        unseen["metadata"]["generation"] = 2.into();
        assert_eq!(super::replaced(&unseen), Some(Replaced { done: 0, of: 2 }), "the pods are those of the template before");
    }

    #[test]
    fn argo_notes_the_restart_when_it_is_done() {
        let object = |done: &str| json!({"kind": "Rollout", "spec": {"restartAt": "b"}, "status": {"restartedAt": done, "phase": "Healthy"}});
        is(object("a"), Restart::ArgoRollout, &Progress::Running("its controller is restarting the pods".to_owned()));
        is(object("b"), Restart::ArgoRollout, &Progress::Complete);
    }
}
