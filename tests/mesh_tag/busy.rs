//! API servers that are busy, away for a moment, or lose an answer: every read and every write of a command fails once, and the
//! command waits, looks, and comes to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use support::{Call, Cluster, Fate, Follows, Interceptor, Output, once_each, plugin};

use crate::tags::{NEW, OLD, TagObjects};

/// What happens to each request once.
const TROUBLES: [Fate; 8] = [
    Fate::Busy(429, "1"),
    Fate::Busy(503, "1"),
    // A date that has passed, and what is none: neither is a reason to wait for ever, or not at all.
    Fate::Busy(429, "Thu, 01 Jan 1970 00:00:00 GMT"),
    Fate::Busy(429, "-7"),
    Fate::Status(504),
    Fate::Close,
    Fate::Lose,
    Fate::Silence,
];

/// Whether a request meets its trouble. A server that has never answered is not waited for when it says nothing at all.
fn meets(fate: Fate) -> impl Fn(&Call) -> bool + Send + Sync {
    move |call| fate != Fate::Silence || call.number >= 8
}

fn through(cluster: &Cluster, fate: Fate, words: &[&str]) -> Result<Output> {
    let count: Arc<AtomicUsize> = Arc::default();
    let interceptor = Interceptor::before(cluster, once_each(fate, Arc::clone(&count), meets(fate)))?;
    let output = plugin("mesh-tag")?.through(&interceptor)?.run(words.iter().copied().chain(["--request-timeout=2s"]))?;
    ensure!(output.code == Some(0), "{fate:?}: {}", output.transcript());
    ensure!(count.load(Ordering::SeqCst) > 3, "{fate:?}: hardly anything failed: {}", output.transcript());
    if let Fate::Busy(code, "1") = fate {
        let said = format!("the server asks to wait ({code}): waiting up to 120 s");
        ensure!(output.stderr.matches(&said).count() == 1, "it is said once: {}", output.transcript());
    }
    Ok(output)
}

/// A tag is made, moved and removed, and namespaces follow it and no longer.
fn tag_and_namespaces(cluster: &Cluster, number: usize, fate: Fate) -> Result<()> {
    let (tag, namespace) = (format!("busy-{number}"), format!("busy-{number}"));
    cluster.namespace(&namespace, Follows::Nothing)?;
    let run = |words: &[&str]| through(cluster, fate, &[&["mesh-tag"], words].concat());
    run(&["set", &tag, "--revision", OLD, "--yes"])?;
    TagObjects::of(cluster, &tag)?.is_whole(Some(OLD))?;
    run(&["attach", &tag, &namespace])?;
    let labels = || -> Result<Value> {
        Ok(cluster.api().get(&format!("/api/v1/namespaces/{namespace}"))?["metadata"]["labels"]["istio.io/rev"].clone())
    };
    ensure!(labels()? == tag.as_str(), "{fate:?}");
    run(&["set", &tag, "--revision", NEW, "--from", OLD, "--yes"])?;
    TagObjects::of(cluster, &tag)?.is_whole(Some(NEW))?;
    run(&["detach", &namespace])?;
    ensure!(labels()?.is_null(), "{fate:?}");
    run(&["remove", &tag, "--yes"])?;
    TagObjects::of(cluster, &tag)?.is_whole(None)
}

#[test]
fn every_request_may_fail_once() -> Result<()> {
    let cluster = Cluster::shared()?;
    thread::scope(|scope| {
        let work = |(number, fate): (usize, Fate)| {
            scope.spawn(move || tag_and_namespaces(cluster, number, fate).with_context(|| format!("{fate:?}")))
        };
        let workers: Vec<_> = TROUBLES.into_iter().enumerate().map(work).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

#[test]
fn labels_that_somebody_changes_at_once_are_named() -> Result<()> {
    let cluster = Cluster::shared()?;
    for name in ["read-back-a", "read-back-b"] {
        cluster.namespace(name, Follows::Injection)?;
    }
    // As a GitOps tool does it: what is not in its source goes, between the write and the look at it.
    let api = cluster.api().clone();
    let interceptor = Interceptor::before(cluster, move |call| {
        if call.method == "GET" && call.target == "/api/v1/namespaces/read-back-b" && call.of_path == 2 {
            let labels = json!({"istio.io/rev": null, "istio-injection": "enabled"});
            api.patch("/api/v1/namespaces/read-back-b", &json!({"metadata": {"labels": labels}})).expect("it is there");
        }
        Fate::Pass
    })?;
    let session = plugin("mesh-tag")?.through(&interceptor)?;
    let output = session.run(["mesh-tag", "attach", NEW, "read-back-a", "read-back-b", "--overwrite"])?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    for words in ["read-back-b has istio-injection=enabled again", "read-back-b has no label istio.io/rev any more"] {
        ensure!(output.stderr.contains(words), "{words}: {}", output.transcript());
    }
    ensure!(!output.stderr.contains("read-back-a has"), "{}", output.transcript());
    Ok(())
}

#[test]
fn what_cannot_be_put_back_is_named_with_the_command_that_goes_back() -> Result<()> {
    let cluster = Cluster::shared()?;
    let tag = "stuck";
    let direct = plugin("mesh-tag")?.on(cluster);
    let before = direct.run(["mesh-tag", "set", tag, "--revision", OLD, "--yes"])?;
    ensure!(before.code == Some(0), "{}", before.transcript());
    // From the second write on, everything that is written is refused.
    let writes = AtomicUsize::new(0);
    let interceptor = Interceptor::before(cluster, move |call| {
        if call.is_write() && writes.fetch_add(1, Ordering::SeqCst) > 0 { Fate::Status(403) } else { Fate::Pass }
    })?;
    let words = ["mesh-tag", "set", tag, "--revision", NEW, "--overwrite", "--yes"];
    let output = plugin("mesh-tag")?.through(&interceptor)?.run(words)?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stderr.contains("putting back") || output.stderr.contains("changing "), "{}", output.transcript());
    ensure!(output.stderr.contains(&format!("mesh-tag set {tag} --revision {OLD} --overwrite")), "{}", output.transcript());
    let back = direct.run(["mesh-tag", "set", tag, "--revision", OLD, "--overwrite", "--yes"])?;
    ensure!(back.code == Some(0), "{}", back.transcript());
    TagObjects::of(cluster, tag)?.is_whole(Some(OLD))?;
    TagObjects::of(cluster, tag)?.delete(cluster)
}
