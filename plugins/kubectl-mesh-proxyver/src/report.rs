//! The report: verdicts, selected, counted and grouped as asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh::finding::Finding;
use mesh::health;
use mesh::injection::Injection;
use mesh::proxy::Proxy;
use mesh::snapshot::Snapshot;
use mesh::state::{Reason, State};
use mesh::verdict::{Running, Verdict, verdicts};
use mesh::workload::WorkloadId;

use crate::args::{By, Request};
use crate::selection::Selection;

/// Everything that a format needs.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows, sorted.
    pub rows: Rows,
    /// Counts of workloads (or pods, by pod) by state, among the selected ones.
    pub counts: BTreeMap<State, usize>,
    /// Counts by state before any state was selected: what `--stale` leaves out is still told.
    pub all_counts: BTreeMap<State, usize>,
    /// What is odd about the mesh, by cluster.
    pub findings: Vec<(Option<Arc<str>>, Finding)>,
    /// Whether there is any sign of a mesh.
    pub has_mesh: bool,
}

/// The rows of a report.
#[derive(Debug)]
pub enum Rows {
    /// A row a workload.
    Workloads(Vec<WorkloadRow>),
    /// A row a pod.
    Pods(Vec<PodRow>),
    /// A row a namespace.
    Namespaces(Vec<NamespaceRow>),
    /// A row a version.
    Versions(Vec<VersionRow>),
}

impl Default for Rows {
    fn default() -> Self {
        Rows::Workloads(Vec::new())
    }
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Rows::Workloads(rows) => rows.len(),
            Rows::Pods(rows) => rows.len(),
            Rows::Namespaces(rows) => rows.len(),
            Rows::Versions(rows) => rows.len(),
        }
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadRow {
    /// The context that it was found in, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// The verdict on it.
    pub verdict: Verdict,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRow {
    /// The context that it was found in, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// What it runs.
    pub running: Running,
    /// The verdict on its workload.
    pub verdict: Arc<Verdict>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceRow {
    /// The context that it was found in, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// Its name.
    pub namespace: Arc<str>,
    /// Workloads by state.
    pub states: BTreeMap<State, usize>,
    /// Running proxies.
    pub proxies: u32,
    /// Those that run something else than a new pod would.
    pub stale: u32,
    /// Revisions that run here, sorted.
    pub running: Vec<String>,
    /// Revisions that new pods would get, sorted.
    pub wanted: Vec<String>,
}

/// A version that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionRow {
    /// The context that it was found in, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// The version, or the image where it names none.
    pub version: String,
    /// The revision that the proxies come from.
    pub revision: Option<Arc<str>>,
    /// Running proxies.
    pub proxies: u32,
    /// Those that run something else than a new pod would.
    pub stale: u32,
    /// Workloads that run it.
    pub workloads: usize,
    /// Namespaces that run it.
    pub namespaces: usize,
}

/// One cluster's part of a report.
pub struct ClusterPart<'a> {
    /// The context, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// What was read.
    pub snapshot: &'a Snapshot,
    /// What the API server said itself.
    pub probed: &'a HashMap<WorkloadId, Injection>,
    /// Findings beyond the snapshot's own.
    pub findings: Vec<Finding>,
}

/// Decides. `parts` are the clusters in the order in which they were named.
pub fn report(parts: &[ClusterPart<'_>], request: &Request) -> Report {
    let mut report = Report::default();
    let mut rows = Vec::new();
    for part in parts {
        let verdicts = verdicts(part.snapshot, part.probed);
        let stateless = Selection { states: Vec::new(), ..request.selection.clone() };
        for verdict in verdicts.into_iter().filter(|verdict| stateless.selects(verdict, part.snapshot)) {
            count(&mut report.all_counts, &verdict, request);
            rows.push(WorkloadRow { cluster: part.cluster.clone(), verdict });
        }
        report.has_mesh |= part.snapshot.has_mesh();
        let findings = health::findings(part.snapshot).into_iter().chain(part.findings.iter().cloned());
        report.findings.extend(findings.map(|finding| (part.cluster.clone(), finding)));
    }
    report.rows = match request.by {
        By::Pod => Rows::Pods(pods(&rows, &request.selection)),
        _ => {
            rows.retain(|row| request.selection.has_state(row.verdict.state));
            match request.by {
                By::Namespace => Rows::Namespaces(namespaces(&rows)),
                By::Version => Rows::Versions(versions(&rows)),
                _ => Rows::Workloads(rows.clone()),
            }
        }
    };
    report.counts = match &report.rows {
        Rows::Pods(pods) => counted(pods.iter().map(|pod| pod.running.state)),
        _ => counted(rows.iter().map(|row| row.verdict.state)),
    };
    report
}

fn count(counts: &mut BTreeMap<State, usize>, verdict: &Verdict, request: &Request) {
    if request.by == By::Pod {
        for running in &verdict.running {
            *counts.entry(running.state).or_default() += running.count as usize;
        }
    } else {
        *counts.entry(verdict.state).or_default() += 1;
    }
}

fn counted(states: impl Iterator<Item = State>) -> BTreeMap<State, usize> {
    let mut counts = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    counts
}

/// The pods of the workloads. A pod without a proxy in a workload that needs none is no row.
fn pods(rows: &[WorkloadRow], selection: &Selection) -> Vec<PodRow> {
    let mut pods = Vec::new();
    for row in rows {
        let verdict = Arc::new(row.verdict.clone());
        for (pod, place) in &row.verdict.pods {
            let running = &row.verdict.running[*place];
            if selection.selects_pod(&row.verdict, pod, running.state) {
                pods.push(PodRow {
                    cluster: row.cluster.clone(),
                    pod: Arc::clone(pod),
                    running: running.clone(),
                    verdict: Arc::clone(&verdict),
                });
            }
        }
    }
    pods
}

fn namespaces(rows: &[WorkloadRow]) -> Vec<NamespaceRow> {
    let mut namespaces: Vec<NamespaceRow> = Vec::new();
    for row in rows {
        let verdict = &row.verdict;
        let namespace = &verdict.workload.namespace;
        // Rows come sorted by cluster and namespace, so a new one is always the last.
        if namespaces.last().is_none_or(|last| last.namespace != *namespace || last.cluster != row.cluster) {
            namespaces.push(NamespaceRow {
                cluster: row.cluster.clone(),
                namespace: Arc::clone(namespace),
                states: BTreeMap::new(),
                proxies: 0,
                stale: 0,
                running: Vec::new(),
                wanted: Vec::new(),
            });
        }
        let last = namespaces.last_mut().expect("one was pushed above");
        *last.states.entry(verdict.state).or_default() += 1;
        last.proxies += verdict.proxy_count();
        last.stale += verdict.stale_count();
        let running = verdict.running.iter().filter_map(|running| running.proxy.as_ref()?.revision.as_deref());
        last.running.extend(running.map(str::to_owned));
        last.wanted.extend(verdict.wanted.as_ref().and_then(|wanted| wanted.revision.clone()));
    }
    for row in &mut namespaces {
        for revisions in [&mut row.running, &mut row.wanted] {
            revisions.sort();
            revisions.dedup();
        }
    }
    namespaces
}

fn versions(rows: &[WorkloadRow]) -> Vec<VersionRow> {
    type Key = (Option<Arc<str>>, Option<mesh::version::Version>, String, Option<Arc<str>>);
    let mut versions: BTreeMap<Key, (VersionRow, std::collections::BTreeSet<Arc<str>>)> = BTreeMap::new();
    for row in rows {
        for running in &row.verdict.running {
            let Some(proxy) = &running.proxy else { continue };
            let name = version_name(proxy);
            let key = (row.cluster.clone(), proxy.version(), name.clone(), proxy.revision.clone());
            let (version, namespaces) = versions.entry(key).or_insert_with(|| {
                let row = VersionRow {
                    cluster: row.cluster.clone(),
                    version: name,
                    revision: proxy.revision.clone(),
                    proxies: 0,
                    stale: 0,
                    workloads: 0,
                    namespaces: 0,
                };
                (row, Default::default())
            });
            version.proxies += running.count;
            version.stale += if running.differs { running.count } else { 0 };
            version.workloads += 1;
            namespaces.insert(Arc::clone(&row.verdict.workload.namespace));
        }
    }
    versions.into_values().map(|(row, namespaces)| VersionRow { namespaces: namespaces.len(), ..row }).collect()
}

/// The version of a proxy's image, or the image itself where it names none.
pub fn version_name(proxy: &Proxy) -> String {
    proxy.version().map_or_else(|| proxy.image.to_string(), |version| version.to_string())
}

impl Report {
    /// Whether `--exit-code` is to say that something was found: rows of the states asked for, or of any that is not
    /// `current`; and whatever is unknown, which never counts as safe.
    pub fn has_found(&self, request: &Request) -> bool {
        let is_unknown = self.all_counts.contains_key(&State::Unknown);
        let is_found = |state: &State| !request.selection.states.is_empty() || *state != State::Current;
        is_unknown || self.counts.keys().any(is_found)
    }

    /// What can be restarted with `kubectl rollout restart`, the orphaned first, each workload once; and what was
    /// asked for but cannot, with the advice for it.
    pub fn restartable(&self, request: &Request) -> (Vec<WorkloadRow>, Vec<WorkloadRow>) {
        let mut rows: Vec<WorkloadRow> = match &self.rows {
            Rows::Workloads(rows) => rows.clone(),
            Rows::Pods(pods) => {
                pods.iter().map(|pod| WorkloadRow { cluster: pod.cluster.clone(), verdict: (*pod.verdict).clone() }).collect()
            }
            Rows::Namespaces(_) | Rows::Versions(_) => Vec::new(),
        };
        rows.dedup_by(|one, other| one.cluster == other.cluster && one.verdict.workload == other.verdict.workload);
        let is_asked_for =
            |state: State| if request.selection.states.is_empty() { state.is_stale() } else { state.changes_by_restart() };
        let is_listed = |row: &WorkloadRow| {
            let verdict = &row.verdict;
            let is_ours = !verdict.proxy_type.is_made_by_istiod() && !verdict.reasons.contains(&Reason::NotDiscovered);
            is_asked_for(verdict.state) && verdict.restart.is_kubectls() && is_ours
        };
        let (mut listed, mut others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_listed);
        listed.sort_by_key(|row| row.verdict.state != State::Orphaned);
        others.retain(|row| {
            let is_owners =
                row.verdict.reasons.iter().any(|reason| matches!(reason, Reason::Owner | Reason::OnDelete | Reason::Paused));
            if request.selection.states.is_empty() {
                // Without a state asked for, what only lacks kubectl's help is told; pinned and unknown are not stale.
                row.verdict.state.is_stale() || (row.verdict.state == State::Blocked && is_owners)
            } else {
                true
            }
        });
        (listed, others)
    }
}
