//! `mesh-tag attach` and `detach`: the labels by which namespaces follow a tag or a revision.

use mesh::advice::{Advice, Command};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

use mesh::change::Subject;
use mesh::cluster::apply::relabel as relabel_object;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::read_object;
use mesh::cluster::read::installation_needs;
use mesh::cluster::read_back::label_differences;
use mesh::cluster::review::{self, Intended, check_permitted};
use mesh::cluster::{List, Scope, Unobserved, read, read_installation};
use mesh::execution;
use mesh::injection::is_never_injected;
use mesh::installation::{Installation, label, name};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::{LabelSelector, Resource, StringMap};
use mesh::outcome;
use mesh::owner::owner_of_labels;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::snapshot::Detail;
use mesh::state::State;
use mesh::tag::{self, GatewayRevisions, check_answers, unread_of_gateways};
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::DryRun;
use mesh::verdict::verdicts;
use serde_json::Value;

use crate::args::{AttachArgs, DetachArgs, NamespacesArgs};
use crate::set::{ASKED, too_far};

/// So many namespaces are looked at one by one; more are read with all others.
const ONE_BY_ONE: usize = 8;

/// One namespace to label.
struct Relabelling {
    namespace: Value,
    /// What its labels become: `None` removes one.
    labels: BTreeMap<&'static str, Option<String>>,
}

/// What `attach` may ask for.
pub fn attach_needs(args: &AttachArgs, typed: &Scope) -> Needs {
    installation_needs(typed).and(labelling_needs(&args.namespaces, typed))
}

/// What `detach` may ask for.
pub fn detach_needs(args: &DetachArgs, typed: &Scope) -> Needs {
    installation_needs(typed).and(labelling_needs(&args.namespaces, typed))
}

fn labelling_needs(args: &NamespacesArgs, typed: &Scope) -> Needs {
    let verb = if args.selector.is_some() { "list" } else { "get" };
    let finding = Needs::default().require(None, [Resource::Namespaces], &[verb]);
    match args.dry_run {
        DryRun::Client => finding,
        DryRun::Server => finding.and(execution::labelling_needs(&[])),
        DryRun::None => finding.and(execution::labelling_needs(&places(args, typed))).and(review::needs()),
    }
}

/// Where it is looked at what is stale afterwards, as far as the command line says it.
fn places(args: &NamespacesArgs, typed: &Scope) -> Vec<Scope> {
    let are_few = !args.names.is_empty() && args.names.len() <= ONE_BY_ONE && !args.names.iter().any(|name| name == "-");
    if are_few { args.names.iter().map(|name| typed.within(Some(&plain_name(name)))).collect() } else { vec![typed.within(None)] }
}

/// Lets namespaces follow a tag or revision.
pub async fn attach(session: &mut Session, args: &AttachArgs) -> Result<Exit, Stop> {
    let ignored = args.ignored.of(&ASKED)?;
    let connection = session.connect_for(args.namespaces.dry_run.into()).await?;
    let installation = read_installation(&connection, session.istio_namespace()).await?;
    let namespaces = find_namespaces(&connection, &args.namespaces).await?;
    let wanted = BTreeMap::from([(labels::REVISION, Some(args.target.clone())), (labels::INJECTION, None)]);
    check_places(&installation, &namespaces)?;
    check_target(&installation, &args.target, &namespaces)?;
    let changes = changes(namespaces, &wanted);
    check_lasting(&changes)?;
    let snapshot = &installation.snapshot;
    let far = changes.iter().filter(|change| !change.labels.is_empty()).filter_map(|change| {
        let of = |value: &str| snapshot.revision_of_tag(value).unwrap_or(value).to_owned();
        let followed = match label(&change.namespace, labels::INJECTION) {
            Some("enabled") => tag::DEFAULT,
            _ => label(&change.namespace, labels::REVISION)?,
        };
        let why = too_far(snapshot, &of(followed), &of(&args.target))?;
        Some((format!("namespaces/{}", name(&change.namespace)), why))
    });
    ignored.check("nothing was changed", far.collect())?;
    check_owners(&changes)?;
    if !args.namespaces.overwrite {
        check_free(&changes, &args.target)?;
    }
    check_gateways(&installation, &changes, Some(&args.target), args.namespaces.accept_gateway_restart)?;
    relabel(session, &args.namespaces, changes, &wanted, &format!("follows {}", args.target)).await
}

/// Lets namespaces follow nothing.
pub async fn detach(session: &mut Session, args: &DetachArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(args.namespaces.dry_run.into()).await?;
    let installation = read_installation(&connection, session.istio_namespace()).await?;
    let namespaces = find_namespaces(&connection, &args.namespaces).await?;
    let wanted = BTreeMap::from([(labels::REVISION, None), (labels::INJECTION, None)]);
    let changes = changes(namespaces, &wanted);
    check_owners(&changes)?;
    check_gateways(&installation, &changes, None, args.namespaces.accept_gateway_restart)?;
    relabel(session, &args.namespaces, changes, &wanted, "follows nothing").await
}

/// The namespaces that are meant, whole. When one of them is not there, none is changed.
async fn find_namespaces(connection: &Connection, args: &NamespacesArgs) -> Result<Vec<Value>, Stop> {
    if let Some(selector) = &args.selector {
        if !args.names.is_empty() {
            return Err(Stop::Usage("give names or -l, not both".to_owned()));
        }
        let selector: LabelSelector =
            selector.parse().map_err(|error: mesh::object::InvalidSelector| Stop::Usage(error.to_string()))?;
        let all = List::of(Resource::Namespaces).whole(connection).await?;
        let labels_of = |namespace: &Value| -> StringMap {
            serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap_or_default()
        };
        let found: Vec<Value> = all.into_iter().filter(|namespace| selector.matches(&labels_of(namespace)) == Ok(true)).collect();
        if found.is_empty() {
            return Err(
                Refusal::not_found("no namespace has these labels", Command::kubectl("get namespaces --show-labels")).into()
            );
        }
        return Ok(found);
    }
    let names = typed_names(&args.names)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in &names {
        match read_object(connection, &Subject::new(Resource::Namespaces, None, name)).await? {
            Some(namespace) => found.push(namespace),
            None => missing.push(format!("namespaces/{name}")),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let reason = "these namespaces do not exist; none was changed";
    Err(Refusal::not_found(reason, Command::kubectl("get namespaces")).with(missing).into())
}

/// The names that were typed, with `-` replaced by those on standard input. `namespace/x`, as kubectl prints it, is x.
fn typed_names(names: &[String]) -> Result<BTreeSet<String>, Stop> {
    let mut found = BTreeSet::new();
    for name in names {
        if name == "-" {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map_err(Stop::Output)?;
            let before = found.len();
            found.extend(text.split_whitespace().map(plain_name));
            if found.len() == before {
                return Err(Stop::Message("standard input names no namespace; nothing was changed".to_owned()));
            }
        } else {
            found.insert(plain_name(name));
        }
    }
    if found.is_empty() {
        return Err(Stop::Usage("which namespaces? Give names, - for standard input, or -l".to_owned()));
    }
    Ok(found)
}

fn plain_name(name: &str) -> String {
    let prefixes = ["namespace/", "namespaces/", "ns/"];
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
}

/// A target that nobody answers would leave the namespaces without proxies, or without pods.
fn check_target(installation: &Installation, target: &str, namespaces: &[Value]) -> Result<(), Refusal> {
    let labels_after = |namespace: &Value| -> StringMap {
        let mut labels: StringMap = serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap_or_default();
        labels.remove(labels::INJECTION);
        labels.insert(labels::REVISION.to_owned(), target.to_owned());
        labels
    };
    let after: Vec<(String, StringMap)> =
        namespaces.iter().map(|namespace| (name(namespace).to_owned(), labels_after(namespace))).collect();
    check_answers(installation, target, &after)
}

fn changes(namespaces: Vec<Value>, wanted: &BTreeMap<&'static str, Option<String>>) -> Vec<Relabelling> {
    let differs = |namespace: &Value| wanted.iter().any(|(key, value)| label(namespace, key) != value.as_deref());
    let relabelling = |namespace: Value| {
        let labels = if differs(&namespace) { wanted.clone() } else { BTreeMap::new() };
        Relabelling { namespace, labels }
    };
    namespaces.into_iter().map(relabelling).collect()
}

/// Pods of Kubernetes itself get no proxy whatever the labels say, and a control plane that needs its own injector cannot start.
fn check_places(installation: &Installation, namespaces: &[Value]) -> Result<(), Refusal> {
    let planes = installation.snapshot.control_plane_namespaces();
    let refused = namespaces.iter().map(name).filter_map(|name| {
        let why = if is_never_injected(name) {
            "is a namespace of the system, in which istiod injects no proxies"
        } else if planes.contains(name) {
            "is the namespace of a control plane, whose pods need no proxy to start"
        } else {
            return None;
        };
        Some(format!("namespaces/{name} {why}"))
    });
    let refused: Vec<String> = refused.collect();
    if refused.is_empty() {
        return Ok(());
    }
    let advice = "leave these namespaces out; gateways in them name their revision by a label of their own pods";
    Err(Refusal::new("these namespaces are not for workloads of the mesh; none was changed", advice).with(refused))
}

/// A namespace that is being deleted runs nothing new, and its name may be another's soon.
fn check_lasting(changes: &[Relabelling]) -> Result<(), Refusal> {
    let ending = changes.iter().filter_map(|change| {
        let ending = outcome::ending(&change.namespace)?;
        Some(format!("namespaces/{} {ending}", name(&change.namespace)))
    });
    let ending: Vec<String> = ending.collect();
    if ending.is_empty() {
        return Ok(());
    }
    Err(Refusal::new("these namespaces are being deleted; none was changed", Command::kubectl("get namespaces")).with(ending))
}

fn check_owners(changes: &[Relabelling]) -> Result<(), Refusal> {
    let owned = changes.iter().filter(|change| !change.labels.is_empty()).filter_map(|change| {
        let owner = owner_of_labels(&change.namespace, &[labels::REVISION, labels::INJECTION]);
        (!owner.is_ours_to_write()).then(|| format!("namespaces/{} belongs to {owner}", name(&change.namespace)))
    });
    let owned: Vec<String> = owned.collect();
    if owned.is_empty() {
        return Ok(());
    }
    let (one, other) = (labels::REVISION, labels::INJECTION);
    let advice = Advice::say(format!("change the labels {one} and {other} in the source of their owner"));
    Err(Refusal::new("these namespaces are not ours to change: their owner would put the labels back", advice).with(owned))
}

/// As `kubectl label`: a value that is there is not replaced unasked; nor is a refusal of injection.
fn check_free(changes: &[Relabelling], target: &str) -> Result<(), Refusal> {
    let taken = changes.iter().filter(|change| !change.labels.is_empty()).filter_map(|change| {
        let (revision, injection) = (label(&change.namespace, labels::REVISION), label(&change.namespace, labels::INJECTION));
        let (key, value) = match (revision, injection) {
            (Some(revision), _) if revision != target => (labels::REVISION, revision),
            (_, Some(injection)) if injection != "enabled" => (labels::INJECTION, injection),
            _ => return None,
        };
        Some(format!("namespaces/{} has {key}={value}", name(&change.namespace)))
    });
    let taken: Vec<String> = taken.collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Refusal::new("these namespaces follow something else already; none was changed", "the same command with --overwrite")
        .with(taken))
}

/// istiod gives a Gateway without a label of its own to the revision that its namespace names, at once.
fn check_gateways(
    installation: &Installation,
    changes: &[Relabelling],
    target: Option<&str>,
    may_restart_gateways: bool,
) -> Result<(), Refusal> {
    let changing: Vec<&Value> =
        changes.iter().filter(|change| !change.labels.is_empty()).map(|change| &change.namespace).collect();
    let names: Vec<&str> = changing.iter().map(|namespace| name(namespace)).collect();
    let unread = unread_of_gateways(installation, &names);
    // Who comes to follow a target is served by it; who follows nothing, by the default revision or by none.
    let is_accepted = may_restart_gateways && target.is_some();
    if !unread.is_empty() && !is_accepted {
        let reason = "which Gateways of these namespaces istiod would replace is not known";
        return Err(Refusal::new(reason, "--explain-rbac prints what this command needs").with(unread));
    }
    let now = GatewayRevisions::of(installation);
    let before =
        changing.iter().fold(now, |all, namespace| all.with_namespace(name(namespace), label(namespace, labels::REVISION)));
    let after = names.iter().fold(before.clone(), |all, name| all.with_namespace(name, target));
    let handover = before.handover(&after, &installation.gateways);
    handover.check_served()?;
    if may_restart_gateways { Ok(()) } else { handover.check_consent() }
}

/// Writes the labels, namespace by namespace, and says what is stale then.
async fn relabel(
    session: &mut Session,
    args: &NamespacesArgs,
    changes: Vec<Relabelling>,
    wanted: &BTreeMap<&'static str, Option<String>>,
    what: &str,
) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    if args.dry_run == DryRun::None {
        let changed = changes.iter().filter(|change| !change.labels.is_empty());
        let subject = |change: &Relabelling| Subject::new(Resource::Namespaces, None, name(&change.namespace));
        check_permitted(&connection, changed.map(|change| Intended::with("patch", &subject(change)))).await?;
    }
    let mut done = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        let name = name(&change.namespace).to_owned();
        if change.labels.is_empty() {
            writeln!(session.terminal.out, "namespace/{name} {what} already")?;
            done.push(name);
            continue;
        }
        let left = || {
            let left = changes[number..].iter().map(|change| format!("not yet: namespaces/{}", self::name(&change.namespace)));
            left.collect::<Vec<String>>()
        };
        session.if_interrupted(Refusal::new("not all labels are set", "the same command continues").with(left()));
        if let Err(failure) = write(&connection, change, args.dry_run).await {
            return Err(if session.interruption.writes().is_something_changed() {
                Stop::Partly(Refusal::new(failure.to_string(), "the same command continues").with(left()))
            } else {
                Stop::Failure(failure)
            });
        }
        let gone = change.labels.iter().filter(|(key, value)| value.is_none() && label(&change.namespace, key).is_some());
        let gone: Vec<String> =
            gone.map(|(key, _)| format!("{key}={} removed", label(&change.namespace, key).unwrap_or_default())).collect();
        let gone = if gone.is_empty() { String::new() } else { format!(" ({})", gone.join(", ")) };
        writeln!(session.terminal.out, "namespace/{name} {what}{gone}{}", args.dry_run.suffix())?;
        done.push(name);
    }
    session.terminal.flush()?;
    if args.dry_run == DryRun::None {
        let reason = "all labels are set, and what changes with them was not looked at";
        session.if_interrupted(Refusal::new(reason, Command::mesh_proxyver("-A")));
        read_back(&connection, &changes, wanted).await?;
        tell_stale(session, &done).await?;
    }
    Ok(Exit::Done)
}

/// Reads every namespace back: a GitOps tool, a webhook or somebody else may have changed its labels at once.
async fn read_back(
    connection: &Connection,
    changes: &[Relabelling],
    wanted: &BTreeMap<&'static str, Option<String>>,
) -> Result<(), Stop> {
    let subject = |change: &Relabelling| Subject::new(Resource::Namespaces, None, name(&change.namespace));
    let objects = changes.iter().map(|change| (subject(change), &change.namespace));
    let different = label_differences(connection, objects, wanted).await;
    if different.is_empty() {
        return Ok(());
    }
    let reason = "the labels were written, and then read back they are not all as they were written: somebody else, such as a \
                  GitOps tool or a webhook, changes them";
    Err(Stop::Partly(Refusal::new(reason, "change them in their source; then the same command").with(different)))
}

async fn write(connection: &Connection, change: &Relabelling, dry_run: DryRun) -> Result<(), Failure> {
    let Some(persistence) = dry_run.persistence() else { return Ok(()) };
    let subject = Subject::new(Resource::Namespaces, None, name(&change.namespace));
    relabel_object(connection, &subject, &change.namespace, &change.labels, persistence).await
}

/// Which workloads of these namespaces a restart would change now.
async fn tell_stale(session: &mut Session, namespaces: &[String]) -> Result<(), Stop> {
    let connection = session.connect().await?;
    let scope = |namespace: Option<&str>| Scope {
        namespace: namespace.map(str::to_owned),
        selector: None,
        istio_namespace: session.flags.istio_namespace.clone(),
    };
    let scopes: Vec<Scope> = if namespaces.len() > ONE_BY_ONE {
        vec![scope(None)]
    } else {
        namespaces.iter().map(|namespace| scope(Some(namespace))).collect()
    };
    let mut changing: BTreeMap<String, Vec<(State, String)>> = BTreeMap::new();
    let mut unread = BTreeSet::new();
    for scope in scopes {
        let snapshot = read(&connection, &scope, Detail::Workloads, &Unobserved).await?;
        unread.extend(snapshot.unread_findings().cloned());
        for verdict in verdicts(&snapshot, &HashMap::new()) {
            let namespace = verdict.workload.namespace.to_string();
            let changes = verdict.state.is_stale() || matches!(verdict.state, State::Missing | State::Leaving);
            if namespaces.contains(&namespace) && changes {
                changing.entry(namespace).or_default().push((verdict.state, verdict.workload.type_name()));
            }
        }
    }
    findings::write(unread.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    for (namespace, workloads) in &changing {
        let count = plural(workloads.len() as u64, "workload changes", "workloads change");
        let shown: Vec<String> = workloads.iter().take(5).map(|(state, workload)| format!("{workload} is {state}")).collect();
        let more = if workloads.len() > 5 { format!(" and {} more", workloads.len() - 5) } else { String::new() };
        writeln!(session.terminal.err, "{namespace}: {count} with the next pod: {}{more}", shown.join(", "))?;
    }
    let states: BTreeSet<&str> =
        changing.values().flatten().map(|(state, _)| if state.is_stale() { "stale,orphaned" } else { state.as_str() }).collect();
    let Some((first, _)) = changing.first_key_value() else { return Ok(()) };
    let restart = Command::mesh_upgrade("restart");
    let restart = if changing.len() == 1 { restart.namespace(first) } else { restart.words("-A") };
    let states: Vec<&str> = states.into_iter().collect();
    let is_default = states == ["stale,orphaned"];
    session.tell_next(if is_default { restart } else { restart.flag("--state", states.join(",")) })
}
