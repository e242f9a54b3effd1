//! What `set`, `undo` and `remove` are going to write, or why they do not.

use serde_json::{Value, json};

use super::effect::Effect;
use super::followers::{Followers, followers};
use super::gateways::{GatewayRevisions, Handover, gateway_subject};
use super::history::{Move, history, text, with_move, with_undo};
use super::injectors::{
    deactivated, entries, entries_of, freed, inherited_labels, is_deactivated, is_yielding, merged, reactivated, yielding,
};
use super::service::{service, service_name};
use super::validator::{is_of_default_tag, pointed_to, released};
use super::{DEFAULT, discovery, ownership};
use crate::advice::{Advice, Command};
use crate::census::Census;
use crate::change::{Action, Change, Subject};
use crate::control_plane::{ControlPlane, Read, Readiness, UNREVISIONED};
use crate::health::repoint;
use crate::injection::{answering_revision, control_plane};
use crate::injector::{Injector, Match};
use crate::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use crate::labels;
use crate::object::{Resource, StringMap, WebhookConfiguration};
use crate::outcome::ending;
use crate::owner::{Owner, owner_of};
use crate::refusal::Refusal;
use crate::terminal::words::nearest;
use crate::uses::{Use, UseKind, Uses};
use crate::version::Version;

/// A tag to make or to move.
#[derive(Clone, Debug)]
pub struct SetRequest<'a> {
    /// The tag.
    pub tag: &'a str,
    /// Where it is to point.
    pub revision: &'a str,
    /// Where it must point now.
    pub from: Option<&'a str>,
    /// Whether a tag that is there may be moved without `from`.
    pub may_overwrite: bool,
    /// Whether gateways may be replaced at once.
    pub may_restart_gateways: bool,
    /// The control plane's namespace, where the user names it.
    pub istio_namespace: Option<&'a str>,
    /// Now, RFC 3339.
    pub time: &'a str,
    /// The plugin's version.
    pub version: &'a str,
}

/// A tag to remove.
#[derive(Clone, Copy, Debug)]
pub struct RemoveRequest<'a> {
    /// The tag.
    pub tag: &'a str,
    /// The control plane's namespace, where the user names it.
    pub istio_namespace: Option<&'a str>,
}

/// What is going to be done to a tag.
#[derive(Clone, Debug, PartialEq)]
pub struct TagPlan {
    /// The tag.
    pub tag: String,
    /// Where it will point; `None` when it will be gone.
    pub revision: Option<String>,
    /// Where it points now; `None` when it is not there.
    pub previous: Option<String>,
    /// What is written, in this order. Those that change nothing are left out.
    pub changes: Vec<Change>,
    /// What is worth saying besides.
    pub notes: Vec<String>,
    /// What it does to those who follow.
    pub effect: Effect,
    /// The tag in the form of the operator that owns its revision, where that is the one to make it.
    pub form_of_owner: Option<Value>,
}

impl TagPlan {
    /// Whether everything is as it should be.
    pub fn is_done(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why there is no plan.
pub(super) type Planned<T> = Result<T, Refusal>;

/// Plans to make or to move a tag.
///
/// # Errors
/// A [`Refusal`] names everything that is in the way.
pub fn plan_set(installation: &Installation, census: &Census, request: &SetRequest<'_>) -> Planned<TagPlan> {
    plan_move(installation, census, request, Remember::Move)
}

/// What happens to the history.
enum Remember {
    /// The move is added.
    Move,
    /// The newest move is taken back.
    Undo,
    /// None is kept.
    Nothing,
}

fn plan_move(installation: &Installation, census: &Census, request: &SetRequest<'_>, remember: Remember) -> Planned<TagPlan> {
    let SetRequest { tag, revision, .. } = *request;
    check_seen(installation, tag)?;
    let target = target(installation, revision, request.istio_namespace)?;
    check_name(installation, tag, &target)?;
    let present = Present::find(installation, tag, &target.namespace)?;
    check_existing(&present, request)?;
    check_lasting(installation, &target, &present, tag)?;
    check_ready(installation, &target)?;
    let mut notes = Vec::new();
    let webhook = webhook(installation, request, &target, &present, remember, &mut notes)?;
    let mut changes = Vec::new();
    changes.extend(service_change(request.tag, &target, &present));
    let (yields, deactivations) =
        if tag == DEFAULT { deactivations(installation, &target.namespace) } else { (Vec::new(), Vec::new()) };
    changes.extend(yields);
    changes.push(webhook);
    if tag == DEFAULT {
        changes.extend(deactivations);
        check_validator(installation, &target)?;
        changes.extend(validator_change(installation, &target, &mut notes));
    }
    changes.retain(|change| change.action() != Action::None);
    let followers = followers_of_tag(installation, census, tag);
    let following = followers
        .namespaces
        .iter()
        .filter_map(|name| installation.snapshot.namespaces.get(name.as_str()).map(|labels| (name.as_str(), labels)));
    let discovered = discovery::check(target.control_plane, following);
    let handover = handover(installation, &changes);
    let effect = Effect::new(&followers, revision, &handover);
    let plan = TagPlan {
        tag: tag.to_owned(),
        revision: Some(revision.to_owned()),
        previous: present.revision.clone(),
        changes,
        notes,
        effect,
        form_of_owner: target.form_of_owner(tag),
    };
    if plan.is_done() {
        return Ok(plan);
    }
    discovered?;
    check_overlaps(installation, &plan)?;
    ownership::check(&plan.changes, tag, Some(revision))?;
    check_collisions(installation, &plan)?;
    if plan.form_of_owner.is_some() && plan.changes.iter().any(|change| change.action() == Action::Create) {
        return Err(Refusal::new(
            format!("revision {revision} belongs to the Sail operator, which would not count a tag made here as a use of it"),
            Command::mesh_tag("generate").value(tag).flag("--revision", revision).read_by(Command::kubectl("apply -f -")),
        ));
    }
    handover.check_served()?;
    if !request.may_restart_gateways {
        handover.check_consent()?;
    }
    Ok(plan)
}

/// Plans to take the last move back. One that was taken back already is not taken back again: whatever of that was left is
/// completed. `users` are needed where that removes the tag ([`undo_removes`]).
///
/// # Errors
/// A [`Refusal`], also when there is nothing to go back to.
pub fn plan_undo(
    installation: &Installation,
    census: &Census,
    request: &SetRequest<'_>,
    users: Option<&Uses>,
) -> Planned<TagPlan> {
    let tag = request.tag;
    check_seen(installation, tag)?;
    let removal = RemoveRequest { tag, istio_namespace: request.istio_namespace };
    let remove = || {
        let Some(users) = users else {
            let reason = format!("who uses tag {tag} was not read, and going back removes it");
            return Err(Refusal::new(reason, Command::mesh_tag("remove").value(tag)));
        };
        let unserved = if request.may_restart_gateways { Unserved::Refused } else { Unserved::RefusedOrReplaced };
        plan_removal(installation, census, removal, unserved, users)
    };
    let Some(webhook) = installation.tag_webhooks(tag).next() else {
        // An undo that was interrupted has removed the webhook first.
        return remove();
    };
    let Some(last) = history(webhook).pop() else {
        return Err(Refusal::new(
            format!("nothing is known of where tag {tag} pointed before: only moves by these plugins leave a note of that"),
            repoint(tag, "REVISION"),
        ));
    };
    let to = |revision: &str, remember: Remember| {
        let request = SetRequest { revision, may_overwrite: true, from: None, ..request.clone() };
        plan_move(installation, census, &request, remember)
    };
    match (&last.from, label(webhook, labels::REVISION)) {
        (Some(_), Some(present)) if last.undone => {
            let mut plan = to(present, Remember::Move)?;
            plan.notes.push(format!("the last move of tag {tag} was undone before; any other one is made by set"));
            Ok(plan)
        }
        (Some(revision), _) => to(revision, Remember::Undo),
        (None, _) => remove(),
    }
}

/// Whether taking the last move of a tag back removes it: it was made by that move, or half of it is gone already.
pub fn undo_removes(installation: &Installation, tag: &str) -> bool {
    match installation.tag_webhooks(tag).next() {
        Some(webhook) => history(webhook).pop().is_some_and(|last| last.from.is_none()),
        None => true,
    }
}

/// The namespace of the control plane that a tag belongs to, which its users are looked for with.
///
/// # Errors
/// A [`Refusal`] when there is no such tag, or several.
pub fn removed_tag(installation: &Installation, request: RemoveRequest<'_>) -> Planned<String> {
    check_seen(installation, request.tag)?;
    let Removed { webhooks, services, .. } = removed(installation, request)?;
    let mut namespaces = webhooks.iter().chain(&services).filter_map(|object| namespace_of(object));
    let of_validator = || installation.default_validator().and_then(namespace_of);
    let namespace = namespaces.next().or(request.istio_namespace).or_else(of_validator);
    let mut planes = installation.snapshot.control_planes.iter().map(|plane| plane.namespace.as_str());
    Ok(namespace.or_else(|| planes.next()).unwrap_or("istio-system").to_owned())
}

/// Plans to remove a tag, which `users` use.
///
/// # Errors
/// A [`Refusal`] that names everybody who uses the tag.
pub fn plan_remove(installation: &Installation, census: &Census, request: RemoveRequest<'_>, users: &Uses) -> Planned<TagPlan> {
    plan_removal(installation, census, request, Unserved::AnyFollower, users)
}

/// Which followers forbid a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unserved {
    /// Any.
    AnyFollower,
    /// Those whom nothing else would serve.
    Refused,
    /// And Gateways that somebody else would serve, who makes them anew for that.
    RefusedOrReplaced,
}

/// What of a tag is there to be removed.
struct Removed<'a> {
    webhooks: Vec<&'a Value>,
    services: Vec<&'a Value>,
}

fn removed<'a>(installation: &'a Installation, request: RemoveRequest<'a>) -> Planned<Removed<'a>> {
    let tag = request.tag;
    let is_here =
        |object: &&Value| request.istio_namespace.is_none_or(|wanted| namespace_of(object).is_none_or(|found| found == wanted));
    let webhooks: Vec<&Value> = installation.tag_webhooks(tag).filter(is_here).collect();
    let services: Vec<&Value> = installation.tag_services(tag).filter(|service| is_here(service)).collect();
    // The validator is the last that a removal changes, so an interrupted one may have left that alone.
    let is_begun = tag == DEFAULT
        && (installation.default_validator().filter(is_here).is_some_and(is_of_default_tag)
            || installation.revision_webhooks(UNREVISIONED).filter(is_here).any(is_yielding));
    if webhooks.is_empty() && services.is_empty() && !is_begun {
        return Err(no_such_tag(installation, tag));
    }
    check_one_namespace(tag, webhooks.iter().chain(&services).filter_map(|object| namespace_of(object)))?;
    Ok(Removed { webhooks, services })
}

fn plan_removal(
    installation: &Installation,
    census: &Census,
    request: RemoveRequest<'_>,
    unserved: Unserved,
    users: &Uses,
) -> Planned<TagPlan> {
    let tag = request.tag;
    check_seen(installation, tag)?;
    let Removed { webhooks, services } = removed(installation, request)?;
    let in_namespace = removed_tag(installation, request)?;
    let mut notes = Vec::new();
    let mut changes: Vec<Change> = Vec::new();
    let mut serves_default = false;
    let mut freeing = Vec::new();
    if tag == DEFAULT {
        let (reactivations, later) = reactivations(installation, &in_namespace, &mut notes);
        serves_default = !reactivations.is_empty() || has_active_default(installation, &in_namespace);
        changes.extend(reactivations);
        freeing = later;
    }
    let gone = |resource: Resource, object: &Value| Change {
        subject: Subject::new(resource, Some(namespace(object)), name(object)),
        before: Some(object.clone()),
        after: None,
    };
    changes.extend(webhooks.iter().map(|webhook| gone(Resource::MutatingWebhookConfigurations, webhook)));
    changes.extend(freeing);
    changes.extend(services.iter().map(|service| gone(Resource::Services, service)));
    if tag == DEFAULT && is_in(installation.default_validator(), &in_namespace) {
        changes.extend(validator_release(installation, &mut notes));
    }
    changes.retain(|change| change.action() != Action::None);
    let handover = handover(installation, &changes);
    check_users(tag, users, |found| match found.kind {
        _ if unserved == Unserved::AnyFollower => true,
        UseKind::Caller | UseKind::Configuration => true,
        UseKind::Gateway => handover.left.iter().any(|gateway| gateway_subject(gateway) == found.subject),
        _ => !serves_default,
    })?;
    if unserved == Unserved::RefusedOrReplaced {
        handover.check_consent()?;
    }
    let followers = followers_of_tag(installation, census, tag);
    let previous = webhooks.first().or(services.first()).and_then(|object| label(object, labels::REVISION)).map(str::to_owned);
    ownership::check(&changes, tag, None)?;
    Ok(TagPlan {
        tag: tag.to_owned(),
        revision: None,
        effect: Effect::new(&followers, UNREVISIONED, &handover),
        previous,
        changes,
        notes,
        form_of_owner: None,
    })
}

/// Refuses while anybody uses the tag, or may, whose use `counts`: where an injector without a revision serves those who follow it, only
/// those count who call its Service.
fn check_users(tag: &str, users: &Uses, counts: impl Fn(&Use) -> bool) -> Planned<()> {
    let found: Vec<&Use> = users.found.iter().filter(|found| counts(found)).collect();
    let unknown = users.unknown.iter().map(|why| format!("unknown: {why}"));
    let mut details: Vec<String> = found.iter().map(|found| format!("{} {}", found.subject, found.message)).collect();
    details.extend(unknown);
    if details.is_empty() {
        return Ok(());
    }
    let is_followed = |found: &&&Use| matches!(found.kind, UseKind::Namespace | UseKind::Template | UseKind::Gateway);
    let followers: Vec<&&Use> = found.iter().filter(is_followed).collect();
    let namespaces = || followers.iter().filter(|found| found.kind == UseKind::Namespace);
    let names: Vec<&str> = namespaces().filter_map(|found| found.subject.strip_prefix("namespaces/")).collect();
    let advice = if !names.is_empty() {
        Advice::run(Command::mesh_tag("attach REVISION").values(names.iter().copied()).words("--overwrite"))
            .and_say(", or ")
            .and_run(Command::mesh_tag("detach").values(names))
    } else if let Some(gateway) = followers.iter().find(|found| found.kind == UseKind::Gateway) {
        Advice::say("give each Gateway a revision of its own: ").and(gateway.advice.clone())
    } else if !followers.is_empty() {
        Advice::say(format!("take the label {}={tag} off them first", labels::REVISION))
    } else {
        Advice::say("fix each, then the same command")
    };
    let reason = match (followers.is_empty(), found.is_empty()) {
        (false, _) => format!("tag {tag} is followed: without it they get no proxies, or those of nobody"),
        (true, false) => format!("tag {tag} is used"),
        (true, true) => format!("whether tag {tag} is used is not known"),
    };
    Err(Refusal::new(reason, advice).with(details))
}

/// A tag for Git.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// Its objects, or the form in which its owner makes it.
    pub objects: Vec<Value>,
    /// What is worth saying besides.
    pub notes: Vec<String>,
}

/// The objects of a tag, as `set` would leave them in a cluster that has no such tag. For a revision of the Sail operator
/// it is the operator's own kind; for a tag that a Helm release holds, the release's values.
///
/// # Errors
/// A [`Refusal`] when the revision is not there or the name cannot be a tag's. Readiness is not asked: Git is applied at
/// another time.
pub fn generated(installation: &Installation, request: &SetRequest<'_>) -> Planned<Generated> {
    let SetRequest { tag, revision, .. } = *request;
    let target = target(installation, revision, request.istio_namespace)?;
    check_name(installation, tag, &target)?;
    if let Some(form) = target.form_of_owner(tag) {
        let note = format!("revision {revision} belongs to the Sail operator: it makes the tag from this object");
        return Ok(Generated { objects: vec![form], notes: vec![note] });
    }
    let owner = installation.tag_webhooks(tag).map(owner_of).find(|owner| matches!(owner, Owner::Helm { .. }));
    if let Some(Owner::Helm { release, namespace }) = owner {
        let note = format!(
            "tag {tag} is held by Helm release {release} -n {namespace}: these are values for the release of revision {revision}"
        );
        return Ok(Generated { objects: vec![json!({"revisionTags": [tag]})], notes: vec![note] });
    }
    let absent = Present { webhook: None, service: None, revision: None };
    let mut notes = Vec::new();
    let webhook = webhook(installation, request, &target, &absent, Remember::Nothing, &mut notes)?;
    let mut changes: Vec<Change> = service_change(tag, &target, &absent).into_iter().collect();
    changes.push(webhook);
    if tag == DEFAULT {
        let fresh = pointed_to(target.webhook, installation.revision_validator(revision), None);
        let subject = Subject::new(Resource::ValidatingWebhookConfigurations, None, DEFAULT_VALIDATOR);
        changes.extend(fresh.map(|after| Change { subject, before: None, after: Some(after) }));
        notes.extend(installation.revision_webhooks(UNREVISIONED).map(|webhook| {
            format!(
                "{} answers for istio-injection=enabled too: it has to go, or to be switched off as mesh-tag set does",
                name(webhook)
            )
        }));
    }
    let objects = changes.into_iter().filter_map(|change| change.after).map(without_own_notes).collect();
    Ok(Generated { objects, notes })
}

/// Without the annotations by which a later command goes back: Git has its own history.
fn without_own_notes(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    object
}

/// Refuses a tag or revision that no injector answers, and namespaces that its injector would not select with these labels.
///
/// # Errors
/// A [`Refusal`] with the cause.
pub fn check_answers(installation: &Installation, target: &str, namespaces: &[(String, StringMap)]) -> Planned<()> {
    let snapshot = &installation.snapshot;
    if let Some(unread) = snapshot.unread(Resource::MutatingWebhookConfigurations, "") {
        let reason = format!("{} could not be read, so nobody can say who answers for {target}", unread.resource);
        return Err(Refusal::new(reason, "--explain-rbac prints what this command needs"));
    }
    let is_named = |injector: &&Injector| match &injector.tag {
        Some(tag) => tag == target,
        None => injector.revision.as_deref() == Some(target),
    };
    let own: Vec<&Injector> = snapshot.injectors.iter().filter(is_named).filter(|injector| !injector.is_deactivated()).collect();
    if own.is_empty() {
        let names = known_names(installation);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let reason = format!("no injector answers for {target}{}", nearest(target, &names));
        return Err(Refusal::not_found(reason, Command::mesh_tag("list")));
    }
    if let Some(fault) = own.iter().find_map(|injector| answering_revision(snapshot, injector).err()) {
        let reason = format!("nobody answers for {target}: {}", fault.why);
        return Err(Refusal::new(reason, Advice::run(Command::mesh_tag("list")).and_say(" shows what is wrong")));
    }
    let webhooks = installation.tag_webhooks(target).chain(installation.revision_webhooks(target));
    let leaving = webhooks.filter_map(|webhook| {
        let subject = Subject::new(Resource::MutatingWebhookConfigurations, None, name(webhook));
        Some(format!("{subject} {}", ending(webhook)?))
    });
    let leaving: Vec<String> = leaving.collect();
    if !leaving.is_empty() {
        let reason = format!("nobody answers for {target} soon");
        return Err(Refusal::new(reason, Advice::run(Command::mesh_tag("list")).and_say(" shows what is wrong")).with(leaving));
    }
    let answering = own.last().and_then(|injector| {
        let revision = answering_revision(snapshot, injector).ok()?;
        control_plane(snapshot, injector, &revision).ok()?
    });
    discovery::check(answering, namespaces.iter().map(|(name, labels)| (name.as_str(), labels)))?;
    let pod = StringMap::new();
    let mut details = Vec::new();
    for (namespace, labels) in namespaces {
        let asked: Vec<&Injector> =
            snapshot.injectors.iter().filter(|injector| injector.matches(labels, &pod) != Match::No).collect();
        if !asked.iter().any(is_named) {
            details
                .push(format!("namespaces/{namespace} is not selected by the injector of {target}: its other labels forbid it"));
        } else if let Some(other) = asked.iter().find(|injector| !is_named(injector)) {
            details.push(format!("namespaces/{namespace} would be selected by {} too", other.configuration));
        }
    }
    if details.is_empty() {
        return Ok(());
    }
    let reason = format!("pods of these namespaces would not get the proxy of {target}");
    Err(Refusal::new(reason, Command::kubectl("get namespaces --show-labels")).with(details))
}

/// Everything that namespaces may name: tags and revisions with an injector.
fn known_names(installation: &Installation) -> Vec<String> {
    let injectors = installation.snapshot.injectors.iter();
    let mut names: Vec<String> =
        injectors.filter_map(|injector| injector.tag.clone().or_else(|| injector.revision.clone())).collect();
    names.sort();
    names.dedup();
    names
}

/// What could not be read may be a part of the tag, or follow it.
fn check_seen(installation: &Installation, tag: &str) -> Planned<()> {
    let matters = |resource: Resource| match resource {
        Resource::MutatingWebhookConfigurations | Resource::Services | Resource::Namespaces | Resource::Gateways => true,
        Resource::ValidatingWebhookConfigurations => tag == DEFAULT,
        _ => false,
    };
    let unread = installation.snapshot.unread.iter().filter(|unread| matters(unread.resource));
    let mut details: Vec<String> = unread
        .map(|unread| match &unread.namespace {
            Some(namespace) => format!("{} -n {namespace}", unread.resource),
            None => unread.resource.to_string(),
        })
        .collect();
    details.sort();
    details.dedup();
    if details.is_empty() {
        return Ok(());
    }
    let reason = format!("not everything could be read, so nobody can say what belongs to tag {tag} and who follows it");
    Err(Refusal::new(reason, "--explain-rbac prints what this command needs").with(details))
}

/// The revision that a tag is to point to.
struct Target<'a> {
    revision: &'a str,
    webhook: &'a Value,
    namespace: String,
    service: Option<&'a Value>,
    control_plane: Option<&'a ControlPlane>,
}

impl Target<'_> {
    fn version(&self) -> Option<Version> {
        self.control_plane.and_then(ControlPlane::version)
    }

    /// From 1.28 on istiod looks at the Services of tags too.
    fn knows_services(&self) -> bool {
        self.version().is_some_and(|version| version.line() >= (1, 28))
    }

    fn form_of_owner(&self, tag: &str) -> Option<Value> {
        matches!(owner_of(self.webhook), Owner::Sail { .. }).then(|| ownership::sail_form(tag, self.revision))
    }
}

fn target<'a>(installation: &'a Installation, revision: &'a str, istio_namespace: Option<&str>) -> Planned<Target<'a>> {
    let snapshot = &installation.snapshot;
    if let Some(unread) = snapshot.unread(Resource::MutatingWebhookConfigurations, "") {
        return Err(Refusal::new(
            format!("{} could not be read, so nothing is known of any tag", unread.resource),
            "--explain-rbac prints what this command needs",
        ));
    }
    let is_here =
        |webhook: &&Value| istio_namespace.is_none_or(|wanted| namespace_of(webhook).is_none_or(|found| found == wanted));
    let webhooks: Vec<&Value> = installation.revision_webhooks(revision).filter(is_here).collect();
    let webhook = match &webhooks[..] {
        [webhook] => *webhook,
        [] => return Err(no_such_revision(installation, revision)),
        several => {
            let details =
                several.iter().map(|webhook| format!("{} in namespace {}", name(webhook), namespace_of(webhook).unwrap_or("?")));
            let refusal =
                Refusal::new(format!("several control planes have the revision {revision}"), "name one with --istio-namespace");
            return Err(refusal.with(details.collect()));
        }
    };
    let control_planes = || snapshot.control_planes_of(revision);
    let service_reference = entries_of(webhook).find_map(|entry| {
        let service = &entry["clientConfig"]["service"];
        Some((service["namespace"].as_str()?, service["name"].as_str()?))
    });
    let namespace_found = service_reference.map(|(namespace, _)| namespace.to_owned());
    let namespace = namespace_found
        .or_else(|| istio_namespace.map(str::to_owned))
        .or_else(|| control_planes().next().map(|control_plane| control_plane.namespace.clone()).filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "istio-system".to_owned());
    let service = service_reference.and_then(|(in_namespace, wanted)| {
        installation.services.iter().find(|service| self::namespace(service) == in_namespace && name(service) == wanted)
    });
    let control_plane =
        control_planes().find(|control_plane| control_plane.namespace == namespace).or_else(|| control_planes().next());
    Ok(Target { revision, webhook, namespace, service, control_plane })
}

/// The namespace of the control plane that a webhook or Service belongs to; `None` when it is elsewhere.
fn namespace_of(object: &Value) -> Option<&str> {
    let own = namespace(object);
    if !own.is_empty() {
        return Some(own);
    }
    entries_of(object).find_map(|entry| entry["clientConfig"]["service"]["namespace"].as_str())
}

/// The tag as it is.
struct Present<'a> {
    webhook: Option<&'a Value>,
    service: Option<&'a Value>,
    revision: Option<String>,
}

impl<'a> Present<'a> {
    fn find(installation: &'a Installation, tag: &'a str, in_namespace: &str) -> Planned<Present<'a>> {
        let webhooks: Vec<&Value> = installation.tag_webhooks(tag).collect();
        let services: Vec<&Value> = installation.tag_services(tag).collect();
        let elsewhere =
            webhooks.iter().chain(&services).filter_map(|object| namespace_of(object)).find(|found| *found != in_namespace);
        if let Some(elsewhere) = elsewhere {
            // The label is cluster-wide: two tags of one name would both select its namespaces.
            return Err(Refusal::new(
                format!("tag {tag} belongs to a control plane in namespace {elsewhere}, not in {in_namespace}"),
                "choose another name, or remove that tag first",
            ));
        }
        if webhooks.len() > 1 {
            let details = webhooks.iter().map(|webhook| name(webhook).to_owned()).collect();
            let refusal = Refusal::new(
                format!("tag {tag} has several webhooks, so nobody can say where it points"),
                "delete those that nobody needs",
            );
            return Err(refusal.with(details));
        }
        let (webhook, service) = (webhooks.first().copied(), services.first().copied());
        let revision = webhook.or(service).and_then(|object| label(object, labels::REVISION)).map(str::to_owned);
        Ok(Present { webhook, service, revision })
    }
}

/// Whether a name may be a tag's: a DNS label, since the name of a Service is made from it, in lower case. Real limits:
/// label values have 63 characters, the names of Services too.
pub fn may_be_tag(tag: &str, limit: usize) -> Result<(), String> {
    let is_inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    let is_outer = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let outer = [tag.chars().next(), tag.chars().last()].into_iter().flatten();
    if tag.is_empty() {
        Err("a tag needs a name".to_owned())
    } else if !tag.chars().all(is_inner) || !outer.into_iter().all(is_outer) {
        Err(format!("{tag:?} is no name for a tag: lower-case letters, digits and '-' inside, as in prod-stable"))
    } else if tag.len() > limit {
        Err(format!("{tag:?} is too long for a tag: {} characters, and {limit} are allowed", tag.len()))
    } else {
        Ok(())
    }
}

fn check_name(installation: &Installation, tag: &str, target: &Target<'_>) -> Planned<()> {
    // `istiod-revision-tag-` and the tag are the name of a Service.
    let limit = if target.knows_services() { 63 - service_name("").len() } else { 63 };
    may_be_tag(tag, limit).map_err(|why| Refusal::new(why, "choose another name"))?;
    let is_revision = installation.snapshot.revisions().contains(&tag) || installation.revision_webhooks(tag).next().is_some();
    if is_revision && tag != DEFAULT {
        return Err(Refusal::new(
            format!("{tag} is the name of a revision: a tag of that name would inject its namespaces a second time"),
            "choose another name",
        ));
    }
    Ok(())
}

fn check_existing(present: &Present<'_>, request: &SetRequest<'_>) -> Planned<()> {
    let SetRequest { tag, revision, from, .. } = *request;
    let is_there_already = present.revision.as_deref() == Some(revision);
    match (&present.revision, from) {
        _ if is_there_already => Ok(()),
        (None, Some(from)) => Err(Refusal::new(
            format!("tag {tag} is not there, so it does not point to revision {from}"),
            Command::mesh_tag("set").value(tag).flag("--revision", revision),
        )),
        (Some(current), Some(from)) if current != from => Err(Refusal::new(
            format!("tag {tag} points to revision {current}, not to {from}: somebody has moved it"),
            Command::mesh_tag("describe").value(tag),
        )),
        (Some(current), None) if !request.may_overwrite => Err(Refusal::new(
            format!("tag {tag} is there already and points to revision {current}"),
            Command::mesh_tag("set").value(tag).flag("--revision", revision).flag("--from", current),
        )),
        _ => Ok(()),
    }
}

/// What is being deleted is gone soon, and nothing may be built on it.
fn check_lasting(installation: &Installation, target: &Target<'_>, present: &Present<'_>, tag: &str) -> Planned<()> {
    let webhooks = present.webhook.into_iter().chain([target.webhook]);
    let of_default = unrevisioned(installation, &target.namespace).filter(|_| tag == DEFAULT);
    let validator = installation.default_validator().filter(|_| tag == DEFAULT);
    let objects = webhooks.chain(of_default).map(|object| (Resource::MutatingWebhookConfigurations, object));
    let services = present.service.into_iter().chain(target.service).map(|object| (Resource::Services, object));
    let validator = validator.map(|object| (Resource::ValidatingWebhookConfigurations, object));
    let ending = objects.chain(services).chain(validator).filter_map(|(resource, object)| {
        Some(format!("{} {}", Subject::new(resource, Some(namespace(object)), name(object)), ending(object)?))
    });
    let mut details: Vec<String> = ending.collect();
    details.sort();
    details.dedup();
    if details.is_empty() {
        return Ok(());
    }
    let reason = format!("tag {tag} would rest on what is being deleted");
    Err(Refusal::new(reason, "see what the finalizers wait for; once it is gone, the same command").with(details))
}

/// A revision that cannot answer must not be pointed to: with failurePolicy Fail nobody who follows gets a pod.
fn check_ready(installation: &Installation, target: &Target<'_>) -> Planned<()> {
    let mut problems = Vec::new();
    for entry in entries_of(target.webhook) {
        let is_service = entry["clientConfig"]["service"].is_object();
        if is_service && entry["clientConfig"]["caBundle"].as_str().unwrap_or_default().is_empty() {
            problems.push(format!(
                "entry {} of {} has no caBundle",
                entry["name"].as_str().unwrap_or_default(),
                name(target.webhook)
            ));
        }
    }
    let is_external = entries_of(target.webhook).any(|entry| entry["clientConfig"]["url"].is_string());
    match target.control_plane {
        None => problems.push("no control plane of it was found".to_owned()),
        Some(control_plane) => {
            problems.extend(control_plane_problems(control_plane));
            match &control_plane.injector_config {
                Read::Known(_) => {}
                Read::Absent if is_external || control_plane.is_elsewhere => {}
                Read::Absent => {
                    problems.push(format!("its injector ConfigMap in namespace {} is not there", control_plane.namespace))
                }
                Read::Broken(why) => problems.push(format!("its injector ConfigMap cannot be understood: {why}")),
                Read::Several(names) => {
                    let names = names.join(", ");
                    problems.push(format!("each of the ConfigMaps {names} could be its injector configuration"))
                }
                Read::Unread => problems.push("its injector ConfigMap could not be read".to_owned()),
            }
        }
    }
    if !is_external && target.service.is_none() {
        let unread = installation.snapshot.unread(Resource::Services, &target.namespace).is_some();
        problems.push(if unread { "its Service could not be read" } else { "its Service is not there" }.to_owned());
    }
    problems.sort();
    problems.dedup();
    if problems.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::new(
        format!("revision {} is not ready: new pods of whoever follows would be refused", target.revision),
        Command::kubectl("")
            .namespace(&target.namespace)
            .words("get deployment,endpointslices")
            .flag("-l", format!("{}={}", labels::REVISION, target.revision)),
    );
    Err(refusal.with(problems))
}

fn control_plane_problems(control_plane: &ControlPlane) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(istiod) = &control_plane.deployment {
        if !istiod.is_observed {
            problems.push(format!("deployment {} is being changed: its controller has not caught up", istiod.name));
        }
        if istiod.ready_replicas < 1 {
            problems.push(format!("deployment {} has no ready pod", istiod.name));
        }
    }
    match control_plane.readiness {
        Readiness::Ready => {}
        Readiness::NotReady => problems.push("its Service has no ready endpoint".to_owned()),
        Readiness::Unknown => problems.push("whether it is ready could not be read".to_owned()),
    }
    problems
}

/// The webhook of the tag as it is to be.
fn webhook(
    installation: &Installation,
    request: &SetRequest<'_>,
    target: &Target<'_>,
    present: &Present<'_>,
    remember: Remember,
    notes: &mut Vec<String>,
) -> Planned<Change> {
    let tag = request.tag;
    let serving_default: Vec<&Value> = present.webhook.into_iter().chain(unrevisioned(installation, &target.namespace)).collect();
    let mut wanted = entries(target.webhook, tag, &serving_default)?;
    notes.append(&mut wanted.notes);
    let mut after = match present.webhook {
        Some(live) => {
            let live_entries: Vec<Value> = entries_of(live).cloned().collect();
            // What the tag was made from, as far as that revision is still there.
            let old = present.revision.as_deref().and_then(|revision| installation.revision_webhooks(revision).next());
            let old = old.and_then(|canonical| entries(canonical, tag, &serving_default).ok());
            let mut merged =
                merged(&live_entries, &old.map_or_else(|| wanted.entries.clone(), |old| old.entries), &wanted.entries);
            notes.append(&mut merged.notes);
            let mut after = live.clone();
            after["webhooks"] = same_order(&live_entries, merged.entries);
            drop_copied_annotations(&mut after);
            after
        }
        None => json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": webhook_name(tag, &target.namespace), "labels": inherited_labels(target.webhook)},
            "webhooks": wanted.entries,
        }),
    };
    for (key, value) in [(labels::TAG, tag), (labels::REVISION, target.revision), (labels::APP, "sidecar-injector")] {
        after["metadata"]["labels"][key] = value.into();
    }
    let moves = present.webhook.map(history).unwrap_or_default();
    let moves = match remember {
        Remember::Move if present.webhook.is_some() && present.revision.as_deref() == Some(target.revision) => moves,
        Remember::Move => {
            let from = present.webhook.and(present.revision.clone());
            let new = Move { from, time: request.time.to_owned(), version: request.version.to_owned(), undone: false };
            with_move(moves, new)
        }
        Remember::Undo => with_undo(moves),
        Remember::Nothing => Vec::new(),
    };
    if moves.is_empty() {
        if let Some(annotations) = after["metadata"]["annotations"].as_object_mut() {
            annotations.remove(labels::HISTORY);
        }
    } else {
        after["metadata"]["annotations"][labels::HISTORY] = text(&moves).into();
    }
    let subject = Subject::new(Resource::MutatingWebhookConfigurations, None, name(&after));
    Ok(Change { subject, before: present.webhook.cloned(), after: Some(after) })
}

/// The name that istioctl gives (pkg/kube/client.go): with the namespace unless that is Istio's own.
fn webhook_name(tag: &str, namespace: &str) -> String {
    if namespace == "istio-system" {
        format!("istio-revision-tag-{tag}")
    } else {
        format!("istio-revision-tag-{tag}-{namespace}")
    }
}

/// Entries in the order in which the live ones stand, so that nothing differs that does not matter.
fn same_order(live: &[Value], mut entries: Vec<Value>) -> Value {
    let place = |entry: &Value| live.iter().position(|live| live["name"] == entry["name"]).unwrap_or(live.len());
    entries.sort_by_key(place);
    Value::Array(entries)
}

/// `istioctl tag set` copies all annotations of the revision's webhook, by which Helm and Argo CD take the tag for theirs.
fn drop_copied_annotations(webhook: &mut Value) {
    if !matches!(owner_of(webhook), Owner::IstioctlTag | Owner::Mesh) {
        return;
    }
    let is_foreign = |key: &str| {
        key.starts_with("meta.helm.sh/")
            || key.contains("argocd.argoproj.io/")
            || key == "kubectl.kubernetes.io/last-applied-configuration"
    };
    if let Some(annotations) = webhook["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !is_foreign(key));
    }
}

fn service_change(tag: &str, target: &Target<'_>, present: &Present<'_>) -> Option<Change> {
    // An older istiod needs no Service; but one that is there must not point elsewhere.
    let canonical = target.service.filter(|_| target.knows_services() || present.service.is_some())?;
    let mut after = service(canonical, tag, present.service);
    after["metadata"]["labels"][labels::REVISION] = target.revision.into();
    let subject = Subject::new(Resource::Services, Some(namespace(&after)), name(&after));
    Some(Change { subject, before: present.service.cloned(), after: Some(after) })
}

/// The injectors without a revision of the control plane in a namespace: those of another mesh are its own affair.
fn unrevisioned<'a>(installation: &'a Installation, in_namespace: &'a str) -> impl Iterator<Item = &'a Value> {
    installation.revision_webhooks(UNREVISIONED).filter(move |webhook| is_in(Some(webhook), in_namespace))
}

/// Whether an object belongs to the control plane in a namespace, as far as it says so.
fn is_in(object: Option<&Value>, in_namespace: &str) -> bool {
    object.is_none_or(|object| namespace_of(object).is_none_or(|found| found == in_namespace))
}

/// The default validator has one name in a cluster: that of another mesh is not taken from it.
fn check_validator(installation: &Installation, target: &Target<'_>) -> Planned<()> {
    let Some(other) = installation.default_validator().filter(|validator| !is_in(Some(validator), &target.namespace)) else {
        return Ok(());
    };
    let namespace = namespace_of(other).unwrap_or_default();
    let reason = format!(
        "{DEFAULT_VALIDATOR} belongs to a control plane in namespace {namespace}, not to the one in {}",
        target.namespace
    );
    Err(Refusal::new(reason, "one mesh of a cluster validates what names no revision: remove tag default there first"))
}

/// The injectors without a revision give way to the `default` tag: first to what it has injected, so that no pod is injected
/// twice while both select it, then altogether.
fn deactivations(installation: &Installation, in_namespace: &str) -> (Vec<Change>, Vec<Change>) {
    let webhooks = unrevisioned(installation, in_namespace);
    let steps = webhooks.map(|webhook| {
        let between = yielding(webhook);
        (changed(webhook, between.clone()), changed(&between, deactivated(&between)))
    });
    steps.unzip()
}

fn changed(webhook: &Value, after: Value) -> Change {
    let subject = Subject::new(Resource::MutatingWebhookConfigurations, None, name(webhook));
    Change { subject, before: Some(webhook.clone()), after: Some(after) }
}

/// They come back when the tag goes, if somebody is there to answer: first only to what the tag does not inject, then, when
/// it is gone, to everything.
fn reactivations(installation: &Installation, in_namespace: &str, notes: &mut Vec<String>) -> (Vec<Change>, Vec<Change>) {
    let mut steps = (Vec::new(), Vec::new());
    for webhook in unrevisioned(installation, in_namespace) {
        let is_off = entries_of(webhook).any(is_deactivated);
        if is_off && installation.snapshot.readiness(UNREVISIONED) != Readiness::Ready {
            notes.push(format!("{} stays switched off: no control plane without a revision is ready to answer", name(webhook)));
        } else if is_off || is_yielding(webhook) {
            let between = yielding(&reactivated(webhook));
            steps.1.push(changed(&between, freed(&between)));
            steps.0.push(changed(webhook, between));
        }
    }
    steps
}

fn has_active_default(installation: &Installation, in_namespace: &str) -> bool {
    let mut webhooks = unrevisioned(installation, in_namespace);
    webhooks.any(|webhook| entries_of(webhook).any(|entry| !is_deactivated(entry)))
        && installation.snapshot.readiness(UNREVISIONED) == Readiness::Ready
}

fn validator_change(installation: &Installation, target: &Target<'_>, notes: &mut Vec<String>) -> Option<Change> {
    let live = installation.default_validator();
    let own = installation.revision_validator(target.revision);
    let Some(after) = pointed_to(target.webhook, own, live) else {
        notes.push("there is no validator of configuration to point to the revision: validation is switched off".to_owned());
        return None;
    };
    let subject = Subject::new(Resource::ValidatingWebhookConfigurations, None, DEFAULT_VALIDATOR);
    Some(Change { subject, before: live.cloned(), after: Some(after) })
}

fn validator_release(installation: &Installation, notes: &mut Vec<String>) -> Option<Change> {
    let live = installation.default_validator().filter(|validator| is_of_default_tag(validator))?;
    let mut after = released(live);
    // Going back to a revision that is gone would leave nobody able to write configuration.
    if let Some(previous) = &after
        && let Some(revision) = label(previous, labels::REVISION)
        && installation.snapshot.readiness(revision) != Readiness::Ready
        && Some(revision) != label(live, labels::REVISION)
    {
        notes.push(format!(
            "{DEFAULT_VALIDATOR} stays with the revision that answers now: {revision}, where it was before, is not ready"
        ));
        let mut kept = live.clone();
        if let Some(labels) = kept["metadata"]["labels"].as_object_mut() {
            labels.remove(labels::TAG);
        }
        after = Some(kept);
    }
    let subject = Subject::new(Resource::ValidatingWebhookConfigurations, None, DEFAULT_VALIDATOR);
    Some(Change { subject, before: Some(live.clone()), after })
}

/// The names of tags' webhooks are not unique: tag `a-b` in Istio's own namespace and tag `a` of a control plane in namespace `b` share
/// one. What is there under the name of what is to be made belongs to another mesh, or to nobody here.
fn check_collisions(installation: &Installation, plan: &TagPlan) -> Planned<()> {
    let created = plan.changes.iter().filter(|change| change.action() == Action::Create);
    let taken = created.filter(|change| {
        let objects = match change.subject.kind.as_str() {
            "MutatingWebhookConfiguration" => &installation.injectors,
            "Service" => &installation.services,
            _ => return false,
        };
        let place = change.subject.namespace.as_deref().unwrap_or_default();
        objects.iter().any(|object| name(object) == change.subject.name && namespace(object) == place)
    });
    let taken: Vec<String> = taken.map(|change| format!("{} is there, and is not this tag's", change.subject)).collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(format!("tag {} would take the place of something else", plan.tag), "choose another name").with(taken))
}

/// Two injectors that match one pod inject it twice; none may come to be that was not there before.
fn check_overlaps(installation: &Installation, plan: &TagPlan) -> Planned<()> {
    let configurations = |webhook: &Value| serde_json::from_value::<WebhookConfiguration>(webhook.clone()).unwrap_or_default();
    let injectors_of = |webhook: &Value| -> Vec<Injector> {
        Injector::all_of(&configurations(webhook)).into_iter().filter(|injector| !injector.is_deactivated()).collect()
    };
    let after_of = |webhook: &Value| -> Vec<Injector> {
        // Its last one: an injector that gives way does so in two steps.
        let change = plan
            .changes
            .iter()
            .rfind(|change| change.subject.kind == "MutatingWebhookConfiguration" && change.subject.name == name(webhook));
        match change {
            Some(change) => change.after.as_ref().map(injectors_of).unwrap_or_default(),
            None => injectors_of(webhook),
        }
    };
    let webhook = plan.changes.iter().find(|change| {
        change.subject.kind == "MutatingWebhookConfiguration"
            && change.after.as_ref().is_some_and(|after| label(after, labels::TAG) == Some(&plan.tag))
    });
    let Some(webhook) = webhook else { return Ok(()) };
    let before = webhook.before.as_ref().map(injectors_of).unwrap_or_default();
    let after = webhook.after.as_ref().map(injectors_of).unwrap_or_default();
    let mut details = Vec::new();
    for other in installation.injectors.iter().filter(|other| name(other) != webhook.subject.name) {
        let others = after_of(other);
        let overlaps =
            |own: &[Injector], others: &[Injector]| own.iter().any(|own| others.iter().any(|other| own.overlaps(other)));
        let was_so = overlaps(&before, &injectors_of(other));
        if overlaps(&after, &others) && !was_so {
            details.push(format!("{} selects pods that {} would select too", name(other), webhook.subject.name));
        }
    }
    if details.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::new(
        format!("with tag {} some pods would be injected twice", plan.tag),
        "remove the other webhook, or choose another name",
    );
    Err(refusal.with(details))
}

/// The Gateways that these changes of a tag hand to other istiods, or take from all.
fn handover(installation: &Installation, changes: &[Change]) -> Handover {
    let before = GatewayRevisions::of(installation);
    let after = before.clone().after(changes);
    before.handover(&after, &installation.gateways)
}

/// Who follows a tag: by label, and by what its injectors select. Before the `default` tag is made, the injector without
/// a revision answers for its followers.
fn followers_of_tag(installation: &Installation, census: &Census, tag: &str) -> Followers {
    let exists = installation.tag_webhooks(tag).next().is_some();
    followers(installation, census, tag, |injector| match injector.tag.as_deref() {
        Some(own) => own == tag,
        None => !exists && tag == DEFAULT && injector.revision.as_deref() == Some(UNREVISIONED),
    })
}

fn check_one_namespace<'a>(tag: &str, namespaces: impl Iterator<Item = &'a str>) -> Planned<()> {
    let mut namespaces: Vec<&str> = namespaces.collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    if namespaces.len() < 2 {
        return Ok(());
    }
    let refusal =
        Refusal::new(format!("tag {tag} stands in several control planes' namespaces"), "name one with --istio-namespace");
    Err(refusal.with(namespaces.into_iter().map(|name| format!("namespaces/{name}")).collect()))
}

fn no_such_tag(installation: &Installation, tag: &str) -> Refusal {
    let tags = installation.snapshot.tags();
    Refusal::not_found(format!("there is no tag {tag}{}", nearest(tag, &tags)), Command::mesh_tag("list"))
}

fn no_such_revision(installation: &Installation, revision: &str) -> Refusal {
    let snapshot = &installation.snapshot;
    if let Some(points_to) = snapshot.revision_of_tag(revision) {
        return Refusal::not_found(
            format!("{revision} is a tag, not a revision; it points to revision {points_to}"),
            Advice::say(format!("the same command with --revision {points_to}")),
        );
    }
    let mut revisions = snapshot.revisions();
    if revisions.contains(&revision) {
        return Refusal::not_found(
            format!("revision {revision} has no injector of its own, from which a tag could be made"),
            Command::kubectl("get mutatingwebhookconfigurations").flag("-l", format!("{}={revision}", labels::REVISION)),
        );
    }
    revisions.retain(|name| !name.is_empty());
    if revisions.is_empty() {
        return Refusal::not_found(
            "there is no mesh here: no control plane and no injector",
            Advice::run(Command::mesh_upgrade("start")).and_say(" installs one"),
        );
    }
    Refusal::not_found(format!("there is no revision {revision}{}", nearest(revision, &revisions)), Command::mesh_tag("list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Unread, UnreadCause};

    fn unread(resource: Resource, namespace: Option<&str>) -> Unread {
        Unread { resource, namespace: namespace.map(str::to_owned), cause: UnreadCause::Forbidden }
    }

    #[test]
    fn what_could_not_be_read_stands_in_the_way() {
        let mut installation = Installation::default();
        assert_eq!(check_seen(&installation, "prod"), Ok(()));
        // Neither says anything about a tag that is not the default.
        installation.snapshot.unread =
            vec![unread(Resource::ValidatingWebhookConfigurations, None), unread(Resource::EndpointSlices, Some("istio-system"))];
        assert_eq!(check_seen(&installation, "prod"), Ok(()));
        let refusal = check_seen(&installation, DEFAULT).unwrap_err();
        assert_eq!(refusal.details, ["validatingwebhookconfigurations.admissionregistration.k8s.io"]);
        installation.snapshot.unread = vec![unread(Resource::Services, Some("istio-system")), unread(Resource::Gateways, None)];
        let refusal = check_seen(&installation, "prod").unwrap_err();
        assert_eq!(refusal.details, ["gateways.gateway.networking.k8s.io", "services -n istio-system"]);
    }
}
