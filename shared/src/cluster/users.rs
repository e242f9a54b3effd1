//! Reads what decides who uses a revision or a tag, each list once, and asks istiods for clients that no object shows.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures::channel::oneshot;

use super::connection::Connection;
use super::connections::{self, connections};
use super::failure::Failure;
use super::installation::Whole;
use super::inventory::{self, Places, bare_replica_sets, config_maps, read_inventory};
use super::list::{Begin, List, Observer};
use super::read::{self, Reading};
use super::scope::Scope;
use crate::census::{Census, CensusBuilder};
use crate::installation::Installation;
use crate::needs::Needs;
use crate::object::{Encoded, Object, Resource};
use crate::proxy::is_alive;
use crate::snapshot::{Detail, Origin, Snapshot, SnapshotBuilder};
use crate::uses::callers::{Callers, CallersBuilder};
use crate::uses::clients::{Attendance, attendance, istiods};
use crate::uses::inventory::{Inventory, Relevance};
use crate::uses::workloads::config_maps_of;
use crate::uses::{Departing, Departure, Evidence, Uses, addresses_of, uses};

/// Everything that may use a revision or a tag, and who does.
pub struct Users {
    /// What is installed.
    pub installation: Installation,
    /// The mesh, with all its workloads.
    pub snapshot: Snapshot,
    /// The pods, counted.
    pub census: Census,
    /// All other objects that may need it.
    pub inventory: Inventory,
    /// Who uses it.
    pub uses: Uses,
    /// The namespace of its control plane.
    pub namespace: String,
    callers: Callers,
    what: Departing,
    name: String,
}

/// What is to go, before it is known where its control plane is.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// A revision or a tag.
    pub what: Departing,
    /// Its name.
    pub name: &'a str,
}

impl Users {
    /// Reads it everywhere, each list once. `namespace_of` says where the control plane is, as soon as it is known what is installed;
    /// if it cannot, that is the answer.
    ///
    /// # Errors
    /// When pods cannot be listed, or the API server cannot be reached. What is denied besides is unknown.
    pub async fn read<E>(
        connection: &Connection,
        istio_namespace: Option<&str>,
        leaving: Leaving<'_>,
        observer: &impl Observer,
        namespace_of: impl FnOnce(&Installation) -> Result<String, E>,
    ) -> Result<Result<Users, E>, Failure> {
        let scope = Scope { istio_namespace: istio_namespace.map(str::to_owned), ..Scope::default() };
        let seen = Seen { observer, callers: RefCell::default(), bare: RefCell::default(), census: RefCell::default() };
        let mesh = Reading::new(connection, &scope, Detail::Workloads, &seen);
        let whole = Whole::default();
        let both = Both { whole: &whole, mesh: &mesh };
        let installed = Reading::new(connection, &scope, Detail::Workloads, &both);
        // Injectors say by which labels pods have to be counted.
        let (known, keys) = oneshot::channel();
        let injectors = async {
            installed.injectors().await?;
            let _ = known.send(installed.builder.borrow().pod_label_keys());
            Ok(())
        };
        let workloads = async {
            // Without keys the injectors have failed, and that is told.
            let Ok(keys) = keys.await else { return Ok(()) };
            *seen.census.borrow_mut() = Some(CensusBuilder::new(keys));
            mesh.workloads().await
        };
        // One after the other, beside the list of pods, which takes longest.
        let others = async {
            futures::try_join!(installed.installation(injectors), installed.proxy_configs())?;
            mesh.builder.borrow_mut().doubt_as(&installed.builder.borrow());
            let mut namespaces = installed.builder.borrow().control_plane_namespaces();
            namespaces.extend(scope.istio_namespace.clone());
            let already_read = whole.already_read(namespaces);
            let builder = installed.builder.replace(SnapshotBuilder::new(Origin::Cluster, Detail::Workloads));
            let installation = whole.take().installation(builder.build());
            let namespace = match namespace_of(&installation) {
                Ok(namespace) => namespace,
                Err(error) => return Ok(Err(error)),
            };
            let departure = Departure { what: leaving.what, name: leaving.name, namespace: &namespace };
            let inventory = read_inventory(connection, &places(&installation, &departure), already_read).await?;
            Ok::<_, Failure>(Ok((installation, namespace, inventory)))
        };
        let ((), others) = futures::try_join!(workloads, others)?;
        let (installation, namespace, mut inventory) = match others {
            Ok(others) => others,
            Err(error) => return Ok(Err(error)),
        };
        let bare = bare_replica_sets(connection, seen.bare.take());
        let ((), bare) = futures::try_join!(mesh.besides(&WITH_THE_INSTALLATION), bare)?;
        inventory.add(bare);
        let snapshot = mesh.builder.replace(SnapshotBuilder::new(Origin::Cluster, Detail::Workloads)).build();
        let census = seen.census.take().map_or_else(Census::default, CensusBuilder::build);
        let callers = seen.callers.take().build();
        let departure = Departure { what: leaving.what, name: leaving.name, namespace: &namespace };
        let wanted = callers.config_maps.iter().cloned().chain(config_maps_of(&inventory)).collect();
        inventory.add(config_maps(connection, wanted, &places(&installation, &departure)).await?);
        let (what, name) = (leaving.what, leaving.name.to_owned());
        let mut users =
            Users { installation, snapshot, census, inventory, namespace, callers, what, name, uses: Uses::default() };
        users.uses = uses(&users.evidence(), &users.departure());
        Ok(Ok(users))
    }

    /// What the uses were found in.
    pub fn evidence(&self) -> Evidence<'_> {
        let Users { snapshot, installation, callers, inventory, .. } = self;
        Evidence { snapshot, installation, callers, inventory }
    }

    /// What is to go.
    pub fn departure(&self) -> Departure<'_> {
        Departure { what: self.what, name: &self.name, namespace: &self.namespace }
    }

    /// Asks the istiods of the revision, or of that which the tag points to, who is connected to them.
    pub async fn ask_istiods(&self, connection: &Connection) -> Attendance {
        match istiods(&self.evidence(), &self.departure()) {
            Some(istiods) => {
                let answers = connections(connection, &self.namespace, &istiods).await;
                attendance(&answers, &self.callers.proxies)
            }
            None => Attendance::Unknown(vec!["its istiods run elsewhere, so nobody could ask them".to_owned()]),
        }
    }
}

/// Lists that are read with the installation, everywhere.
pub(super) const WITH_THE_INSTALLATION: [Resource; 4] = [
    Resource::MutatingWebhookConfigurations,
    Resource::ValidatingWebhookConfigurations,
    Resource::Gateways,
    Resource::ProxyConfigs,
];

/// What [`Users::read`] and [`Users::ask_istiods`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    let namespace = scope.control_plane_namespace();
    read::needs(&scope.within(None))
        .and(read::installation_needs(scope))
        .and(inventory::needs(namespace))
        .and(connections::needs(namespace))
}

/// What [`Users::read`] may ask for in each namespace that has a control plane, whosever that is.
pub fn needs_in(namespace: &str) -> Needs {
    read::needs_in(namespace).and(inventory::needs_in(namespace))
}

/// Where to look for users.
fn places(installation: &Installation, departure: &Departure<'_>) -> Places {
    let planes = installation.snapshot.control_planes.iter().map(|plane| plane.namespace.clone());
    let control_planes = planes.chain([departure.namespace.to_owned()]).filter(|namespace| !namespace.is_empty()).collect();
    Places { control_planes, relevance: Relevance::new(addresses_of(installation, departure).needles()) }
}

/// Sees the mesh on its way in: whom pods and templates call, how many pods there are of each sort, and ReplicaSets that nobody
/// controls.
struct Seen<'a, O> {
    observer: &'a O,
    callers: RefCell<CallersBuilder>,
    bare: RefCell<BTreeSet<(String, String)>>,
    census: RefCell<Option<CensusBuilder>>,
}

impl<O: Observer> Observer for Seen<'_, O> {
    fn object(&self, object: &Object) {
        self.observer.object(object);
        match object {
            Object::Pod(pod) if is_alive(pod) => {
                if let Some(census) = &mut *self.census.borrow_mut() {
                    census.add(pod);
                }
            }
            Object::ReplicaSet(_) if object.metadata().controller().is_none() => {
                let metadata = object.metadata();
                self.bare.borrow_mut().insert((metadata.namespace.clone(), metadata.name.clone()));
            }
            _ => {}
        }
    }

    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        self.callers.borrow_mut().add(object, encoded);
    }

    fn restart(&self, list: &List, begin: Begin) {
        self.observer.restart(list, begin);
        let Some(resource) = list.resource() else { return };
        self.callers.borrow_mut().forget(resource);
        match resource {
            Resource::Pods => {
                if let Some(census) = &mut *self.census.borrow_mut() {
                    census.restart();
                }
            }
            Resource::ReplicaSets if list.namespace().is_none() => self.bare.borrow_mut().clear(),
            _ => {}
        }
    }
}

/// Takes in what is installed for the mesh too. Whom its templates call is seen where all templates are: a part of a list that begins
/// again makes nobody forget the whole list.
struct Both<'a, O> {
    whole: &'a Whole,
    mesh: &'a Reading<'a, O>,
}

impl<O: Observer> Observer for Both<'_, O> {
    fn object(&self, object: &Object) {
        self.mesh.builder.borrow_mut().add(object);
    }

    fn whole(&self, resource: Resource, json: &str) {
        self.whole.whole(resource, json);
    }

    fn restart(&self, list: &List, begin: Begin) {
        self.whole.restart(list, begin);
    }
}
