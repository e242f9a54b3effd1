//! `mesh-upgrade rollback`: tags, labels and workloads back to a revision that is still here.

mod part;
mod plan;

use mesh::advice::{Advice, Command};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use clap::Args;
use jiff::Timestamp;
use mesh::change::Subject;
use mesh::cluster::apply::{Persistence, relabel, relabel_needs};
use mesh::cluster::connection::Connection;
use mesh::cluster::read_back::label_differences;
use mesh::cluster::review::{Intended, check_permitted};
use mesh::cluster::users::{self, Leaving, Users};
use mesh::cluster::{List, Pods, Scope, Unobserved, look, read};
use mesh::execution::{self, Execution};
use mesh::installation::{Installation, label, name, namespace};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::outcome::ending;
use mesh::refusal::Refusal;
use mesh::session::{Intent, Session};
use mesh::snapshot::{Detail, Snapshot};
use mesh::tag::{self, RemoveRequest, removed_tag, undo_removes};
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::question::Consent;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::{DryRun, WritingArgs};
use mesh::uses::{Departing, UseKind, Uses};
use mesh::verdict::verdicts;
use mesh::workload::Workload;
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::complete::{self, CompleteArgs};
use crate::definition::{definitions_needs, definitions_stay};
use crate::disruption;
use crate::downgrade::Older;
use crate::partly;
use crate::restart::engine::{self, Engine, Limits};
use crate::restart::event::Events;
use crate::restart::{LimitArgs, Output};
use crate::revisions::Revision;
use crate::rollback::part::Part;
use crate::rollback::plan::{Rollback, Runners, Start, check_target, other_revision, runners};
use crate::selection::SubjectArgs;
use crate::survey::{self, Survey, scope, survey};
use crate::waves::{Item, Waving, waves};

/// Arguments of `rollback`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::ROLLBACK)]
pub struct RollbackArgs {
    /// The revision to go back to
    #[arg(long, value_name = "REVISION")]
    pub to: String,

    /// What goes back; everything when nothing selects.
    #[command(flatten)]
    pub subjects: SubjectArgs,

    /// The revision to leave; found by itself when only one is newer
    #[arg(long, value_name = "REVISION")]
    pub from: Option<String>,

    /// Let istiod replace the gateways that follow at once
    #[arg(long)]
    pub accept_gateway_restart: bool,

    /// Evict the pods of workloads that an operator owns, one by one: their template is left alone
    #[arg(long)]
    pub evict_owned: bool,

    /// How far the restarts may go.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Remove the revision that was left, once nothing uses it any more
    #[arg(long, conflicts_with_all = ["subjects", "namespace", "selector", "filename"])]
    pub remove: bool,

    /// With --remove: also when proxies of other clusters or virtual machines, which this cluster does not show, may use it
    #[arg(long, requires = "remove")]
    pub accept_unseen_clients: bool,

    /// Only show what would be done: client or server, of which neither writes anything
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,

    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// How the restarts are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// What it may ask for.
pub fn needs(args: &RollbackArgs, typed: &Scope) -> Needs {
    let intent = Intent::from(args.dry_run);
    let scope = typed.within(None);
    let needs = way_back_needs(intent, &scope);
    let needs = needs.and(partly::needs(scope.control_plane_namespace()));
    if args.remove { needs.and(complete::anybodys_removal_needs(intent, &scope)) } else { needs }
}

/// What going back may ask for: tags, labels and restarts.
pub fn way_back_needs(intent: Intent, scope: &Scope) -> Needs {
    // Going back to the install without a revision removes the tag `default`.
    let reading = survey::needs(scope).and(read::look_needs(scope)).and(users::needs(scope).optional()).and(definitions_needs());
    let reading = reading.and(disruption::needs(None));
    match intent {
        Intent::Read => reading,
        Intent::Write => reading
            .and(execution::needs(scope, DryRun::None))
            .and(relabel_needs(None, Resource::Namespaces))
            .and(relabel_needs(None, Resource::Gateways))
            .and(engine::needs_back(None)),
    }
}

/// Runs it.
pub async fn run(session: &mut Session, args: &RollbackArgs) -> Result<Exit, Stop> {
    // What makes no sense is told before the cluster is asked for anything.
    let subjects = args.subjects.read()?;
    let connection = session.connect_for(Intent::from(args.dry_run)).await?;
    let mut survey = survey(session, None).await?;
    if args.evict_owned {
        survey.snapshot.evict_owned();
    }
    check_target(&survey.snapshot, &survey.revisions, &args.to)?;
    let Some(from) = revision_to_leave(&connection, &survey, args).await? else {
        writeln!(session.terminal.err, "Nothing to roll back: no revision here is newer than {}.", args.to)?;
        let others: Vec<&str> =
            survey.revisions.iter().map(|other| other.name.as_str()).filter(|other| *other != args.to).collect();
        if !others.is_empty() {
            writeln!(session.terminal.err, "Here besides: {}; --from says which one is left.", others.join(", "))?;
        }
        return Ok(Exit::Done);
    };
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let unread = sight.installation.snapshot.unread_findings().chain(survey.snapshot.unread_findings());
    findings::write(unread.map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    let mut all = verdicts(&survey.snapshot, &HashMap::new());
    let typed = Scope { namespace: Some(connection.namespace.clone()), ..Scope::default() };
    let place = args.subjects.within(&typed).namespace;
    let part = Part::of(&args.subjects, &subjects, place.as_deref(), &survey.snapshot, &all)?;
    all.retain(|verdict| part.as_ref().is_none_or(|part| part.includes(&verdict.workload)));
    let runners = runners(&all, &survey.snapshot, &from);
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
    let namespaces = namespaces_of(&connection, &from).await?;
    let leaving = DefaultTag { installation: &sight.installation, snapshot: &survey.snapshot, from: &from, to: &args.to };
    let default_users = leaving.users(&connection, session.istio_namespace()).await?;
    let start = Start { from: &from, now: &now, default_users: default_users.as_ref(), part: part.as_ref() };
    let rollback = Rollback::new(&sight, namespaces, args, &start)?;
    announce(&rollback, &runners, part.as_ref(), args.dry_run, &mut session.terminal)?;
    let to_version = survey.revisions.iter().find(|revision| revision.name == args.to).and_then(Revision::version);
    if let Some(stay) = definitions_stay(&connection, to_version).await? {
        writeln!(session.terminal.err, "  {} {stay}", "left:".style(session.terminal.err_styles.warning))?;
    }
    let is_meant = |workload: &Workload| runners.restartable.iter().any(|verdict| verdict.workload == workload.id);
    let budgets = disruption::read(&connection, None, &survey.snapshot, is_meant).await?;
    findings::write(budgets.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    if args.remove {
        let lines = complete::preview(session, &from).await?;
        let suffix = args.dry_run.suffix();
        writeln!(session.terminal.err, "Then revision {from} is removed, {}:", plural(lines.len() as u64, "object", "objects"))?;
        for line in lines {
            writeln!(session.terminal.err, "  {line}{suffix}")?;
        }
    }
    if args.dry_run.is_dry() {
        session.conclude_dry_run(args.dry_run)?;
        return Ok(Exit::Done);
    }
    check_permitted(&connection, intended(&rollback, &runners)).await?;
    if !rollback.is_done() || !runners.restartable.is_empty() {
        let place = part.as_ref().map_or_else(String::new, |part| format!(" in {}", part.place()));
        session.ask(&format!("Go back from revision {from} to {}{place}?", args.to), Consent::from_flag(args.yes)).await?;
    }
    move_back(session, args, &sight.installation, &rollback).await?;
    session.if_interrupted(Refusal::new("tags and labels are back, workloads are not", "the same command continues"));
    let left = restart(session, args, &from, part.as_ref()).await?;
    conclude(session, args, &from, part.as_ref(), left.into_iter().chain(rollback.not_ours).collect())?;
    if !args.remove {
        return Ok(Exit::Done);
    }
    let removal = CompleteArgs {
        remove: from,
        abandon: None,
        accept_unseen_clients: args.accept_unseen_clients,
        dry_run: DryRun::None,
        yes: args.yes,
        output: None,
    };
    complete::run(session, &removal).await
}

/// Everything that the way back writes.
fn intended(rollback: &Rollback, runners: &Runners) -> Vec<Intended> {
    let tags = rollback.tags.iter().flat_map(|plan| &plan.changes).filter_map(Intended::of);
    let labels = rollback.namespaces.iter().chain(&rollback.gateways).map(|object| Intended::with("patch", &follower(object)));
    let restarts = runners.restartable.iter().flat_map(|verdict| engine::intended(&verdict.workload, &verdict.restart));
    tags.chain(labels).chain(restarts).collect()
}

/// The namespaces that follow a revision itself, whole.
async fn namespaces_of(connection: &Connection, revision: &str) -> Result<Vec<Value>, Stop> {
    Ok(List::of(Resource::Namespaces).labelled(labels::REVISION, revision).whole(connection).await?)
}

/// The revision that is left. One of which only a part is here has no control plane, and is found by its objects.
async fn revision_to_leave(connection: &Connection, survey: &Survey, args: &RollbackArgs) -> Result<Option<String>, Stop> {
    let named = args.from.as_deref();
    let is_here = named.is_none_or(|named| named == args.to || survey.revisions.iter().any(|found| found.name == named));
    if is_here && let Some(from) = other_revision(&survey.revisions, &args.to, named)? {
        return Ok(Some(from));
    }
    Ok(partly::left(&partly::read(connection, survey).await?, &args.to, named)?)
}

fn announce(
    rollback: &Rollback,
    runners: &Runners,
    part: Option<&Part>,
    dry_run: DryRun,
    terminal: &mut Terminal,
) -> Result<(), Stop> {
    let suffix = dry_run.suffix();
    let Rollback { from, to, .. } = rollback;
    let place = part.map_or_else(String::new, |part| format!(" in {}", part.place()));
    writeln!(terminal.err, "Back from revision {from} to {to}{place}:")?;
    for line in rollback.lines() {
        writeln!(terminal.err, "  {line}{suffix}")?;
    }
    if part.is_some_and(|part| part.workloads.is_some()) && !rollback.is_done() {
        let what = "every new pod there follows it from then on; workloads that were not selected are not restarted";
        writeln!(terminal.err, "  {} {what}", "note:".style(terminal.err_styles.warning))?;
    }
    let count = plural(runners.restartable.len() as u64, "workload runs", "workloads run");
    writeln!(terminal.err, "  {count} proxies of {from} and are restarted{suffix}")?;
    for other in rollback.not_ours.iter().chain(&runners.others) {
        writeln!(terminal.err, "  {} {other}", "left:".style(terminal.err_styles.warning))?;
    }
    Ok(())
}

/// The tag `default`, where going back may remove it.
struct DefaultTag<'a> {
    installation: &'a Installation,
    snapshot: &'a Snapshot,
    from: &'a str,
    to: &'a str,
}

impl DefaultTag<'_> {
    /// Whether going back removes it: it was made for the revision that is left, or stands for the install without a revision.
    fn goes(&self) -> bool {
        let points_to_it = |object: &Value| label(object, labels::REVISION) == Some(self.from);
        (self.to == tag::DEFAULT || self.installation.tag_webhooks(tag::DEFAULT).any(points_to_it))
            && undo_removes(self.installation, tag::DEFAULT)
    }

    /// Who uses it, where it goes. A namespace without a proxy loses nothing: before the tag was made, nothing injected its pods.
    async fn users(&self, connection: &Connection, istio_namespace: Option<&str>) -> Result<Option<Uses>, Stop> {
        if !self.goes() {
            return Ok(None);
        }
        let request = RemoveRequest { tag: tag::DEFAULT, istio_namespace };
        let Ok(namespace) = removed_tag(self.installation, request) else { return Ok(None) };
        let leaving = Leaving { what: Departing::Tag, name: tag::DEFAULT };
        let Ok(users) =
            Users::read(connection, istio_namespace, leaving, &Unobserved, |_| Ok::<_, Infallible>(namespace)).await?;
        let mut uses = users.uses;
        let has_proxies = |namespace: &str| {
            let mut workloads = self.snapshot.workloads.iter();
            workloads.any(|workload| &*workload.id.namespace == namespace && !workload.proxies.is_empty())
        };
        uses.found.retain(|found| {
            found.kind != UseKind::Namespace || found.subject.strip_prefix("namespaces/").is_none_or(has_proxies)
        });
        Ok(Some(uses))
    }
}

/// Tags first: whoever follows one follows at once. Then the labels that name the revision itself.
async fn move_back(
    session: &mut Session,
    args: &RollbackArgs,
    installation: &Installation,
    rollback: &Rollback,
) -> Result<(), Stop> {
    let writing =
        WritingArgs { yes: true, accept_gateway_restart: args.accept_gateway_restart, dry_run: DryRun::None, output: None };
    let execution = Execution { writing: &writing, installation };
    for plan in &rollback.tags {
        execution.run(plan, session).await?;
    }
    let connection = session.connect().await?;
    let labels = BTreeMap::from([(labels::REVISION, Some(args.to.clone())), (labels::INJECTION, None)]);
    // What is being deleted gets no new pods.
    let objects = || rollback.namespaces.iter().chain(&rollback.gateways).filter(|object| ending(object).is_none());
    for object in objects() {
        session.if_interrupted(Refusal::new("tags are back, some labels are not", "the same command continues"));
        let subject = follower(object);
        relabel(&connection, &subject, object, &labels, Persistence::Stored).await?;
        writeln!(session.terminal.err, "{subject} follows {}", args.to)?;
    }
    let different = label_differences(&connection, objects().map(|object| (follower(object), object)), &labels).await;
    if different.is_empty() {
        return Ok(());
    }
    let reason = "tags are back, and labels that were written are not as they were written: somebody else, such as a GitOps tool or \
                  a webhook, changes them";
    Err(Stop::Partly(Refusal::new(reason, "change them in their source; then the same command").with(different)))
}

/// A namespace or Gateway that follows a revision by its label.
fn follower(object: &Value) -> Subject {
    let resource = if object["kind"] == "Gateway" { Resource::Gateways } else { Resource::Namespaces };
    let namespace = Some(namespace(object)).filter(|namespace| !namespace.is_empty());
    Subject::new(resource, namespace, name(object))
}

/// Restarts what runs the revision that is left, in reverse order, and gives what cannot be brought back.
async fn restart(session: &mut Session, args: &RollbackArgs, from: &str, part: Option<&Part>) -> Result<Vec<String>, Stop> {
    let connection = session.connect().await?;
    let mut snapshot = read(&connection, &scope(session, None), Detail::Workloads, &Unobserved).await?;
    if args.evict_owned {
        snapshot.evict_owned();
    }
    let mut all = verdicts(&snapshot, &HashMap::new());
    all.retain(|verdict| part.is_none_or(|part| part.includes(&verdict.workload)));
    let Runners { restartable, others } = runners(&all, &snapshot, from);
    let mut others = others;
    let mut items = Vec::new();
    for verdict in &restartable {
        match verdict.wanted.as_ref().and_then(|wanted| wanted.revision.as_deref()) {
            Some(revision) if revision == args.to => items.push((Item::new(verdict), None)),
            _ => others.push(format!(
                "{} -n {} would not get revision {}: {}",
                verdict.workload.qualified_name(),
                verdict.workload.namespace,
                args.to,
                session.advisor().text(&verdict.advice())
            )),
        }
    }
    if items.is_empty() {
        return Ok(others);
    }
    let mut waves = waves(items, &Waving::Namespace);
    // What was upgraded last goes back first.
    waves.reverse();
    for (place, wave) in waves.iter_mut().enumerate() {
        wave.number = place + 1;
    }
    let mut events = Events::new(args.output);
    // Who cannot go back stops nobody.
    let limits = Limits { older: Older::Allowed, ..args.limits.limits(usize::MAX) };
    let engine = Engine::new(&connection, &snapshot, limits).leaving(from);
    match engine.run(&waves, &mut events, &mut session.terminal).await {
        Ok(_) => Ok(others),
        Err(Stop::Partly(mut refusal)) => {
            refusal.details.extend(others);
            Err(Stop::Partly(refusal))
        }
        Err(stop) => Err(stop),
    }
}

fn conclude(session: &mut Session, args: &RollbackArgs, from: &str, part: Option<&Part>, left: Vec<String>) -> Result<(), Stop> {
    // Whoever was not selected may use the revision still.
    let next = || match part {
        Some(_) => Command::mesh_upgrade("status"),
        None => Command::mesh_upgrade("complete").flag("--remove", from),
    };
    if !left.is_empty() {
        let reason = format!("these still use revision {from}, and are not brought back from here");
        return Err(Stop::Partly(Refusal::new(reason, Advice::say("fix each; then ").and_run(next())).with(left)));
    }
    if let Some(part) = part {
        writeln!(session.terminal.err, "What was selected in {} is back on {}.", part.place(), args.to)?;
        return session.tell_next(next());
    }
    writeln!(session.terminal.err, "Everything that followed revision {from} is back on {}.", args.to)?;
    if !args.remove {
        session.tell_next(next())?;
    }
    Ok(())
}
