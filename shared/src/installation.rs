//! Installations: the objects of the control planes, whole, beside the snapshot that links them. For what changes them.

use serde_json::Value;

use crate::labels;
use crate::snapshot::Snapshot;

/// What is installed in a cluster, without the workloads.
#[derive(Debug, Default)]
pub struct Installation {
    /// The same, linked: injectors, control planes, Services, namespaces, Gateways. It has no workloads.
    pub snapshot: Snapshot,
    /// Every MutatingWebhookConfiguration that injects, sorted by name.
    pub injectors: Vec<Value>,
    /// Every ValidatingWebhookConfiguration of Istio's, sorted by name.
    pub validators: Vec<Value>,
    /// Every Service in the namespaces of control planes, sorted by namespace and name.
    pub services: Vec<Value>,
    /// Every Gateway, sorted by namespace and name.
    pub gateways: Vec<Value>,
    /// The Deployments of control planes, sorted by namespace and name, as far as they could be read
    /// ([`Snapshot::may_hide_control_planes`]).
    pub istiods: Vec<Value>,
}

impl Installation {
    /// An object among these, by its label.
    pub fn labelled<'a>(objects: &'a [Value], key: &'a str, value: &'a str) -> impl Iterator<Item = &'a Value> {
        objects.iter().filter(move |object| label(object, key) == Some(value))
    }

    /// The configuration of a tag's injector.
    pub fn tag_webhooks<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Value> {
        Installation::labelled(&self.injectors, labels::TAG, tag)
    }

    /// The Services of a tag (since Istio 1.28).
    pub fn tag_services<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Value> {
        Installation::labelled(&self.services, labels::TAG, tag).filter(|service| label(service, labels::APP) == Some("istiod"))
    }

    /// The configurations of a revision's own injector: with its label, and no tag's.
    pub fn revision_webhooks<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a Value> {
        Installation::labelled(&self.injectors, labels::REVISION, revision)
            .filter(|webhook| label(webhook, labels::TAG).is_none())
    }

    /// The validator of configuration that names no revision.
    pub fn default_validator(&self) -> Option<&Value> {
        // The one name that istiod itself looks for (pkg/revisions/tag_watcher.go).
        self.validators.iter().find(|validator| name(validator) == DEFAULT_VALIDATOR)
    }

    /// The validator of a revision's own configuration.
    pub fn revision_validator(&self, revision: &str) -> Option<&Value> {
        self.validators.iter().find(|validator| {
            name(validator) != DEFAULT_VALIDATOR
                && label(validator, labels::REVISION) == Some(revision)
                && label(validator, labels::TAG).is_none()
        })
    }
}

/// Name of the validator of configuration that names no revision.
pub const DEFAULT_VALIDATOR: &str = "istiod-default-validator";

/// A whole object's name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// A whole object's namespace; empty when it has none.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// A label of a whole object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// An annotation of a whole object.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}
