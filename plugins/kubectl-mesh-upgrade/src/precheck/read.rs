//! Reads what the rules need beyond the snapshot, all lists side by side. A list that is denied costs only what depends on it,
//! and is told.

use std::collections::BTreeMap;

use futures::future::join_all;
use mesh::change::Subject;
use mesh::cluster::connection::Connection;
use mesh::cluster::discovery::ServedLists;
use mesh::cluster::failure::{Cause, Failure};
use mesh::cluster::inventory::mesh_kinds_needs;
use mesh::cluster::raw::read_object;
use mesh::cluster::{self, Scope};
use mesh::control_plane::revision_suffix;
use mesh::needs::Needs;
use mesh::object::Resource;

use super::facts::List;
use super::rules::definitions::DEFINITIONS;
use crate::lists::{Found, all, labelled};
use crate::survey::Survey;

/// Where each plain list stands: group, version, plural.
const PLAIN: [(List, &str, &str, &str); 12] = [
    (List::ValidatingWebhookConfigurations, "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    (List::Namespaces, "", "v1", "namespaces"),
    (List::EnvoyFilters, "networking.istio.io", "v1alpha3", "envoyfilters"),
    (List::WasmPlugins, "extensions.istio.io", "v1alpha1", "wasmplugins"),
    (List::GrpcRoutes, "gateway.networking.k8s.io", "v1", "grpcroutes"),
    (List::IstioOperators, "install.istio.io", "v1alpha1", "istiooperators"),
    (List::PodDisruptionBudgets, "policy", "v1", "poddisruptionbudgets"),
    (List::HorizontalPodAutoscalers, "autoscaling", "v2", "horizontalpodautoscalers"),
    (List::ResourceQuotas, "", "v1", "resourcequotas"),
    (List::Deployments, "apps", "v1", "deployments"),
    (List::StatefulSets, "apps", "v1", "statefulsets"),
    (List::DaemonSets, "apps", "v1", "daemonsets"),
];

/// The versions in which BackendTLSPolicies are served, the newest first: Gateway API 1.4 and those before it.
const BACKEND_TLS_POLICIES: [&str; 2] = ["v1", "v1alpha3"];

/// The lists that need to know nothing of the mesh, and which kinds are served.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn lists(
    connection: &Connection,
    served: impl Future<Output = Result<ServedLists, Failure>>,
) -> Result<(BTreeMap<List, Found>, ServedLists), Failure> {
    let plain = join_all(PLAIN.map(|(list, group, version, plural)| async move {
        Ok((list, cluster::List::of((group, version, plural)).found(connection).await?))
    }));
    let labelled = async {
        let served = served.await?;
        Ok::<_, Failure>((labelled(connection, &served).await?, served))
    };
    let (plain, definitions, labelled, policies) =
        futures::join!(plain, definitions(connection), labelled, backend_tls_policies(connection));
    let (labelled, served) = labelled?;
    let mut lists = plain.into_iter().collect::<Result<BTreeMap<List, Found>, Failure>>()?;
    lists.insert(List::CustomResourceDefinitions, definitions?);
    lists.insert(List::LabelledIstioObjects, labelled);
    lists.insert(List::BackendTlsPolicies, policies?);
    Ok((lists, served))
}

/// The definitions that matter, one by one: a cluster may have hundreds of others, and they are long.
async fn definitions(connection: &Connection) -> Result<Found, Failure> {
    let reads = DEFINITIONS.iter().map(|definition| async move {
        let subject = Subject {
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
            namespace: None,
            name: definition.name.to_owned(),
        };
        read_object(connection, &subject).await.map(|object| object.into_iter().collect())
    });
    all(join_all(reads).await)
}

async fn backend_tls_policies(connection: &Connection) -> Result<Found, Failure> {
    for version in BACKEND_TLS_POLICIES {
        let list = cluster::List::of(("gateway.networking.k8s.io", version, "backendtlspolicies"));
        match list.whole(connection).await {
            Err(failure) if failure.cause == Cause::NotFound => {}
            items => return Found::of(items),
        }
    }
    Ok(Found::Items(Vec::new()))
}

/// The ConfigMaps of the control planes, which are named by revision.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn configurations(connection: &Connection, survey: &Survey, lists: &mut BTreeMap<List, Found>) -> Result<(), Failure> {
    let planes = survey.revisions.iter().filter_map(|revision| Some((&revision.name, revision.control_plane.as_ref()?)));
    let names = planes.flat_map(|(revision, plane)| {
        let suffix = revision_suffix(revision);
        ["istio", "istio-sidecar-injector"].map(|name| (plane.namespace.clone(), format!("{name}{suffix}")))
    });
    let reads = names.map(|(namespace, name)| async move {
        let subject = Subject::new(Resource::ConfigMaps, Some(&namespace), &name);
        read_object(connection, &subject).await.map(|object| object.into_iter().collect())
    });
    let maps = all(join_all(reads).await)?;
    lists.insert(List::ConfigMaps, maps);
    Ok(())
}

/// What these reads may ask for.
pub fn needs(scope: &Scope) -> Needs {
    mesh_kinds_needs()
        .require(None, PLAIN.map(|(_, group, _, plural)| (group, plural)), &["list"])
        .require(None, [("gateway.networking.k8s.io", "backendtlspolicies")], &["list"])
        .require(None, [("apiextensions.k8s.io", "customresourcedefinitions")], &["get"])
        .require(Some(scope.control_plane_namespace()), [Resource::ConfigMaps], &["get"])
}
