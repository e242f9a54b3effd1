//! Reads what decides who uses a revision or a tag, and asks istiods for clients that no object shows.

use super::connection::Connection;
use super::connections::{self, connections};
use super::failure::Failure;
use super::inventory::{self, CallersObserver, Places, read_inventory};
use super::read;
use super::scope::Scope;
use crate::installation::Installation;
use crate::needs::Needs;
use crate::snapshot::{Detail, Snapshot};
use crate::uses::callers::Callers;
use crate::uses::clients::{Attendance, attendance, istiods};
use crate::uses::inventory::{Inventory, Relevance};
use crate::uses::{Departure, Evidence, addresses_of};

/// Everything beyond the installation that may use a revision or a tag.
pub struct Users {
    snapshot: Snapshot,
    callers: Callers,
    inventory: Inventory,
}

impl Users {
    /// Reads it, everywhere.
    ///
    /// # Errors
    /// When pods cannot be listed, or the API server cannot be reached. What is denied besides is unknown.
    pub async fn read(
        connection: &Connection,
        istio_namespace: Option<&str>,
        installation: &Installation,
        departure: &Departure<'_>,
    ) -> Result<Users, Failure> {
        let scope = Scope { istio_namespace: istio_namespace.map(str::to_owned), ..Scope::default() };
        let observer = CallersObserver::default();
        let places = places(installation, departure);
        let snapshot = read::read(connection, &scope, Detail::Workloads, &observer);
        let (snapshot, inventory) = futures::join!(snapshot, read_inventory(connection, &places));
        Ok(Users { snapshot: snapshot?, inventory: inventory?, callers: observer.callers() })
    }

    /// As what uses are found in.
    pub fn evidence<'a>(&'a self, installation: &'a Installation) -> Evidence<'a> {
        Evidence { snapshot: &self.snapshot, installation, callers: &self.callers, inventory: &self.inventory }
    }
}

/// What [`Users::read`] and [`ask_istiods`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    let namespace = scope.control_plane_namespace();
    read::needs(&scope.within(None)).and(inventory::needs(namespace)).and(connections::needs(namespace))
}

/// Where to look for users.
pub fn places(installation: &Installation, departure: &Departure<'_>) -> Places {
    let planes = installation.snapshot.control_planes.iter().map(|plane| plane.namespace.clone());
    let control_planes = planes.chain([departure.namespace.to_owned()]).filter(|namespace| !namespace.is_empty()).collect();
    Places { control_planes, relevance: Relevance::new(addresses_of(installation, departure).needles()) }
}

/// Asks the istiods of a revision, or of that which a tag points to, who is connected to them.
pub async fn ask_istiods(connection: &Connection, evidence: &Evidence<'_>, departure: &Departure<'_>) -> Attendance {
    match istiods(evidence, departure) {
        Some(istiods) => {
            let answers = connections(connection, departure.namespace, &istiods).await;
            attendance(&answers, &evidence.callers.proxies)
        }
        None => Attendance::Unknown(vec!["its istiods run elsewhere, so nobody could ask them".to_owned()]),
    }
}
