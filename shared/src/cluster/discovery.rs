//! Which kinds an API server serves, by its own discovery: how each is called in URLs, and whether it stands in namespaces.

use std::collections::BTreeMap;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::raw::read_path;

/// How a kind is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedKind {
    /// Plural resource, as in URLs.
    pub plural: String,
    /// Where its objects stand.
    pub place: ServedPlace,
}

/// Where the objects of a kind stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedPlace {
    /// Each in a namespace.
    Namespace,
    /// In none.
    Cluster,
}

/// What discovery told so far; each group and version is asked for once.
#[derive(Debug, Default)]
pub struct Discovery {
    by_version: BTreeMap<String, BTreeMap<String, ServedKind>>,
}

impl Discovery {
    /// How a kind is served; `None` when it is not.
    ///
    /// # Errors
    /// When the API server does not answer. Every user that is logged in may ask (`system:discovery`).
    pub async fn kind(&mut self, connection: &Connection, api_version: &str, kind: &str) -> Result<Option<&ServedKind>, Failure> {
        if !self.by_version.contains_key(api_version) {
            let root = if api_version.contains('/') { "apis" } else { "api" };
            let path = format!("/{root}/{api_version}");
            let kinds = match read_path(connection, &path, &format!("asking which kinds of {api_version} are served")).await {
                Err(failure) if failure.cause == Cause::NotFound => BTreeMap::new(),
                found => kinds(&found?),
            };
            self.by_version.insert(api_version.to_owned(), kinds);
        }
        Ok(self.by_version.get(api_version).and_then(|kinds| kinds.get(kind)))
    }
}

/// The kinds of an `APIResourceList` (`metav1`). Subresources stand beside them with a slash in their names.
fn kinds(list: &serde_json::Value) -> BTreeMap<String, ServedKind> {
    let resources = list["resources"].as_array().into_iter().flatten();
    let kind = |resource: &serde_json::Value| {
        let name = resource["name"].as_str().filter(|name| !name.contains('/'))?;
        let place = if resource["namespaced"] == true { ServedPlace::Namespace } else { ServedPlace::Cluster };
        Some((resource["kind"].as_str()?.to_owned(), ServedKind { plural: name.to_owned(), place }))
    };
    resources.filter_map(kind).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subresources_are_no_kinds() {
        let list = json!({"resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
            {"name": "deployments/scale", "kind": "Scale", "namespaced": true},
            {"name": "clusterroles", "kind": "ClusterRole", "namespaced": false},
        ]});
        let found = kinds(&list);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["ClusterRole", "Deployment"]);
        assert_eq!(found["Deployment"], ServedKind { plural: "deployments".to_owned(), place: ServedPlace::Namespace });
        assert_eq!(found["ClusterRole"].place, ServedPlace::Cluster);
    }
}
