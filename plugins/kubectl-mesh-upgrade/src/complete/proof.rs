//! Proof that the mesh works without a revision: pods are still injected, and configuration is still validated.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh::cluster::apply::{Persistence, post};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::proof::{self, Proof, prove};
use mesh::injection::answering_revision;
use mesh::needs::Needs;
use mesh::proof::places;
use mesh::snapshot::Snapshot;
use serde_json::{Value, json};

/// API servers learn a moment later than etcd that a webhook is gone.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Whether Istio's configuration is validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Good configuration is accepted, bad is refused.
    Works,
    /// Bad configuration is accepted too.
    AcceptsAnything,
    /// Good configuration is refused: why.
    RefusesGood(String),
    /// It could not be tried: why.
    Untried(String),
}

/// What the proof may ask for.
pub fn needs(namespace: &str) -> Needs {
    let virtual_services = [("networking.istio.io", "virtualservices")];
    proof::needs(PLACE).require(Some(namespace), virtual_services, &["create"])
}

/// The namespace in which pods are tried first.
const PLACE: &str = "default";

/// Asks for a good and a bad VirtualService as a dry run.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn validation(connection: &Connection, namespace: &str) -> Result<Validation, Failure> {
    let good = json!({"route": [{"destination": {"host": "mesh-proof"}}]});
    // A route that leads nowhere is well-formed: only istiod knows that it is wrong.
    let bad = json!({"name": "mesh-proof"});
    match ask(connection, namespace, good).await {
        Ok(_) => {}
        Err(failure) if matches!(failure.cause, Cause::Forbidden | Cause::NotFound) => {
            return Ok(Validation::Untried(failure.to_string()));
        }
        Err(failure) if failure.cause.is_tolerable() || matches!(failure.cause, Cause::Refused(_) | Cause::Server(..)) => {
            return Ok(Validation::RefusesGood(failure.to_string()));
        }
        Err(failure) => return Err(failure),
    }
    Ok(match ask(connection, namespace, bad).await {
        Ok(_) => Validation::AcceptsAnything,
        Err(_) => Validation::Works,
    })
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

/// What of validation is worse than before, in words.
pub async fn lost_validation(connection: &Connection, namespace: &str, before: &Validation) -> Result<Option<String>, Failure> {
    if *before != Validation::Works {
        return Ok(None);
    }
    let mut told = None;
    for pause in PATIENCE {
        tokio::time::sleep(pause).await;
        told = match validation(connection, namespace).await? {
            Validation::Works => return Ok(None),
            Validation::AcceptsAnything => Some("bad configuration is not refused any more".to_owned()),
            Validation::RefusesGood(why) => Some(format!("good configuration is refused: {why}")),
            Validation::Untried(why) => Some(format!("whether configuration is validated could not be tried: {why}")),
        };
    }
    Ok(told)
}

/// Asks every injector that is left by a dry-run pod, and gives what is wrong with each, in words.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn lost_injection(connection: &Connection, snapshot: &Snapshot) -> Result<Vec<String>, Failure> {
    let active = snapshot.injectors.iter().filter(|injector| !injector.is_deactivated());
    let mut lost = Vec::new();
    let mut seen = BTreeSet::new();
    for injector in active.filter(|injector| seen.insert(injector.configuration.clone())) {
        let Ok(revision) = answering_revision(snapshot, injector) else {
            // Nobody answers, which was so before: what was removed had no injector left.
            continue;
        };
        let names: Vec<&str> = injector.tag.as_deref().into_iter().chain([revision.as_str()]).collect();
        let found = places(snapshot, &injector.configuration, &names, &[PLACE]);
        if let Some(why) = refused(connection, &found, &revision).await? {
            lost.push(format!("mutatingwebhookconfigurations/{}: {why}", injector.configuration));
        }
    }
    Ok(lost)
}

async fn refused(connection: &Connection, places: &[mesh::proof::Place], revision: &str) -> Result<Option<String>, Failure> {
    let mut told = None;
    for pause in PATIENCE {
        told = match prove(connection, places).await? {
            Proof::Injected { revision: found, .. } if found == revision => return Ok(None),
            // Nowhere would only this injector be asked, or nobody may try: that says nothing against it.
            Proof::Untried(_) => return Ok(None),
            Proof::Injected { revision: found, namespace } => {
                Some(format!("a pod in namespace {namespace} gets revision {found}"))
            }
            Proof::NotInjected(namespace) => Some(format!("a pod in namespace {namespace} gets no proxy")),
            Proof::Refused(why) => Some(format!("pods are refused: {why}")),
        };
        tokio::time::sleep(pause).await;
    }
    Ok(told)
}
