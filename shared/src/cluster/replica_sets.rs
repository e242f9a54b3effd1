//! Who controls ReplicaSets: the step between a pod and its Deployment or Rollout.

use std::collections::HashMap;

use super::connection::Connection;
use super::failure::Failure;
use super::list::List;
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
    let objects = List::of(Resource::ReplicaSets).in_namespace(namespace).metadata_only().objects(connection).await?;
    let controller = |object: &Object| (object.metadata().uid.clone(), object.metadata().controller().cloned());
    Ok(objects.iter().map(controller).collect())
}
