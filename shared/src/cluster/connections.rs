//! Asks istiods who is connected to them, through the API server's proxy to their pods.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::connection::Connection;
use super::request::get_once;
use crate::needs::Needs;
use crate::uses::clients::Connections;

/// How long an istiod has for its answer. The API server waits much longer for a pod that nothing reaches.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where istiods answer with their connections and metrics (`--monitoringAddr`, pilot/cmd/pilot-discovery of Istio).
const MONITORING_PORT: u16 = 15014;

/// What asking takes: it is not needed where nobody may be connected from elsewhere.
pub fn needs(control_plane: &str) -> Needs {
    Needs::default().prefer(Some(control_plane), [("", "pods/proxy")], &["get"])
}

/// Asks each of these pods; the answers by the name of the pod. Whatever goes wrong is an unknown answer.
pub async fn connections(connection: &Connection, namespace: &str, istiods: &[&str]) -> BTreeMap<String, Connections> {
    let answers = istiods.iter().map(|istiod| async { ((*istiod).to_owned(), ask(connection, namespace, istiod).await) });
    join_all(answers).await.into_iter().collect()
}

/// The list names everybody, but istiod only shows it to whom it can tell apart, which the API server's proxy is not; its metrics
/// are for everyone.
async fn ask(connection: &Connection, namespace: &str, istiod: &str) -> Connections {
    let path = |rest: &str| format!("/api/v1/namespaces/{namespace}/pods/{istiod}:{MONITORING_PORT}/proxy/{rest}");
    let named = get_once(connection, &path("debug/connections"), "asking for connections", PATIENCE).await;
    if let Some(named @ Connections::Named(_)) = named.ok().map(|body| Connections::from_debug(&body)) {
        return named;
    }
    match get_once(connection, &path("metrics"), "asking for its metrics", PATIENCE).await {
        Ok(body) => Connections::from_metrics(&String::from_utf8_lossy(&body)),
        Err(failure) => Connections::Unknown(failure.to_string()),
    }
}
