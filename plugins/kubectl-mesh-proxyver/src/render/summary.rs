//! What stands on stderr beside the data: counts by state, findings, and the one next command.

use std::io::{self, Write};

use mesh::finding::Severity;
use mesh::state::State;
use mesh::terminal::styles::Styles;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;

use super::Advisor;
use super::table::style;
use crate::args::{By, Request};
use crate::report::{Report, Rows, WorkloadRow};

/// So many findings are told in full; `-o json` has them all.
const FINDINGS: usize = 8;

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
    findings(report, verbosity, styles, err)?;
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

fn findings(report: &Report, verbosity: u8, styles: &Styles, err: &mut dyn Write) -> io::Result<()> {
    let is_told = |severity: Severity| verbosity > 0 || severity != Severity::Info;
    let told: Vec<_> = report.findings.iter().filter(|(_, finding)| is_told(finding.severity)).collect();
    let limit = if verbosity > 0 { told.len() } else { FINDINGS };
    for (cluster, finding) in told.iter().take(limit) {
        let style = match finding.severity {
            Severity::Error => styles.error,
            Severity::Warning => styles.warning,
            Severity::Info => styles.hint,
        };
        let place = cluster.as_ref().map_or(String::new(), |cluster| format!("{cluster}: "));
        writeln!(err, "{} {place}{}: {}", format_args!("{}:", finding.severity).style(style), finding.subject, finding.message)?;
        if !finding.advice.is_empty() {
            writeln!(err, "  {}", finding.advice)?;
        }
    }
    if told.len() > limit {
        writeln!(err, "{} more findings: -o json or -v shows all.", told.len() - limit)?;
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
