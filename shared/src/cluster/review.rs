//! Whether the user may do something, asked of the API server itself by SelfSubjectAccessReviews, which everybody who is logged in may
//! ask (`system:basic-user`). What a command is going to write is asked about before the first write.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{StreamExt, iter};
use serde_json::{Value, json};

use super::apply::{Persistence, post};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use crate::change::{Action, Change, Subject};
use crate::needs::{GroupResource, Needs, Permission};
use crate::object::Resource;
use crate::refusal::Refusal;

/// So many reviews are under way at once.
pub const AT_ONCE: usize = 8;

/// One thing that a command is going to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intended {
    permission: Permission,
    /// The object, where a rule may name it.
    name: Option<String>,
}

impl Intended {
    /// To do something with an object.
    pub fn with(verb: &'static str, subject: &Subject) -> Intended {
        let on = GroupResource { group: subject.group().to_owned(), resource: subject.plural.clone() };
        // No rule can name what is not there yet.
        let name = (verb != "create").then(|| subject.name.clone());
        // A request about a namespace counts as one in that namespace (`RequestInfo`,
        // k8s.io/apiserver/pkg/endpoints/request/requestinfo.go): a Role there may grant it.
        let is_namespace = subject.plural == Resource::Namespaces.plural() && subject.group().is_empty();
        let namespace = if is_namespace { name.clone() } else { subject.namespace.clone() };
        Intended { permission: Permission { namespace, on, verb }, name }
    }

    /// To carry a change out; `None` when it changes nothing.
    pub fn of(change: &Change) -> Option<Intended> {
        let verb = match change.action() {
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
            Action::None => return None,
        };
        Some(Intended::with(verb, &change.subject))
    }

    /// To create a pod as a dry run.
    pub fn dry_run_pod(namespace: &str) -> Intended {
        Intended::with("create", &Subject::new(Resource::Pods, Some(namespace), ""))
    }

    /// To evict pods of a namespace.
    pub fn evictions(namespace: &str) -> Intended {
        let on = GroupResource::from(("", "pods/eviction"));
        Intended { permission: Permission { namespace: Some(namespace.to_owned()), on, verb: "create" }, name: None }
    }

    /// What is asked to know whether it is allowed: the narrower, the more is to be asked about many objects.
    fn question(&self, breadth: Breadth) -> Intended {
        let namespace = self.permission.namespace.clone().filter(|_| breadth != Breadth::Everywhere);
        let name = self.name.clone().filter(|_| breadth == Breadth::Object);
        Intended { permission: Permission { namespace, ..self.permission.clone() }, name }
    }

    fn line(&self) -> String {
        let Permission { namespace, on, verb } = &self.permission;
        let (dot, group) = if on.group.is_empty() { ("", "") } else { (".", on.group.as_str()) };
        let name = self.name.as_ref().map_or_else(String::new, |name| format!("/{name}"));
        let place = namespace.as_ref().filter(|_| on.resource != Resource::Namespaces.plural());
        let place = place.map_or_else(String::new, |namespace| format!(" -n {namespace}"));
        format!("{verb} {}{dot}{group}{name}{place}", on.resource)
    }
}

/// About how much a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breadth {
    Everywhere,
    Namespace,
    Object,
}

/// What asking may ask for.
pub fn needs() -> Needs {
    Needs::default().prefer(None, [("authorization.k8s.io", "selfsubjectaccessreviews")], &["create"])
}

/// Makes sure that the user may do all of this. A question that the API server does not answer forbids nothing: the write itself tells.
///
/// # Errors
/// A [`Refusal`] with everything that is denied, and the rules that would grant it.
pub async fn check_permitted(connection: &Connection, intended: impl IntoIterator<Item = Intended>) -> Result<(), Refusal> {
    let mut left: BTreeSet<Intended> = intended.into_iter().collect();
    for breadth in [Breadth::Everywhere, Breadth::Namespace, Breadth::Object] {
        let questions: BTreeSet<Intended> = left.iter().map(|one| one.question(breadth)).collect();
        let answers = iter(questions).map(|question| async move {
            let is_denied = is_allowed(connection, &question.permission, question.name.as_deref()).await == Ok(false);
            (question, is_denied)
        });
        let answers: BTreeMap<Intended, bool> = answers.buffer_unordered(AT_ONCE).collect().await;
        left.retain(|one| answers.get(&one.question(breadth)) == Some(&true));
    }
    if left.is_empty() { Ok(()) } else { Err(refusal(&left)) }
}

fn refusal(denied: &BTreeSet<Intended>) -> Refusal {
    let mut verbs: BTreeMap<(&GroupResource, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    for Intended { permission, .. } in denied {
        let place = (&permission.on, permission.namespace.as_deref());
        verbs.entry(place).or_default().insert(permission.verb);
    }
    let rule = |((on, namespace), verbs): ((&GroupResource, Option<&str>), BTreeSet<&str>)| {
        let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
        let verbs = Vec::from_iter(verbs).join(", ");
        format!("grant apiGroups: [{:?}], resources: [{}], verbs: [{verbs}]{place}", on.group, on.resource)
    };
    let details = denied.iter().map(|one| format!("forbidden: {}", one.line())).chain(verbs.into_iter().map(rule));
    let reason = "you may not write all that this command writes, so nothing was written";
    Refusal::new(reason, "--explain-rbac prints all that this command needs").with(details.collect())
}

/// Whether the user may do something, with one object or with all of its kind there.
///
/// # Errors
/// When the API server does not say.
pub async fn is_allowed(connection: &Connection, permission: &Permission, name: Option<&str>) -> Result<bool, Failure> {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let what = format!("asking whether {} {} is allowed", permission.verb, permission.on.resource);
    let answer = post(connection, path, &review(permission, name), &what, Persistence::Question).await?;
    decision(&answer).ok_or_else(|| Failure::new(what, Cause::Other("the API server could not decide".to_owned())))
}

/// The answer of a review; `None` where no authorizer could decide.
fn decision(answer: &Value) -> Option<bool> {
    let status = &answer["status"];
    match status["allowed"].as_bool()? {
        false if status["denied"] != true && status["evaluationError"].as_str().is_some_and(|error| !error.is_empty()) => None,
        allowed => Some(allowed),
    }
}

fn review(permission: &Permission, name: Option<&str>) -> Value {
    let resource = permission.on.resource.as_str();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "group": permission.on.group,
            "resource": resource,
            "subresource": subresource,
            "verb": permission.verb,
            "namespace": permission.namespace.clone().unwrap_or_default(),
            "name": name.unwrap_or_default(),
        }},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subresource_is_asked_about_as_one() {
        let intended = Intended::evictions("shop");
        let attributes = &review(&intended.permission, None)["spec"]["resourceAttributes"];
        assert_eq!((&attributes["resource"], &attributes["subresource"]), (&json!("pods"), &json!("eviction")));
        assert_eq!((&attributes["namespace"], &attributes["name"]), (&json!("shop"), &json!("")));
    }

    #[test]
    fn it_is_asked_about_all_then_about_a_namespace_then_about_the_object() {
        let delete = Intended::with("delete", &Subject::new(Resource::Services, Some("istio-system"), "istiod"));
        let asked = [Breadth::Everywhere, Breadth::Namespace, Breadth::Object].map(|breadth| delete.question(breadth).line());
        assert_eq!(asked, ["delete services", "delete services -n istio-system", "delete services/istiod -n istio-system"]);
        let create = Intended::with("create", &Subject::new(Resource::Services, Some("istio-system"), "istiod"));
        assert_eq!(create.question(Breadth::Object).line(), "create services -n istio-system");
    }

    #[test]
    fn a_review_that_could_not_decide_denies_nothing() {
        assert_eq!(decision(&json!({"status": {"allowed": true}})), Some(true));
        assert_eq!(decision(&json!({"status": {"allowed": false}})), Some(false));
        assert_eq!(decision(&json!({"status": {"allowed": false, "evaluationError": "webhook is away"}})), None);
        assert_eq!(decision(&json!({"status": {"allowed": false, "denied": true, "evaluationError": "x"}})), Some(false));
        assert_eq!(decision(&json!({})), None);
    }

    #[test]
    fn what_is_denied_is_named_with_the_rules_that_grant_it() {
        let gateways = |name: &str| Intended::with("patch", &Subject::new(Resource::Namespaces, None, name));
        let told = refusal(&[gateways("zeta"), gateways("prod"), Intended::evictions("shop")].into()).details;
        let expected = [
            "forbidden: create pods/eviction -n shop",
            "forbidden: patch namespaces/prod",
            "forbidden: patch namespaces/zeta",
            "grant apiGroups: [\"\"], resources: [namespaces], verbs: [patch] in namespace prod",
            "grant apiGroups: [\"\"], resources: [namespaces], verbs: [patch] in namespace zeta",
            "grant apiGroups: [\"\"], resources: [pods/eviction], verbs: [create] in namespace shop",
        ];
        let mut told: Vec<&str> = told.iter().map(String::as_str).collect();
        told.sort_unstable();
        assert_eq!(told, expected);
    }
}
