//! What stands on stderr beside the data: counts by state, findings, and the one next command.

use std::io;

use mesh::advice::{Command, Program};
use mesh::state::State;
use mesh::terminal::Terminal;
use mesh::terminal::findings;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;

use super::table::style;
use crate::args::{By, Request};
use crate::report::{Report, Rows, WorkloadRow};
use mesh::terminal::advisor::Advisor;

/// How the command line reaches what it looks at, for the next command.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// This command again, with the flags that say where to look: `-A` or `-n shop`.
    pub again: Command,
    /// What was looked at.
    pub source: Source,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files.
    Files,
    /// One cluster.
    Cluster,
    /// Several.
    Fleet,
}

/// Writes findings, counts and the next command.
pub fn summary(
    report: &Report,
    request: &Request,
    invocation: &Invocation,
    verbosity: u8,
    terminal: &mut Terminal,
) -> io::Result<()> {
    let told = report.findings.iter().map(|(cluster, finding)| (cluster.as_deref(), finding));
    findings::write(told, verbosity, terminal)?;
    let Terminal { err, err_styles: styles, advisor, .. } = terminal;
    let total: usize = report.all_counts.values().sum();
    if total == 0 {
        return Ok(());
    }
    let thing =
        if request.by == By::Pod { plural(total as u64, "pod", "pods") } else { plural(total as u64, "workload", "workloads") };
    let counts: Vec<String> = State::ALL
        .into_iter()
        .filter_map(|state| {
            report.all_counts.get(&state).map(|count| format!("{count} {}", state.as_str().style(style(state, styles))))
        })
        .collect();
    writeln!(err, "{thing}: {}.", counts.join(", "))?;
    if let Some(next) = next_command(report, request, invocation, advisor) {
        writeln!(err, "{} {next}", "Next:".style(styles.hint))?;
    }
    Ok(())
}

/// The one command that goes on from here: what is most urgent and can be done.
fn next_command(report: &Report, request: &Request, invocation: &Invocation, advisor: &Advisor) -> Option<String> {
    let Invocation { again, source } = invocation;
    if *source == Source::Files {
        return None;
    }
    let counts = &report.all_counts;
    let has = |state: State| counts.contains_key(&state);
    if has(State::Orphaned) || has(State::Stale) {
        let rows = workloads(report);
        let restartable: Vec<&&WorkloadRow> =
            rows.iter().filter(|row| row.verdict.state.is_stale() && row.verdict.restart.is_kubectls()).collect();
        return Some(match (&restartable[..], rows.iter().find(|row| row.verdict.state.is_stale())) {
            ([one], _) => advisor.advice(one.cluster.as_deref(), &one.verdict),
            ([], Some(other)) => advisor.advice(other.cluster.as_deref(), &other.verdict),
            _ => advisor.command(&restart_all(again.clone().words("--stale"), *source, advisor)),
        });
    }
    if has(State::Unknown) && request.probe.is_none() {
        return Some(advisor.command(&again.clone().words("--state unknown --probe")));
    }
    for state in [State::Blocked, State::Leaving, State::Missing] {
        if has(state) && request.selection.states != [state] {
            return Some(advisor.command(&again.clone().flag("--state", state.as_str()).words("-o wide")));
        }
    }
    None
}

/// Restarts all that is listed. The references name no cluster, so those of a fleet go as arguments, which do.
fn restart_all(listed: Command, source: Source, advisor: &Advisor) -> Command {
    if source == Source::Cluster {
        return listed.words("-o refs").read_by(Command::kubectl("rollout restart -f -"));
    }
    // No line repeats a token; a shell puts it in.
    let restart =
        if advisor.has_secret() { "-L1 kubectl --token=\"${TOKEN:?}\" rollout restart" } else { "-L1 kubectl rollout restart" };
    listed.words("-o args").read_by(Command::new(Program::Other("xargs"), restart))
}

fn workloads(report: &Report) -> Vec<&WorkloadRow> {
    match &report.rows {
        Rows::Workloads(rows) => rows.iter().collect(),
        _ => Vec::new(),
    }
}
