//! Workloads in the forms that other commands take.

use std::io::{self, Write};

use serde_json::json;

use crate::report::{Report, Rows, WorkloadRow};
use mesh::terminal::advisor::Advisor;
use mesh::terminal::quoting;
use mesh::terminal::stop::Stop;

/// One JSON object a line: what `kubectl rollout restart -f -` reads.
pub fn refs(rows: &[WorkloadRow], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        let id = &row.verdict.workload;
        let reference = json!({
            "apiVersion": &*id.api_version,
            "kind": &*id.kind,
            "metadata": {"name": &*id.name, "namespace": &*id.namespace},
        });
        writeln!(out, "{reference}")?;
    }
    Ok(())
}

/// The workloads of one namespace.
struct Line<'a> {
    cluster: Option<&'a str>,
    namespace: &'a str,
    names: Vec<String>,
}

/// One line a namespace: what `xargs -L1 kubectl rollout restart` reads, each with the connection flags that were typed.
///
/// # Errors
/// [`Stop::Message`] when a word fits on no such line: then nothing is written.
pub fn args(rows: &[WorkloadRow], advisor: &Advisor, out: &mut dyn Write) -> Result<(), Stop> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in rows {
        let (cluster, namespace) = (row.cluster.as_deref(), &*row.verdict.workload.namespace);
        let name = row.verdict.workload.qualified_name();
        match lines.iter_mut().find(|line| line.cluster == cluster && line.namespace == namespace) {
            Some(line) => line.names.push(name),
            None => lines.push(Line { cluster, namespace, names: vec![name] }),
        }
    }
    let unwritable = |what: &str| {
        Stop::Message(format!("{what} has characters that no line for xargs can hold: use -o refs, with kubectl's own flags"))
    };
    let mut written = Vec::new();
    for Line { cluster, namespace, names } in lines {
        let flags = advisor.of_cluster(cluster).xargs().map_err(|flag| unwritable(&format!("the value of {flag}")))?;
        let word = |word: &str| quoting::xargs(word.as_bytes()).ok_or_else(|| unwritable("a name"));
        // A name that looks like a flag is none.
        let place =
            if namespace.starts_with('-') { format!("-n={}", word(namespace)?) } else { format!("-n {}", word(namespace)?) };
        let names = names.iter().map(|name| word(name)).collect::<Result<Vec<_>, _>>()?;
        written.push([flags, vec![place], names].concat().join(" "));
    }
    for line in written {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// `TYPE/NAME`, one a line, as kubectl's `-o name`.
pub fn names(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    match &report.rows {
        Rows::Workloads(rows) => {
            for row in rows {
                writeln!(out, "{}", row.verdict.workload.qualified_name())?;
            }
        }
        Rows::Pods(rows) => {
            for row in rows {
                writeln!(out, "pod/{}", row.pod)?;
            }
        }
        Rows::Namespaces(_) | Rows::Versions(_) => {}
    }
    Ok(())
}
