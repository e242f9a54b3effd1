//! `mesh-upgrade` beside what it is measured against: its looks beside `mesh-proxyver`, its restarts beside
//! `kubectl rollout restart` and `rollout status` in a loop.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::{Cluster, Fate, Follows, Interceptor, Options, Program, Workload, say};

use crate::measure::{self, Figures, median};
use crate::{load, plugin, table};

/// Namespaces of the restarts.
const NAMESPACES: usize = 40;
/// Roll-outs at once.
const PARALLEL: usize = 50;

/// `status` and the use graph of `complete` on a cluster of so many pods.
pub fn look(runs: usize, pods: usize) -> Result<()> {
    say(format_args!("a cluster of {pods} pods"));
    let cluster = Cluster::start(&Options::default())?;
    load::install(&cluster)?;
    let follows = |number: usize| if number.is_multiple_of(2) { "1-26-0" } else { "1-28-2" }.to_owned();
    let load = load::fill(&cluster, pods, 10, follows)?;
    say(format_args!("{pods} pods; measuring, {runs} runs of each"));
    let command = |file: &str, arguments: &str| {
        // A revision in use is a refusal, which is what is measured here.
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{} {arguments} || true", plugin(file).display())]);
        command.env("KUBECONFIG", cluster.kubeconfig_file());
        command
    };
    let commands = [
        ("mesh-proxyver -A", command("kubectl-mesh_proxyver", "-A")),
        ("mesh-upgrade status", command("kubectl-mesh_upgrade", "status")),
        ("mesh-upgrade complete --dry-run", command("kubectl-mesh_upgrade", "complete --remove 1-26-0 --dry-run")),
    ];
    let mut rows: Vec<(&str, Vec<Figures>)> = commands.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for run in 0..=runs {
        for (row, (_, command)) in rows.iter_mut().zip(&commands) {
            let figures = measure::measure(command)?;
            if run > 0 {
                row.1.push(figures);
            }
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "\n{pods} pods; the last column is against mesh-proxyver\n")?;
    table(&mut out, &rows, median(&rows[0].1, |figures| figures.wall))?;
    load.release();
    Ok(())
}

/// Restarts so many Deployments, by us and by a loop.
pub fn restart(workloads: usize) -> Result<()> {
    say(format_args!("a cluster of {workloads} Deployments in {NAMESPACES} namespaces"));
    let cluster = Cluster::start(&Options::default())?;
    load::install(&cluster)?;
    let names: Vec<String> = (0..NAMESPACES).map(|number| format!("team-{number:02}")).collect();
    for name in &names {
        cluster.namespace(name, Follows::Revision("1-26-0"))?;
    }
    load::side_by_side(workloads, |number| {
        let namespace = cluster.namespace_named(&names[number % NAMESPACES]);
        namespace.create(&Workload::deployment(&format!("web-{number}"))).map(|_| ())
    })?;
    load::side_by_side(workloads, |number| {
        let namespace = cluster.namespace_named(&names[number % NAMESPACES]);
        namespace.wait_until_rolled_out(&Workload::deployment(&format!("web-{number}")))
    })?;
    follow(&cluster, &names, "1-28-2")?;
    say(format_args!("restarting by mesh-upgrade"));
    let ours = watch(&cluster)?;
    let counted = requests(&cluster, &names)?;
    follow(&cluster, &names, "1-26-0")?;
    say(format_args!("restarting by a loop over kubectl"));
    let theirs = by_kubectl(&cluster)?;
    let mut out = io::stdout().lock();
    writeln!(out, "\n{workloads} Deployments in {NAMESPACES} namespaces, at most {PARALLEL} roll-outs at once\n")?;
    writeln!(out, "| | wall s | time with fewer roll-outs than allowed | requests a workload |\n|---|---|---|---|")?;
    let share = ours.idle.as_secs_f64() / ours.wall.as_secs_f64() * 100.0;
    writeln!(out, "| mesh-upgrade restart -A | {:.1} | {share:.1} % | {counted:.2} |", ours.wall.as_secs_f64())?;
    writeln!(out, "| kubectl rollout restart and status in a loop | {:.1} | | |", theirs.as_secs_f64())?;
    Ok(())
}

fn follow(cluster: &Cluster, namespaces: &[String], revision: &str) -> Result<()> {
    namespaces.iter().try_for_each(|name| cluster.namespace(name, Follows::Revision(revision)).map(|_| ()))
}

/// What a restart of everything took.
struct Restarted {
    wall: Duration,
    /// How long fewer roll-outs went on than allowed, while there were more to begin.
    idle: Duration,
}

/// Runs it and watches its events as they come.
fn watch(cluster: &Cluster) -> Result<Restarted> {
    let mut command = Command::new(plugin("kubectl-mesh_upgrade"));
    command.args(["restart", "-A", "--yes", "-o", "json", "--percent", "100", "--max-parallel", &PARALLEL.to_string()]);
    command.env("KUBECONFIG", cluster.kubeconfig_file()).stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().context("starting mesh-upgrade")?;
    let mut changes: Vec<(Duration, i64)> = Vec::new();
    for line in BufReader::new(child.stdout.take().context("stdout is piped")?).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        match event["type"].as_str() {
            Some("Restarting") => changes.push((start.elapsed(), 1)),
            Some("Ended") => changes.push((start.elapsed(), -1)),
            _ => {}
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "mesh-upgrade restart ended with {status}");
    let (last_begun, _) = *changes.iter().rfind(|(_, change)| *change > 0).context("something was restarted")?;
    let (mut idle, mut running, mut since) = (Duration::ZERO, 0, changes.first().context("events")?.0);
    for (moment, change) in changes.iter().take_while(|(moment, _)| *moment <= last_begun) {
        if running < PARALLEL as i64 {
            idle += *moment - since;
        }
        running += change;
        since = *moment;
    }
    Ok(Restarted { wall: start.elapsed(), idle })
}

/// How many requests a workload takes, besides lists that many share: counted on one namespace.
fn requests(cluster: &Cluster, namespaces: &[String]) -> Result<f64> {
    let name = &namespaces[0];
    cluster.namespace(name, Follows::Revision("1-26-0"))?;
    let interceptor = Interceptor::before(cluster, |_| Fate::Pass)?;
    let mut command = Command::new(plugin("kubectl-mesh_upgrade"));
    command.args(["restart", "-n", name, "--yes", "--server", interceptor.address()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.env("KUBECONFIG", cluster.folder().join("none")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restarted = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(": restarted, ")).count();
    let of_one = |request: &&String| request.contains("/deployments/") || request.contains("/pods");
    let requests = interceptor.requests();
    let counted = requests.iter().filter(of_one).count();
    ensure!(restarted > 0, "nothing was restarted");
    Ok(counted as f64 / restarted as f64)
}

/// As people do it: namespace by namespace, all at once, and then wait for each.
fn by_kubectl(cluster: &Cluster) -> Result<Duration> {
    let script = "for ns in $(kubectl get ns -o name | grep team- | cut -d/ -f2); do
        kubectl -n $ns rollout restart deployment
        for name in $(kubectl -n $ns get deployment -o name); do kubectl -n $ns rollout status $name; done
    done";
    let kubectl = Program::Kubectl.path()?;
    let folder = kubectl.parent().context("kubectl is in a folder")?.display().to_string();
    let mut command = Command::new("bash");
    command.args(["-e", "-c", script]).env("PATH", format!("{folder}:{}", env::var("PATH").unwrap_or_default()));
    command.env("KUBECONFIG", cluster.kubeconfig_file()).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    ensure!(status.success(), "the loop ended with {status}");
    Ok(start.elapsed())
}
