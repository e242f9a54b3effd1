//! Two who change one tag at the same time: one wins, and the other is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::{Cluster, Fate, Follows, Interceptor, Output, plugin};

use crate::tags::{NEW, OLD, TagObjects, revision_of_a_new_pod};

const PATIENCE: Duration = Duration::from_secs(60);

/// An interceptor that holds one write back until it is let go.
struct Gate {
    interceptor: Interceptor,
    reached: Receiver<()>,
    open: Sender<()>,
    writes: Arc<AtomicUsize>,
}

impl Gate {
    /// Before the write of this number, from 0.
    fn before_write(number: usize, front: &Interceptor) -> Result<Self> {
        let (tell, reached) = channel();
        let (open, opened) = channel::<()>();
        let (tell, opened) = (Mutex::new(tell), Mutex::new(opened));
        let writes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&writes);
        let interceptor = front.beside(move |call| {
            if call.is_write() && count.fetch_add(1, Ordering::SeqCst) == number {
                let _ = tell.lock().expect("no holder panics").send(());
                let _ = opened.lock().expect("no holder panics").recv_timeout(PATIENCE);
            }
            Fate::Pass
        })?;
        Ok(Self { interceptor, reached, open, writes })
    }
}

/// Runs `one`, and the commands `others` as a whole just before the write of this number of `one`; gives what `one` and the
/// last of the others left. None when `one` has not so many writes.
fn in_between(
    front: &Interceptor,
    cluster: &Cluster,
    number: usize,
    one: &[&str],
    others: &[&[&str]],
) -> Result<Option<[Output; 2]>> {
    let gate = Gate::before_write(number, front)?;
    let held = plugin("mesh-tag")?.through(&gate.interceptor)?;
    let mut running = held.start(one)?;
    while gate.reached.recv_timeout(Duration::from_millis(20)).is_err() {
        ensure!(gate.writes.load(Ordering::SeqCst) <= number, "the gate was passed");
        if running.has_ended()? {
            let output = running.finish()?;
            ensure!(output.code == Some(0), "{}", output.transcript());
            return Ok(None);
        }
    }
    let session = plugin("mesh-tag")?.on(cluster);
    let mut last = None;
    for other in others {
        last = Some(session.run(*other)?);
    }
    gate.open.send(()).context("the gate waits")?;
    Ok(Some([running.finish()?, last.context("there is another command")?]))
}

/// Exactly one of both is done, the other says why it is not, and the tag is the winner's in all its objects.
fn one_wins(cluster: &Cluster, tag: &str, outputs: &[Output; 2], revisions: [&str; 2]) -> Result<()> {
    let told = || outputs.iter().map(Output::transcript).collect::<Vec<_>>().join("\n");
    let winners: Vec<usize> = (0..2).filter(|number| outputs[*number].code == Some(0)).collect();
    ensure!(winners.len() == 1, "{} have won:\n{}", winners.len(), told());
    let (winner, loser) = (winners[0], &outputs[1 - winners[0]]);
    ensure!(matches!(loser.code, Some(1 | 4)) && loser.stderr.contains(tag), "{}", told());
    TagObjects::of(cluster, tag)?.is_whole(Some(revisions[winner])).with_context(told)
}

/// A tag of its own with a namespace that follows it, for each write of a command; until it has no more writes.
fn at_every_write(
    name: &str,
    mut check: impl FnMut(&Interceptor, &Cluster, &str, usize) -> Result<Option<&'static str>>,
) -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    for number in 0.. {
        let tag = format!("{name}-{number}");
        let follows = cluster.namespace(&format!("follows-{tag}"), Follows::Revision(&tag))?;
        let revision = check(&front, cluster, &tag, number).with_context(|| format!("before write {number}"))?;
        if let Some(revision) = revision {
            cluster.wait("new pods to get the winner's proxy", Duration::from_secs(5), || {
                let got = revision_of_a_new_pod(&follows)?;
                ensure!(got.as_deref() == Some(revision), "new pods get {got:?}, and the tag is at {revision}");
                Ok(Some(()))
            })?;
        }
        TagObjects::of(cluster, &tag)?.delete(cluster)?;
        if revision.is_none() {
            ensure!(number > 0, "it writes nothing");
            break;
        }
    }
    Ok(())
}

#[test]
fn of_two_who_make_a_tag_one_wins() -> Result<()> {
    at_every_write("both-make", |front, cluster, tag, number| {
        let one = ["mesh-tag", "set", tag, "--revision", OLD, "--yes"];
        let other = ["mesh-tag", "set", tag, "--revision", NEW, "--yes"];
        let Some(outputs) = in_between(front, cluster, number, &one, &[&other])? else { return Ok(None) };
        one_wins(cluster, tag, &outputs, [OLD, NEW])?;
        Ok(Some(if outputs[0].code == Some(0) { OLD } else { NEW }))
    })
}

#[test]
fn a_tag_that_was_moved_there_and_back_meanwhile_is_not_moved() -> Result<()> {
    at_every_write("both-move", |front, cluster, tag, number| {
        let made = plugin("mesh-tag")?.on(cluster).run(["mesh-tag", "set", tag, "--revision", OLD, "--yes"])?;
        ensure!(made.code == Some(0), "{}", made.transcript());
        let one = ["mesh-tag", "set", tag, "--revision", NEW, "--from", OLD, "--yes"];
        let there = ["mesh-tag", "set", tag, "--revision", NEW, "--overwrite", "--yes"];
        let back = ["mesh-tag", "set", tag, "--revision", OLD, "--overwrite", "--yes"];
        let Some([one, back]) = in_between(front, cluster, number, &one, &[&there, &back])? else { return Ok(None) };
        let told = || format!("{}\n{}", one.transcript(), back.transcript());
        // It still has the revision that was asked for, but it is another state of the tag than the one that was shown.
        ensure!(back.code == Some(0) && matches!(one.code, Some(1 | 4 | 5)), "{}", told());
        TagObjects::of(cluster, tag)?.is_whole(Some(OLD)).with_context(told)?;
        Ok(Some(OLD))
    })
}

#[test]
fn a_race_leaves_a_whole_tag_of_one_of_both() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    for round in 0..8 {
        let tag = format!("race-{round}");
        let start = |revision: &str| session.start(["mesh-tag", "set", &tag, "--revision", revision, "--yes"]);
        let (one, other) = (start(OLD)?, start(NEW)?);
        let outputs = [one.finish()?, other.finish()?];
        one_wins(cluster, &tag, &outputs, [OLD, NEW]).with_context(|| format!("round {round}"))?;
        TagObjects::of(cluster, &tag)?.delete(cluster)?;
    }
    Ok(())
}
