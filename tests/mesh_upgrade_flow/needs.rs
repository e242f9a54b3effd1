//! What a command asks of the API server, against what it says that it may ask: the whole flow behind a recording server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::intercept::{Call, Fate, Interceptor};
use support::rbac::{Permission, asked, covers, permissions};
use support::{IstioVersion, Output, Revision, Session, Workload, plugins};

use crate::world::{Following, NEW, World};

/// What is said and not asked for by any run here, with the reason: verbs (`*` for all), what it is on, RBAC's verbs, why.
const UNASKED: &[(&str, &str, &[&str], &str)] = &[
    ("*", "configmaps", &["list"], "only where an injector's ConfigMap has another name than Istio's own, as on AKS"),
    ("*", "strimzipodsets, clusters", &["get", "list", "patch"], "no operator runs here; tests of restart ask them"),
    ("*", "gateway.networking.x-k8s.io, install.istio.io", &["list"], "not served here"),
    ("*", "pods/proxy, replicasets", &["get"], "only where clients elsewhere may use it; tests of completion ask istiods"),
    ("*", "poddisruptionbudgets", &["create", "get", "patch", "delete"], "the chart makes one only for several istiods"),
    ("mesh-upgrade start", "clusterroles, roles", &["escalate", "bind"], "the API server asks itself, and nobody sees it"),
    ("mesh-upgrade start", "customresourcedefinitions", &["create"], "the older mesh has all of them"),
    ("mesh-upgrade start", "namespaces", &["patch"], "istio-system is here, and left alone"),
    ("mesh-upgrade start", "secrets", &["get", "delete"], "only of a release of helm that is here already"),
    ("mesh-upgrade start", "events", &["list"], "only where istiod's own pods do not get ready: those of a kwok node always do"),
    ("mesh-upgrade rollback", "secrets", &["get", "list", "update", "delete"], "helm has not installed what goes there"),
    (
        "mesh-upgrade status, mesh-upgrade targets, mesh-upgrade rollback",
        "horizontalpodautoscalers, poddisruptionbudgets, deployments, services, networkpolicies, configmaps, rolebindings, roles, \
         clusterrolebindings, clusterroles, serviceaccounts",
        &["get"],
        "only of a revision of which a part is here",
    ),
    ("mesh-upgrade rollback", "serviceaccounts", &["list"], "only where no revision is here that could be left"),
    ("mesh-upgrade rollback", "events", &["list"], "only when a restart fails, as one of restart does"),
    ("mesh-upgrade rollback", "controllerrevisions", &["list"], "only where a roll-out is stuck; tests of such ask for them"),
    (
        "mesh-upgrade rollback",
        "pods",
        &["get", "delete"],
        "only for a broken pod that a budget keeps; tests of stuck roll-outs do it",
    ),
    ("*", "poddisruptionbudgets", &["list"], "only where pods are evicted; tests of budgets list them"),
    (
        "mesh-tag remove, mesh-tag undo, mesh-upgrade rollback",
        "services, mutatingwebhookconfigurations",
        &["create", "update"],
        "what is deleted last is put back only when nothing tells whether it went",
    ),
    ("mesh-tag remove", "validatingwebhookconfigurations", &["get", "update"], "only with the tag `default`, which is kept here"),
    (
        "mesh-tag set, mesh-tag undo, mesh-tag remove, mesh-upgrade rollback",
        "validatingwebhookconfigurations",
        &["create", "delete"],
        "the default validator is here; only where it is not, it is made, and deleted when that is put back",
    ),
];

/// One command that was run.
struct Run {
    line: String,
    /// What it says that it needs.
    said: Vec<Permission>,
    /// Whether it says that a pod may be created as a dry run in another namespace, for whom that is allowed.
    says_elsewhere: bool,
    /// What it has asked for.
    asked: BTreeSet<Permission>,
}

/// Runs commands, each behind a recording server of its own.
struct Recorder<'a> {
    world: &'a World,
    server: Interceptor,
    runs: Vec<Run>,
    /// What has ended otherwise than it should.
    failed: Vec<String>,
}

impl Recorder<'_> {
    /// Runs a command that has to end with one of these codes.
    fn run(&mut self, words: &[&str], codes: &[i32]) -> Result<Output> {
        self.run_against(words, codes, |_| Fate::Pass, |_| Ok(()))
    }

    /// The same, where the server spoils some requests, and something happens beside it.
    fn run_against(
        &mut self,
        words: &[&str],
        codes: &[i32],
        judge: impl Fn(&Call) -> Fate + Send + Sync + 'static,
        beside: impl FnOnce(&World) -> Result<()>,
    ) -> Result<Output> {
        let recording = self.server.beside(judge)?;
        let session = self.session(&recording)?;
        let said = said(&session, words)?;
        let running = session.start(words)?;
        beside(self.world)?;
        let output = running.finish()?;
        // All that is wrong is said at once, at the end.
        if !output.code.is_some_and(|code| codes.contains(&code)) {
            self.failed.push(output.transcript());
        }
        self.note(words, said, &recording);
        Ok(output)
    }

    /// Runs a command that goes on for ever, until it has asked for what it waits by.
    fn watch(&mut self, words: &[&str]) -> Result<()> {
        let recording = self.server.beside(|_| Fate::Pass)?;
        let session = self.session(&recording)?;
        let said = said(&session, words)?;
        let mut running = session.start(words)?;
        let is_watching = || recording.requests().iter().filter(|request| request.contains("watch=true")).count() >= 4;
        self.world.cluster.wait("the watches", Duration::from_secs(30), || Ok(is_watching().then_some(())))?;
        running.interrupt()?;
        running.finish()?;
        self.note(words, said, &recording);
        Ok(())
    }

    fn session(&self, recording: &Interceptor) -> Result<Session> {
        let session = plugins(&["mesh-upgrade", "mesh-tag", "mesh-proxyver"])?;
        let session = session.with_istioctl(IstioVersion::V1_28_2)?.with_helm()?.through(recording)?;
        Ok(session.time_limit(Duration::from_secs(180)))
    }

    fn note(&mut self, words: &[&str], (said, says_elsewhere): (Vec<Permission>, bool), recording: &Interceptor) {
        let mut all: BTreeSet<Permission> = recording.requests().iter().filter_map(|request| asked(request)).collect();
        // A server-side apply that makes an object is a creation too.
        let made = recording.creating().into_iter().filter_map(|request| asked(&request));
        all.extend(made.map(|(namespace, group, resource, _)| (namespace, group, resource, "create".to_owned())));
        self.runs.push(Run { line: words.join(" "), said, says_elsewhere, asked: all });
    }
}

/// What a command line says that it needs. Flags behind `--` are another program's, so ours comes first.
fn said(session: &Session, words: &[&str]) -> Result<(Vec<Permission>, bool)> {
    let (plugin, rest) = words.split_first().context("a plugin")?;
    let printed = session.run([plugin, &"--explain-rbac"].into_iter().chain(rest))?;
    Ok((permissions(&printed)?, printed.stdout.contains("in another one, if you may create pods there")))
}

/// The verb of a command line.
fn verb(line: &str) -> String {
    let mut words = line.split(' ');
    let plugin = words.next().unwrap_or_default();
    match words.next() {
        Some(verb) if plugin != "mesh-proxyver" => format!("{plugin} {verb}"),
        _ => plugin.to_owned(),
    }
}

fn shown((namespace, group, resource, verb): &Permission) -> String {
    let place = namespace.as_deref().map_or(String::new(), |namespace| format!(" -n {namespace}"));
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}{place}")
}

/// Every request that was made and is not among what its command says.
fn unsaid(runs: &[Run]) -> Vec<String> {
    let of_run = |run: &Run| -> Vec<String> {
        let is_elsewhere = |asked: &Permission| run.says_elsewhere && asked.2 == "pods" && asked.3 == "create";
        let missing = run.asked.iter().filter(|asked| !is_elsewhere(asked) && !run.said.iter().any(|said| covers(said, asked)));
        missing.map(|asked| format!("{}: {}", run.line, shown(asked))).collect()
    };
    runs.iter().flat_map(of_run).collect()
}

/// What a verb says and no run of it has asked for, but for the exceptions; and the exceptions of which nothing comes.
fn unasked(runs: &[Run]) -> Vec<String> {
    type Requests = BTreeSet<Permission>;
    let mut by_verb: BTreeMap<String, (Requests, Requests)> = BTreeMap::new();
    for run in runs {
        let (said, used) = by_verb.entry(verb(&run.line)).or_default();
        // Where it is said is compared request by request; here the same in another namespace is the same.
        let anywhere = |(_, group, resource, verb): &Permission| (None, group.clone(), resource.clone(), verb.clone());
        said.extend(run.said.iter().map(anywhere));
        let asked = run.said.iter().filter(|said| run.asked.iter().any(|asked| covers(said, asked)));
        used.extend(asked.map(anywhere));
    }
    let mut excused = BTreeSet::new();
    let mut idle = Vec::new();
    for (verb, (said, used)) in &by_verb {
        for permission in said.difference(used) {
            let exception = UNASKED.iter().position(|(verbs, on, does, _)| {
                (*verbs == "*" || verbs.split(", ").any(|one| one == verb))
                    && on.split(", ").any(|one| one == if permission.2 == "*" { &permission.1 } else { &permission.2 })
                    && does.contains(&permission.3.as_str())
            });
            match exception {
                Some(place) => drop(excused.insert(place)),
                None => idle.push(format!("{verb} never asks for: {}", shown(permission))),
            }
        }
    }
    let stale = UNASKED.iter().enumerate().filter(|(place, _)| !excused.contains(place));
    idle.extend(stale.map(|(_, (verbs, on, does, _))| format!("an exception of which nothing comes: {verbs}: {does:?} {on}")));
    idle
}

/// A conflict at the first patch of each object: it is read and patched again.
fn conflicting(call: &Call) -> Fate {
    if call.method == "PATCH" && call.of_path == 0 { Fate::Status(409) } else { Fate::Pass }
}

/// The answer to the first write of each object of a kind (or of all, `/`) is lost: it is looked up.
fn forgetful(of: &'static str) -> impl Fn(&Call) -> Fate + Send + Sync {
    let lost = Mutex::new(BTreeSet::new());
    move |call| {
        let path = call.target.split('?').next().unwrap_or_default().to_owned();
        let is_first = call.is_write() && path.contains(of) && lost.lock().is_ok_and(|mut lost| lost.insert(path));
        if is_first { Fate::Lose } else { Fate::Pass }
    }
}

/// Pods are denied from the second on: what is proved before the writes is not proved after them, and everything is put back.
fn doubting() -> impl Fn(&Call) -> Fate + Send + Sync {
    let pods = AtomicUsize::new(0);
    move |call| {
        let is_pod = call.method == "POST" && call.target.contains("/pods?");
        if is_pod && pods.fetch_add(1, Ordering::SeqCst) > 0 { Fate::Status(403) } else { Fate::Pass }
    }
}

/// One kind is not deleted: what went before is made anew.
fn keeping(plural: &'static str) -> impl Fn(&Call) -> Fate + Send + Sync {
    move |call| if call.method == "DELETE" && call.target.contains(plural) { Fate::Status(403) } else { Fate::Pass }
}

#[test]
fn what_is_asked_for_is_what_is_said_and_all_of_it() -> Result<()> {
    let world = World::new(&Revision::of(IstioVersion::V1_26_0).by_manifests(), Following::Tag, 2, 8)?;
    let (first, second) = (world.namespaces[0].as_str(), world.namespaces[1].as_str());
    let namespace = world.cluster.namespace_named(first);
    namespace.run(&Workload::pod("bare"))?;
    namespace.create(&Workload::cron_job("nightly").runs_for(Duration::from_secs(3600)))?;
    world.cluster.kubectl(["-n", first, "create", "job", "--from=cronjob/nightly", "tonight"])?;
    namespace.run(&Workload::job("once").runs_for(Duration::from_secs(3600)))?;
    // It is stale, and never gets ready: a restart of it fails.
    world.cluster.namespace_named(second).create(&Workload::deployment("late").never_ready())?;
    namespace.gateway("edge", "istio", json!({"istio.io/rev": world.old}))?;

    let server = Interceptor::before(&world.cluster, |_| Fate::Pass)?;
    let mut recorder = Recorder { world: &world, server, runs: Vec::new(), failed: Vec::new() };
    let told = &mut recorder;

    told.run(&["mesh-upgrade", "targets"], &[0])?;
    told.run(&["mesh-upgrade", "precheck", "--to", "1.28.2"], &[0, 4])?;
    let parts = [
        start(told, &world),
        tags(told, first, second),
        looks(told, first),
        restarts(told, &world, first, second),
        back_and_away(told, first, second),
    ];
    let ended = parts.into_iter().filter_map(Result::err).map(|error| format!("{error:#}"));
    let Recorder { runs, failed, .. } = &recorder;
    let wrong: Vec<String> = ended.chain(failed.iter().cloned()).chain(unsaid(runs)).chain(unasked(runs)).collect();
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn start(told: &mut Recorder<'_>, world: &World) -> Result<()> {
    // Everything that the chart renders for some settings only: network policies and admission policies.
    let settings = ["values.global.networkPolicy.enabled=true", "values.experimental.stableValidationPolicy=true"];
    let new = settings.into_iter().fold(Revision::of(IstioVersion::V1_28_2), Revision::set);
    let file = world.session.home().join("manifests.yaml");
    fs::write(&file, new.manifests(&world.cluster)?)?;
    let file = file.to_string_lossy().into_owned();
    let words = ["mesh-upgrade", "start", "--revision", NEW, "--yes", "-f", &file];
    told.run(&[&words[..], &["--dry-run"]].concat(), &[0])?;
    // Nobody starts an istiod.
    told.run(&[&words[..], &["--timeout", "10"]].concat(), &[5])?;
    told.run_against(&words, &[0], forgetful("/customresourcedefinitions/"), |world| {
        world.cluster.start_istiod_when_installed(&new)
    })?;

    let helm = Revision::new("by-helm", IstioVersion::V1_28_2).by_helm();
    let arguments = helm.helm_arguments()?;
    let words = ["mesh-upgrade", "start", "--revision", "by-helm", "--yes", "--with", "helm", "--", "install"];
    let words: Vec<&str> = words.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    told.run_against(&words, &[0], |_| Fate::Pass, |world| world.cluster.start_istiod_when_installed(&helm))?;
    let istioctl = Revision::new("by-istioctl", IstioVersion::V1_28_2);
    let settings = [
        "-y",
        "--set=revision=by-istioctl",
        "--set=profile=minimal",
        "--set=tag=1.28.2",
        "--set=values.global.networkPolicy.enabled=true",
        "--set=values.experimental.stableValidationPolicy=true",
    ];
    let words = ["mesh-upgrade", "start", "--revision", "by-istioctl", "--yes", "--accept-default-tag"];
    let words: Vec<&str> = words.into_iter().chain(["--with", "istioctl", "--", "install"]).chain(settings).collect();
    told.run_against(&words, &[0], |_| Fate::Pass, |world| world.cluster.start_istiod_when_installed(&istioctl))?;
    Ok(())
}

fn tags(told: &mut Recorder<'_>, first: &str, second: &str) -> Result<()> {
    told.run_against(&["mesh-tag", "set", "prod-canary", "--revision", NEW, "--yes"], &[0], forgetful("/"), |_| Ok(()))?;
    told.run(&["mesh-tag", "list"], &[0])?;
    told.run(&["mesh-tag", "describe", "prod-canary"], &[0])?;
    told.run(&["mesh-tag", "generate", "other", "--revision", NEW], &[0])?;
    let nothing = |_: &World| Ok(());
    told.run(&["mesh-tag", "set", "prod-canary", "--revision", "by-helm", "--overwrite", "--yes"], &[0])?;
    told.run_against(&["mesh-tag", "undo", "prod-canary", "--yes"], &[0], forgetful("/"), nothing)?;
    // It is put back, made, unmade by undo, made again, and removed at the second try.
    let spare = ["mesh-tag", "set", "spare", "--revision", NEW, "--yes"];
    told.run_against(&spare, &[1, 4, 5], doubting(), nothing)?;
    told.run(&spare, &[0])?;
    told.run_against(&["mesh-tag", "undo", "spare", "--yes"], &[0], forgetful("/"), nothing)?;
    told.run(&spare, &[0])?;
    told.run_against(&["mesh-tag", "remove", "spare", "--yes"], &[1, 4, 5], keeping("services"), nothing)?;
    told.run_against(&["mesh-tag", "remove", "spare", "--yes"], &[0], forgetful("/"), nothing)?;
    // istioctl has let the tag `default` follow what it has installed.
    let default = ["mesh-tag", "set", "default", "--revision", NEW, "--from", "by-istioctl", "--yes"];
    told.run_against(&default, &[0], forgetful("/"), nothing)?;
    told.run_against(&["mesh-tag", "undo", "default", "--yes"], &[0], forgetful("/"), nothing)?;
    told.run(&default, &[0])?;
    told.run_against(&["mesh-tag", "attach", "prod-canary", first, "--overwrite"], &[0], forgetful("/"), nothing)?;
    told.run(&["mesh-tag", "detach", first, "--dry-run=server"], &[0])?;
    told.run(&["mesh-tag", "detach", first], &[0])?;
    told.run(&["mesh-tag", "attach", "prod-canary", first], &[0])?;
    told.run(&["mesh-tag", "attach", NEW, "-l", &format!("kubernetes.io/metadata.name={second}"), "--overwrite"], &[0])?;
    Ok(())
}

fn looks(told: &mut Recorder<'_>, first: &str) -> Result<()> {
    told.run(&["mesh-proxyver", "-A"], &[0])?;
    told.run(&["mesh-proxyver", "-n", first, "--probe=all"], &[0])?;
    told.watch(&["mesh-proxyver", "-n", first, "-w"])?;
    told.run(&["mesh-upgrade", "status"], &[0])?;
    told.watch(&["mesh-upgrade", "status", "-w"])
}

fn restarts(told: &mut Recorder<'_>, world: &World, first: &str, second: &str) -> Result<()> {
    let plan = told.run(&["mesh-upgrade", "plan", "-n", first], &[0])?;
    let file = world.session.home().join("plan.yaml");
    fs::write(&file, &plan.stdout)?;
    let file = file.to_str().context("a path")?.to_owned();
    told.run(&["mesh-upgrade", "restart", "-n", second, "--dry-run"], &[0])?;
    told.run_against(&["mesh-upgrade", "restart", "--plan", &file, "--yes", "--max-parallel", "20"], &[0], conflicting, |_| {
        Ok(())
    })?;
    told.run(&["mesh-upgrade", "restart", "-n", second, "deployment/late", "--yes", "--timeout", "2"], &[5])?;
    world.cluster.namespace_named(second).delete(&Workload::deployment("late").never_ready())?;
    // The answer of each eviction is lost, so that it is looked up.
    let all = ["mesh-upgrade", "restart", "-A", "--yes", "--max-parallel", "20"];
    told.run_against(&all, &[0], forgetful("/eviction"), |_| Ok(()))?;
    ensure!(world.revisions(second)?.iter().eq([NEW]), "everything runs the new revision");
    Ok(())
}

fn back_and_away(told: &mut Recorder<'_>, first: &str, second: &str) -> Result<()> {
    told.world.cluster.kubectl([
        "-n",
        first,
        "label",
        "gateway.gateway.networking.k8s.io",
        "edge",
        "istio.io/rev=1-28-2",
        "--overwrite",
    ])?;
    told.run(&["mesh-upgrade", "complete", "--remove", "by-helm", "--dry-run"], &[0, 4])?;
    told.run(&["mesh-upgrade", "complete", "--remove", "by-helm", "--yes"], &[0])?;
    told.run(&["mesh-upgrade", "complete", "--remove", "by-istioctl", "--yes"], &[0])?;
    let words = ["mesh-upgrade", "rollback", "--to", "1-26-0", "--accept-gateway-restart", "--yes"];
    told.run(&[&words[..], &["--dry-run"]].concat(), &[0])?;
    told.run_against(&[&words[..], &["--remove", "--max-parallel", "20"]].concat(), &[0], forgetful("/"), |_| Ok(()))?;
    ensure!(told.world.revisions(second)?.iter().eq(["1-26-0"]), "everything is back");
    for kind in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        let left = told.world.cluster.api().get(&format!("/apis/admissionregistration.k8s.io/v1/{kind}"))?;
        ensure!(!left.to_string().contains("stable-channel-policy"), "{kind} of a revision that went are left: {left:#}");
    }
    Ok(())
}
