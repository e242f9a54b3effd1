//! The status as one document.

use mesh::health;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::findings;
use serde_json::{Value, json};

use super::certificate::{Certificates, certificates};
use super::model::{Left, Share, Status};
use crate::revisions::Revision;
use crate::survey::Survey;

/// The whole document. Its items are the namespaces.
pub fn document(survey: &Survey, status: &Status, advisor: &Advisor) -> Value {
    let total = status.total();
    let mut document = json!({
        "apiVersion": "kubectl-mesh/v1",
        "kind": "UpgradeStatus",
        "to": status.to,
        "summary": {
            "proxies": total.proxies,
            "migrated": total.migrated,
            "workloadsLeft": status.left.len(),
            "isComplete": !status.has_left(),
        },
        "revisions": survey.revisions.iter().map(|found| revision(found, status)).collect::<Vec<_>>(),
        "items": status.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "left": status.left.iter().map(|left| left_item(left, status, advisor)).collect::<Vec<_>>(),
        "findings": health::findings(&survey.snapshot).iter().map(|finding| findings::document(finding, advisor)).collect::<Vec<_>>(),
    });
    if let Some(next) = status.next_command(None) {
        document["next"] = advisor.command(&next).into();
    }
    document
}

fn revision(revision: &Revision, status: &Status) -> Value {
    let mut item = json!({
        "revision": revision.name,
        "readiness": revision.readiness_name(),
        "proxies": revision.proxies,
        "tags": revision.tags,
        "role": status.role(revision),
    });
    if let Some(version) = revision.version() {
        item["version"] = version.to_string().into();
    }
    match certificates(revision) {
        Certificates::Renewed => {}
        Certificates::Ending(expiry) => {
            item["certificates"] =
                json!({"renewed": false, "earliestEnd": expiry.earliest.to_string(), "latestEnd": expiry.latest.to_string()});
        }
        Certificates::NoSource => item["certificates"] = json!({"renewed": false}),
    }
    item
}

fn namespace(share: &Share) -> Value {
    let by_revision: Vec<Value> =
        share.by_revision.iter().map(|(revision, count)| json!({"revision": revision, "count": count})).collect();
    json!({
        "namespace": &*share.namespace,
        "proxies": share.proxies,
        "migrated": share.migrated,
        "running": by_revision,
    })
}

fn left_item(left: &Left, status: &Status, advisor: &Advisor) -> Value {
    let id = &left.verdict.workload;
    let mut item = json!({
        "namespace": &*id.namespace,
        "workload": {"apiVersion": &*id.api_version, "kind": &*id.kind, "name": &*id.name},
        "proxyType": left.verdict.proxy_type.as_str(),
        "state": left.verdict.state.as_str(),
        "reasons": left.verdict.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
        "proxies": left.proxies,
        "why": left.why.code(),
        "message": left.why.words(),
    });
    let own = advisor.advice(None, &left.verdict);
    let command = || status.command(&left.why, None).map(|command| advisor.command(&command));
    let advice = if own.is_empty() { command().unwrap_or_default() } else { own };
    if !advice.is_empty() {
        item["advice"] = advice.into();
    }
    item
}
