//! Pods that are not ready: since when, and what they wait for. A pod that is there and does not work is not migrated.

use std::cell::RefCell;
use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::list::{Begin, List, Observer};
use crate::object::{Encoded, Object, Resource, Time};

/// How long a pod may take to get ready before it counts as stuck: a Deployment's `progressDeadlineSeconds`, unless it says otherwise
/// (k8s.io/api/apps/v1/types.go).
const PATIENCE: SignedDuration = SignedDuration::from_secs(600);

/// Longer messages are cut.
const LENGTH: usize = 120;

/// A pod that is not ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotReady {
    /// Its name.
    pub pod: String,
    /// Since when; `None` where its status does not say.
    pub since: Option<Timestamp>,
    /// What it waits for, where its status says that it will not come by itself.
    pub reason: Option<String>,
}

impl NotReady {
    /// Whether nothing suggests that it gets ready by itself.
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        self.reason.is_some() || self.since.is_some_and(|since| now.duration_since(since) > PATIENCE)
    }
}

/// The pods that are not ready, by namespace and name.
#[derive(Debug, Default)]
pub struct Unready(RefCell<HashMap<(String, String), NotReady>>);

impl Unready {
    /// What is known of a pod that is not ready; `None` for one that is.
    pub fn of(&self, namespace: &str, pod: &str) -> Option<NotReady> {
        self.0.borrow().get(&(namespace.to_owned(), pod.to_owned())).cloned()
    }
}

impl Observer for Unready {
    fn object(&self, _object: &Object) {}

    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        let Object::Pod(pod) = object else { return };
        let Some(metadata) = &pod.metadata else { return };
        // What cannot be read of a status is no readiness: the pod counts as one that is not ready, and nothing tells why.
        let status = status_of(encoded).unwrap_or_default();
        if !status.is_ready() {
            let key = (metadata.namespace.clone(), metadata.name.clone());
            let created = metadata.creation_timestamp.and_then(timestamp);
            self.0.borrow_mut().insert(key, status.not_ready(&metadata.name, created));
        }
    }

    fn restart(&self, list: &List, _begin: Begin) {
        self.0.borrow_mut().retain(|(namespace, _), _| !list.covers(Resource::Pods, namespace));
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_second(time.seconds).ok()
}

fn status_of(encoded: Encoded<'_>) -> Option<Status> {
    use prost::Message;
    match encoded {
        Encoded::Protobuf(bytes) => Pod::decode(bytes).ok()?.status,
        Encoded::Json(text) => serde_json::from_slice::<Pod>(text).ok()?.status,
    }
}

/// A pod's status, and nothing else of it (k8s.io/api/core/v1/generated.proto).
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
struct Pod {
    #[prost(message, optional, tag = "3")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[prost(message, repeated, tag = "2")]
    conditions: Vec<Condition>,
    #[prost(message, repeated, tag = "8")]
    container_statuses: Vec<Container>,
    #[prost(message, repeated, tag = "10")]
    init_container_statuses: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(string, tag = "2")]
    status: String,
    #[prost(message, optional, tag = "4")]
    last_transition_time: Option<Time>,
    #[prost(string, tag = "6")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    state: Option<State>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct State {
    #[prost(message, optional, tag = "1")]
    waiting: Option<Waiting>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct Waiting {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    message: String,
}

impl Status {
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == kind)
    }

    fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    fn not_ready(&self, pod: &str, created: Option<Timestamp>) -> NotReady {
        let since = self.condition("Ready").and_then(|condition| condition.last_transition_time).and_then(timestamp);
        NotReady { pod: pod.to_owned(), since: since.or(created), reason: self.reason() }
    }

    /// What it waits for: a start that succeeds, an image, a node. That a container is being made is none.
    fn reason(&self) -> Option<String> {
        let containers = self.init_container_statuses.iter().chain(&self.container_statuses);
        let waits = |container: &Container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let is_usual = matches!(waiting.reason.as_str(), "" | "PodInitializing" | "ContainerCreating");
            let message = if waiting.message.is_empty() { String::new() } else { format!(" ({})", cut(&waiting.message)) };
            (!is_usual).then(|| format!("container {}: {}{message}", container.name, waiting.reason))
        };
        containers.into_iter().find_map(waits).or_else(|| {
            let scheduled = self.condition("PodScheduled").filter(|condition| condition.status == "False")?;
            Some(format!("no node: {}", cut(&scheduled.message)))
        })
    }
}

fn cut(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LENGTH { line } else { line.chars().take(LENGTH).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn seen(status: &serde_json::Value) -> Option<NotReady> {
        let text = json!({"metadata": {"name": "web-1", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status});
        let object = Object::from_json(Resource::Pods, text.to_string().as_bytes()).unwrap();
        let unready = Unready::default();
        unready.encoded(&object, Encoded::Json(text.to_string().as_bytes()));
        let by_json = unready.of("shop", "web-1");
        // The other encoding says the same.
        let pod: Pod = serde_json::from_value(text).unwrap();
        let unready = Unready::default();
        unready.encoded(&object, Encoded::Protobuf(&pod.encode_to_vec()));
        assert_eq!(unready.of("shop", "web-1"), by_json);
        by_json
    }

    #[test]
    fn a_pod_is_ready_or_says_what_it_waits_for() {
        assert_eq!(seen(&json!({"conditions": [{"type": "Ready", "status": "True"}]})), None);
        let time = "2026-01-02T00:00:00Z";
        let not_ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": time});
        let now = |text: &str| text.parse::<Timestamp>().unwrap();
        let young = seen(&json!({"conditions": [not_ready]})).unwrap();
        assert_eq!((young.since, &young.reason), (time.parse().ok(), &None));
        assert!(!young.is_stuck(now("2026-01-02T00:10:00Z")) && young.is_stuck(now("2026-01-02T00:10:01Z")));
        let homeless = json!({"type": "PodScheduled", "status": "False", "message": "0/1 nodes are\n available"});
        let homeless = seen(&json!({"conditions": [homeless]})).unwrap();
        assert_eq!(
            (homeless.since, homeless.reason.as_deref()),
            ("2026-01-01T00:00:00Z".parse().ok(), Some("no node: 0/1 nodes are available"))
        );
        assert!(homeless.is_stuck(now(time)));
        let waiting = |reason: &str| json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason}}}]});
        assert_eq!(seen(&waiting("CrashLoopBackOff")).unwrap().reason.as_deref(), Some("container app: CrashLoopBackOff"));
        assert_eq!(seen(&waiting("ContainerCreating")).unwrap().reason, None);
        assert!(seen(&json!({})).is_some());
    }
}
