//! Workloads in the forms that other commands take.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::json;

use super::Advisor;
use crate::report::{Report, Rows, WorkloadRow};

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

/// One line a namespace: what `xargs -L1 kubectl rollout restart` reads.
pub fn args(rows: &[WorkloadRow], advisor: &Advisor, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: Vec<(Option<Arc<str>>, Arc<str>, Vec<String>)> = Vec::new();
    for row in rows {
        let (cluster, namespace) = (&row.cluster, &row.verdict.workload.namespace);
        let known = lines.iter_mut().find(|(of, within, _)| of == cluster && within == namespace);
        match known {
            Some((.., names)) => names.push(row.verdict.workload.qualified_name()),
            None => lines.push((cluster.clone(), Arc::clone(namespace), vec![row.verdict.workload.qualified_name()])),
        }
    }
    for (cluster, namespace, names) in lines {
        let kubectl = advisor.kubectl(cluster.as_deref());
        let flags = kubectl.strip_prefix("kubectl").unwrap_or_default().trim_start();
        let separator = if flags.is_empty() { "" } else { " " };
        writeln!(out, "{flags}{separator}-n {namespace} {}", names.join(" "))?;
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
