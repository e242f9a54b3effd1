//! What a rollback changes: decided from what was read, before anything is written.

use mesh::advice::{Advice, Command};
use mesh::cluster::Sight;
use mesh::control_plane::Readiness;
use mesh::installation::{Installation, label, name, namespace};
use mesh::labels;
use mesh::object::{Lookup, StringMap};
use mesh::owner::{Owner, owner_of_labels};
use mesh::refusal::Refusal;
use mesh::session::VERSION;
use mesh::snapshot::Snapshot;
use mesh::state::State;
use mesh::tag::{self, GatewayRevisions, Handover, SetRequest, TagPlan, check_answers, history, plan_set, plan_undo};
use mesh::terminal::words::plural;
use mesh::uses::Uses;
use mesh::verdict::Verdict;
use mesh::workload::WorkloadId;
use serde_json::Value;

use crate::revisions::Revision;
use crate::rollback::RollbackArgs;
use crate::rollback::part::{Following, Part, followers_of};

/// What is moved back.
#[derive(Debug, PartialEq)]
pub struct Rollback {
    /// The revision that is left.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Tags that point to it.
    pub tags: Vec<TagPlan>,
    /// Namespaces that follow it by its own name, whole.
    pub namespaces: Vec<Value>,
    /// Gateways that do, whole.
    pub gateways: Vec<Value>,
    /// What follows it and belongs to somebody else: who, a line each.
    pub not_ours: Vec<String>,
}

/// Where the way back begins.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The revision that is left.
    pub from: &'a str,
    /// Now, RFC 3339.
    pub now: &'a str,
    /// Who uses the tag `default`, where going back removes it.
    pub default_users: Option<&'a Uses>,
    /// The part of the mesh that goes back; all of it when `None`.
    pub part: Option<&'a Part>,
}

impl Rollback {
    /// Decides. `now` is RFC 3339.
    ///
    /// # Errors
    /// A [`Refusal`] when a tag or label cannot go back safely; nothing is changed then.
    pub fn new(sight: &Sight, namespaces: Vec<Value>, args: &RollbackArgs, start: &Start<'_>) -> Result<Rollback, Refusal> {
        let from = start.from;
        let installation = &sight.installation;
        let follows = |object: &Value| label(object, labels::REVISION) == Some(from);
        let mut tags = Vec::new();
        for tag in installation.snapshot.tags() {
            if !installation.tag_webhooks(tag).chain(installation.tag_services(tag)).any(follows) {
                continue;
            }
            if let Some(part) = start.part {
                let followers = followers_of(sight, tag);
                match part.following(&followers) {
                    Following::Others => continue,
                    Following::Part => {}
                    Following::Both => return Err(part.refusal(sight, tag, &followers, &args.to)),
                }
            }
            tags.push(plan_of(sight, tag, args, start)?);
        }
        let is_meant = |place: &str| start.part.is_none_or(|part| part.namespaces.contains(place));
        // A Gateway is no workload that was selected: it goes back with its whole namespace.
        let has_gateways = start.part.is_none_or(|part| part.workloads.is_none());
        let gateways = installation.gateways.iter().filter(|gateway| has_gateways && is_meant(namespace(gateway)));
        let gateways: Vec<Value> = gateways.filter(|gateway| follows(gateway)).cloned().collect();
        let namespaces = namespaces.into_iter().filter(|namespace| is_meant(name(namespace))).collect();
        let (namespaces, mut not_ours) = ours(namespaces, "namespaces");
        let (gateways, others) = ours(gateways, "gateways");
        not_ours.extend(others);
        if !gateways.is_empty() && !args.accept_gateway_restart {
            let reason = format!("istiod replaces these gateways at once when they follow revision {}", args.to);
            let names = gateways.iter().map(|gateway| format!("gateways/{} -n {}", name(gateway), namespace(gateway)));
            return Err(Refusal::new(reason, "the same command with --accept-gateway-restart").with(names.collect()));
        }
        let handover = handover(sight, &tags, &namespaces, &args.to);
        if !args.accept_gateway_restart {
            handover.check_consent()?;
        }
        handover.check_served()?;
        let is_default = args.to == tag::DEFAULT && tags.iter().any(|plan: &TagPlan| plan.tag == tag::DEFAULT);
        if !is_default && !namespaces.is_empty() {
            check_answers(installation, &args.to, &labelled(&namespaces, &args.to))?;
        }
        Ok(Rollback { from: from.to_owned(), to: args.to.clone(), tags, namespaces, gateways, not_ours })
    }

    /// Whether no tag and no label has to move.
    pub fn is_done(&self) -> bool {
        self.tags.is_empty() && self.namespaces.is_empty() && self.gateways.is_empty()
    }

    /// What it does, a line each.
    pub fn lines(&self) -> Vec<String> {
        let Rollback { from, to, .. } = self;
        let tags = self.tags.iter().map(|plan| match &plan.revision {
            Some(revision) => format!("tag {}: {from} -> {revision}", plan.tag),
            None => format!("tag {}: removed, as before it was set", plan.tag),
        });
        let mut lines: Vec<String> = tags.collect();
        for (objects, one, many) in [(&self.namespaces, "namespace", "namespaces"), (&self.gateways, "Gateway", "Gateways")] {
            if !objects.is_empty() {
                let names: Vec<&str> = objects.iter().map(name).collect();
                let count = plural(objects.len() as u64, one, many);
                lines.push(format!("{count} labelled {}={from} -> {to}: {}", labels::REVISION, names.join(", ")));
            }
        }
        lines
    }
}

/// The Gateways that come to another istiod by the labels of their namespaces, once the tags are back.
fn handover(sight: &Sight, tags: &[TagPlan], namespaces: &[Value], to: &str) -> Handover {
    let installation = &sight.installation;
    let now = GatewayRevisions::of(installation);
    let before = tags.iter().fold(now, |all, plan| all.after(&plan.changes));
    let after = namespaces.iter().fold(before.clone(), |all, namespace| all.with_namespace(name(namespace), Some(to)));
    before.handover(&after, &installation.gateways)
}

/// A tag goes back as `undo` does it where that leads there; else it is set.
fn plan_of(sight: &Sight, tag: &str, args: &RollbackArgs, start: &Start<'_>) -> Result<TagPlan, Refusal> {
    let Start { from, now, default_users, .. } = *start;
    let request = SetRequest {
        tag,
        revision: &args.to,
        from: None,
        may_overwrite: true,
        may_restart_gateways: args.accept_gateway_restart,
        istio_namespace: None,
        time: now,
        version: VERSION,
    };
    let Sight { installation, census } = sight;
    let last = installation.tag_webhooks(tag).next().and_then(|webhook| history(webhook).pop());
    let leads_there = last.as_ref().is_some_and(|last| !last.undone && last.from.as_deref() == Some(args.to.as_str()));
    // The tag `default` injects for whoever follows it by no name: one that was not here before is not to be here afterwards.
    let is_new_default = tag == tag::DEFAULT && last.as_ref().is_some_and(|last| !last.undone && last.from.is_none());
    let is_followed = !default_followers(&installation.snapshot).is_empty();
    if tag == tag::DEFAULT && args.to != tag::DEFAULT && last.is_none() && is_followed && may_be_new(installation, tag, from) {
        return Err(default_of_unknown_age(from, &args.to).with(default_followers(&installation.snapshot)));
    }
    // Setting the tag `default` has switched the unrevisioned injector off; only taking that back switches it on.
    let is_unrevisioned = tag == tag::DEFAULT && args.to == tag::DEFAULT;
    let plan = if leads_there || is_unrevisioned || is_new_default {
        plan_undo(installation, census, &request, default_users)
    } else {
        plan_set(installation, census, &request)
    };
    plan.map_err(|refusal| Refusal { reason: format!("tag {tag} cannot leave {from}: {}", refusal.reason), ..refusal })
}

/// The namespaces that the tag `default` injects: without them it is moved like any other.
fn default_followers(snapshot: &Snapshot) -> Vec<String> {
    let follows = |labels: &mesh::object::Labels| match labels.value(labels::INJECTION) {
        Some(injection) => injection == "enabled",
        None => labels.value(labels::REVISION) == Some(tag::DEFAULT),
    };
    let followers = snapshot.namespaces.iter().filter(|(_, labels)| follows(labels));
    followers.map(|(name, _)| format!("namespaces/{name} follows it")).collect()
}

/// Whether a tag without a history may not have been here before a revision: it was made after that, or at the same time.
fn may_be_new(installation: &Installation, tag: &str, revision: &str) -> bool {
    let created = |object: &Value| object["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
    let istiods = installation.istiods.iter().filter(|istiod| label(istiod, labels::REVISION) == Some(revision));
    let revision = installation.revision_webhooks(revision).chain(istiods).filter_map(created).min();
    let Some(webhook) = installation.tag_webhooks(tag).next() else { return false };
    match (created(webhook), revision) {
        (Some(tag), Some(revision)) => tag >= revision,
        _ => true,
    }
}

/// Moved back it would inject for those whom nothing injected before; removed, it would leave those alone whom it did.
fn default_of_unknown_age(from: &str, to: &str) -> Refusal {
    let set = Command::mesh_tag("set default").flag("--revision", to).words("--overwrite");
    let advice = Advice::run(Command::mesh_tag("remove default"))
        .and_say(" if it was not here before, or ")
        .and_run(set)
        .and_say(" if it was; then the same command");
    let reason = format!(
        "whether tag default was here before revision {from} is not known: it was made after that revision, and has no history"
    );
    Refusal::new(reason, advice)
}

/// Those that nobody else would put back, and who owns the others.
fn ours(objects: Vec<Value>, plural: &str) -> (Vec<Value>, Vec<String>) {
    let (ours, others): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(|object| owner(object).is_ours_to_write());
    let told = others.iter().map(|object| {
        let place = namespace(object);
        let place = if place.is_empty() { String::new() } else { format!(" -n {place}") };
        format!("{plural}/{}{place} belongs to {}: change its label {} there", name(object), owner(object), labels::REVISION)
    });
    let told = told.collect();
    (ours, told)
}

fn owner(object: &Value) -> Owner {
    owner_of_labels(object, &[labels::REVISION, labels::INJECTION])
}

/// The labels that namespaces will have.
fn labelled(namespaces: &[Value], to: &str) -> Vec<(String, StringMap)> {
    let after = |namespace: &Value| {
        let mut labels: StringMap = serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap_or_default();
        labels.remove(labels::INJECTION);
        labels.insert(labels::REVISION.to_owned(), to.to_owned());
        (name(namespace).to_owned(), labels)
    };
    namespaces.iter().map(after).collect()
}

/// Where it goes has to be there, and to answer.
///
/// # Errors
/// A [`Refusal`]: not found, or not ready.
pub fn check_target(snapshot: &Snapshot, revisions: &[Revision], to: &str) -> Result<(), Refusal> {
    let Some(revision) = revisions.iter().find(|revision| revision.name == to) else {
        let names: Vec<&str> = revisions.iter().map(|revision| revision.name.as_str()).collect();
        let here = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Refusal::not_found(format!("revision {to} is not here: there are {here}"), Command::mesh_upgrade("targets")));
    };
    let why = match (&revision.control_plane, snapshot.readiness(to)) {
        (None, _) => "its control plane is gone",
        (Some(_), Readiness::Ready) => return Ok(()),
        (Some(_), Readiness::NotReady) => "its control plane is not ready",
        (Some(_), Readiness::Unknown) => "whether its control plane is ready could not be read",
    };
    let reason = format!("nothing can go back to revision {to}: {why}");
    Err(Refusal::new(
        reason,
        Advice::run(Command::mesh_upgrade("targets"))
            .and_say(" shows what answers; ")
            .and_run(Command::mesh_tag("list -v"))
            .and_say(" says why not"),
    ))
}

/// The revision that is left: the one named, or the only one that is newer.
///
/// # Errors
/// A [`Refusal`] when it is not there, or several are newer.
pub fn other_revision(revisions: &[Revision], to: &str, named: Option<&str>) -> Result<Option<String>, Refusal> {
    let version_of = |name: &str| revisions.iter().find(|revision| revision.name == name).and_then(Revision::version).cloned();
    if let Some(named) = named {
        if named == to {
            return Err(Refusal::new(format!("--from and --to are both {to}"), Command::mesh_upgrade("targets")));
        }
        let is_here = revisions.iter().any(|revision| revision.name == named);
        // What was removed by half may be followed still; only a name that nothing bears is a mistake.
        return if is_here {
            Ok(Some(named.to_owned()))
        } else {
            Err(Refusal::not_found(format!("revision {named} is not here"), Command::mesh_upgrade("targets")))
        };
    }
    let own = version_of(to);
    let is_newer = |revision: &&Revision| {
        let version = revision.version().or_else(|| revision.newest_proxy());
        revision.name != to && (own.is_none() || version.is_none() || version > own.as_ref())
    };
    let newer: Vec<&str> = revisions.iter().filter(is_newer).map(|revision| revision.name.as_str()).collect();
    match newer[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.to_owned())),
        _ => {
            Err(Refusal::new(format!("several revisions are newer than {to}: {}", newer.join(", ")), "say which one with --from"))
        }
    }
}

/// The workloads that run a revision's proxies.
pub struct Runners {
    /// Those that a restart brings somewhere else, now or once tags and labels have moved.
    pub restartable: Vec<Verdict>,
    /// Those that none does: why, a line each.
    pub others: Vec<String>,
}

/// Who runs a revision's proxies, or would by its template's own label.
pub fn runners(verdicts: &[Verdict], snapshot: &Snapshot, revision: &str) -> Runners {
    let runs = |verdict: &Verdict| {
        let proxies = verdict.running.iter().filter_map(|running| running.proxy.as_ref());
        proxies.into_iter().any(|proxy| proxy.revision.as_deref() == Some(revision))
    };
    let mut found = Runners { restartable: Vec::new(), others: Vec::new() };
    for verdict in verdicts {
        let id = &verdict.workload;
        let what = format!("{} -n {}", id.qualified_name(), id.namespace);
        if names_in_template(snapshot, id, revision) {
            found.others.push(format!("{what}: its template has the label {}={revision}; change it there", labels::REVISION));
        } else if !runs(verdict) || verdict.proxy_type.is_made_by_istiod() {
            // What istiod makes for Gateways follows them at once.
        } else if !verdict.restart.is_possible() || matches!(verdict.state, State::Blocked | State::Pinned | State::Unknown) {
            found.others.push(format!(
                "{what} is {}: {}",
                verdict.state,
                mesh::terminal::advisor::Advisor::default().text(&verdict.advice())
            ));
        } else {
            found.restartable.push(verdict.clone());
        }
    }
    found
}

fn names_in_template(snapshot: &Snapshot, id: &WorkloadId, revision: &str) -> bool {
    let place = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(id));
    place.is_ok_and(|place| snapshot.workloads[place].template.labels.value(labels::REVISION) == Some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revisions::sample;

    #[test]
    fn the_one_that_is_newer_is_left() {
        let two = [sample("1-26-0", "1.26.0", 3), sample("1-28-2", "1.28.2", 1)];
        assert_eq!(other_revision(&two, "1-26-0", None), Ok(Some("1-28-2".to_owned())));
        assert_eq!(other_revision(&two, "1-28-2", None), Ok(None));
        assert_eq!(other_revision(&two, "1-28-2", Some("1-26-0")), Ok(Some("1-26-0".to_owned())));
        assert!(other_revision(&two, "1-26-0", Some("1-26-0")).is_err());
        let three = [sample("1-26-0", "1.26.0", 3), sample("1-27-1", "1.27.1", 1), sample("1-28-2", "1.28.2", 1)];
        let several = other_revision(&three, "1-26-0", None).unwrap_err();
        assert_eq!(several.reason, "several revisions are newer than 1-26-0: 1-27-1, 1-28-2");
    }

    #[test]
    fn what_is_gone_or_not_ready_is_nothing_to_go_back_to() {
        let revisions = [sample("1-26-0", "1.26.0", 3)];
        let refusal = check_target(&Snapshot::default(), &revisions, "1-26-0").unwrap_err();
        assert!(refusal.reason.contains("is not ready"), "{}", refusal.reason);
        let unknown = check_target(&Snapshot::default(), &revisions, "1-25-0").unwrap_err();
        assert_eq!(unknown.cause, mesh::refusal::RefusalCause::NotFound);
    }
}
