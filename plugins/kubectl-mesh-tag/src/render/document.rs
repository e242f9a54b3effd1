//! Tags as one document: JSON and YAML. Its shape is a contract that only grows.

use mesh::control_plane::Readiness;
use mesh::tag::{Entry, EntryKind};
use mesh::terminal::advisor::Advisor;
use mesh::terminal::findings;
use mesh::workload::WorkloadId;
use serde_json::{Value, json};

use super::Columns;
use crate::cluster_tags::ClusterTags;

/// All tags.
pub fn document(clusters: &[ClusterTags], columns: Columns, advisor: &Advisor) -> Value {
    let mut items = Vec::new();
    let mut found = Vec::new();
    for tags in clusters {
        let advisor = advisor.of_cluster(tags.cluster.as_deref());
        let place = |mut value: Value| {
            if let Some(cluster) = &tags.cluster {
                value["cluster"] = cluster.as_str().into();
            }
            value
        };
        items.extend(tags.entries.iter().map(|one| place(entry(one, columns))));
        let faults = tags.entries.iter().flat_map(|entry| entry.faults.iter().map(|fault| fault.finding()));
        found.extend(faults.chain(tags.findings.iter().cloned()).map(|finding| place(findings::document(&finding, &advisor))));
    }
    json!({"apiVersion": "kubectl-mesh/v1", "kind": "TagList", "items": items, "findings": found})
}

/// One tag or revision.
pub fn entry(entry: &Entry, columns: Columns) -> Value {
    let followers = &entry.followers;
    let gateways = |places: &std::collections::BTreeSet<(String, String)>| -> Vec<Value> {
        places.iter().map(|(namespace, name)| json!({"namespace": namespace, "name": name})).collect()
    };
    let mut value = json!({
        "kind": match entry.kind { EntryKind::Tag => "Tag", EntryKind::Revision => "Revision" },
        "name": entry.name,
        "revision": entry.revision,
        "version": entry.version.as_ref().map(ToString::to_string),
        "ready": match entry.readiness { Readiness::Ready => json!(true), Readiness::NotReady => json!(false), Readiness::Unknown => Value::Null },
        "webhooks": entry.webhooks,
        "services": entry.services,
        "owner": entry.owner.to_string(),
        "followers": {
            "namespaces": followers.namespaces,
            "workloads": followers.pods.iter().map(|(workload, pods)| workload_pods(workload, *pods)).collect::<Vec<_>>(),
            "gateways": gateways(&followers.gateways),
            "unnamedGateways": gateways(&followers.unnamed_gateways),
        },
        "faults": entry.faults.iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(),
    });
    if columns.with_stale {
        value["proxies"] = followers.proxy_count().into();
        value["stale"] = entry.stale_count().into();
    }
    value
}

fn workload_pods(workload: &WorkloadId, pods: u32) -> Value {
    json!({
        "namespace": &*workload.namespace, "apiVersion": &*workload.api_version, "kind": &*workload.kind,
        "name": &*workload.name, "pods": pods,
    })
}
