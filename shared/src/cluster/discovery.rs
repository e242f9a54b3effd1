//! Which kinds an API server serves, by its own discovery: how each is called in URLs, and whether it stands in namespaces.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use serde_json::Value;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::GroupVersionResource;
use super::raw::read_path;
use crate::object::naming;
use crate::terminal::shown::visible;

/// So many groups are asked for at once.
const AT_ONCE: usize = 4;

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

/// What of some groups can be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedLists {
    /// Each kind once, at the version that the API server prefers, or else at any that it serves.
    pub lists: Vec<GroupVersionResource>,
    /// What could not be asked: a line each. Kinds may be overlooked then.
    pub unread: Vec<String>,
}

/// Asks which kinds of some groups can be listed.
///
/// # Errors
/// When the API server cannot be reached or does not know the user.
pub async fn served_lists(connection: &Connection, is_wanted: impl Fn(&str) -> bool) -> Result<ServedLists, Failure> {
    let mut served = ServedLists::default();
    let groups = match read_path(connection, "/apis", "asking which API groups are served").await {
        Ok(groups) => groups,
        Err(failure) if failure.cause.is_tolerable() => {
            served.unread.push(failure.to_string());
            return Ok(served);
        }
        Err(failure) => return Err(failure),
    };
    let Some(groups) = groups["groups"].as_array() else {
        served.unread.push("asking which API groups are served: the answer is no list of groups".to_owned());
        return Ok(served);
    };
    let wanted = groups.iter().filter(|group| group["name"].as_str().is_some_and(&is_wanted));
    let is_name = |(group, version): &(String, String)| naming::is_api_version(&format!("{group}/{version}"));
    let (wanted, others): (Vec<_>, Vec<_>) = wanted.flat_map(versions).partition(is_name);
    let is_none = |(group, version): (String, String)| {
        format!("{} is no group and version of Kubernetes", visible(&format!("{group}/{version}")))
    };
    served.unread.extend(others.into_iter().map(is_none));
    let asked = wanted.into_iter().map(|(group, version)| async move {
        let what = format!("asking which kinds of {group}/{version} are served");
        let kinds = read_path(connection, &format!("/apis/{group}/{version}"), &what).await;
        (group, version, kinds)
    });
    let asked: Vec<_> = asked.collect();
    // In their order: the preferred version of a group comes first.
    let mut answers = stream::iter(asked).buffered(AT_ONCE);
    while let Some((group, version, kinds)) = answers.next().await {
        match kinds {
            Ok(kinds) => served.add(&group, &version, &kinds),
            // It stood in the list of groups, so there is something: an API service that does not answer, or one that has just gone.
            Err(failure) if failure.cause.is_tolerable() || failure.cause == Cause::NotFound => {
                served.unread.push(failure.to_string());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(served)
}

/// The versions of an `APIGroup` (`metav1`), the preferred one first.
fn versions(group: &Value) -> Vec<(String, String)> {
    let name = group["name"].as_str().unwrap_or_default();
    let listed = group["versions"].as_array().into_iter().flatten();
    let all = std::iter::once(&group["preferredVersion"]).chain(listed).filter_map(|version| version["version"].as_str());
    let mut versions: Vec<(String, String)> = Vec::new();
    for version in all.map(|version| (name.to_owned(), version.to_owned())) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

impl ServedLists {
    fn add(&mut self, group: &str, version: &str, list: &Value) {
        let Some(resources) = list["resources"].as_array() else {
            self.unread.push(format!("asking which kinds of {group}/{version} are served: the answer is no list of kinds"));
            return;
        };
        for resource in resources {
            let can_be_listed = resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            let Some(name) = resource["name"].as_str().filter(|name| can_be_listed && !name.contains('/')) else { continue };
            if !naming::is_label(name) {
                self.unread.push(format!("{} of {group}/{version} is no name of a kind", visible(name)));
                continue;
            }
            if !self.lists.iter().any(|known| known.group == group && known.resource == name) {
                self.lists.push(GroupVersionResource {
                    group: group.to_owned().into(),
                    version: version.to_owned().into(),
                    resource: name.to_owned().into(),
                });
            }
        }
    }
}

/// How a kind is called in URLs where nobody can be asked, as English has it: `NetworkPolicy` is `networkpolicies`.
pub fn usual_plural(kind: &str) -> String {
    kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("", "", kind)).plural
}

/// The kinds of an `APIResourceList` (`metav1`). Subresources stand beside them with a slash in their names.
fn kinds(list: &Value) -> BTreeMap<String, ServedKind> {
    let resources = list["resources"].as_array().into_iter().flatten();
    let kind = |resource: &Value| {
        // A name that is none, as a server may send it that misbehaves, would lead somewhere else in a URL.
        let name = resource["name"].as_str().filter(|name| naming::is_label(name))?;
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
            {"name": "..", "kind": "Parent", "namespaced": true},
            {"name": "pods?dryRun=All&x", "kind": "Query", "namespaced": true},
            {"name": "clusterroles", "kind": "ClusterRole", "namespaced": false},
        ]});
        let found = kinds(&list);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["ClusterRole", "Deployment"]);
        assert_eq!(found["Deployment"], ServedKind { plural: "deployments".to_owned(), place: ServedPlace::Namespace });
        assert_eq!(found["ClusterRole"].place, ServedPlace::Cluster);
    }

    #[test]
    fn each_kind_is_listed_once_at_the_preferred_version_or_at_any() {
        let group = json!({"name": "gateway.networking.k8s.io", "preferredVersion": {"version": "v1"},
            "versions": [{"version": "v1alpha2"}, {"version": "v1"}]});
        let versions = versions(&group);
        assert_eq!(versions.iter().map(|(_, version)| version.as_str()).collect::<Vec<_>>(), ["v1", "v1alpha2"]);
        let mut served = ServedLists::default();
        let resource = |name: &str, verbs: &[&str]| json!({"name": name, "verbs": verbs});
        let first = json!({"resources": [
            resource("tlsroutes", &["get", "list"]), resource("tlsroutes/status", &["get", "list"]), resource("reviews", &["create"]),
        ]});
        served.add("gateway.networking.k8s.io", "v1", &first);
        let second = json!({"resources": [resource("tlsroutes", &["list"]), resource("tcproutes", &["list"])]});
        served.add("gateway.networking.k8s.io", "v1alpha2", &second);
        let found: Vec<String> = served.lists.iter().map(|list| list.path(None)).collect();
        let path = "/apis/gateway.networking.k8s.io";
        assert_eq!(found, [format!("{path}/v1/tlsroutes"), format!("{path}/v1alpha2/tcproutes")]);
        served.add("gateway.networking.k8s.io", "v1beta1", &json!({}));
        assert_eq!(served.unread.len(), 1);
        served.add(
            "gateway.networking.k8s.io",
            "v1",
            &json!({"resources": [resource("a b\n", &["list"]), resource("..", &["list"])]}),
        );
        assert_eq!(served.lists.len(), 2);
        assert_eq!(
            served.unread[1..],
            [
                "a b\\n of gateway.networking.k8s.io/v1 is no name of a kind",
                ".. of gateway.networking.k8s.io/v1 is no name of a kind"
            ]
        );
    }
}
