//! Waits until something has changed that a verdict may depend on.

use std::time::{Duration, Instant};

use futures::future::{FutureExt, select_all};
use serde::Deserialize;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::List;
use super::request::{Accept, next_bytes, send_once};
use super::scope::Scope;
use crate::needs::Needs;
use crate::object::Resource;

/// What is watched: what runs, what is asked for, and who answers.
const WATCHED: [Resource; 4] =
    [Resource::Pods, Resource::Deployments, Resource::Namespaces, Resource::MutatingWebhookConfigurations];

/// How long a watch lasts before it is asked for again.
const LENGTH: Duration = Duration::from_secs(30);

/// How much longer than that nothing need be heard, where `--request-timeout` allows as much.
const GRACE: Duration = Duration::from_secs(30);

/// No bookmark is longer.
const LONGEST_LINE: usize = 64 * 1024;

/// How long until the next look where nothing can be watched.
const WITHOUT_WATCH: Duration = Duration::from_secs(10);

/// What watching a scope may ask for. Where it is denied, everything is looked at again every ten seconds.
pub fn needs(scope: &Scope) -> Needs {
    Needs::default().prefer(scope.namespace.as_deref(), WATCHED, &["list", "watch"])
}

/// A moment of a cluster, from which changes are waited for. The default is one of which nothing can be watched.
#[derive(Clone, Debug, Default)]
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

/// Why waiting for a change has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something has changed, or may have.
    Changed,
    /// Nothing is heard from the server any more: why. What was shown may not be so any longer.
    Lost(String),
}

/// Waits for the first change since a moment. Where nothing can be watched, it waits a while instead.
///
/// # Errors
/// When a watch is refused for a reason that does not pass.
pub async fn changed(connection: &Connection, scope: &Scope, moment: &Moment) -> Result<Woken, Failure> {
    if moment.versions.is_empty() {
        tokio::time::sleep(WITHOUT_WATCH).await;
        return Ok(Woken::Changed);
    }
    let watches = moment.versions.iter().map(|(resource, version)| {
        let list = List::of(*resource).within(scope.namespace.as_deref());
        Watch { connection, what: format!("watching {resource}"), list }.first_event(version.clone()).boxed_local()
    });
    let (result, ..) = select_all(watches).await;
    result
}

/// One kind that is watched.
struct Watch<'a> {
    connection: &'a Connection,
    list: List,
    what: String,
}

/// How a single watch ended.
enum End {
    Event,
    /// The server ended it, as it was asked to, and nothing has happened until this version.
    Over(String),
    /// For so long nothing came at all.
    Silent(Duration),
}

/// An event of a watch: one a line.
#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Marked,
}

#[derive(Deserialize)]
struct Marked {
    metadata: MarkedMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MarkedMetadata {
    resource_version: String,
}

impl Watch<'_> {
    /// Waits for one event, over as many watches as it takes. A version that is too old counts as a change: looking again is
    /// always right.
    async fn first_event(self, mut version: String) -> Result<Woken, Failure> {
        loop {
            let begun = Instant::now();
            match self.once(&version).await {
                Ok(End::Event) => return Ok(Woken::Changed),
                Ok(End::Over(newest)) => version = newest,
                Ok(End::Silent(limit)) => {
                    return Ok(Woken::Lost(format!("{}: nothing was heard for {} s", self.what, limit.as_secs())));
                }
                Err(failure) if failure.cause == Cause::Expired => return Ok(Woken::Changed),
                Err(failure) if failure.cause.is_passing() => return Ok(Woken::Lost(failure.to_string())),
                Err(failure) if failure.cause.is_tolerable() => {
                    tokio::time::sleep(WITHOUT_WATCH).await;
                    return Ok(Woken::Changed);
                }
                Err(failure) => return Err(failure),
            }
            // A server that ends each watch at once is not asked without pause.
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed())).await;
        }
    }

    /// Watches once. The server ends a watch when it was asked to and tells by bookmarks how far it has seen; one that is silent
    /// longer than that is not there any more, whatever the connection looks like from here.
    async fn once(&self, version: &str) -> Result<End, Failure> {
        let request = http::Request::get(format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={version}",
            self.list.kind().path(self.list.namespace()),
            LENGTH.as_secs()
        ))
        // Compression and watches do not go together (kube-rs issue 2079).
        .header(http::header::ACCEPT_ENCODING, "identity")
        .body(Vec::new())
        .map_err(|error| Failure::new(self.what.clone(), Cause::Other(error.to_string())))?;
        let longest = LENGTH + self.connection.request_timeout.unwrap_or(GRACE).min(GRACE);
        let heard = self.hear(request, version);
        tokio::time::timeout(longest, heard).await.unwrap_or(Ok(End::Silent(longest)))
    }

    async fn hear(&self, request: http::Request<Vec<u8>>, version: &str) -> Result<End, Failure> {
        let response = send_once(self.connection, request, Accept::Json, &self.what).await?;
        let mut body = response.into_body();
        let mut line = Vec::new();
        let mut newest = version.to_owned();
        while let Some(bytes) = next_bytes(&mut body, None, &self.what).await? {
            line.extend_from_slice(&bytes);
            while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                match serde_json::from_slice::<Event>(&line[..end]) {
                    Ok(event) if event.r#type == "BOOKMARK" => newest = event.object.metadata.resource_version,
                    // What is not understood may be a change too.
                    _ => return Ok(End::Event),
                }
                line.drain(..=end);
            }
            if line.len() > LONGEST_LINE {
                return Ok(End::Event);
            }
        }
        Ok(End::Over(newest))
    }
}
