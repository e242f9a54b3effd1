//! Asks the API server what a new pod would get: a server-side dry run of a pod. The real injectors answer it (their webhooks have
//! no side effects), and nothing is stored. A pod from a workload's template says what a restart would bring; one that only a
//! certain injector is asked about proves that it answers.

use std::collections::HashMap;

use futures::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::apply::{Persistence, post};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::List;
use super::request::get_json;
use super::scope::WORKLOADS;
use crate::comparison::{Agreement, Comparison, Identity};
use crate::injection::{Declined, Doubt, Injected, Injection, Pin, Refused};
use crate::labels;
use crate::needs::Needs;
use crate::object::{Interner, Lookup, Pod, Resource, WorkloadRef};
use crate::proof::Place;
use crate::proxy::Proxy;
use crate::state::Reason;
use crate::template::Template;
use crate::workload::{Restart, Workload, WorkloadId};

/// How many dry runs are under way at once.
const CONCURRENCY: usize = 8;

/// Asks for each of these workloads. An answer that could not be had is an [`Injection::Unknown`].
pub async fn probe(connection: &Connection, workloads: Vec<&Workload>) -> HashMap<WorkloadId, Injection> {
    stream::iter(workloads)
        .map(|workload| async move { (workload.id.clone(), probe_one(connection, workload).await) })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

/// What [`probe`] may ask for, of workloads in one namespace or everywhere.
pub fn needs(namespace: Option<&str>) -> Needs {
    let owners = [Resource::ReplicaSets, Resource::Jobs, Resource::Pods];
    needs_of(namespace, WORKLOADS.into_iter().chain(owners)).require(namespace, [("batch", "cronjobs")], &["get"])
}

/// The same, of workloads of these kinds alone.
pub fn needs_of(namespace: Option<&str>, kinds: impl IntoIterator<Item = Resource>) -> Needs {
    Needs::default().require(namespace, kinds, &["get"]).require(namespace, [Resource::Pods], &["create"])
}

async fn probe_one(connection: &Connection, workload: &Workload) -> Injection {
    let id = &workload.id;
    let pod = async {
        let template = template_of(connection, workload).await?;
        let metadata = json!({
            // A name as the real pods' names are made; the API server completes it.
            "generateName": format!("{}-", id.name),
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
        });
        let what = format!("asking the API server for a new pod of {id}");
        dry_run(connection, &id.namespace, json!({"metadata": metadata, "spec": template["spec"]}), &what).await
    };
    match pod.await {
        Ok(dry_run) => injection_of(&dry_run, &workload.template),
        Err(failure) => injection_of_failure(&failure),
    }
}

/// What the try of an injector has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A pod got a proxy of the revision, in this namespace.
    Injected(String),
    /// It did not: a sentence about the pod.
    Failed(String),
    /// The injector does not answer, or not with anything that makes sense: why.
    Refused(String),
    /// No pod could be tried, since nobody lets us: why.
    Untried(String),
    /// No pod can be tried: there is no namespace in which only this injector would be asked.
    NoPlace,
}

/// Creates a pod as a dry run in the first of these places that takes one, and sees whether it gets a proxy of this revision.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn prove(connection: &Connection, places: &[Place], revision: &str) -> Result<Proof, Failure> {
    let mut untried = None;
    for place in places {
        let namespace = &place.namespace;
        let what = format!("asking for a pod in namespace {namespace} as a dry run");
        let injection = match dry_run(connection, namespace, pod_in(place), &what).await {
            Ok(dry_run) => injection_of(&dry_run, &Template::default()),
            // A quota, a policy or a missing permission says nothing about the injector.
            Err(failure) if matches!(failure.cause, Cause::Forbidden | Cause::Refused(_) | Cause::NotFound) => {
                untried = Some(failure.to_string());
                continue;
            }
            Err(failure) => match injection_of_failure(&failure) {
                Injection::Unknown(_) => return Err(failure),
                refused => refused,
            },
        };
        return Ok(proof(&injection, namespace, revision));
    }
    Ok(untried.map_or(Proof::NoPlace, Proof::Untried))
}

/// Why nothing is proved where there is no place for a pod.
pub const NO_PLACE: &str = "no namespace was found in which only this injector would be asked";

/// Whether what a pod got in a namespace is a proxy of this revision, by the rule that compares all proxies.
fn proof(injection: &Injection, namespace: &str, revision: &str) -> Proof {
    let pod = format!("a dry-run pod in namespace {namespace}");
    match injection {
        Injection::Injected(injected) => {
            let wanted = Identity { revision: Some(revision), image: None };
            match Comparison::of(injected, wanted).revision {
                Agreement::Same => Proof::Injected(namespace.to_owned()),
                Agreement::Different(_) => Proof::Failed(format!("{pod} got its proxy from revision {}", injected.revision)),
                Agreement::Unknown => Proof::Failed(format!("{pod} got a proxy that names no revision")),
            }
        }
        Injection::NoInjector => Proof::Failed(format!("{pod} got no proxy")),
        Injection::Declined(declined) => Proof::Failed(format!("{pod} got no proxy: {}", declined.why)),
        Injection::Refused(refused) => Proof::Refused(refused.why.clone()),
        Injection::Unknown(doubt) => Proof::Untried(doubt.why.clone()),
    }
}

/// What [`prove`] may ask for, where its first place is in this namespace.
pub fn proof_needs(namespace: &str) -> Needs {
    let more = format!(
        "A pod is created as a dry run in namespace {namespace}; where that takes none, in another one, if you may create pods there."
    );
    Needs::default().require(Some(namespace), [Resource::Pods], &["create"]).note(&more)
}

/// The smallest pod that the strictest of Kubernetes' own policies takes.
fn pod_in(place: &Place) -> Value {
    json!({
        "metadata": {"generateName": "mesh-proof-", "labels": place.labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "pause",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 65535},
            }],
        },
    })
}

/// A pod that was asked for, as the API server would make it.
struct DryRun {
    pod: Pod,
    /// What the pod that was sent said of an earlier injection: only what differs from it was injected now.
    sent_status: Option<String>,
}

/// Creates a pod as a dry run and gives what the API server makes of it.
async fn dry_run(connection: &Connection, namespace: &str, mut pod: Value, what: &str) -> Result<DryRun, Failure> {
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    let sent_status = pod["metadata"]["annotations"][labels::STATUS].as_str().map(str::to_owned);
    let pod = post(connection, &Resource::Pods.path(Some(namespace)), &pod, what, Persistence::DryRun).await?;
    let pod = serde_json::from_value(pod).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))?;
    Ok(DryRun { pod, sent_status })
}

/// The whole pod template of a workload, which the snapshot holds only in part.
async fn template_of(connection: &Connection, workload: &Workload) -> Result<Value, Failure> {
    let id = &workload.id;
    let what = format!("reading {id}");
    if let Restart::Operator(_) = workload.restart {
        return template_of_a_pod(connection, workload).await;
    }
    let (path, at) = match Resource::of_kind(&id.api_version, &id.kind) {
        Some(resource @ Resource::Pods) => (resource.path(Some(&id.namespace)), ""),
        Some(resource) if resource.is_namespaced() => (resource.path(Some(&id.namespace)), "/spec/template"),
        _ if &*id.kind == "CronJob" => {
            (format!("/apis/{}/namespaces/{}/cronjobs", id.api_version, id.namespace), "/spec/jobTemplate/spec/template")
        }
        _ => {
            let why = format!("the pod template of a {} is not known here", id.kind);
            return Err(Failure::new(what, Cause::Other(why)));
        }
    };
    let mut object = read(connection, &format!("{path}/{}", id.name), &what).await?;
    if let Some(lender) = lender(workload, &object).map_err(|why| Failure::new(what.clone(), Cause::Other(why)))? {
        object = read(connection, &lender, &what).await?;
    }
    let template = object.pointer(at).cloned().ok_or_else(|| {
        let why = "it has no pod template of its own".to_owned();
        Failure::new(what, Cause::Other(why))
    })?;
    Ok(if at.is_empty() { without_injection(template) } else { template })
}

async fn read(connection: &Connection, path: &str, what: &str) -> Result<Value, Failure> {
    let body = get_json(connection, path, what).await?;
    serde_json::from_slice(&body).map_err(|error| Failure::new(what.to_owned(), Cause::Decode(error.to_string())))
}

/// The path of what a Rollout takes its pod template from, if it has none of its own.
fn lender(workload: &Workload, object: &Value) -> Result<Option<String>, String> {
    let reference = &object["spec"]["workloadRef"];
    let is_rollout = Resource::of_kind(&workload.id.api_version, &workload.id.kind) == Some(Resource::Rollouts);
    if !is_rollout || reference.is_null() {
        return Ok(None);
    }
    let reference = WorkloadRef::deserialize(reference).map_err(|error| format!("its workloadRef cannot be read: {error}"))?;
    match reference.resource() {
        Some(resource) => Ok(Some(format!("{}/{}", resource.path(Some(&workload.id.namespace)), reference.name))),
        None => Err(format!("it takes its pod template from {} {}, which is not read here", reference.kind, reference.name)),
    }
}

/// What an operator makes the next pod from is its own affair: a pod that it has made is the nearest thing to it.
async fn template_of_a_pod(connection: &Connection, workload: &Workload) -> Result<Value, Failure> {
    let id = &workload.id;
    let what = format!("listing the pods of {id}");
    let pods = List::of(Resource::Pods).in_namespace(&id.namespace).whole(connection).await?;
    let is_own = |pod: &Value| {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut controllers = owners.filter(|owner| owner["controller"] == true);
        controllers.any(|owner| owner["uid"].as_str() == workload.uid.as_deref())
    };
    let own = pods.into_iter().find(|pod| workload.uid.is_some() && is_own(pod));
    own.map(without_injection).ok_or_else(|| Failure::new(what, Cause::Other("it has no pod".to_owned())))
}

/// A pod as it may have been before it was injected and scheduled.
fn without_injection(mut pod: Value) -> Value {
    let injected =
        |pod: &Value| -> Option<Value> { serde_json::from_str(pod["metadata"]["annotations"][labels::STATUS].as_str()?).ok() };
    if let Some(status) = injected(&pod) {
        for list in ["containers", "initContainers", "volumes"] {
            let names = status[list].as_array().cloned().unwrap_or_default();
            if let Some(items) = pod["spec"][list].as_array_mut() {
                items.retain(|item| !names.contains(&item["name"]));
            }
        }
        if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
            annotations.remove(labels::STATUS);
        }
    }
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    pod
}

/// What an answered dry run says.
fn injection_of(dry_run: &DryRun, template: &Template) -> Injection {
    let DryRun { pod, sent_status } = dry_run;
    let mut interner = Interner::default();
    let metadata = pod.metadata.clone().unwrap_or_default();
    let was_injected = metadata.annotations.value(labels::STATUS).is_some() && sent_status.is_none();
    let re_injected = metadata.annotations.value(labels::STATUS) != sent_status.as_deref();
    match Proxy::of_pod(pod, &mut interner) {
        Some(proxy) if was_injected || re_injected => Injection::Injected(Injected {
            revision: proxy.revision.as_deref().unwrap_or_default().to_owned(),
            tag: None,
            injector: String::new(),
            image: Ok(proxy.image.to_string()),
            pin: pin(template),
            native: Some(proxy.is_native),
        }),
        None if was_injected => {
            let why = "its injection templates add no proxy".to_owned();
            Injection::Declined(Declined { injector: String::new(), why, is_unreachable: false })
        }
        _ => Injection::NoInjector,
    }
}

fn pin(template: &Template) -> Option<Pin> {
    if template.overriding_image.is_some() {
        return Some(Pin::Container);
    }
    template.annotation(labels::PROXY_IMAGE).filter(|image| image.contains('/')).map(|_| Pin::Annotation)
}

/// A webhook that does not answer refuses the pod; other refusals (quota, policy) say nothing about injection.
fn injection_of_failure(failure: &Failure) -> Injection {
    let why = failure.to_string();
    match &failure.cause {
        Cause::Webhook(_) => {
            Injection::Refused(Refused { injector: String::new(), revision: None, why, is_unreachable: true, fault: None })
        }
        Cause::Forbidden => Injection::Unknown(Doubt::new(Reason::Forbidden, why)),
        _ => Injection::Unknown(Doubt::new(Reason::Probe, why)),
    }
}

/// What of a probed and a derived answer must agree: whether there is a proxy, its revision and its image.
pub fn agrees(derived: &Injection, probed: &Injection) -> bool {
    match (derived, probed) {
        (Injection::Injected(derived), Injection::Injected(probed)) => {
            // A policy may write another registry or a digest into the pod: what cannot be compared does not differ.
            !Comparison::of(probed, derived).is_different()
        }
        (Injection::NoInjector | Injection::Declined(_), Injection::NoInjector | Injection::Declined(_)) => true,
        (Injection::Refused(_), Injection::Refused(_)) => true,
        // What was not known cannot differ; nor does an answer that could not be had.
        (Injection::Unknown(_), _) | (_, Injection::Unknown(_)) => true,
        _ => false,
    }
}

/// Keeps what a probe cannot tell (through which tag and injector the answer came) from the derived answer.
pub fn completed(derived: &Injection, probed: Injection) -> Injection {
    match (derived, probed) {
        (Injection::Injected(derived), Injection::Injected(probed)) if derived.revision == probed.revision => {
            Injection::Injected(Injected { tag: derived.tag.clone(), injector: derived.injector.clone(), ..probed })
        }
        (Injection::Refused(derived), Injection::Refused(probed)) => {
            Injection::Refused(Refused { revision: derived.revision.clone(), ..probed })
        }
        (Injection::Declined(derived), Injection::NoInjector) => Injection::Declined(derived.clone()),
        (_, probed) => probed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(metadata: Value, containers: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": containers}})).unwrap()
    }

    fn shown(pod: &Pod, revision: &str) -> Proof {
        let dry_run = DryRun { pod: pod.clone(), sent_status: None };
        proof(&injection_of(&dry_run, &Template::default()), "shop", revision)
    }

    #[test]
    fn only_a_proxy_of_the_revision_proves_that_it_injects() {
        let status = r#"{"containers":["istio-proxy"],"revision":"1-28-2"}"#;
        let proxy = json!([{"name": "app"}, {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.28.2"}]);
        let injected = pod(json!({"annotations": {"istio.io/rev": "1-28-2", "sidecar.istio.io/status": status}}), proxy.clone());
        assert_eq!(shown(&injected, "1-28-2"), Proof::Injected("shop".to_owned()));
        let failed = |pod: &Pod, revision: &str| match shown(pod, revision) {
            Proof::Failed(why) => why,
            other => panic!("{other:?}"),
        };
        let other = "a dry-run pod in namespace shop got its proxy from revision 1-28-2";
        assert_eq!(failed(&injected, "1-26-0"), other);
        let nameless = pod(json!({"annotations": {"sidecar.istio.io/status": "{}"}}), proxy.clone());
        assert_eq!(failed(&nameless, "1-28-2"), "a dry-run pod in namespace shop got a proxy that names no revision");
        // What a pod says of itself is no proxy.
        let without = pod(json!({"annotations": {"istio.io/rev": "1-28-2"}}), json!([{"name": "app"}]));
        assert_eq!(failed(&without, "1-28-2"), "a dry-run pod in namespace shop got no proxy");
        let empty =
            pod(json!({"annotations": {"istio.io/rev": "1-28-2", "sidecar.istio.io/status": status}}), json!([{"name": "app"}]));
        assert!(failed(&empty, "1-28-2").starts_with("a dry-run pod in namespace shop got no proxy: "));
    }

    #[test]
    fn only_a_webhook_that_does_not_answer_refuses_a_pod() {
        let of = |cause: Cause| injection_of_failure(&Failure::new("asking for a pod", cause));
        let webhook = of(Cause::Webhook("failed calling webhook \"x\": EOF".to_owned()));
        assert!(matches!(&webhook, Injection::Refused(refused) if refused.is_unreachable), "{webhook:?}");
        assert!(matches!(proof(&webhook, "shop", "1-28-2"), Proof::Refused(_)));
        let words = "failed calling webhook \"x\"".to_owned();
        for other in [Cause::Refused(words.clone()), Cause::Server(500, words.clone()), Cause::Other(words)] {
            assert!(matches!(of(other), Injection::Unknown(doubt) if doubt.reason == Reason::Probe));
        }
        assert!(matches!(of(Cause::Forbidden), Injection::Unknown(doubt) if doubt.reason == Reason::Forbidden));
    }
}
