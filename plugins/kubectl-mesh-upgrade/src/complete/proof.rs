//! Proof that the mesh works without a revision as it did with it: whoever answered before still does, and configuration is still
//! validated.

use std::collections::{BTreeMap, BTreeSet};

use mesh::change::Change;
use mesh::cluster::apply::{Persistence, post};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::probe::{NO_PLACE, Proof, proof_needs, prove};
use mesh::cluster::wait::{Look, Patience, Waited};
use mesh::injection::answering_revision;
use mesh::injector::Injector;
use mesh::needs::Needs;
use mesh::proof::places;
use mesh::snapshot::Snapshot;
use serde_json::{Value, json};

/// The namespace in which pods are tried first.
const PLACE: &str = "default";

/// Whether Istio's configuration is validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Good configuration is accepted, bad is refused.
    Works,
    /// Bad configuration is accepted too.
    AcceptsAnything,
    /// Good configuration is refused: why.
    RefusesGood(String),
    /// The kind is not served, so there is nothing to validate.
    #[default]
    NotServed,
    /// It may not be tried: why.
    Denied(String),
}

/// What works, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Works {
    /// Whether configuration is validated.
    pub validation: Validation,
    /// Webhook configurations whose injector answers.
    pub injectors: BTreeSet<String>,
    /// Those of which nobody lets us try that: why, by their name.
    pub denied: BTreeMap<String, String>,
    /// Those that cannot be tried alone, since no namespace asks only them.
    pub untried: BTreeSet<String>,
}

/// What the proof may ask for.
pub fn needs(namespace: &str) -> Needs {
    let virtual_services = [("networking.istio.io", "virtualservices")];
    proof_needs(PLACE).require(Some(namespace), virtual_services, &["create"])
}

/// Tries what works: each injector by a pod, and the validator by configuration, as dry runs.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn works(connection: &Connection, snapshot: &Snapshot, namespace: &str) -> Result<Works, Failure> {
    let mut works = Works { validation: validation(connection, namespace).await?, ..Works::default() };
    for injector in injectors(snapshot) {
        match try_injector(connection, snapshot, injector).await? {
            Proof::Injected(_) => drop(works.injectors.insert(injector.configuration.clone())),
            Proof::Untried(why) => drop(works.denied.insert(injector.configuration.clone(), why)),
            Proof::NoPlace => drop(works.untried.insert(injector.configuration.clone())),
            Proof::Failed(_) | Proof::Refused(_) => {}
        }
    }
    Ok(works)
}

/// What works no longer that worked before, a line each. `gone` are the objects that were to go.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn lost(
    connection: &Connection,
    before: &Works,
    snapshot: &Snapshot,
    namespace: &str,
    gone: &[Change],
) -> Result<Vec<String>, Failure> {
    let mut lost = Vec::new();
    for name in before.injectors.iter().filter(|name| !is_to_go(name, gone)) {
        let Some(injector) = injectors(snapshot).find(|injector| injector.configuration == *name) else {
            lost.push(format!("mutatingwebhookconfigurations/{name} answered before, and is not there now"));
            continue;
        };
        let look = || async {
            Ok::<_, Failure>(match try_injector(connection, snapshot, injector).await? {
                Proof::Injected(_) => Look::Done(()),
                Proof::Failed(why) => Look::NotYet(why),
                Proof::Refused(why) => Look::NotYet(format!("pods are refused: {why}")),
                Proof::Untried(why) => Look::NotYet(format!("it answered before, and cannot be tried now: {why}")),
                Proof::NoPlace => Look::NotYet(format!("it answered before, and cannot be tried now: {NO_PLACE}")),
            })
        };
        if let Waited::TimedOut(why) = Patience::learning().wait(look).await? {
            lost.push(format!("mutatingwebhookconfigurations/{name}: {why}"));
        }
    }
    if before.validation == Validation::Works {
        let look = || async {
            Ok::<_, Failure>(match validation(connection, namespace).await? {
                Validation::Works => Look::Done(()),
                Validation::AcceptsAnything => Look::NotYet("bad configuration is not refused any more".to_owned()),
                Validation::RefusesGood(why) => Look::NotYet(format!("good configuration is refused: {why}")),
                Validation::NotServed => Look::NotYet("Istio's configuration is not served any more".to_owned()),
                Validation::Denied(why) => Look::NotYet(format!("whether configuration is validated could not be tried: {why}")),
            })
        };
        if let Waited::TimedOut(why) = Patience::learning().wait(look).await? {
            lost.push(why);
        }
    }
    Ok(lost)
}

/// Whether a webhook configuration is among the objects that go.
pub fn is_to_go(name: &str, gone: &[Change]) -> bool {
    gone.iter().any(|change| change.subject.kind == "MutatingWebhookConfiguration" && change.subject.name == name)
}

async fn try_injector(connection: &Connection, snapshot: &Snapshot, injector: &Injector) -> Result<Proof, Failure> {
    let revision = match answering_revision(snapshot, injector) {
        Ok(revision) => revision,
        Err(fault) => return Ok(Proof::Failed(format!("nobody answers for it: {}", fault.why))),
    };
    let names: Vec<&str> = injector.tag.as_deref().into_iter().chain([revision.as_str()]).collect();
    let found = places(snapshot, &injector.configuration, &names, &[PLACE]);
    prove(connection, &found, &revision).await
}

/// The injectors in use, one of each webhook configuration.
fn injectors(snapshot: &Snapshot) -> impl Iterator<Item = &Injector> {
    let mut seen = BTreeSet::new();
    let active = snapshot.injectors.iter().filter(|injector| !injector.is_deactivated());
    active.filter(move |injector| seen.insert(injector.configuration.as_str()))
}

/// Asks for a good and a bad VirtualService as a dry run.
async fn validation(connection: &Connection, namespace: &str) -> Result<Validation, Failure> {
    let good = json!({"route": [{"destination": {"host": "mesh-proof"}}]});
    // A route that leads nowhere is well-formed: only istiod knows that it is wrong.
    let bad = json!({"name": "mesh-proof"});
    match ask(connection, namespace, good).await {
        Ok(_) => {}
        Err(failure) if failure.cause == Cause::NotFound => return Ok(Validation::NotServed),
        Err(failure) if failure.cause == Cause::Forbidden => return Ok(Validation::Denied(failure.to_string())),
        Err(failure) if failure.cause.is_tolerable() => return Ok(Validation::RefusesGood(failure.to_string())),
        Err(failure) => return Err(failure),
    }
    match ask(connection, namespace, bad).await {
        Ok(_) => Ok(Validation::AcceptsAnything),
        // A server that is away or busy says nothing about the configuration.
        Err(failure) if failure.cause.is_passing() || !failure.cause.is_tolerable() => Err(failure),
        Err(_) => Ok(Validation::Works),
    }
}

async fn ask(connection: &Connection, namespace: &str, route: Value) -> Result<Value, Failure> {
    let body = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"generateName": "mesh-proof-", "namespace": namespace},
        "spec": {"hosts": ["mesh-proof"], "http": [route]},
    });
    let path = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices");
    post(connection, &path, &body, "asking for a VirtualService as a dry run", Persistence::DryRun).await
}
