//! The status as JUnit XML: a suite per namespace, a case per workload, so that CI shows what is left.

use std::io::{self, Write};

use mesh::terminal::advisor::Advisor;
use mesh::verdict::Verdict;

use super::model::{Left, Status, Why};
use mesh::terminal::xml::escaped;

/// A workload that is where everything moves to passes; what is unknown is an error, since it never counts as safe; all else fails.
pub fn junit(status: &Status, advisor: &Advisor, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"mesh-upgrade status\">")?;
    for share in &status.namespaces {
        let is_here = |verdict: &Verdict| verdict.workload.namespace == share.namespace;
        let left: Vec<&Left> = status.left.iter().filter(|left| is_here(&left.verdict)).collect();
        let errors = left.iter().filter(|left| matches!(left.why, Why::Unknown(_))).count();
        let workloads: Vec<&Verdict> = status.workloads.iter().filter(|verdict| is_here(verdict)).collect();
        let suite = escaped(&share.namespace);
        writeln!(
            out,
            "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{}\" errors=\"{errors}\" skipped=\"0\">",
            workloads.len(),
            left.len() - errors
        )?;
        for verdict in workloads {
            let name = escaped(&verdict.workload.qualified_name());
            let found = left.iter().find(|left| left.verdict.workload == verdict.workload);
            let Some(found) = found else {
                writeln!(out, "    <testcase classname=\"{suite}\" name=\"{name}\"/>")?;
                continue;
            };
            let element = if matches!(found.why, Why::Unknown(_)) { "error" } else { "failure" };
            let command = status.command(&found.why, None).map_or_else(String::new, |command| advisor.command(&command));
            let message = escaped(&format!("{}: {command}", found.why.words()));
            writeln!(out, "    <testcase classname=\"{suite}\" name=\"{name}\">")?;
            writeln!(out, "      <{element} message=\"{message}\"/>")?;
            writeln!(out, "    </testcase>")?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}
