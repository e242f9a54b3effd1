//! Lists beyond the snapshot, that may be denied: then they are unknown, and say so.

use futures::stream::{self, StreamExt};
pub use mesh::cluster::Found;
use mesh::cluster::List;
use mesh::cluster::connection::Connection;
use mesh::cluster::discovery::ServedLists;
use mesh::cluster::failure::Failure;
use mesh::labels;
use mesh::uses::inventory::is_mesh_group;
use serde_json::Value;

/// So many lists are read at once: each connection costs the API server a handshake, and the list of pods takes longer anyway.
const AT_ONCE: usize = 2;

/// Objects of Istio's kinds and of the Gateway API's that carry a revision's label, whatever kinds the API server serves. Gateways
/// of the Gateway API are left out: the label says whom they follow.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn labelled(connection: &Connection, served: &ServedLists) -> Result<Found, Failure> {
    if let Some(why) = served.unread.first() {
        return Ok(Found::Unread(why.clone()));
    }
    let is_follower = |group: &str, resource: &str| (group, resource) == ("gateway.networking.k8s.io", "gateways");
    let kinds = served.lists.iter().filter(|kind| is_mesh_group(&kind.group) && !is_follower(&kind.group, &kind.resource));
    let reads = kinds.map(|kind| async move {
        let items = List::of(kind.clone()).with_label(labels::REVISION).whole(connection).await;
        items.map(|items| items.into_iter().map(|item| with_plural(item, &kind.resource)).collect())
    });
    let reads: Vec<_> = reads.collect();
    all(stream::iter(reads).buffered(AT_ONCE).collect().await)
}

/// Findings name an object by its plural, which the object itself does not say.
fn with_plural(mut object: Value, plural: &str) -> Value {
    object["plural"] = plural.into();
    object
}

/// Several lists as one: what is denied of one is unknown of all.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub fn all(parts: Vec<Result<Vec<Value>, Failure>>) -> Result<Found, Failure> {
    let mut items = Vec::new();
    let mut unread = None;
    for part in parts {
        match Found::of(part)? {
            Found::Items(part) => items.extend(part),
            Found::Unread(why) => unread = unread.or(Some(why)),
        }
    }
    Ok(unread.map_or(Found::Items(items), Found::Unread))
}
