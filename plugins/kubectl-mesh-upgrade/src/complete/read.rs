//! Reads what a revision consists of, and whether that is gone.

use futures::stream::{self, StreamExt, TryStreamExt};
use mesh::change::{Change, Subject};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::read_object;
use mesh::cluster::wait::{Look, Patience, Waited};
use serde_json::Value;

use super::removal::{Part, parts};

/// So many objects are read at once.
const AT_ONCE: usize = 4;

/// The objects that a revision may consist of and that are there, each with its part.
///
/// # Errors
/// When one of them cannot be read: then nobody knows what would be left.
pub async fn consists_of(connection: &Connection, revision: &str, namespace: &str) -> Result<Vec<(Part, Value)>, Failure> {
    let reads = parts(revision, namespace).into_iter().map(|(part, subject)| async move {
        let object = read_object(connection, &subject).await?;
        Ok::<_, Failure>(object.map(|object| (part, with_identity(object, &subject))))
    });
    let found: Vec<Option<(Part, Value)>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

fn with_identity(mut object: Value, subject: &Subject) -> Value {
    object["apiVersion"] = subject.api_version.as_str().into();
    object["kind"] = subject.kind.as_str().into();
    object["plural"] = subject.plural.as_str().into();
    object
}

/// Which of these objects, that were to go, are there: a line each. A controller of Kubernetes may take a moment.
///
/// # Errors
/// When one of them cannot be asked for.
pub async fn left(connection: &Connection, changes: &[Change]) -> Result<Vec<String>, Failure> {
    let look = || async {
        let reads = changes.iter().map(|change| async move {
            let object = read_object(connection, &change.subject).await?;
            Ok::<_, Failure>(object.and_then(|object| still_there(change, &object)))
        });
        let left: Vec<Option<String>> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let left: Vec<String> = left.into_iter().flatten().collect();
        Ok::<_, Failure>(if left.is_empty() { Look::Done(()) } else { Look::NotYet(left.join("\n")) })
    };
    Ok(match Patience::learning().wait(look).await? {
        Waited::Done(()) => Vec::new(),
        Waited::TimedOut(left) => left.lines().map(str::to_owned).collect(),
    })
}

/// Why an object that was to go is there: what is found under its name.
fn still_there(change: &Change, found: &Value) -> Option<String> {
    let subject = &change.subject;
    let before = change.before.as_ref()?;
    let metadata = &found["metadata"];
    let finalizers = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let finalizers = finalizers.collect::<Vec<_>>().join(", ");
    Some(if metadata["uid"] != before["metadata"]["uid"] {
        format!("{subject} is there again: somebody has made it anew")
    } else if metadata["deletionTimestamp"].is_null() {
        format!("{subject} is still there: nobody has deleted it")
    } else if finalizers.is_empty() {
        format!("{subject} is being deleted, and still there")
    } else {
        format!("{subject} is being deleted, and waits for its finalizers: {finalizers}")
    })
}

#[cfg(test)]
mod tests {
    use mesh::object::Resource;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_found_instead_is_named() {
        let change = Change {
            subject: Subject::new(Resource::Services, Some("istio-system"), "istiod"),
            before: Some(json!({"metadata": {"uid": "a"}})),
            after: None,
        };
        let told = |metadata: Value| still_there(&change, &json!({"metadata": metadata})).unwrap();
        assert!(told(json!({"uid": "b"})).ends_with("is there again: somebody has made it anew"));
        assert!(told(json!({"uid": "a"})).ends_with("is still there: nobody has deleted it"));
        let held = json!({"uid": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/hold"]});
        assert!(told(held).ends_with("waits for its finalizers: example.org/hold"));
    }
}
