//! What has become of a change: whether an object that was found is as it was to be, and what of it is not.
//!
//! An answer of 200 does not say so: a webhook may have put fields back, a proxy may have answered in the API server's place, and an
//! object with finalizers stays when it is deleted.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::change::{Change, are_named, name_of, short, without_server_fields};
use crate::installation::label;

/// What of a change an object that was found does not show, a line each; none where it is carried out.
///
/// What others add does not count: the API server's defaults, annotations of a load balancer, terms that a platform adds to
/// selectors. Nor do certificates that istiod writes into webhooks, and the failure policy that it gives a validator.
pub fn missing(change: &Change, found: Option<&Value>) -> Vec<String> {
    let subject = &change.subject;
    let Some(after) = &change.after else { return found.and_then(|found| still_there(change, found)).into_iter().collect() };
    let Some(found) = found else { return vec![format!("{subject} is not there")] };
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    if change.before.as_ref().is_some_and(|before| uid(before) != uid(found)) {
        return vec![format!("{subject} is another one: somebody has made it anew")];
    }
    if let Some(ending) = ending(found) {
        return vec![format!("{subject} {ending}")];
    }
    let lasting = |object: &Value| without_given_fields(object, &subject.kind);
    let mut lines = Vec::new();
    let before = change.before.as_ref().map_or(Value::Null, lasting);
    compare("", &before, &lasting(after), &lasting(found), &mut lines);
    lines.into_iter().map(|line| format!("{subject}: {line}")).collect()
}

/// Whether the API server has taken a change on: an object that was to go may wait for its finalizers yet, or another one may have its
/// name by now.
pub fn is_accepted(change: &Change, found: Option<&Value>) -> bool {
    match (&change.after, &change.before, found) {
        (None, Some(before), Some(found)) => before["metadata"]["uid"] != found["metadata"]["uid"] || ending(found).is_some(),
        _ => missing(change, found).is_empty(),
    }
}

/// What of these labels an object that was found has not, a line each. `before` is the object that they were written to; a label whose
/// value is `None` was to go.
pub fn missing_labels<'a>(
    before: &Value,
    found: Option<&'a Value>,
    wanted: &'a BTreeMap<&'static str, Option<String>>,
) -> impl Iterator<Item = String> + use<'a> {
    let is_same = found.is_some_and(|found| found["metadata"]["uid"] == before["metadata"]["uid"]);
    let gone = (!is_same).then(|| "is not there any more, or was made anew".to_owned());
    let labels = found.filter(|_| is_same).into_iter().flat_map(|found| {
        wanted.iter().filter_map(|(key, value)| match (label(found, key), value.as_deref()) {
            (has, wanted) if has == wanted => None,
            (Some(has), Some(wanted)) => Some(format!("has {key}={has}, not {key}={wanted}")),
            (Some(has), None) => Some(format!("has {key}={has} again")),
            (None, _) => Some(format!("has no label {key} any more")),
        })
    });
    gone.into_iter().chain(labels)
}

/// That an object is being deleted, and what that waits for: the end of a sentence about it. It is gone soon, whatever is written into
/// it, and nothing takes that back. A namespace that is being deleted waits for what is in it.
pub fn ending(object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let of_namespace = object["spec"]["finalizers"].as_array().filter(|_| object["kind"] == "Namespace");
    let finalizers = metadata["finalizers"].as_array().into_iter().chain(of_namespace).flatten().filter_map(Value::as_str);
    let finalizers = finalizers.collect::<Vec<_>>().join(", ");
    Some(if finalizers.is_empty() {
        "is being deleted".to_owned()
    } else {
        format!("is being deleted, and waits for its finalizers: {finalizers}")
    })
}

/// Why an object that was to go is there: what is found under its name.
fn still_there(change: &Change, found: &Value) -> Option<String> {
    let subject = &change.subject;
    let before = change.before.as_ref()?;
    Some(if found["metadata"]["uid"] != before["metadata"]["uid"] {
        format!("{subject} is there again: somebody has made it anew")
    } else {
        match ending(found) {
            None => format!("{subject} is still there: nobody has deleted it"),
            Some(ending) if ending.contains("finalizers") => format!("{subject} {ending}"),
            Some(ending) => format!("{subject} {ending}, and still there"),
        }
    })
}

/// An object without what only the API server writes, and without what istiod writes into webhooks by itself.
fn without_given_fields(object: &Value, kind: &str) -> Value {
    let mut object = without_server_fields(object);
    for port in object["spec"]["ports"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        // The API server gives it, and gives it back when it is left out.
        port.remove("nodePort");
    }
    for entry in object["webhooks"].as_array_mut().into_iter().flatten() {
        if let Some(client_config) = entry["clientConfig"].as_object_mut() {
            client_config.remove("caBundle");
        }
        // istiod makes it Fail once validation works (pkg/webhooks/validation/controller/controller.go).
        if let Some(entry) = entry.as_object_mut().filter(|_| kind == "ValidatingWebhookConfiguration") {
            entry.remove("failurePolicy");
        }
    }
    object
}

/// Notes where `found` is not as a change from `before` to `after` was to make it: what was to be there has to be, and what was to go
/// has to be gone.
fn compare(path: &str, before: &Value, after: &Value, found: &Value, lines: &mut Vec<String>) {
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (after, found) {
        (Value::Object(wanted), _) if found.is_object() || found.is_null() => {
            for (key, after) in wanted {
                compare(&child(key), &before[key], after, &found[key], lines);
            }
            for (key, value) in found.as_object().into_iter().flatten().filter(|(key, _)| !wanted.contains_key(*key)) {
                // One more label in it selects other pods.
                if path == "spec.selector" {
                    lines.push(format!("{} is {}, and was not to be there", child(key), short(value)));
                } else {
                    compare(&child(key), &before[key], &Value::Null, value, lines);
                }
            }
        }
        (Value::Array(wanted), Value::Array(is)) if are_named(wanted) && (are_named(is) || is.is_empty()) => {
            let none = Vec::new();
            let was = before.as_array().unwrap_or(&none);
            for after in wanted {
                let name = name_of(after).unwrap_or_default();
                let path = format!("{path}[{name}]");
                match element(is, name) {
                    Some(found) => compare(&path, element(was, name).unwrap_or(&Value::Null), after, found, lines),
                    None => lines.push(format!("{path} is not there")),
                }
            }
            let more = is.iter().filter_map(name_of).filter(|name| element(wanted, name).is_none());
            lines.extend(more.map(|name| format!("{path}[{name}] is there, and was not to be")));
        }
        (Value::Array(wanted), Value::Array(is)) => {
            let is_in = |item: &Value, items: &[Value]| items.iter().any(|found| contains(found, item));
            let lost = wanted.iter().filter(|item| !is_in(item, is)).map(|item| format!("{path} lacks {}", short(item)));
            let was = before.as_array().into_iter().flatten().filter(|item| !is_in(item, wanted));
            let back = was.filter(|item| is_in(item, is)).map(|item| format!("{path} has {} again", short(item)));
            lines.extend(lost.chain(back));
        }
        (after, found) if after == found || is_empty(after) && is_empty(found) => {}
        // Nothing was said about it before either: a default.
        (after, _) if is_empty(after) && is_empty(before) => {}
        (after, found) if is_empty(after) => lines.push(format!("{path} is {} again", short(found))),
        (after, Value::Null) => lines.push(format!("{path} is not there, and was to be {}", short(after))),
        (after, found) => lines.push(format!("{path} is {}, not {}", short(found), short(after))),
    }
}

fn element<'a>(items: &'a [Value], name: &str) -> Option<&'a Value> {
    items.iter().find(|item| name_of(item) == Some(name))
}

/// Whether `whole` has everything that `part` has. The API server adds defaults, and never leaves out what it was given.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (_, Value::Null) => true,
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, part)| match whole.get(key) {
            Some(whole) => contains(whole, part),
            None => is_empty(part),
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::change::Subject;
    use crate::labels;
    use crate::object::Resource;

    fn change(resource: Resource, before: Value, after: Value) -> Change {
        let value = |value: Value| if value.is_null() { None } else { Some(value) };
        Change { subject: Subject::new(resource, Some("istio-system"), "mut"), before: value(before), after: value(after) }
    }

    fn check(change: &Change, found: Value, expected: &[&str]) {
        let found = if found.is_null() { None } else { Some(found) };
        let subject = change.subject.to_string();
        let lines = missing(change, found.as_ref());
        let lines: Vec<&str> =
            lines.iter().map(|line| line.strip_prefix(&subject).expect("the object is named").trim()).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn fields_that_were_put_back_are_named_and_what_others_add_is_not() {
        let service = |revision: &str| {
            json!({
                "metadata": {"uid": "u", "labels": {"istio.io/rev": revision}},
                "spec": {"selector": {"istio.io/rev": revision}, "ports": [{"name": "a", "port": 1}], "clusterIP": "10.0.0.1"},
            })
        };
        let moved = change(Resource::Services, service("old"), service("new"));
        let mut found = service("new");
        found["metadata"]["annotations"] = json!({"cloud": "address"});
        found["spec"]["ports"][0]["nodePort"] = 31000.into();
        found["status"] = json!({"loadBalancer": {}});
        check(&moved, found.clone(), &[]);
        check(
            &moved,
            service("old"),
            &[": metadata.labels.istio.io/rev is old, not new", ": spec.selector.istio.io/rev is old, not new"],
        );
        found["spec"]["selector"]["track"] = "other".into();
        check(&moved, found, &[": spec.selector.track is other, and was not to be there"]);
        check(&moved, json!(null), &["is not there"]);
        let mut another = service("new");
        another["metadata"]["uid"] = "v".into();
        check(&moved, another, &["is another one: somebody has made it anew"]);
        let status = json!({"kind": "Status", "metadata": {}, "status": "Success"});
        check(&moved, status.clone(), &["is another one: somebody has made it anew"]);
        let mut made = service("new");
        made["metadata"].as_object_mut().unwrap().remove("uid");
        let made = change(Resource::Services, json!(null), made);
        check(&made, service("new"), &[]);
        assert!(!missing(&made, Some(&status)).is_empty());
    }

    #[test]
    fn what_was_taken_away_has_to_be_gone() {
        let webhook = |terms: Value| {
            json!({
                "metadata": {"uid": "u"},
                "webhooks": [{
                    "name": "rev", "namespaceSelector": {"matchExpressions": terms}, "failurePolicy": "Fail",
                    "clientConfig": {"caBundle": "x", "service": {"name": "istiod"}},
                }],
            })
        };
        let (off, own) = (json!({"key": "off", "operator": "Exists"}), json!({"key": "rev", "operator": "In", "values": ["a"]}));
        let freed = change(Resource::MutatingWebhookConfigurations, webhook(json!([off, own])), webhook(json!([own])));
        let mut found = webhook(json!([own, {"key": "control-plane", "operator": "DoesNotExist"}]));
        found["webhooks"][0]["clientConfig"]["caBundle"] = "y".into();
        check(&freed, found.clone(), &[]);
        check(
            &freed,
            webhook(json!([own, off])),
            &[r#": webhooks[rev].namespaceSelector.matchExpressions has {"key":"off","operator":"Exists"} again"#],
        );
        check(
            &freed,
            webhook(json!([])),
            &[r#": webhooks[rev].namespaceSelector.matchExpressions lacks {"key":"rev","operator":"In","values":["a"]}"#],
        );
        found["webhooks"][0]["failurePolicy"] = "Ignore".into();
        check(&freed, found.clone(), &[": webhooks[rev].failurePolicy is Ignore, not Fail"]);
        found["webhooks"] = json!([]);
        check(&freed, found, &[": webhooks[rev] is not there"]);
        let labelled = |labels: Value| json!({"metadata": {"uid": "u", "labels": labels}});
        let released = change(
            Resource::ValidatingWebhookConfigurations,
            labelled(json!({"istio.io/tag": "default", "a": "b"})),
            labelled(json!({"a": "b"})),
        );
        check(&released, labelled(json!({"a": "b", "c": "d"})), &[]);
        check(
            &released,
            labelled(json!({"a": "b", "istio.io/tag": "default"})),
            &[": metadata.labels.istio.io/tag is default again"],
        );
    }

    #[test]
    fn what_was_to_go_and_is_there_is_named_with_what_it_waits_for() {
        let gone = change(Resource::Services, json!({"metadata": {"uid": "a"}}), json!(null));
        check(&gone, json!(null), &[]);
        check(&gone, json!({"metadata": {"uid": "b"}}), &["is there again: somebody has made it anew"]);
        check(&gone, json!({"metadata": {"uid": "a"}}), &["is still there: nobody has deleted it"]);
        let mut held = json!({"uid": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.org/hold"]});
        check(&gone, json!({"metadata": held}), &["is being deleted, and waits for its finalizers: example.org/hold"]);
        assert!(
            is_accepted(&gone, Some(&json!({"metadata": held}))) && is_accepted(&gone, Some(&json!({"metadata": {"uid": "b"}})))
        );
        assert!(is_accepted(&gone, None) && !is_accepted(&gone, Some(&json!({"metadata": {"uid": "a"}}))));
        held["finalizers"] = json!([]);
        check(&gone, json!({"metadata": held}), &["is being deleted, and still there"]);
        let namespace = json!({
            "kind": "Namespace", "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes"]},
        });
        assert_eq!(ending(&namespace).unwrap(), "is being deleted, and waits for its finalizers: kubernetes");
        assert_eq!(ending(&json!({"metadata": {"finalizers": ["example.org/hold"]}})), None);
    }

    #[test]
    fn labels_that_are_not_as_they_were_written_are_named() {
        let namespace = |uid: &str, labels: Value| json!({"metadata": {"name": "shop", "uid": uid, "labels": labels}});
        let before = namespace("1", json!({"istio-injection": "enabled"}));
        let wanted = BTreeMap::from([(labels::REVISION, Some("1-28-2".to_owned())), (labels::INJECTION, None)]);
        let check = |found: Option<Value>, expected: &[&str]| {
            assert_eq!(missing_labels(&before, found.as_ref(), &wanted).collect::<Vec<_>>(), expected);
        };
        check(Some(namespace("1", json!({"istio.io/rev": "1-28-2", "team": "shop"}))), &[]);
        check(
            Some(namespace("1", json!({"istio.io/rev": "1-26-0", "istio-injection": "enabled"}))),
            &["has istio-injection=enabled again", "has istio.io/rev=1-26-0, not istio.io/rev=1-28-2"],
        );
        check(Some(namespace("1", json!({}))), &["has no label istio.io/rev any more"]);
        check(Some(namespace("2", json!({"istio.io/rev": "1-28-2"}))), &["is not there any more, or was made anew"]);
        check(None, &["is not there any more, or was made anew"]);
    }

    #[test]
    fn defaults_that_the_server_adds_do_not_hide_that_a_write_has_happened() {
        let part = json!({"a": {"b": 1}, "list": [{"x": 1}], "none": null, "empty": {}});
        assert!(contains(&json!({"a": {"b": 1, "c": 2}, "list": [{"x": 1, "y": 2}], "d": 3}), &part));
        for other in [json!({"a": {"b": 2}, "list": [{"x": 1}]}), json!({"a": {"b": 1}, "list": []}), json!({})] {
            assert!(!contains(&other, &part), "{other}");
        }
    }
}
