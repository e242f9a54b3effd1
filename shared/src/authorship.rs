//! Who wrote the labels by which namespaces and tags follow a revision, and when: what the managed fields of their objects tell.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use crate::installation::{label, name};
use crate::labels;
use crate::tag::{Move, history};

/// A label, and the last manager that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelWrite {
    /// The label's key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// The field manager that owns it, such as `kubectl-label` or `kubectl-mesh`; `None` where nothing tells.
    pub manager: Option<String>,
    /// When that manager last wrote any field of the object, so the label was written then or before.
    pub time: Option<Timestamp>,
    /// When the object was created.
    pub created: Option<Timestamp>,
}

impl LabelWrite {
    /// The label of an object, and who owns it by `metadata.managedFields`
    /// (k8s.io/apimachinery/pkg/apis/meta/v1/types.go, `ManagedFieldsEntry`). Of several owners it is the one that wrote last.
    pub fn of(object: &Value, key: &'static str) -> Option<LabelWrite> {
        let value = label(object, key)?.to_owned();
        let field = format!("f:{key}");
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let owners = entries.filter(|entry| !entry["fieldsV1"]["f:metadata"]["f:labels"][field.as_str()].is_null());
        let last = owners.max_by_key(|entry| timestamp(&entry["time"]));
        Some(LabelWrite {
            key,
            value,
            manager: last.and_then(|entry| entry["manager"].as_str()).map(str::to_owned),
            time: last.and_then(|entry| timestamp(&entry["time"])),
            created: timestamp(&object["metadata"]["creationTimestamp"]),
        })
    }
}

impl fmt::Display for LabelWrite {
    /// `label istio.io/rev=1-26-0, last written by kubectl-label at 2026-01-01T00:00:00Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "label {}={}", self.key, self.value)?;
        match (&self.manager, self.time) {
            (Some(manager), Some(time)) => write!(formatter, ", last written by {manager} at {time}"),
            (Some(manager), None) => write!(formatter, ", last written by {manager}"),
            (None, _) => formatter.write_str(", and nothing tells who wrote it"),
        }
    }
}

/// The webhook of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagWrite {
    /// Where it points, and who wrote that.
    pub label: LabelWrite,
    /// Its moves by these plugins, the newest last.
    pub moves: Vec<Move>,
}

/// Who wrote what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorship {
    /// The labels by which a namespace follows a revision, a tag or the default, by the namespace's name.
    pub namespaces: BTreeMap<String, Vec<LabelWrite>>,
    /// The webhooks of tags, by the tag's name.
    pub tags: BTreeMap<String, TagWrite>,
    /// Why some of it is not here, where it could not be read.
    pub unread: Vec<String>,
}

impl Authorship {
    /// From namespaces and MutatingWebhookConfigurations, as JSON: their metadata is enough.
    pub fn new(namespaces: &[Value], webhooks: &[Value], unread: Vec<String>) -> Authorship {
        let of_namespace = |namespace: &Value| {
            let keys = [labels::REVISION, labels::INJECTION].into_iter();
            (name(namespace).to_owned(), keys.filter_map(|key| LabelWrite::of(namespace, key)).collect())
        };
        let of_tag = |webhook: &Value| {
            let tag = label(webhook, labels::TAG)?.to_owned();
            Some((tag, TagWrite { label: LabelWrite::of(webhook, labels::REVISION)?, moves: history(webhook) }))
        };
        Authorship {
            namespaces: namespaces.iter().map(of_namespace).collect(),
            tags: webhooks.iter().filter_map(of_tag).collect(),
            unread,
        }
    }

    /// The label of a namespace with this key.
    pub fn of_namespace(&self, namespace: &str, key: &str) -> Option<&LabelWrite> {
        self.namespaces.get(namespace)?.iter().find(|write| write.key == key)
    }
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(entries: Value) -> Value {
        json!({"metadata": {
            "name": "pay", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"istio.io/rev": "1-26-0"}, "managedFields": entries,
        }})
    }

    fn entry(manager: &str, time: &str, label: &str) -> Value {
        let fields = json!({"f:metadata": {"f:labels": {format!("f:{label}"): {}}}});
        json!({"manager": manager, "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn the_last_manager_of_the_label_is_named() {
        let entries = json!([
            entry("kubectl-create", "2026-01-01T00:00:00Z", "istio.io/rev"),
            entry("kubectl-label", "2026-01-02T00:00:00Z", "istio.io/rev"),
            entry("other", "2026-01-03T00:00:00Z", "team"),
        ]);
        let found = LabelWrite::of(&namespace(entries), labels::REVISION).unwrap();
        assert_eq!(found.to_string(), "label istio.io/rev=1-26-0, last written by kubectl-label at 2026-01-02T00:00:00Z");
        assert_eq!(found.created, "2026-01-01T00:00:00Z".parse().ok());
        let without = LabelWrite::of(&namespace(Value::Null), labels::REVISION).unwrap();
        assert_eq!(without.to_string(), "label istio.io/rev=1-26-0, and nothing tells who wrote it");
        assert_eq!(LabelWrite::of(&namespace(Value::Null), labels::INJECTION), None);
    }

    #[test]
    fn tags_are_known_by_their_label_and_say_their_moves() {
        let moves = r#"[{"from":"1-26-0","time":"2026-01-02T00:00:00Z","version":"0.1.0"}]"#;
        let webhook = json!({"metadata": {"name": "any", "labels": {"istio.io/tag": "prod", "istio.io/rev": "1-28-2"},
            "annotations": {labels::HISTORY: moves}}});
        let found = Authorship::new(&[], &[webhook, json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}})], Vec::new());
        assert_eq!(found.tags.len(), 1);
        let tag = &found.tags["prod"];
        assert_eq!((tag.label.value.as_str(), tag.moves[0].from.as_deref()), ("1-28-2", Some("1-26-0")));
    }
}
