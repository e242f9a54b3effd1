//! Istio's webhooks before and after another program has run: what it does to them besides the revision's own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mesh::advice::{Advice, Command};
use mesh::change::{Change, Subject};
use mesh::cluster::List;
use mesh::cluster::apply::{self, Persistence, carry_out};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::installation::{DEFAULT_VALIDATOR, label, name};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::{Lookup, Resource};
use mesh::session::VERSION;
use mesh::snapshot::Snapshot;
use mesh::tag::{DEFAULT, Noted, adopted};
use mesh::uses::own::is_of_control_plane;
use serde_json::{Value, json};

/// How often a note is written anew when somebody else has written the object meanwhile.
const ATTEMPTS: usize = 5;

/// The webhook configurations of Istio, by kind and name.
#[derive(Debug, Default)]
pub struct Webhooks(BTreeMap<(Resource, String), Value>);

impl Webhooks {
    /// Reads all of them.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn read(connection: &Connection) -> Result<Webhooks, Failure> {
        let mut found = BTreeMap::new();
        for resource in [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations] {
            for object in List::of(resource).whole(connection).await?.into_iter().filter(is_istios) {
                found.insert((resource, name(&object).to_owned()), object);
            }
        }
        Ok(Webhooks(found))
    }

    /// The configuration of the tag `default`, found as istioctl finds it (`PreviousInstallExists`, istioctl/pkg/tag/util.go of
    /// istio/istio, 1.28; 1.26 is content with any injector, and makes no tag beside one).
    pub fn default_tag(&self) -> Option<&Value> {
        self.0.values().find(|object| {
            object["kind"] == "MutatingWebhookConfiguration"
                && label(object, labels::TAG) == Some(DEFAULT)
                && label(object, labels::APP) == Some("sidecar-injector")
        })
    }

    /// The default validator.
    pub fn default_validator(&self) -> Option<&Value> {
        self.0.get(&(Resource::ValidatingWebhookConfigurations, DEFAULT_VALIDATOR.to_owned()))
    }

    /// Those that are others in `after`, besides the own ones of a revision: made, deleted, or made to ask somebody else or for
    /// something else.
    pub fn changed(&self, after: &Webhooks, revision: &str, namespace: &str) -> Vec<Change> {
        let is_own = |object: &Value| {
            label(object, labels::REVISION) == Some(revision)
                && label(object, labels::TAG).is_none()
                && name(object) != DEFAULT_VALIDATOR
                && is_of_control_plane(object, revision, namespace)
        };
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(after.0.keys()).collect();
        let changes = keys.into_iter().filter_map(|key| {
            let (was, now) = (self.0.get(key), after.0.get(key));
            if was.map(essence) == now.map(essence) || was.or(now).is_some_and(is_own) {
                return None;
            }
            Some(Change { subject: Subject::new(key.0, None, &key.1), before: was.cloned(), after: now.cloned() })
        });
        changes.collect()
    }
}

fn is_istios(object: &Value) -> bool {
    label(object, labels::REVISION).is_some()
        || label(object, labels::TAG).is_some()
        || name(object) == DEFAULT_VALIDATOR
        || label(object, labels::APP) == Some("sidecar-injector")
}

/// What decides who is asked, and for what: without the certificate and the failure policy, which istiods write by themselves.
fn essence(object: &Value) -> Value {
    let entries = object["webhooks"].as_array().into_iter().flatten();
    let entries = entries.map(|entry| {
        let client = &entry["clientConfig"];
        json!([
            entry["name"],
            client["url"],
            client["service"],
            entry["namespaceSelector"],
            entry["objectSelector"],
            entry["rules"],
            entry["matchConditions"],
        ])
    });
    json!([label(object, labels::REVISION), label(object, labels::TAG), entries.collect::<Vec<_>>()])
}

/// Says what has become of a webhook configuration.
pub fn told(change: &Change) -> String {
    let points = |object: &Value| format!("revision {}", label(object, labels::REVISION).unwrap_or("<none>"));
    let subject = &change.subject;
    match (&change.before, &change.after) {
        (None, Some(now)) => format!("{subject} was created, and points to {}", points(now)),
        (Some(was), None) => format!("{subject} was deleted; it pointed to {}", points(was)),
        (Some(was), Some(now)) if points(was) != points(now) => {
            format!("{subject} pointed to {}, and points to {} now", points(was), points(now))
        }
        _ => format!("{subject} was changed: {}", change.differences().join(", ")),
    }
}

/// The command that takes changes of webhooks back. `way_back` leads away from the new revision altogether.
pub fn taking_back(changes: &[Change], way_back: Command) -> Advice {
    let moved = changes.iter().find_map(|change| {
        let was = change.before.as_ref()?;
        Some((label(was, labels::TAG)?, label(was, labels::REVISION)?))
    });
    match moved {
        Some((tag, revision)) => {
            let set = Command::mesh_tag("set").value(tag).flag("--revision", revision).words("--overwrite");
            Advice::run(set).and_say(format!(" moves tag {tag} back"))
        }
        None => Advice::run(way_back).and_say(" takes that back"),
    }
}

/// What `istioctl install` does besides its manifests where no tag `default` is.
pub struct DefaultTag {
    /// The change, and whom it reaches.
    pub effect: String,
}

impl DefaultTag {
    /// What it would do; nothing where the tag is there (`detectIfTagWebhookIsNeeded` and `WebhooksToDeploy`,
    /// operator/pkg/webhook/webhook.go of istio/istio, 1.26 to 1.29).
    pub fn of(webhooks: &Webhooks, snapshot: &Snapshot, revision: &str) -> Option<DefaultTag> {
        if webhooks.default_tag().is_some() {
            return None;
        }
        let follows = |labels: &mesh::object::Labels| match labels.value(labels::INJECTION) {
            Some(injection) => injection == "enabled",
            None => labels.value(labels::REVISION) == Some(DEFAULT),
        };
        let followers = snapshot.namespaces.iter().filter(|(_, labels)| follows(labels));
        let followers: Vec<&str> = followers.map(|(name, _)| &**name).collect();
        let mut injectors = snapshot.injectors.iter();
        let is_served = injectors.any(|injector| injector.revision.as_deref() == Some(DEFAULT) && !injector.is_deactivated());
        let mut effect = match (followers.is_empty(), is_served) {
            (true, _) => "no namespace follows it now".to_owned(),
            (false, false) => format!("it would inject namespaces that nothing injects now: {}", followers.join(", ")),
            (false, true) => format!(
                "it would switch the injector of the install without a revision off, and take its namespaces over: {}",
                followers.join(", ")
            ),
        };
        match webhooks.default_validator().and_then(|validator| label(validator, labels::REVISION)) {
            Some(old) if old != revision => {
                effect.push_str(&format!("; the default validator would move from {old} to {revision}"));
            }
            _ => {}
        }
        Some(DefaultTag { effect })
    }

    /// Whether a change is part of it.
    pub fn is_named(change: &Change) -> bool {
        let is_tag = change.after.as_ref().is_some_and(|now| label(now, labels::TAG) == Some(DEFAULT));
        let is_unrevisioned = change.before.as_ref().is_some_and(|was| {
            label(was, labels::REVISION) == Some(mesh::control_plane::UNREVISIONED) && label(was, labels::TAG).is_none()
        });
        is_tag || change.subject.name == DEFAULT_VALIDATOR || is_unrevisioned
    }
}

/// Notes on a tag `default` that a program has made that there was none before, and what the default validator was.
///
/// # Errors
/// Whatever the API server answers.
pub async fn note(connection: &Connection, before: &Webhooks) -> Result<(), Failure> {
    let time = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
    let noted = Noted { time: &time, version: VERSION };
    for attempt in 1.. {
        let now = Webhooks::read(connection).await?;
        let Some(tag) = now.default_tag().filter(|_| before.default_tag().is_none()) else { return Ok(()) };
        let changes = adopted(tag, before.default_validator(), now.default_validator(), noted);
        let mut written = Ok(());
        for change in &changes {
            written = carry_out(connection, change, Persistence::Stored).await.map(|_| ());
            if written.is_err() {
                break;
            }
        }
        match written {
            // istiods write their certificate meanwhile.
            Err(Failure { cause: Cause::Conflict(_), .. }) if attempt < ATTEMPTS => {}
            done => return done,
        }
    }
    Ok(())
}

/// What [`note`] may ask for, besides listing.
pub fn note_needs() -> Needs {
    let webhooks = [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations];
    apply::needs(None, webhooks, &["update"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(name: &str, labels: Value, service: &str) -> Value {
        json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels, "resourceVersion": "1"},
            "webhooks": [{"name": "a", "clientConfig": {"caBundle": "x", "service": {"name": service, "namespace": "istio-system"}}}]})
    }

    fn webhooks(objects: &[Value]) -> Webhooks {
        let key = |object: &Value| (Resource::MutatingWebhookConfigurations, name(object).to_owned());
        Webhooks(objects.iter().map(|object| (key(object), object.clone())).collect())
    }

    #[test]
    fn only_who_is_asked_counts_and_what_is_the_revisions_own_does_not() {
        let tag = |revision: &str| {
            webhook(
                "istio-revision-tag-prod",
                json!({"istio.io/rev": revision, "istio.io/tag": "prod"}),
                &format!("istiod-{revision}"),
            )
        };
        let own = webhook("istio-sidecar-injector-1-28-2", json!({"istio.io/rev": "1-28-2"}), "istiod-1-28-2");
        let before = webhooks(&[tag("1-26-0")]);
        let mut certified = tag("1-26-0");
        certified["webhooks"][0]["clientConfig"]["caBundle"] = "y".into();
        certified["metadata"]["resourceVersion"] = "2".into();
        assert!(before.changed(&webhooks(&[certified, own.clone()]), "1-28-2", "istio-system").is_empty());
        let changes = before.changed(&webhooks(&[tag("1-28-2"), own]), "1-28-2", "istio-system");
        let lines: Vec<String> = changes.iter().map(told).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("pointed to revision 1-26-0, and points to revision 1-28-2 now"), "{lines:?}");
        let elsewhere = webhook("istio-sidecar-injector-1-28-2-b", json!({"istio.io/rev": "1-28-2"}), "x");
        let mut elsewhere = elsewhere;
        elsewhere["webhooks"][0]["clientConfig"]["service"]["namespace"] = "mesh-b".into();
        assert_eq!(webhooks(&[]).changed(&webhooks(&[elsewhere]), "1-28-2", "istio-system").len(), 1);
        assert_eq!(before.changed(&webhooks(&[]), "1-28-2", "istio-system").len(), 1);
    }

    #[test]
    fn the_default_tag_is_made_only_where_there_is_none() {
        let mut snapshot = Snapshot::default();
        let labels = mesh::object::StringMap::from([("istio-injection".to_owned(), "enabled".to_owned())]);
        snapshot.namespaces.insert("legacy".into(), (&labels).into());
        let effect = DefaultTag::of(&webhooks(&[]), &snapshot, "1-28-2").map(|tag| tag.effect);
        assert_eq!(effect.as_deref(), Some("it would inject namespaces that nothing injects now: legacy"));
        let tag = webhook("any", json!({"app": "sidecar-injector", "istio.io/tag": "default"}), "istiod");
        assert!(DefaultTag::of(&webhooks(&[tag]), &snapshot, "1-28-2").is_none());
    }
}
