//! Reads the inventory: everything beyond a snapshot that may need a revision or a tag. The kinds of Istio and of the Gateway API are
//! found by discovery, whatever they are and at whichever version they are served. What is not to be had is noted, and stays unknown.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::connection::Connection;
use super::discovery::served_lists;
use super::failure::{Cause, Failure};
use super::list::{Begin, Found, GroupVersionResource, List, Observer};
use super::raw::read_object;
use crate::change::Subject;
use crate::labels;
use crate::needs::{EVERY_RESOURCE, Needs};
use crate::object::{Encoded, Object, Resource};
use crate::uses::callers::{Callers, CallersBuilder};
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
    ("", "v1", "services"),
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
pub struct Places {
    /// The namespaces of control planes.
    pub control_planes: BTreeSet<String>,
    /// What makes an object matter.
    pub relevance: Relevance,
}

/// Reads it.
///
/// # Errors
/// When the API server cannot be reached or does not know the user. What is denied stands in the inventory as unread.
pub async fn read_inventory(connection: &Connection, places: &Places) -> Result<Inventory, Failure> {
    let mut inventory = Inventory::default();
    let served = served_lists(connection, is_mesh_group).await?;
    inventory.unread.extend(served.unread);
    let of_the_mesh = served.lists.into_iter().map(List::of);
    let plain = KINDS.into_iter().map(List::of);
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
    let lists = of_the_mesh.chain(plain).chain([slices]).chain(local).map(|list| (list, Content::Whole)).chain(secrets);
    let reads = lists.map(|(list, content)| read_one(connection, list, content, &places.relevance));
    let parts: Vec<Inventory> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    for part in parts.into_iter().chain([bare_replica_sets(connection).await?]) {
        inventory.objects.extend(part.objects);
        inventory.unread.extend(part.unread);
    }
    Ok(inventory)
}

/// What [`read_inventory`] asks for, as far as it can be said before it is known what is served: a cluster may have kinds of other
/// groups below `istio.io`.
pub fn needs(control_plane: &str) -> Needs {
    let kinds = KINDS.iter().map(|(group, _, plural)| (*group, *plural));
    let of_namespace = [("", "configmaps"), ("", "pods"), ("", "secrets")];
    Needs::default()
        .require(None, kinds, &["list"])
        .require(None, MESH_GROUPS.map(|group| (group, EVERY_RESOURCE)), &["list"])
        .require(None, [("discovery.k8s.io", "endpointslices"), ("apps", "replicasets")], &["list"])
        .prefer(None, [("apps", "replicasets")], &["get"])
        .require(Some(control_plane), of_namespace, &["list"])
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Whole,
    Metadata,
}

async fn read_one(connection: &Connection, list: List, content: Content, relevance: &Relevance) -> Result<Inventory, Failure> {
    let GroupVersionResource { group, resource, .. } = list.kind().clone();
    // All of these matter whatever they say.
    let is_kept_whole = matches!(&*resource, "workloadgroups" | "workloadentries" | "cronjobs" | "jobs" | "secrets" | "pods")
        // Gateways follow the tag that their namespace names, and say nothing of it themselves.
        || matches!(&*resource, "replicationcontrollers" | "deploymentconfigs" | "gateways");
    let keep = |text: &str| is_kept_whole || relevance.keeps(text);
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

/// ReplicaSets that nobody controls: all others are the history of a Deployment, or its pods are seen.
async fn bare_replica_sets(connection: &Connection) -> Result<Inventory, Failure> {
    let list = List::of(Resource::ReplicaSets).metadata_only();
    let objects = match list.objects(connection).await {
        Ok(objects) => objects,
        Err(failure) if failure.cause.is_tolerable() || matches!(failure.cause, Cause::Decode(_)) => {
            return Ok(Inventory { objects: Vec::new(), unread: vec![failure.to_string()] });
        }
        Err(failure) => return Err(failure),
    };
    let bare = objects.iter().map(Object::metadata).filter(|metadata| metadata.controller().is_none());
    let mut inventory = Inventory::default();
    for metadata in bare {
        let subject = Subject::new(Resource::ReplicaSets, Some(&metadata.namespace), &metadata.name);
        match read_object(connection, &subject).await {
            Ok(object) => inventory.objects.extend(object.map(replica_set)),
            Err(failure) if failure.cause.is_tolerable() => inventory.unread.push(failure.to_string()),
            Err(failure) => return Err(failure),
        }
    }
    Ok(inventory)
}

fn replica_set(object: Value) -> Listed {
    Listed { group: "apps".to_owned(), plural: Resource::ReplicaSets.plural().to_owned(), object }
}

/// Sees whom pods and templates call while they arrive.
#[derive(Default)]
pub struct CallersObserver(RefCell<CallersBuilder>);

impl CallersObserver {
    /// What it has seen.
    pub fn callers(self) -> Callers {
        self.0.into_inner().build()
    }
}

impl Observer for CallersObserver {
    fn object(&self, _object: &Object) {}

    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        self.0.borrow_mut().add(object, encoded);
    }

    fn restart(&self, list: &List, _begin: Begin) {
        if let Some(resource) = list.resource() {
            self.0.borrow_mut().forget(resource);
        }
    }
}
