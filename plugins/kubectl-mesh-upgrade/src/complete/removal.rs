//! What a removal deletes: the objects of one revision, by their names, kinds and labels, and in which order.
//!
//! Names and labels: manifests/charts/istio-control/istio-discovery/templates of Istio. The label of a revision alone is never
//! enough: shared objects, such as the definitions, carry the one of whoever installed last.

use std::collections::BTreeSet;

use mesh::change::{Change, Subject};
use mesh::cluster::apply;
use mesh::control_plane::revision_suffix;
use mesh::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use mesh::labels;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::owner::{Owner, owner_of};
use mesh::refusal::Refusal;
use mesh::uses::Departure;
use mesh::uses::inventory::Inventory;
use mesh::uses::own::{CONFIG_MAPS, is_of_control_plane, is_own_config_map, is_own_policy};
use serde_json::Value;

/// How a revision goes.
pub enum Removal {
    /// By helm.
    Helm {
        /// The release.
        release: String,
        /// The namespace of the release.
        namespace: String,
        /// What of the release is known to go with it.
        objects: Vec<Change>,
    },
    /// Object by object, in this order.
    Objects(Vec<Change>),
}

impl Removal {
    /// What is to be gone afterwards.
    pub fn changes(&self) -> &[Change] {
        match self {
            Removal::Helm { objects, .. } => objects,
            Removal::Objects(changes) => changes,
        }
    }

    /// Checks that nothing is deleted now that was not announced then. What is gone meanwhile need not be deleted.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is new.
    pub fn check_against(&self, announced: &Removal) -> Result<(), Refusal> {
        let identity = |change: &Change| {
            let uid = change.before.as_ref().map(|object| object["metadata"]["uid"].to_string());
            (change.subject.to_string(), uid)
        };
        let shown: BTreeSet<_> = announced.changes().iter().map(identity).collect();
        let new = self.changes().iter().map(identity).filter(|change| !shown.contains(change));
        let mut new: Vec<String> =
            new.map(|(subject, _)| format!("{subject} was not there before, or another one was")).collect();
        let same_way = matches!(
            (self, announced),
            (Removal::Objects(_), Removal::Objects(_)) | (Removal::Helm { .. }, Removal::Helm { .. })
        );
        if !same_way {
            new.push("who has installed it is not who it was".to_owned());
        }
        if new.is_empty() {
            return Ok(());
        }
        let reason = "what belongs to the revision has changed since it was shown; nothing was deleted";
        Err(Refusal::new(reason, "the same command again shows what there is now").with(new))
    }
}

/// Parts of a control plane, in the order in which they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the API server asks: nothing may ask for what is gone.
    Webhook,
    /// What runs, and what runs it.
    Workload,
    /// What it is reached by.
    Service,
    /// What it reads.
    Configuration,
    /// What it may do.
    Access,
}

/// Kinds of a control plane's parts: API version, kind, plural.
const KINDS: [(Part, &str, &str, &str); 11] = [
    (Part::Workload, "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    (Part::Workload, "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    (Part::Workload, "apps/v1", "Deployment", "deployments"),
    (Part::Service, "v1", "Service", "services"),
    (Part::Configuration, "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    (Part::Configuration, "v1", "ConfigMap", "configmaps"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "Role", "roles"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    (Part::Access, "rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    (Part::Access, "v1", "ServiceAccount", "serviceaccounts"),
];

/// Every object that a revision in this namespace may consist of, besides webhooks, which are found by their labels.
pub fn parts(revision: &str, namespace: &str) -> Vec<(Part, Subject)> {
    let suffix = revision_suffix(revision);
    let cluster_roles = ["istiod-clusterrole", "istiod-gateway-controller", "istio-reader-clusterrole"]
        .map(|base| format!("{base}{suffix}-{namespace}"));
    let config_maps = CONFIG_MAPS.map(|base| format!("{base}{suffix}"));
    let mut parts = Vec::new();
    for (part, api_version, kind, plural) in KINDS {
        let is_cluster_wide = kind.starts_with("Cluster");
        let names = match kind {
            "ClusterRole" | "ClusterRoleBinding" => cluster_roles.to_vec(),
            "ConfigMap" => config_maps.to_vec(),
            _ => vec![format!("istiod{suffix}")],
        };
        parts.extend(names.into_iter().map(|name| {
            let subject = Subject {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                namespace: (!is_cluster_wide).then(|| namespace.to_owned()),
                name,
            };
            (part, subject)
        }));
    }
    parts
}

/// What belongs to it under names that only the lists of the inventory tell: its defaults for GatewayClasses, and the policy
/// that Istio's chart makes on demand.
pub fn besides(inventory: &Inventory, revision: &str, in_namespace: &str) -> Vec<(Part, Value)> {
    let parts = inventory.objects.iter().filter_map(|listed| {
        let part = match (listed.group.as_str(), listed.plural.as_str()) {
            ("", "configmaps") if label(&listed.object, labels::GATEWAY_CLASS_DEFAULTS).is_some() => {
                is_own_config_map(&listed.object, revision, in_namespace).then_some(Part::Configuration)
            }
            ("admissionregistration.k8s.io", "validatingadmissionpolicies" | "validatingadmissionpolicybindings") => {
                is_own_policy(&listed.object, revision, in_namespace).then_some(Part::Webhook)
            }
            _ => None,
        };
        let mut object = listed.object.clone();
        object["plural"] = listed.plural.as_str().into();
        Some((part?, object))
    });
    let mut parts: Vec<(Part, Value)> = parts.collect();
    // A binding goes before the policy that it names.
    parts.sort_by_key(|(_, object)| object["kind"] == "ValidatingAdmissionPolicy");
    let mut seen = BTreeSet::new();
    // Some are served, and so listed, in two versions.
    parts.retain(|(_, object)| seen.insert((object["plural"].to_string(), name(object).to_owned())));
    parts
}

/// What is deleted, in its order.
///
/// # Errors
/// A [`Refusal`] when an object of that name belongs to somebody else who is not `gone`.
pub fn removal(
    installation: &Installation,
    found: Vec<(Part, Value)>,
    departure: &Departure<'_>,
    gone: &BTreeSet<Owner>,
) -> Result<Vec<Change>, Refusal> {
    let all = ordered(installation, found, departure);
    let elsewhere = bound_elsewhere(&all, departure.namespace);
    let foreign: Vec<String> = all
        .iter()
        .filter_map(|(subject, object)| {
            let is_elsewhere = elsewhere.contains(&subject.name) && subject.kind.starts_with("ClusterRole");
            let who = || format!("{subject} serves a control plane in another namespace");
            foreign(subject, object, departure.name, gone).or_else(|| is_elsewhere.then(who))
        })
        .collect();
    if !foreign.is_empty() {
        let reason = format!("objects with the names of revision {}'s are not its own", departure.name);
        return Err(Refusal::new(reason, "rename or delete them yourself, if they may go").with(foreign));
    }
    Ok(all.into_iter().map(|(subject, object)| deletion(subject, object)).collect())
}

/// What of a revision a Helm release holds, and so is gone when the release is.
pub fn of_release(
    installation: &Installation,
    found: Vec<(Part, Value)>,
    departure: &Departure<'_>,
    release: (&str, &str),
) -> Vec<Change> {
    let is_held = |object: &Value| matches!(owner_of(object), Owner::Helm { release: name, namespace } if (name.as_str(), namespace.as_str()) == release);
    let held = ordered(installation, found, departure).into_iter().filter(|(_, object)| is_held(object));
    held.map(|(subject, object)| deletion(subject, object)).collect()
}

/// Everything that is there of a revision of this control plane, in the order in which it goes. Webhooks are the revision's own
/// only where they ask its control plane: another one may have a revision of the same name.
fn ordered(installation: &Installation, found: Vec<(Part, Value)>, departure: &Departure<'_>) -> Vec<(Subject, Value)> {
    let is_own = |object: &&Value| {
        label(object, labels::REVISION) == Some(departure.name)
            && label(object, labels::TAG).is_none()
            && name(object) != DEFAULT_VALIDATOR
            && is_of_control_plane(object, departure.name, departure.namespace)
    };
    let validators = installation.validators.iter().map(|object| (Resource::ValidatingWebhookConfigurations, object));
    let injectors = installation.injectors.iter().map(|object| (Resource::MutatingWebhookConfigurations, object));
    let webhooks = validators
        .chain(injectors)
        .filter(|(_, object)| is_own(object))
        .map(|(resource, object)| (Part::Webhook, Subject::new(resource, None, name(object)), object.clone()));
    let others = found.into_iter().map(|(part, object)| (part, subject_of(&object), object));
    let mut all: Vec<(Part, Subject, Value)> = webhooks.chain(others).collect();
    // Stable: within a part they go in the order in which they are listed.
    all.sort_by_key(|(part, ..)| *part);
    all.into_iter().map(|(_, subject, object)| (subject, object)).collect()
}

/// Names of ClusterRoleBindings that give their role to accounts of other namespaces: the name alone does not tell revision `a` in
/// namespace `b-c` from revision `a-b` in namespace `c`.
fn bound_elsewhere(all: &[(Subject, Value)], own_namespace: &str) -> BTreeSet<String> {
    let bindings = all.iter().filter(|(subject, _)| subject.kind == "ClusterRoleBinding");
    let elsewhere = bindings.filter(|(_, binding)| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.filter_map(|subject| subject["namespace"].as_str()).any(|namespace| namespace != own_namespace)
    });
    elsewhere.map(|(subject, _)| subject.name.clone()).collect()
}

/// Why an object is not the revision's own.
fn foreign(subject: &Subject, object: &Value, revision: &str, gone: &BTreeSet<Owner>) -> Option<String> {
    let owner = owner_of(object);
    if !owner.is_ours_to_write() && !gone.contains(&owner) {
        return Some(format!("{subject} belongs to {owner}"));
    }
    match label(object, labels::REVISION) {
        Some(other) if other != revision => Some(format!("{subject} has the label {}={other}", labels::REVISION)),
        Some(_) => None,
        // Helm's charts give these no revision (trap of istio.io/rev on RBAC objects): then the name and the app say it.
        None if matches!(
            subject.kind.as_str(),
            "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding"
        ) =>
        {
            let app = label(object, labels::APP);
            (!matches!(app, Some("istiod" | "istio-reader"))).then(|| format!("{subject} has no label app=istiod"))
        }
        // They were found by the name that only this control plane gives them.
        None if subject.kind.starts_with("ValidatingAdmissionPolicy") => None,
        // Its edits are the user's; only the plain name `values` could be anybody's.
        None if subject.kind == "ConfigMap" && subject.name != "values" => None,
        None => Some(format!("{subject} has no label {}", labels::REVISION)),
    }
}

fn subject_of(object: &Value) -> Subject {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    Subject {
        api_version: text("apiVersion"),
        kind: text("kind"),
        plural: text("plural"),
        namespace: Some(namespace(object)).filter(|namespace| !namespace.is_empty()).map(str::to_owned),
        name: name(object).to_owned(),
    }
}

/// The uid is the precondition. The version is none: a Deployment's status changes all the time.
fn deletion(subject: Subject, mut object: Value) -> Change {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    Change { subject, before: Some(object), after: None }
}

/// API groups and resources of a control plane's parts, besides webhooks.
fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().map(|(_, api_version, _, plural)| (api_version.split_once('/').map_or("", |(group, _)| group), *plural))
}

/// What reading the parts may ask for, by their names.
pub fn reading_needs(namespace: &str) -> Needs {
    Needs::default().require(Some(namespace), resources(), &["get"])
}

/// What deleting a revision may ask for.
pub fn needs(namespace: &str) -> Needs {
    let webhooks = [Resource::MutatingWebhookConfigurations, Resource::ValidatingWebhookConfigurations];
    let policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    apply::needs(None, webhooks, &["delete"])
        .and(apply::needs(Some(namespace), resources(), &["delete"]))
        // Istio's chart makes them only on demand.
        .and(apply::needs(None, policies.map(|plural| ("admissionregistration.k8s.io", plural)), &["delete"]).optional())
}

#[cfg(test)]
mod tests {
    use mesh::uses::Departing;
    use serde_json::json;

    use super::*;

    const DEPARTURE: Departure<'_> = Departure { what: Departing::Revision, name: "1-26-0", namespace: "istio-system" };

    fn webhook(name: &str, namespace: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"istio.io/rev": "1-26-0"}},
            "webhooks": [{"clientConfig": {"service": {"name": "istiod-1-26-0", "namespace": namespace}}}]})
    }

    fn object(kind: &str, name: &str, labels: Value) -> Value {
        let (api_version, plural) = match kind {
            "Deployment" => ("apps/v1", "deployments"),
            "ClusterRole" => ("rbac.authorization.k8s.io/v1", "clusterroles"),
            _ => ("v1", "services"),
        };
        json!({"apiVersion": api_version, "kind": kind, "plural": plural,
            "metadata": {"name": name, "labels": labels, "uid": "u", "resourceVersion": "7"}})
    }

    #[test]
    fn what_serves_goes_after_what_asks_and_access_last() {
        let found = vec![
            (Part::Access, object("ClusterRole", "istiod-clusterrole-1-26-0-istio-system", json!({"app": "istiod"}))),
            (Part::Workload, object("Deployment", "istiod-1-26-0", json!({"istio.io/rev": "1-26-0"}))),
        ];
        let webhook = webhook("istio-sidecar-injector-1-26-0", "istio-system");
        let installation = Installation { injectors: vec![webhook], ..Installation::default() };
        let changes = removal(&installation, found, &DEPARTURE, &BTreeSet::new()).unwrap();
        let kinds: Vec<&str> = changes.iter().map(|change| change.subject.kind.as_str()).collect();
        assert_eq!(kinds, ["MutatingWebhookConfiguration", "Deployment", "ClusterRole"]);
        assert!(changes.iter().all(|change| change.before.as_ref().unwrap()["metadata"]["resourceVersion"].is_null()));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_never_deleted() {
        let refused = |found: Value| {
            removal(&Installation::default(), vec![(Part::Workload, found)], &DEPARTURE, &BTreeSet::new()).unwrap_err().details
        };
        let other = refused(object("Deployment", "istiod-1-26-0", json!({"istio.io/rev": "1-28-2"})));
        assert_eq!(other, ["deployments/istiod-1-26-0 has the label istio.io/rev=1-28-2"]);
        let none = refused(object("Service", "istiod-1-26-0", json!({})));
        assert_eq!(none, ["services/istiod-1-26-0 has no label istio.io/rev"]);
        let role = refused(object("ClusterRole", "istiod-clusterrole-1-26-0-istio-system", json!({"app": "mine"})));
        assert_eq!(role.len(), 1);
    }

    #[test]
    fn the_mark_of_an_owner_that_is_gone_is_none() {
        let mut found = object("Deployment", "istiod-1-26-0", json!({"istio.io/rev": "1-26-0"}));
        found["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": "istiod-k26", "meta.helm.sh/release-namespace": "istio-system"});
        let owner = owner_of(&found);
        let removed = |gone: &BTreeSet<Owner>| {
            removal(&Installation::default(), vec![(Part::Workload, found.clone())], &DEPARTURE, gone).is_ok()
        };
        assert_eq!((removed(&BTreeSet::new()), removed(&BTreeSet::from([owner]))), (false, true));
    }

    #[test]
    fn the_reader_account_and_the_definitions_are_no_parts() {
        for (_, subject) in parts("default", "istio-system") {
            assert_ne!(subject.name, "istio-reader-service-account");
            assert!(!["CustomResourceDefinition", "Secret", "Namespace"].contains(&subject.kind.as_str()), "{subject}");
        }
    }

    #[test]
    fn webhooks_of_another_control_plane_stay_whatever_their_label_says() {
        let by_url = |name: &str| {
            let mut webhook = webhook(name, "");
            webhook["webhooks"][0]["clientConfig"] = json!({"url": "https://istiod.example.org/inject"});
            webhook
        };
        let mut mixed = webhook("both", "istio-system");
        let other = webhook("", "mesh-b")["webhooks"][0].clone();
        mixed["webhooks"].as_array_mut().unwrap().push(other);
        let injectors = vec![
            webhook("istio-sidecar-injector-1-26-0", "istio-system"),
            webhook("istio-sidecar-injector-1-26-0-mesh-b", "mesh-b"),
            by_url("istio-sidecar-injector-1-26-0-mesh-c"),
            mixed,
        ];
        let validators = vec![by_url("istio-validator-1-26-0-istio-system"), by_url("istio-validator-1-26-0-mesh-b")];
        let installation = Installation { injectors, validators, ..Installation::default() };
        let changes = removal(&installation, Vec::new(), &DEPARTURE, &BTreeSet::new()).unwrap();
        let names: Vec<&str> = changes.iter().map(|change| change.subject.name.as_str()).collect();
        assert_eq!(names, ["istio-validator-1-26-0-istio-system", "istio-sidecar-injector-1-26-0"]);
    }

    #[test]
    fn a_role_that_serves_another_namespace_is_not_deleted_for_its_name() {
        let name = "istiod-clusterrole-1-26-0-istio-system";
        let mut binding = object("ClusterRole", name, json!({"app": "istiod"}));
        binding["kind"] = "ClusterRoleBinding".into();
        binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "istiod", "namespace": "system"}]);
        let role = object("ClusterRole", name, json!({"app": "istiod"}));
        let found = vec![(Part::Access, binding), (Part::Access, role)];
        let refused = removal(&Installation::default(), found, &DEPARTURE, &BTreeSet::new()).unwrap_err();
        assert_eq!(refused.details.len(), 2, "{refused:?}");
    }

    #[test]
    fn what_was_not_shown_is_not_deleted() {
        let change = |name: &str, uid: &str| {
            deletion(Subject::new(Resource::Services, Some("istio-system"), name), json!({"metadata": {"uid": uid}}))
        };
        let shown = Removal::Objects(vec![change("a", "1"), change("b", "2")]);
        assert_eq!(Removal::Objects(vec![change("a", "1")]).check_against(&shown), Ok(()));
        for new in [change("a", "9"), change("c", "3")] {
            assert!(Removal::Objects(vec![new]).check_against(&shown).is_err());
        }
        let helm = Removal::Helm { release: "r".to_owned(), namespace: "n".to_owned(), objects: Vec::new() };
        assert!(helm.check_against(&shown).is_err());
    }

    #[test]
    fn the_charts_own_policies_and_gateway_class_defaults_go_too() {
        let listed = |group: &str, plural: &str, kind: &str, object: Value| {
            let mut object = object;
            object["kind"] = kind.into();
            mesh::uses::inventory::Listed { group: group.to_owned(), plural: plural.to_owned(), object }
        };
        let group = "admissionregistration.k8s.io";
        let policy = json!({"metadata": {"name": "stable-channel-policy-1-26-0-istio-system.istio.io"}});
        let binding = json!({"metadata": {"name": "stable-channel-policy-binding-1-26-0-istio-system.istio.io"}});
        let theirs = json!({"metadata": {"name": "stable-channel-policy-1-26-0-mesh-b.istio.io"}});
        let map = json!({"metadata": {"name": "istio-1-26-0-gatewayclass-istio", "namespace": "istio-system",
            "labels": {"gateway.istio.io/defaults-for-class": "istio", "istio.io/rev": "1-26-0"}}});
        let objects = vec![
            listed(group, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", policy.clone()),
            listed(group, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", policy),
            listed(group, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", theirs),
            listed(group, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", binding),
            listed("", "configmaps", "ConfigMap", map),
        ];
        let parts = besides(&Inventory { objects, unread: Vec::new() }, "1-26-0", "istio-system");
        let kinds: Vec<&str> = parts.iter().map(|(_, object)| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ValidatingAdmissionPolicyBinding", "ConfigMap", "ValidatingAdmissionPolicy"]);
    }
}
