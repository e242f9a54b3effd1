//! Which workloads are meant, and in which waves: what `plan` shows and `restart` does.

use mesh::advice::Command;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use mesh::cluster::connection::Connection;
use mesh::cluster::{Scope, Unobserved, read};
use mesh::needs::Needs;
use mesh::object::{LabelSelector, Labels, Lookup, naming};
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::snapshot::{Detail, Snapshot};
use mesh::state::State;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
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
        let all = verdicts(&snapshot, &HashMap::new());
        check_named(&named, &all)?;
        let is_meant = |verdict: &Verdict| {
            (named.is_empty() || named.iter().any(|name| name.is(verdict)))
                && selector.as_ref().is_none_or(|selector| {
                    labels_of(&snapshot, &verdict.workload).is_some_and(|labels| selector.matches(labels) == Ok(true))
                })
        };
        let is_restarted = |verdict: &Verdict| self.states.contains(&verdict.state) && verdict.restart.is_possible();
        let (items, others): (Vec<Verdict>, Vec<Verdict>) = all.into_iter().filter(is_meant).partition(is_restarted);
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
            None => self.subjects.iter().map(|word| Named::parse(word)).collect(),
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
    name: String,
    /// Any when `None`.
    namespace: Option<String>,
}

impl Named {
    fn parse(word: &str) -> Result<Named, Stop> {
        match word.split('/').collect::<Vec<_>>()[..] {
            [kind, name] if !kind.is_empty() && !name.is_empty() => {
                Ok(Named { group: group_of(kind), kind: kind_of(kind), name: name.to_owned(), namespace: None })
            }
            _ => Err(Stop::Usage(format!("{word:?} names nothing: TYPE/NAME is expected"))),
        }
    }

    fn is(&self, verdict: &Verdict) -> bool {
        let id = &verdict.workload;
        let group = id.api_version.split_once('/').map_or("", |(group, _)| group);
        self.kind.eq_ignore_ascii_case(&id.kind)
            && self.group.as_deref().is_none_or(|named| named == group)
            && self.name == *id.name
            && self.namespace.as_deref().is_none_or(|namespace| namespace == &*id.namespace)
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
        Ok(Named { group, kind, name: metadata.name, namespace: metadata.namespace })
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
fn check_named(named: &[Named], verdicts: &[Verdict]) -> Result<(), Refusal> {
    let in_namespace = |name: &Named| name.namespace.as_ref().map_or(String::new(), |namespace| format!(" -n {namespace}"));
    let missing: BTreeSet<String> = named
        .iter()
        .filter(|name| !verdicts.iter().any(|verdict| name.is(verdict)))
        .map(|name| format!("{}/{}{}", name.kind.to_lowercase(), name.name, in_namespace(name)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let refusal = Refusal::not_found(
        "these workloads are not there, or no part of the mesh; nothing was restarted",
        Command::mesh_proxyver("-A"),
    );
    Err(refusal.with(missing.into_iter().collect()))
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
        let of = |group: Option<&str>, kind: &str| (group.map(str::to_owned), kind.to_owned(), "db".to_owned());
        assert_eq!(named("sts/db"), of(None, "statefulset"));
        assert_eq!(named("statefulsets.apps/db"), of(Some("apps"), "statefulset"));
        assert_eq!(named("statefulset.v1beta1.apps.kruise.io/db"), of(Some("apps.kruise.io"), "statefulset"));
        assert_eq!(named("cluster.postgresql.cnpg.io/db"), of(Some("postgresql.cnpg.io"), "cluster"));
    }
}
