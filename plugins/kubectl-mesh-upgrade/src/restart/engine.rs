//! Carries the waves out: proof, restart, roll-out, and a look at what runs then.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use mesh::change::Subject;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::probe;
use mesh::cluster::raw::read_object;
use mesh::cluster::review::{self, Intended};
use mesh::interruption::Attendance;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::operator::{OPERATORS, Operator};
use mesh::outcome::ending;
use mesh::snapshot::Snapshot;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::workload::{Restart, WorkloadId};
use owo_colors::OwoColorize;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

use super::event::{Events, Outcome};
use super::eviction;
use super::live::Live;
use super::looks::{LOOK, Looks};
use super::pods::{OwnPod, Pods, Standing};
use super::proof::Proved;
use super::reason::{self, reasons};
use super::replacement::mark_of;
use super::rollout::{Progress, given_up_at, progress, replaced};
use super::step::{Phase, Step};
use super::tally::Tally;
use super::unfinished;
use crate::downgrade::Older;
use crate::rolling_update::needs_room;
use crate::waves::{Item, Wave};

/// How long after an interruption the answer to a write that had begun is looked at.
const KNOWN: Duration = Duration::from_secs(5);

/// How far the engine may go.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Workloads that roll out at once.
    pub parallel: usize,
    /// Failures after which nothing more is begun.
    pub failures: usize,
    /// Whether what could not be proved is left alone, and no reason to stop.
    pub skip_unproved: bool,
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
    /// The revision that everything leaves, on the way back: a roll-out towards it is replaced, and who cannot leave it stops nobody.
    pub(super) leaving: Option<String>,
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

/// What an engine on the way back may ask for besides.
pub fn needs_back(namespace: Option<&str>) -> Needs {
    needs(namespace).and(unfinished::needs(namespace))
}

impl<'a> Engine<'a> {
    /// An engine for workloads of this snapshot.
    pub fn new(connection: &'a Connection, snapshot: &'a Snapshot, limits: Limits) -> Engine<'a> {
        let looks = Looks::new(connection);
        Engine { connection, snapshot, limits, leaving: None, looks, pods: Pods::new(connection) }
    }

    /// On the way back from a revision.
    #[must_use]
    pub fn leaving(self, revision: &str) -> Engine<'a> {
        Engine { leaving: Some(revision.to_owned()), ..self }
    }

    /// Restarts everything, wave by wave. Once the user interrupts it, nothing new is started, and what rolls out is waited for
    /// until the user interrupts that too.
    ///
    /// # Errors
    /// As [`Tally::conclude`], and [`Stop::Interrupted`] with what was done and what is left.
    pub async fn run(&self, waves: &[Wave], events: &mut Events, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let attendance = self.connection.interruption.attend();
        let mut tally = Tally { total: waves.iter().map(|wave| wave.items.len()).sum(), ..Tally::default() };
        for (place, wave) in waves.iter().enumerate() {
            let prepared = async {
                if place > 0 {
                    self.between(&waves[place - 1], terminal).await?;
                }
                // On the way back, whoever is left alone has not come back.
                let left = if self.leaving.is_some() { &mut tally.failed } else { &mut tally.skipped };
                let wave = self.without_operated(wave, left, terminal).await?;
                self.prove(&wave, &mut tally, events, terminal).await
            };
            let prepared = tokio::select! {
                biased;
                proved = prepared => Some(proved?),
                () = self.connection.interruption.forbids_more() => None,
            };
            if let Some(proved) = prepared {
                self.wave(wave, &proved, &mut tally, events, &attendance, terminal).await?;
            }
            if self.connection.interruption.is_requested() {
                return Err(self.interrupted(&tally));
            }
            if tally.failed.len() >= self.limits.failures || !tally.unproved.is_empty() {
                break;
            }
        }
        tally.conclude(terminal)
    }

    /// How an interrupted command ends: with what was done and what is left.
    fn interrupted(&self, tally: &Tally) -> Stop {
        let writes = self.connection.interruption.writes();
        writes.if_interrupted(tally.interrupted());
        Stop::Interrupted(writes.unfinished())
    }

    /// Restarts a wave, and notes what became of each of its workloads.
    async fn wave(
        &self,
        wave: &Wave,
        proved: &[Proved],
        tally: &mut Tally,
        events: &Events,
        attendance: &Attendance,
        terminal: &mut Terminal,
    ) -> Result<(), Stop> {
        let interruption = &self.connection.interruption;
        let (say, mut notices) = unbounded_channel();
        let mut waiting = proved.iter();
        let mut running = FuturesUnordered::new();
        let mut steps: Vec<(&Item, Rc<Step>)> = Vec::new();
        let (mut done, mut is_interrupted) = (0, false);
        let mut live = Live::default();
        loop {
            while running.len() < self.limits.parallel && tally.failed.len() < self.limits.failures && !is_interrupted {
                let Some(next) = waiting.next() else { break };
                let step = Rc::new(Step::new(&next.item, say.clone()));
                steps.push((&next.item, Rc::clone(&step)));
                running.push(async move { (&next.item, self.restart(next, &step).await) });
            }
            if running.is_empty() {
                return Ok(());
            }
            let count = proved.len();
            live.draw(&format!("wave {}: {done} of {count} done, {} rolling out …", wave.number, running.len()), terminal);
            let ended = tokio::select! {
                biased;
                () = interruption.insists(), if is_interrupted => None,
                () = interruption.is_heard(), if !is_interrupted => {
                    is_interrupted = true;
                    attendance.is_waiting();
                    live.clear(terminal);
                    let rolling = steps.iter().filter(|(_, step)| step.phase() == Phase::RollingOut).count();
                    announce_interruption(rolling, terminal)?;
                    continue;
                }
                Some((item, notice)) = notices.recv() => {
                    live.clear(terminal);
                    events.noticed(&item, &notice, terminal)?;
                    continue;
                }
                ended = running.next() => ended,
            };
            live.clear(terminal);
            // What it has said comes before how it ended.
            while let Ok((item, notice)) = notices.try_recv() {
                events.noticed(&item, &notice, terminal)?;
            }
            let Some((item, outcome)) = ended else {
                for (item, step) in &steps {
                    if step.phase() != Phase::NotBegun {
                        tally.half.push(half_done(item, step));
                    }
                }
                return Ok(());
            };
            let step = steps.iter().position(|(other, _)| other.workload == item.workload).map(|place| steps.remove(place).1);
            let outcome = match (outcome, step) {
                (Err(End::Interrupted), Some(step)) => {
                    if step.phase() != Phase::NotBegun {
                        tally.half.push(half_done(item, &step));
                    }
                    continue;
                }
                (Ok(outcome) | Err(End::Outcome(outcome)), _) => outcome,
                (Err(End::Unneeded(why)), _) => Outcome::Skipped(why.to_owned()),
                (Err(End::Failure(failure)), _) => Outcome::Failed(failure.to_string()),
                (Err(End::Changed | End::Interrupted), _) => continue,
            };
            events.ended(item, &outcome, terminal)?;
            let name = name(&item.workload);
            match outcome {
                Outcome::Failed(_) => tally.failed.push(name),
                Outcome::Skipped(why) => tally.skipped.push(format!("{name}: {why}")),
                Outcome::Restarted(_) | Outcome::Current => {
                    done += 1;
                    tally.done += 1;
                }
            }
        }
    }

    /// Restarts one workload; what fails is told with what containers and events say of it.
    async fn restart(&self, proved: &Proved, step: &Step) -> Result<Outcome, End> {
        let item = &proved.item;
        let Some(subject) = subject(&item.workload) else {
            return Ok(Outcome::Failed("nobody here knows how it is restarted".to_owned()));
        };
        let deadline = Instant::now() + self.limits.timeout;
        let rollout = Rollout { subject: &subject, item, deadline, step, doubt: proved.doubt.as_deref() };
        let why = loop {
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(&rollout) => attempt,
                () = self.may_be_left(step) => return Err(End::Interrupted),
            };
            match attempt {
                Ok(Outcome::Failed(why)) | Err(End::Outcome(Outcome::Failed(why))) => break why,
                Ok(outcome) | Err(End::Outcome(outcome)) => return Ok(outcome),
                Err(End::Unneeded(why)) => return Ok(Outcome::Skipped(why.to_owned())),
                // Perhaps somebody restarts it too: seen anew, that is waited for.
                Err(End::Changed) if Instant::now() < deadline => {}
                Err(End::Changed) => break "somebody goes on changing its specification".to_owned(),
                Err(end) => return Err(end),
            }
        };
        let object = self.read(&subject).await?.unwrap_or_default();
        let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await.unwrap_or_default();
        let pods: Vec<Value> = pods.into_iter().map(|pod| pod.object).collect();
        let more = reasons(self.connection, &item.workload, &pods).await;
        Ok(Outcome::Failed([vec![why], more].concat().join("; ")))
    }

    /// Waits until the user has interrupted the command, and this workload can be left as it is: nothing of it is under way.
    async fn may_be_left(&self, step: &Step) {
        self.connection.interruption.forbids_more().await;
        if step.phase() == Phase::RollingOut {
            // It is waited for, until that is interrupted too; before its next pod it stops by itself.
            std::future::pending().await
        }
    }

    /// Carries out a change, unless the user has interrupted the command: from then on nothing new is started.
    pub(super) async fn write<T>(&self, step: &Step, change: impl Future<Output = Result<T, End>>) -> Result<T, End> {
        let interruption = &self.connection.interruption;
        if interruption.is_requested() {
            return Err(End::Interrupted);
        }
        let before = step.is(Phase::RollingOut);
        // Whether this change, and not one of another workload, has begun to write: that is seen while it is polled.
        let has_begun = Cell::new(false);
        let mut change = std::pin::pin!(change);
        let mut change = std::future::poll_fn(|context| {
            let mark = interruption.writes().mark();
            let polled = change.as_mut().poll(context);
            has_begun.set(has_begun.get() || interruption.writes().mark() > mark);
            polled
        });
        tokio::select! {
            biased;
            result = &mut change => return result,
            () = interruption.forbids_more() => {}
        }
        if !has_begun.get() {
            step.is(before);
            return Err(End::Interrupted);
        }
        // What was written is known in a moment; where it wants to write once more, it waits in vain.
        tokio::time::timeout(KNOWN, change).await.unwrap_or(Err(End::Interrupted))
    }

    async fn attempt(&self, rollout: &Rollout<'_>) -> Result<Outcome, End> {
        let item = rollout.item;
        if self.looks.find(rollout.subject, None).await?.is_some_and(|object| object["spec"]["paused"] == true) {
            return Ok(Outcome::Failed("it is paused: rollout resume goes on".to_owned()));
        }
        if let Some(leaving) = &self.leaving
            && let Some(outcome) = self.replace_unfinished(rollout, leaving).await?
        {
            return Ok(outcome);
        }
        // Somebody, perhaps an earlier run of this command, has begun a roll-out: it is waited for, not begun again.
        let (object, pods) = self.gathered(rollout, None, None).await?;
        if pods.iter().all(|pod| pod.difference().is_none()) {
            return Ok(Outcome::Current);
        }
        if let Some(doubt) = rollout.doubt.filter(|_| needs_room(&item.workload.kind, &object)) {
            return Ok(Outcome::Failed(doubt.to_owned()));
        }
        match &item.restart {
            Restart::Rollout => self.by_template(rollout, object).await?,
            Restart::ArgoRollout => self.by_argo(rollout, object).await?,
            Restart::Operator(operator) => self.by_operator(rollout, operator, object, pods).await?,
            restart if restart.is_by_eviction() => self.by_eviction(rollout, pods).await?,
            _ => {
                return Ok(Outcome::Failed("its pods cannot be replaced safely".to_owned()));
            }
        };
        self.judge(rollout).await
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
            if let Some(Mark::Is(mark)) = change.as_ref().map(|change| &change.mark)
                && mark_of(&object) != mark.as_deref()
            {
                return fails("somebody took the restart back: a GitOps tool or operator that owns its template".to_owned());
            }
            // Where its template is as it was, its status counts the old pods as new ones.
            if let Some(Change { mark: Mark::Is(_), .. }) = change {
                rollout.step.has_replaced(replaced(&object));
            }
            let is_old = |object: &Value| {
                let given_up = given_up_at(object);
                given_up.is_some() && change.as_ref().is_some_and(|change| change.given_up == given_up)
            };
            let waits_for = match progress(&object, &rollout.item.restart) {
                Progress::Complete => return Ok(object),
                // The controller has not yet looked at whether what is there now goes on.
                Progress::Failed(why) if is_old(&object) => why,
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
    pub(super) async fn judge(&self, rollout: &Rollout<'_>) -> Result<Outcome, End> {
        let (_, pods) = self.gathered(rollout, None, None).await?;
        Ok(judged(pods))
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

/// One workload on its way.
pub(super) struct Rollout<'a> {
    pub(super) subject: &'a Subject,
    pub(super) item: &'a Item,
    pub(super) deadline: Instant,
    pub(super) step: &'a Step,
    /// Why no dry run has shown what its new pods get, where none has.
    pub(super) doubt: Option<&'a str>,
}

/// What was just done to a workload: what was seen before knows nothing of it.
pub(super) struct Change {
    pub(super) at: Instant,
    /// What its template says since, unless somebody takes it back.
    pub(super) mark: Mark,
    /// When its controller had given up a roll-out before that.
    pub(super) given_up: Option<Value>,
}

/// What a template says of restarts.
pub(super) enum Mark {
    /// Nothing that would tell.
    Untold,
    /// It was restarted at this time; never when `None`.
    Is(Option<String>),
}

impl Change {
    /// Something that a template does not tell.
    pub(super) fn untold() -> Change {
        Change { at: Instant::now(), mark: Mark::Untold, given_up: None }
    }
}

/// Why a workload goes no further.
pub(super) enum End {
    Outcome(Outcome),
    /// It is to have no pods any more, also where some were evicted before: why.
    Unneeded(&'static str),
    /// Somebody has changed its specification since it was looked at.
    Changed,
    /// The user has interrupted the command, and nothing of it is under way.
    Interrupted,
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

/// Whether these are what a restart was to bring.
pub(super) fn judged(pods: Vec<OwnPod>) -> Outcome {
    let mut note = None;
    for pod in pods {
        match pod.standing {
            Standing::Wanted => {}
            Standing::ByRevision(why) => note = Some(format!("by its revision; {why}")),
            Standing::Other(why) => return Outcome::Failed(why),
        }
    }
    Outcome::Restarted(note)
}

/// A workload as kubectl names it, with its namespace.
pub(super) fn name(workload: &WorkloadId) -> String {
    format!("{} -n {}", workload.qualified_name(), workload.namespace)
}

/// How far a workload has come that is not waited for any more.
fn half_done(item: &Item, step: &Step) -> String {
    let goes_on =
        if step.phase() == Phase::RollingOut { "its roll-out goes on by itself" } else { "the others are as they were" };
    let replaced = step.replaced().map_or_else(String::new, |replaced| format!("{replaced}; "));
    format!("{}: {replaced}{goes_on}", name(&item.workload))
}

fn announce_interruption(rolling: usize, terminal: &mut Terminal) -> Result<(), Stop> {
    let style = terminal.err_styles.warning;
    let word = "Interrupted:";
    let line = if rolling == 0 {
        "nothing new is started".to_owned()
    } else {
        let rolling = plural(rolling as u64, "roll-out", "roll-outs");
        format!("nothing new is started; waiting for {rolling} (Ctrl-C again stops waiting)")
    };
    writeln!(terminal.err, "{} {line}", word.style(style))?;
    Ok(())
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
