//! Which workloads a command is about: by name, by namespace, by their labels, or by a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use mesh::advice::Command;
use mesh::cluster::Scope;
use mesh::object::{LabelSelector, Labels, naming};
use mesh::operator::OPERATORS;
use mesh::outside::why_outside;
use mesh::refusal::Refusal;
use mesh::snapshot::Snapshot;
use mesh::terminal::stop::Stop;
use mesh::verdict::Verdict;
use mesh::workload::WorkloadId;
use serde::Deserialize;
use serde_json::json;

/// What selects workloads.
#[derive(Args, Clone, Debug, Default)]
pub struct SubjectArgs {
    /// Only these workloads: TYPE/NAME …, TYPE NAME …, or TYPE for all of a type
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

    /// Only these workloads, as mesh-proxyver -o refs writes them: a file, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "subjects")]
    pub filename: Option<PathBuf>,
}

/// The workloads that were selected, as they were typed or read.
pub struct Subjects {
    /// All when empty.
    named: Vec<Named>,
    selector: Option<LabelSelector>,
}

impl SubjectArgs {
    /// What of a scope that names the context's namespace is meant.
    pub fn within(&self, typed: &Scope) -> Scope {
        // References name their namespaces themselves.
        let is_everywhere = self.all_namespaces || (self.filename.is_some() && self.namespace.is_none());
        typed.within(self.namespace.as_deref().or(typed.namespace.as_deref()).filter(|_| !is_everywhere))
    }

    /// Whether anything but a namespace selects.
    pub fn select_workloads(&self) -> bool {
        self.selector.is_some() || self.filename.is_some() || !self.subjects.is_empty()
    }

    /// Reads what was typed, and the file.
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn read(&self) -> Result<Subjects, Stop> {
        let named = match &self.filename {
            Some(path) => references(path),
            None => Named::parse_all(&self.subjects),
        };
        let selector = self.selector.as_deref().map(LabelSelector::from_str).transpose();
        Ok(Subjects { named: named?, selector: selector.map_err(|error| Stop::Usage(error.to_string()))? })
    }

    /// A command with these flags, as they were typed.
    pub fn flags(&self, mut command: Command) -> Command {
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
        command
    }
}

impl Subjects {
    /// Whether a workload is one of them.
    pub fn include(&self, verdict: &Verdict, snapshot: &Snapshot) -> bool {
        (self.named.is_empty() || self.named.iter().any(|name| name.is(&verdict.workload)))
            && self.selector.as_ref().is_none_or(|selector| {
                labels_of(snapshot, &verdict.workload).is_some_and(|labels| selector.matches(labels) == Ok(true))
            })
    }

    /// What was named and is nowhere is an error, as in kubectl.
    ///
    /// # Errors
    /// That.
    pub fn check(&self, verdicts: &[Verdict], snapshot: &Snapshot, looked_at: Option<&str>) -> Result<(), Refusal> {
        check_named(&self.named, verdicts, snapshot, looked_at)
    }
}

/// Labels of a workload's new pods.
pub(super) fn labels_of<'a>(snapshot: &'a Snapshot, id: &WorkloadId) -> Option<&'a Labels> {
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
    let text = super::read_text(path)?;
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
        return Err(Refusal::not_found(reason, "name workloads by type and name: deployment/web, or deploy web"));
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
