//! The proof that an injector answers: a pod that is created as a dry run, and comes back with a proxy.

use serde_json::json;

use super::apply::{Persistence, post};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use crate::needs::Needs;
use crate::object::{Pod, Resource};
use crate::proof::Place;
use crate::proxy::running_revision;

/// What a dry run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The pod got a proxy of this revision, in this namespace.
    Injected {
        /// The revision.
        revision: String,
        /// The namespace.
        namespace: String,
    },
    /// The pod would be created without a proxy, in this namespace.
    NotInjected(String),
    /// The injector does not answer, or answers with an error: why.
    Refused(String),
    /// No pod could be tried: why.
    Untried(String),
}

/// Creates a pod as a dry run in the first of these places that takes one.
///
/// # Errors
/// When the API server cannot be reached.
pub async fn prove(connection: &Connection, places: &[Place]) -> Result<Proof, Failure> {
    let mut untried = "no namespace was found in which only this injector would be asked".to_owned();
    for place in places {
        match dry_run(connection, place).await {
            Ok(pod) => {
                let revision = pod.metadata.as_ref().and_then(running_revision);
                let namespace = place.namespace.clone();
                return Ok(match revision {
                    Some(revision) => Proof::Injected { revision, namespace },
                    None => Proof::NotInjected(namespace),
                });
            }
            Err(failure) if failure.to_string().contains("failed calling webhook") => {
                return Ok(Proof::Refused(failure.to_string()));
            }
            // A quota, a policy or a missing permission says nothing about the injector.
            Err(failure) if matches!(failure.cause, Cause::Forbidden | Cause::Refused(_) | Cause::NotFound) => {
                untried = failure.to_string()
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Proof::Untried(untried))
}

/// What [`prove`] may ask for, where its first place is in this namespace.
pub fn needs(namespace: &str) -> Needs {
    let more = format!(
        "A pod is created as a dry run in namespace {namespace}; where that takes none, in another one, if you may create pods there."
    );
    Needs::default().require(Some(namespace), [Resource::Pods], &["create"]).note(&more)
}

async fn dry_run(connection: &Connection, place: &Place) -> Result<Pod, Failure> {
    let what = format!("asking for a pod in namespace {} as a dry run", place.namespace);
    let body = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "mesh-proof-", "labels": place.labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "pause",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 65535},
            }],
        },
    });
    let path = Resource::Pods.path(Some(&place.namespace));
    let pod = post(connection, &path, &body, &what, Persistence::DryRun).await?;
    serde_json::from_value(pod).map_err(|error| Failure::new(what, Cause::Decode(error.to_string())))
}
