//! How commands that write end when somebody does not let them: by a signal at any write, with an output that nobody takes,
//! and with a gate that has started something. What was begun is whole, what was done is said, and the exit code is true.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use support::hold::{Hold, SIGNALS};
use support::{
    Cluster, Fate, Follows, Interceptor, IstioVersion, Namespace, Options, Output, Revision, Running, Session, Workload, plugin,
};

use crate::start::canary;

const OLD: &str = "1-26-0";
const NEW: &str = "1-28-2";

/// How soon a command has to end once nothing is under way.
const A_MOMENT: Duration = Duration::from_secs(6);

/// Runs a command again and again, each time with a signal at a later one of its writes, until it comes to its end. Each run ends
/// after that write, and the next one goes on from there.
fn with_signals(front: &Interceptor, words: &[&str]) -> Result<Output> {
    for run in 0..40 {
        let hold = Hold::default();
        let interceptor = front.beside(hold.at_write(run))?;
        let session = plugin("mesh-upgrade")?.through(&interceptor)?.time_limit(Duration::from_secs(240));
        let mut running = session.start(words)?;
        if !hold.has_come(&mut running)? {
            let output = running.finish()?;
            ensure!(run > 0, "it writes nothing: {}", output.transcript());
            ensure!(output.code == Some(0), "after {run} signals: {}", output.transcript());
            return Ok(output);
        }
        let writes = hold.writes();
        running.signal(SIGNALS[run % SIGNALS.len()])?;
        thread::sleep(Duration::from_millis(300));
        ensure!(!running.has_ended()?, "write {run} was cut: {}", running.stderr());
        hold.let_go();
        let begun = Instant::now();
        let output = running.finish()?;
        let told = || format!("write {run}: {}", output.transcript());
        ensure!(begun.elapsed() < A_MOMENT, "it ended after {:?}: {}", begun.elapsed(), told());
        ensure!(output.code == Some(130), "{}", told());
        // The objects of a tag are only right together: the last one is still written.
        let is_whole_tag = output.stderr.contains("in all its objects (2 were written)");
        let more = hold.writes() - writes;
        ensure!(more <= usize::from(is_whole_tag), "{more} writes after the signal: {}", told());
        ensure!(output.stderr.contains("interrupted: "), "{}", told());
    }
    Err(anyhow!("kubectl {} comes to no end", words.join(" ")))
}

/// Runs a command with an output that fails: all of it is done, and the exit code says that it was not reported.
fn with_output(session: &Session, words: &[&str], output: &str) -> Result<Output> {
    let ended = session.shell(&format!("kubectl {} {output}", words.join(" ")))?;
    ensure!(ended.code == Some(5), "{}", ended.transcript());
    Ok(ended)
}

/// The revisions of the proxies in a namespace, each once.
fn revisions(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let pods = namespace.pods()?;
    let revision = |pod: &Value| pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned);
    let mut revisions: Vec<String> = pods.iter().filter_map(revision).collect();
    revisions.sort();
    revisions.dedup();
    Ok(revisions)
}

/// An upgrade there and back: each step as `step` runs it, and what it has to have done.
fn there_and_back(cluster: &Cluster, manifests: &str, step: impl Fn(&[&str]) -> Result<Output>) -> Result<()> {
    let shop = cluster.namespace_named("shop");
    let new = Revision::of(IstioVersion::V1_28_2);
    thread::scope(|scope| -> Result<()> {
        let istiod = scope.spawn(|| {
            // Several runs may pass until its Deployment is there.
            let path = "/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-28-2";
            let is_there = || Ok(cluster.api().find(path)?.map(|_| ()));
            cluster.wait("the Deployment of istiod", Duration::from_secs(240), is_there)?;
            cluster.start_istiod_when_installed(&new)
        });
        let started = step(&["mesh-upgrade", "start", "--revision", NEW, "-f", manifests, "--yes"]);
        istiod.join().map_err(|_| anyhow!("starting istiod panicked"))??;
        started.map(|_| ())
    })
    .context("start")?;
    cluster.namespace("shop", Follows::Revision(NEW))?;
    step(&["mesh-upgrade", "restart", "-n", "shop", "--yes"]).context("restart")?;
    ensure!(revisions(&shop)? == [NEW], "{:?}", revisions(&shop)?);
    let tagged = plugin("mesh-tag")?.on(cluster).run(["mesh-tag", "set", "prod", "--revision", NEW, "--overwrite", "--yes"])?;
    ensure!(tagged.code == Some(0), "{}", tagged.transcript());
    step(&["mesh-upgrade", "rollback", "--to", OLD, "--yes"]).context("rollback")?;
    ensure!(revisions(&shop)? == [OLD], "{:?}", revisions(&shop)?);
    let tag = cluster.api().get("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-revision-tag-prod")?;
    ensure!(tag["metadata"]["labels"]["istio.io/rev"] == OLD, "{tag}");
    step(&["mesh-upgrade", "complete", "--remove", NEW, "--yes"]).context("complete")?;
    let istiod = cluster.api().find("/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-28-2")?;
    ensure!(istiod.is_none(), "the revision is still there");
    cluster.stop_istiod(&new);
    Ok(())
}

#[test]
fn every_step_ends_whole_by_a_signal_at_any_write_and_with_any_output() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(IstioVersion::V1_26_0))?;
    let shop = cluster.namespace("shop", Follows::Revision(OLD))?;
    shop.run(&Workload::deployment("web"))?;
    shop.run(&Workload::stateful_set("queue").replicas(2).spec(serde_json::json!({"updateStrategy": {"type": "OnDelete"}})))?;
    let front = Interceptor::before(&cluster, |_| Fate::Pass)?;
    let session = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(240));
    let file = session.home().join("manifests.yaml");
    fs::write(&file, canary(&cluster)?)?;
    let file = file.to_string_lossy();
    there_and_back(&cluster, &file, |words| with_signals(&front, words)).context("with signals")?;
    for output in ["2> /dev/full", "> /dev/full 2>&1"] {
        there_and_back(&cluster, &file, |words| {
            // `complete` and `rollback` report on stderr, and what starts or restarts reports on stdout.
            let is_on_stderr = matches!(words[1], "complete" | "rollback");
            with_output(&session, words, if is_on_stderr { output } else { "> /dev/full" })
        })
        .with_context(|| format!("with {output}"))?;
    }
    Ok(())
}

/// A gate that starts something, says where, and goes on for ever.
fn gate(file: &Path, more: &str) -> String {
    format!("{more} sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait; sleep 600", file.display())
}

/// What a gate has started, once it has.
fn started(running: &mut Running, file: &Path) -> Result<u32> {
    while !file.exists() {
        ensure!(!running.has_ended()?, "it comes to no gate: {}", running.stderr());
        thread::sleep(Duration::from_millis(10));
    }
    let id = fs::read_to_string(file)?.trim().parse()?;
    fs::remove_file(file)?;
    Ok(id)
}

/// Whether a process is there and has not ended.
fn lives(id: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_gate_ends_with_its_children_and_a_refusal_after_a_write_is_no_refusal() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    for name in ["a", "b", "c", "d", "e", "f"] {
        cluster.namespace(name, Follows::Revision(OLD))?.run(&Workload::deployment("web"))?;
        cluster.namespace(name, Follows::Revision(NEW))?;
    }
    let restart = ["mesh-upgrade", "restart", "-A", "--yes"];

    // The second wave's proof fails, after the first was restarted.
    let interceptor = Interceptor::before(&cluster, |call| {
        let is_proof = call.method == "POST" && call.target.contains("/namespaces/b/pods?");
        if is_proof { Fate::Status(403) } else { Fate::Pass }
    })?;
    let refused = plugin("mesh-upgrade")?.through(&interceptor)?.run(restart)?;
    ensure!(refused.code == Some(5), "{}", refused.transcript());
    ensure!(refused.stderr.contains("partly done: a restart would not bring what is wanted"), "{}", refused.transcript());
    ensure!(refused.stderr.contains("done: changing deployments/web -n a"), "{}", refused.transcript());
    let again = plugin("mesh-upgrade")?.through(&interceptor)?.run(restart)?;
    ensure!(again.code == Some(4), "now nothing was changed before: {}", again.transcript());

    let session = plugin("mesh-upgrade")?.on(&cluster);
    let file = session.home().join("started");
    for (number, signal) in SIGNALS[..2].iter().enumerate() {
        let mut running = session.start(restart.iter().copied().chain(["--gate", &gate(&file, "")]))?;
        let child = started(&mut running, &file)?;
        ensure!(lives(child), "the gate runs");
        running.signal(*signal)?;
        let begun = Instant::now();
        let output = running.finish()?;
        ensure!(output.code == Some(130) && begun.elapsed() < A_MOMENT, "{:?}: {}", begun.elapsed(), output.transcript());
        ensure!(!lives(child), "what the gate has started goes on: {}", output.transcript());
        let reason = format!("interrupted: 1 done, {} not started", 4 - number);
        ensure!(output.stderr.contains(&reason), "{}", output.transcript());
    }

    // One that does not hear is killed: at the second signal at once, and at its time limit.
    let stubborn = gate(&file, "trap '' INT TERM HUP;");
    let mut running = session.start(restart.iter().copied().chain(["--gate", &stubborn]))?;
    let child = started(&mut running, &file)?;
    running.signal(libc::SIGINT)?;
    thread::sleep(Duration::from_millis(300));
    ensure!(!running.has_ended()? && lives(child), "it has some time to end");
    running.signal(libc::SIGINT)?;
    let begun = Instant::now();
    let output = running.finish()?;
    ensure!(
        output.code == Some(130) && begun.elapsed() < Duration::from_secs(2),
        "{:?}: {}",
        begun.elapsed(),
        output.transcript()
    );
    ensure!(!lives(child), "what the gate has started goes on: {}", output.transcript());
    // What it says does nothing to a terminal.
    let hostile = gate(&file, "trap '' INT TERM HUP; printf 'hostile \\033]0;x\\007\\342\\200\\256\\n' >&2;");
    let mut running = session.start(restart.iter().copied().chain(["--gate", &hostile, "--gate-timeout", "1"]))?;
    let child = started(&mut running, &file)?;
    let output = running.finish()?;
    ensure!(output.stderr.contains("\nhostile ^[]0;x^G\\u202e\n"), "{}", output.transcript());
    ensure!(output.code == Some(5), "{}", output.transcript());
    ensure!(output.stderr.contains("the gate did not end within 1 s"), "{}", output.transcript());
    ensure!(!lives(child), "what the gate has started goes on: {}", output.transcript());
    Ok(())
}
