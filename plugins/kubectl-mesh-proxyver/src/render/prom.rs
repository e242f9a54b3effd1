//! The report as Prometheus' text format, for a file that node_exporter or a push gateway takes up.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::report::{Report, Rows, version_name};

type Series = BTreeMap<String, u64>;

/// Gauges of workloads by state, and of proxies by revision, version and state.
pub fn prom(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (mut workloads, mut proxies) = (Series::new(), Series::new());
    match &report.rows {
        Rows::Workloads(rows) => {
            for row in rows {
                let verdict = &row.verdict;
                let cluster = row.cluster.as_deref();
                let namespace = &*verdict.workload.namespace;
                let labels =
                    labels(&[("cluster", cluster), ("namespace", Some(namespace)), ("state", Some(verdict.state.as_str()))]);
                *workloads.entry(labels).or_default() += 1;
                for running in &verdict.running {
                    add(&mut proxies, cluster, namespace, running, u64::from(running.count));
                }
            }
        }
        Rows::Pods(rows) => {
            for row in rows {
                add(&mut proxies, row.cluster.as_deref(), &row.verdict.workload.namespace, &row.running, 1);
            }
        }
        Rows::Namespaces(rows) => {
            for row in rows {
                for (state, count) in &row.states {
                    let cluster = row.cluster.as_deref();
                    let labels =
                        labels(&[("cluster", cluster), ("namespace", Some(&row.namespace)), ("state", Some(state.as_str()))]);
                    *workloads.entry(labels).or_default() += *count as u64;
                }
            }
        }
        Rows::Versions(rows) => {
            for row in rows {
                let labels = labels(&[
                    ("cluster", row.cluster.as_deref()),
                    ("revision", row.revision.as_deref()),
                    ("version", Some(&row.version)),
                ]);
                *proxies.entry(labels).or_default() += u64::from(row.proxies);
            }
        }
    }
    write_gauge(out, "mesh_workloads", "Workloads of the mesh by the state of their proxies.", &workloads)?;
    write_gauge(out, "mesh_proxies", "Running proxies by revision, version and state.", &proxies)
}

fn add(series: &mut Series, cluster: Option<&str>, namespace: &str, running: &mesh::verdict::Running, count: u64) {
    let Some(proxy) = &running.proxy else { return };
    let version = version_name(proxy);
    let labels = labels(&[
        ("cluster", cluster),
        ("namespace", Some(namespace)),
        ("revision", proxy.revision.as_deref()),
        ("state", Some(running.state.as_str())),
        ("version", Some(&version)),
    ]);
    *series.entry(labels).or_default() += count;
}

/// Labels that have a value, their values escaped as the format asks.
fn labels(pairs: &[(&str, Option<&str>)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().filter_map(|(key, value)| Some(format!("{key}=\"{}\"", escape((*value)?)))).collect();
    pairs.join(",")
}

fn write_gauge(out: &mut dyn Write, name: &str, help: &str, series: &Series) -> io::Result<()> {
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
