//! Reads what is installed: the objects of the control planes whole, as they come, and linked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::inventory::AlreadyRead;
use super::list::{Begin, List, Observer};
use super::read::Reading;
use super::scope::Scope;
use super::users::WITH_THE_INSTALLATION;
use crate::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use crate::labels;
use crate::object::{Object, Resource};
use crate::snapshot::{Detail, Snapshot};

/// Reads what is installed: injectors, validators, control planes, Services, Gateways and namespaces, and no workload.
///
/// # Errors
/// When the API server cannot be reached or does not know the user at all. What is denied stands in the snapshot.
pub async fn read_installation(connection: &Connection, istio_namespace: Option<&str>) -> Result<Installation, Failure> {
    let whole = Whole::default();
    let scope = Scope { istio_namespace: istio_namespace.map(str::to_owned), ..Scope::default() };
    let reading = Reading::new(connection, &scope, Detail::Workloads, &whole);
    reading.installation(reading.injectors()).await?;
    let snapshot = reading.builder.into_inner().build();
    Ok(whole.installation(snapshot))
}

/// The objects of control planes as they come, by their lists.
#[derive(Default)]
pub(super) struct Whole(RefCell<BTreeMap<Resource, Vec<Value>>>);

impl Observer for Whole {
    fn object(&self, _object: &Object) {}

    fn restart(&self, list: &List, _begin: Begin) {
        for (resource, objects) in self.0.borrow_mut().iter_mut() {
            objects.retain(|object| !list.covers(*resource, namespace(object)));
        }
    }

    fn whole(&self, resource: Resource, json: &str) {
        let is_wanted = matches!(
            resource,
            Resource::MutatingWebhookConfigurations
                | Resource::ValidatingWebhookConfigurations
                | Resource::Services
                | Resource::Gateways
                | Resource::ProxyConfigs
                | Resource::Deployments
        );
        if let (true, Ok(object)) = (is_wanted, serde_json::from_str(json)) {
            self.0.borrow_mut().entry(resource).or_default().push(object);
        }
    }
}

impl Whole {
    /// All of it, as of now.
    pub(super) fn take(&self) -> Whole {
        Whole(RefCell::new(self.0.take()))
    }

    /// What of it need not be listed again: kinds of which it holds all, and the Services of these namespaces.
    pub(super) fn already_read(&self, namespaces_of_services: BTreeSet<String>) -> AlreadyRead {
        let of = |resource: Resource| with_kind(resource, self.0.borrow().get(&resource).cloned().unwrap_or_default());
        AlreadyRead {
            kinds: WITH_THE_INSTALLATION.into_iter().map(|resource| (resource, of(resource))).collect(),
            services: of(Resource::Services),
            namespaces_of_services,
        }
    }

    /// The installation of which `snapshot` is the linked form.
    pub(super) fn installation(self, snapshot: Snapshot) -> Installation {
        let mut objects_of = self.0.into_inner();
        let mut take = |resource: Resource| -> Vec<Value> {
            let mut objects = with_kind(resource, objects_of.remove(&resource).unwrap_or_default());
            let key = |object: &Value| (namespace(object).to_owned(), name(object).to_owned());
            objects.sort_by_key(key);
            objects
        };
        let mut injectors = take(Resource::MutatingWebhookConfigurations);
        let is_injector = |object: &Value| snapshot.injectors.iter().any(|injector| injector.configuration == name(object));
        // A revision whose entries nobody recognises is still one.
        injectors.retain(|object| is_injector(object) || label(object, labels::REVISION).is_some());
        let mut validators = take(Resource::ValidatingWebhookConfigurations);
        validators.retain(|object| label(object, labels::REVISION).is_some() || name(object) == DEFAULT_VALIDATOR);
        let (services, gateways) = (take(Resource::Services), take(Resource::Gateways));
        let mut istiods = take(Resource::Deployments);
        istiods.retain(|object| label(object, labels::APP) == Some("istiod"));
        // Those that are listed by namespace, where not everything may be listed, are listed once more.
        istiods.dedup_by(|one, other| (namespace(one), name(one)) == (namespace(other), name(other)));
        Installation { snapshot, injectors, validators, services, gateways, istiods }
    }
}

/// Items of a list do not say what they are.
fn with_kind(resource: Resource, mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind().into();
    }
    objects
}

impl<O: Observer> Reading<'_, O> {
    /// What is installed, and what stands where it is installed.
    pub(super) async fn installation(&self, injectors: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let lists = [
            List::of(Resource::ValidatingWebhookConfigurations),
            List::of(Resource::Gateways),
            List::of(Resource::Namespaces).metadata_only(),
        ];
        let lists = join_all(lists.map(|list| self.list(list)));
        let (lists, control_planes) = futures::join!(lists, self.control_planes(injectors));
        lists.into_iter().collect::<Result<(), _>>()?;
        control_planes
    }
}
