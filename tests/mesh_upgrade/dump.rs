//! Everything in a cluster that a person would miss, to see what a command has changed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;
use support::Cluster;

/// Objects by kind, namespace and name, without what comes and goes by itself.
pub struct Dump(BTreeMap<String, Value>);

impl Dump {
    /// Looks at every kind that the API server lists, once istiods have nothing left to write by themselves.
    pub fn of(cluster: &Cluster) -> Result<Dump> {
        cluster.wait_for_validators()?;
        const PASSING: [&str; 9] =
            ["Event", "Lease", "EndpointSlice", "Endpoints", "Pod", "Node", "ReplicaSet", "IPAddress", "ControllerRevision"];
        let kinds = cluster.kubectl(["api-resources", "--verbs=list", "-o", "name"])?;
        let is_listed = |kind: &&str| !kind.starts_with("events") && !kind.contains("componentstatuses");
        let kinds: Vec<&str> = kinds.lines().filter(is_listed).collect();
        let list: Value = serde_json::from_str(&cluster.kubectl(["get", &kinds.join(","), "-A", "-o", "json"])?)?;
        let items = list["items"].as_array().context("a list")?;
        let is_kept = |object: &&Value| {
            let metadata = &object["metadata"];
            // istiods keep their leader in ConfigMaps, and write the certificate into every namespace.
            let is_lease = !metadata["annotations"]["control-plane.alpha.kubernetes.io/leader"].is_null();
            let is_certificate = metadata["name"] == "istio-ca-root-cert";
            !is_lease && !is_certificate && !PASSING.iter().any(|kind| object["kind"] == *kind)
        };
        Ok(Dump(items.iter().filter(is_kept).map(|object| (key(object), specified(object))).collect()))
    }

    /// Only those whose kind, namespace and name are meant.
    pub fn only(mut self, is_meant: impl Fn(&str) -> bool) -> Dump {
        self.0.retain(|key, _| is_meant(key));
        self
    }

    /// What is not there any more in `after`.
    pub fn gone(&self, after: &Dump) -> BTreeSet<String> {
        self.0.keys().filter(|key| !after.0.contains_key(*key)).cloned().collect()
    }

    /// What is gone, new or changed in `after`, a line each.
    pub fn differences(&self, after: &Dump) -> Vec<String> {
        let gone = self.gone(after).into_iter().map(|key| format!("gone: {key}"));
        let new = after.gone(self).into_iter().map(|key| format!("new: {key}"));
        let changed = self.0.iter().filter_map(|(key, before)| {
            let after = after.0.get(key).filter(|after| *after != before)?;
            Some(format!("changed: {key}\n  {before}\n  {after}"))
        });
        gone.chain(new).chain(changed).collect()
    }
}

fn key(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{} {} {}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// What somebody has asked for, with its identity.
fn specified(object: &Value) -> Value {
    let mut object = object.clone();
    object["status"].take();
    for field in ["managedFields", "resourceVersion", "generation"] {
        object["metadata"][field].take();
    }
    object
}
