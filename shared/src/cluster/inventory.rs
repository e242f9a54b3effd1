//! Reads the inventory: everything beyond a snapshot that may need a revision or a tag. The kinds of Istio and of the Gateway API are
//! found by discovery, whatever they are and at whichever version they are served. What is not to be had is noted, and stays unknown.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::connection::Connection;
use super::discovery::served_lists;
use super::failure::Failure;
use super::list::{Found, GroupVersionResource, List};
use super::raw::read_object;
use crate::change::Subject;
use crate::installation::{name, namespace};
use crate::labels;
use crate::needs::{EVERY_RESOURCE, Needs};
use crate::object::Resource;
use crate::uses::inventory::{Inventory, Listed, Relevance, is_mesh_group};

/// Groups of kinds that every mesh may have, for those who have to grant the reading of them before it is known what is served.
const MESH_GROUPS: [&str; 7] = [
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
    "install.istio.io",
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
];

/// Kinds of Kubernetes and of OpenShift whose objects may name a Service or make pods. Those that an API server does not serve have
/// none.
const KINDS: [(&str, &str, &str); 14] = [
    ("", "v1", "podtemplates"),
    ("", "v1", "replicationcontrollers"),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "v1beta1", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "v1beta1", "validatingadmissionpolicybindings"),
    (DEFINITIONS.0, "v1", DEFINITIONS.1),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps.openshift.io", "v1", "deploymentconfigs"),
    ("batch", "v1", "cronjobs"),
    ("batch", "v1", "jobs"),
    ("networking.k8s.io", "v1", "ingresses"),
];

/// Group and plural of the definitions of custom resources: a webhook converts between the versions of some.
const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

/// EndpointSlices that a person or a controller of somebody else's has written, or that mirror such Endpoints.
const WRITTEN_SLICES: &str = "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";

/// So many lists are read at once: each connection costs the API server a handshake, and the list of pods takes longer anyway.
const AT_ONCE: usize = 3;

/// Where to look for what, beyond what is looked for everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// The namespaces of control planes.
    pub(super) control_planes: BTreeSet<String>,
    /// What makes an object matter.
    pub(super) relevance: Relevance,
}

/// Objects that were read as a part of something else, whole, by their lists: those lists are not read again. One that was denied
/// is unread there.
#[derive(Clone, Debug, Default)]
pub(super) struct AlreadyRead {
    /// Lists of everything of a kind.
    pub(super) kinds: BTreeMap<Resource, Vec<Value>>,
    /// Services, and the namespaces that they are all Services of.
    pub(super) services: Vec<Value>,
    /// Those namespaces.
    pub(super) namespaces_of_services: BTreeSet<String>,
}

impl AlreadyRead {
    fn holds(&self, list: &List) -> bool {
        list.resource().is_some_and(|resource| self.kinds.contains_key(&resource))
    }

    /// The objects that may matter.
    fn relevant(self, relevance: &Relevance) -> impl Iterator<Item = Listed> {
        let listed = |resource: Resource, object: Value| {
            let kept = is_kept_whole(resource.plural()) || relevance.keeps(&object.to_string());
            kept.then(|| Listed { group: resource.group().to_owned(), plural: resource.plural().to_owned(), object })
        };
        let kinds =
            self.kinds.into_iter().flat_map(|(resource, objects)| objects.into_iter().map(move |object| (resource, object)));
        let services = self.services.into_iter().map(|object| (Resource::Services, object));
        kinds.chain(services).filter_map(move |(resource, object)| listed(resource, object))
    }
}

/// Reads it, but for ReplicaSets that nobody controls: [`bare_replica_sets`].
///
/// # Errors
/// When the API server cannot be reached or does not know the user. What is denied stands in the inventory as unread.
pub(super) async fn read_inventory(
    connection: &Connection,
    places: &Places,
    already_read: AlreadyRead,
) -> Result<Inventory, Failure> {
    let mut inventory = Inventory::default();
    let served = served_lists(connection, is_mesh_group).await?;
    inventory.unread.extend(served.unread);
    let of_the_mesh = served.lists.into_iter().map(List::of);
    let plain = KINDS.into_iter().map(List::of);
    // Field selectors know the namespace of every kind.
    let elsewhere = already_read.namespaces_of_services.iter().map(|namespace| format!("metadata.namespace!={namespace}"));
    let services = elsewhere.fold(List::of(Resource::Services), |list, requirement| list.with_fields(&requirement));
    let everywhere = of_the_mesh.chain(plain).filter(|list| !already_read.holds(list)).chain([services]);
    let slices = List::of(Resource::EndpointSlices).selected_by(WRITTEN_SLICES);
    let local = places.control_planes.iter().flat_map(|namespace| {
        let istiods = List::of(Resource::Pods).labelled(labels::APP, "istiod");
        [List::of(Resource::ConfigMaps), istiods].map(|list| list.in_namespace(namespace))
    });
    let secrets = places.control_planes.iter().map(|namespace| {
        // Their data is nobody's business here: the API server is asked for nothing but metadata.
        let list = List::of(("", "v1", "secrets")).labelled(labels::MULTI_CLUSTER, "true").in_namespace(namespace);
        (list, Content::Metadata)
    });
    let lists = everywhere.chain([slices]).chain(local).map(|list| (list, Content::Whole)).chain(secrets);
    let lists: Vec<(List, Content)> = lists.collect();
    let reads = lists.into_iter().map(|(list, content)| read_one(connection, list, content, &places.relevance));
    let parts: Vec<Inventory> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    for part in parts {
        inventory.add(part);
    }
    inventory.objects.extend(already_read.relevant(&places.relevance));
    Ok(inventory)
}

/// What `read_inventory` asks for, as far as it can be said before it is known what is served: a cluster may have kinds of other
/// groups below `istio.io`.
pub fn needs(control_plane: &str) -> Needs {
    let kinds = KINDS.iter().map(|(group, _, plural)| (*group, *plural));
    mesh_kinds_needs()
        .require(None, kinds, &["list"])
        // Pods may have addresses from ConfigMaps.
        .require(
            None,
            [("", "configmaps"), ("", "services"), ("discovery.k8s.io", "endpointslices"), ("apps", "replicasets")],
            &["list"],
        )
        .prefer(None, [("apps", "replicasets")], &["get"])
        .and(needs_in(control_plane))
}

/// What listing every kind of Istio's and of the Gateway API's asks for.
pub fn mesh_kinds_needs() -> Needs {
    Needs::default().require(None, MESH_GROUPS.map(|group| (group, EVERY_RESOURCE)), &["list"])
}

/// What [`read_inventory`] asks for in each namespace that has a control plane.
pub(super) fn needs_in(namespace: &str) -> Needs {
    Needs::default().require(Some(namespace), [("", "configmaps"), ("", "pods"), ("", "secrets")], &["list"])
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Whole,
    Metadata,
}

async fn read_one(connection: &Connection, list: List, content: Content, relevance: &Relevance) -> Result<Inventory, Failure> {
    let GroupVersionResource { group, resource, .. } = list.kind().clone();
    let keep = |text: &str| is_kept_whole(&resource) || relevance.keeps(text);
    let items = match content {
        Content::Whole => list.whole_where(connection, keep).await,
        Content::Metadata => list.metadata(connection).await,
    };
    Ok(match Found::of(items)? {
        Found::Items(items) => {
            let listed = |mut object: Value| {
                if (&*group, &*resource) == DEFINITIONS {
                    // Its schemas describe fields, and may name any Service as an example.
                    object["spec"] = json!({"conversion": object["spec"]["conversion"]});
                }
                Listed { group: group.to_string(), plural: resource.to_string(), object }
            };
            Inventory { objects: items.into_iter().map(listed).collect(), unread: Vec::new() }
        }
        Found::Unread(why) => Inventory { objects: Vec::new(), unread: vec![why] },
    })
}

/// Whether objects of this kind matter whatever they say.
fn is_kept_whole(plural: &str) -> bool {
    matches!(plural, "workloadgroups" | "workloadentries" | "cronjobs" | "jobs" | "secrets" | "pods")
        // Gateways follow the tag that their namespace names, and say nothing of it themselves.
        || matches!(plural, "replicationcontrollers" | "podtemplates" | "deploymentconfigs" | "gateways")
}

/// Reads ReplicaSets that nobody controls: all others are the history of a Deployment, or its pods are seen.
///
/// # Errors
/// As [`read_inventory`].
pub(super) async fn bare_replica_sets(connection: &Connection, bare: BTreeSet<(String, String)>) -> Result<Inventory, Failure> {
    let reads = bare.into_iter().map(|(namespace, name)| async move {
        match read_object(connection, &Subject::new(Resource::ReplicaSets, Some(&namespace), &name)).await {
            Ok(object) => Ok(Inventory { objects: object.map(replica_set).into_iter().collect(), unread: Vec::new() }),
            Err(failure) if failure.cause.is_tolerable() => {
                Ok(Inventory { objects: Vec::new(), unread: vec![failure.to_string()] })
            }
            Err(failure) => Err(failure),
        }
    });
    let parts: Vec<Inventory> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    let mut inventory = Inventory::default();
    parts.into_iter().for_each(|part| inventory.add(part));
    Ok(inventory)
}

/// Reads the ConfigMaps of these namespaces and names that may matter, and no others. Those of control planes were read before.
///
/// # Errors
/// As [`read_inventory`].
pub(super) async fn config_maps(
    connection: &Connection,
    wanted: BTreeSet<(String, String)>,
    places: &Places,
) -> Result<Inventory, Failure> {
    let elsewhere = wanted.iter().map(|(namespace, _)| namespace).filter(|namespace| !places.control_planes.contains(*namespace));
    let namespaces: BTreeSet<&String> = elsewhere.collect();
    let lists = namespaces.into_iter().map(|namespace| List::of(Resource::ConfigMaps).in_namespace(namespace));
    let reads = lists.map(|list| read_one(connection, list, Content::Whole, &places.relevance));
    let parts: Vec<Inventory> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    let mut inventory = Inventory::default();
    for mut part in parts {
        let place = |listed: &Listed| (namespace(&listed.object).to_owned(), name(&listed.object).to_owned());
        part.objects.retain(|listed| wanted.contains(&place(listed)));
        inventory.add(part);
    }
    Ok(inventory)
}

fn replica_set(object: Value) -> Listed {
    Listed { group: "apps".to_owned(), plural: Resource::ReplicaSets.plural().to_owned(), object }
}
