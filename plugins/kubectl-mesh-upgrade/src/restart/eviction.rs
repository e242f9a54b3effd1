//! Evictions: new pods where no template change brings them. The API server keeps to PodDisruptionBudgets.

use std::time::Duration;

use mesh::cluster::apply::{Persistence, post};
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::{Cause, Failure};
use mesh::needs::Needs;
use serde_json::{Value, json};

/// How long to wait for a budget that allows nothing now.
const PAUSE: Duration = Duration::from_secs(5);

/// What [`evict`] may ask for.
pub fn needs(namespace: Option<&str>) -> Needs {
    Needs::default().require(namespace, [("", "pods/eviction")], &["create"])
}

/// Evicts a pod, waiting for its budget until `deadline`. A pod that is gone already is as good as evicted.
///
/// # Errors
/// Also when the budget has not allowed it in time.
pub async fn evict(connection: &Connection, pod: &Value, deadline: tokio::time::Instant) -> Result<(), Failure> {
    let metadata = &pod["metadata"];
    let (namespace, name) = (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let what = format!("evicting pod {name} -n {namespace}");
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        // A pod of the same name that is newer is not meant.
        "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
    });
    loop {
        match post(connection, &path, &body, &what, Persistence::Stored).await {
            Ok(_) => return Ok(()),
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
