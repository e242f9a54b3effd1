//! One look at everything that was asked for: each cluster, or the files.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::probe::{agrees, completed, probe};
use mesh::cluster::{Begin, List, Observer, Saved, Scope, read, read_files};
use mesh::finding::{Code, Finding, Severity};
use mesh::injection::Injection;
use mesh::object::{Object, Resource};
use mesh::session::Session;
use mesh::snapshot::Snapshot;
use mesh::state::State;
use mesh::terminal::progress::Progress;
use mesh::verdict::{derived_injection, verdicts};
use mesh::workload::{Workload, WorkloadId};

use crate::args::{Args, Probe, Request};
use crate::report::ClusterPart;

/// What was seen in one place.
pub struct Sight {
    /// The context, when several were asked for.
    pub cluster: Option<Arc<str>>,
    /// What was read.
    pub snapshot: Snapshot,
    /// What the API server said itself.
    pub probed: HashMap<WorkloadId, Injection>,
    /// Findings beyond the snapshot's own.
    pub findings: Vec<Finding>,
}

impl Sight {
    /// As a part of a report.
    pub fn part(&self) -> ClusterPart<'_> {
        ClusterPart {
            cluster: self.cluster.clone(),
            snapshot: &self.snapshot,
            probed: &self.probed,
            findings: self.findings.clone(),
        }
    }
}

/// A cluster that was connected to, and what is looked at there.
pub struct Place {
    /// The connection.
    pub connection: Connection,
    /// The scope, with the namespace filled in.
    pub scope: Scope,
    /// The context's name, when several were asked for.
    pub cluster: Option<Arc<str>>,
}

/// Connects to every context; those that fail are told apart.
pub async fn connect(session: &Session, request: &Request) -> Vec<Result<Place, (String, Failure)>> {
    let contexts = session.flags.connection.contexts();
    let is_fleet = contexts.len() > 1;
    join_all(contexts.into_iter().map(|context| async move {
        let connection = session.connect_to(context.as_deref()).await;
        let connection = connection.map_err(|failure| (context.clone().unwrap_or_default(), failure))?;
        let mut scope = request.scope.clone();
        if !request.is_everywhere && scope.namespace.is_none() {
            scope.namespace = Some(connection.namespace.clone());
        }
        let cluster = is_fleet.then(|| connection.context.as_str().into());
        Ok(Place { connection, scope, cluster })
    }))
    .await
}

/// Looks at one cluster.
pub async fn look(place: &Place, request: &Request, progress: &Progress, saved: Option<&Saved>) -> Result<Sight, Failure> {
    let observer = Watcher { progress, saved };
    let snapshot = read(&place.connection, &place.scope, request.detail(), &observer).await?;
    progress.clear();
    let mut sight = Sight { cluster: place.cluster.clone(), snapshot, probed: HashMap::new(), findings: Vec::new() };
    if let Some(wanted) = request.probe {
        probe_some(place, request, wanted, &mut sight).await;
    }
    Ok(sight)
}

/// Looks at files.
pub fn look_at_files(args: &Args, request: &Request, progress: &Progress, saved: Option<&Saved>) -> Result<Sight, Failure> {
    let observer = Watcher { progress, saved };
    let snapshot = read_files(&args.filename, request.detail(), &observer)?;
    progress.clear();
    Ok(Sight { cluster: None, snapshot, probed: HashMap::new(), findings: Vec::new() })
}

/// Asks the API server about the workloads that are to be probed. Its answers replace the derived ones, and where they
/// differ from what was derived, that is a finding.
async fn probe_some(place: &Place, request: &Request, wanted: Probe, sight: &mut Sight) {
    let (probed, findings) = {
        let workloads = workloads_to_probe(&sight.snapshot, request, wanted);
        let answers = probe(&place.connection, workloads.clone()).await;
        let mut probed = HashMap::new();
        let mut findings = Vec::new();
        for workload in workloads {
            let Some(answer) = answers.get(&workload.id) else { continue };
            let derived = derived_injection(&sight.snapshot, workload);
            if !agrees(&derived, answer) {
                findings.push(difference(workload, &derived, answer));
            }
            if let Injection::Unknown(doubt) = answer {
                findings.push(unanswered(workload, &doubt.why));
            }
            // A probe that failed takes nothing away from what is known without it.
            if !matches!(answer, Injection::Unknown(_)) || matches!(derived, Injection::Unknown(_)) {
                probed.insert(workload.id.clone(), completed(&derived, answer.clone()));
            }
        }
        (probed, findings)
    };
    sight.probed = probed;
    sight.findings.extend(findings);
}

/// The workloads to ask about: selected ones, those that istiod makes left out, the doubtful first.
fn workloads_to_probe<'a>(snapshot: &'a Snapshot, request: &Request, wanted: Probe) -> Vec<&'a Workload> {
    let mut states: HashMap<WorkloadId, State> = HashMap::new();
    let selection = crate::selection::Selection { states: Vec::new(), ..request.selection.clone() };
    for verdict in verdicts(snapshot, &HashMap::new()) {
        if selection.selects(&verdict, snapshot) {
            states.insert(verdict.workload.clone(), verdict.state);
        }
    }
    let state = |workload: &Workload| states.get(&workload.id).copied();
    let mut workloads: Vec<&Workload> =
        snapshot.workloads.iter().filter(|workload| workload.gateway.is_none() && state(workload).is_some()).collect();
    workloads.sort_by_key(|workload| state(workload) != Some(State::Unknown));
    match wanted {
        Probe::All => {}
        Probe::AtMost(number) => workloads.truncate(number),
        Probe::Doubtful => workloads.retain(|workload| state(workload) == Some(State::Unknown)),
    }
    workloads
}

fn difference(workload: &Workload, derived: &Injection, answer: &Injection) -> Finding {
    Finding {
        severity: Severity::Error,
        code: Code::ProbeDiffers,
        subject: subject(workload),
        message: format!(
            "derived from the cluster's objects: {}; the API server's own answer: {}",
            words(derived),
            words(answer)
        ),
        advice: "the answer is used; please report the difference".into(),
    }
}

fn unanswered(workload: &Workload, why: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: Code::ProbeFailed,
        subject: subject(workload),
        message: why.to_owned(),
        advice: "the verdict without a probe is used".into(),
    }
}

fn subject(workload: &Workload) -> String {
    format!("{} -n {}", workload.id.qualified_name(), workload.id.namespace)
}

fn words(injection: &Injection) -> String {
    match injection {
        Injection::Injected(injected) => {
            let image = injected.image.as_ref().map_or("an unknown image", String::as_str);
            format!("{image} by revision {}", injected.revision)
        }
        Injection::NoInjector | Injection::Declined(_) => "no proxy".to_owned(),
        Injection::Refused(refused) => format!("refused: {}", refused.why),
        Injection::Unknown(doubt) => doubt.why.clone(),
    }
}

/// Counts for the progress line, and keeps what is to be saved.
struct Watcher<'a> {
    progress: &'a Progress,
    saved: Option<&'a Saved>,
}

impl Observer for Watcher<'_> {
    fn object(&self, object: &Object) {
        self.progress.add_one();
        if let Some(saved) = self.saved {
            saved.object(object);
        }
    }

    fn complete(&self, resource: Resource) {
        if let Some(saved) = self.saved {
            saved.complete(resource);
        }
    }

    fn incomplete(&self, resource: Resource) {
        if let Some(saved) = self.saved {
            saved.incomplete(resource);
        }
    }

    fn restart(&self, list: &List, begin: Begin) {
        self.progress.restart();
        if let Some(saved) = self.saved {
            saved.restart(list, begin);
        }
    }
}
