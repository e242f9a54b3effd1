//! Waits until something has changed that a verdict may depend on.

use std::time::Duration;

use futures::future::{FutureExt, select_all};

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::List;
use super::request::{Accept, next_bytes, send};
use super::scope::Scope;
use crate::needs::Needs;
use crate::object::Resource;

/// What is watched: what runs, what is asked for, and who answers.
const WATCHED: [Resource; 4] =
    [Resource::Pods, Resource::Deployments, Resource::Namespaces, Resource::MutatingWebhookConfigurations];

/// How long until the next look where nothing can be watched.
const WITHOUT_WATCH: Duration = Duration::from_secs(10);

/// What watching a scope may ask for. Where it is denied, everything is looked at again every [`WITHOUT_WATCH`].
pub fn needs(scope: &Scope) -> Needs {
    Needs::default().prefer(scope.namespace.as_deref(), WATCHED, &["list", "watch"])
}

/// A moment of a cluster, from which changes are waited for.
pub struct Moment {
    /// By resource, the version of its list; absent where it cannot be watched.
    versions: Vec<(Resource, String)>,
}

/// The present moment. Take it before reading: what changes meanwhile is then seen afterwards.
pub async fn now(connection: &Connection, scope: &Scope) -> Result<Moment, Failure> {
    let mut versions = Vec::new();
    for resource in WATCHED {
        match List::of(resource).within(scope.namespace.as_deref()).resource_version(connection).await {
            Ok(version) => versions.push((resource, version)),
            Err(failure) if failure.cause.is_tolerable() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Moment { versions })
}

/// Waits for the first change since a moment. Where nothing can be watched, it waits a while instead.
pub async fn changed(connection: &Connection, scope: &Scope, moment: &Moment) -> Result<(), Failure> {
    if moment.versions.is_empty() {
        tokio::time::sleep(WITHOUT_WATCH).await;
        return Ok(());
    }
    let watches =
        moment.versions.iter().map(|(resource, version)| first_event(connection, scope, *resource, version).boxed_local());
    let (result, ..) = select_all(watches).await;
    result
}

/// Waits for one event of a watch. The end of a watch, or a version that is too old, counts as a change: looking
/// again is always right.
async fn first_event(connection: &Connection, scope: &Scope, resource: Resource, version: &str) -> Result<(), Failure> {
    let what = format!("watching {resource}");
    let path = format!("{}?watch=true&timeoutSeconds=290&resourceVersion={version}", resource.path(scope.namespace.as_deref()));
    let request = http::Request::get(path)
        // Compression and watches do not go together (kube-rs issue 2079).
        .header(http::header::ACCEPT_ENCODING, "identity")
        .body(Vec::new())
        .map_err(|error| Failure::new(what.clone(), Cause::Other(error.to_string())))?;
    match send(connection, request, Accept::Json, &what).await {
        Ok(response) => match next_bytes(&mut response.into_body(), None, &what).await {
            Ok(_) => Ok(()),
            Err(_) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            }
        },
        Err(failure) if failure.cause == Cause::Expired => Ok(()),
        Err(failure) if failure.cause.is_tolerable() => {
            tokio::time::sleep(WITHOUT_WATCH).await;
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}
