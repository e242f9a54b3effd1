//! The report as JUnit XML: a suite per namespace, a case per workload, so that CI shows what is stale.

use std::io::{self, Write};

use mesh::state::State;

use crate::report::{Report, Rows};
use mesh::terminal::advisor::Advisor;
use mesh::terminal::xml::escaped;

struct Case {
    suite: String,
    name: String,
    state: State,
    message: String,
}

/// `current` and `pinned` pass, `unknown` is an error (it never counts as safe), `missing` and `leaving` are skipped
/// (a bigger step than a newer proxy), everything else fails.
pub fn junit(report: &Report, advisor: &Advisor, out: &mut dyn Write) -> io::Result<()> {
    let cases = cases(report, advisor);
    let mut suites: Vec<&str> = cases.iter().map(|case| case.suite.as_str()).collect();
    suites.dedup();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"mesh-proxyver\">")?;
    for suite in suites {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.suite == suite).collect();
        let count = |outcome: Outcome| cases.iter().filter(|case| outcome_of(case.state) == outcome).count();
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            escaped(suite),
            cases.len(),
            count(Outcome::Failure),
            count(Outcome::Error),
            count(Outcome::Skipped)
        )?;
        for case in cases {
            write_case(case, out)?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Passed,
    Failure,
    Error,
    Skipped,
}

fn outcome_of(state: State) -> Outcome {
    match state {
        State::Current | State::Pinned => Outcome::Passed,
        State::Unknown => Outcome::Error,
        State::Missing | State::Leaving => Outcome::Skipped,
        State::Orphaned | State::Stale | State::Blocked => Outcome::Failure,
    }
}

fn write_case(case: &Case, out: &mut dyn Write) -> io::Result<()> {
    let (name, suite, message) = (escaped(&case.name), escaped(&case.suite), escaped(&case.message));
    let element = match outcome_of(case.state) {
        Outcome::Passed => return writeln!(out, "    <testcase classname=\"{suite}\" name=\"{name}\"/>"),
        Outcome::Failure => "failure",
        Outcome::Error => "error",
        Outcome::Skipped => "skipped",
    };
    writeln!(out, "    <testcase classname=\"{suite}\" name=\"{name}\">")?;
    writeln!(out, "      <{element} message=\"{message}\"/>")?;
    writeln!(out, "    </testcase>")
}

fn cases(report: &Report, advisor: &Advisor) -> Vec<Case> {
    let suite = |cluster: Option<&str>, namespace: &str| match cluster {
        Some(cluster) => format!("{cluster}/{namespace}"),
        None => namespace.to_owned(),
    };
    match &report.rows {
        Rows::Workloads(rows) => rows
            .iter()
            .map(|row| Case {
                suite: suite(row.cluster.as_deref(), &row.verdict.workload.namespace),
                name: row.verdict.workload.qualified_name(),
                state: row.verdict.state,
                message: message(row.verdict.state, &row.verdict.reasons, &advisor.advice(row.cluster.as_deref(), &row.verdict)),
            })
            .collect(),
        Rows::Pods(rows) => rows
            .iter()
            .map(|row| Case {
                suite: suite(row.cluster.as_deref(), &row.verdict.workload.namespace),
                name: format!("pod/{}", row.pod),
                state: row.running.state,
                message: message(row.running.state, &row.running.reasons, &advisor.advice(row.cluster.as_deref(), &row.verdict)),
            })
            .collect(),
        Rows::Namespaces(rows) => rows
            .iter()
            .map(|row| Case {
                suite: suite(row.cluster.as_deref(), &row.namespace),
                name: format!("namespace/{}", row.namespace),
                state: row.states.keys().next().copied().unwrap_or(State::Current),
                message: format!("{} of {} proxies are stale", row.stale, row.proxies),
            })
            .collect(),
        Rows::Versions(rows) => rows
            .iter()
            .map(|row| Case {
                suite: suite(row.cluster.as_deref(), "versions"),
                name: row.version.clone(),
                state: if row.stale > 0 { State::Stale } else { State::Current },
                message: format!("{} of {} proxies are stale", row.stale, row.proxies),
            })
            .collect(),
    }
}

fn message(state: State, reasons: &[mesh::state::Reason], advice: &str) -> String {
    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.as_str()).collect();
    format!("{state} ({}): {advice}", reasons.join(", "))
}
