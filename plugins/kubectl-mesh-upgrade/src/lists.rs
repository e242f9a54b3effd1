//! Lists beyond the snapshot, that may be denied: then they are unknown, and say so.

use futures::stream::{self, StreamExt};
pub use mesh::cluster::Found;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::{GroupVersionResource, List};
use mesh::labels;
use mesh::needs::Needs;
use serde_json::Value;

/// Istio's kinds that a revision's label restricts: group, version, plural. The versions are served since Istio 1.22.
pub const LABELLED: [(&str, &str, &str); 14] = [
    ("extensions.istio.io", "v1alpha1", "wasmplugins"),
    ("networking.istio.io", "v1", "destinationrules"),
    ("networking.istio.io", "v1alpha3", "envoyfilters"),
    ("networking.istio.io", "v1", "gateways"),
    ("networking.istio.io", "v1beta1", "proxyconfigs"),
    ("networking.istio.io", "v1", "serviceentries"),
    ("networking.istio.io", "v1", "sidecars"),
    ("networking.istio.io", "v1", "virtualservices"),
    ("networking.istio.io", "v1", "workloadentries"),
    ("networking.istio.io", "v1", "workloadgroups"),
    ("security.istio.io", "v1", "authorizationpolicies"),
    ("security.istio.io", "v1", "peerauthentications"),
    ("security.istio.io", "v1", "requestauthentications"),
    ("telemetry.istio.io", "v1", "telemetries"),
];

/// Objects of Istio's kinds that carry a revision's label.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn labelled(connection: &Connection) -> Result<Found, Failure> {
    labelled_of(connection, &LABELLED).await
}

/// What [`labelled_of`] may ask for.
pub fn labelled_needs(kinds: &[(&str, &str, &str)]) -> Needs {
    Needs::default().require(None, kinds.iter().map(|(group, _, plural)| (*group, *plural)), &["list"])
}

/// Objects of these kinds that carry a revision's label.
///
/// # Errors
/// As [`labelled`].
pub async fn labelled_of(connection: &Connection, kinds: &[(&str, &str, &str)]) -> Result<Found, Failure> {
    let reads = kinds.iter().map(|(group, version, plural)| async move {
        let kind = GroupVersionResource::new(group, version, plural);
        let items = List::of(kind).with_label(labels::REVISION).whole(connection).await;
        items.map(|items| items.into_iter().map(|item| with_plural(item, plural)).collect())
    });
    // Few at once: each connection costs the API server a handshake, and the list of pods takes longer anyway.
    all(stream::iter(reads).buffered(2).collect().await)
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
