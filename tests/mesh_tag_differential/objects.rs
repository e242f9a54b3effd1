//! The objects that make up tags, without what differs from cluster to cluster.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use support::Cluster;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// Every leaf of every webhook, validator and Service of Istio's: `kind/name path` and its value.
pub fn leaves(cluster: &Cluster) -> Result<BTreeMap<(String, String), String>> {
    let lists = [
        ("webhook", format!("{ADMISSION}/mutatingwebhookconfigurations")),
        ("validator", format!("{ADMISSION}/validatingwebhookconfigurations")),
        ("service", "/api/v1/services".to_owned()),
    ];
    let mut leaves = BTreeMap::new();
    for (kind, path) in lists {
        let list = cluster.api().get(&path)?;
        for object in list["items"].as_array().context("a list has items")? {
            if kind == "service" && object["metadata"]["labels"]["istio.io/rev"].is_null() {
                continue;
            }
            let subject = format!("{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            flatten(&subject, String::new(), &stable(object), &mut leaves);
        }
    }
    Ok(leaves)
}

fn stable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| !matches!(key.as_str(), "clusterIP" | "clusterIPs"));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    for entry in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        // Each cluster has certificates of its own.
        let has_bundle = entry["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
        entry["clientConfig"]["caBundle"] = has_bundle.into();
    }
    object
}

fn flatten(subject: &str, path: String, value: &Value, leaves: &mut BTreeMap<(String, String), String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(subject, path, value, leaves);
            }
        }
        // Entries by name; of everything else the order means nothing.
        Value::Array(items) if items.iter().all(|item| item["name"].is_string()) && !items.is_empty() => {
            for item in items {
                flatten(subject, format!("{path}[{}]", item["name"].as_str().unwrap_or_default()), item, leaves);
            }
        }
        Value::Array(items) => {
            let mut texts: Vec<String> = items.iter().map(Value::to_string).collect();
            texts.sort();
            leaves.insert((subject.to_owned(), path), texts.join(" "));
        }
        other => drop(leaves.insert((subject.to_owned(), path), other.to_string())),
    }
}
