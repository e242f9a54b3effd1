//! Which verdicts are shown.

use mesh::object::LabelSelector;
use mesh::outside::why_outside;
use mesh::snapshot::Snapshot;
use mesh::state::State;
use mesh::verdict::{Verdict, derived_injection, judge};
use mesh::workload::Workload;

/// What a user asked to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only these workloads; all when empty.
    pub subjects: Vec<Subject>,
    /// Only these states; all when empty.
    pub states: Vec<State>,
    /// Only with this revision or tag.
    pub revision: Option<String>,
    /// Only with these pod labels.
    pub selector: Option<LabelSelector>,
}

/// A workload, or all of a kind, as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Kind, for example `Deployment`.
    pub kind: String,
    /// Name; all of the kind when `None`.
    pub name: Option<String>,
}

/// Kinds with the names that kubectl takes for them.
const KINDS: [(&str, &[&str]); 10] = [
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
    ("ReplicaSet", &["replicaset", "replicasets", "rs"]),
    ("ReplicationController", &["replicationcontroller", "replicationcontrollers", "rc"]),
    ("Job", &["job", "jobs"]),
    ("CronJob", &["cronjob", "cronjobs", "cj"]),
    ("Rollout", &["rollout", "rollouts", "ro"]),
    ("Pod", &["pod", "pods", "po"]),
    ("Node", &["node", "nodes", "no"]),
];

impl Subject {
    /// Parses kubectl's `TYPE/NAME …`, `TYPE NAME …` and `TYPE`.
    pub fn parse_all(words: &[String]) -> Result<Vec<Subject>, String> {
        let Some(first) = words.first() else { return Ok(Vec::new()) };
        if words.iter().any(|word| word.contains('/')) {
            return words.iter().map(|word| Subject::parse_slashed(word)).collect();
        }
        let kind = kind(first);
        let names = &words[1..];
        // A pod by its name alone, as istioctl takes it: no type has a dash.
        if first.contains('-') {
            return Ok(words.iter().map(|name| Subject { kind: "Pod".to_owned(), name: Some(name.clone()) }).collect());
        }
        if names.is_empty() {
            return Ok(vec![Subject { kind, name: None }]);
        }
        Ok(names.iter().map(|name| Subject { kind: kind.clone(), name: Some(name.clone()) }).collect())
    }

    fn parse_slashed(word: &str) -> Result<Subject, String> {
        match word.split('/').collect::<Vec<_>>()[..] {
            [kind_name, name] if !kind_name.is_empty() && !name.is_empty() => {
                Ok(Subject { kind: kind(kind_name), name: Some(name.to_owned()) })
            }
            [_, _] => Err(format!("{word:?} names nothing: TYPE/NAME is expected")),
            [_] => Err(format!("there is no need to name a type beside TYPE/NAME: {word:?}")),
            _ => Err("arguments in resource/name form may not have more than one slash".to_owned()),
        }
    }

    fn is(&self, kind: &str, name: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

/// The kind behind a type as typed: `deploy`, `deployments.apps`, `deployment.v1.apps`. Unknown types stand for
/// themselves: a custom resource may own pods.
fn kind(type_name: &str) -> String {
    let plain = type_name.split('.').next().unwrap_or(type_name).to_lowercase();
    let known = KINDS.iter().find(|(_, names)| names.contains(&plain.as_str()));
    known.map_or(plain, |(kind, _)| (*kind).to_owned())
}

impl Selection {
    /// Whether a verdict is shown, pods aside.
    pub fn selects(&self, verdict: &Verdict, snapshot: &Snapshot) -> bool {
        let id = &verdict.workload;
        let in_namespace = self.namespace.as_deref().is_none_or(|namespace| namespace == &*id.namespace);
        let is_named = self.subjects.is_empty()
            || self.subjects.iter().any(|subject| {
                let is_pods = subject.kind == "Pod" && verdict.pods.iter().any(|(name, _)| subject.is("Pod", name));
                is_pods || subject.is(&id.kind, &id.name)
            });
        in_namespace
            && is_named
            && self.has_state(verdict.state)
            && self.has_revision(verdict)
            && self.has_labels(verdict, snapshot)
    }

    /// Whether a pod of a selected workload is shown.
    pub fn selects_pod(&self, verdict: &Verdict, pod: &str, state: State) -> bool {
        let id = &verdict.workload;
        let is_named = self.subjects.is_empty()
            || self.subjects.iter().any(|subject| subject.is("Pod", pod) || subject.is(&id.kind, &id.name));
        is_named && self.has_state(state)
    }

    /// Whether this state is asked for.
    pub fn has_state(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn has_revision(&self, verdict: &Verdict) -> bool {
        let Some(revision) = &self.revision else { return true };
        let mut running = verdict.running.iter().filter_map(|running| running.proxy.as_ref()?.revision.as_deref());
        let follows = verdict.wanted.as_ref().is_some_and(|wanted| {
            wanted.tag.as_ref() == Some(revision) || (verdict.proxy_count() == 0 && wanted.revision.as_ref() == Some(revision))
        });
        running.any(|running| running == revision) || follows
    }

    fn has_labels(&self, verdict: &Verdict, snapshot: &Snapshot) -> bool {
        let Some(selector) = &self.selector else { return true };
        let workload = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(&verdict.workload));
        workload.is_ok_and(|place| selector.matches(&snapshot.workloads[place].template.labels) == Ok(true))
    }

    /// The workloads that were named and are outside of the mesh, each with the reason.
    pub fn outside(&self, snapshot: &Snapshot) -> Vec<String> {
        let named = |workload: &&Workload| {
            let is_named = |subject: &Subject| subject.name.is_some() && subject.is(&workload.id.kind, &workload.id.name);
            self.subjects.iter().any(is_named) && workload.proxy_count() == 0
        };
        let line = |workload: &Workload| {
            let id = &workload.id;
            let name = format!("{}/{} -n {}", id.kind.to_lowercase(), id.name, id.namespace);
            format!("{name}: not in the mesh: {}", why_outside(snapshot, workload))
        };
        let outside = snapshot.workloads.iter().filter(named);
        outside.filter(|workload| judge(snapshot, workload, derived_injection(snapshot, workload)).is_none()).map(line).collect()
    }

    /// The type that was named and owns no pods anywhere here, as kubectl says it.
    pub fn unknown_type(&self, snapshot: &Snapshot) -> Option<String> {
        let is_known = |subject: &&Subject| {
            KINDS.iter().any(|(kind, _)| subject.kind == *kind)
                || snapshot.workloads.iter().any(|workload| subject.kind.eq_ignore_ascii_case(&workload.id.kind))
        };
        let unknown = self.subjects.iter().find(|subject| !is_known(subject))?;
        Some(format!(
            "the server doesn't have a resource type {:?} that owns pods here: name a workload as deployment/web, a pod as pod/web-1",
            unknown.kind
        ))
    }

    /// The workloads that were named and are nowhere, as kubectl says it.
    pub fn not_found(&self, snapshot: &Snapshot) -> Vec<String> {
        let named = self.subjects.iter().filter_map(|subject| subject.name.as_ref().map(|name| (subject, name)));
        named
            .filter(|(subject, _)| {
                !snapshot.workloads.iter().any(|workload| {
                    subject.is(&workload.id.kind, &workload.id.name)
                        || workload.pods.iter().any(|(pod, _)| subject.is("Pod", pod))
                })
            })
            .map(|(subject, name)| format!("{} {name:?} not found", subject.kind.to_lowercase()))
            .collect()
    }

    /// The revision that was named, when neither a control plane nor a tag nor a proxy has it.
    pub fn unknown_revision(&self, snapshot: &Snapshot) -> Option<String> {
        let revision = self.revision.as_deref()?;
        let runs = snapshot
            .workloads
            .iter()
            .flat_map(|workload| &workload.proxies)
            .any(|(proxy, _)| proxy.as_ref().and_then(|proxy| proxy.revision.as_deref()) == Some(revision));
        let is_known = runs
            || snapshot.revisions().contains(&revision)
            || snapshot.tags().contains(&revision)
            || snapshot.injectors.iter().any(|injector| injector.revision.as_deref() == Some(revision));
        if is_known {
            return None;
        }
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Some(format!(
            "revision {revision:?} is not here: revisions are {}; tags are {}",
            list(snapshot.revisions()),
            list(snapshot.tags())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(Subject::parse_all(&words)?.into_iter().map(|subject| (subject.kind, subject.name)).collect())
    }

    #[test]
    fn subjects_are_named_as_kubectl_names_them() {
        let named = |kind: &str, name: &str| (kind.to_owned(), Some(name.to_owned()));
        assert_eq!(parse(&["deploy/web", "sts/db"]), Ok(vec![named("Deployment", "web"), named("StatefulSet", "db")]));
        assert_eq!(parse(&["deployments.apps/web"]), Ok(vec![named("Deployment", "web")]));
        assert_eq!(parse(&["deployment.v1.apps/web"]), Ok(vec![named("Deployment", "web")]));
        assert_eq!(parse(&["ds", "a", "b"]), Ok(vec![named("DaemonSet", "a"), named("DaemonSet", "b")]));
        assert_eq!(parse(&["web-6d58484c6d-6f2g7"]), Ok(vec![named("Pod", "web-6d58484c6d-6f2g7")]));
        assert_eq!(parse(&["po"]), Ok(vec![("Pod".to_owned(), None)]));
        assert_eq!(parse(&["CloneSet/web"]), Ok(vec![named("cloneset", "web")]));
        assert_eq!(parse(&[]), Ok(vec![]));
    }

    #[test]
    fn malformed_subjects_are_refused() {
        for words in [&["a/b/c"][..], &["deploy/"], &["/web"], &["deploy/web", "db"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
