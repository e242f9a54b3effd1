//! Single objects whole, as JSON: for what is shown, compared or written back in full. Lists: [`super::List::whole`].

use serde_json::Value;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::request::get_json;
use crate::change::Subject;
use crate::object::naming;

/// Reads one object; `None` when it, or its kind, is not there.
///
/// # Errors
/// Every failure but that; also when the answer is another object than the one that was asked for.
pub async fn read_object(connection: &Connection, subject: &Subject) -> Result<Option<Value>, Failure> {
    let what = format!("reading {subject}");
    match get_json(connection, &subject.path(), &what).await {
        Err(failure) if failure.cause == Cause::NotFound => Ok(None),
        Err(failure) => Err(failure),
        Ok(body) => {
            let object = parse(&what, &body)?;
            match wrong(&object, subject) {
                Some(why) => Err(Failure::new(what, Cause::Decode(why))),
                None => Ok(Some(object)),
            }
        }
    }
}

/// Why an answer cannot be the object that was asked for.
fn wrong(object: &Value, subject: &Subject) -> Option<String> {
    let metadata = &object["metadata"];
    let is_it = metadata["name"] == subject.name.as_str()
        && metadata["namespace"].as_str().unwrap_or_default() == subject.namespace.as_deref().unwrap_or_default();
    naming::wrong(object).or_else(|| (!is_it).then(|| "the answer is another object than the one that was asked for".to_owned()))
}

/// Reads whatever JSON stands behind a path: `/version`, or what discovery tells.
///
/// # Errors
/// Also [`Cause::NotFound`] when the API server does not serve it.
pub async fn read_path(connection: &Connection, path: &str, what: &str) -> Result<Value, Failure> {
    parse(what, &get_json(connection, path, what).await?)
}

pub(super) fn parse(what: &str, body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Resource;

    #[test]
    fn only_the_object_that_was_asked_for_is_an_answer() {
        let subject = Subject::new(Resource::Deployments, Some("shop"), "web");
        let object = |kind: &str, name: &str, namespace: &str| json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        let is_wrong = |object: Value| wrong(&object, &subject).is_some();
        assert!(!is_wrong(object("Deployment", "web", "shop")));
        for other in [
            object("Deployment", "api", "shop"),
            object("Deployment", "web", "pay"),
            object("Deployment\nx", "web", "shop"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
            json!({}),
            json!("web"),
        ] {
            assert!(is_wrong(other.clone()), "{other}");
        }
        let namespace = Subject::new(Resource::Namespaces, None, "shop");
        assert_eq!(wrong(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}), &namespace), None);
    }
}
