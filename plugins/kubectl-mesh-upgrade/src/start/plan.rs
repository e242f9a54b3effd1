//! What is going to be written: every object beside what is there, asked of the API server by a dry run before the first write.

use futures::stream::{self, StreamExt, TryStreamExt};
use mesh::advice::{Advice, Command};
use mesh::change::{Action, Change, Subject, without_server_fields};
use mesh::cluster::apply::{FIELD_MANAGER, Persistence, apply, as_if_forced, carry_out};
use mesh::cluster::connection::Connection;
use mesh::cluster::discovery::{Discovery, ServedPlace};
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::raw::read_object;
use mesh::control_plane::revision_suffix;
use mesh::labels;
use mesh::outcome::ending;
use mesh::owner::{Owner, owner_of};
use mesh::version::Version;
use serde_json::{Map, Value};

use super::contents::{Contents, Obstacle, described, label};
use crate::definition::{leave_definitions_out, newer_than, why_not_replace};

/// So many objects are read at once.
const AT_ONCE: usize = 4;

/// The order of writing: what others need comes first, and what brings others to the new control plane last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Namespaces.
    Namespace,
    /// The mesh's configuration.
    MeshConfiguration,
    /// Definitions of custom resources.
    Definition,
    /// Accounts.
    Account,
    /// What accounts may do.
    Permission,
    /// Other configuration.
    Configuration,
    /// Services.
    Service,
    /// Deployments and the rest.
    Workload,
    /// Webhooks and admission policies: once istiod is ready.
    Admission,
}

/// The turn of an object.
pub fn turn(object: &Value, mesh_configuration: &str) -> Turn {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => Turn::Namespace,
        "ConfigMap" if name == mesh_configuration => Turn::MeshConfiguration,
        "CustomResourceDefinition" => Turn::Definition,
        "ServiceAccount" => Turn::Account,
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => Turn::Permission,
        "ConfigMap" | "Secret" => Turn::Configuration,
        "Service" => Turn::Service,
        "MutatingWebhookConfiguration"
        | "ValidatingWebhookConfiguration"
        | "ValidatingAdmissionPolicy"
        | "ValidatingAdmissionPolicyBinding" => Turn::Admission,
        _ => Turn::Workload,
    }
}

/// One object that is to be written, or is as it should be.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub turn: Turn,
    /// Before and after, as the dry run showed it.
    pub change: Change,
    /// What is applied.
    pub body: Value,
}

impl Step {
    /// Whether the object is a definition that is here already: it is replaced, with its resourceVersion as the precondition, since
    /// its fields are those of whoever installed the mesh.
    fn is_replaced(&self) -> bool {
        self.turn == Turn::Definition && self.change.before.is_some()
    }

    /// Writes it.
    ///
    /// # Errors
    /// Whatever the API server answers.
    pub async fn write(&self, connection: &Connection, persistence: Persistence) -> Result<Value, Failure> {
        if self.is_replaced() {
            let written = carry_out(connection, &self.change, persistence).await?;
            return Ok(written.unwrap_or_default());
        }
        apply(connection, &self.change.subject, &self.body, persistence).await
    }
}

/// The whole plan.
#[derive(Debug, Default)]
pub struct Plan {
    /// In their order.
    pub steps: Vec<Step>,
    /// What is shared, here already, and left alone.
    pub left_out: Vec<(String, Advice)>,
    /// What is in the way.
    pub obstacles: Vec<Obstacle>,
    /// Definitions that are here of a newer release, each with its version: they are left as they are.
    pub newer_definitions: Vec<(String, Version)>,
}

/// Makes the plan. Nothing is written.
///
/// # Errors
/// When something cannot be read or asked for.
pub async fn plan(connection: &Connection, contents: &Contents, revision: &str) -> Result<Plan, Failure> {
    let mesh_configuration = format!("istio{}", revision_suffix(revision));
    let mut plan = Plan::default();
    let mut discovery = Discovery::default();
    let mut objects: Vec<(Turn, &Value)> =
        contents.objects.iter().map(|object| (turn(object, &mesh_configuration), object)).collect();
    objects.sort_by_key(|(turn, _)| *turn);
    for (turn, object) in objects {
        let Some(subject) = subject(connection, &mut discovery, contents, object).await? else {
            let reason = format!("the cluster serves no kind {} of {}", object["kind"], object["apiVersion"]);
            plan.obstacles.push(Obstacle::new(described(object), reason, "apply its definition first, or leave it out"));
            continue;
        };
        let before = read_object(connection, &subject).await?;
        if let Some(ending) = before.as_ref().and_then(ending) {
            let advice = "wait until it is gone, or see why it is not; then the same command";
            plan.obstacles.push(Obstacle::new(subject.to_string(), format!("it {ending}"), advice));
            continue;
        }
        if before.is_some() && is_shared(object) {
            plan.left_out.push((subject.to_string(), "it is here already, and shared by all revisions".into()));
            continue;
        }
        if let Some(here) = before.as_ref().filter(|_| turn == Turn::Definition)
            && let Some(version) = newer_than(here, contents.version.as_ref())
        {
            plan.left_out
                .push((subject.to_string(), Advice::say(format!("it is here already, of Istio {version}, which is newer"))));
            plan.newer_definitions.push((subject.to_string(), version));
            continue;
        }
        let body = body(object, before.as_ref(), contents);
        let after =
            if turn == Turn::Definition { merged(before.as_ref(), object, contents.version.as_ref()) } else { body.clone() };
        let mut step = Step { turn, change: Change { subject, before, after: Some(after) }, body };
        match step.write(connection, Persistence::DryRun).await {
            Ok(after) => step.change.after = Some(after),
            // Its namespace or its definition comes first.
            Err(failure) if failure.cause == Cause::NotFound && step.change.before.is_none() => {}
            Err(Failure { cause: Cause::Conflict(_), .. }) if is_as_it_is_to_be(connection, &step).await? => {
                step.change.after.clone_from(&step.change.before);
            }
            Err(Failure { cause: Cause::Conflict(why) | Cause::Refused(why), .. }) => {
                let obstacle = in_the_way(&step, revision, contents.version.as_ref()).unwrap_or_else(|| {
                    let advice = "the other author's value stands; render the same, or have its author give it up";
                    Obstacle::new(step.change.subject.to_string(), why, advice)
                });
                plan.obstacles.push(obstacle);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        if step.change.action() == Action::Update {
            plan.obstacles.extend(in_the_way(&step, revision, contents.version.as_ref()));
        }
        plan.steps.push(step);
    }
    Ok(plan)
}

/// The objects of the manifests in the order in which they are written, each with whether it is here: what another program writes.
///
/// # Errors
/// When one cannot be asked for.
pub async fn presence(connection: &Connection, contents: &Contents, revision: &str) -> Result<Vec<(Subject, bool)>, Failure> {
    let mesh_configuration = format!("istio{}", revision_suffix(revision));
    let mut discovery = Discovery::default();
    let mut objects: Vec<&Value> = contents.objects.iter().collect();
    objects.sort_by_key(|object| turn(object, &mesh_configuration));
    let mut subjects = Vec::new();
    for object in objects {
        subjects.extend(subject(connection, &mut discovery, contents, object).await?);
    }
    let reads = subjects.into_iter().map(|subject| async move {
        let is_here = read_object(connection, &subject).await?.is_some();
        Ok::<_, Failure>((subject, is_here))
    });
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}

/// Whether an object that somebody else has written holds what would be written anyway: then nothing is.
async fn is_as_it_is_to_be(connection: &Connection, step: &Step) -> Result<bool, Failure> {
    let Some(live) = step.change.before.as_ref().filter(|_| step.turn != Turn::Definition) else { return Ok(false) };
    match as_if_forced(connection, &step.change.subject, &step.body).await {
        Ok(forced) => Ok(without_server_fields(&forced) == without_server_fields(live)),
        Err(failure) if matches!(failure.cause, Cause::Conflict(_) | Cause::Refused(_) | Cause::Forbidden) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Which object it is; `None` when its kind is served by nobody.
async fn subject(
    connection: &Connection,
    discovery: &mut Discovery,
    contents: &Contents,
    object: &Value,
) -> Result<Option<Subject>, Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let served = discovery.kind(connection, &api_version, &kind).await?;
    let served = served.map(|served| (served.plural.clone(), served.place)).or_else(|| defined(contents, &api_version, &kind));
    Ok(served.map(|(plural, place)| {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&contents.namespace);
        let namespace = (place == ServedPlace::Namespace).then(|| namespace.to_owned());
        Subject { api_version, kind, plural, namespace, name: text(&object["metadata"]["name"]) }
    }))
}

/// A kind that is defined by the manifests themselves.
fn defined(contents: &Contents, api_version: &str, kind: &str) -> Option<(String, ServedPlace)> {
    let group = api_version.split_once('/')?.0;
    let mut definitions = contents.objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    let definition = definitions.find(|found| found["spec"]["group"] == group && found["spec"]["names"]["kind"] == kind)?;
    let place = if definition["spec"]["scope"] == "Namespaced" { ServedPlace::Namespace } else { ServedPlace::Cluster };
    Some((definition["spec"]["names"]["plural"].as_str()?.to_owned(), place))
}

/// Objects of which one serves all revisions (chart base, manifests/charts/base/templates of istio/istio), and namespaces.
fn is_shared(object: &Value) -> bool {
    object["kind"] == "Namespace"
        || (object["kind"] == "ServiceAccount" && object["metadata"]["name"] == "istio-reader-service-account")
}

/// What is applied: without what the API server or istiod writes. The uid is the precondition: an object that was made anew
/// meanwhile is somebody else's.
fn body(object: &Value, live: Option<&Value>, contents: &Contents) -> Value {
    let mut body = object.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
        if let Some(uid) = live.map(|live| live["metadata"]["uid"].clone()) {
            metadata.insert("uid".to_owned(), uid);
        }
    }
    let is_failing = |name: &Value| {
        let entries = live.and_then(|live| live["webhooks"].as_array()).into_iter().flatten();
        entries.into_iter().any(|entry| entry["name"] == *name && entry["failurePolicy"] == "Fail")
    };
    for entry in body.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(client_config) = entry.get_mut("clientConfig").and_then(Value::as_object_mut) {
            // istiod writes it; an empty one would take that away.
            client_config.retain(|key, value| key != "caBundle" || value.as_str().is_some_and(|bundle| !bundle.is_empty()));
        }
        // istiod makes it Fail once validation works (pkg/webhooks/validation/controller).
        if entry["failurePolicy"] == "Ignore"
            && is_failing(&entry["name"])
            && let Some(entry) = entry.as_object_mut()
        {
            entry.remove("failurePolicy");
        }
    }
    // The autoscaler has the last word on an object that is here.
    let is_scaled = |object: &Value| {
        let mut scalers = contents.objects.iter().filter(|other| other["kind"] == "HorizontalPodAutoscaler");
        scalers.any(|scaler| {
            scaler["spec"]["scaleTargetRef"]["kind"] == object["kind"]
                && scaler["spec"]["scaleTargetRef"]["name"] == object["metadata"]["name"]
        })
    };
    if live.is_some()
        && is_scaled(object)
        && let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("replicas");
    }
    body
}

/// A definition with the new versions and marks, and whatever else it has here.
fn merged(live: Option<&Value>, object: &Value, version: Option<&Version>) -> Value {
    let Some(live) = live else { return object.clone() };
    let mut after = live.clone();
    for (key, value) in object["spec"].as_object().into_iter().flatten() {
        after["spec"][key.as_str()] = value.clone();
    }
    for marks in ["labels", "annotations"] {
        let Some(new) = object["metadata"][marks].as_object() else { continue };
        if !after["metadata"][marks].is_object() {
            after["metadata"][marks] = Value::Object(Map::new());
        }
        for (key, value) in new {
            after["metadata"][marks][key.as_str()] = value.clone();
        }
    }
    // istioctl's note of the version that it installed; what is written now is of another.
    const INSTALLED: &str = "operator.istio.io/version";
    if let (Some(_), Some(version)) = (label(&after, INSTALLED), version) {
        after["metadata"]["labels"][INSTALLED] = version.to_string().into();
    }
    after
}

/// The namespace of the other mesh's control plane that a webhook configuration asks now, when it would ask one elsewhere: names of
/// webhooks are made from those of revisions and namespaces, and two meshes may come to the same.
fn other_mesh<'a>(live: &'a Value, body: &'a Value) -> Option<&'a str> {
    let namespaces = |configuration: &'a Value| {
        let entries = configuration["webhooks"].as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["clientConfig"]["service"]["namespace"].as_str())
    };
    let wanted = namespaces(body).next()?;
    namespaces(live).find(|found| *found != wanted)
}

/// Why an object that is here and would change must not; `None` when it is the revision's own.
fn in_the_way(step: &Step, revision: &str, version: Option<&Version>) -> Option<Obstacle> {
    let live = step.change.before.as_ref()?;
    let subject = step.change.subject.to_string();
    let owner = owner_of(live);
    if !owner.is_ours_to_write() {
        let advice = match &owner {
            Owner::Helm { release, namespace } => Advice::run(Command::helm("upgrade").value(release).namespace(namespace))
                .and_say(", or leave it out of the manifests"),
            _ => Advice::say("change it there, or leave it out of the manifests"),
        };
        return Some(Obstacle::new(subject, format!("it belongs to {owner}, who would put it back"), advice));
    }
    if let Some(namespace) = other_mesh(live, &step.body) {
        let advice = Advice::say("choose another revision, or another namespace: this one belongs to another mesh");
        let why = format!("it asks a control plane in namespace {namespace}, and would ask the new one");
        return Some(Obstacle::new(subject, why, advice));
    }
    if step.turn == Turn::Definition {
        let why = why_not_replace(live, &step.body, version)?;
        return Some(Obstacle::new(subject, why, leave_definitions_out()));
    }
    if is_own(live, revision) {
        return None;
    }
    let whose = match label(live, labels::REVISION) {
        Some(other) => format!("it belongs to revision {other}"),
        None => "it is not this revision's own".to_owned(),
    };
    let advice = match step.change.subject.kind.as_str() {
        "Deployment" | "DaemonSet" => {
            "it would be overwritten in place, with no way back; leave it out: --set profile=minimal, and move it after the control plane"
        }
        _ => "leave it out: --set profile=minimal renders the control plane alone",
    };
    Some(Obstacle::new(subject, format!("{whose}, and would be changed in place"), advice))
}

/// Whether an object is of this revision: by its label, by its name, or because an earlier run applied it.
fn is_own(live: &Value, revision: &str) -> bool {
    if let Some(other) = label(live, labels::REVISION) {
        return other == revision;
    }
    let name = live["metadata"]["name"].as_str().unwrap_or_default();
    let is_named = name.ends_with(&format!("-{revision}")) || name.contains(&format!("-{revision}-"));
    let mut managers = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    is_named || managers.any(|entry| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply")
}

#[cfg(test)]
mod tests {
    use mesh::object::Resource;
    use serde_json::json;

    use super::*;

    fn contents(objects: Vec<Value>) -> Contents {
        Contents { namespace: "istio-system".to_owned(), version: None, objects, left_out: Vec::new() }
    }

    fn step(metadata: Value) -> Step {
        let subject = Subject::new(Resource::Deployments, Some("istio-system"), "x");
        let turn = Turn::Workload;
        Step { turn, change: Change { subject, before: Some(json!({"metadata": metadata})), after: None }, body: Value::Null }
    }

    #[test]
    fn webhooks_come_last_and_the_mesh_configuration_first() {
        let of = |kind: &str, name: &str| turn(&json!({"kind": kind, "metadata": {"name": name}}), "istio-r");
        let kinds = [
            "Namespace",
            "ConfigMap",
            "CustomResourceDefinition",
            "ServiceAccount",
            "ClusterRole",
            "Secret",
            "Service",
            "Deployment",
            "ValidatingWebhookConfiguration",
        ];
        let turns: Vec<Turn> = kinds.iter().map(|kind| of(kind, "istio-r")).collect();
        assert!(turns.is_sorted(), "{turns:?}");
        assert_eq!((of("ConfigMap", "values-r"), of("Telemetry", "mesh")), (Turn::Configuration, Turn::Workload));
    }

    #[test]
    fn what_istiod_writes_is_not_taken_away() {
        let object = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "v"}, "webhooks": [
            {"name": "a", "failurePolicy": "Ignore", "clientConfig": {"caBundle": ""}},
        ]});
        let live = json!({"metadata": {"uid": "1"}, "webhooks": [{"name": "a", "failurePolicy": "Fail", "clientConfig": {"caBundle": "x"}}]});
        let repeated = body(&object, Some(&live), &contents(Vec::new()));
        assert_eq!(repeated["webhooks"], json!([{"name": "a", "clientConfig": {}}]));
        assert_eq!(repeated["metadata"]["uid"], "1");
        // What an object has not, it is not given.
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "istio"}});
        assert_eq!(body(&map, None, &contents(Vec::new())), map);
        let first = body(&object, None, &contents(Vec::new()));
        assert_eq!(first["webhooks"], json!([{"name": "a", "failurePolicy": "Ignore", "clientConfig": {}}]));
    }

    #[test]
    fn the_autoscaler_keeps_its_replicas() {
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "istiod"}, "spec": {"replicas": 1}});
        let scaler =
            json!({"kind": "HorizontalPodAutoscaler", "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "istiod"}}});
        let replicas = |live: Option<&Value>, objects| body(&deployment, live, &contents(objects))["spec"]["replicas"].clone();
        let live = json!({"metadata": {"uid": "1"}});
        assert_eq!(replicas(Some(&live), vec![scaler.clone()]), Value::Null);
        assert_eq!([replicas(None, vec![scaler]), replicas(Some(&live), Vec::new())], [json!(1), json!(1)]);
    }

    #[test]
    fn a_webhook_of_another_mesh_is_in_the_way_whatever_its_label() {
        let webhook = |namespace: &str| {
            json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}},
                "webhooks": [{"clientConfig": {"service": {"name": "istiod", "namespace": namespace}}}]})
        };
        let subject = Subject::new(Resource::MutatingWebhookConfigurations, None, "istio-sidecar-injector-1-28-2-b");
        let step = |live: &str| {
            let change = Change { subject: subject.clone(), before: Some(webhook(live)), after: None };
            Step { turn: Turn::Admission, change, body: webhook("mesh-a") }
        };
        assert!(in_the_way(&step("mesh-b"), "1-28-2", None).is_some());
        assert!(in_the_way(&step("mesh-a"), "1-28-2", None).is_none());
    }

    #[test]
    fn what_another_revision_or_somebody_else_has_is_in_the_way() {
        let reason = |metadata: Value| in_the_way(&step(metadata), "1-28-2", None).map(|obstacle| obstacle.reason);
        let of = |revision: &str| json!({"name": "istio-ingressgateway", "labels": {"istio.io/rev": revision}});
        assert_eq!(reason(of("1-26-0")).as_deref(), Some("it belongs to revision 1-26-0, and would be changed in place"));
        assert_eq!(reason(of("1-28-2")), None);
        assert_eq!(reason(json!({"name": "istiod-1-28-2"})), None);
        assert!(reason(json!({"name": "istiod"})).is_some());
        let ours = json!([{"manager": "kubectl-mesh", "operation": "Apply"}]);
        assert_eq!(reason(json!({"name": "istiod", "managedFields": ours})), None);
        let helm = json!({"meta.helm.sh/release-name": "istiod", "meta.helm.sh/release-namespace": "istio-system"});
        let told = reason(json!({"name": "istiod-1-28-2", "annotations": helm}));
        assert!(told.is_some_and(|told| told.contains("Helm release istiod")));
    }

    #[test]
    fn a_definition_keeps_what_else_it_has_here() {
        let live = json!({"metadata": {"resourceVersion": "7", "labels": {"operator.istio.io/version": "1.26.0"}}, "spec": {"versions": [1], "conversion": {}}});
        let object = json!({"metadata": {"labels": {"b": "2"}}, "spec": {"versions": [1, 2]}});
        let expected = json!({"metadata": {"resourceVersion": "7", "labels": {"operator.istio.io/version": "1.28.2", "b": "2"}}, "spec": {"versions": [1, 2], "conversion": {}}});
        assert_eq!(merged(Some(&live), &object, "1.28.2".parse().ok().as_ref()), expected);
    }
}
