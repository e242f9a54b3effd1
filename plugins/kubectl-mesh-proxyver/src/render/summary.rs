//! What stands on stderr beside the data: counts by state, findings, and the one next command.

use std::io::{self, Write};

use mesh::state::State;
use mesh::terminal::findings;
use mesh::terminal::styles::Styles;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;

use super::table::style;
use crate::args::{By, Request};
use crate::report::{Report, Rows, WorkloadRow};
use mesh::terminal::advisor::Advisor;

/// How the command line reaches what it looks at, for the next command.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command as it was typed, without arguments.
    pub command: String,
    /// Flags that say where to look: `-A` or `-n shop`.
    pub place: String,
    /// Whether a file was read.
    pub is_file: bool,
}

/// Writes findings, counts and the next command.
pub fn summary(
    report: &Report,
    request: &Request,
    invocation: &Invocation,
    advisor: &Advisor,
    verbosity: u8,
    styles: &Styles,
    err: &mut dyn Write,
) -> io::Result<()> {
    let told = report.findings.iter().map(|(cluster, finding)| (cluster.as_deref(), finding));
    findings::write(told, verbosity, styles, err)?;
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
    if invocation.is_file {
        return None;
    }
    let counts = &report.all_counts;
    let has = |state: State| counts.contains_key(&state);
    let Invocation { command, place, .. } = invocation;
    let place = if place.is_empty() { String::new() } else { format!(" {place}") };
    if has(State::Orphaned) || has(State::Stale) {
        let rows = workloads(report);
        let restartable: Vec<&&WorkloadRow> =
            rows.iter().filter(|row| row.verdict.state.is_stale() && row.verdict.restart.is_kubectls()).collect();
        return Some(match (&restartable[..], rows.iter().find(|row| row.verdict.state.is_stale())) {
            ([one], _) => advisor.advice(one.cluster.as_deref(), &one.verdict),
            ([], Some(other)) => advisor.advice(other.cluster.as_deref(), &other.verdict),
            _ => format!("{command}{place} --stale -o refs | {} rollout restart -f -", advisor.kubectl(None)),
        });
    }
    if has(State::Unknown) && request.probe.is_none() {
        return Some(format!("{command}{place} --state unknown --probe"));
    }
    for state in [State::Blocked, State::Leaving, State::Missing] {
        if has(state) && request.selection.states != [state] {
            return Some(format!("{command}{place} --state {state} -o wide"));
        }
    }
    None
}

fn workloads(report: &Report) -> Vec<&WorkloadRow> {
    match &report.rows {
        Rows::Workloads(rows) => rows.iter().collect(),
        _ => Vec::new(),
    }
}
