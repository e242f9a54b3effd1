//! Carries the waves out: proof, restart, roll-out, and a look at what runs then.

use std::process::Stdio;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use mesh::advice::{Advice, Command};
use mesh::change::Subject;
use mesh::child;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::probe::{self, probe};
use mesh::cluster::raw::read_object;
use mesh::cluster::review::{self, Intended};
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::operator::{OPERATORS, Operator};
use mesh::outcome::ending;
use mesh::refusal::Refusal;
use mesh::snapshot::Snapshot;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::workload::{Restart, Workload, WorkloadId};
use owo_colors::OwoColorize;
use serde_json::Value;
use tokio::time::Instant;

use super::dry_run::{Shown, not_asked, shown};
use super::event::{Events, Outcome};
use super::eviction;
use super::live::Live;
use super::looks::{LOOK, Looks};
use super::pods::{Pods, Standing};
use super::reason::{self, reasons};
use super::replacement::mark_of;
use super::rollout::{Progress, progress};
use crate::downgrade::Older;
use crate::waves::{Item, Wave};

/// How far the engine may go.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Workloads that roll out at once.
    pub parallel: usize,
    /// Failures after which nothing more is begun.
    pub failures: usize,
    /// How long one workload may take.
    pub timeout: Duration,
    /// How long to wait between waves.
    pub pause: Duration,
    /// The command between waves.
    pub gate: Option<String>,
    /// How long it may take.
    pub gate_timeout: Duration,
    /// What becomes of workloads that a dry run shows to go to an older version.
    pub older: Older,
}

/// Restarts workloads.
pub struct Engine<'a> {
    pub(super) connection: &'a Connection,
    pub(super) snapshot: &'a Snapshot,
    pub(super) limits: Limits,
    pub(super) looks: Looks<'a>,
    pub(super) pods: Pods<'a>,
}

/// What the engine may ask for, of workloads in one namespace or everywhere.
pub fn needs(namespace: Option<&str>) -> Needs {
    let by_template = [Resource::Deployments, Resource::StatefulSets, Resource::DaemonSets, Resource::Rollouts];
    probe::needs_of(namespace, by_template.into_iter().chain([Resource::ReplicaSets]))
        .require(namespace, by_template, &["get", "list", "patch"])
        // Only where such an operator is at work.
        .prefer(namespace, OPERATORS.iter().map(|operator| (operator.group, operator.plural)), &["get", "list", "patch"])
        .require(namespace, [Resource::ReplicaSets], &["list"])
        .require(namespace, [Resource::Pods], &["list"])
        .and(eviction::needs(namespace))
        .and(review::needs())
        .and(reason::needs(namespace))
}

impl<'a> Engine<'a> {
    /// An engine for workloads of this snapshot.
    pub fn new(connection: &'a Connection, snapshot: &'a Snapshot, limits: Limits) -> Engine<'a> {
        let looks = Looks::new(connection);
        Engine { connection, snapshot, limits, looks, pods: Pods::new(connection) }
    }

    /// Restarts everything, wave by wave.
    pub async fn run(&self, waves: &[Wave], events: &mut Events, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let mut tally = Tally { total: waves.iter().map(|wave| wave.items.len()).sum(), ..Tally::default() };
        for (place, wave) in waves.iter().enumerate() {
            if place > 0 {
                self.between(&waves[place - 1], terminal).await?;
            }
            let wave = self.without_operated(wave, &mut tally.skipped, terminal).await?;
            if wave.items.is_empty() {
                continue;
            }
            let proved = self.prove(&wave, events, terminal).await?;
            self.wave(&proved, &mut tally, events, terminal).await?;
            if tally.failed.len() >= self.limits.failures {
                break;
            }
        }
        let Tally { total, done, skipped, failed } = tally;
        for skipped in &skipped {
            writeln!(terminal.err, "left alone: {skipped}")?;
        }
        if failed.is_empty() {
            let style = terminal.err_styles.current;
            let what = plural(done as u64, "workload runs", "workloads run");
            writeln!(terminal.err, "{} what is wanted.", what.style(style))?;
            return Ok(Exit::Done);
        }
        let left = total - done - skipped.len() - failed.len();
        let reason = format!("{} failed, {done} restarted, {left} left untouched", failed.len());
        Err(Stop::Partly(Refusal::new(reason, "fix what failed; the same command continues").with(failed)))
    }

    /// What is said if the user interrupts it from here on. What rolls out goes on by itself.
    fn if_interrupted(&self, tally: &Tally, rolling: &[&Item]) {
        let reason = format!("{} of {} workloads were restarted", tally.done, tally.total);
        let name = |item: &&Item| format!("on its way: {} -n {}", item.workload.qualified_name(), item.workload.namespace);
        let advice = "the same command continues; what runs already is not restarted again";
        let refusal = Refusal::new(reason, advice).with(rolling.iter().map(name).collect());
        self.connection.interruption.writes().if_interrupted(refusal);
    }

    /// The pause and the gate before the next wave.
    async fn between(&self, before: &Wave, terminal: &mut Terminal) -> Result<(), Stop> {
        tokio::time::sleep(self.limits.pause).await;
        let Some(command) = &self.limits.gate else { return Ok(()) };
        writeln!(terminal.err, "gate after wave {}: {command}", before.number)?;
        let mut gate = tokio::process::Command::new("sh");
        // What it says is told with ours, and never mixed into data.
        gate.arg("-c").arg(command).stdout(Stdio::null()).stderr(Stdio::piped());
        // It asks the cluster that is restarted, whatever its own kubeconfig says by now.
        let private = self.connection.private_kubeconfig();
        private.and_then(|private| private.lead(&mut gate)).map_err(Stop::Partly)?;
        gate.env("MESH_WAVE", before.number.to_string()).env("MESH_WAVE_NAME", &before.name);
        let mut written = Ok(());
        let show = |line: &str| {
            if written.is_ok() {
                written = writeln!(terminal.err, "{line}");
            }
        };
        let running = child::run_shown(gate, &self.connection.interruption, show);
        let ended = tokio::time::timeout(self.limits.gate_timeout, running).await;
        written?;
        let outcome = match ended {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => format!("the gate ended with {status}"),
            Ok(Err(error)) => format!("the gate could not be run: {error}"),
            Err(_) => format!("the gate did not end within {} s", self.limits.gate_timeout.as_secs()),
        };
        let reason = format!("{outcome} after wave {}; nothing more was restarted", before.number);
        Err(Stop::Partly(Refusal::new(reason, "the same command continues once the gate is content")))
    }

    /// Shows by dry-run pods that a restart brings what is wanted; if not, nothing of the wave is begun.
    /// The answer is the wave, with the images that the dry runs have shown: new pods are compared with those.
    async fn prove(&self, wave: &Wave, events: &Events, terminal: &mut Terminal) -> Result<Wave, Stop> {
        let find = |id: &WorkloadId| -> Option<&Workload> {
            let place = self.snapshot.workloads.binary_search_by(|workload| workload.id.cmp(id)).ok()?;
            Some(&self.snapshot.workloads[place])
        };
        let workloads: Vec<&Workload> = wave.items.iter().filter_map(|item| find(&item.workload)).collect();
        let answers = probe(self.connection, workloads).await;
        let (mut against, mut proved) = (Vec::new(), wave.clone());
        for item in &mut proved.items {
            let name = format!("{} -n {}", item.workload.qualified_name(), item.workload.namespace);
            let shown = answers.get(&item.workload).map_or_else(not_asked, |answer| shown(answer, item.wanted.as_ref()));
            match shown {
                Ok(Shown { wanted, note }) => {
                    item.passage = item.passage.to(self.snapshot, wanted.as_ref());
                    item.wanted = wanted;
                    if let Some(note) = note {
                        writeln!(terminal.err, "note: {name}: {note}")?;
                    }
                }
                Err(why) => against.push(format!("{name}: {why}")),
            }
        }
        if self.limits.older != Older::Allowed {
            // Only the dry run has shown which version it would be.
            let back = proved.items.iter().filter(|item| item.goes_back());
            against.extend(back.map(|item| format!("{}: restart it with --allow-downgrade", item.line())));
        }
        if against.is_empty() {
            events.proved(wave, terminal)?;
            return Ok(proved);
        }
        let reason =
            format!("a restart would not bring what is wanted; nothing of wave {} ({}) was restarted", wave.number, wave.name);
        Err(Stop::Refused(
            Refusal::new(reason, Advice::run(Command::mesh_proxyver("-A --probe=all")).and_say(" shows what new pods get"))
                .with(against),
        ))
    }

    /// Restarts a wave, and notes what became of each of its workloads.
    async fn wave(&self, wave: &Wave, tally: &mut Tally, events: &Events, terminal: &mut Terminal) -> Result<(), Stop> {
        let mut waiting = wave.items.iter();
        let mut running = FuturesUnordered::new();
        let mut rolling: Vec<&Item> = Vec::new();
        let mut done = 0;
        let mut live = Live::default();
        loop {
            while running.len() < self.limits.parallel && tally.failed.len() < self.limits.failures {
                let Some(item) = waiting.next() else { break };
                live.clear(terminal);
                events.begun(item, terminal)?;
                running.push(async move { (item, self.restart(item).await) });
                rolling.push(item);
            }
            self.if_interrupted(tally, &rolling);
            let count = wave.items.len();
            live.draw(&format!("wave {}: {done} of {count} done, {} rolling out …", wave.number, running.len()), terminal);
            let ended = running.next().await;
            live.clear(terminal);
            let Some((item, outcome)) = ended else { return Ok(()) };
            rolling.retain(|other| other.workload != item.workload);
            let outcome = outcome.unwrap_or_else(|failure| Outcome::Failed(failure.to_string()));
            events.ended(item, &outcome, terminal)?;
            let name = format!("{} -n {}", item.workload.qualified_name(), item.workload.namespace);
            match outcome {
                Outcome::Failed(why) => tally.failed.push(format!("{name}: {why}")),
                Outcome::Skipped(why) => tally.skipped.push(format!("{name}: {why}")),
                Outcome::Restarted(_) | Outcome::Current => {
                    done += 1;
                    tally.done += 1;
                }
            }
        }
    }

    /// Restarts one workload; what fails is told with what containers and events say of it.
    async fn restart(&self, item: &Item) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + self.limits.timeout;
        let why = loop {
            match self.attempt(item, deadline).await {
                Ok(Outcome::Failed(why)) | Err(End::Outcome(Outcome::Failed(why))) => break why,
                Ok(outcome) | Err(End::Outcome(outcome)) => return Ok(outcome),
                Err(End::Failure(failure)) => return Err(failure),
                // Perhaps somebody restarts it too: seen anew, that is waited for.
                Err(End::Changed) if Instant::now() < deadline => {}
                Err(End::Changed) => break "somebody goes on changing its specification".to_owned(),
            }
        };
        let object = match subject(&item.workload) {
            Some(subject) => self.read(&subject).await?.unwrap_or_default(),
            None => Value::Null,
        };
        let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await.unwrap_or_default();
        let pods: Vec<Value> = pods.into_iter().map(|pod| pod.object).collect();
        let more = reasons(self.connection, &item.workload, &pods).await;
        Ok(Outcome::Failed([vec![why], more].concat().join("; ")))
    }

    async fn attempt(&self, item: &Item, deadline: Instant) -> Result<Outcome, End> {
        let Some(subject) = subject(&item.workload) else {
            return Ok(Outcome::Failed("nobody here knows how it is restarted".to_owned()));
        };
        let rollout = Rollout { subject: &subject, item, deadline };
        if self.looks.find(&subject, None).await?.is_some_and(|object| object["spec"]["paused"] == true) {
            return Ok(Outcome::Failed("it is paused: rollout resume goes on".to_owned()));
        }
        // Somebody, perhaps an earlier run of this command, has begun a roll-out: it is waited for, not begun again.
        let (object, pods) = self.gathered(&rollout, None, None).await?;
        if pods.iter().all(|pod| pod.difference().is_none()) {
            return Ok(Outcome::Current);
        }
        match &item.restart {
            Restart::Rollout => self.by_template(&rollout, object).await?,
            Restart::ArgoRollout => self.by_argo(&rollout, object).await?,
            Restart::Operator(operator) => self.by_operator(&rollout, operator, object, pods).await?,
            restart if restart.is_by_eviction() => self.by_eviction(&rollout, pods).await?,
            _ => {
                return Ok(Outcome::Failed("its pods cannot be replaced safely".to_owned()));
            }
        };
        self.judge(&rollout).await
    }

    /// Waits until the roll-out is complete, and gives the object as it is then.
    pub(super) async fn complete(&self, rollout: &Rollout<'_>, change: Option<Change>) -> Result<Value, End> {
        let fails = |why: String| Err(End::Outcome(Outcome::Failed(why)));
        loop {
            let since = change.as_ref().map(|change| change.at);
            let object = self.looks.find(rollout.subject, since).await?.ok_or_else(End::gone)?;
            if rollout.item.uid.as_deref().is_some_and(|uid| object["metadata"]["uid"] != *uid) {
                return Err(End::replaced());
            }
            if let Some(ending) = ending(&object) {
                let why = format!("it {ending}: nobody makes new pods for it");
                return Err(End::Outcome(Outcome::Skipped(why)));
            }
            if let Some(mark) = change.as_ref().and_then(|change| change.mark.as_deref())
                && mark_of(&object) != Some(mark)
            {
                return fails("somebody took the restart back: a GitOps tool or operator that owns its template".to_owned());
            }
            let waits_for = match progress(&object, &rollout.item.restart) {
                Progress::Complete => return Ok(object),
                Progress::Failed(why) => return fails(why),
                Progress::Running(what) => what,
            };
            if Instant::now() >= rollout.deadline {
                return fails(format!("not rolled out within {} s: {waits_for}", self.limits.timeout.as_secs()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the new pods: only they prove that the restart has brought what is wanted.
    async fn judge(&self, rollout: &Rollout<'_>) -> Result<Outcome, End> {
        let (_, pods) = self.gathered(rollout, None, None).await?;
        let mut note = None;
        for pod in pods {
            match pod.standing {
                Standing::Wanted => {}
                Standing::ByRevision(why) => note = Some(format!("by its revision; {why}")),
                Standing::Other(why) => return Ok(Outcome::Failed(why)),
            }
        }
        Ok(Outcome::Restarted(note))
    }

    /// By the API server's clock, to the second, as kubectl writes it: Argo compares it with when pods were made.
    pub(super) fn now(&self) -> String {
        self.time().to_string()
    }

    /// The time of the API server's clock, in whole seconds.
    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second() + self.connection.skew()).unwrap_or_default()
    }

    /// Reads an object.
    pub(super) async fn read(&self, subject: &Subject) -> Result<Option<Value>, Failure> {
        read_object(self.connection, subject).await
    }
}

/// What became of the workloads so far.
#[derive(Default)]
struct Tally {
    /// How many there are.
    total: usize,
    /// How many run what is wanted.
    done: usize,
    /// Those that were left alone, each with the reason.
    skipped: Vec<String>,
    /// Those that failed, each with the reason.
    failed: Vec<String>,
}

/// One workload on its way.
pub(super) struct Rollout<'a> {
    pub(super) subject: &'a Subject,
    pub(super) item: &'a Item,
    pub(super) deadline: Instant,
}

/// What was just done to a workload: what was seen before knows nothing of it.
pub(super) struct Change {
    pub(super) at: Instant,
    /// What its template says since, unless somebody takes it back.
    pub(super) mark: Option<String>,
}

/// Why a workload goes no further.
pub(super) enum End {
    Outcome(Outcome),
    /// Somebody has changed its specification since it was looked at.
    Changed,
    Failure(Failure),
}

impl End {
    pub(super) fn replaced() -> End {
        let why = "it was deleted and made anew meanwhile: nobody has looked at the new one, so it is left alone";
        End::Outcome(Outcome::Failed(why.to_owned()))
    }

    /// A pod was evicted, and no new one has come for it: that is a failure, whatever has become of its workload.
    pub(super) fn after_eviction_of(self, pod: &str) -> End {
        match self {
            End::Outcome(Outcome::Skipped(why) | Outcome::Failed(why)) => {
                End::Outcome(Outcome::Failed(format!("pod {pod} was evicted, and then: {why}")))
            }
            other => other,
        }
    }

    pub(super) fn gone() -> End {
        End::Outcome(Outcome::Skipped("it is not there any more".to_owned()))
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failure(failure)
    }
}

/// What a restart of this workload writes, and the dry run of a pod before it.
pub fn intended(workload: &WorkloadId, restart: &Restart) -> impl Iterator<Item = Intended> {
    let written = if restart.is_by_eviction() {
        Some(Intended::evictions(&workload.namespace))
    } else {
        subject(workload).map(|subject| Intended::with("patch", &subject))
    };
    written.into_iter().chain([Intended::dry_run_pod(&workload.namespace)])
}

pub(super) fn subject(workload: &WorkloadId) -> Option<Subject> {
    if let Some(resource) = Resource::of_kind(&workload.api_version, &workload.kind) {
        return Some(Subject::new(resource, Some(&workload.namespace), &workload.name));
    }
    let group = workload.api_version.split_once('/').map_or("", |(group, _)| group);
    let operator = Operator::of(group, &workload.kind)?;
    Some(Subject {
        api_version: workload.api_version.to_string(),
        kind: workload.kind.to_string(),
        plural: operator.plural.to_owned(),
        namespace: Some(workload.namespace.to_string()),
        name: workload.name.to_string(),
    })
}
