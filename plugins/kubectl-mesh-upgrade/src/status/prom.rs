//! The status as Prometheus' text format, for a file that node_exporter or a push gateway takes up.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::model::Status;
use crate::survey::Survey;

/// Gauges of proxies by namespace and revision, of those that are there already, and of what is left.
pub fn prom(survey: &Survey, status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let to = status.to.as_deref().unwrap_or_default();
    let mut proxies = Vec::new();
    let mut migrated = Vec::new();
    for share in &status.namespaces {
        for (revision, count) in &share.by_revision {
            proxies.push((labels(&[("namespace", &share.namespace), ("revision", revision)]), u64::from(*count)));
        }
        migrated.push((labels(&[("namespace", &share.namespace), ("to", to)]), u64::from(share.migrated)));
    }
    let ready = survey.revisions.iter().map(|revision| {
        let version = revision.version().map(ToString::to_string).unwrap_or_default();
        (labels(&[("revision", &revision.name), ("version", &version)]), u64::from(revision.is_ready()))
    });
    let mut left: BTreeMap<String, u64> = BTreeMap::new();
    for workload in &status.left {
        *left.entry(labels(&[("to", to), ("why", workload.why.code())])).or_default() += 1;
    }
    gauge(out, "mesh_upgrade_revision_ready", "Whether a revision's control plane answers.", &ready.collect::<Vec<_>>())?;
    gauge(out, "mesh_upgrade_proxies", "Running proxies by the revision that they come from.", &proxies)?;
    gauge(out, "mesh_upgrade_migrated_proxies", "Running proxies that are where everything moves to.", &migrated)?;
    gauge(
        out,
        "mesh_upgrade_left_workloads",
        "Workloads that are not there yet, by cause.",
        &left.into_iter().collect::<Vec<_>>(),
    )?;
    let done = [(labels(&[("to", to)]), u64::from(!status.has_left()))];
    gauge(out, "mesh_upgrade_complete", "Whether nothing is left, no other revision either.", &done)
}

/// Labels, their values escaped as the format asks.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    pairs.join(",")
}

fn gauge(out: &mut dyn Write, name: &str, help: &str, series: &[(String, u64)]) -> io::Result<()> {
    if series.is_empty() {
        return Ok(());
    }
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} gauge")?;
    for (labels, value) in series {
        writeln!(out, "{name}{{{labels}}} {value}")?;
    }
    Ok(())
}
