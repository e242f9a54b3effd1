//! Evictions: new pods where no template change brings them. The API server keeps to PodDisruptionBudgets.

use std::time::Duration;

use mesh::cluster::apply;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::needs::Needs;
use mesh::object::Resource;
use serde_json::Value;

/// How long to wait for a budget that allows nothing now.
const PAUSE: Duration = Duration::from_secs(5);

/// What [`evict`] may ask for.
pub fn needs(namespace: Option<&str>) -> Needs {
    // An answer that got lost is looked up.
    Needs::default().require(namespace, [("", "pods/eviction")], &["create"]).require(namespace, [Resource::Pods], &["get"])
}

/// What has become of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The pod goes.
    Done,
    /// It is gone already: somebody else has deleted it.
    Gone,
    /// It has changed since it was read, and was left alone.
    Changed,
}

/// What is done where a PodDisruptionBudget does not allow an eviction now.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// It is a failure.
    Asked,
    /// It may allow it later: until then.
    WaitedFor(tokio::time::Instant),
}

/// Evicts a pod as it was read.
///
/// # Errors
/// Also when its budget has not allowed it.
pub async fn evict(connection: &Connection, pod: &Value, budget: Budget) -> Result<Eviction, Failure> {
    loop {
        match apply::evict(connection, pod).await {
            Ok(()) => return Ok(Eviction::Done),
            Err(failure) if failure.cause == Cause::NotFound => return Ok(Eviction::Gone),
            Err(failure) if matches!(failure.cause, Cause::Conflict(_)) => return Ok(Eviction::Changed),
            Err(failure)
                if matches!(failure.cause, Cause::DisruptionBudget(_))
                    && matches!(budget, Budget::WaitedFor(deadline) if tokio::time::Instant::now() + PAUSE < deadline) =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}
