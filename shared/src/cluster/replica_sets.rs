//! Who controls ReplicaSets: the step between a pod and its Deployment or Rollout.

use std::cell::RefCell;
use std::collections::HashMap;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::{List, Sink};
use crate::needs::Needs;
use crate::object::{Object, OwnerReference, Resource};

/// The controllers of ReplicaSets, by the uid of the ReplicaSet; `None` for one that nobody controls.
pub type ReplicaSetControllers = HashMap<String, Option<OwnerReference>>;

/// What [`replica_set_controllers`] asks for.
pub fn needs(namespace: Option<&str>) -> Needs {
    Needs::default().require(namespace, [Resource::ReplicaSets], &["list"])
}

/// Reads the metadata of a namespace's ReplicaSets.
///
/// # Errors
/// Also when one of them cannot be decoded: then nobody knows whose pods it holds.
pub async fn replica_set_controllers(connection: &Connection, namespace: &str) -> Result<ReplicaSetControllers, Failure> {
    let list = List::within(Resource::ReplicaSets, Some(namespace)).metadata_only();
    let found = Found::default();
    list.read(connection, &found).await?;
    match found.undecodable.into_inner() {
        Some(why) => Err(Failure::new(list.describe(), Cause::Decode(why))),
        None => Ok(found.controllers.into_inner()),
    }
}

#[derive(Default)]
struct Found {
    controllers: RefCell<ReplicaSetControllers>,
    undecodable: RefCell<Option<String>>,
}

impl Sink for Found {
    fn object(&self, object: &Object) {
        let metadata = object.metadata();
        self.controllers.borrow_mut().insert(metadata.uid.clone(), metadata.controller().cloned());
    }

    fn undecodable(&self, _list: &List, why: &str) {
        *self.undecodable.borrow_mut() = Some(format!("a ReplicaSet could not be decoded: {why}"));
    }

    fn restart(&self, _list: &List) {
        self.controllers.borrow_mut().clear();
        *self.undecodable.borrow_mut() = None;
    }
}
