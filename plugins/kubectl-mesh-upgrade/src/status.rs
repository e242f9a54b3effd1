//! `mesh-upgrade status`: how far the upgrade is, what is left and why, and what comes next.

mod certificate;
mod document;
mod junit;
mod model;
mod page;
mod prom;

use std::collections::{BTreeSet, HashMap};

use clap::{Args, ValueEnum};
use mesh::advice::Part;
use mesh::cluster::authorship::{self, read_authorship};
use mesh::cluster::readiness::Unready;
use mesh::cluster::{Scope, watch};
use mesh::finding::Severity;
use mesh::following::{self, Followed, Round};
use mesh::health;
use mesh::needs::Needs;
use mesh::session::Session;
use mesh::state::State;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::{Audience, Terminal};
use mesh::verdict::{Verdict, verdicts};
use mesh::workload::{Workload, WorkloadId};
use owo_colors::OwoColorize;

use crate::disruption;
use crate::output::{write_json, write_yaml};
use crate::partly;
use crate::status::model::{NoSuchRevision, Seen, Status, status};
use crate::survey::{self, Survey, scope, survey_of_pods};

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::STATUS)]
pub struct StatusArgs {
    /// The revision that everything moves to; the newest that is ready when left out
    #[arg(long, value_name = "REVISION")]
    pub to: Option<String>,

    /// Only one namespace; all of them when left out
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// All namespaces, which is what is meant anyway
    #[arg(short = 'A', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true, conflicts_with = "namespace")]
    pub all_namespaces: bool,

    /// Exit with 3 while anything is left
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub exit_code: bool,

    /// Go on, and show each change
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub watch: bool,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Revisions, bars, and what is left in groups
    Table,
    /// The same, and every workload that is left
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// Prometheus' text format
    Prom,
    /// JUnit XML
    Junit,
}

/// What it may ask for.
pub fn needs(args: &StatusArgs, typed: &Scope) -> Needs {
    let scope = typed.within(args.namespace.as_deref());
    let needs = survey::needs(&scope).and(authorship::needs(&scope)).and(partly::needs(scope.control_plane_namespace()));
    let needs = needs.and(disruption::needs(scope.namespace.as_deref()));
    if args.watch { needs.and(watch::needs(&scope)) } else { needs }
}

/// Runs it.
pub async fn run(session: &mut Session, args: &StatusArgs) -> Result<Exit, Stop> {
    if args.watch && matches!(args.output, Output::Yaml | Output::Prom | Output::Junit) {
        return Err(Stop::Usage("--watch goes with tables and with -o json".to_owned()));
    }
    session.connect().await?;
    if args.watch {
        return follow(session, args).await;
    }
    let (survey, status) = look(session, args).await?;
    print(session, &survey, &status, args)?;
    session.terminal.flush()?;
    tell_budgets(session, &survey, args).await?;
    tell(session, &survey, &status, args)?;
    Ok(if args.exit_code && status.has_left() { Exit::Found } else { Exit::Done })
}

/// Looks once, and decides.
async fn look(session: &mut Session, args: &StatusArgs) -> Result<(Survey, Status), Stop> {
    let connection = session.connect().await?;
    let unready = Unready::default();
    let scope = scope(session, args.namespace.as_deref());
    let (survey, authorship) =
        futures::join!(survey_of_pods(session, args.namespace.as_deref(), &unready), read_authorship(&connection, &scope));
    let (mut survey, authorship) = (survey?, authorship?);
    partly::note(&connection, &mut survey).await?;
    let seen = Seen {
        snapshot: &survey.snapshot,
        revisions: &survey.revisions,
        authorship: &authorship,
        unready: &unready,
        now: survey.now,
    };
    let status = status(seen, args.to.as_deref()).map_err(|NoSuchRevision { name, here }| {
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        Stop::Message(format!("there is no revision {name}; here are: {here}"))
    })?;
    Ok((survey, status))
}

fn print(session: &mut Session, survey: &Survey, status: &Status, args: &StatusArgs) -> Result<(), Stop> {
    let advisor = session.advisor();
    let out = &mut session.terminal.out;
    match args.output {
        Output::Table | Output::Wide => {
            let lines = lines(survey, status, args, &advisor, &session.terminal);
            for line in lines {
                writeln!(session.terminal.out, "{line}")?;
            }
        }
        Output::Json => write_json(&document::document(survey, status, &advisor), out)?,
        Output::Yaml => write_yaml(&document::document(survey, status, &advisor), out)?,
        Output::Prom => prom::prom(survey, status, out)?,
        Output::Junit => junit::junit(status, &advisor, out)?,
    }
    Ok(())
}

fn lines(survey: &Survey, status: &Status, args: &StatusArgs, advisor: &Advisor, terminal: &Terminal) -> Vec<String> {
    let look = page::Look { width: terminal.width, styles: terminal.out_styles, is_wide: args.output == Output::Wide };
    page::lines(survey, status, advisor, args.namespace.as_deref(), look)
}

/// Which PodDisruptionBudgets allow none of the evictions by which stale workloads would be restarted.
async fn tell_budgets(session: &mut Session, survey: &Survey, args: &StatusArgs) -> Result<(), Stop> {
    let connection = session.connect().await?;
    let is_stale = |verdict: &Verdict| matches!(verdict.state, State::Stale | State::Orphaned);
    let verdicts = verdicts(&survey.snapshot, &HashMap::new());
    let stale: BTreeSet<WorkloadId> = verdicts.into_iter().filter(is_stale).map(|verdict| verdict.workload).collect();
    let is_meant = |workload: &Workload| stale.contains(&workload.id);
    let found = disruption::read(&connection, args.namespace.as_deref(), &survey.snapshot, is_meant).await?;
    findings::write(found.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    Ok(())
}

/// What stands on stderr: findings, and the next command.
fn tell(session: &mut Session, survey: &Survey, status: &Status, args: &StatusArgs) -> Result<(), Stop> {
    let told = health::findings(&survey.snapshot);
    findings::write(told.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    if survey.revisions.is_empty() {
        let place = if args.namespace.is_some() { " in this namespace; -A looks in all" } else { "" };
        writeln!(session.terminal.err, "No mesh here: there is no control plane and no proxy{place}.")?;
    }
    if let Some(next) = status.next(args.namespace.as_deref()) {
        session.tell_next(next)?;
    }
    Ok(())
}

/// Looks again whenever something has changed. On a terminal the page is drawn over the last one; elsewhere it is printed once
/// more, and with `-o json` one document a line.
async fn follow(session: &mut Session, args: &StatusArgs) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let scope = scope(session, args.namespace.as_deref());
    let mut shown: Option<Vec<String>> = None;
    following::follow(session, &[Followed { connection: &connection, scope: &scope }], async |session, round| {
        let (survey, status) = look(session, args).await?;
        show_page(session, args, &survey, &status, round, &mut shown)
    })
    .await
}

/// Shows what is new. A page that is drawn takes away what stderr said of trouble, which is over.
fn show_page(
    session: &mut Session,
    args: &StatusArgs,
    survey: &Survey,
    status: &Status,
    round: Round,
    shown: &mut Option<Vec<String>>,
) -> Result<(), Stop> {
    let is_drawn = session.terminal.out_audience == Audience::Person && args.output != Output::Json;
    let advisor = session.advisor();
    let mut page = if args.output == Output::Json {
        vec![document::document(survey, status, &advisor).to_string()]
    } else {
        lines(survey, status, args, &advisor, &session.terminal)
    };
    // What stderr says is gone with the next drawing, so the next command stands on the page.
    let foot = if is_drawn { foot(session, survey, status, args) } else { Vec::new() };
    page.extend(foot.iter().cloned());
    if shown.as_ref() == Some(&page) && !(is_drawn && round == Round::AfterTrouble) {
        return Ok(());
    }
    if is_drawn {
        let drawing = if shown.is_none() { page::Drawing::First } else { page::Drawing::Again };
        let lines: Vec<String> = page.iter().map(|line| session.terminal.out.shown(line)).collect();
        let drawn = page::redrawn(&lines, foot.len(), drawing, session.terminal.height);
        session.terminal.out.draw(&drawn)?;
    } else {
        if shown.is_some() && args.output != Output::Json {
            writeln!(session.terminal.out)?;
        }
        for line in &page {
            writeln!(session.terminal.out, "{line}")?;
        }
    }
    session.terminal.flush()?;
    if shown.is_none() && !is_drawn {
        tell(session, survey, status, args)?;
    }
    *shown = Some(page);
    Ok(())
}

/// The last lines of a page: how much is wrong besides, and the next command.
fn foot(session: &Session, survey: &Survey, status: &Status, args: &StatusArgs) -> Vec<String> {
    let styles = session.terminal.out_styles;
    let faults = health::findings(&survey.snapshot).iter().filter(|finding| finding.severity == Severity::Error).count();
    let faults = (faults > 0).then(|| {
        let count = plural(faults as u64, "thing is", "things are");
        format!("{} {count} wrong besides: without -w they are told", "error:".style(styles.error))
    });
    let next = status.next(args.namespace.as_deref());
    let width = session.terminal.width;
    let lead = format!("{} ", "Next:".style(styles.hint));
    let next = next.map(|next| match next.parts() {
        [Part::Command(command)] => page::wrapped_command(&lead, &session.terminal.advisor.words(command), width),
        _ => page::wrapped(&format!("{lead}{}", session.terminal.advisor.text(&next)), "      ", width),
    });
    let mut lines: Vec<String> = faults.into_iter().flat_map(|text| page::wrapped(&text, "      ", width)).collect();
    lines.extend(next.into_iter().flatten());
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}
