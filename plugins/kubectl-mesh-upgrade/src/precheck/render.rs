//! The findings as a table, a document and JUnit XML.

use mesh::terminal::advisor::Advisor;
use std::io::{self, Write};

use mesh::finding::{Finding, Severity};
use mesh::terminal::findings;
use mesh::terminal::styles::Styles;
use mesh::terminal::table::Table;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::facts::Facts;
use mesh::terminal::xml::escaped;

/// How much of a finding a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All but the advice.
    Brief,
    /// All of it.
    WithAdvice,
}

/// The table, a row a finding.
pub fn table<'a>(findings: impl Iterator<Item = &'a Finding>, detail: Detail, advisor: &Advisor, styles: &Styles) -> Table {
    let columns = ["Severity", "Code", "Object", "Message", "Advice"];
    let shown = if detail == Detail::WithAdvice { columns.len() } else { columns.len() - 1 };
    let mut table = Table::new(columns.into_iter().take(shown));
    for finding in findings {
        let style = match finding.severity {
            Severity::Error => styles.error,
            Severity::Warning => styles.warning,
            Severity::Info => styles.hint,
        };
        let cells = [
            finding.severity.as_str().style(style).to_string(),
            finding.code.to_string(),
            finding.subject.clone(),
            finding.message.clone(),
            advisor.text(&finding.advice),
        ];
        table.row(cells.into_iter().take(shown).collect());
    }
    table
}

/// The whole report. Its items are the findings.
pub fn document(facts: &Facts, found: &[Finding], advisor: &Advisor) -> Value {
    let count = |severity: Severity| found.iter().filter(|finding| finding.severity == severity).count();
    let target = &facts.target;
    let mut to = json!({"isInstalled": target.is_installed, "revision": target.revision_name()});
    if let Some(version) = &target.version {
        to["version"] = version.to_string().into();
    }
    json!({
        "apiVersion": "kubectl-mesh/v1",
        "kind": "PrecheckReport",
        "from": target.from,
        "to": to,
        "summary": {
            "error": count(Severity::Error),
            "warning": count(Severity::Warning),
            "info": count(Severity::Info),
            "isBlocked": count(Severity::Error) > 0,
        },
        "items": found.iter().map(|finding| findings::document(finding, advisor)).collect::<Vec<_>>(),
    })
}

/// A suite of one case a finding: an error fails, a warning is skipped with its message, what is good to know passes.
pub fn junit(found: &[Finding], advisor: &Advisor, out: &mut dyn Write) -> io::Result<()> {
    let count = |severity: Severity| found.iter().filter(|finding| finding.severity == severity).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"mesh-upgrade precheck\">")?;
    writeln!(
        out,
        "  <testsuite name=\"precheck\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
        found.len(),
        count(Severity::Error),
        count(Severity::Warning)
    )?;
    for finding in found {
        let (code, name) = (escaped(finding.code.as_str()), escaped(&finding.subject));
        let message = escaped(&format!("{}: {}", finding.message, advisor.text(&finding.advice)));
        let element = match finding.severity {
            Severity::Error => "failure",
            Severity::Warning => "skipped",
            Severity::Info => {
                writeln!(out, "    <testcase classname=\"{code}\" name=\"{name}\"/>")?;
                continue;
            }
        };
        writeln!(out, "    <testcase classname=\"{code}\" name=\"{name}\">")?;
        writeln!(out, "      <{element} message=\"{message}\"/>")?;
        writeln!(out, "    </testcase>")?;
    }
    writeln!(out, "  </testsuite>")?;
    writeln!(out, "</testsuites>")
}
