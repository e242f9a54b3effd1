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

/// Evicts a pod, waiting for its budget until `deadline`. A pod that is gone already is as good as evicted.
///
/// # Errors
/// Also when the budget has not allowed it in time.
pub async fn evict(connection: &Connection, pod: &Value, deadline: tokio::time::Instant) -> Result<(), Failure> {
    loop {
        match apply::evict(connection, pod).await {
            Ok(()) => return Ok(()),
            Err(failure) if matches!(failure.cause, Cause::NotFound | Cause::Conflict(_)) => return Ok(()),
            Err(failure)
                if matches!(failure.cause, Cause::DisruptionBudget(_)) && tokio::time::Instant::now() + PAUSE < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}
