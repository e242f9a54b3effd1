//! Commands that are interrupted, at every call that they make: by an answer that says no, that gets lost or that never
//! comes, and by the end of the process. After each of them every namespace that follows the tag still gets a proxy, and
//! the same command completes what was begun.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use support::{Cluster, Fate, Follows, Interceptor, Namespace, Output, Session, plugin};

use crate::tags::{NEW, OLD, Saved, TagObjects, revision_of_a_new_pod};

/// Trials of one change under way at once: some of them wait for an answer that does not come.
const THREADS: usize = 4;

/// How a command is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// A call has this fate.
    Fate(Fate),
    /// The process is killed after the API server has done what the call asks.
    Kill,
}

/// All of them.
const BLOWS: [Blow; 5] =
    [Blow::Fate(Fate::Status(500)), Blow::Fate(Fate::Status(409)), Blow::Fate(Fate::Lose), Blow::Fate(Fate::Hang), Blow::Kill];

/// A command that changes something, and what it finds.
pub struct Change {
    /// The commands that make what is there before it.
    pub prepare: &'static [&'static [&'static str]],
    /// The command.
    pub command: &'static [&'static str],
    /// What the namespaces of the stage follow before it.
    pub follows: &'static str,
    /// What a new pod in them gets before it and after it.
    pub pods: [Option<&'static str>; 2],
    /// The revision that the tag has before it and after it.
    pub tag: [Option<&'static str>; 2],
}

/// Stands for the name of the tag.
const TAG: &str = "TAG";

/// Every command that changes something.
pub const CHANGES: [Change; 6] = [
    Change {
        prepare: &[],
        command: &["set", TAG, "--revision", NEW, "--yes"],
        follows: TAG,
        pods: [None, Some(NEW)],
        tag: [None, Some(NEW)],
    },
    Change {
        prepare: &[&["set", TAG, "--revision", OLD, "--yes"]],
        command: &["set", TAG, "--revision", NEW, "--overwrite", "--yes"],
        follows: TAG,
        pods: [Some(OLD), Some(NEW)],
        tag: [Some(OLD), Some(NEW)],
    },
    Change {
        prepare: &[
            &["set", TAG, "--revision", NEW, "--yes"],
            &["set", TAG, "--revision", OLD, "--overwrite", "--yes"],
            &["set", TAG, "--revision", NEW, "--overwrite", "--yes"],
        ],
        command: &["undo", TAG, "--yes"],
        follows: TAG,
        pods: [Some(NEW), Some(OLD)],
        tag: [Some(NEW), Some(OLD)],
    },
    Change {
        prepare: &[&["set", TAG, "--revision", NEW, "--yes"]],
        command: &["remove", TAG, "--yes"],
        follows: OLD,
        pods: [Some(OLD), Some(OLD)],
        tag: [Some(NEW), None],
    },
    Change {
        prepare: &[&["set", TAG, "--revision", NEW, "--yes"]],
        command: &["attach", TAG, "TAG-one", "TAG-two", "--overwrite"],
        follows: OLD,
        pods: [Some(OLD), Some(NEW)],
        tag: [Some(NEW), Some(NEW)],
    },
    Change {
        prepare: &[&["set", TAG, "--revision", NEW, "--yes"]],
        command: &["detach", "TAG-one", "TAG-two"],
        follows: TAG,
        pods: [Some(NEW), None],
        tag: [Some(NEW), Some(NEW)],
    },
];

/// A tag with two namespaces, and what there is before the change.
pub struct Stage<'a> {
    cluster: &'a Cluster,
    /// What it is about.
    pub change: &'a Change,
    session: Session,
    tag: String,
    namespaces: [Namespace<'a>; 2],
    saved: Saved,
    /// What has to hold at every moment besides.
    always: &'a (dyn Fn() -> Result<()> + Sync),
}

impl<'a> Stage<'a> {
    /// With a tag of its own, beside other stages.
    pub fn beside_others(cluster: &'a Cluster, change: &'a Change) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("trial-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let saved = || Saved::of_tag(cluster, &tag);
        Self::new(cluster, change, &tag, saved, &|| Ok(()))
    }

    /// With the `default` tag, of which a cluster has one.
    pub fn of_default(cluster: &'a Cluster, change: &'a Change, always: &'a (dyn Fn() -> Result<()> + Sync)) -> Result<Self> {
        Self::new(cluster, change, "default", || Saved::of_all(cluster), always)
    }

    fn new(
        cluster: &'a Cluster,
        change: &'a Change,
        tag: &str,
        save: impl Fn() -> Result<Saved>,
        always: &'a (dyn Fn() -> Result<()> + Sync),
    ) -> Result<Self> {
        let names = [format!("{tag}-one"), format!("{tag}-two")];
        // Nothing yet: a tag that is followed cannot be removed by those who prepare.
        let namespaces = [cluster.namespace(&names[0], Follows::Nothing)?, cluster.namespace(&names[1], Follows::Nothing)?];
        let session = plugin("mesh-tag")?.on(cluster);
        let mut stage = Self { cluster, change, session, tag: tag.to_owned(), namespaces, saved: save()?, always };
        for words in change.prepare {
            let output = stage.run(words)?;
            ensure!(output.code == Some(0), "{}", output.transcript());
        }
        stage.saved = save()?;
        Ok(stage)
    }

    /// Everything is as before the change.
    pub fn reset(&self) -> Result<()> {
        self.saved.restore(self.cluster)?;
        let followed = self.change.follows.replace(TAG, &self.tag);
        for namespace in &self.namespaces {
            self.cluster.namespace(namespace.name(), Follows::Revision(&followed))?;
        }
        self.is(0)
    }

    /// `WORDS` with the names of the stage.
    pub fn line(&self, words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.replace(TAG, &self.tag)).collect()
    }

    /// Runs `mesh-tag WORDS`, uninterrupted.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.session.run_file(FILE, self.line(words))
    }

    /// What new pods get in the namespaces of the stage; an error where they are refused.
    fn new_pods(&self) -> Result<[Option<String>; 2]> {
        let [one, other] = &self.namespaces;
        Ok([revision_of_a_new_pod(one)?, revision_of_a_new_pod(other)?])
    }

    /// Everything is as before the change (0) or after it (1): the tag in all its objects, and what new pods get.
    pub fn is(&self, side: usize) -> Result<()> {
        TagObjects::of(self.cluster, &self.tag)?.is_whole(self.change.tag[side])?;
        let wanted = self.change.pods[side];
        // The API server learns of a webhook that has changed a moment later.
        self.cluster.wait(&format!("new pods to get {wanted:?}"), Duration::from_secs(5), || {
            let got = self.new_pods()?;
            ensure!(got.iter().all(|revision| revision.as_deref() == wanted), "new pods get {got:?}");
            Ok(Some(()))
        })
    }

    /// In the middle of whatever happens, new pods get what they got before or what they are to get, and are not refused.
    fn still_injects(&self) -> Result<()> {
        // Twice, because the API server learns of a webhook that has changed a moment later.
        for pause in [0, 300] {
            thread::sleep(Duration::from_millis(pause));
            let got = self.new_pods()?;
            let is_allowed = |revision: &Option<String>| self.change.pods.contains(&revision.as_deref());
            ensure!(got.iter().all(is_allowed), "new pods get {got:?}, none of {:?}", self.change.pods);
            (self.always)()?;
        }
        Ok(())
    }

    /// Leaves nothing: the API server gets slow with hundreds of webhooks.
    pub fn clear(self) -> Result<()> {
        TagObjects::of(self.cluster, &self.tag)?.delete(self.cluster)?;
        for namespace in &self.namespaces {
            self.cluster.api().delete(&format!("/api/v1/namespaces/{}", namespace.name()))?;
        }
        Ok(())
    }
}

/// The plugin without kubectl before it, which would take as long again.
pub const FILE: &str = "kubectl-mesh_tag";

/// One call of one command, and what becomes of it.
#[derive(Clone, Debug)]
struct Trial {
    call: usize,
    request: String,
    blow: Blow,
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} at call {}, {}", self.blow, self.call, self.request)
    }
}

impl Trial {
    fn run(&self, stage: &Stage<'_>, front: &Interceptor) -> Result<()> {
        stage.reset().context("before it")?;
        let interrupted = self.interrupt(stage, front)?;
        let told = interrupted.as_ref().map_or_else(|| "killed".to_owned(), Output::transcript);
        stage.still_injects().with_context(|| told.clone())?;
        match interrupted.as_ref().and_then(|output| output.code) {
            Some(0) => stage.is(1).with_context(|| format!("it says that it is done: {told}"))?,
            // Labels are not put back: each namespace is whole by itself, and what was done is said.
            Some(1) if stage.change.tag[0] == stage.change.tag[1] => {
                ensure!(
                    stage.is(0).is_ok() || stage.is(1).is_ok() && told.contains("follows"),
                    "it says not what it did: {told}"
                );
            }
            // What was begun is put back.
            Some(1 | 4) => stage.is(0).with_context(|| format!("it is not as it was: {told}"))?,
            // Or else the exit code says that it has to be continued.
            Some(5) | None => {}
            Some(_) => bail!("{told}"),
        }
        let again = stage.run(stage.change.command)?;
        let both = || format!("{told}\nand then {}", again.transcript());
        // A tag that is gone is not removed once more.
        let is_gone = stage.change.tag[1].is_none() && again.stderr.contains("there is no tag");
        ensure!(again.code == Some(0) || is_gone, "the same command does not complete: {}", both());
        stage.is(1).with_context(both)
    }

    /// Runs the command and gives what it left; none where it was killed.
    fn interrupt(&self, stage: &Stage<'_>, front: &Interceptor) -> Result<Option<Output>> {
        let (target, fate) = match self.blow {
            Blow::Fate(fate) => (self.call, fate),
            Blow::Kill => (self.call, Fate::Hang),
        };
        let interceptor = front.beside(move |call| if call.number == target { fate } else { Fate::Pass })?;
        let session = plugin("mesh-tag")?.through(&interceptor)?;
        let mut running = session.start_file(FILE, command_line(stage))?;
        if self.blow != Blow::Kill {
            return running.finish().map(Some);
        }
        while interceptor.held() == 0 {
            ensure!(!running.has_ended()?, "it makes no such call:\n{}", running.stderr());
            thread::sleep(Duration::from_millis(2));
        }
        running.kill_now();
        Ok(None)
    }
}

fn command_line(stage: &Stage<'_>) -> Vec<String> {
    let mut line = stage.line(stage.change.command);
    line.push("--request-timeout=2s".to_owned());
    line
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    /// Every call: with every blow where something is written, and with one of them, each in turn, where it is only read.
    All,
    /// Every write with every blow, and the first look at what was written.
    Writes,
}

fn trials(stage: &Stage<'_>, front: &Interceptor, calls: Calls) -> Result<Vec<Trial>> {
    stage.reset()?;
    let writes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = Arc::clone(&writes);
    let interceptor = front.beside(move |call| {
        if call.is_write() {
            seen.lock().expect("no holder panics").push(call.number);
        }
        Fate::Pass
    })?;
    let output = plugin("mesh-tag")?.through(&interceptor)?.run_file(FILE, command_line(stage))?;
    ensure!(output.code == Some(0), "uninterrupted: {}", output.transcript());
    let writes = writes.lock().expect("no holder panics");
    let last = *writes.last().context("it writes nothing")?;
    let mut trials = Vec::new();
    for (call, request) in interceptor.requests().into_iter().enumerate() {
        let blows = if writes.contains(&call) {
            &BLOWS[..]
        } else if calls == Calls::All || call == last + 1 {
            &BLOWS[call % BLOWS.len()..][..1]
        } else {
            &[]
        };
        trials.extend(blows.iter().map(|blow| Trial { call, request: request.clone(), blow: *blow }));
    }
    Ok(trials)
}

/// Interrupts a change of the `default` tag at every write.
pub fn interrupt_default(stage: &Stage<'_>) -> Result<()> {
    let front = Interceptor::before(stage.cluster, |_| Fate::Pass)?;
    let trials = trials(stage, &front, Calls::Writes)?;
    let failed = |trial: &Trial| trial.run(stage, &front).err().map(|error| format!("{trial}: {error:#}"));
    let failures: Vec<String> = trials.iter().filter_map(failed).collect();
    stage.saved.restore(stage.cluster)?;
    ensure!(failures.is_empty(), "{} of {} trials failed:\n{}", failures.len(), trials.len(), failures.join("\n\n"));
    Ok(())
}

/// Interrupts a change in every way, on several stages at once.
fn interrupt(change: &Change) -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let first = Stage::beside_others(cluster, change)?;
    let waiting = trials(&first, &front, Calls::All)?;
    first.clear()?;
    let count = waiting.len();
    let (waiting, failures) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        let stage = Stage::beside_others(cluster, change)?;
        loop {
            let next = waiting.lock().expect("no holder panics").pop();
            let Some(trial) = next else { return stage.clear() };
            if let Err(error) = trial.run(&stage, &front) {
                failures.lock().expect("no holder panics").push(format!("{trial}: {error:#}"));
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    let failures = failures.into_inner()?;
    ensure!(failures.is_empty(), "{} of {count} trials failed:\n{}", failures.len(), failures.join("\n\n"));
    Ok(())
}

#[test]
fn a_new_tag_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[0])
}

#[test]
fn a_move_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[1])
}

#[test]
fn an_undo_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[2])
}

#[test]
fn a_removal_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[3])
}

#[test]
fn attaching_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[4])
}

#[test]
fn detaching_survives_every_interruption() -> Result<()> {
    interrupt(&CHANGES[5])
}
