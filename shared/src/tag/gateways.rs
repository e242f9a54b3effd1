//! Whose the Gateways of the Gateway API are, and which of them a change of tags or labels hands to another istiod.
//!
//! One rule, of istiod's own (`IsMine` and `GetMyTags`, pkg/revisions/tag_watcher.go): a Gateway names a revision or tag by its own
//! label, else by that of its namespace, else it belongs to the default one. Istio's other configuration is not divided so: what
//! names no revision there is read by all of them (`LabelsInRevision`, pkg/config/model.go).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::DEFAULT;
use crate::advice::{Advice, Command};
use crate::change::Change;
use crate::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use crate::labels;
use crate::object::{Labels, Lookup, Resource};
use crate::refusal::Refusal;
use crate::terminal::words::plural;
use crate::version::Version;

/// The one name by which istiod looks for a default tag that points elsewhere.
const DEFAULT_TAG_WEBHOOK: &str = "istio-revision-tag-default";

/// Since then istiod looks at the Services of tags, and at the default validator, too.
const WITH_SERVICES: (u32, u32) = (1, 28);

/// Since then a Gateway that another istiod makes keeps its connections.
const GENTLE: (u32, u32) = (1, 31);

/// Whether istiod makes the Deployment of this Gateway: by the names of its own classes, which are the only ones that it
/// installs (pilot/pkg/config/kube/gatewaycommon/classinfo.go). `istio-remote` is not managed.
pub(crate) fn is_istios(gateway: &Value) -> bool {
    let class = gateway["spec"]["gatewayClassName"].as_str().unwrap_or_default();
    class == "istio" || (class.starts_with("istio-") && class != "istio-remote")
}

/// What a Gateway names: by its own label, which an empty one is too, else by that of its namespace. `None` when nothing.
pub(crate) fn named<'a>(gateway: &'a Value, namespaces: &'a BTreeMap<Arc<str>, Labels>) -> Option<&'a str> {
    let of_namespace = || namespaces.get(namespace(gateway)).and_then(|labels| labels.value(labels::REVISION));
    label(gateway, labels::REVISION).or_else(of_namespace).filter(|named| !named.is_empty())
}

/// A Gateway, as kubectl takes it.
pub(crate) fn gateway_subject(gateway: &Value) -> String {
    format!("gateway/{} -n {}", name(gateway), namespace(gateway))
}

/// What gives a Gateway a revision of its own.
pub(crate) fn label_gateway(gateway: &Value) -> Command {
    Command::kubectl("label")
        .value(format!("gateways.gateway.networking.k8s.io/{}", name(gateway)))
        .namespace(namespace(gateway))
        .words("istio.io/rev=REVISION --overwrite")
}

/// What decides whose each Gateway is, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayRevisions {
    /// The revisions that have a control plane, with its version.
    planes: BTreeMap<String, Option<Version>>,
    /// Webhook configurations of tags, by name: the tag and where it points.
    webhooks: BTreeMap<String, (String, String)>,
    /// Services of tags, by namespace and name: likewise.
    services: BTreeMap<(String, String), (String, String)>,
    /// The revision of the default validator.
    validator: Option<String>,
    /// What the labels of namespaces name.
    namespaces: BTreeMap<String, String>,
}

impl GatewayRevisions {
    /// As it is.
    pub fn of(installation: &Installation) -> GatewayRevisions {
        let mut revisions = GatewayRevisions::default();
        for plane in &installation.snapshot.control_planes {
            let version = revisions.planes.entry(plane.revision.clone()).or_default();
            *version = version.take().max(plane.version());
        }
        installation.injectors.iter().for_each(|webhook| revisions.put_webhook(webhook));
        installation.services.iter().for_each(|service| revisions.put_service(service));
        revisions.validator =
            installation.default_validator().and_then(|found| label(found, labels::REVISION)).map(str::to_owned);
        let namespaces = &installation.snapshot.namespaces;
        let named =
            namespaces.iter().filter_map(|(name, labels)| Some((name.to_string(), labels.value(labels::REVISION)?.to_owned())));
        revisions.namespaces = named.collect();
        revisions
    }

    fn put_webhook(&mut self, webhook: &Value) {
        if let Some(points) = points(webhook) {
            self.webhooks.insert(name(webhook).to_owned(), points);
        }
    }

    fn put_service(&mut self, service: &Value) {
        if let Some(points) = points(service) {
            self.services.insert((namespace(service).to_owned(), name(service).to_owned()), points);
        }
    }

    /// Once these changes are made, of a tag's objects.
    pub fn after(mut self, changes: &[Change]) -> GatewayRevisions {
        for Change { subject, after, .. } in changes {
            match subject.kind.as_str() {
                "MutatingWebhookConfiguration" => {
                    self.webhooks.remove(&subject.name);
                    after.iter().for_each(|webhook| self.put_webhook(webhook));
                }
                "Service" => {
                    self.services.remove(&(subject.namespace.clone().unwrap_or_default(), subject.name.clone()));
                    after.iter().for_each(|service| self.put_service(service));
                }
                "ValidatingWebhookConfiguration" if subject.name == DEFAULT_VALIDATOR => {
                    self.validator = after.as_ref().and_then(|after| label(after, labels::REVISION)).map(str::to_owned);
                }
                _ => {}
            }
        }
        self
    }

    /// With a namespace that names this; nothing when `None`.
    pub fn with_namespace(mut self, namespace: &str, revision: Option<&str>) -> GatewayRevisions {
        self.namespaces.remove(namespace);
        self.namespaces.extend(revision.map(|revision| (namespace.to_owned(), revision.to_owned())));
        self
    }

    /// With a control plane of this revision.
    pub fn with_control_plane(mut self, revision: &str, version: Option<Version>) -> GatewayRevisions {
        self.planes.insert(revision.to_owned(), version);
        self
    }

    /// The revisions whose istiods take this Gateway for theirs. None: nobody serves it. Several: they fight for it.
    pub fn of_gateway(&self, gateway: &Value) -> BTreeSet<&str> {
        let of_namespace = || self.namespaces.get(namespace(gateway)).map(String::as_str);
        let named = label(gateway, labels::REVISION).or_else(of_namespace).unwrap_or_default();
        self.planes.keys().map(String::as_str).filter(|revision| self.is_of(revision, named)).collect()
    }

    /// The revisions that Gateways belong to which name nothing.
    pub fn default_ones(&self) -> BTreeSet<&str> {
        self.planes.keys().map(String::as_str).filter(|revision| self.is_of(revision, "")).collect()
    }

    fn is_of(&self, revision: &str, named: &str) -> bool {
        let is_default = || named.is_empty() && (self.has_tag(revision, DEFAULT) || self.is_default_by_validator(revision));
        self.has_tag(revision, named) || is_default()
    }

    /// Whether a revision bears this name, itself or by a tag.
    fn has_tag(&self, revision: &str, tag: &str) -> bool {
        let is_it = |points: &(String, String)| points.0 == tag && points.1 == revision;
        revision == tag
            || self.webhooks.values().any(is_it)
            || (self.knows_services(revision) && self.services.values().any(is_it))
    }

    fn is_default_by_validator(&self, revision: &str) -> bool {
        self.knows_services(revision)
            && self.validator.as_deref() == Some(revision)
            && !self.webhooks.contains_key(DEFAULT_TAG_WEBHOOK)
    }

    /// One whose version is not known may do so.
    fn knows_services(&self, revision: &str) -> bool {
        self.planes.get(revision).and_then(Option::as_ref).is_none_or(|version| version.line() >= WITH_SERVICES)
    }

    /// Which Gateways a change hands to other istiods than now, each of which makes it anew at once. Whether pods of a Gateway run
    /// does not count: what runs may be of a revision that has served it before.
    pub fn handover(&self, after: &GatewayRevisions, gateways: &[Value]) -> Handover {
        let mut handover = Handover::default();
        for gateway in gateways.iter().filter(|gateway| is_istios(gateway)) {
            let (old, new) = (self.of_gateway(gateway), after.of_gateway(gateway));
            if new.is_empty() && !old.is_empty() {
                handover.left.push(gateway.clone());
            } else if new != old {
                handover.gateways.push(format!("{}/{}", namespace(gateway), name(gateway)));
                let is_gentle = |revision: &&str| {
                    let version = after.planes.get(*revision).and_then(Option::as_ref);
                    version.is_some_and(|version| version.line() >= GENTLE)
                };
                handover.costs_traffic |= !new.iter().all(is_gentle);
            }
        }
        handover
    }
}

/// The tag of an object, and where it points.
fn points(object: &Value) -> Option<(String, String)> {
    let (tag, revision) = (label(object, labels::TAG)?, label(object, labels::REVISION)?);
    Some((tag.to_owned(), revision.to_owned()))
}

/// Gateways that come to another istiod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handover {
    /// Those that other istiods make at once: `namespace/name`.
    pub gateways: Vec<String>,
    /// Those that no istiod serves any more, whole.
    pub left: Vec<Value>,
    /// Whether it costs traffic.
    costs_traffic: bool,
}

impl Handover {
    /// Refuses to have Gateways replaced at once. Until Istio 1.31 one that istiod makes anew loses its connections.
    ///
    /// # Errors
    /// A [`Refusal`] that names them.
    pub fn check_consent(&self) -> Result<(), Refusal> {
        if self.gateways.is_empty() || !self.costs_traffic {
            return Ok(());
        }
        let count = plural(self.gateways.len() as u64, "gateway", "gateways");
        let refusal = Refusal::new(
            format!("istiod would replace {count} at once, which costs traffic until Istio 1.31"),
            "the same command with --accept-gateway-restart, or give them a revision of their own by their label istio.io/rev",
        );
        Err(refusal.with(self.gateways.clone()))
    }

    /// Refuses to leave Gateways without any istiod: they lose their listeners and routes with their next configuration.
    ///
    /// # Errors
    /// A [`Refusal`] that names them.
    pub fn check_served(&self) -> Result<(), Refusal> {
        let Some(first) = self.left.first() else { return Ok(()) };
        let count = plural(self.left.len() as u64, "Gateway", "Gateways");
        let reason = format!("{count} would belong to no revision: no istiod gives them listeners and routes then");
        Err(Refusal::new(reason, own_revision(first)).with(self.left.iter().map(gateway_subject).collect()))
    }
}

/// What keeps a Gateway served, whatever happens to the default revision.
fn own_revision(first: &Value) -> Advice {
    Advice::say("give each a revision of its own: ").and_run(label_gateway(first))
}

/// What has to be read to say whose the Gateways of these namespaces are, and was not: a line each.
pub fn unread_of_gateways(installation: &Installation, namespaces: &[&str]) -> Vec<String> {
    let is_unread = |resource: Resource| installation.snapshot.unread.iter().any(|unread| unread.resource == resource);
    let is_here = |gateway: &&Value| namespaces.contains(&namespace(gateway)) && label(gateway, labels::REVISION).is_none();
    let deciding: &[Resource] = if installation.gateways.iter().any(|gateway| is_here(&gateway)) {
        &[Resource::MutatingWebhookConfigurations, Resource::Services, Resource::ValidatingWebhookConfigurations]
    } else {
        &[]
    };
    let unread = [Resource::Gateways].iter().chain(deciding).filter(|resource| is_unread(**resource));
    unread.map(|resource| format!("{resource} could not be read")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::change::Subject;

    fn gateway(own: Value) -> Value {
        json!({"metadata": {"name": "edge", "namespace": "shop", "labels": own}, "spec": {"gatewayClassName": "istio"}})
    }

    fn planes(of: &[(&str, &str)]) -> GatewayRevisions {
        let planes = of.iter().map(|(revision, version)| ((*revision).to_owned(), version.parse().ok()));
        GatewayRevisions { planes: planes.collect(), ..GatewayRevisions::default() }
    }

    fn object(kind: &str, name: &str, tag: &str, revision: &str) -> Change {
        let mut subject = Subject::new(Resource::MutatingWebhookConfigurations, None, name);
        subject.kind = kind.to_owned();
        let after = json!({"metadata": {"name": name, "labels": {"istio.io/tag": tag, "istio.io/rev": revision}}});
        Change { subject, before: None, after: Some(after) }
    }

    #[test]
    fn a_gateway_names_a_revision_or_a_tag_itself_or_by_its_namespace_or_is_the_defaults() {
        let old_and_new = || planes(&[("1-26-0", "1.26.0"), ("1-28-2", "1.28.2")]);
        let webhook = |tag: &str, revision: &str| {
            object("MutatingWebhookConfiguration", &format!("istio-revision-tag-{tag}"), tag, revision)
        };
        let check = |revisions: &GatewayRevisions, own: Value, expected: &[&str]| {
            assert_eq!(revisions.of_gateway(&gateway(own)).into_iter().collect::<Vec<_>>(), expected);
        };
        check(&old_and_new(), json!({"istio.io/rev": "1-26-0"}), &["1-26-0"]);
        check(&old_and_new(), json!({}), &[]);
        let tagged = old_and_new().after(&[webhook("prod", "1-28-2"), webhook("default", "1-26-0")]);
        check(&tagged, json!({"istio.io/rev": "prod"}), &["1-28-2"]);
        check(&tagged, json!({}), &["1-26-0"]);
        let followed = tagged.clone().with_namespace("shop", Some("prod"));
        check(&followed, json!({}), &["1-28-2"]);
        // An empty label is one: it asks for the default revision.
        check(&followed, json!({"istio.io/rev": ""}), &["1-26-0"]);
        check(&followed.with_namespace("shop", None), json!({}), &["1-26-0"]);
        // The install without a revision bears the name itself.
        check(&planes(&[("default", "1.26.0")]), json!({}), &["default"]);
    }

    #[test]
    fn services_and_the_validator_count_for_those_who_look_at_them() {
        let validator = |revision: &str| {
            let mut change = object("ValidatingWebhookConfiguration", DEFAULT_VALIDATOR, "", revision);
            change.subject.kind = "ValidatingWebhookConfiguration".to_owned();
            change
        };
        let default = |revisions: &GatewayRevisions| revisions.default_ones().into_iter().map(str::to_owned).collect::<Vec<_>>();
        for (revision, version, expected) in [("1-26-0", "1.26.0", 0), ("1-28-2", "1.28.2", 1)] {
            let plane = || planes(&[(revision, version), ("other", "1.26.0")]);
            assert_eq!(default(&plane().after(&[object("Service", "s", "default", revision)])).len(), expected);
            let validated = plane().after(&[validator(revision)]);
            assert_eq!(default(&validated).len(), expected);
            // A default tag that points elsewhere takes precedence.
            let elsewhere = object("MutatingWebhookConfiguration", DEFAULT_TAG_WEBHOOK, "default", "other");
            assert_eq!(default(&validated.after(&[elsewhere])), ["other"]);
        }
    }

    #[test]
    fn who_comes_to_another_istiod_is_named_and_who_to_none_too() {
        let before = planes(&[("1-26-0", "1.26.0"), ("1-28-2", "1.28.2")]);
        let to = |revision: &str| {
            before.clone().after(&[object("MutatingWebhookConfiguration", DEFAULT_TAG_WEBHOOK, "default", revision)])
        };
        let gateways = [gateway(json!({})), gateway(json!({"istio.io/rev": "1-26-0"}))];
        let made = before.handover(&to("1-28-2"), &gateways);
        assert_eq!((made.gateways.len(), made.left.len(), made.check_consent().is_err()), (1, 0, true));
        assert!(to("1-28-2").handover(&to("1-28-2"), &gateways).gateways.is_empty());
        let moved = to("1-26-0").handover(&to("1-28-2"), &gateways);
        assert_eq!(moved.gateways, ["shop/edge"]);
        let removed = to("1-26-0").handover(&before, &gateways);
        assert_eq!((removed.gateways.len(), removed.left.len(), removed.check_served().is_err()), (0, 1, true));
        let gentle = planes(&[("1-31-0", "1.31.0")]);
        let after = gentle.clone().with_namespace("shop", Some("1-31-0"));
        let handover = gentle.handover(&after, &gateways[..1]);
        assert_eq!((handover.gateways.len(), handover.check_consent().is_ok()), (1, true));
    }
}
