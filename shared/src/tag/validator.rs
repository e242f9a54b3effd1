//! The validator of configuration that names no revision: it belongs to the `default` tag.

use serde_json::{Value, json};

use super::DEFAULT;
use super::injectors::inherited_labels;
use crate::change::without_server_fields;
use crate::installation::{DEFAULT_VALIDATOR, annotation};
use crate::labels;

/// The one entry of the default validator (manifests/charts/default/templates/validatingwebhook.yaml).
const ENTRY: &str = "validation.istio.io";

/// The default validator, answered by the revision of `injector` (its webhook configuration). `own` is the validator of
/// that revision's own configuration, where it has one; `live` the default validator as it is. `None` when there is
/// nothing to make one from: validation is switched off.
pub(super) fn pointed_to(injector: &Value, own: Option<&Value>, live: Option<&Value>) -> Option<Value> {
    let revision = injector["metadata"]["labels"][labels::REVISION].clone();
    let client_config = client_config(injector, own)?;
    let mut validator = match (live, own) {
        (Some(live), _) => live.clone(),
        (None, Some(own)) => created(own)?,
        (None, None) => return None,
    };
    if live.is_some_and(|live| annotation(live, labels::PREVIOUS).is_none() && is_of_default_tag(live)) {
        // It was the tag's before: there is nothing to go back to but the tag's own history.
    } else if live.is_none_or(|live| annotation(live, labels::PREVIOUS).is_none()) {
        validator["metadata"]["annotations"][labels::PREVIOUS] = previous(live).to_string().into();
    }
    validator["metadata"]["labels"][labels::REVISION] = revision;
    validator["metadata"]["labels"][labels::TAG] = DEFAULT.into();
    for entry in validator["webhooks"].as_array_mut().into_iter().flatten().filter(|entry| entry["name"] == ENTRY) {
        entry["clientConfig"] = client_config.clone();
        // Configuration of a revision is validated by that revision alone; the base chart's validator looks at it too.
        entry["objectSelector"] = json!({"matchExpressions": [{"key": labels::REVISION, "operator": "DoesNotExist"}]});
    }
    Some(validator)
}

/// The default validator after the `default` tag is gone: what it was before; `None` when it was not there.
///
/// One that the installer made with the tag has nothing to go back to: it goes on validating, by the revision that
/// answers now, and only stops being the tag's.
pub(super) fn released(live: &Value) -> Option<Value> {
    let kept: Option<Value> = annotation(live, labels::PREVIOUS).and_then(|text| serde_json::from_str(text).ok());
    match kept {
        Some(Value::Null) => None,
        Some(previous) => {
            let mut validator = live.clone();
            validator["metadata"]["labels"] = previous["labels"].clone();
            validator["webhooks"] = previous["webhooks"].clone();
            if let Some(annotations) = validator["metadata"]["annotations"].as_object_mut() {
                annotations.remove(labels::PREVIOUS);
            }
            Some(validator)
        }
        None => {
            let mut validator = live.clone();
            if let Some(labels) = validator["metadata"]["labels"].as_object_mut() {
                labels.remove(labels::TAG);
            }
            Some(validator)
        }
    }
}

/// Whether the default validator is part of the `default` tag.
pub(super) fn is_of_default_tag(validator: &Value) -> bool {
    validator["metadata"]["labels"][labels::TAG] == DEFAULT
}

/// What the annotation keeps: enough to write the validator as it was.
pub(super) fn previous(live: Option<&Value>) -> Value {
    live.map_or(Value::Null, |live| {
        let live = without_server_fields(live);
        json!({"labels": live["metadata"]["labels"], "webhooks": live["webhooks"]})
    })
}

fn created(own: &Value) -> Option<Value> {
    let mut entry = own["webhooks"].as_array()?.first()?.clone();
    entry["name"] = ENTRY.into();
    // istiod makes it Fail when it has seen that validation works (pkg/webhooks/validation/controller/controller.go).
    entry["failurePolicy"] = "Ignore".into();
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": DEFAULT_VALIDATOR, "labels": inherited_labels(own)},
        "webhooks": [entry],
    }))
}

/// Who validates for the revision: as its own validator says, else the istiod that injects, under another path.
fn client_config(injector: &Value, own: Option<&Value>) -> Option<Value> {
    let of_own = own.and_then(|own| own["webhooks"].as_array()?.first().map(|entry| entry["clientConfig"].clone()));
    let mut client_config =
        of_own.or_else(|| injector["webhooks"].as_array()?.first().map(|entry| entry["clientConfig"].clone()))?;
    if let Some(url) = client_config["url"].as_str() {
        let end = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|slash| url.len() - rest.len() + slash));
        client_config["url"] = format!("{}/validate", &url[..end.unwrap_or(url.len())]).into();
    } else {
        client_config["service"]["path"] = "/validate".into();
    }
    Some(client_config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injector(revision: &str) -> Value {
        let entry =
            json!({"clientConfig": {"caBundle": "Q0E=", "service": {"name": format!("istiod-{revision}"), "path": "/inject"}}});
        json!({"metadata": {"labels": {labels::REVISION: revision}}, "webhooks": [entry]})
    }

    fn base_chart() -> Value {
        json!({
            "metadata": {"name": DEFAULT_VALIDATOR, "labels": {labels::REVISION: "default", "release": "base"}, "uid": "1"},
            "webhooks": [{"name": ENTRY, "failurePolicy": "Fail", "clientConfig": {"service": {"name": "istiod"}}}],
        })
    }

    #[test]
    fn it_moves_and_comes_back() {
        let moved = pointed_to(&injector("x"), None, Some(&base_chart())).unwrap();
        let entry = &moved["webhooks"][0];
        let service = json!({"name": "istiod-x", "path": "/validate"});
        assert_eq!((&entry["clientConfig"]["service"], &entry["failurePolicy"]), (&service, &json!("Fail")));
        assert!(is_of_default_tag(&moved));
        // Moved on, it still knows what it was at first.
        let again = pointed_to(&injector("y"), None, Some(&moved)).unwrap();
        assert_eq!(again["metadata"]["labels"][labels::REVISION], "y");
        let back = released(&again).unwrap();
        let (mut back, before) = (without_server_fields(&back), without_server_fields(&base_chart()));
        assert_eq!(back["metadata"]["annotations"], json!({}));
        back["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(back, before);
    }

    #[test]
    fn one_that_was_not_there_goes_again() {
        let own = json!({
            "metadata": {"name": "istio-validator-x", "labels": {labels::REVISION: "x", "app": "istiod", "operator.istio.io/component": "Pilot"}},
            "webhooks": [{"name": "rev.validation.istio.io", "rules": [1], "failurePolicy": "Fail", "clientConfig": {"url": "https://there:1/inject/a"}}],
        });
        let made = pointed_to(&injector("x"), Some(&own), None).unwrap();
        let entry = &made["webhooks"][0];
        assert_eq!((&entry["name"], &entry["failurePolicy"], &entry["rules"]), (&json!(ENTRY), &json!("Ignore"), &json!([1])));
        assert_eq!(entry["clientConfig"]["url"], "https://there:1/validate");
        assert_eq!(made["metadata"]["labels"].get("operator.istio.io/component"), None);
        assert_eq!(released(&made), None);
        assert_eq!(pointed_to(&injector("x"), None, None), None);
    }
}
