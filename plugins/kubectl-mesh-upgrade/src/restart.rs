//! `mesh-upgrade restart`: restarts what is stale, in waves, and proves each result.

mod engine;
mod event;
mod eviction;
mod proxies;
mod rollout;
mod wave;

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh::cluster::access::{Permission, Probing, manifest, permissions};
use mesh::cluster::{Observer, Scope, read};
use mesh::object::{LabelSelector, Object, Resource};
use mesh::refusal::Refusal;
use mesh::snapshot::Detail;
use mesh::state::State;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::question::{Consent, ask};
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::{Verdict, verdicts};
use serde::Deserialize;

use crate::args::Invocation;
use crate::restart::engine::{Engine, Limits};
use crate::restart::event::Events;
use crate::restart::wave::{Item, Waving, waves};

/// Arguments of `restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// Workloads to restart, if they are stale: TYPE/NAME …
    #[arg(value_name = "TYPE/NAME")]
    pub subjects: Vec<String>,

    /// Namespace; the context's when left out
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,

    /// Only workloads whose pods have these labels: =, ==, !=, in, notin, KEY, !KEY
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,

    /// Workloads to restart, if they are stale, as mesh-proxyver -o refs writes them: a file, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "subjects")]
    pub filename: Option<PathBuf>,

    /// Which states are restarted
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = State::from_str, default_value = "orphaned,stale")]
    pub states: Vec<State>,

    /// Waves of so many percent of the workloads, such as 10,50,100; without it a wave is a namespace
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: Vec<u8>,

    /// Only this wave, counted from 1
    #[arg(long, value_name = "N")]
    pub wave: Option<usize>,

    /// How many workloads roll out at once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel: u16,

    /// Stop after so many failures
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_failures: u16,

    /// How long one workload may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,

    /// Wait so many seconds between waves
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub pause: u64,

    /// Run a command between waves; unless it ends with 0, nothing more is restarted
    #[arg(long, value_name = "COMMAND")]
    pub gate: Option<String>,

    /// How long the gate may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub gate_timeout: u64,

    /// Only show the waves
    #[arg(long)]
    pub dry_run: bool,

    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// How events are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line an event
    Text,
    /// A JSON document an event
    Json,
}

/// Runs it.
pub async fn run(invocation: &Invocation, args: &RestartArgs, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let named = named(args)?;
    let mut scope =
        Scope { namespace: args.namespace.clone(), selector: None, istio_namespace: invocation.common.istio_namespace.clone() };
    // References name their namespaces themselves.
    let is_everywhere = args.all_namespaces || (args.filename.is_some() && args.namespace.is_none());
    if invocation.common.explain_rbac {
        let rules = manifest(&needed(&scope), "mesh-upgrade-restart");
        terminal.out.write_all(rules.as_bytes())?;
        return Ok(Exit::Done);
    }
    let selector =
        args.selector.as_deref().map(LabelSelector::from_str).transpose().map_err(|error| Stop::Usage(error.to_string()))?;
    let connection = invocation.connect().await?;
    if !is_everywhere && scope.namespace.is_none() {
        scope.namespace = Some(connection.namespace.clone());
    }
    if is_everywhere {
        scope.namespace = None;
    }
    let snapshot = read(&connection, &scope, Detail::Workloads, &Nobody).await?;
    let all = verdicts(&snapshot, &HashMap::new());
    let labels_of = |verdict: &Verdict| {
        let place = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(&verdict.workload));
        place.map(|place| snapshot.workloads[place].template.labels.clone()).unwrap_or_default()
    };
    let is_meant = |verdict: &&Verdict| {
        (named.is_empty() || named.iter().any(|name| name.is(verdict)))
            && selector.as_ref().is_none_or(|selector| selector.matches(&labels_of(verdict)) == Ok(true))
    };
    check_named(&named, &all)?;
    let meant: Vec<&Verdict> = all.iter().filter(is_meant).collect();
    let (items, others): (Vec<&&Verdict>, Vec<&&Verdict>) =
        meant.iter().partition(|verdict| args.states.contains(&verdict.state) && verdict.restart.is_possible());
    tell_others(&others, args, terminal)?;
    let items: Vec<Item> = items.into_iter().map(|verdict| Item::new(verdict)).collect();
    if items.is_empty() {
        writeln!(terminal.err, "Nothing to restart: no workload here is {}.", states(args))?;
        return Ok(Exit::Done);
    }
    let waving = if args.percent.is_empty() { Waving::ByNamespace } else { Waving::ByPercent(args.percent.clone()) };
    let mut waves = waves(items, &waving);
    let total = waves.len();
    if let Some(number) = args.wave {
        if number == 0 || number > total {
            return Err(Stop::Usage(format!(
                "there are {}, so --wave {number} is none of them",
                plural(total as u64, "wave", "waves")
            )));
        }
        waves.retain(|wave| wave.number == number);
    }
    let mut events = Events::new(args.output);
    for wave in &waves {
        events.planned(wave, total, terminal)?;
    }
    if args.dry_run {
        return Ok(Exit::Done);
    }
    let count: usize = waves.iter().map(|wave| wave.items.len()).sum();
    let question =
        format!("Restart {} in {}?", plural(count as u64, "workload", "workloads"), plural(waves.len() as u64, "wave", "waves"));
    ask(terminal, &question, Consent::from_flag(args.yes))?;
    let limits = Limits {
        parallel: args.max_parallel.into(),
        failures: args.max_failures.into(),
        timeout: Duration::from_secs(args.timeout),
        pause: Duration::from_secs(args.pause),
        gate: args.gate.clone(),
        gate_timeout: Duration::from_secs(args.gate_timeout),
    };
    let engine = Engine::new(&connection, &snapshot, limits);
    engine.run(&waves, &mut events, terminal).await
}

/// What is needed: reading, dry runs, patches and evictions.
fn needed(scope: &Scope) -> Vec<Permission> {
    let mut needed = permissions(scope, Probing::Yes);
    needed.extend(engine::permissions(scope.namespace.as_deref()));
    needed.sort();
    needed.dedup();
    needed
}

fn states(args: &RestartArgs) -> String {
    args.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" or ")
}

/// What was asked for and is not restarted is told, with the reason.
fn tell_others(others: &[&&Verdict], args: &RestartArgs, terminal: &mut Terminal) -> Result<(), Stop> {
    for verdict in others.iter().filter(|verdict| verdict.state != State::Current) {
        let id = &verdict.workload;
        let is_stuck = args.states.contains(&verdict.state) || verdict.state == State::Blocked || verdict.state == State::Unknown;
        if is_stuck {
            let advice = verdict.advice("kubectl");
            writeln!(terminal.err, "not restarted: {} -n {} is {}: {advice}", id.qualified_name(), id.namespace, verdict.state)?;
        }
    }
    Ok(())
}

/// A workload that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    kind: String,
    name: String,
    /// Any when `None`.
    namespace: Option<String>,
}

impl Named {
    fn is(&self, verdict: &Verdict) -> bool {
        let id = &verdict.workload;
        self.kind.eq_ignore_ascii_case(&id.kind)
            && self.name == *id.name
            && self.namespace.as_deref().is_none_or(|namespace| namespace == &*id.namespace)
    }
}

/// One line of `mesh-proxyver -o refs`.
#[derive(Deserialize)]
struct Reference {
    kind: String,
    metadata: ReferenceMetadata,
}

#[derive(Deserialize)]
struct ReferenceMetadata {
    name: String,
    namespace: Option<String>,
}

/// The workloads that were named on the command line or in a file.
fn named(args: &RestartArgs) -> Result<Vec<Named>, Stop> {
    if let Some(path) = &args.filename {
        let text = if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(|error| Stop::Message(format!("reading standard input: {error}")))?;
            text
        } else {
            std::fs::read_to_string(path).map_err(|error| Stop::Message(format!("reading {}: {error}", path.display())))?
        };
        let references = serde_json::Deserializer::from_str(&text).into_iter::<Reference>();
        let named = references.map(|reference| {
            let Reference { kind, metadata } = reference.map_err(|error| {
                Stop::Message(format!("{} is not what mesh-proxyver -o refs writes: {error}", path.display()))
            })?;
            Ok(Named { kind, name: metadata.name, namespace: metadata.namespace })
        });
        let named = named.collect::<Result<Vec<_>, Stop>>()?;
        if named.is_empty() {
            // An empty pipe means that nothing is stale; restarting everything instead would be the opposite.
            return Err(Stop::Message(format!("{} names no workload; nothing was restarted", path.display())));
        }
        return Ok(named);
    }
    let parse = |word: &String| match word.split('/').collect::<Vec<_>>()[..] {
        [kind, name] if !kind.is_empty() && !name.is_empty() => {
            Ok(Named { kind: kind_of(kind), name: name.to_owned(), namespace: None })
        }
        _ => Err(Stop::Usage(format!("{word:?} names nothing: TYPE/NAME is expected"))),
    };
    args.subjects.iter().map(parse).collect()
}

/// The kind behind a type as kubectl takes it.
fn kind_of(typed: &str) -> String {
    let plain = typed.split('.').next().unwrap_or(typed).to_lowercase();
    let kind = match plain.as_str() {
        "deploy" | "deployments" => "deployment",
        "sts" | "statefulsets" => "statefulset",
        "ds" | "daemonsets" => "daemonset",
        "rs" | "replicasets" => "replicaset",
        "ro" | "rollouts" => "rollout",
        other => other,
    };
    kind.to_owned()
}

/// What was named and is nowhere is an error, as in kubectl.
fn check_named(named: &[Named], verdicts: &[Verdict]) -> Result<(), Stop> {
    let missing: BTreeSet<String> = named
        .iter()
        .filter(|name| !verdicts.iter().any(|verdict| name.is(verdict)))
        .map(|name| {
            format!(
                "{}/{}{}",
                name.kind.to_lowercase(),
                name.name,
                name.namespace.as_ref().map_or(String::new(), |namespace| format!(" -n {namespace}"))
            )
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::not_found(
        "these workloads are not there, or no part of the mesh; nothing was restarted",
        "kubectl mesh-proxyver -A",
    );
    Err(refusal.with(missing.into_iter().collect()).into())
}

/// Sees nothing.
struct Nobody;

impl Observer for Nobody {
    fn object(&self, _object: &Object) {}
    fn restart(&self, _resource: Resource) {}
}
