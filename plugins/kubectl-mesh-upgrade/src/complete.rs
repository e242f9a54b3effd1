//! `mesh-upgrade complete`: removes a revision when nothing uses it, and never otherwise.

mod proof;
mod read;
pub mod removal;
mod uses;

use mesh::advice::{Advice, Command};
use std::collections::{BTreeSet, HashMap};

use clap::{Args, ValueEnum};
use mesh::change::Change;
use mesh::cluster::apply::{Persistence, carry_out};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::read::installation_needs;
use mesh::cluster::{Scope, read_installation};
use mesh::installation::Installation;
use mesh::needs::Needs;
use mesh::platform::{Step, Way};
use mesh::refusal::Refusal;
use mesh::session::{Intent, Session};
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::question::Consent;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::verdicts;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use crate::complete::proof::{Validation, lost_injection, lost_validation, validation};
use crate::complete::uses::{Facts, Use, UseKind, Uses, by_kind, uses};
use crate::output::write_json;
use crate::program::Program;
use crate::program::needs::release_needs;
use crate::program::release::Release;
use crate::revisions::{Plane, Revision};
use crate::survey::{self, Survey, survey};

/// Arguments of `complete`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::COMPLETE)]
pub struct CompleteArgs {
    /// The revision to remove
    #[arg(long, value_name = "REVISION")]
    pub remove: String,

    /// Cut off exactly so many proxies that still run it; everything else that uses it goes on forbidding its removal
    #[arg(long, value_name = "NUMBER")]
    pub abandon: Option<u32>,

    /// Only show what would be deleted
    #[arg(long)]
    pub dry_run: bool,

    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// Print what uses it and what would be deleted
    #[arg(short, long, value_name = "FORMAT", value_enum, ignore_case = true)]
    pub output: Option<Output>,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One JSON document
    Json,
}

/// What it may ask for.
pub fn needs(args: &CompleteArgs, typed: &Scope) -> Needs {
    anybodys_removal_needs(Intent::from_flag(args.dry_run), &typed.within(None))
}

/// What removing a revision may ask for, whoever has installed it.
pub fn anybodys_removal_needs(intent: Intent, scope: &Scope) -> Needs {
    // Whether Helm has installed it is seen only when it is looked at.
    removal_needs(intent, scope).and(release_needs(scope.control_plane_namespace(), intent).optional())
}

/// What looking at everything that uses a revision, and removing it, may ask for.
pub fn removal_needs(intent: Intent, scope: &Scope) -> Needs {
    let namespace = scope.control_plane_namespace();
    let reading: Needs = [survey::needs(scope), installation_needs(scope), read::needs(scope), removal::reading_needs(namespace)]
        .into_iter()
        .collect();
    match intent {
        Intent::Read => reading,
        Intent::Write => reading.and(removal::needs(namespace)).and(proof::needs(namespace)),
    }
}

/// Runs it.
pub async fn run(session: &mut Session, args: &CompleteArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(Intent::from_flag(args.dry_run)).await?;
    let sight = Sight::look(session, &args.remove).await?;
    let removal = sight.decide(session, args).await?;
    print(args, &sight, &removal, &mut session.terminal)?;
    for note in &sight.uses.notes {
        writeln!(session.terminal.err, "{} {note}", "note:".style(session.terminal.err_styles.warning))?;
    }
    check_uses(&sight.uses, args)?;
    check_release(&connection, &sight, &removal, args).await?;
    announce(args, &removal, &mut session.terminal)?;
    if args.dry_run {
        return Ok(Exit::Done);
    }
    let question = format!("Remove revision {} from namespace {}?", args.remove, sight.namespace);
    session.ask(&question, Consent::from_flag(args.yes)).await?;
    if !args.yes {
        // Somebody has thought about the question meanwhile, and the cluster has gone on.
        let again = Sight::look(session, &args.remove).await?;
        check_uses(&again.uses, args)?;
        check_release(&connection, &again, &removal, args).await?;
    }
    let before = validation(&connection, &sight.namespace).await?;
    match &removal {
        Removal::Helm { release, namespace } => {
            let words = ["uninstall", release, "--namespace", namespace, "--wait"].map(str::to_owned);
            let reason = format!("helm was ended while it removed revision {}", args.remove);
            session.if_interrupted(Refusal::new(reason, "the same command continues"));
            Program::Helm.run(session, &connection, &words).await?;
        }
        Removal::Objects(changes) => delete(session, changes).await?,
    }
    let reason = format!("revision {} is removed, and whether the mesh works without it was not looked at", args.remove);
    session.if_interrupted(Refusal::new(reason, Command::mesh_tag("list")));
    conclude(session, args, &sight, &before).await
}

/// How the revision goes.
enum Removal {
    /// By helm.
    Helm { release: String, namespace: String },
    /// Object by object, in this order.
    Objects(Vec<Change>),
}

/// What was seen of the revision in question.
struct Sight {
    survey: Survey,
    installation: Installation,
    uses: Uses,
    /// Where its control plane is, or was.
    namespace: String,
}

impl Sight {
    /// Reads everything, each list once.
    async fn look(session: &mut Session, revision: &str) -> Result<Sight, Stop> {
        let connection = session.connect().await?;
        let hint = session.flags.istio_namespace.clone();
        let hint = hint.as_deref();
        let survey = survey(session, None);
        // One after the other, beside the list of pods, which takes longest.
        let others = async {
            let installation = read_installation(&connection, hint).await?;
            let lists = read::lists(&connection, hint.unwrap_or(ISTIO_NAMESPACE)).await?;
            Ok::<_, Failure>((installation, lists))
        };
        let (survey, others) = futures::join!(survey, others);
        let (survey, (installation, lists)) = (survey?, others?);
        let namespace = namespace_of(&survey, revision, hint)?;
        let verdicts = verdicts(&survey.snapshot, &HashMap::new());
        let facts = Facts {
            snapshot: &survey.snapshot,
            verdicts: &verdicts,
            terminating: &survey.terminating,
            installation: &installation,
            sleeping: &lists.sleeping,
            labelled: &lists.labelled,
            ztunnels: &lists.ztunnels,
            remote_secrets: &lists.remote_secrets,
        };
        let mut uses = uses(&facts, revision);
        if let Some(why) = &survey.istiods_unread {
            uses.unknown.push(format!("Deployments of istiod: {why}"));
        }
        Ok(Sight { survey, installation, uses, namespace })
    }

    fn plane(&self, revision: &str) -> Option<&Plane> {
        let mut named = self.survey.revisions.iter().filter(|found| found.name == revision);
        named.find_map(|found| found.control_plane.as_ref().filter(|plane| plane.namespace == self.namespace))
    }

    /// What has to be deleted, and by whom.
    async fn decide(&self, session: &mut Session, args: &CompleteArgs) -> Result<Removal, Stop> {
        let revision = args.remove.as_str();
        match self.plane(revision).map(|plane| plane.platform.way(Step::Complete, revision)) {
            Some(Way::Elsewhere(how)) => {
                let platform = self.plane(revision).map_or("somebody else", |plane| plane.platform.name());
                let reason = format!("revision {revision} belongs to its platform ({platform}), which removes it");
                return Err(Refusal::new(reason, how).into());
            }
            Some(Way::Helm { release, namespace }) => {
                self.check_others(revision)?;
                return Ok(Removal::Helm { release, namespace });
            }
            Some(Way::Ours) | None => {}
        }
        let connection = session.connect().await?;
        let found = read::consists_of(&connection, revision, &self.namespace).await?;
        let changes = removal::removal(&self.installation, found, revision)?;
        if changes.is_empty() {
            return Err(not_here(&self.survey.revisions, revision).into());
        }
        self.check_others(revision)?;
        Ok(Removal::Objects(changes))
    }

    /// Something has to be left to inject and to validate.
    fn check_others(&self, revision: &str) -> Result<(), Refusal> {
        if self.survey.revisions.iter().any(|other| other.name != revision && other.is_ready()) {
            return Ok(());
        }
        let reason = format!("revision {revision} is the only one: no other control plane is ready to take its place");
        Err(Refusal::new(
            reason,
            Advice::run(Command::mesh_upgrade("targets"))
                .and_say(" shows what is here; ")
                .and_run(Command::istioctl("uninstall --purge"))
                .and_say(" ends the mesh"),
        ))
    }
}

/// A release of helm goes as a whole, so it may hold this revision only.
async fn check_release(connection: &Connection, sight: &Sight, removal: &Removal, args: &CompleteArgs) -> Result<(), Stop> {
    let Removal::Helm { release, namespace } = removal else { return Ok(()) };
    Program::Helm.check(connection).await?;
    let Some(held) = Release::read(connection, release, namespace).await? else {
        let reason =
            format!("revision {} says that release {release} -n {namespace} of helm holds it, and there is none", args.remove);
        let list = Command::helm("list --all").flag("--namespace", namespace);
        return Err(Refusal::new(reason, Advice::run(list).and_say(" shows what there is")).into());
    };
    Ok(held.check_removal(&args.remove, &sight.namespace, &sight.installation)?)
}

/// Where control planes are, unless something says otherwise.
const ISTIO_NAMESPACE: &str = "istio-system";

/// The namespace of the revision's control plane, or where one that is half removed was.
fn namespace_of(survey: &Survey, revision: &str, hint: Option<&str>) -> Result<String, Refusal> {
    let planes = survey.revisions.iter().filter(|found| found.name == revision).filter_map(|found| found.control_plane.as_ref());
    let namespaces: BTreeSet<&str> = planes.map(|plane| plane.namespace.as_str()).collect();
    match (hint, namespaces.len()) {
        (Some(hint), _) => Ok(hint.to_owned()),
        (None, 0) => {
            let others = survey.revisions.iter().filter_map(|found| found.control_plane.as_ref());
            Ok(others.map(|plane| plane.namespace.clone()).next().unwrap_or_else(|| ISTIO_NAMESPACE.to_owned()))
        }
        (None, 1) => Ok(namespaces.into_iter().next().unwrap_or_default().to_owned()),
        (None, _) => {
            let places = namespaces.into_iter().collect::<Vec<_>>().join(", ");
            Err(Refusal::new(
                format!("revision {revision} has control planes in several namespaces: {places}"),
                "say which one with -i",
            ))
        }
    }
}

fn not_here(revisions: &[Revision], revision: &str) -> Refusal {
    let names: BTreeSet<&str> = revisions.iter().map(|found| found.name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") };
    Refusal::not_found(
        format!("revision {revision} is not here, nor anything of it: there are {names}"),
        Command::mesh_upgrade("targets"),
    )
}

/// Anything that uses it, or may, forbids its removal.
fn check_uses(uses: &Uses, args: &CompleteArgs) -> Result<(), Refusal> {
    let revision = &args.remove;
    let told = |found: &&Use| (format!("{} {}", found.subject, found.message), found.advice.clone());
    let unknown = uses.unknown.iter().map(|why| format!("unknown: {why}"));
    let (proxies, others): (Vec<&Use>, Vec<&Use>) =
        uses.found.iter().partition(|found| matches!(found.kind, UseKind::Proxies(_)));
    let is_abandoned = args.abandon == Some(uses.proxies()) && uses.proxies() > 0;
    if others.is_empty() && uses.unknown.is_empty() && (proxies.is_empty() || is_abandoned) {
        return match args.abandon {
            Some(number) if proxies.is_empty() && number > 0 => Err(Refusal::new(
                format!("no proxy runs revision {revision}, so {number} cannot be abandoned"),
                Command::mesh_upgrade("complete").flag("--remove", revision),
            )),
            _ => Ok(()),
        };
    }
    let obstacles = proxies.iter().filter(|_| !is_abandoned).chain(&others).map(told).collect();
    let reason = match (args.abandon, uses.proxies()) {
        (Some(number), count) if !proxies.is_empty() && !is_abandoned => {
            format!("{number} proxies were to be abandoned, and {count} run revision {revision}")
        }
        _ if uses.found.is_empty() => format!("whether revision {revision} is used is not known"),
        _ => {
            let kinds: Vec<String> = by_kind(&uses.found).into_iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
            format!("revision {revision} is used: {}", kinds.join(", "))
        }
    };
    let advice = if others.is_empty() && uses.unknown.is_empty() {
        let cut_off = format!(", or cut them off with --abandon {}", uses.proxies());
        Advice::run(Command::mesh_upgrade("restart -A")).and_say(cut_off)
    } else {
        Advice::say("fix each, then the same command")
    };
    Err(Refusal::new(reason, advice).with_obstacles(obstacles).with(unknown.collect()))
}

fn announce(args: &CompleteArgs, removal: &Removal, terminal: &mut Terminal) -> Result<(), Stop> {
    if args.output.is_some() {
        return Ok(());
    }
    match removal {
        Removal::Helm { release, namespace } => {
            let uninstall = Command::helm("uninstall").value(release).flag("--namespace", namespace);
            writeln!(terminal.out, "{}", terminal.advisor.command(&uninstall))?;
        }
        Removal::Objects(changes) => {
            for change in changes {
                writeln!(terminal.out, "delete {}", change.subject)?;
            }
        }
    }
    terminal.flush()?;
    Ok(())
}

fn print(args: &CompleteArgs, sight: &Sight, removal: &Removal, terminal: &mut Terminal) -> Result<(), Stop> {
    if args.output.is_none() {
        return Ok(());
    }
    let found = sight.uses.found.iter().map(
        |found| json!({"kind": found.kind.as_str(), "subject": found.subject, "message": found.message, "advice": terminal.advisor.text(&found.advice)}),
    );
    let items: Vec<Value> = match removal {
        Removal::Helm { release, namespace } => vec![json!({"release": release, "namespace": namespace})],
        Removal::Objects(changes) => changes
            .iter()
            .map(|change| {
                let subject = &change.subject;
                json!({"apiVersion": subject.api_version, "kind": subject.kind, "namespace": subject.namespace, "name": subject.name})
            })
            .collect(),
    };
    let document = json!({
        "apiVersion": "kubectl-mesh/v1", "kind": "RemovalPlan", "revision": args.remove, "proxies": sight.uses.proxies(),
        "uses": found.collect::<Vec<_>>(), "unknown": sight.uses.unknown, "notes": sight.uses.notes, "items": items,
    });
    write_json(&document, &mut terminal.out)?;
    terminal.flush()?;
    Ok(())
}

/// Deletes object by object. One that is gone already is as good as deleted.
async fn delete(session: &mut Session, changes: &[Change]) -> Result<(), Stop> {
    let connection = session.connect().await?;
    for (number, change) in changes.iter().enumerate() {
        let left = || changes[number..].iter().map(|change| format!("not yet: delete {}", change.subject)).collect();
        let reason = format!("{number} of {} objects were deleted", changes.len());
        session.if_interrupted(Refusal::new(reason, "the same command continues").with(left()));
        match carry_out(&connection, change, Persistence::Stored).await {
            Ok(_) => writeln!(session.terminal.err, "deleted {}", change.subject)?,
            Err(failure) if failure.cause == Cause::NotFound => {}
            Err(failure) => {
                return Err(Stop::Partly(Refusal::new(failure.to_string(), "the same command continues").with(left())));
            }
        }
    }
    Ok(())
}

/// Proves that the mesh works without it.
async fn conclude(session: &mut Session, args: &CompleteArgs, sight: &Sight, before: &Validation) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let installation = read_installation(&connection, session.istio_namespace()).await?;
    let mut lost = lost_injection(&connection, &installation.snapshot).await?;
    lost.extend(lost_validation(&connection, &sight.namespace, before).await?);
    if !lost.is_empty() {
        let reason = format!("revision {} is removed, and something is wrong now", args.remove);
        return Err(Stop::Partly(Refusal::new(reason, Command::mesh_tag("list")).with(lost)));
    }
    let validated = match before {
        Validation::Works => "configuration is still validated",
        _ => "configuration was not validated before either",
    };
    writeln!(session.terminal.err, "Revision {} is removed: pods are still injected, and {validated}.", args.remove)?;
    if let Some(number) = args.abandon.filter(|number| *number > 0) {
        let cut_off = plural(u64::from(number), "proxy is", "proxies are");
        writeln!(session.terminal.err, "{cut_off} cut off, and work until certificates run out.")?;
    }
    session.tell_next(Command::mesh_upgrade("status"))?;
    Ok(Exit::Done)
}
