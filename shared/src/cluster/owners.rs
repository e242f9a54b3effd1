//! Asks whether the owners that objects name are there: the mark of one that is gone is nobody's.

use std::collections::BTreeSet;

use serde_json::Value;

use super::connection::Connection;
use super::failure::Failure;
use super::list::{Found, List};
use crate::owner::{Owner, owner_of};

/// The owners of these objects that are gone for certain. One of whom that cannot be found out is not among them.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn gone(connection: &Connection, objects: impl Iterator<Item = &Value>) -> Result<BTreeSet<Owner>, Failure> {
    let owners: BTreeSet<Owner> = objects.map(owner_of).filter(|owner| !owner.is_ours_to_write()).collect();
    let mut gone = BTreeSet::new();
    for owner in owners {
        if is_gone(connection, &owner).await? {
            gone.insert(owner);
        }
    }
    Ok(gone)
}

async fn is_gone(connection: &Connection, owner: &Owner) -> Result<bool, Failure> {
    match owner {
        Owner::Helm { release, namespace } => is_release_gone(connection, release, namespace).await,
        _ => Ok(false),
    }
}

/// Helm keeps each state of a release in a Secret of the release's namespace, or on demand in a ConfigMap (`HELM_DRIVER`;
/// pkg/storage/driver of helm.sh/helm). Nobody here can look into a database.
async fn is_release_gone(connection: &Connection, release: &str, namespace: &str) -> Result<bool, Failure> {
    let in_database = std::env::var("HELM_DRIVER").is_ok_and(|driver| driver == "sql");
    if in_database || namespace.is_empty() {
        return Ok(false);
    }
    for kind in [List::of(("", "v1", "secrets")), List::of(("", "v1", "configmaps"))] {
        let list = kind.selected_by(&format!("owner=helm,name={release}")).in_namespace(namespace);
        match Found::of(list.metadata(connection).await)? {
            Found::Items(items) if items.is_empty() => {}
            Found::Items(_) | Found::Unread(_) => return Ok(false),
        }
    }
    Ok(true)
}
