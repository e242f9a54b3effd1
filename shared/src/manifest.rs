//! Rendered manifests: what `istioctl manifest generate` and `helm template` write, object by object, each with the place
//! where it stands, so that what is wrong with one can be told by its line.

use std::fmt;

use serde_json::Value;

use crate::object::naming;
use crate::yaml;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object, whole.
    pub object: Value,
    /// Which document of the stream it stands in, counted from 1.
    pub document: usize,
    /// The line on which that document begins, counted from 1.
    pub line: usize,
}

/// Why a stream cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenManifest {
    /// Which document, counted from 1.
    pub document: usize,
    /// The line of the fault, or else the one on which its document begins, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for BrokenManifest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "document {}, line {}: {}", self.document, self.line, self.why)
    }
}

/// Reads a stream of YAML documents, or of one JSON document. Lists are taken apart; documents without content are none.
///
/// # Errors
/// The first document that is no YAML, or holds something that is no object of Kubernetes.
pub fn manifests(text: &str) -> Result<Vec<Manifest>, BrokenManifest> {
    let (mut all, mut document, mut last_line) = (Vec::new(), 0, 1);
    for found in yaml::documents(text) {
        let (value, line) = found.map_err(|broken| BrokenManifest {
            document: document + 1,
            line: broken.line.unwrap_or(last_line),
            why: format!("it is no YAML: {}", broken.what()),
        })?;
        last_line = line;
        if !value.is_null() {
            document += 1;
            add(value, document, line, &mut all)?;
        }
    }
    Ok(all)
}

/// Adds an object, or those of a list.
fn add(value: Value, document: usize, line: usize, all: &mut Vec<Manifest>) -> Result<(), BrokenManifest> {
    let broken = |why: String| BrokenManifest { document, line, why };
    match value {
        Value::Object(mut list) if list.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) => {
            let Some(Value::Array(items)) = list.remove("items") else {
                return Err(broken("it is a List without items".to_owned()));
            };
            items.into_iter().try_for_each(|item| add(item, document, line, all))
        }
        object => match wrong(&object) {
            Some(why) => Err(broken(why)),
            None => {
                all.push(Manifest { object, document, line });
                Ok(())
            }
        },
    }
}

/// What keeps a value from being an object of Kubernetes.
fn wrong(object: &Value) -> Option<String> {
    if !object.is_object() {
        return Some("it is no object of Kubernetes: it has no fields".to_owned());
    }
    let is_missing = |value: &Value| value.as_str().is_none_or(str::is_empty);
    let missing =
        [("apiVersion", &object["apiVersion"]), ("kind", &object["kind"]), ("metadata.name", &object["metadata"]["name"])]
            .into_iter()
            .find(|(_, value)| is_missing(value));
    match missing {
        Some((field, _)) => Some(format!("it is no object of Kubernetes: it has no {field}")),
        None => naming::wrong(object).map(|why| format!("it is no object of Kubernetes: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n";

    fn names(text: &str) -> Result<Vec<(String, usize, usize)>, String> {
        let name = |manifest: Manifest| {
            (manifest.object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), manifest.document, manifest.line)
        };
        manifests(text).map(|all| all.into_iter().map(name).collect()).map_err(|broken| broken.to_string())
    }

    #[test]
    fn documents_are_found_with_their_lines() {
        let text = format!("# a comment\n---\n{MAP}---\n---\n# nothing\n---\n{}", MAP.replace("istio", "values"));
        assert_eq!(names(&text), Ok(vec![("istio".to_owned(), 1, 2), ("values".to_owned(), 2, 10)]));
        assert_eq!(names(""), Ok(Vec::new()));
    }

    #[test]
    fn lists_and_json_are_taken_apart() {
        let item = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio"}}"#;
        assert_eq!(names(item), Ok(vec![("istio".to_owned(), 1, 1)]));
        let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{item},{item}]}}"#);
        assert_eq!(names(&list).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn what_is_no_kubernetes_is_told_by_its_place() {
        let after = |text: &str| names(&format!("{MAP}---\n{text}")).unwrap_err();
        assert_eq!(after("profile: minimal\n"), "document 2, line 5: it is no object of Kubernetes: it has no apiVersion");
        assert_eq!(after("just words\n"), "document 2, line 5: it is no object of Kubernetes: it has no fields");
        assert_eq!(after("apiVersion: v1\nkind: List\n"), "document 2, line 5: it is a List without items");
        let nameless = "apiVersion: v1\nkind: Service\nmetadata: {}\n";
        assert_eq!(after(nameless), "document 2, line 5: it is no object of Kubernetes: it has no metadata.name");
        assert!(after("a: [\n").starts_with("document 2, line "), "{}", after("a: [\n"));
        assert!(after("a: [\n").contains("it is no YAML: "), "{}", after("a: [\n"));
    }
}
