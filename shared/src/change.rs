//! Changes: what a command is going to write, object by object, before anything is written. A dry run prints them, and
//! nothing else than them is carried out.

use std::fmt;

use serde_json::Value;

use crate::object::Resource;

/// The identity of an object, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// `group/version`, or `version` in the core group.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Plural resource, as in URLs.
    pub plural: String,
    /// Namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl Subject {
    /// An object of a kind that this crate knows.
    pub fn new(resource: Resource, namespace: Option<&str>, name: &str) -> Subject {
        Subject {
            api_version: resource.api_version(),
            kind: resource.kind().to_owned(),
            plural: resource.plural().to_owned(),
            namespace: namespace.filter(|_| resource.is_namespaced()).map(str::to_owned),
            name: name.to_owned(),
        }
    }

    /// URL path of the list that it stands in.
    pub fn collection(&self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        match &self.namespace {
            Some(namespace) => format!("/{root}/{}/namespaces/{namespace}/{}", self.api_version, self.plural),
            None => format!("/{root}/{}/{}", self.api_version, self.plural),
        }
    }

    /// URL path of the object.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    /// API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl fmt::Display for Subject {
    /// As kubectl takes it: `services/istiod -n istio-system`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group();
        let dot = if group.is_empty() || group == "apps" { "" } else { "." };
        let group = if dot.is_empty() { "" } else { group };
        write!(formatter, "{}{dot}{group}/{}", self.plural, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(formatter, " -n {namespace}"),
            None => Ok(()),
        }
    }
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It is replaced by a newer state of itself.
    Update,
    /// It is removed.
    Delete,
    /// It is as it should be.
    None,
}

impl Action {
    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::None => "unchanged",
        }
    }
}

/// One object before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which object.
    pub subject: Subject,
    /// As it was read, whole, with its resourceVersion and uid: the precondition. `None` when it is not there.
    pub before: Option<Value>,
    /// As it is to be; `None` when it is to be gone.
    pub after: Option<Value>,
}

impl Change {
    /// What is to be done.
    pub fn action(&self) -> Action {
        match (&self.before, &self.after) {
            (None, None) => Action::None,
            (None, Some(_)) => Action::Create,
            (Some(_), None) => Action::Delete,
            (Some(before), Some(after)) if without_server_fields(before) == without_server_fields(after) => Action::None,
            (Some(_), Some(_)) => Action::Update,
        }
    }

    /// The differences, one a line, in the order of the fields: `+ path: value`, `- path: value` or
    /// `~ path: before -> after`.
    pub fn differences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let clean = |value: &Option<Value>| value.as_ref().map_or(Value::Null, without_server_fields);
        compare(String::new(), &clean(&self.before), &clean(&self.after), &mut lines);
        lines
    }
}

/// An object without what only the API server writes.
pub fn without_server_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"] {
            metadata.remove(field);
        }
    }
    object
}

fn compare(path: String, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if before == after {
        return;
    }
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let value = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or(Value::Null);
                compare(child(key), &value(one), &value(other), lines);
            }
        }
        // Lists of named things, such as a configuration's entries, are compared by name.
        (Value::Array(one), Value::Array(other)) if are_named(one) && are_named(other) => {
            let mut names: Vec<&str> = one.iter().chain(other).filter_map(name_of).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let value =
                    |items: &[Value]| items.iter().find(|item| name_of(item) == Some(name)).cloned().unwrap_or(Value::Null);
                compare(format!("{path}[{name}]"), &value(one), &value(other), lines);
            }
        }
        (Value::Null, Value::Object(fields)) if !path.is_empty() && !fields.is_empty() => {
            for (key, value) in fields {
                compare(child(key), &Value::Null, value, lines);
            }
        }
        (Value::Null, Value::Object(fields)) => {
            for (key, value) in fields {
                compare(key.clone(), &Value::Null, value, lines);
            }
        }
        (Value::Null, after) => lines.push(format!("+ {path}: {}", short(after))),
        (before, Value::Null) if path.is_empty() => lines.push(format!("- {}", short(&before["metadata"]["name"]))),
        (before, Value::Null) => lines.push(format!("- {path}: {}", short(before))),
        (before, after) => lines.push(format!("~ {path}: {} -> {}", short(before), short(after))),
    }
}

pub(crate) fn are_named(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| name_of(item).is_some())
}

pub(crate) fn name_of(item: &Value) -> Option<&str> {
    item["name"].as_str()
}

/// A value on one line; certificates and the like are only counted.
pub(crate) fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let length = text.chars().count();
    if length > 160 { format!("{}… ({length} characters)", text.chars().take(24).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(before: Value, after: Value) -> Change {
        let value = |value: Value| if value.is_null() { None } else { Some(value) };
        Change {
            subject: Subject::new(Resource::Services, Some("istio-system"), "istiod"),
            before: value(before),
            after: value(after),
        }
    }

    #[test]
    fn an_object_is_named_as_kubectl_takes_it() {
        let service = Subject::new(Resource::Services, Some("istio-system"), "istiod");
        assert_eq!(
            [service.to_string(), service.path()],
            ["services/istiod -n istio-system", "/api/v1/namespaces/istio-system/services/istiod"]
        );
        let webhook = Subject::new(Resource::MutatingWebhookConfigurations, Some("ignored"), "a");
        assert_eq!(webhook.to_string(), "mutatingwebhookconfigurations.admissionregistration.k8s.io/a");
        assert_eq!(webhook.path(), "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a");
    }

    #[test]
    fn what_only_the_server_writes_is_no_difference() {
        let before = json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "7"}, "data": {"x": "1"}});
        let same = change(before.clone(), json!({"metadata": {"name": "a"}, "data": {"x": "1"}}));
        assert_eq!((same.action(), same.differences().len()), (Action::None, 0));
        assert_eq!(change(before.clone(), Value::Null).action(), Action::Delete);
        assert_eq!(change(Value::Null, before).action(), Action::Create);
    }

    #[test]
    fn differences_are_told_by_field_and_entries_by_name() {
        let entry = |name: &str, service: &str| json!({"name": name, "service": {"name": service}});
        let before = json!({"metadata": {"labels": {"rev": "1"}}, "webhooks": [entry("a", "old"), entry("b", "old")]});
        let after = json!({"metadata": {"labels": {"rev": "2", "tag": "t"}}, "webhooks": [entry("b", "old"), entry("a", "new")]});
        assert_eq!(
            change(before, after).differences(),
            ["~ metadata.labels.rev: 1 -> 2", "+ metadata.labels.tag: t", "~ webhooks[a].service.name: old -> new"]
        );
    }
}
