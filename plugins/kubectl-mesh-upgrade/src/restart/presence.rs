//! Whether the pods of a workload are all there. What counts is each pod, never a number of its status: a StatefulSet and a DaemonSet
//! count a pod that is being deleted as ready until it is gone.

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::engine::{Change, End, Engine, Rollout};
use super::event::Outcome;
use super::looks::LOOK;
use super::pods::OwnPod;

/// Whether the pods of a workload are all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// As many as it is to have live and are available.
    Complete,
    /// They are not: what is waited for.
    Lacking(String),
    /// It is to have none any more: why.
    Unneeded(&'static str),
    /// It is to have no pod, so that nothing can be proved of its pods: why.
    Nothing(&'static str),
}

impl Presence {
    /// Of a workload with these pods, at a time of the API server's clock. `evicted` is the uid of a pod that has to be gone.
    pub fn of(object: &Value, pods: &[OwnPod], evicted: Option<&str>, now: Timestamp) -> Presence {
        let living = pods.iter().filter(|pod| !pod.is_leaving()).count();
        let leaving = pods.iter().find(|pod| pod.is_leaving());
        let wanted = match wanted_pods(object) {
            Some(0) if object["kind"] == "DaemonSet" => {
                return Presence::Unneeded("no node is to run a pod of it: there is nothing left to prove");
            }
            Some(0) => return Presence::Unneeded("scaled to 0: there is nothing left to prove"),
            Some(wanted) => wanted,
            None if pods.is_empty() => return Presence::Nothing("it has no pod: there is nothing to prove"),
            // Nobody here knows how many it is to have: one that is being deleted is one that is missing.
            None => living + usize::from(leaving.is_some()),
        };
        if let Some(pod) = pods.iter().find(|pod| evicted == Some(pod.uid())) {
            return Presence::Lacking(format!("pod {} is still being deleted", pod.name()));
        }
        let seconds = object["spec"]["minReadySeconds"].as_i64().unwrap_or(0);
        let available = pods.iter().filter(|pod| !pod.is_leaving() && pod.has_been_ready_for(seconds, now)).count();
        // An operator's pods come and go in its own way.
        let is_counted = wanted_pods(object).is_some();
        if living < wanted || is_counted && available < wanted {
            let gone = leaving.map_or(String::new(), |pod| format!("; pod {} is still being deleted", pod.name()));
            return Presence::Lacking(format!("{available} of {wanted} pods are available{gone}"));
        }
        Presence::Complete
    }
}

/// How many pods a workload is to have, where its object tells.
fn wanted_pods(object: &Value) -> Option<usize> {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let (spec, status) = (&object["spec"], &object["status"]);
    match object["kind"].as_str()? {
        "DaemonSet" => Some(number(&status["desiredNumberScheduled"]).unwrap_or(0)),
        "Deployment" | "StatefulSet" | "ReplicaSet" | "Rollout" => Some(number(&spec["replicas"]).unwrap_or(1)),
        // CloudNativePG counts instances, Strimzi lists the pods.
        _ => number(&spec["instances"]).or_else(|| spec["pods"].as_array().map(Vec::len)),
    }
}

impl Engine<'_> {
    /// Waits until a roll-out is complete and all pods of the workload are there, without the one that was `evicted`. Gives the
    /// object and its living pods as they are then.
    pub(super) async fn gathered(
        &self,
        rollout: &Rollout<'_>,
        change: Option<Change>,
        evicted: Option<&str>,
    ) -> Result<(Value, Vec<OwnPod>), End> {
        let (item, mut change) = (rollout.item, change);
        loop {
            let object = self.complete(rollout, change.take()).await?;
            let mut pods = self.pods.with_leaving(&item.workload, &object, item.wanted.as_ref()).await?;
            let waits_for = match Presence::of(&object, &pods, evicted, self.time()) {
                Presence::Complete => {
                    pods.retain(|pod| !pod.is_leaving());
                    return Ok((object, pods));
                }
                Presence::Unneeded(why) => return Err(End::Unneeded(why)),
                Presence::Nothing(why) => return Err(End::Outcome(Outcome::Skipped(why.to_owned()))),
                Presence::Lacking(what) => what,
            };
            if Instant::now() >= rollout.deadline {
                let why = format!("not rolled out within {} s: {waits_for}", self.limits.timeout.as_secs());
                return Err(End::Outcome(Outcome::Failed(why)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::restart::pods::Standing;

    const NOW: &str = "2026-01-01T00:01:00Z";

    fn pod(uid: &str, ready_since: Option<&str>) -> OwnPod {
        let conditions = ready_since.map(|time| json!([{"type": "Ready", "status": "True", "lastTransitionTime": time}]));
        let object = json!({"metadata": {"name": uid, "uid": uid}, "status": {"conditions": conditions}});
        OwnPod { object, standing: Standing::Wanted }
    }

    fn ready(uid: &str) -> OwnPod {
        pod(uid, Some("2026-01-01T00:00:50Z"))
    }

    fn leaving(uid: &str) -> OwnPod {
        let mut pod = ready(uid);
        pod.object["metadata"]["deletionTimestamp"] = NOW.into();
        pod
    }

    fn is(object: &Value, pods: &[OwnPod], evicted: Option<&str>, expected: &str) {
        let told = match Presence::of(object, pods, evicted, NOW.parse().unwrap()) {
            Presence::Complete => String::new(),
            Presence::Lacking(what) => what,
            Presence::Unneeded(why) | Presence::Nothing(why) => why.to_owned(),
        };
        assert_eq!(told, expected, "{object} {pods:?}");
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_there_and_not_gone() {
        // As the StatefulSet controller writes it: its status counts the one that is being deleted.
        let db = json!({"kind": "StatefulSet", "spec": {"replicas": 3}, "status": {"readyReplicas": 3, "replicas": 3}});
        is(&db, &[ready("a"), ready("b"), ready("c")], None, "");
        is(&db, &[leaving("a"), ready("b"), ready("c")], None, "2 of 3 pods are available; pod a is still being deleted");
        is(&db, &[leaving("a"), ready("b"), ready("c")], Some("a"), "pod a is still being deleted");
        is(&db, &[ready("a"), ready("b"), ready("c")], Some("a"), "pod a is still being deleted");
        is(&db, &[ready("b"), ready("c")], Some("a"), "2 of 3 pods are available");
        is(&db, &[pod("new", None), ready("b"), ready("c")], Some("a"), "2 of 3 pods are available");
        is(&db, &[ready("new"), ready("b"), ready("c")], Some("a"), "");
        // Of a ReplicaSet a new one comes at once, while the old one is still being deleted.
        let bare = json!({"kind": "ReplicaSet", "spec": {"replicas": 2}});
        is(&bare, &[leaving("a"), ready("b"), ready("new")], None, "");
        is(&bare, &[leaving("a"), ready("b"), ready("new")], Some("a"), "pod a is still being deleted");
        let agent = json!({"kind": "DaemonSet", "status": {"desiredNumberScheduled": 1, "numberAvailable": 1}});
        is(&agent, &[leaving("a")], None, "0 of 1 pods are available; pod a is still being deleted");
    }

    #[test]
    fn no_pod_at_all_proves_nothing() {
        is(&json!({"kind": "StatefulSet", "spec": {"replicas": 3}}), &[], None, "0 of 3 pods are available");
        is(&json!({"kind": "Deployment", "spec": {}}), &[], None, "0 of 1 pods are available");
        let nothing = "scaled to 0: there is nothing left to prove";
        is(&json!({"kind": "StatefulSet", "spec": {"replicas": 0}}), &[], None, nothing);
        is(&json!({"kind": "StatefulSet", "spec": {"replicas": 0}}), &[leaving("a")], Some("a"), nothing);
        is(
            &json!({"kind": "DaemonSet", "status": {"desiredNumberScheduled": 0}}),
            &[],
            None,
            "no node is to run a pod of it: there is nothing left to prove",
        );
        is(&json!({"kind": "Cluster", "spec": {"instances": 3}}), &[ready("a")], None, "1 of 3 pods are available");
        is(&json!({"kind": "StrimziPodSet", "spec": {"pods": [{}]}}), &[], None, "0 of 1 pods are available");
        is(&json!({"kind": "Odd"}), &[], None, "it has no pod: there is nothing to prove");
        is(&json!({"kind": "Odd"}), &[leaving("a")], None, "0 of 1 pods are available; pod a is still being deleted");
        is(&json!({"kind": "Odd"}), &[pod("a", None)], None, "");
    }

    #[test]
    fn a_pod_is_available_once_it_was_ready_for_as_long_as_the_workload_says() {
        let db = |seconds: i64| json!({"kind": "StatefulSet", "spec": {"replicas": 1, "minReadySeconds": seconds}});
        is(&db(10), &[ready("a")], None, "");
        is(&db(11), &[ready("a")], None, "0 of 1 pods are available");
        is(&db(0), &[pod("a", None)], None, "0 of 1 pods are available");
    }
}
