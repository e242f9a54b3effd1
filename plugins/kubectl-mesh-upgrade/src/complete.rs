//! `mesh-upgrade complete`: removes a revision when nothing uses it, and never otherwise.

mod clients;
mod proof;
pub mod read;
pub mod removal;
mod show;
mod sight;

use clap::{Args, ValueEnum};
use mesh::advice::{Advice, Command};
use mesh::change::Change;
use mesh::cluster::apply::{Persistence, carry_out};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::probe::NO_PLACE;
use mesh::cluster::read_back::{By, differences};
use mesh::cluster::review::{self, Intended, check_permitted};
use mesh::cluster::{Scope, read_installation, users};
use mesh::needs::Needs;
use mesh::refusal::Refusal;
use mesh::session::{Intent, Session};
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::question::Consent;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::DryRun;
use mesh::workload::Workload;
use owo_colors::OwoColorize;

use crate::complete::clients::check_clients;
use crate::complete::proof::{Validation, Works};
use crate::complete::removal::Removal;
use crate::complete::show::{announce, check_uses, lines, print};
use crate::complete::sight::Sight;
use crate::disruption;
use crate::program::Program;
use crate::program::needs::uninstall_needs;
use crate::program::release::Release;

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

    /// Remove it although proxies of other clusters or virtual machines, which this cluster does not show, may use it
    #[arg(long)]
    pub accept_unseen_clients: bool,

    /// Only show what would be deleted: decided here (client), or by the API server too (server)
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,

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

/// Where control planes are, unless something says otherwise.
const ISTIO_NAMESPACE: &str = "istio-system";

/// What it may ask for.
pub fn needs(args: &CompleteArgs, typed: &Scope) -> Needs {
    // A dry run by the API server is authorized as the removal itself.
    let intent = if args.dry_run == DryRun::Server { Intent::Write } else { Intent::from(args.dry_run) };
    anybodys_removal_needs(intent, &typed.within(None))
}

/// What removing a revision may ask for, whoever has installed it.
pub fn anybodys_removal_needs(intent: Intent, scope: &Scope) -> Needs {
    // Whether Helm has installed it is seen only when it is looked at.
    removal_needs(intent, scope).and(uninstall_needs(scope.control_plane_namespace(), intent).optional())
}

/// What looking at everything that uses a revision, and removing it, may ask for.
pub fn removal_needs(intent: Intent, scope: &Scope) -> Needs {
    let namespace = scope.control_plane_namespace();
    let reading = users::needs(scope).and(removal::reading_needs(namespace)).and(disruption::needs(None));
    match intent {
        // Who only looks may leave it to others to remove it.
        Intent::Read => reading.and(proof::needs(namespace).optional()),
        Intent::Write => reading.and(removal::needs(namespace)).and(proof::needs(namespace)).and(review::needs()),
    }
}

/// Runs it.
pub async fn run(session: &mut Session, args: &CompleteArgs) -> Result<Exit, Stop> {
    session.connect_for(Intent::from(args.dry_run)).await?;
    let sight = Sight::look(session, &args.remove).await?;
    let removal = sight.decide(session).await?;
    print(session, args, &sight, &removal)?;
    tell_budgets(session, &sight).await?;
    check_uses(&sight.users.uses, args, &session.terminal.advisor)?;
    if let Some(note) = check_clients(session, args, &sight).await? {
        writeln!(session.terminal.err, "{} {note}", "note:".style(session.terminal.err_styles.warning))?;
    }
    check_release(session, &sight, &removal).await?;
    announce(args, &removal, &mut session.terminal)?;
    let before = what_works(session, &sight, &removal).await?;
    if args.dry_run.is_dry() {
        if args.dry_run == DryRun::Server {
            let connection = session.connect().await?;
            for change in removal.changes() {
                carry_out(&connection, change, Persistence::DryRun).await?;
            }
        }
        session.conclude_dry_run(args.dry_run)?;
        return Ok(Exit::Done);
    }
    check_permitted(&*session.connect().await?, removal.changes().iter().filter_map(Intended::of)).await?;
    let question = format!(
        "Remove revision {} from namespace {}? This cannot be undone: there is no rollback to {} afterwards.",
        args.remove,
        sight.namespace(),
        args.remove
    );
    session.ask(&question, Consent::from_flag(args.yes)).await?;
    // The cluster has gone on while it was looked at, shown and asked about: what is deleted is decided anew.
    let sight = Sight::look(session, &args.remove).await?;
    check_uses(&sight.users.uses, args, &session.terminal.advisor)?;
    check_clients(session, args, &sight).await?;
    let now = sight.decide(session).await?;
    now.check_against(&removal)?;
    check_release(session, &sight, &now).await?;
    match &now {
        Removal::Helm { release, namespace, .. } => {
            let words = ["uninstall", release, "--namespace", namespace, "--wait"].map(str::to_owned);
            let reason = format!("helm was ended while it removed revision {}", args.remove);
            session.if_interrupted(Refusal::new(reason, "the same command continues"));
            let connection = session.connect().await?;
            Program::Helm.run(session, &connection, &words).await?;
        }
        Removal::Objects(changes) => delete(session, changes).await?,
    }
    let reason = format!("revision {} is removed, and whether the mesh works without it was not looked at", args.remove);
    session.if_interrupted(Refusal::new(reason, Command::mesh_tag("list")));
    let connection = session.connect().await?;
    let loss = match loss(&connection, session.istio_namespace(), &sight, &before, now.changes()).await {
        Ok(loss) => loss,
        Err(failure) => {
            let reason = format!("what of revision {} is gone, and what works without it, could not be seen", args.remove);
            let refusal = Refusal::new(reason, "the same command looks again").with(vec![failure.to_string()]);
            return Err(Stop::Partly(refusal));
        }
    };
    conclude(session, args, &before, loss)
}

/// What removing a revision deletes, a line each; or why it could not be removed now.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn preview(session: &mut Session, revision: &str) -> Result<Vec<String>, Stop> {
    let sight = Sight::look(session, revision).await?;
    match sight.decide(session).await {
        Ok(removal) => Ok(lines(&removal, &session.terminal.advisor)),
        Err(Stop::Refused(refusal)) => Ok(vec![format!("it cannot be removed: {}", refusal.reason)]),
        Err(stop) => Err(stop),
    }
}

/// Which PodDisruptionBudgets allow none of the evictions by which those that still run the revision would be restarted.
async fn tell_budgets(session: &mut Session, sight: &Sight) -> Result<(), Stop> {
    let connection = session.connect().await?;
    let revision = sight.users.departure().name;
    let runs_it = |workload: &Workload| {
        let mut proxies = workload.proxies.iter().filter_map(|(proxy, _)| proxy.as_ref());
        proxies.any(|proxy| proxy.revision.as_deref() == Some(revision))
    };
    let found = disruption::read(&connection, None, sight.users.evidence().snapshot, runs_it).await?;
    findings::write(found.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    Ok(())
}

/// A release of helm goes as a whole, so it may hold this revision only.
async fn check_release(session: &mut Session, sight: &Sight, removal: &Removal) -> Result<(), Stop> {
    let Removal::Helm { release, namespace, .. } = removal else { return Ok(()) };
    let connection = session.connect().await?;
    Program::Helm.check(&connection).await?;
    let Some(held) = Release::read(&connection, release, namespace).await? else {
        let revision = sight.users.departure().name;
        let reason =
            format!("revision {revision} says that release {release} -n {namespace} of helm holds it, and there is none");
        let list = Command::helm("list --all").flag("--namespace", namespace);
        return Err(Refusal::new(reason, Advice::run(list).and_say(" shows what there is")).into());
    };
    Ok(held.check_removal(sight.users.departure().name, sight.namespace(), sight.installation())?)
}

/// What works before anything is deleted. Who may not try that cannot prove afterwards that nothing was lost.
async fn what_works(session: &mut Session, sight: &Sight, removal: &Removal) -> Result<Works, Stop> {
    let connection = session.connect().await?;
    let works = proof::works(&connection, &sight.installation().snapshot, sight.namespace()).await?;
    if let Validation::Denied(why) = &works.validation {
        let reason = format!("whether configuration is validated cannot be tried, so nobody would see it stop: {why}");
        return Err(Refusal::new(reason, "--explain-rbac prints what this command needs").into());
    }
    let staying = works.denied.iter().filter(|(name, _)| !proof::is_to_go(name, removal.changes()));
    let denied: Vec<String> = staying.map(|(name, why)| format!("mutatingwebhookconfigurations/{name}: {why}")).collect();
    if !denied.is_empty() {
        let reason = "whether pods are injected cannot be tried, so nobody would see it stop";
        return Err(Refusal::new(reason, "--explain-rbac prints what this command needs").with(denied).into());
    }
    Ok(works)
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

/// What is wrong once everything was to be gone.
enum Loss {
    /// Objects that are there all the same.
    Left(Vec<String>),
    /// What worked before and does not now.
    Lost(Vec<String>),
    /// Nothing is.
    None,
}

/// Looks whether everything of it is gone, and whether the mesh works without it.
async fn loss(
    connection: &Connection,
    istio_namespace: Option<&str>,
    sight: &Sight,
    before: &Works,
    changes: &[Change],
) -> Result<Loss, Failure> {
    let left = differences(connection, changes, By::Get).await?;
    if !left.is_empty() {
        return Ok(Loss::Left(left));
    }
    let installation = read_installation(connection, istio_namespace).await?;
    let lost = proof::lost(connection, before, &installation.snapshot, sight.namespace(), changes).await?;
    Ok(if lost.is_empty() { Loss::None } else { Loss::Lost(lost) })
}

fn conclude(session: &mut Session, args: &CompleteArgs, before: &Works, loss: Loss) -> Result<Exit, Stop> {
    match loss {
        Loss::None => {}
        Loss::Left(left) => {
            let reason = format!("revision {} is not wholly gone", args.remove);
            return Err(Stop::Partly(Refusal::new(reason, "see to each, then the same command continues").with(left)));
        }
        Loss::Lost(lost) => {
            let reason = format!("revision {} is removed, and something is wrong now", args.remove);
            return Err(Stop::Partly(Refusal::new(reason, Command::mesh_tag("list")).with(lost)));
        }
    }
    let injected = match (before.injectors.is_empty(), before.untried.is_empty()) {
        (false, _) => "pods are still injected",
        (true, false) => "whether pods are injected could not be tried",
        (true, true) => "pods were not injected before either",
    };
    let validated = match before.validation {
        Validation::Works => "configuration is still validated",
        Validation::NotServed => "there is no configuration of Istio's to validate",
        _ => "configuration was not validated before either",
    };
    writeln!(session.terminal.err, "Revision {} is removed: {injected}, and {validated}.", args.remove)?;
    for configuration in &before.untried {
        let note = format!("mutatingwebhookconfigurations/{configuration} could not be tried: {NO_PLACE}");
        writeln!(session.terminal.err, "{} {note}", "note:".style(session.terminal.err_styles.warning))?;
    }
    if let Some(number) = args.abandon.filter(|number| *number > 0) {
        let cut_off = plural(u64::from(number), "proxy is", "proxies are");
        writeln!(session.terminal.err, "{cut_off} cut off, and work until certificates run out.")?;
    }
    session.tell_next(Command::mesh_upgrade("status"))?;
    Ok(Exit::Done)
}
