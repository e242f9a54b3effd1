//! Carrying out the plan of a tag: proof, question, writes, a look at what was written, proof again; and putting everything back
//! when one of them fails.

use std::cmp::Ordering;

use crate::advice::{Advice, Command};
use crate::change::{Action, Change, without_server_fields};
use crate::cluster::apply::{self, Persistence, carry_out, is_uncertain, put_back};
use crate::cluster::probe::{NO_PLACE, Proof, proof_needs, prove};
use crate::cluster::read_back::{By, differences};
use crate::cluster::review::{self, Intended, check_permitted};
use crate::cluster::wait::{Look, Patience, Waited};
use crate::cluster::{Scope, read, read_installation};
use crate::health::repoint;
use crate::installation::{Installation, label, name};
use crate::labels;
use crate::needs::Needs;
use crate::object::Resource;
use crate::outcome::missing;
use crate::proof::places;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::tag::TagPlan;
use crate::terminal::Terminal;
use crate::terminal::document::write_objects;
use crate::terminal::exit::Exit;
use crate::terminal::question::Consent;
use crate::terminal::stop::Stop;
use crate::terminal::writing::{DryRun, WritingArgs};
use owo_colors::OwoColorize;
use serde_json::Value;

/// Where and how a plan is carried out.
pub struct Execution<'a> {
    /// The flags about writing.
    pub writing: &'a WritingArgs,
    /// What was read, and the plan made from.
    pub installation: &'a Installation,
}

impl Execution<'_> {
    /// Carries the plan out, or shows what it would do.
    pub async fn run(&self, plan: &TagPlan, session: &mut Session) -> Result<Exit, Stop> {
        if plan.is_done() {
            let revision = plan.revision.as_deref().unwrap_or_default();
            writeln!(session.terminal.err, "Tag {} points to revision {revision} already; nothing was changed.", plan.tag)?;
            notes(plan, &mut session.terminal)?;
            self.print_objects(&self.present_objects(plan), &mut session.terminal)?;
            return Ok(Exit::Done);
        }
        announce(plan, &mut session.terminal)?;
        if self.writing.dry_run != DryRun::None {
            return self.dry_run(plan, session).await;
        }
        check_permitted(&*session.connect().await?, plan.changes.iter().filter_map(Intended::of)).await?;
        let proves_before = self.prove_target(plan, session).await?;
        tell_proof(&proves_before, &mut session.terminal)?;
        session.ask(&question(plan, &self.installation.snapshot), Consent::from_flag(self.writing.yes)).await?;
        let written = self.write(plan, session).await?;
        if let Err(stop) = self.verify(&written, session).await {
            // What is being deleted cannot be put back.
            return Err(if matches!(stop, Stop::Partly(_)) { stop } else { self.take_back(&written, stop, session).await });
        }
        self.tell_done(plan, session)?;
        let objects: Vec<Value> = written.changes.iter().filter_map(|(_, object)| object.clone()).collect();
        self.print_objects(&objects, &mut session.terminal)?;
        Ok(Exit::Done)
    }

    /// Shows the changes, as decided here or as the API server would make them.
    async fn dry_run(&self, plan: &TagPlan, session: &mut Session) -> Result<Exit, Stop> {
        let connection = session.connect().await?;
        let mut objects = Vec::new();
        for change in &plan.changes {
            let result = match self.writing.dry_run.persistence() {
                Some(persistence) => carry_out(&connection, change, persistence).await?,
                None => change.after.clone(),
            };
            let shown = Change { after: result.clone(), ..change.clone() };
            objects.extend(result.map(|object| without_server_fields(&object)));
            if self.writing.output.is_none() {
                writeln!(session.terminal.out, "{} {}{}", shown.action().as_str(), shown.subject, self.writing.dry_run.suffix())?;
                for line in shown.differences() {
                    writeln!(session.terminal.out, "  {line}")?;
                }
            }
        }
        self.print_objects(&objects, &mut session.terminal)?;
        Ok(Exit::Done)
    }

    fn print_objects(&self, objects: &[Value], terminal: &mut Terminal) -> Result<(), Stop> {
        if let Some(format) = self.writing.output {
            write_objects(objects, format, &mut terminal.out)?;
        }
        Ok(())
    }

    /// The tag's objects as they are.
    fn present_objects(&self, plan: &TagPlan) -> Vec<Value> {
        let services = self.installation.tag_services(&plan.tag);
        services.chain(self.installation.tag_webhooks(&plan.tag)).map(without_server_fields).collect()
    }

    /// Shows by a dry-run pod that the revision's own injector answers, before anything points to it.
    async fn prove_target(&self, plan: &TagPlan, session: &mut Session) -> Result<Option<String>, Stop> {
        let Some(revision) = &plan.revision else { return Ok(None) };
        let mut webhooks = self.installation.revision_webhooks(revision);
        let Some(webhook) = webhooks.next() else { return Ok(None) };
        let snapshot = &self.installation.snapshot;
        let is_active =
            snapshot.injectors.iter().any(|injector| injector.configuration == name(webhook) && !injector.is_deactivated());
        if !is_active {
            // Switched off for the default tag: only through a tag can it be asked, and that comes afterwards.
            return Ok(None);
        }
        let namespace = self.control_plane_namespace(revision);
        let found = places(snapshot, name(webhook), &[revision], &[&namespace, "default"]);
        let proof = prove(&*session.connect().await?, &found, revision).await?;
        let proved = check(proof, &format!("the injector {} of revision {revision}", name(webhook)));
        Ok(Some(proved.map_err(unproved_refusal)?))
    }

    fn control_plane_namespace(&self, revision: &str) -> String {
        let mut control_planes = self.installation.snapshot.control_planes_of(revision);
        control_planes.next().map_or_else(|| "istio-system".to_owned(), |control_plane| control_plane.namespace.clone())
    }

    /// Writes everything in its order. What fails is put back. Its changes are one change: an interruption ends the command before the
    /// first of them or after the last.
    async fn write<'p>(&self, plan: &'p TagPlan, session: &mut Session) -> Result<Written<'p>, Stop> {
        let connection = session.connect().await?;
        let mut written = Written { plan, since: session.interruption.writes().mark(), changes: Vec::new() };
        let _whole = session.interruption.writes().whole();
        for change in &plan.changes {
            session.if_interrupted(unfinished(plan, written.changes.len()));
            let change = after_earlier(change, &written.changes);
            match carry_out(&connection, &change, Persistence::Stored).await {
                Ok(object) => {
                    let differences = object.as_ref().map(|object| missing(&change, Some(object))).unwrap_or_default();
                    if !differences.is_empty() {
                        written.changes.push((change, object));
                        return Err(self.take_back(&written, altered(plan, &differences), session).await);
                    }
                    writeln!(session.terminal.err, "{} {}", past(change.action()), change.subject)?;
                    written.changes.push((change, object));
                }
                Err(failure) => {
                    // It may have happened all the same: whoever puts it back looks first.
                    if is_uncertain(&failure.cause) {
                        written.changes.push((change, None));
                    }
                    return Err(self.take_back(&written, Stop::Failure(failure), session).await);
                }
            }
        }
        session.if_interrupted(unproved(plan));
        Ok(written)
    }

    /// Puts back what was written, the last first, and says so. An interruption does not end it half-way.
    async fn take_back(&self, written: &Written<'_>, stop: Stop, session: &mut Session) -> Stop {
        let _whole = session.interruption.writes().piece();
        let connection = match session.connect().await {
            Ok(connection) => connection,
            Err(stop) => return stop,
        };
        // All of it within one budget: what a server that is away has not taken then is named.
        let connection = connection.for_one_budget();
        let mut left = Vec::new();
        for (change, object) in written.changes.iter().rev() {
            match put_back(&connection, change, object.as_ref()).await {
                Ok(()) => {
                    // The stop tells the cause; a stream that is gone can be told nothing.
                    let _ = writeln!(session.terminal.err, "put back {}", change.subject);
                }
                Err(failure) => left.push(failure.to_string()),
            }
        }
        if left.is_empty() {
            session.interruption.writes().put_back_since(written.since);
            return match stop {
                Stop::Failure(failure) if written.changes.is_empty() => Stop::Failure(failure),
                Stop::Failure(failure) => put_back_too(&failure.to_string(), session),
                Stop::Message(message) => put_back_too(&message, session),
                other => other,
            };
        }
        let reason = match stop {
            Stop::Failure(failure) => failure.to_string(),
            Stop::Message(message) => message,
            Stop::Refused(refusal) => refusal.reason,
            other => return other,
        };
        let tag = &written.plan.tag;
        let back = match &written.plan.previous {
            Some(previous) => repoint(tag, previous),
            None => Command::mesh_tag("remove").value(tag),
        };
        let reason = format!("{reason}; not everything that was written before could be put back");
        let advice = Advice::say("the same command continues; ").and_run(back).and_say(" goes back");
        Stop::Partly(Refusal::new(reason, advice).with(left))
    }

    /// Reads back what was written, and shows by a dry-run pod that the tag is answered by its revision.
    ///
    /// # Errors
    /// [`Stop::Partly`] for what was to be deleted and is still there.
    async fn verify(&self, written: &Written<'_>, session: &mut Session) -> Result<(), Stop> {
        let plan = written.plan;
        let connection = session.connect().await?;
        let (deletions, others): (Vec<Change>, Vec<Change>) =
            written.whole().into_iter().partition(|change| change.action() == Action::Delete);
        let altered_now = differences(&connection, &others, By::List).await?;
        if !altered_now.is_empty() {
            return Err(altered(plan, &altered_now));
        }
        let left = differences(&connection, &deletions, By::List).await?;
        if !left.is_empty() {
            let reason = format!("tag {} is not wholly gone", plan.tag);
            return Err(Stop::Partly(Refusal::new(reason, "see to each, then the same command continues").with(left)));
        }
        let installation = read_installation(&connection, session.istio_namespace()).await?;
        let webhook = installation.tag_webhooks(&plan.tag).next();
        let points_to = webhook.and_then(|webhook| label(webhook, labels::REVISION));
        if points_to != plan.revision.as_deref() {
            let found = points_to.map_or_else(|| "it is not there".to_owned(), |revision| format!("it points to {revision}"));
            return Err(Stop::Message(format!("tag {} was written and then changed by somebody else: {found}", plan.tag)));
        }
        let (Some(webhook), Some(revision)) = (webhook, &plan.revision) else { return Ok(()) };
        let namespace = self.control_plane_namespace(revision);
        let found = places(&installation.snapshot, name(webhook), &[&plan.tag], &[&namespace, "default"]);
        let who = format!("tag {}", plan.tag);
        let look =
            || async { Ok(check(prove(&connection, &found, revision).await?, &who).map_or_else(Look::NotYet, Look::Done)) };
        match Patience::learning().wait(look).await? {
            Waited::Done(proof) => tell_proof(&Some(proof), &mut session.terminal),
            Waited::TimedOut(why) => Err(unproved_refusal(why).into()),
        }
    }

    fn tell_done(&self, plan: &TagPlan, session: &mut Session) -> Result<(), Stop> {
        let err = &mut session.terminal.err;
        match (&plan.revision, &plan.previous) {
            (None, _) => writeln!(err, "Tag {} was removed.", plan.tag)?,
            (Some(revision), Some(previous)) if previous != revision => {
                writeln!(err, "Tag {} points to revision {revision} now; before, to {previous}.", plan.tag)?;
            }
            (Some(revision), _) => writeln!(err, "Tag {} points to revision {revision}.", plan.tag)?,
        }
        let next = match &plan.revision {
            Some(_) if plan.effect.stale_after > 0 => Some(placed(Command::mesh_upgrade("restart"), &plan.effect.namespaces)),
            Some(_) if plan.effect.namespaces.is_empty() && plan.effect.proxies == 0 => {
                Some(Command::mesh_tag("attach").value(&plan.tag).words("NAMESPACE"))
            }
            _ => None,
        };
        if let Some(next) = next {
            session.tell_next(next)?;
        }
        Ok(())
    }
}

/// What reading for a plan that makes or moves a tag, and carrying it out, may ask for.
pub fn needs(scope: &Scope, dry_run: DryRun) -> Needs {
    let writing = removal_needs(scope, dry_run);
    if dry_run == DryRun::None { writing.and(proof_needs(scope.control_plane_namespace())) } else { writing }
}

/// What reading for a plan that removes a tag, and carrying it out, may ask for. Nothing has to be proved then.
pub fn removal_needs(scope: &Scope, dry_run: DryRun) -> Needs {
    let written = [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations, Resource::Services];
    let namespace = scope.control_plane_namespace();
    let look = read::look_needs(scope);
    match dry_run {
        DryRun::Client => look,
        DryRun::Server => look.require(Some(namespace), written, &["create", "update", "delete"]),
        DryRun::None => look.and(apply::needs(Some(namespace), written, &["create", "update", "delete"])).and(review::needs()),
    }
}

/// What labelling namespaces, and looking at what is stale in these places then, may ask for.
pub fn labelling_needs(places: &[Scope]) -> Needs {
    places.iter().map(read::needs).fold(apply::relabel_needs(None, Resource::Namespaces), Needs::and)
}

/// What was written of a plan.
struct Written<'p> {
    plan: &'p TagPlan,
    /// The moment before the first write.
    since: usize,
    /// Each change, and the object as the API server has it since; the last one may not have happened.
    changes: Vec<(Change, Option<Value>)>,
}

impl Written<'_> {
    /// What was done to each object in all: one that was written twice went from its first state to its last.
    fn whole(&self) -> Vec<Change> {
        let mut whole: Vec<Change> = Vec::new();
        for (change, _) in &self.changes {
            match whole.iter_mut().find(|earlier| earlier.subject == change.subject) {
                Some(earlier) => earlier.after.clone_from(&change.after),
                None => whole.push(change.clone()),
            }
        }
        whole
    }
}

/// Somebody changes what was written: a webhook of admission, or a controller.
fn altered(plan: &TagPlan, differences: &[String]) -> Stop {
    let reason = format!("tag {} was written, and it is not as it was written: a webhook or somebody else changes it", plan.tag);
    Stop::Message(format!("{reason}\n  {}", differences.join("\n  ")))
}

fn put_back_too(message: &str, session: &Session) -> Stop {
    let message = format!("{message}\n  Everything that was written before was put back.");
    // Whoever interrupts a command learns from its exit code that it ended for that, too.
    if session.interruption.is_requested() {
        return Stop::Interrupted(Refusal::new(message, "the same command starts anew"));
    }
    Stop::Message(message)
}

/// A change of an object that was written before, on the state that it has since then.
fn after_earlier(change: &Change, written: &[(Change, Option<Value>)]) -> Change {
    let mut change = change.clone();
    let earlier = written.iter().rfind(|(earlier, _)| earlier.subject == change.subject);
    if let (Some((_, Some(object))), Some(before)) = (earlier, &mut change.before) {
        before["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    }
    change
}

fn announce(plan: &TagPlan, terminal: &mut Terminal) -> Result<(), Stop> {
    let none = || "nothing".to_owned();
    let (from, to) = (plan.previous.clone().unwrap_or_else(none), plan.revision.clone().unwrap_or_else(none));
    writeln!(terminal.err, "Tag {}: {from} -> {to}", plan.tag)?;
    for line in plan.effect.lines() {
        writeln!(terminal.err, "  {line}")?;
    }
    notes(plan, terminal)
}

fn notes(plan: &TagPlan, terminal: &mut Terminal) -> Result<(), Stop> {
    let style = terminal.err_styles.warning;
    for note in &plan.notes {
        writeln!(terminal.err, "{} {note}", "note:".style(style))?;
    }
    Ok(())
}

fn question(plan: &TagPlan, snapshot: &Snapshot) -> String {
    match (&plan.revision, &plan.previous) {
        (None, _) => format!("Remove tag {}?", plan.tag),
        (Some(revision), None) => format!("Make tag {} for revision {revision}?", plan.tag),
        (Some(revision), Some(previous)) if previous == revision => format!("Mend tag {} of revision {revision}?", plan.tag),
        (Some(revision), Some(previous)) => {
            let version = |revision: &str| snapshot.control_planes_of(revision).find_map(|control_plane| control_plane.version());
            let back = match (version(previous), version(revision)) {
                (Some(from), Some(to)) if to.order(&from) == Some(Ordering::Less) => {
                    format!(", back to an older version ({from} -> {to})")
                }
                _ => String::new(),
            };
            format!("Move tag {} from revision {previous} to {revision}{back}?", plan.tag)
        }
    }
}

/// A proof is worth only what was proved: anything else is a reason to refuse.
fn check(proof: Proof, who: &str) -> Result<String, String> {
    match proof {
        Proof::Injected(namespace) => Ok(format!("{who} injects: proved by a dry-run pod in namespace {namespace}")),
        Proof::Failed(why) => Err(format!("{who} does not inject: {why}")),
        Proof::Refused(why) => Err(format!("{who} refuses pods: {why}")),
        Proof::Untried(why) => Err(format!("whether {who} injects could not be proved: {why}")),
        Proof::NoPlace => Err(format!("whether {who} injects could not be proved: {NO_PLACE}")),
    }
}

fn unproved_refusal(why: String) -> Refusal {
    Refusal::new(why, Advice::run(Command::mesh_tag("list")).and_say(" shows what is wrong"))
}

fn tell_proof(proof: &Option<String>, terminal: &mut Terminal) -> Result<(), Stop> {
    if let Some(proof) = proof {
        writeln!(terminal.err, "  {proof}")?;
    }
    Ok(())
}

fn unproved(plan: &TagPlan) -> Refusal {
    let count = plan.changes.len();
    let stands =
        plan.revision.as_ref().map_or_else(|| "is removed".to_owned(), |revision| format!("points to revision {revision}"));
    let reason =
        format!("tag {} {stands} in all its objects ({count} were written), and whether it works was not looked at", plan.tag);
    let advice = Advice::say("the same command looks at it; ").and_run(Command::mesh_tag("list")).and_say(" shows what there is");
    Refusal::new(reason, advice)
}

fn unfinished(plan: &TagPlan, written: usize) -> Refusal {
    let left = plan.changes[written..].iter().map(|change| format!("not yet: {} {}", change.action().as_str(), change.subject));
    let count = plan.changes.len();
    if written == 0 {
        return Refusal::new(format!("{written} of {count} objects were written"), "the same command continues")
            .with(left.collect());
    }
    let whole = match &plan.revision {
        Some(revision) => repoint(&plan.tag, revision),
        None => Command::mesh_tag("remove").value(&plan.tag),
    };
    let reason = format!("{written} of {count} objects were written, so that tag {} is split", plan.tag);
    Refusal::new(reason, Advice::run(whole).and_say(" writes the rest")).with(left.collect())
}

const fn past(action: Action) -> &'static str {
    match action {
        Action::Create => "created",
        Action::Update => "changed",
        Action::Delete => "deleted",
        Action::None => "unchanged",
    }
}

/// The flag that reaches these namespaces.
fn placed(command: Command, namespaces: &[String]) -> Command {
    match namespaces {
        [one] => command.namespace(one),
        _ => command.words("-A"),
    }
}
