//! The report as one document: JSON and YAML. Its shape is a contract that only grows.

use std::collections::BTreeMap;

use mesh::state::State;
use mesh::terminal::findings;
use mesh::verdict::{Running, Verdict};
use serde_json::{Map, Value, json};

use crate::report::{NamespaceRow, PodRow, Report, Rows, VersionRow, WorkloadRow};
use mesh::terminal::advisor::Advisor;

/// The whole report.
pub fn document(report: &Report, advisor: &Advisor) -> Value {
    let items: Vec<Value> = match &report.rows {
        Rows::Workloads(rows) => rows.iter().map(|row| workload(row, advisor)).collect(),
        Rows::Pods(rows) => rows.iter().map(|row| pod(row, advisor)).collect(),
        Rows::Namespaces(rows) => rows.iter().map(namespace).collect(),
        Rows::Versions(rows) => rows.iter().map(version).collect(),
    };
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|(cluster, finding)| {
            let mut value = findings::document(finding, &advisor.of_cluster(cluster.as_deref()));
            insert_cluster(&mut value, cluster.as_deref());
            value
        })
        .collect();
    json!({
        "apiVersion": "kubectl-mesh/v1",
        "kind": "ProxyReport",
        "summary": states(&report.counts),
        "items": items,
        "findings": findings,
    })
}

/// Counts of all states, so that readers need not ask whether one is there.
fn states(counts: &BTreeMap<State, usize>) -> Value {
    let count = |state: State| (state.as_str().to_owned(), counts.get(&state).copied().unwrap_or(0).into());
    Value::Object(State::ALL.into_iter().map(count).collect())
}

fn workload(row: &WorkloadRow, advisor: &Advisor) -> Value {
    let verdict = &row.verdict;
    let mut item = verdict_item(verdict);
    item["state"] = verdict.state.as_str().into();
    item["reasons"] = verdict.reasons.iter().map(|reason| reason.as_str()).collect();
    item["proxies"] = verdict.proxy_count().into();
    item["stale"] = verdict.stale_count().into();
    item["running"] = verdict.running.iter().filter_map(running).collect();
    let without_proxy: u32 = verdict.running.iter().filter(|running| running.proxy.is_none()).map(|running| running.count).sum();
    if without_proxy > 0 {
        item["withoutProxy"] = without_proxy.into();
    }
    finish(&mut item, row.cluster.as_deref(), verdict, advisor);
    item
}

fn pod(row: &PodRow, advisor: &Advisor) -> Value {
    let mut item = verdict_item(&row.verdict);
    item["pod"] = row.pod.to_string().into();
    item["state"] = row.running.state.as_str().into();
    item["reasons"] = row.running.reasons.iter().map(|reason| reason.as_str()).collect();
    item["proxies"] = u32::from(row.running.proxy.is_some()).into();
    item["stale"] = u32::from(row.running.proxy.is_some() && row.running.differs).into();
    let one = Running { count: 1, ..row.running.clone() };
    item["running"] = running(&one).into_iter().collect();
    finish(&mut item, row.cluster.as_deref(), &row.verdict, advisor);
    item
}

fn verdict_item(verdict: &Verdict) -> Value {
    let id = &verdict.workload;
    json!({
        "namespace": &*id.namespace,
        "workload": {"apiVersion": &*id.api_version, "kind": &*id.kind, "name": &*id.name},
        "proxyType": verdict.proxy_type.as_str(),
    })
}

fn finish(item: &mut Value, cluster: Option<&str>, verdict: &Verdict, advisor: &Advisor) {
    if let Some(wanted) = &verdict.wanted {
        let version = wanted.version().map(|version| version.to_string());
        item["wanted"] = object([
            ("revision", wanted.revision.clone()),
            ("tag", wanted.tag.clone()),
            ("injector", wanted.injector.clone().filter(|injector| !injector.is_empty())),
            ("version", version),
            ("image", wanted.image.clone()),
        ]);
    }
    for (key, value) in [("message", verdict.why.clone()), ("advice", advisor.advice(cluster, verdict))] {
        if !value.is_empty() {
            item[key] = value.into();
        }
    }
    insert_cluster(item, cluster);
}

/// Equal proxies, counted; pods without one are told apart.
fn running(running: &Running) -> Option<Value> {
    let proxy = running.proxy.as_ref()?;
    let mut value = object([
        ("revision", proxy.revision.as_deref().map(str::to_owned)),
        ("version", proxy.version().map(|version| version.to_string())),
        ("image", Some(proxy.image.to_string())),
    ]);
    value["count"] = running.count.into();
    if proxy.is_native {
        value["native"] = true.into();
    }
    Some(value)
}

fn namespace(row: &NamespaceRow) -> Value {
    let mut item = json!({
        "namespace": &*row.namespace,
        "proxies": row.proxies,
        "stale": row.stale,
        "states": states(&row.states),
        "runningRevisions": row.running,
        "wantedRevisions": row.wanted,
    });
    insert_cluster(&mut item, row.cluster.as_deref());
    item
}

fn version(row: &VersionRow) -> Value {
    let mut item = object([("version", Some(row.version.clone())), ("revision", row.revision.as_deref().map(str::to_owned))]);
    item["proxies"] = row.proxies.into();
    item["stale"] = row.stale.into();
    item["workloads"] = row.workloads.into();
    item["namespaces"] = row.namespaces.into();
    insert_cluster(&mut item, row.cluster.as_deref());
    item
}

/// An object of the members that have a value.
fn object<const N: usize>(members: [(&str, Option<String>); N]) -> Value {
    let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?))));
    Value::Object(members.collect::<Map<_, _>>())
}

fn insert_cluster(item: &mut Value, cluster: Option<&str>) {
    if let Some(cluster) = cluster {
        item["cluster"] = cluster.into();
    }
}
