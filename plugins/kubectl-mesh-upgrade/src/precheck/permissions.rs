//! Whether the later steps may do what they do: what they say that they need, asked of the API server itself by
//! SelfSubjectAccessReviews. What it does not serve is not asked for by any step, and so is needed by none.

use mesh::advice::{Advice, Command};
use mesh::finding::Code;
use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{StreamExt, iter};
use mesh::cluster::connection::Connection;
use mesh::cluster::discovery::{ServedLists, served_lists};
use mesh::cluster::failure::Failure;
use mesh::cluster::review::{AT_ONCE, is_allowed};
use mesh::cluster::{Scope, read, users};
use mesh::execution;
use mesh::finding::{Finding, Severity};
use mesh::needs::{EVERY_RESOURCE, GroupResource, Necessity, Needs, Permission};
use mesh::platform::{Step, Way};
use mesh::session::Intent;
use mesh::terminal::writing::DryRun;
use mesh::uses::inventory::is_mesh_group;

use super::facts::{Facts, error, finding, warning};
use super::target::Target;
use crate::complete::removal_needs;
use crate::program::needs::uninstall_needs;
use crate::restart::engine;
use crate::rollback::way_back_needs;
use crate::{start, survey};

/// What [`findings`] may ask for.
pub fn needs() -> Needs {
    Needs::default().require(None, [("authorization.k8s.io", "selfsubjectaccessreviews")], &["create"])
}

/// What decides which steps are ahead.
#[derive(Clone, Debug, Default)]
struct Ahead {
    /// Whether the new control plane is here already.
    is_installed: bool,
    /// The namespace of the Helm release that holds the old control plane, where one does.
    helm_namespace: Option<String>,
}

impl Ahead {
    fn of(facts: &Facts) -> Ahead {
        let old = facts.from().and_then(|from| Some(from.control_plane.as_ref()?.platform.way(Step::Complete, &from.name)));
        let helm_namespace = match old {
            Some(Way::Helm { namespace, .. }) => Some(namespace),
            _ => None,
        };
        Ahead { is_installed: facts.target.is_installed, helm_namespace }
    }
}

/// Where control planes are.
#[derive(Clone, Debug, Default)]
struct Planes {
    /// The one that is upgraded.
    scope: Scope,
    /// The namespaces of all others.
    elsewhere: BTreeSet<String>,
}

impl Planes {
    fn of(facts: &Facts) -> Planes {
        let from = facts.from().and_then(|from| Some(from.control_plane.as_ref()?.namespace.clone()));
        let scope = Scope { istio_namespace: from, ..Scope::default() };
        let mut elsewhere = facts.survey.snapshot.control_plane_namespaces();
        elsewhere.remove(scope.control_plane_namespace());
        Planes { scope, elsewhere }
    }

    /// The same of every other control plane.
    fn elsewhere(&self, needs_in: impl Fn(&str) -> Needs) -> Needs {
        self.elsewhere.iter().map(|namespace| needs_in(namespace)).collect()
    }
}

/// The steps after this one, each with what it needs when the whole mesh is moved.
fn steps(planes: &Planes, ahead: Ahead) -> Vec<(&'static str, Needs)> {
    let scope = &planes.scope;
    let everywhere = std::slice::from_ref(scope);
    let removal = removal_needs(Intent::Write, scope).and(planes.elsewhere(users::needs_in));
    let removal = match &ahead.helm_namespace {
        Some(namespace) => removal.and(uninstall_needs(namespace, Intent::Write)),
        None => removal,
    };
    let mut steps = vec![
        ("mesh-tag set", execution::needs(scope, DryRun::None)),
        ("mesh-tag attach", read::installation_needs(scope).and(execution::labelling_needs(everywhere))),
        ("restart", read::needs(scope).and(engine::needs(None))),
        ("status", survey::needs(scope)),
        ("complete", removal),
        ("rollback", way_back_needs(Intent::Write, scope)),
    ];
    if !ahead.is_installed {
        steps.push(("start", survey::needs(scope).and(start::needs::needs(scope, Intent::Write))));
    }
    // Each of them looks at the whole mesh first.
    steps.into_iter().map(|(step, needs)| (step, needs.and(planes.elsewhere(read::needs_in)))).collect()
}

/// Who asks for a permission, and how much depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asking {
    necessity: Necessity,
    /// Whoever can use it.
    steps: BTreeSet<&'static str>,
    /// Those of them that cannot do without it.
    required_by: BTreeSet<&'static str>,
}

/// Every permission that a step needs.
type Questions = BTreeMap<Permission, Asking>;

/// Asks about every need, and tells those that are denied: of the steps that this user takes one finding a resource and place, of all
/// others one warning. What could not be asked is unknown, whoever takes the steps.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn findings(
    connection: &Connection,
    facts: &Facts,
    served: &ServedLists,
    own: &[super::Step],
) -> Result<Vec<Finding>, Failure> {
    let steps = steps(&Planes::of(facts), Ahead::of(facts));
    let (served, mut found) = by_group(served, &steps);
    let questions = questions(&steps, &served);
    let asked = iter(questions.keys().cloned().map(|permission| async move {
        let answer = is_allowed(connection, &permission, None).await;
        (permission, answer)
    }));
    let answers: Vec<(Permission, Result<bool, Failure>)> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut denied: BTreeMap<Permission, String> = BTreeMap::new();
    let mut unanswered: BTreeMap<Permission, String> = BTreeMap::new();
    for (permission, answer) in answers {
        match answer {
            Ok(true) => {}
            Ok(false) => drop(denied.insert(permission, "you may not".to_owned())),
            Err(failure) if failure.cause.is_tolerable() => {
                drop(unanswered.insert(permission, format!("unknown whether you may ({failure})")))
            }
            Err(failure) => return Err(failure),
        }
    }
    let all: BTreeSet<&str> = steps.iter().map(|(step, _)| *step).collect();
    let own: BTreeSet<&str> = match own.iter().map(|step| step.name()).collect::<Option<BTreeSet<&str>>>() {
        Some(own) => own,
        None => all.clone(),
    };
    found.extend(told(&questions, &denied, &own));
    found.extend(told(&questions, &unanswered, &all));
    found.extend(told_of_others(&questions, &denied, &own));
    Ok(found)
}

/// So many lists that could not be read are told one by one; more have one cause, and are one finding.
const TOLD_ALONE: usize = 3;

/// Findings that are about nothing but what could not be read, as one where they are many.
pub fn together(findings: Vec<Finding>, target: &Target) -> Vec<Finding> {
    let is_of_reading =
        |finding: &Finding| finding.severity == Severity::Error && matches!(finding.code, Code::Unread | Code::Forbidden);
    let (unread, mut others): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(is_of_reading);
    if unread.len() <= TOLD_ALONE {
        others.extend(unread);
        others.sort();
        return others;
    }
    let place = |finding: &Finding| {
        let (_, namespace) = finding.message.split_once(" in namespace ")?;
        namespace.split(|end: char| end.is_whitespace() || matches!(end, ':' | ',')).next().map(str::to_owned)
    };
    let name = |finding: &Finding| match place(finding) {
        Some(namespace) => format!("{} (in {namespace})", finding.subject),
        None => finding.subject.clone(),
    };
    let names: BTreeSet<String> = unread.iter().map(name).collect();
    let count = names.len();
    let names = Vec::from_iter(names).join(", ");
    let message = format!("{count} resources could not be read, so what depends on them is unknown: {names}");
    let explain = Command::mesh_upgrade("precheck").flag("--to", target.revision_name()).words("--explain-rbac");
    let advice = Advice::run(explain).and_say(" prints the rules that grant it");
    others.push(error(Code::Unread, "permissions", message, advice));
    others.sort();
    others
}

/// The resources that the API server serves, by group: those that a step asks for, outside of the core. A group that is not among
/// them is asked about whatever it serves.
type Served = BTreeMap<String, BTreeSet<String>>;

/// Asks which kinds are served: of the groups that a step asks for, and of the mesh's own, whatever they are.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn served(connection: &Connection) -> Result<ServedLists, Failure> {
    // Where control planes are changes no group.
    let steps = steps(&Planes::default(), Ahead::default());
    let groups = groups(&steps);
    served_lists(connection, |group| groups.contains(group) || is_mesh_group(group)).await
}

/// The groups that a step asks for, outside of the core.
fn groups<'a>(steps: &'a [(&'static str, Needs)]) -> BTreeSet<&'a str> {
    let needed = steps.iter().flat_map(|(_, needs)| needs.permissions()).map(|(permission, _)| permission.on.group.as_str());
    needed.filter(|group| !group.is_empty()).collect()
}

fn by_group(found: &ServedLists, steps: &[(&'static str, Needs)]) -> (Served, Vec<Finding>) {
    if !found.unread.is_empty() {
        let unknown = found.unread.iter().map(|why| {
            let message = format!("unknown what is served, and so which permissions are needed: {why}");
            error(Code::Permission, "discovery", message, "grant the ClusterRole system:discovery, then the same command")
        });
        return (Served::new(), unknown.collect());
    }
    // What is not served at all has no resources.
    let mut served: Served = groups(steps).into_iter().map(|group| (group.to_owned(), BTreeSet::new())).collect();
    for list in &found.lists {
        served.entry(list.group.to_string()).or_default().insert(list.resource.to_string());
    }
    (served, Vec::new())
}

/// The questions, each with the steps that need it. What is not served is no question.
fn questions(steps: &[(&'static str, Needs)], served: &Served) -> Questions {
    let mut questions = Questions::new();
    for (step, needs) in steps {
        for (permission, necessity) in needs.permissions() {
            for on in asked_about(&permission.on, served) {
                let question = Permission { on, ..permission.clone() };
                let asking = questions.entry(question).or_insert(Asking {
                    necessity,
                    steps: BTreeSet::new(),
                    required_by: BTreeSet::new(),
                });
                asking.necessity = asking.necessity.max(necessity);
                if necessity == Necessity::Required {
                    asking.required_by.insert(step);
                }
                asking.steps.insert(step);
            }
        }
    }
    questions
}

/// What of a need the API server serves: itself, or each resource where the whole group is meant.
fn asked_about(on: &GroupResource, served: &Served) -> Vec<GroupResource> {
    let Some(resources) = served.get(&on.group) else { return vec![on.clone()] };
    if on.resource == EVERY_RESOURCE {
        return resources.iter().map(|resource| GroupResource { resource: resource.clone(), ..on.clone() }).collect();
    }
    resources.contains(&on.resource).then(|| on.clone()).into_iter().collect()
}

/// One finding for all verbs on a resource in a place that matter as much. Without what is required a step cannot be taken;
/// without the rest it knows less.
fn told(questions: &Questions, denied: &BTreeMap<Permission, String>, own: &BTreeSet<&str>) -> Vec<Finding> {
    type Place<'a> = (&'a GroupResource, Option<&'a str>, Necessity);
    type Told<'a> = (Vec<&'a str>, BTreeSet<&'a str>, &'a str);
    let mut by_resource: BTreeMap<Place<'_>, Told<'_>> = BTreeMap::new();
    for (permission, why) in denied {
        let Some(asking) = questions.get(permission) else { continue };
        let takers: BTreeSet<&str> = asking.steps.iter().copied().filter(|step| own.contains(step)).collect();
        if takers.is_empty() {
            continue;
        }
        let is_required = takers.iter().any(|step| asking.required_by.contains(step));
        let necessity = if is_required { Necessity::Required } else { Necessity::Optional };
        let place = (&permission.on, permission.namespace.as_deref(), necessity);
        let (verbs, steps, _) = by_resource.entry(place).or_insert((Vec::new(), BTreeSet::new(), why.as_str()));
        verbs.push(permission.verb);
        steps.extend(takers);
    }
    let finding = |((on, namespace, necessity), (verbs, steps, why)): (Place<'_>, Told<'_>)| {
        let (severity, depends) = match necessity {
            Necessity::Required => (Severity::Error, if steps.len() == 1 { "needs" } else { "need" }),
            Necessity::Optional => (Severity::Warning, "can do without, and then knows less"),
        };
        let place = namespace.map_or_else(|| "everywhere".to_owned(), |namespace| format!("in namespace {namespace}"));
        let dot = if on.group.is_empty() { "" } else { "." };
        let (verbs, steps) = (verbs.join(", "), Vec::from_iter(steps).join(" and "));
        let message = format!("{why} {verbs} them {place}, which {steps} {depends}");
        let (group, resource) = (&on.group, &on.resource);
        let advice = Advice::say(format!("grant apiGroups: [{group:?}], resources: [{resource}], verbs: [{verbs}]"));
        finding(severity, Code::Permission, format!("{}{dot}{}", on.resource, on.group), message, advice)
    };
    by_resource.into_iter().map(finding).collect()
}

/// So many rights of a step are named, the rest is counted.
const NAMED: usize = 3;

/// The steps that this user could not take, as one warning: perhaps somebody else takes them.
fn told_of_others(questions: &Questions, denied: &BTreeMap<Permission, String>, own: &BTreeSet<&str>) -> Option<Finding> {
    let mut by_step: BTreeMap<&str, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for permission in denied.keys() {
        let Some(asking) = questions.get(permission) else { continue };
        let GroupResource { group, resource } = &permission.on;
        let dot = if group.is_empty() { "" } else { "." };
        let place = permission.namespace.as_ref().map_or_else(String::new, |namespace| format!(" in {namespace}"));
        for step in asking.required_by.iter().filter(|step| !own.contains(*step)) {
            let verbs = by_step.entry(*step).or_default().entry(format!("{resource}{dot}{group}{place}")).or_default();
            verbs.push(permission.verb);
        }
    }
    let rights = |(step, resources): (&&str, &BTreeMap<String, Vec<&str>>)| {
        let named = resources.iter().take(NAMED).map(|(resource, verbs)| format!("{} {resource}", verbs.join("/")));
        let more = resources.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more"));
        format!("{step} ({})", named.chain(more).collect::<Vec<_>>().join(", "))
    };
    if by_step.is_empty() {
        return None;
    }
    let message = format!("you may not: {}", by_step.iter().map(rights).collect::<Vec<_>>().join(", "));
    let advice = "--for VERB makes what you lack for a step of yours an error; --explain-rbac of a step prints its rules";
    Some(warning(Code::Permission, "later steps", message, advice))
}

#[cfg(test)]
mod tests {
    use mesh::object::Resource;

    use super::*;

    fn all(steps: &[(&'static str, Needs)]) -> Questions {
        questions(steps, &Served::new())
    }

    fn permission(on: impl Into<GroupResource>, verb: &'static str) -> Permission {
        Permission { namespace: None, on: on.into(), verb }
    }

    #[test]
    fn each_question_is_asked_once_whatever_steps_need_it() {
        let planes = Planes::default();
        let questions = all(&steps(&planes, Ahead::default()));
        let asking = &questions[&permission(Resource::MutatingWebhookConfigurations, "create")];
        assert_eq!(Vec::from_iter(&asking.steps), [&"mesh-tag set", &"rollback", &"start"]);
        assert!(questions.keys().any(|question| question.namespace.as_deref() == Some("istio-system")));
        let installed = all(&steps(&planes, Ahead { is_installed: true, ..Ahead::default() }));
        assert!(!installed.values().any(|asking| asking.steps.contains("start")), "what is installed need not be installed");
    }

    #[test]
    fn what_is_read_of_one_control_plane_is_needed_of_each() {
        let planes = Planes { elsewhere: ["mesh-b".to_owned(), "mesh-c".to_owned()].into(), ..Planes::default() };
        let questions = all(&steps(&planes, Ahead::default()));
        let asking = |namespace: &str, on: GroupResource, verb: &'static str| -> Vec<&str> {
            let permission = Permission { namespace: Some(namespace.to_owned()), on, verb };
            questions.get(&permission).map(|asking| asking.steps.iter().copied().collect()).unwrap_or_default()
        };
        for namespace in ["istio-system", "mesh-b", "mesh-c"] {
            let maps = asking(namespace, Resource::ConfigMaps.into(), "get");
            assert_eq!(maps.len(), 7, "{namespace}: every step looks: {maps:?}");
            assert!(asking(namespace, ("", "secrets").into(), "list").contains(&"complete"), "{namespace}");
        }
        // Nothing is written there.
        let written = questions
            .keys()
            .find(|question| question.namespace.as_deref() == Some("mesh-b") && !["get", "list"].contains(&question.verb));
        assert_eq!(written, None);
    }

    #[test]
    fn no_step_needs_what_none_does() {
        let questions = all(&steps(&Planes::default(), Ahead::default()));
        let verbs = |on: GroupResource| -> BTreeSet<&str> {
            questions.keys().filter(|permission| permission.on == on).map(|permission| permission.verb).collect()
        };
        assert_eq!(Vec::from_iter(verbs(Resource::Namespaces.into())), ["create", "get", "list", "patch"]);
        assert!(!questions.keys().any(|permission| permission.verb == "watch"));
        let roles = verbs(("rbac.authorization.k8s.io", "clusterroles").into());
        assert!(roles.contains("escalate") && roles.contains("bind"), "{roles:?}");
    }

    #[test]
    fn what_is_denied_is_told_with_the_rule_that_would_grant_it() {
        let questions = all(&[("restart", engine::needs(None))]);
        let denied = ["get", "patch"].map(|verb| (permission(Resource::Deployments, verb), "you may not".to_owned())).into();
        let restart = BTreeSet::from(["restart"]);
        let found = told(&questions, &denied, &restart);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].severity, found[0].subject.as_str()), (Severity::Error, "deployments.apps"));
        assert_eq!(found[0].message, "you may not get, patch them everywhere, which restart needs");
        assert_eq!(found[0].advice, Advice::say("grant apiGroups: [\"apps\"], resources: [deployments], verbs: [get, patch]"));
        assert!(told(&questions, &BTreeMap::new(), &restart).is_empty());
        // Whoever does not take the step has a warning, and one for all of it.
        assert!(told(&questions, &denied, &BTreeSet::new()).is_empty());
        let other = told_of_others(&questions, &denied, &BTreeSet::new()).unwrap();
        assert_eq!(
            (other.severity, other.message.as_str()),
            (Severity::Warning, "you may not: restart (get/patch deployments.apps)")
        );
        assert_eq!(told_of_others(&questions, &denied, &restart), None);
    }

    #[test]
    fn what_a_step_can_do_without_does_not_block() {
        let questions = all(&[("restart", engine::needs(None))]);
        let denied = [(permission(("", "events"), "list"), "you may not".to_owned())].into();
        let found = told(&questions, &denied, &BTreeSet::from(["restart"]));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].severity, Severity::Warning);
    }

    #[test]
    fn what_is_not_served_is_not_asked_about_and_a_whole_group_is_asked_about_by_resource() {
        let needs = Needs::default().require(
            None,
            [("networking.istio.io", "*"), ("argoproj.io", "rollouts"), ("apps", "deployments")],
            &["list"],
        );
        let resources = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let served = Served::from([
            ("networking.istio.io".to_owned(), resources(&["gateways", "sidecars"])),
            ("argoproj.io".to_owned(), resources(&[])),
        ]);
        let questions = questions(&[("complete", needs)], &served);
        let asked: Vec<&str> = questions.keys().map(|permission| permission.on.resource.as_str()).collect();
        assert_eq!(asked, ["deployments", "gateways", "sidecars"]);
    }
}
