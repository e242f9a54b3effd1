//! Which workloads are meant, and in which waves: what `plan` shows and `restart` does.

use mesh::advice::{Advice, Command};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use mesh::cluster::connection::Connection;
use mesh::cluster::{Scope, Unobserved, read};
use mesh::needs::Needs;
use mesh::object::{LabelSelector, Labels, Lookup, naming};
use mesh::operator::OPERATORS;
use mesh::outside::why_outside;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::snapshot::{Detail, Snapshot};
use mesh::state::{Reason, State};
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::verdict::{Verdict, verdicts};
use mesh::workload::WorkloadId;
use owo_colors::OwoColorize;
use serde::Deserialize;
use serde_json::json;

use crate::downgrade::{self, DowngradeArgs, Downgrades, Older};
use crate::waves::{Item, Shares, Wave, Waving, tell_gateways, waves};

/// What selects workloads, and makes waves of them.
#[derive(Args, Clone, Debug)]
pub struct SelectionArgs {
    /// Workloads to restart, if they are stale: TYPE/NAME …, TYPE NAME …, or TYPE for all of a type
    #[arg(value_name = "TYPE/NAME")]
    pub subjects: Vec<String>,

    /// Namespace; the context's when left out
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
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

    /// Evict the pods of workloads that an operator owns, one by one: their template is left alone
    #[arg(long)]
    pub evict_owned: bool,

    /// Waves up to these shares of the workloads that are restarted, rounded up, such as 10,50,100; without it a wave is a namespace. Gateways come last, in a wave of their own
    #[arg(long, value_name = "PERCENT", value_parser = Shares::from_str)]
    pub percent: Option<Shares>,

    /// What becomes of workloads that would go to an older version.
    #[command(flatten)]
    pub downgrade: DowngradeArgs,

    /// A wave for each value of this label of the pods, else of their namespace; those without it come last
    #[arg(long, value_name = "KEY", conflicts_with = "percent")]
    pub by_label: Option<String>,
}

/// What is meant.
pub struct Selection {
    /// What it was decided from.
    pub snapshot: Snapshot,
    /// The verdicts on what was meant and is not restarted.
    pub others: Vec<Verdict>,
    /// What of that would go to an older version.
    pub downgrades: Option<Downgrades>,
    /// What is restarted.
    pub waves: Vec<Wave>,
    /// How many workloads would be restarted if a wave held them.
    pub in_no_wave: usize,
}

impl Selection {
    /// Why nothing may be said of some that were meant: what decides could not be read. `None` when all are decided.
    pub fn undecided(&self, undone: &str) -> Option<Refusal> {
        let count = self.others.iter().filter(|verdict| verdict.is_undecided()).count();
        if count == 0 {
            return None;
        }
        let workloads = plural(count as u64, "workload is", "workloads are");
        let reason = format!("{workloads} undecided, since what decides could not be read; {undone}");
        let unread = self.snapshot.unread_findings().map(|finding| (finding.message.clone(), finding.advice.clone()));
        let advice = Advice::run(Command::mesh_upgrade("restart -A --explain-rbac")).and_say(" prints every rule that is needed");
        Some(Refusal::new(reason, advice).with_obstacles(unread.collect()))
    }

    /// Says what the waves leave out, and that gateways come last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_waves(&self, terminal: &mut Terminal) -> Result<(), Stop> {
        tell_gateways(&self.waves, terminal)?;
        if self.in_no_wave > 0 {
            let all = self.in_no_wave + self.waves.iter().map(|wave| wave.items.len()).sum::<usize>();
            let are = if self.in_no_wave == 1 { "is" } else { "are" };
            let warning = "warning:".style(terminal.err_styles.warning);
            writeln!(terminal.err, "{warning} {} of {all} workloads {are} in no wave: add 100 to --percent.", self.in_no_wave)?;
        }
        Ok(())
    }
}

impl SelectionArgs {
    /// What has to be read for them; everything when nothing but references says where to look.
    pub fn scope(&self, session: &Session, context_namespace: &str) -> Scope {
        self.within(&Scope {
            namespace: Some(context_namespace.to_owned()),
            selector: None,
            istio_namespace: session.flags.istio_namespace.clone(),
        })
    }

    /// What [`SelectionArgs::select`] may ask for.
    pub fn needs(&self, typed: &Scope) -> Needs {
        let scope = self.within(typed);
        read::needs(&scope).and(downgrade::needs(&scope))
    }

    /// What of a scope that names the context's namespace is meant.
    pub fn within(&self, typed: &Scope) -> Scope {
        // References name their namespaces themselves.
        let is_everywhere = self.all_namespaces || (self.filename.is_some() && self.namespace.is_none());
        typed.within(self.namespace.as_deref().or(typed.namespace.as_deref()).filter(|_| !is_everywhere))
    }

    /// Looks at the cluster, and decides.
    ///
    /// # Errors
    /// When what was named is not there, or pods cannot be listed.
    pub async fn select(&self, session: &Session, connection: &Connection) -> Result<Selection, Stop> {
        let named = self.named()?;
        let selector = self.selector.as_deref().map(LabelSelector::from_str).transpose();
        let selector = selector.map_err(|error| Stop::Usage(error.to_string()))?;
        let scope = self.scope(session, &connection.namespace);
        let mut snapshot = read(connection, &scope, Detail::Workloads, &Unobserved).await?;
        if self.evict_owned {
            snapshot.evict_owned();
        }
        snapshot.check_places(scope.namespace.as_deref(), scope.istio_namespace.as_deref())?;
        let all = verdicts(&snapshot, &HashMap::new());
        check_named(&named, &all, &snapshot, scope.namespace.as_deref())?;
        let is_meant = |verdict: &Verdict| {
            (named.is_empty() || named.iter().any(|name| name.is(&verdict.workload)))
                && selector.as_ref().is_none_or(|selector| {
                    labels_of(&snapshot, &verdict.workload).is_some_and(|labels| selector.matches(labels) == Ok(true))
                })
        };
        // Where the wanted revision does not look, new pods never become ready, and no dry run shows it.
        let is_discovered = |verdict: &Verdict| !verdict.reasons.contains(&Reason::NotDiscovered);
        let is_restarted =
            |verdict: &Verdict| self.states.contains(&verdict.state) && verdict.restart.is_possible() && is_discovered(verdict);
        let meant: Vec<Verdict> = all.into_iter().filter(is_meant).collect();
        if let Some(selector) = self.selector.as_deref().filter(|_| meant.is_empty()) {
            let place = scope.namespace.as_deref().map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"));
            let reason = format!("no workload of the mesh in {place} has pods with the labels {selector:?}");
            return Err(Refusal::not_found(reason, Command::mesh_proxyver("-A")).into());
        }
        let (items, others): (Vec<Verdict>, Vec<Verdict>) = meant.into_iter().partition(is_restarted);
        let downgrades = Downgrades::find(connection, &scope, &snapshot, &items).await?;
        let items = items.iter().map(|verdict| (Item::new(verdict), self.value_of_label(&snapshot, &verdict.workload)));
        let is_allowed = Older::from(&self.downgrade) == Older::Allowed;
        let items: Vec<_> = items.filter(|(item, _)| is_allowed || !item.goes_back()).collect();
        let count = items.len();
        let waves = waves(items, &self.waving());
        let in_no_wave = count - waves.iter().map(|wave| wave.items.len()).sum::<usize>();
        Ok(Selection { snapshot, others, downgrades, waves, in_no_wave })
    }

    /// The command `verb` with this selection, as it was typed.
    pub fn command(&self, verb: &'static str) -> Command {
        let mut command = Command::mesh_upgrade(verb);
        if self.all_namespaces {
            command = command.words("-A");
        }
        if let Some(namespace) = &self.namespace {
            command = command.namespace(namespace);
        }
        if let Some(selector) = &self.selector {
            command = command.flag("-l", selector);
        }
        if let Some(filename) = &self.filename {
            let is_input = filename.as_os_str() == "-";
            command = if is_input { command.words("-f -") } else { command.flag("-f", filename.to_string_lossy()) };
        }
        if self.states != [State::Orphaned, State::Stale] {
            command = command.flag("--state", self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(","));
        }
        if self.evict_owned {
            command = command.words("--evict-owned");
        }
        if let Some(shares) = &self.percent {
            command = command.flag("--percent", shares.to_string());
        }
        if let Some(key) = &self.by_label {
            command = command.flag("--by-label", key);
        }
        command.values(self.subjects.iter().cloned())
    }

    /// The states that are restarted, in words.
    pub fn states_in_words(&self) -> String {
        self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// What was asked for and is not restarted is told, with the reason.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell_others(&self, others: &[Verdict], terminal: &mut Terminal) -> Result<(), Stop> {
        for verdict in others {
            let id = &verdict.workload;
            let is_stuck = matches!(verdict.state, State::Blocked | State::Unknown) || self.states.contains(&verdict.state);
            if is_stuck && verdict.state != State::Current {
                let advice = terminal.advisor.text(&verdict.advice());
                writeln!(
                    terminal.err,
                    "not restarted: {} -n {} is {}: {advice}",
                    id.qualified_name(),
                    id.namespace,
                    verdict.state
                )?;
            }
        }
        Ok(())
    }

    fn waving(&self) -> Waving {
        match (&self.by_label, &self.percent) {
            (Some(key), _) => Waving::Label(key.clone()),
            (None, None) => Waving::Namespace,
            (None, Some(shares)) => Waving::Shares(shares.clone()),
        }
    }

    fn value_of_label(&self, snapshot: &Snapshot, workload: &WorkloadId) -> Option<String> {
        let key = self.by_label.as_deref()?;
        let own = labels_of(snapshot, workload).and_then(|labels| labels.value(key));
        let namespaces = || snapshot.namespaces.get(&workload.namespace).and_then(|labels| labels.value(key));
        own.or_else(namespaces).map(str::to_owned)
    }

    /// The workloads that were named on the command line or in a file.
    fn named(&self) -> Result<Vec<Named>, Stop> {
        match &self.filename {
            Some(path) => references(path),
            None => Named::parse_all(&self.subjects),
        }
    }
}

/// Labels of a workload's new pods.
fn labels_of<'a>(snapshot: &'a Snapshot, id: &WorkloadId) -> Option<&'a Labels> {
    let place = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(id)).ok()?;
    Some(&snapshot.workloads[place].template.labels)
}

/// A workload that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    /// API group, where one was named; any when `None`.
    group: Option<String>,
    kind: String,
    /// All of the kind when `None`.
    name: Option<String>,
    /// Any when `None`.
    namespace: Option<String>,
}

impl Named {
    /// Parses kubectl's `TYPE/NAME …`, `TYPE NAME …` and `TYPE`.
    fn parse_all(words: &[String]) -> Result<Vec<Named>, Stop> {
        match words {
            [kind, names @ ..] if !words.iter().any(|word| word.contains('/')) => {
                let named = |name: Option<String>| Named { group: group_of(kind), kind: kind_of(kind), name, namespace: None };
                let each = names.iter().map(|name| named(Some(name.clone())));
                Ok(if names.is_empty() { vec![named(None)] } else { each.collect() })
            }
            _ => words.iter().map(|word| Named::parse(word)).collect(),
        }
    }

    fn parse(word: &str) -> Result<Named, Stop> {
        match word.split('/').collect::<Vec<_>>()[..] {
            [kind, name] if !kind.is_empty() && !name.is_empty() => {
                Ok(Named { group: group_of(kind), kind: kind_of(kind), name: Some(name.to_owned()), namespace: None })
            }
            _ => Err(Stop::Usage(format!("{word:?} names nothing: TYPE/NAME is expected"))),
        }
    }

    /// Whether it names this workload.
    fn is(&self, id: &WorkloadId) -> bool {
        let group = id.api_version.split_once('/').map_or("", |(group, _)| group);
        self.kind.eq_ignore_ascii_case(&id.kind)
            && self.group.as_deref().is_none_or(|named| named == group)
            && self.name.as_deref().is_none_or(|named| named == &*id.name)
            && self.namespace.as_deref().is_none_or(|namespace| namespace == &*id.namespace)
    }

    /// Whether workloads of this type are known at all: those of Kubernetes, of the operators that are asked here, and whatever
    /// owns pods.
    fn is_of_known_type(&self, snapshot: &Snapshot) -> bool {
        KINDS.iter().any(|(kind, _)| self.kind.eq_ignore_ascii_case(kind))
            || OPERATORS.iter().any(|operator| self.kind.eq_ignore_ascii_case(operator.kind))
            || snapshot.workloads.iter().any(|workload| self.kind.eq_ignore_ascii_case(&workload.id.kind))
    }

    /// `deployment/web -n shop`, in the namespace that was looked at where it names none.
    fn text(&self, looked_at: Option<&str>) -> String {
        let name = self.name.as_ref().map_or_else(String::new, |name| format!("/{name}"));
        let place = self.namespace.as_deref().or(looked_at).map_or_else(String::new, |namespace| format!(" -n {namespace}"));
        format!("{}{name}{place}", self.kind.to_lowercase())
    }
}

/// One line of `mesh-proxyver -o refs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: Option<String>,
    kind: String,
    metadata: ReferenceMetadata,
}

#[derive(Deserialize)]
struct ReferenceMetadata {
    name: String,
    namespace: Option<String>,
}

impl Reference {
    /// Why this cannot name an object of Kubernetes.
    fn wrong(api_version: Option<&str>, kind: &str, metadata: &ReferenceMetadata) -> Option<String> {
        naming::wrong(&json!({
            "apiVersion": api_version.unwrap_or("v1"),
            "kind": kind,
            "metadata": {"name": metadata.name, "namespace": metadata.namespace},
        }))
    }
}

/// What a file or standard input names.
fn references(path: &Path) -> Result<Vec<Named>, Stop> {
    let text = read_text(path)?;
    let references = serde_json::Deserializer::from_str(&text).into_iter::<Reference>();
    let named = references.map(|reference| {
        let Reference { api_version, kind, metadata } = reference
            .map_err(|error| Stop::Message(format!("{} is not what mesh-proxyver -o refs writes: {error}", path.display())))?;
        let named = Reference::wrong(api_version.as_deref(), &kind, &metadata);
        if let Some(why) = named {
            return Err(Stop::Message(format!("{} is not what mesh-proxyver -o refs writes: {why}", path.display())));
        }
        // Another group may have a kind of the same name.
        let group = api_version.map(|version| version.split_once('/').map_or("", |(group, _)| group).to_owned());
        Ok(Named { group, kind, name: Some(metadata.name), namespace: metadata.namespace })
    });
    let named = named.collect::<Result<Vec<_>, Stop>>()?;
    if named.is_empty() {
        // An empty pipe means that nothing is stale; restarting everything instead would be the opposite.
        return Err(Stop::Message(format!("{} names no workload; nothing was restarted", path.display())));
    }
    Ok(named)
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, Stop> {
    Ok(mesh::cluster::read_text(path)?)
}

/// The API group in a type as kubectl takes it: `statefulset.apps`, `statefulset.v1.apps`.
fn group_of(typed: &str) -> Option<String> {
    let (_, rest) = typed.split_once('.')?;
    let is_version =
        |text: &str| text.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let group = match rest.split_once('.') {
        Some((version, group)) if is_version(version) => group,
        _ => rest,
    };
    Some(group.to_lowercase())
}

/// The kind behind a type as kubectl takes it.
fn kind_of(typed: &str) -> String {
    let plain = typed.split('.').next().unwrap_or(typed).to_lowercase();
    let known = KINDS.iter().find(|(kind, names)| *kind == plain || names.contains(&plain.as_str()));
    known.map_or_else(|| plain.clone(), |(kind, _)| (*kind).to_owned())
}

/// Types of Kubernetes and Argo Rollouts that own pods, with the other names that kubectl takes for them.
const KINDS: [(&str, &[&str]); 9] = [
    ("deployment", &["deploy", "deployments"]),
    ("statefulset", &["sts", "statefulsets"]),
    ("daemonset", &["ds", "daemonsets"]),
    ("replicaset", &["rs", "replicasets"]),
    ("replicationcontroller", &["rc", "replicationcontrollers"]),
    ("job", &["jobs"]),
    ("cronjob", &["cj", "cronjobs"]),
    ("rollout", &["ro", "rollouts"]),
    ("pod", &["po", "pods"]),
];

/// What was named and is nowhere is an error, as in kubectl.
fn check_named(named: &[Named], verdicts: &[Verdict], snapshot: &Snapshot, looked_at: Option<&str>) -> Result<(), Refusal> {
    if let Some(unknown) = named.iter().find(|name| !name.is_of_known_type(snapshot)) {
        let reason = format!("the server doesn't have a resource type {:?} that owns pods here", unknown.kind);
        return Err(Refusal::not_found(reason, "name workloads as kubectl does: deployment/web, or deploy web"));
    }
    let missing = named.iter().filter(|name| !verdicts.iter().any(|verdict| name.is(&verdict.workload)));
    let missing: BTreeSet<String> = missing
        .map(|name| {
            let text = name.text(looked_at);
            match snapshot.workloads.iter().find(|workload| name.is(&workload.id)) {
                Some(outside) => format!("{text} is not in the mesh: {}", why_outside(snapshot, outside)),
                None => format!("{text} not found"),
            }
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = "these workloads are not there, or no part of the mesh; nothing was restarted";
    Err(Refusal::not_found(reason, Command::mesh_proxyver("-A")).with(missing.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_a_kind_and_perhaps_a_group() {
        let named = |word: &str| {
            let Named { group, kind, name, .. } = Named::parse(word).unwrap();
            (group, kind, name)
        };
        let of = |group: Option<&str>, kind: &str| (group.map(str::to_owned), kind.to_owned(), Some("db".to_owned()));
        assert_eq!(named("sts/db"), of(None, "statefulset"));
        assert_eq!(named("statefulsets.apps/db"), of(Some("apps"), "statefulset"));
        assert_eq!(named("statefulset.v1beta1.apps.kruise.io/db"), of(Some("apps.kruise.io"), "statefulset"));
        assert_eq!(named("cluster.postgresql.cnpg.io/db"), of(Some("postgresql.cnpg.io"), "cluster"));
    }

    #[test]
    fn workloads_are_named_as_kubectl_names_them() {
        let named = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Named::parse_all(&words).unwrap().iter().map(|named| named.text(Some("shop"))).collect()
        };
        assert_eq!(named(&["deploy", "web", "api"]), ["deployment/web -n shop", "deployment/api -n shop"]);
        assert_eq!(named(&["deployments.apps"]), ["deployment -n shop"]);
        assert_eq!(named(&["sts/db", "po/x"]), ["statefulset/db -n shop", "pod/x -n shop"]);
        assert_eq!(named(&[]), [""; 0]);
        assert!(Named::parse_all(&["deploy/web".to_owned(), "db".to_owned()]).is_err());
    }
}
