//! Regressions: workloads that a restart would take to an older version, why that is, and what puts it right.

use std::collections::BTreeMap;

use crate::advice::{Advice, Command};
use crate::authorship::Authorship;
use crate::course::Course;
use crate::labels;
use crate::object::Lookup;
use crate::snapshot::Snapshot;
use crate::verdict::Verdict;
use crate::workload::WorkloadId;

/// Why new pods of a workload would run an older version than its pods do. Declared in the order in which they are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A tag points to an older revision.
    Tag {
        /// The tag.
        tag: String,
        /// Where it points.
        revision: String,
    },
    /// The namespace's own label names an older revision, or a tag that points to one.
    NamespaceLabel {
        /// The namespace.
        namespace: String,
        /// The label's key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The revision that new pods get by it.
        revision: String,
    },
    /// A label of the workload's own pods names it.
    OwnLabel {
        /// The label's value.
        value: String,
    },
    /// The revision stays, and injects an older version than runs.
    OlderImage {
        /// The revision.
        revision: String,
    },
    /// Nothing tells.
    Unknown,
}

/// Workloads that would go to an older version, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regression {
    /// Why.
    pub cause: Cause,
    /// The revision that they run and would leave, where it is one.
    pub from: Option<String>,
    /// The workloads.
    pub workloads: Vec<WorkloadId>,
    /// Their proxies that would go back.
    pub proxies: u32,
}

/// The regressions among workloads, by cause.
pub fn regressions<'a>(
    snapshot: &Snapshot,
    authorship: &Authorship,
    verdicts: impl IntoIterator<Item = &'a Verdict>,
) -> Vec<Regression> {
    let mut found: BTreeMap<(Cause, Option<String>), Regression> = BTreeMap::new();
    for verdict in verdicts.into_iter().filter(|verdict| verdict.passage.course == Course::Downgrade) {
        let cause = cause(snapshot, authorship, verdict);
        let from = left_revision(verdict);
        let regression = found.entry((cause.clone(), from.clone())).or_insert_with(|| Regression {
            cause,
            from,
            workloads: Vec::new(),
            proxies: 0,
        });
        regression.workloads.push(verdict.workload.clone());
        regression.proxies += verdict.stale_count();
    }
    found.into_values().collect()
}

/// The revision that the proxies of a workload would leave, where they are all of one.
fn left_revision(verdict: &Verdict) -> Option<String> {
    let mut revisions = verdict.passage.from.iter().map(|stand| stand.as_ref().and_then(|stand| stand.revision.clone()));
    let first = revisions.next().flatten()?;
    revisions.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// Why the new pods of a workload would run what they would.
pub fn cause(snapshot: &Snapshot, authorship: &Authorship, verdict: &Verdict) -> Cause {
    let Some(wanted) = &verdict.wanted else { return Cause::Unknown };
    let Some(revision) = wanted.revision.clone() else { return Cause::Unknown };
    if left_revision(verdict).as_ref() == Some(&revision) {
        return Cause::OlderImage { revision };
    }
    let namespace = &verdict.workload.namespace;
    let label = |key: &'static str| snapshot.namespaces.get(namespace).and_then(|labels| labels.value(key));
    let of_namespace = |key: &'static str, value: &str, revision: String| Cause::NamespaceLabel {
        namespace: namespace.to_string(),
        key,
        value: value.to_owned(),
        revision,
    };
    let own = || {
        let place = snapshot.workloads.binary_search_by(|workload| workload.id.cmp(&verdict.workload)).ok()?;
        snapshot.workloads[place].template.labels.value(labels::REVISION).map(str::to_owned)
    };
    let injection = label(labels::INJECTION).filter(|value| *value == "enabled");
    match &wanted.tag {
        Some(tag) => {
            let key = if injection.is_some() { labels::INJECTION } else { labels::REVISION };
            match label(key) {
                Some(value) if is_newer_than_tag(authorship, namespace, key, tag, verdict) => of_namespace(key, value, revision),
                _ => Cause::Tag { tag: tag.clone(), revision },
            }
        }
        None => match (injection, label(labels::REVISION), own()) {
            (Some(value), ..) => of_namespace(labels::INJECTION, value, revision),
            (None, Some(value), _) if value == revision => of_namespace(labels::REVISION, value, revision),
            (None, _, Some(value)) => Cause::OwnLabel { value },
            _ => Cause::Unknown,
        },
    }
}

/// Whether a namespace came to follow a tag after the tag came to point where it does: then it is the namespace that went back.
/// What is known of neither leaves it with the tag.
fn is_newer_than_tag(authorship: &Authorship, namespace: &str, key: &str, tag: &str, verdict: &Verdict) -> bool {
    let Some(of_tag) = authorship.tags.get(tag) else { return false };
    // The tag itself has left what runs.
    let has_left = of_tag.moves.last().is_some_and(|last| !last.undone && last.from == left_revision(verdict));
    let times = (authorship.of_namespace(namespace, key).and_then(|write| write.time), of_tag.label.time);
    !has_left && matches!(times, (Some(label), Some(tag)) if label > tag)
}

impl Cause {
    /// In words, with who wrote it and when, where that is known: subject first.
    pub fn words(&self, authorship: &Authorship) -> String {
        match self {
            Cause::Tag { tag, revision } => {
                let moved = authorship.tags.get(tag).and_then(|write| write.moves.last());
                let when = moved.filter(|last| !last.undone).map(|last| match &last.from {
                    Some(from) => format!(" since {}, before that to {from}", last.time),
                    None => format!(" since {}", last.time),
                });
                let who = authorship.tags.get(tag).map(|write| format!(" ({})", write.label));
                format!("tag {tag} points to {revision}{}{}", when.unwrap_or_default(), who.unwrap_or_default())
            }
            Cause::NamespaceLabel { namespace, key, value, revision } => {
                let selects = if value == revision { String::new() } else { format!(", which is {revision}") };
                match authorship.of_namespace(namespace, key) {
                    Some(write) => format!("namespace {namespace} selects {value}{selects} ({write})"),
                    None => format!("namespace {namespace} selects {value}{selects} (label {key}={value})"),
                }
            }
            Cause::OwnLabel { value } => format!("their own pod label {}={value} names it", labels::REVISION),
            Cause::OlderImage { revision } => format!("revision {revision} injects an older version now"),
            Cause::Unknown => "nothing tells why".to_owned(),
        }
    }

    /// What lets new pods of the workloads run `from` again, the revision that they run; the tag that points there is preferred.
    pub fn cure(&self, snapshot: &Snapshot, from: Option<&str>) -> Advice {
        let Some(from) = from else { return Advice::none() };
        match self {
            Cause::Tag { tag, revision } => {
                Command::mesh_tag("set").value(tag).flag("--revision", from).flag("--from", revision).into()
            }
            Cause::NamespaceLabel { namespace, .. } => {
                let target = snapshot.tag_for(from).unwrap_or(from);
                Command::mesh_tag("attach").value(target).value(namespace).words("--overwrite").into()
            }
            Cause::OwnLabel { .. } => {
                Advice::say(format!("change the label {} of their pod template to {from}", labels::REVISION))
            }
            Cause::OlderImage { revision } => {
                let get = Command::kubectl("get configmaps -A").flag("-l", format!("{}={revision}", labels::REVISION));
                Advice::say("look at what the revision injects: ").and_run(get.words("-o yaml"))
            }
            Cause::Unknown => Command::mesh_proxyver("-A --stale -o wide").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::object::{Interner, StringMap};
    use crate::terminal::advisor::Advisor;

    fn snapshot(labels: &[(&str, &str)]) -> Snapshot {
        let labels: StringMap = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let labels = Interner::default().labels(&labels, |_| true);
        Snapshot { namespaces: [(Arc::from("pay"), labels)].into_iter().collect(), ..Snapshot::default() }
    }

    /// A namespace whose label was written at `label`, and a tag whose webhook was written at `tag`.
    fn authorship(value: &str, label: &str, tag: &str) -> Authorship {
        let object = |labels: serde_json::Value, time: &str| {
            let owned: serde_json::Map<String, serde_json::Value> =
                labels.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({}))).collect();
            let entry = json!({"manager": "kubectl-label", "time": time, "fieldsV1": {"f:metadata": {"f:labels": owned}}});
            json!({"metadata": {"name": "pay", "labels": labels, "managedFields": [entry]}})
        };
        let namespace = object(json!({"istio.io/rev": value}), label);
        let webhook = object(json!({"istio.io/tag": "prod", "istio.io/rev": "1-26-0"}), tag);
        Authorship::new(&[namespace], &[webhook], Vec::new())
    }

    fn text(advice: &Advice) -> String {
        Advisor::default().text(advice)
    }

    #[test]
    fn a_namespace_whose_label_went_back_is_named_with_who_wrote_it() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let cause = Cause::NamespaceLabel {
            namespace: "pay".to_owned(),
            key: labels::REVISION,
            value: "1-26-0".to_owned(),
            revision: "1-26-0".to_owned(),
        };
        let words = cause.words(&authorship("1-26-0", new, old));
        assert_eq!(
            words,
            format!("namespace pay selects 1-26-0 (label istio.io/rev=1-26-0, last written by kubectl-label at {new})")
        );
        assert_eq!(cause.words(&Authorship::default()), "namespace pay selects 1-26-0 (label istio.io/rev=1-26-0)");
        let cure = cause.cure(&snapshot(&[("istio.io/rev", "1-26-0")]), Some("1-28-2"));
        assert_eq!(text(&cure), "kubectl mesh-tag attach 1-28-2 pay --overwrite");
    }

    #[test]
    fn a_tag_that_went_back_is_moved_forward_again() {
        let cause = Cause::Tag { tag: "prod".to_owned(), revision: "1-26-0".to_owned() };
        let cure = cause.cure(&Snapshot::default(), Some("1-28-2"));
        assert_eq!(text(&cure), "kubectl mesh-tag set prod --revision 1-28-2 --from 1-26-0");
        assert!(cause.cure(&Snapshot::default(), None).is_empty());
    }
}
