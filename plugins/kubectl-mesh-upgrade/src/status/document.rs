//! The status as one document.

use mesh::cluster::readiness::NotReady;
use mesh::direction::Direction;
use mesh::health;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::findings;
use serde_json::{Value, json};

use super::certificate::{Certificates, certificates};
use super::model::{Beside, Left, Share, Status, Why};
use crate::revisions::Revision;
use crate::survey::Survey;

/// The whole document. Its items are the namespaces.
pub fn document(survey: &Survey, status: &Status, advisor: &Advisor) -> Value {
    let total = status.total();
    let mut document = json!({
        "apiVersion": "kubectl-mesh/v1",
        "kind": "UpgradeStatus",
        "to": status.to,
        "direction": direction(status),
        "summary": {
            "proxies": total.proxies,
            "migrated": total.migrated,
            "notReady": total.not_ready,
            "workloadsLeft": status.left.len(),
            "isComplete": !status.has_left(),
        },
        "revisions": survey.revisions.iter().map(|found| revision(found, status)).collect::<Vec<_>>(),
        "items": status.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "left": status.left.iter().map(|left| left_item(left, status, advisor)).collect::<Vec<_>>(),
        "stillInstalled": status.still_installed(),
        "besides": status.besides.iter().map(|found| beside(found, advisor)).collect::<Vec<_>>(),
        "findings": health::findings(&survey.snapshot).iter().map(|finding| findings::document(finding, advisor)).collect::<Vec<_>>(),
    });
    match &status.direction {
        // Which way is the user's to say: one command would be a guess.
        Direction::Unknown(course) => {
            let up = status.next_command(None).map(|next| json!({"direction": "up", "command": advisor.command(&next)}));
            let back = json!({"direction": "back", "command": advisor.command(&status.way_back(course))});
            document["ways"] = up.into_iter().chain([back]).collect();
        }
        _ => {
            if let Some(next) = status.next_command(None) {
                document["next"] = advisor.command(&next).into();
            }
        }
    }
    document
}

/// Which way the mesh goes, and what tells.
fn direction(status: &Status) -> Value {
    let mut direction = json!({"way": status.direction.as_str(), "message": status.headline()});
    if let Some(course) = status.direction.course() {
        direction["older"] = course.older.as_str().into();
        direction["newer"] = course.newer.as_str().into();
        direction["evidence"] = course.evidence.clone().into();
    }
    if let Some((revision, why)) = &status.unfinished {
        direction["unfinished"] = json!({"revision": revision, "message": why});
    }
    direction
}

fn beside(found: &Beside, advisor: &Advisor) -> Value {
    let mut item = json!({"why": found.code, "message": found.words, "subjects": found.subjects});
    if let Some(command) = &found.command {
        item["advice"] = advisor.command(command).into();
    }
    item
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
        "notReady": share.not_ready,
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
    if !left.not_ready.is_empty() {
        let pod =
            |pod: &NotReady| json!({"name": pod.pod, "since": pod.since.map(|since| since.to_string()), "reason": pod.reason});
        item["notReady"] = left.not_ready.iter().map(pod).collect();
    }
    let command = || status.command(&left.why, None).map(|command| advisor.command(&command)).unwrap_or_default();
    // A restart is no advice for what it would take back, nor for what is on its way.
    let is_restart = !matches!(left.why, Why::WentBack { .. } | Why::Stuck { .. } | Why::RollingOut);
    let own = if is_restart { advisor.advice(None, &left.verdict) } else { String::new() };
    let advice = if own.is_empty() { command() } else { own };
    if !advice.is_empty() {
        item["advice"] = advice.into();
    }
    item
}
