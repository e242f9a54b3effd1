//! Whether the later steps may do what they do: asked of the API server itself, by SelfSubjectAccessReviews.

use std::collections::BTreeMap;

use futures::stream::{StreamExt, iter};
use mesh::cluster::apply::{Persistence, post};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::finding::Finding;
use serde_json::{Value, json};

use super::facts::{Facts, error};

/// What one step does, somewhere: `namespace` is the control plane's own where it is `Place::ControlPlane`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    step: &'static str,
    place: Place,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    ControlPlane,
}

const fn need(
    step: &'static str,
    place: Place,
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
) -> Need {
    Need { step, place, group, resource, verbs }
}

const WRITE: &[&str] = &["create", "patch"];
const MOVE: &[&str] = &["create", "update"];
const REMOVE: &[&str] = &["delete"];

/// What the steps after this one do. What a control plane consists of: manifests/charts/istio-control/istio-discovery/templates of
/// istio/istio.
const NEEDS: [Need; 39] = [
    need("start", Place::Everywhere, "apiextensions.k8s.io", "customresourcedefinitions", WRITE),
    need("start", Place::Everywhere, "rbac.authorization.k8s.io", "clusterroles", WRITE),
    need("start", Place::Everywhere, "rbac.authorization.k8s.io", "clusterrolebindings", WRITE),
    need("start", Place::Everywhere, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", WRITE),
    need("start", Place::Everywhere, "admissionregistration.k8s.io", "validatingwebhookconfigurations", WRITE),
    need("start", Place::ControlPlane, "apps", "deployments", WRITE),
    need("start", Place::ControlPlane, "", "services", WRITE),
    need("start", Place::ControlPlane, "", "configmaps", WRITE),
    need("start", Place::ControlPlane, "", "serviceaccounts", WRITE),
    need("start", Place::ControlPlane, "rbac.authorization.k8s.io", "roles", WRITE),
    need("start", Place::ControlPlane, "rbac.authorization.k8s.io", "rolebindings", WRITE),
    need("start", Place::ControlPlane, "autoscaling", "horizontalpodautoscalers", WRITE),
    need("start", Place::ControlPlane, "policy", "poddisruptionbudgets", WRITE),
    need("mesh-tag set", Place::Everywhere, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", MOVE),
    need("mesh-tag set", Place::Everywhere, "admissionregistration.k8s.io", "validatingwebhookconfigurations", MOVE),
    need("mesh-tag set", Place::ControlPlane, "", "services", MOVE),
    need("mesh-tag attach", Place::Everywhere, "", "namespaces", &["update", "patch"]),
    need("restart", Place::Everywhere, "", "pods", &["create", "get", "list", "watch"]),
    need("restart", Place::Everywhere, "", "pods/eviction", &["create"]),
    need("restart", Place::Everywhere, "", "events", &["list"]),
    need("restart", Place::Everywhere, "apps", "deployments", &["get", "list", "watch", "patch"]),
    need("restart", Place::Everywhere, "apps", "statefulsets", &["get", "list", "watch", "patch"]),
    need("restart", Place::Everywhere, "apps", "daemonsets", &["get", "list", "watch", "patch"]),
    need("restart", Place::Everywhere, "apps", "replicasets", &["list"]),
    need("restart", Place::Everywhere, "policy", "poddisruptionbudgets", &["list"]),
    need("complete", Place::Everywhere, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", REMOVE),
    need("complete", Place::Everywhere, "admissionregistration.k8s.io", "validatingwebhookconfigurations", REMOVE),
    need("complete", Place::Everywhere, "rbac.authorization.k8s.io", "clusterroles", REMOVE),
    need("complete", Place::Everywhere, "rbac.authorization.k8s.io", "clusterrolebindings", REMOVE),
    need("complete", Place::ControlPlane, "apps", "deployments", REMOVE),
    need("complete", Place::ControlPlane, "", "services", REMOVE),
    need("complete", Place::ControlPlane, "", "configmaps", REMOVE),
    need("complete", Place::ControlPlane, "", "serviceaccounts", REMOVE),
    need("complete", Place::ControlPlane, "rbac.authorization.k8s.io", "roles", REMOVE),
    need("complete", Place::ControlPlane, "rbac.authorization.k8s.io", "rolebindings", REMOVE),
    need("complete", Place::ControlPlane, "autoscaling", "horizontalpodautoscalers", REMOVE),
    need("complete", Place::ControlPlane, "policy", "poddisruptionbudgets", REMOVE),
    need("complete", Place::Everywhere, "batch", "cronjobs", &["list"]),
    need("complete", Place::Everywhere, "gateway.networking.k8s.io", "gateways", &["list"]),
];

/// What a restart of Argo Rollouts needs besides, where there are any.
const ROLLOUTS: Need = need("restart", Place::Everywhere, "argoproj.io", "rollouts", &["get", "list", "watch", "patch"]);

/// So many reviews are under way at once.
const AT_ONCE: usize = 8;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    namespace: Option<String>,
}

/// Asks about every need, and tells those that are denied: one finding a step and resource.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn findings(connection: &Connection, facts: &Facts) -> Result<Vec<Finding>, Failure> {
    let namespace = facts.from().and_then(|from| Some(from.control_plane.as_ref()?.namespace.clone()));
    let has_rollouts = facts.verdicts.iter().any(|verdict| &*verdict.workload.kind == "Rollout");
    let needs: Vec<Need> = NEEDS.into_iter().chain(has_rollouts.then_some(ROLLOUTS)).collect();
    let questions = questions(&needs, namespace.as_deref().unwrap_or("istio-system"));
    let asked = iter(questions.keys().cloned().map(|question| async move {
        let answer = ask(connection, &question).await;
        (question, answer)
    }));
    let answers: Vec<(Question, Result<bool, Failure>)> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut denied: BTreeMap<Question, String> = BTreeMap::new();
    for (question, answer) in answers {
        match answer {
            Ok(true) => {}
            Ok(false) => drop(denied.insert(question, "you may not".to_owned())),
            Err(failure) if failure.cause.is_tolerable() => {
                drop(denied.insert(question, format!("unknown whether you may ({failure})")))
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(told(&questions, &denied))
}

/// The questions, each with the steps that need it.
fn questions(needs: &[Need], control_plane: &str) -> BTreeMap<Question, Vec<&'static str>> {
    let mut questions: BTreeMap<Question, Vec<&'static str>> = BTreeMap::new();
    for need in needs {
        for verb in need.verbs {
            let namespace = (need.place == Place::ControlPlane).then(|| control_plane.to_owned());
            let question = Question { group: need.group, resource: need.resource, verb, namespace };
            let steps = questions.entry(question).or_default();
            if !steps.contains(&need.step) {
                steps.push(need.step);
            }
        }
    }
    questions
}

async fn ask(connection: &Connection, question: &Question) -> Result<bool, Failure> {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let what = format!("asking whether {} {} is allowed", question.verb, question.resource);
    let answer = post(connection, path, &review(question), &what, Persistence::Question).await?;
    Ok(answer["status"]["allowed"] == true)
}

fn review(question: &Question) -> Value {
    let (resource, subresource) = question.resource.split_once('/').unwrap_or((question.resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "group": question.group,
            "resource": resource,
            "subresource": subresource,
            "verb": question.verb,
            "namespace": question.namespace.clone().unwrap_or_default(),
        }},
    })
}

/// One finding for all verbs on a resource in a place.
fn told(questions: &BTreeMap<Question, Vec<&'static str>>, denied: &BTreeMap<Question, String>) -> Vec<Finding> {
    type Place<'a> = (&'a str, &'a str, Option<&'a str>);
    let mut by_resource: BTreeMap<Place<'_>, (Vec<&str>, Vec<&str>, &str)> = BTreeMap::new();
    for (question, why) in denied {
        let place = (question.group, question.resource, question.namespace.as_deref());
        let (verbs, steps, _) = by_resource.entry(place).or_insert((Vec::new(), Vec::new(), why.as_str()));
        verbs.push(question.verb);
        steps.extend(questions.get(question).into_iter().flatten());
    }
    let finding = |((group, resource, namespace), (verbs, mut steps, why)): (Place<'_>, (Vec<&str>, Vec<&str>, &str))| {
        steps.sort_unstable();
        steps.dedup();
        let place = namespace.map_or_else(|| "everywhere".to_owned(), |namespace| format!("in namespace {namespace}"));
        let dot = if group.is_empty() { "" } else { "." };
        let message = format!("{why} {} them {place}, which {} needs", verbs.join(", "), steps.join(" and "));
        let advice = format!("grant apiGroups: [{group:?}], resources: [{resource}], verbs: [{}]", verbs.join(", "));
        error("permission", format!("{resource}{dot}{group}"), message, advice)
    };
    by_resource.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_asked_once_whatever_steps_need_it() {
        let questions = questions(&NEEDS, "istio-system");
        let webhooks = Question {
            group: "admissionregistration.k8s.io",
            resource: "mutatingwebhookconfigurations",
            verb: "create",
            namespace: None,
        };
        assert_eq!(questions[&webhooks], ["start", "mesh-tag set"]);
        assert!(questions.keys().any(|question| question.namespace.as_deref() == Some("istio-system")));
    }

    #[test]
    fn what_is_denied_is_told_with_the_rule_that_would_grant_it() {
        let questions = questions(&NEEDS, "istio-system");
        let asked = |verb| Question { group: "apps", resource: "deployments", verb, namespace: None };
        let denied = ["patch", "watch"].map(|verb| (asked(verb), "you may not".to_owned())).into();
        let found = told(&questions, &denied);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].subject, "deployments.apps");
        assert_eq!(found[0].message, "you may not patch, watch them everywhere, which restart needs");
        assert_eq!(found[0].advice, "grant apiGroups: [\"apps\"], resources: [deployments], verbs: [patch, watch]");
        assert!(told(&questions, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn a_subresource_is_asked_about_as_one() {
        let question = Question { group: "", resource: "pods/eviction", verb: "create", namespace: None };
        let attributes = &review(&question)["spec"]["resourceAttributes"];
        assert_eq!((&attributes["resource"], &attributes["subresource"]), (&json!("pods"), &json!("eviction")));
    }
}
