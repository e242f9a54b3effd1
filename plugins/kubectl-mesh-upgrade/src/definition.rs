//! Istio's custom resource definitions: they are shared by all revisions, so none may be taken back to an older state.

use std::collections::BTreeSet;

use mesh::advice::{Advice, Command};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::{Found, GroupVersionResource, List};
use mesh::needs::Needs;
use mesh::terminal::words::plural;
use mesh::version::Version;
use serde_json::Value;

/// The version of Istio that a definition comes from: the label of `istioctl install`, else the chart's. A chart of version 1.0.0 was
/// taken from the source and says nothing.
pub fn version_of(object: &Value) -> Option<Version> {
    let by_istioctl = label(object, "operator.istio.io/version").and_then(|version| version.parse().ok());
    let by_chart = || {
        let chart = label(object, "helm.sh/chart").and_then(|chart| chart.strip_prefix("base-"));
        chart.or_else(|| label(object, "app.kubernetes.io/version")).and_then(|version| version.parse().ok())
    };
    by_istioctl.or_else(by_chart).filter(|version: &Version| version.line() != (1, 0))
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// The version of a definition that is here, where that is of a newer minor release than `other`.
pub fn newer_than(here: &Value, other: Option<&Version>) -> Option<Version> {
    version_of(here).filter(|here| other.is_some_and(|other| here.line() > other.line()))
}

/// The kind of definitions.
const DEFINITIONS: (&str, &str, &str) = ("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// What [`definitions_stay`] may ask for.
pub fn definitions_needs() -> Needs {
    Needs::default().prefer(None, [(DEFINITIONS.0, DEFINITIONS.2)], &["list"])
}

/// What a way back to a version leaves: definitions are shared by all revisions, and stay where the newest one has brought them.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn definitions_stay(connection: &Connection, to: Option<&Version>) -> Result<Option<String>, Failure> {
    let kind = GroupVersionResource::from(DEFINITIONS);
    let items = match Found::of(List::of(kind).metadata(connection).await)? {
        Found::Items(items) => items,
        Found::Unread(why) => {
            return Ok(Some(format!("which version the CustomResourceDefinitions stay at is unknown: {why}")));
        }
    };
    let is_istios = |object: &&Value| object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(".istio.io"));
    let mut versions: Vec<Version> = items.iter().filter(is_istios).filter_map(|object| newer_than(object, to)).collect();
    versions.sort();
    let Some(newest) = versions.last() else { return Ok(None) };
    let count = plural(versions.len() as u64, "CustomResourceDefinition stays", "CustomResourceDefinitions stay");
    Ok(Some(format!("{count} at {newest}: all revisions share them, and they are never taken back")))
}

/// How a revision is rendered without definitions, in the ways in which it is installed. Seen with istioctl 1.28.2: without its
/// component `base` no CustomResourceDefinition is rendered.
pub fn leave_definitions_out() -> Advice {
    let render = Command::istioctl("manifest generate --set components.base.enabled=false").local();
    Advice::say("leave the CustomResourceDefinitions out: with istioctl ")
        .and_run(render)
        .and_say(" and the other settings; with helm ")
        .and_run(Command::helm("template").local())
        .and_say(" of the chart istiod alone")
}

/// Why a definition must not replace one that is here; `None` when it may.
///
/// The API server refuses a definition without a version that objects are stored in (`ValidateCustomResourceDefinitionStoredVersions`,
/// k8s.io/apiextensions-apiserver); one without a version that is served takes it from its clients, and one without a field
/// takes the field from every object that is written afterwards (pruning).
pub fn why_not_replace(here: &Value, other: &Value, other_version: Option<&Version>) -> Option<String> {
    let served = |definition: &Value| -> BTreeSet<String> {
        let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] == true);
        served.filter_map(|version| version["name"].as_str().map(str::to_owned)).collect()
    };
    let all = |definition: &Value| -> BTreeSet<String> {
        let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
        versions.filter_map(|version| version["name"].as_str().map(str::to_owned)).collect()
    };
    if let Some(version) = served(here).difference(&served(other)).next() {
        return Some(format!("it would no longer serve version {version}"));
    }
    let stored = here["status"]["storedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let kept = all(other);
    if let Some(version) = stored.into_iter().find(|version| !kept.contains(*version)) {
        return Some(format!("objects are stored in version {version}, which it would no longer have"));
    }
    match (version_of(here), other_version) {
        (Some(here), Some(other)) if other.line() < here.line() => {
            Some(format!("the definition in the cluster is of Istio {here}, and this one of {other}"))
        }
        (Some(_), Some(_)) => None,
        // No age is known: a field that would go tells it.
        _ => lost_field(here, other).map(|field| format!("it is older than the one in the cluster: it lacks {field}")),
    }
}

/// The first field of the schemas of `here` that `other` lacks.
fn lost_field(here: &Value, other: &Value) -> Option<String> {
    fn find(path: &str, here: &Value, other: &Value) -> Option<String> {
        if other["x-kubernetes-preserve-unknown-fields"] == true {
            return None;
        }
        for (name, schema) in here["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let Some(kept) = other["properties"].get(name) else { return Some(path) };
            if let Some(lost) = find(&path, schema, kept) {
                return Some(lost);
            }
        }
        for nested in ["items", "additionalProperties"] {
            if let Some(lost) =
                here.get(nested).filter(|schema| schema.is_object()).and_then(|schema| find(path, schema, &other[nested]))
            {
                return Some(lost);
            }
        }
        None
    }
    for version in here["spec"]["versions"].as_array().into_iter().flatten() {
        let mut others = other["spec"]["versions"].as_array().into_iter().flatten();
        let Some(kept) = others.find(|kept| kept["name"] == version["name"]) else { continue };
        let root = version["name"].as_str().unwrap_or_default();
        let lost = find(root, &version["schema"]["openAPIV3Schema"], &kept["schema"]["openAPIV3Schema"]);
        if lost.is_some() {
            return lost;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(versions: &[(&str, bool)], fields: &[&str]) -> Value {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"openAPIV3Schema": {"properties": {"spec": {"properties": fields}}}});
        let versions: Vec<Value> =
            versions.iter().map(|(name, served)| json!({"name": name, "served": served, "schema": schema})).collect();
        json!({"spec": {"versions": versions}})
    }

    #[test]
    fn versions_may_come_but_not_go() {
        let (one, two) = (definition(&[("v1", true)], &[]), definition(&[("v1", true), ("v2", true)], &[]));
        assert_eq!(why_not_replace(&one, &two, None), None);
        assert_eq!(why_not_replace(&two, &one, None).as_deref(), Some("it would no longer serve version v2"));
        let mut stored = definition(&[("v1", true), ("v0", false)], &[]);
        stored["status"]["storedVersions"] = json!(["v0", "v1"]);
        let why = why_not_replace(&stored, &one, None);
        assert_eq!(why.as_deref(), Some("objects are stored in version v0, which it would no longer have"));
        stored["status"]["storedVersions"] = json!(["v1"]);
        assert_eq!(why_not_replace(&stored, &one, None), None);
    }

    #[test]
    fn an_older_definition_is_known_by_its_label_or_else_by_what_it_lacks() {
        let mut here = definition(&[("v1", true)], &["hosts", "added"]);
        let old = definition(&[("v1", true)], &["hosts"]);
        let why = why_not_replace(&here, &old, "1.26.0".parse().ok().as_ref());
        assert_eq!(why.as_deref(), Some("it is older than the one in the cluster: it lacks v1.spec.added"));
        assert_eq!(why_not_replace(&old, &here, None), None);
        here["metadata"]["labels"] = json!({"operator.istio.io/version": "1.28.2"});
        let why = why_not_replace(&here, &old, "1.26.0".parse().ok().as_ref());
        assert_eq!(why.as_deref(), Some("the definition in the cluster is of Istio 1.28.2, and this one of 1.26.0"));
        // A field that a newer release gave up is gone with its consent.
        assert_eq!(why_not_replace(&here, &old, "1.29.1".parse().ok().as_ref()), None);
    }
}
