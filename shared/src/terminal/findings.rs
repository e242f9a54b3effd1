//! Findings on stderr and in documents.

use std::io;

use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::Terminal;
use super::advisor::Advisor;
use crate::finding::{Finding, Severity};

/// So many findings are told in full; `-o json` has them all.
const SHOWN: usize = 8;

/// Writes findings, each with its advice. `verbosity` is the level of `-v`: from 1 on everything is told.
pub fn write<'a>(
    findings: impl Iterator<Item = (Option<&'a str>, &'a Finding)>,
    verbosity: u8,
    terminal: &mut Terminal,
) -> io::Result<()> {
    let Terminal { err, err_styles: styles, advisor, .. } = terminal;
    let is_told = |severity: Severity| verbosity > 0 || severity != Severity::Info;
    let told: Vec<_> = findings.filter(|(_, finding)| is_told(finding.severity)).collect();
    let limit = if verbosity > 0 { told.len() } else { SHOWN };
    for (cluster, finding) in told.iter().take(limit) {
        let style = match finding.severity {
            Severity::Error => styles.error,
            Severity::Warning => styles.warning,
            Severity::Info => styles.hint,
        };
        let place = cluster.map_or(String::new(), |cluster| format!("{cluster}: "));
        writeln!(err, "{} {place}{}: {}", format_args!("{}:", finding.severity).style(style), finding.subject, finding.message)?;
        if !finding.advice.is_empty() {
            writeln!(err, "  {}", advisor.of_cluster(*cluster).text(&finding.advice))?;
        }
    }
    if told.len() > limit {
        writeln!(err, "{} more findings: -o json or -v shows all.", told.len() - limit)?;
    }
    Ok(())
}

/// A finding as documents hold it.
pub fn document(finding: &Finding, advisor: &Advisor) -> Value {
    json!({
        "severity": finding.severity.as_str(),
        "code": finding.code.as_str(),
        "subject": finding.subject,
        "message": finding.message,
        "advice": advisor.text(&finding.advice),
    })
}
