//! The report as a table in kubectl's shape.

use mesh::image::Image;
use mesh::proxy::Proxy;
use mesh::state::{Reason, State};
use mesh::terminal::styles::Styles;
use mesh::terminal::table::Table;
use mesh::verdict::{NewPods, Running, Verdict, Wanted};
use owo_colors::{OwoColorize, Style};

use crate::report::{NamespaceRow, PodRow, Report, Rows, VersionRow, WorkloadRow};
use mesh::terminal::advisor::Advisor;

/// What the columns depend on.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Whether rows come from several namespaces.
    pub with_namespace: bool,
    /// Whether rows come from several clusters.
    pub with_cluster: bool,
    /// Whether images and advice are shown.
    pub wide: bool,
}

/// The table of a report.
pub fn table(report: &Report, columns: Columns, advisor: &Advisor, styles: &Styles) -> Table {
    let (header, rows): (Vec<&str>, Vec<Vec<String>>) = match &report.rows {
        Rows::Workloads(rows) => {
            (workload_header(columns), rows.iter().map(|row| workload_cells(row, columns, advisor, styles)).collect())
        }
        Rows::Pods(rows) => (pod_header(columns), rows.iter().map(|row| pod_cells(row, columns, advisor, styles)).collect()),
        Rows::Namespaces(rows) => (namespace_header(), rows.iter().map(|row| namespace_cells(row, styles)).collect()),
        Rows::Versions(rows) => (version_header(), rows.iter().map(version_cells).collect()),
    };
    let with_namespace = columns.with_namespace && matches!(report.rows, Rows::Workloads(_) | Rows::Pods(_));
    let leading = [(columns.with_cluster, "CLUSTER"), (with_namespace, "NAMESPACE")];
    let leading: Vec<&str> = leading.into_iter().filter_map(|(shown, name)| shown.then_some(name)).collect();
    let mut table = Table::new(leading.iter().copied().chain(header));
    for (place, cells) in rows.into_iter().enumerate() {
        let (cluster, namespace) = place_of(report, place);
        let leading = leading.iter().map(|name| if *name == "CLUSTER" { cluster.clone() } else { namespace.clone() });
        table.row(leading.chain(cells).collect());
    }
    table
}

/// Cluster and namespace of a row.
fn place_of(report: &Report, place: usize) -> (String, String) {
    let (cluster, namespace) = match &report.rows {
        Rows::Workloads(rows) => (&rows[place].cluster, Some(&rows[place].verdict.workload.namespace)),
        Rows::Pods(rows) => (&rows[place].cluster, Some(&rows[place].verdict.workload.namespace)),
        Rows::Namespaces(rows) => (&rows[place].cluster, Some(&rows[place].namespace)),
        Rows::Versions(rows) => (&rows[place].cluster, None),
    };
    (cluster.as_deref().unwrap_or_default().to_owned(), namespace.map_or(String::new(), |namespace| namespace.to_string()))
}

fn workload_header(columns: Columns) -> Vec<&'static str> {
    let mut header = vec!["WORKLOAD", "TYPE", "STATE", "STALE", "RUNNING", "WANTED", "WHY"];
    if columns.wide {
        header.extend(["RUNNING IMAGE", "WANTED IMAGE", "INJECTOR", "ADVICE"]);
    }
    header
}

fn workload_cells(row: &WorkloadRow, columns: Columns, advisor: &Advisor, styles: &Styles) -> Vec<String> {
    let verdict = &row.verdict;
    let mut cells = vec![
        verdict.workload.type_name(),
        verdict.proxy_type.as_str().to_owned(),
        colored(verdict.state, styles),
        format!("{}/{}", verdict.stale_count(), verdict.proxy_count()),
        running_list(&verdict.running),
        wanted_cell(verdict),
        reasons(&verdict.reasons),
    ];
    if columns.wide {
        let images: Vec<String> =
            verdict.running.iter().filter_map(|running| running.proxy.as_ref()).map(|proxy| proxy.image.to_string()).collect();
        cells.push(or_none(unique(images).join(",")));
        cells.extend(wide_cells(verdict, advisor, row.cluster.as_deref()));
    }
    cells
}

fn pod_header(columns: Columns) -> Vec<&'static str> {
    let mut header = vec!["POD", "WORKLOAD", "TYPE", "STATE", "RUNNING", "WANTED", "WHY"];
    if columns.wide {
        header.extend(["RUNNING IMAGE", "WANTED IMAGE", "INJECTOR", "ADVICE"]);
    }
    header
}

fn pod_cells(row: &PodRow, columns: Columns, advisor: &Advisor, styles: &Styles) -> Vec<String> {
    let one = Running { count: 1, ..row.running.clone() };
    let mut cells = vec![
        row.pod.to_string(),
        row.verdict.workload.type_name(),
        row.verdict.proxy_type.as_str().to_owned(),
        colored(row.running.state, styles),
        running_list(std::slice::from_ref(&one)),
        wanted_cell(&row.verdict),
        reasons(&row.running.reasons),
    ];
    if columns.wide {
        cells.push(row.running.proxy.as_ref().map_or_else(|| "<none>".to_owned(), |proxy| proxy.image.to_string()));
        cells.extend(wide_cells(&row.verdict, advisor, row.cluster.as_deref()));
    }
    cells
}

fn wide_cells(verdict: &Verdict, advisor: &Advisor, cluster: Option<&str>) -> [String; 3] {
    let wanted = verdict.wanted.as_ref();
    [
        or_none(wanted.and_then(|wanted| wanted.image.clone()).unwrap_or_default()),
        or_none(wanted.and_then(|wanted| wanted.injector.clone()).unwrap_or_default()),
        or_none(advisor.advice(cluster, verdict)),
    ]
}

fn namespace_header() -> Vec<&'static str> {
    vec!["NAMESPACE", "STATE", "STALE", "WORKLOADS", "RUNNING", "WANTED"]
}

fn namespace_cells(row: &NamespaceRow, styles: &Styles) -> Vec<String> {
    let worst = row.states.keys().next().copied().unwrap_or(State::Current);
    let counts: Vec<String> = row.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    vec![
        row.namespace.to_string(),
        colored(worst, styles),
        format!("{}/{}", row.stale, row.proxies),
        counts.join(", "),
        or_none(row.running.join(",")),
        or_none(row.wanted.join(",")),
    ]
}

fn version_header() -> Vec<&'static str> {
    vec!["VERSION", "REVISION", "STALE", "WORKLOADS", "NAMESPACES"]
}

fn version_cells(row: &VersionRow) -> Vec<String> {
    vec![
        row.version.clone(),
        or_none(row.revision.as_deref().unwrap_or_default().to_owned()),
        format!("{}/{}", row.stale, row.proxies),
        row.workloads.to_string(),
        row.namespaces.to_string(),
    ]
}

/// `1.26.0 (1-26-0)`; of several, each with its count in front.
fn running_list(running: &[Running]) -> String {
    let mut parts: Vec<(String, u32)> = Vec::new();
    for running in running {
        let text = match &running.proxy {
            Some(proxy) => match &proxy.revision {
                Some(revision) => format!("{} ({revision})", short_version(proxy)),
                None => short_version(proxy),
            },
            None => "no proxy".to_owned(),
        };
        match parts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += running.count,
            None => parts.push((text, running.count)),
        }
    }
    match &parts[..] {
        [] => "<none>".to_owned(),
        [(text, _)] => text.clone(),
        several => several.iter().map(|(text, count)| format!("{count}x {text}")).collect::<Vec<_>>().join(", "),
    }
}

/// The version, or as much of the image as a table has room for.
fn short_version(proxy: &Proxy) -> String {
    proxy.version().map_or_else(|| short_image(&proxy.image), |version| version.to_string())
}

/// `proxyv2:tag`, `proxyv2@sha256:0123456789ab`: `-o wide` and JSON have the whole.
fn short_image(image: &str) -> String {
    let image = Image::parse(image);
    let tag = image.tag.map_or_else(String::new, |tag| format!(":{tag}"));
    let digest = image.digest.map_or_else(String::new, |digest| {
        let (algorithm, sum) = digest.split_once(':').unwrap_or(("", digest));
        format!("@{algorithm}:{}", sum.chars().take(12).collect::<String>())
    });
    format!("{}{tag}{digest}", image.name())
}

/// `1.28.2 (prod-stable -> 1-28-2)`; what is not known is a question mark.
fn wanted_cell(verdict: &Verdict) -> String {
    match (verdict.new_pods, &verdict.wanted) {
        (NewPods::Refused, Some(Wanted { revision: Some(revision), .. })) => format!("refused ({revision})"),
        (NewPods::Refused, _) => "refused".to_owned(),
        (NewPods::NoProxy, _) => "no proxy".to_owned(),
        (_, Some(wanted)) => wanted_text(wanted),
        (NewPods::Nobody, None) => "<none>".to_owned(),
        (_, None) => "<unknown>".to_owned(),
    }
}

fn wanted_text(wanted: &Wanted) -> String {
    let version = match (wanted.version(), &wanted.image) {
        (Some(version), _) => version.to_string(),
        (None, Some(image)) => short_image(image),
        (None, None) => "?".to_owned(),
    };
    match (&wanted.tag, &wanted.revision) {
        (Some(tag), Some(revision)) => format!("{version} ({tag} -> {revision})"),
        (None, Some(revision)) => format!("{version} ({revision})"),
        _ => version,
    }
}

fn reasons(reasons: &[Reason]) -> String {
    or_none(reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(","))
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn unique(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

fn colored(state: State, styles: &Styles) -> String {
    state.as_str().style(style(state, styles)).to_string()
}

/// The style that stands for a state.
pub fn style(state: State, styles: &Styles) -> Style {
    match state {
        State::Orphaned => styles.orphaned,
        State::Stale => styles.stale,
        State::Blocked => styles.blocked,
        State::Unknown => styles.unknown,
        State::Leaving => styles.leaving,
        State::Missing => styles.missing,
        State::Pinned => styles.pinned,
        State::Current => styles.current,
    }
}
