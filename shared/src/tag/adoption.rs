//! The tag `default` as an installer has made it, with the notes by which it can be taken back.

use serde_json::Value;

use super::history::{Move, history, text, with_move};
use super::validator::{is_of_default_tag, previous};
use crate::change::{Action, Change, Subject};
use crate::installation::{annotation, name};
use crate::labels;
use crate::object::Resource;

/// The moment of a note, and who writes it.
#[derive(Clone, Copy, Debug)]
pub struct Noted<'a> {
    /// Now, RFC 3339.
    pub time: &'a str,
    /// The plugin's version.
    pub version: &'a str,
}

/// Notes what was there before an installer made the tag `default`: no tag, and the default validator `before`. Taking the tag back then
/// leaves that. `webhook` is the tag's configuration and `validator` the default validator, as the installer has left them.
pub fn adopted(webhook: &Value, before: Option<&Value>, validator: Option<&Value>, noted: Noted<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    // The validator first: a tag with a history is one whose validator is known.
    if let Some(validator) =
        validator.filter(|validator| is_of_default_tag(validator) && annotation(validator, labels::PREVIOUS).is_none())
    {
        let mut after = validator.clone();
        after["metadata"]["annotations"][labels::PREVIOUS] = previous(before).to_string().into();
        changes.push(change(Resource::ValidatingWebhookConfigurations, validator, after));
    }
    if history(webhook).is_empty() {
        let mut after = webhook.clone();
        let made = Move { from: None, time: noted.time.to_owned(), version: noted.version.to_owned(), undone: false };
        after["metadata"]["annotations"][labels::HISTORY] = text(&with_move(Vec::new(), made)).into();
        changes.push(change(Resource::MutatingWebhookConfigurations, webhook, after));
    }
    changes.retain(|change| change.action() != Action::None);
    changes
}

fn change(resource: Resource, before: &Value, after: Value) -> Change {
    Change { subject: Subject::new(resource, None, name(before)), before: Some(before.clone()), after: Some(after) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::validator::released;
    use super::*;

    #[test]
    fn what_was_before_an_installer_made_the_tag_is_noted_once() {
        let noted = Noted { time: "2026-01-01T00:00:00Z", version: "1" };
        let webhook = json!({"metadata": {"name": "istio-revision-tag-default", "labels": {labels::TAG: "default"}}});
        let validator = |revision: &str, tag: Value| json!({"metadata": {"name": "istiod-default-validator", "labels": {labels::REVISION: revision, labels::TAG: tag}}, "webhooks": []});
        let (before, now) = (validator("1-26-0", Value::Null), validator("1-28-2", "default".into()));
        let changes = adopted(&webhook, Some(&before), Some(&now), noted);
        let after: Vec<&Value> = changes.iter().filter_map(|change| change.after.as_ref()).collect();
        assert_eq!(released(after[0]).unwrap()["metadata"]["labels"][labels::REVISION], "1-26-0");
        assert_eq!(history(after[1]).pop().map(|made| made.from), Some(None));
        assert!(adopted(after[1], Some(&before), Some(after[0]), noted).is_empty(), "it is noted already");
        // One that was not there before goes with the tag.
        let made = adopted(&webhook, None, Some(&now), noted);
        assert_eq!(released(made[0].after.as_ref().unwrap()), None);
    }
}
