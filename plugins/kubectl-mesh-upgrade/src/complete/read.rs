//! Reads what uses a revision beyond the snapshot, and what it consists of.

use futures::stream::{self, StreamExt, TryStreamExt};
use mesh::change::Subject;
use mesh::cluster::Scope;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::{read_list, read_object};
use mesh::needs::Needs;
use serde_json::Value;

use super::removal::{Part, parts};
use crate::lists::{Found, LABELLED, found, labelled, labelled_needs, labelled_of, path};

/// Kinds of the Gateway API that a revision's label restricts, besides Gateways (`IsMine`, pkg/revisions/tag_watcher.go).
const GATEWAY_API: [(&str, &str, &str); 5] = [
    ("gateway.networking.k8s.io", "v1", "gatewayclasses"),
    ("gateway.networking.k8s.io", "v1", "grpcroutes"),
    ("gateway.networking.k8s.io", "v1", "httproutes"),
    ("gateway.networking.k8s.io", "v1alpha2", "tcproutes"),
    ("gateway.networking.k8s.io", "v1alpha2", "tlsroutes"),
];

/// Lists beyond the snapshot.
pub struct Lists {
    /// CronJobs, and Jobs that are suspended.
    pub sleeping: Found,
    /// Objects with a revision's label.
    pub labelled: Found,
    /// DaemonSets of ztunnel.
    pub ztunnels: Found,
    /// Secrets that name remote clusters.
    pub remote_secrets: Found,
}

/// Reads them side by side. `istio_namespace` is where remote clusters are named.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn lists(connection: &Connection, istio_namespace: &str) -> Result<Lists, Failure> {
    let list = |path: String, what: &'static str| async move { found(read_list(connection, &path, what).await) };
    let ztunnels =
        list(format!("{}?labelSelector=app%3Dztunnel", path("apps", "v1", "daemonsets")), "listing daemonsets of ztunnel");
    let secrets = format!("/api/v1/namespaces/{istio_namespace}/secrets?labelSelector=istio%2FmultiCluster%3Dtrue");
    let plain = async {
        let cron_jobs = list(path("batch", "v1", "cronjobs"), "listing cronjobs").await?;
        let jobs = list(path("batch", "v1", "jobs"), "listing jobs").await?;
        Ok::<_, Failure>((cron_jobs, jobs, ztunnels.await?, list(secrets, "listing secrets of remote clusters").await?))
    };
    let labelled = async { Ok::<_, Failure>(both(labelled(connection).await?, labelled_of(connection, &GATEWAY_API).await?)) };
    let (plain, labelled) = futures::join!(plain, labelled);
    let ((cron_jobs, jobs, ztunnels, remote_secrets), labelled) = (plain?, labelled?);
    let jobs = match jobs {
        // Pods of the others exist already, or never come again.
        Found::Items(jobs) => Found::Items(jobs.into_iter().filter(|job| job["spec"]["suspend"] == true).collect()),
        unread => unread,
    };
    Ok(Lists { sleeping: both(cron_jobs, jobs), labelled, ztunnels, remote_secrets })
}

fn both(one: Found, other: Found) -> Found {
    match (one, other) {
        (Found::Items(mut items), Found::Items(more)) => {
            items.extend(more);
            Found::Items(items)
        }
        (Found::Unread(why), _) | (_, Found::Unread(why)) => Found::Unread(why),
    }
}

/// The objects that a revision may consist of and that are there, each with its part.
///
/// # Errors
/// When one of them cannot be read: then nobody knows what would be left.
pub async fn consists_of(connection: &Connection, revision: &str, namespace: &str) -> Result<Vec<(Part, Value)>, Failure> {
    let reads = parts(revision, namespace).into_iter().map(|(part, subject)| async move {
        let object = read_object(connection, &subject).await?;
        Ok::<_, Failure>(object.map(|object| (part, with_identity(object, &subject))))
    });
    let found: Vec<Option<(Part, Value)>> = stream::iter(reads).buffered(4).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

fn with_identity(mut object: Value, subject: &Subject) -> Value {
    object["apiVersion"] = subject.api_version.as_str().into();
    object["kind"] = subject.kind.as_str().into();
    object["plural"] = subject.plural.as_str().into();
    object
}

/// What [`lists`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    labelled_needs(&LABELLED)
        .and(labelled_needs(&GATEWAY_API))
        .require(None, [("batch", "cronjobs"), ("batch", "jobs"), ("apps", "daemonsets")], &["list"])
        .require(Some(scope.control_plane_namespace()), [("", "secrets")], &["list"])
}
