//! `mesh-upgrade restart`: restarts what is stale, in waves, and proves each result.

mod dry_run;
pub mod engine;
pub mod event;
mod eviction;
mod gate;
mod interval;
mod live;
mod looks;
mod pods;
mod presence;
mod proof;
mod quota;
mod reason;
mod replacement;
mod rollout;
mod step;
mod tally;
mod unfinished;
mod writers;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh::advice::Command;
use mesh::cluster::connection::Connection;
use mesh::cluster::review::check_permitted;
use mesh::cluster::{Scope, Unobserved, read};
use mesh::finding::Code;
use mesh::needs::Needs;
use mesh::session::{Intent, Session};
use mesh::skew::{IgnoredArgs, MINORS_AT_ONCE, TooFar, step};
use mesh::snapshot::{Detail, Snapshot};
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::question::Consent;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::DryRun;
use mesh::verdict::{Verdict, verdicts};
use mesh::workload::Workload;
use mesh::workload::WorkloadId;
use owo_colors::OwoColorize;

use crate::disruption;
use crate::downgrade::{self, Downgrades, Older, passages, tell_unknown};
use crate::plan::{self, Plan, cluster_id};
use crate::restart::engine::{Engine, Limits};
use crate::restart::event::Events;
use crate::selection::{Selection, SelectionArgs};
use crate::waves::Wave;

/// Arguments of `restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Which workloads, in which waves.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Exactly what this file of mesh-upgrade plan holds, or - for standard input; refused when the cluster has changed since
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["subjects", "namespace", "all_namespaces", "selector", "filename", "states", "percent", "by_label"]
    )]
    pub plan: Option<PathBuf>,

    /// What of precheck does not count.
    #[command(flatten)]
    pub ignored: IgnoredArgs,

    /// Only this wave, counted from 1
    #[arg(long, value_name = "N")]
    pub wave: Option<usize>,

    /// How far it may go.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Leave alone what could not be proved by a dry-run pod, such as where a quota is full, and go on with the others
    #[arg(long)]
    pub skip_unproved: bool,

    /// Wait so many seconds between waves
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub pause: u64,

    /// Run a command of sh between waves; unless it ends with 0, nothing more is restarted
    #[arg(long, value_name = "COMMAND")]
    pub gate: Option<String>,

    /// How long the gate may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub gate_timeout: u64,

    /// Only show the waves: client or server, of which neither writes anything
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,

    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// How events are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// How far restarts may go.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// How many workloads roll out at once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel: u16,

    /// Start nothing more after so many failures; without it restart stops after the first, and rollback after none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_failures: Option<u16>,

    /// How long one workload may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
}

impl LimitArgs {
    /// As typed; with so many failures where none were typed.
    pub fn limits(&self, failures: usize) -> Limits {
        Limits {
            parallel: self.max_parallel.into(),
            failures: self.max_failures.map_or(failures, usize::from),
            timeout: Duration::from_secs(self.timeout),
            ..Limits::default()
        }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line an event
    Text,
    /// A JSON document an event
    Json,
}

/// What it may ask for.
///
/// # Errors
/// When it takes a plan that cannot be read.
pub fn needs(args: &RestartArgs, typed: &Scope) -> Result<Needs, Stop> {
    let (scope, cluster_id) = match &args.plan {
        Some(path) => (Plan::read(path)?.within(typed), plan::cluster_id_needs()),
        None => (args.selection.within(typed), Needs::default()),
    };
    let reading = read::needs(&scope).and(downgrade::needs(&scope)).and(cluster_id);
    let reading = reading.and(disruption::needs(scope.namespace.as_deref()));
    if args.dry_run.is_dry() {
        return Ok(reading);
    }
    let needs = reading.and(engine::needs(scope.namespace.as_deref()));
    Ok(match args.gate {
        Some(_) => needs.note("What the command of --gate asks for by itself is not among these rules."),
        None => needs,
    })
}

/// Runs it.
pub async fn run(session: &mut Session, args: &RestartArgs) -> Result<Exit, Stop> {
    let ignored = args.ignored.of(&[Code::SkewMajor, Code::SkewTooFar])?;
    // A plan that makes no sense is told before the cluster is asked for anything.
    let plan = args.plan.as_deref().map(Plan::read).transpose()?;
    let connection = session.connect_for(Intent::from(args.dry_run)).await?;
    if let Some(gate) = &args.gate {
        // A gate that could not ask the same cluster, or could not be run, is refused before anything is restarted.
        connection.private_kubeconfig()?;
        gate::check(gate, &connection.interruption).await?;
    }
    let selection = match &plan {
        Some(plan) => planned(session, plan, &connection, Older::from(&args.selection.downgrade)).await?,
        None => args.selection.select(session, &connection).await?,
    };
    let unread = selection.snapshot.unread_findings().map(|finding| (None, finding));
    findings::write(unread, session.flags.v, &mut session.terminal)?;
    args.selection.tell_others(&selection.others, &mut session.terminal)?;
    let older = Older::from(&args.selection.downgrade);
    let refusal = selection.downgrades.as_ref().filter(|_| older == Older::Refused).map(|downgrades| {
        let others = selection.waves.iter().map(|wave| wave.items.len()).sum();
        downgrades.refusal(&selection.snapshot, others, &args.command(), "nothing was restarted")
    });
    if let (Some(downgrades), None) = (&selection.downgrades, &refusal) {
        downgrades.tell(older, &mut session.terminal)?;
    }
    // A dry run shows what else there is before it says why nothing would be done.
    let refusal = match refusal {
        Some(refusal) if !args.dry_run.is_dry() || selection.waves.is_empty() => return Err(refusal.into()),
        refusal => refusal,
    };
    // Of what is undecided nobody knows whether it is to be restarted: that is not nothing to do.
    if let Some(undecided) = selection.undecided("nothing was restarted") {
        return Err(undecided.into());
    }
    if selection.waves.is_empty() {
        let nothing = match plan {
            Some(_) => "everything in the plan runs what it is to run".to_owned(),
            None => format!("no workload here is {}", args.selection.states_in_words()),
        };
        writeln!(session.terminal.err, "Nothing to restart: {nothing}.")?;
        return Ok(Exit::Done);
    }
    if refusal.is_none() {
        ignored.check("nothing was restarted", too_far(&selection.waves))?;
    }
    let total = selection.waves.iter().map(|wave| wave.number).max().unwrap_or_default();
    let waves = chosen(selection.waves.clone(), args.wave, total)?;
    let mut events = Events::new(args.output).of_dry_run(args.dry_run);
    for wave in &waves {
        events.planned(wave, total, &mut session.terminal)?;
    }
    selection.tell_waves(&mut session.terminal)?;
    if args.gate.is_some() && waves.len() < 2 {
        let warning = "warning:".style(session.terminal.err_styles.warning);
        writeln!(session.terminal.err, "{warning} the gate is not run: it runs between waves, and there is only one wave.")?;
    }
    tell_budgets(session, &connection, &selection.snapshot, &waves).await?;
    if args.dry_run.is_dry() {
        if let Some(refusal) = refusal {
            return Err(refusal.into());
        }
        session.conclude_dry_run(args.dry_run)?;
        return Ok(Exit::Done);
    }
    let count: usize = waves.iter().map(|wave| wave.items.len()).sum();
    tell_unknown(&waves, &mut session.terminal)?;
    let question = format!(
        "Restart {} in {}: {}?",
        plural(count as u64, "workload", "workloads"),
        plural(waves.len() as u64, "wave", "waves"),
        passages(&waves)
    );
    let items = waves.iter().flat_map(|wave| &wave.items);
    check_permitted(&connection, items.flat_map(|item| engine::intended(&item.workload, &item.restart))).await?;
    session.ask(&question, Consent::from_flag(args.yes)).await?;
    tell_skew(&connection, &mut session.terminal)?;
    let engine = Engine::new(&connection, &selection.snapshot, args.limits());
    engine.run(&waves, &mut events, &mut session.terminal).await
}

/// The workloads whose proxies would go further at once than precheck allows.
fn too_far(waves: &[Wave]) -> Vec<(String, TooFar)> {
    let mut found = Vec::new();
    for item in waves.iter().flat_map(|wave| &wave.items) {
        let Some(to) = item.passage.to.as_ref().and_then(|stand| stand.version.as_ref()) else { continue };
        let from = item.passage.from.iter().flatten().filter_map(|stand| stand.version.as_ref());
        let why = from.filter_map(|from| step(from, to, MINORS_AT_ONCE).err()).find(|why| why.code != Code::Downgrade);
        found.extend(why.map(|why| (format!("{} -n {}", item.workload.qualified_name(), item.workload.namespace), why)));
    }
    found
}

/// Which PodDisruptionBudgets allow none of the evictions by which some of these would be restarted.
async fn tell_budgets(session: &mut Session, connection: &Connection, snapshot: &Snapshot, waves: &[Wave]) -> Result<(), Stop> {
    let is_meant = |workload: &Workload| waves.iter().flat_map(|wave| &wave.items).any(|item| item.workload == workload.id);
    let places: BTreeSet<&str> = waves.iter().flat_map(|wave| &wave.items).map(|item| &*item.workload.namespace).collect();
    // One namespace may be all that may be read.
    let place = places.first().copied().filter(|_| places.len() == 1);
    let found = disruption::read(connection, place, snapshot, is_meant).await?;
    findings::write(found.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    Ok(())
}

/// A clock that is wrong here is no danger, since the API server's is used; but it is worth knowing.
fn tell_skew(connection: &Connection, terminal: &mut Terminal) -> Result<(), Stop> {
    let skew = connection.skew();
    if skew.abs() > 60 {
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        writeln!(
            terminal.err,
            "note: this machine's clock is {} s {direction} the API server's, whose time is used",
            skew.abs()
        )?;
    }
    Ok(())
}

/// What of a plan is still to do, on the cluster that it was made for.
async fn planned(session: &mut Session, plan: &Plan, connection: &Connection, older: Older) -> Result<Selection, Stop> {
    plan.check_decided()?;
    plan.check_cluster(&cluster_id(connection).await?)?;
    let mut snapshot = read(connection, &plan.scope(session), Detail::Workloads, &Unobserved).await?;
    if plan.evicts_owned() {
        snapshot.evict_owned();
    }
    let verdicts = verdicts(&snapshot, &HashMap::new());
    let mut left = plan.left(&verdicts)?;
    for told in &left.told {
        writeln!(session.terminal.err, "{told}")?;
    }
    let planned: BTreeSet<&WorkloadId> = left.waves.iter().flat_map(|wave| &wave.items).map(|item| &item.workload).collect();
    let planned: Vec<Verdict> = verdicts.into_iter().filter(|verdict| planned.contains(&verdict.workload)).collect();
    let downgrades = Downgrades::find(connection, &plan.scope(session), &snapshot, &planned).await?;
    if older != Older::Allowed {
        for wave in &mut left.waves {
            wave.items.retain(|item| !item.goes_back());
        }
        left.waves.retain(|wave| !wave.items.is_empty());
    }
    Ok(Selection { snapshot, others: Vec::new(), downgrades, waves: left.waves, in_no_wave: 0 })
}

/// All waves, or the one that was asked for.
fn chosen(mut waves: Vec<Wave>, number: Option<usize>, total: usize) -> Result<Vec<Wave>, Stop> {
    let Some(number) = number else { return Ok(waves) };
    waves.retain(|wave| wave.number == number);
    if waves.is_empty() {
        let there = plural(total as u64, "wave", "waves");
        return Err(Stop::Usage(format!("there are {there} with something left to do, so --wave {number} is none of them")));
    }
    Ok(waves)
}

impl RestartArgs {
    /// The command, as it was typed, without what says how far it may go.
    fn command(&self) -> Command {
        let command = match &self.plan {
            Some(plan) => Command::mesh_upgrade("restart").flag("--plan", plan.to_string_lossy()),
            None => self.selection.command("restart"),
        };
        match self.wave {
            Some(wave) => command.flag("--wave", wave.to_string()),
            None => command,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            pause: Duration::from_secs(self.pause),
            gate: self.gate.clone(),
            gate_timeout: Duration::from_secs(self.gate_timeout),
            older: Older::from(&self.selection.downgrade),
            skip_unproved: self.skip_unproved,
            ..self.limits.limits(1)
        }
    }
}
