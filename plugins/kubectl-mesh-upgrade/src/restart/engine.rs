//! Carries the waves out: proof, restart, roll-out, and a look at what runs then.

use mesh::advice::{Advice, Command};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use mesh::change::Subject;
use mesh::child;
use mesh::cluster::apply::{FIELD_MANAGER, FLUX_FIELD_MANAGER, is_uncertain, merge_patch};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::probe::{self, probe};
use mesh::cluster::raw::{read_list, read_object};
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::operator::{AnnotationValue, OPERATORS, Operator};
use mesh::owner::{Owner, owner_of};
use mesh::refusal::Refusal;
use mesh::snapshot::Snapshot;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::workload::{Restart, Workload, WorkloadId};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dry_run::{Shown, not_asked, shown};
use super::event::{Events, Outcome};
use super::eviction::{self, evict};
use super::live::Live;
use super::pods::{OwnPod, Pods, Standing};
use super::reason::{self, reasons};
use super::rollout::{Progress, RESTARTED_AT, progress};
use crate::waves::{Item, Wave};

/// How often what rolls out is looked at: one list a kind and namespace, shared by all workloads in it.
const LOOK: Duration = Duration::from_secs(1);

/// An API server that is away for so long is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

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
}

/// Restarts workloads.
pub struct Engine<'a> {
    connection: &'a Connection,
    snapshot: &'a Snapshot,
    limits: Limits,
    looks: Looks<'a>,
    pods: Pods<'a>,
}

/// What the engine may ask for, of workloads in one namespace or everywhere.
pub fn needs(namespace: Option<&str>) -> Needs {
    let by_template = [Resource::Deployments, Resource::StatefulSets, Resource::DaemonSets, Resource::Rollouts];
    probe::needs(namespace)
        .require(namespace, by_template, &["get", "list", "patch"])
        .require(namespace, OPERATORS.iter().map(|operator| (operator.group, operator.plural)), &["get", "list", "patch"])
        .require(namespace, [Resource::ReplicaSets], &["get", "list"])
        .require(namespace, [Resource::Pods], &["list"])
        .and(eviction::needs(namespace))
        .and(reason::needs(namespace))
}

impl<'a> Engine<'a> {
    /// An engine for workloads of this snapshot.
    pub fn new(connection: &'a Connection, snapshot: &'a Snapshot, limits: Limits) -> Engine<'a> {
        let looks = Looks { connection, seen: RefCell::default() };
        Engine { connection, snapshot, limits, looks, pods: Pods::new(connection) }
    }

    /// Restarts everything, wave by wave.
    pub async fn run(&self, waves: &[Wave], events: &mut Events, terminal: &mut Terminal) -> Result<Exit, Stop> {
        let mut tally = Tally { total: waves.iter().map(|wave| wave.items.len()).sum(), ..Tally::default() };
        for (place, wave) in waves.iter().enumerate() {
            if place > 0 {
                self.between(&waves[place - 1], terminal).await?;
            }
            let proved = self.prove(wave, events, terminal).await?;
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
        Err(Stop::Partly(Refusal::new(reason, "mend what failed; the same command continues").with(failed)))
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
        // Its output is told with ours, and never mixed into data.
        gate.arg("-c").arg(command).stdout(Stdio::null());
        // It asks the cluster that is restarted, whatever its own kubeconfig says by now.
        let private = self.connection.private_kubeconfig();
        private.and_then(|private| private.lead(&mut gate)).map_err(Stop::Partly)?;
        gate.env("MESH_WAVE", before.number.to_string()).env("MESH_WAVE_NAME", &before.name);
        let outcome = match tokio::time::timeout(self.limits.gate_timeout, child::run(gate, &self.connection.interruption)).await
        {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => format!("the gate ended with {}", output.status),
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
                    item.wanted = wanted;
                    if let Some(note) = note {
                        writeln!(terminal.err, "note: {name}: {note}")?;
                    }
                }
                Err(why) => against.push(format!("{name}: {why}")),
            }
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
                events.begun(&item.workload, terminal)?;
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
            events.ended(&item.workload, &outcome, terminal)?;
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
        let object = self.complete(&rollout, None).await?;
        let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
        if pods.iter().all(|pod| pod.difference().is_none()) {
            return Ok(Outcome::Current);
        }
        let object = match &item.restart {
            Restart::Rollout => self.by_template(&rollout, object).await?,
            Restart::ArgoRollout => self.by_argo(&rollout, object).await?,
            Restart::Operator(operator) => self.by_operator(&rollout, operator, object, pods).await?,
            restart if restart.is_by_eviction() => self.by_eviction(&rollout, object, pods).await?,
            _ => {
                return Ok(Outcome::Failed("its pods cannot be replaced safely".to_owned()));
            }
        };
        self.judge(item, &object).await
    }

    /// As `kubectl rollout restart`: a new annotation of the template.
    async fn by_template(&self, rollout: &Rollout<'_>, object: Value) -> Result<Value, End> {
        let mark = self.now();
        let annotations = json!({ RESTARTED_AT: mark });
        let change = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.patch(rollout.subject, object, change, &|object| mark_of(object) == Some(&mark)).await?;
        self.complete(rollout, Some(Change { at: Instant::now(), mark: Some(mark) })).await
    }

    /// By the field of its own (`spec.restartAt`). Argo compares whole seconds, and restarts pods that are older.
    async fn by_argo(&self, rollout: &Rollout<'_>, object: Value) -> Result<Value, End> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mark = self.now();
        let has_mark = |object: &Value| object["spec"]["restartAt"] == mark.as_str();
        self.patch(rollout.subject, object, json!({"spec": {"restartAt": mark}}), &has_mark).await?;
        self.complete(rollout, Some(Change { at: Instant::now(), mark: None })).await
    }

    /// As its operator documents it: an annotation of the custom resource. Only the pods tell when that is done.
    async fn by_operator(
        &self,
        rollout: &Rollout<'_>,
        operator: &Operator,
        object: Value,
        pods: Vec<OwnPod>,
    ) -> Result<Value, End> {
        let value = match operator.value {
            AnnotationValue::True => "true".to_owned(),
            AnnotationValue::Time => self.now(),
        };
        let change = json!({"metadata": {"annotations": {operator.annotation: value}}});
        let has_happened = |object: &Value| object["metadata"]["annotations"][operator.annotation] == value.as_str();
        let (count, item) = (pods.len(), rollout.item);
        self.patch(rollout.subject, object.clone(), change, &has_happened).await?;
        loop {
            tokio::time::sleep(LOOK).await;
            let pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
            let done = pods.iter().filter(|pod| !matches!(pod.standing, Standing::Other(_)) && pod.is_ready()).count();
            if done == pods.len() && done >= count {
                return Ok(object);
            }
            if Instant::now() >= rollout.deadline {
                let (name, limit) = (operator.name, self.limits.timeout.as_secs());
                let why =
                    format!("{name} was asked to restart it, and after {limit} s {done} of {count} pods run what is wanted");
                return Err(End::Outcome(Outcome::Failed(why)));
            }
        }
    }

    /// Pod by pod: each new one has to be ready before the next old one goes.
    async fn by_eviction(&self, rollout: &Rollout<'_>, object: Value, pods: Vec<OwnPod>) -> Result<Value, End> {
        let item = rollout.item;
        let old: HashSet<String> = pods.iter().map(|pod| pod.uid().to_owned()).collect();
        let (mut object, mut pods, mut evicted) = (object, pods, HashSet::new());
        loop {
            // A new pod that is not what is wanted proves that the others would not come to be either.
            let failed = pods.iter().find(|pod| !old.contains(pod.uid()) && matches!(pod.standing, Standing::Other(_)));
            if let Some(why) = failed.and_then(OwnPod::difference) {
                return Err(End::Outcome(Outcome::Failed(why.to_owned())));
            }
            let is_next = |pod: &&OwnPod| old.contains(pod.uid()) && pod.difference().is_some() && !evicted.contains(pod.uid());
            let Some(next) = pods.iter().find(is_next) else { return Ok(object) };
            evicted.insert(next.uid().to_owned());
            evict(self.connection, &next.object, rollout.deadline).await?;
            // The controller sees the eviction a moment later; until then everything still looks complete.
            tokio::time::sleep(LOOK).await;
            object = self.complete(rollout, Some(Change { at: Instant::now(), mark: None })).await?;
            // Read anew before each eviction: a pod that was taken out of the workload meanwhile is none of its.
            pods = self.pods.of(&item.workload, &object, item.wanted.as_ref()).await?;
        }
    }

    /// Patches the object as it was seen, and as it is there now when only its status has changed. One that was deleted and made
    /// anew meanwhile is another one.
    async fn patch(
        &self,
        subject: &Subject,
        object: Value,
        change: Value,
        has_happened: &dyn Fn(&Value) -> bool,
    ) -> Result<(), End> {
        let (seen, uid) = (object["metadata"]["generation"].clone(), object["metadata"]["uid"].clone());
        let mut object = object;
        let mut tries = 0;
        while !has_happened(&object) {
            tries += 1;
            let mut patch = change.clone();
            patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
            patch["metadata"]["uid"] = uid.clone();
            match merge_patch(self.connection, subject, &patch, manager_for(&object)).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.cause == Cause::NotFound => return Err(End::gone()),
                // Its status changes often: the next look tells whether there is still something to do.
                Err(failure) if tries < 6 && (matches!(failure.cause, Cause::Conflict(_)) || is_uncertain(&failure.cause)) => {
                    tokio::time::sleep(Duration::from_millis(200 * tries)).await;
                }
                Err(failure) => return Err(failure.into()),
            }
            object = self.read(subject).await?.ok_or_else(End::gone)?;
            if object["metadata"]["uid"] != uid {
                return Err(End::replaced());
            }
            if object["metadata"]["generation"] != seen && !has_happened(&object) {
                self.looks.forget(subject);
                return Err(End::Changed);
            }
        }
        Ok(())
    }

    /// Waits until the roll-out is complete, and gives the object as it is then.
    async fn complete(&self, rollout: &Rollout<'_>, change: Option<Change>) -> Result<Value, End> {
        let fails = |why: String| Err(End::Outcome(Outcome::Failed(why)));
        loop {
            let since = change.as_ref().map(|change| change.at);
            let object = self.looks.find(rollout.subject, since).await?.ok_or_else(End::gone)?;
            if rollout.item.uid.as_deref().is_some_and(|uid| object["metadata"]["uid"] != *uid) {
                return Err(End::replaced());
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
    async fn judge(&self, item: &Item, object: &Value) -> Result<Outcome, End> {
        let pods = self.pods.of(&item.workload, object, item.wanted.as_ref()).await?;
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
    fn now(&self) -> String {
        let now = Timestamp::now().as_second() + self.connection.skew();
        Timestamp::from_second(now).unwrap_or_default().to_string()
    }

    /// Reads an object, and waits for an API server that is away for a while.
    async fn read(&self, subject: &Subject) -> Result<Option<Value>, Failure> {
        patiently(|| read_object(self.connection, subject)).await
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
struct Rollout<'a> {
    subject: &'a Subject,
    item: &'a Item,
    deadline: Instant,
}

/// What was just done to a workload: what was seen before knows nothing of it.
struct Change {
    at: Instant,
    /// What its template says since, unless somebody takes it back.
    mark: Option<String>,
}

/// Why a workload goes no further.
enum End {
    Outcome(Outcome),
    /// Somebody has changed its specification since it was looked at.
    Changed,
    Failure(Failure),
}

impl End {
    fn replaced() -> End {
        let why = "it was deleted and made anew meanwhile: nobody has looked at the new one, so it is left alone";
        End::Outcome(Outcome::Failed(why.to_owned()))
    }

    fn gone() -> End {
        End::Outcome(Outcome::Skipped("it is not there any more".to_owned()))
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failure(failure)
    }
}

/// Lists that all workloads of a kind and namespace share.
struct Looks<'a> {
    connection: &'a Connection,
    seen: RefCell<HashMap<String, Rc<Mutex<Look>>>>,
}

/// What a list showed, and when it was asked for.
#[derive(Default)]
struct Look {
    at: Option<Instant>,
    items: Vec<Value>,
}

impl Looks<'_> {
    /// What was seen so far is not what is there.
    fn forget(&self, subject: &Subject) {
        self.seen.borrow_mut().remove(&subject.collection());
    }

    /// The object as it was at most [`LOOK`] ago, and not before `since`.
    async fn find(&self, subject: &Subject, since: Option<Instant>) -> Result<Option<Value>, Failure> {
        let collection = subject.collection();
        let look = Rc::clone(self.seen.borrow_mut().entry(collection.clone()).or_default());
        // Who comes while somebody else is asking waits for that answer, and mostly needs no other.
        let mut look = look.lock().await;
        let is_fresh = |at: Instant| at.elapsed() < LOOK && since.is_none_or(|since| at >= since);
        if !look.at.is_some_and(is_fresh) {
            let what = format!("listing {}", subject.plural);
            let at = Instant::now();
            let items = patiently(|| read_list(self.connection, &collection, &what)).await?;
            *look = Look { at: Some(at), items };
        }
        Ok(look.items.iter().find(|item| item["metadata"]["name"] == subject.name.as_str()).cloned())
    }
}

/// Tries again while nobody answers.
async fn patiently<T, F: Future<Output = Result<T, Failure>>>(read: impl Fn() -> F) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match read().await {
            Err(failure) if is_uncertain(&failure.cause) && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_secs(2)).await
            }
            result => return result,
        }
    }
}

fn subject(workload: &WorkloadId) -> Option<Subject> {
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

/// As whom an object is changed: Flux would take a restart back that it takes for kubectl's, which is another restart.
fn manager_for(object: &Value) -> &'static str {
    if matches!(owner_of(object), Owner::Flux { .. }) { FLUX_FIELD_MANAGER } else { FIELD_MANAGER }
}

fn mark_of(object: &Value) -> Option<&str> {
    object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].as_str()
}
