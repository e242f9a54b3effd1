//! What Kubernetes takes for a name, a namespace, a kind and an API version. A file, or a server that misbehaves, may hold
//! anything in their place, flags and lines of a shell among it; where objects are read, that ends.
//!
//! The rules are those of k8s.io/apimachinery/pkg/util/validation and pkg/api/validation, and of the kinds that differ.

use serde_json::Value;

use super::metadata::{Metadata, OwnerReference};
use crate::terminal::shown::visible;

/// Stands for the kind of an owner that cannot be one. An API server only checks that an owner reference has no empty field
/// (`ValidateOwnerReferences`, pkg/api/validation/objectmeta.go), so whoever may create a pod can write anything there.
pub const INVALID_OWNER: &str = "InvalidOwner";

/// Groups whose objects may be called by anything that stands in a path: roles and bindings (pkg/apis/rbac/validation),
/// trust bundles, addresses.
const ANY_NAME: [&str; 3] = ["rbac.authorization.k8s.io", "certificates.k8s.io", "networking.k8s.io"];

/// Why an object of a known kind cannot be one of Kubernetes, by its metadata; its controller becomes [`INVALID_OWNER`] where
/// that cannot be one.
pub(super) fn check(metadata: &mut Metadata) -> Result<(), String> {
    if metadata.name.is_empty() {
        return Err("it has no name".to_owned());
    }
    if !is_subdomain(&metadata.name) {
        return Err(format!("its name {} is none of Kubernetes", quoted(&metadata.name)));
    }
    if !metadata.namespace.is_empty() && !is_label(&metadata.namespace) {
        return Err(format!("its namespace {} is none of Kubernetes", quoted(&metadata.namespace)));
    }
    let own_name = metadata.name.clone();
    for owner in metadata.owner_references.iter_mut().filter(|owner| !is_owner(owner)) {
        owner.api_version = "v1".to_owned();
        owner.kind = INVALID_OWNER.to_owned();
        owner.name = own_name.clone();
    }
    Ok(())
}

fn is_owner(owner: &OwnerReference) -> bool {
    is_api_version(&owner.api_version) && is_kind(&owner.kind) && is_name(group(&owner.api_version), &owner.name)
}

/// Why a value cannot be an object of Kubernetes, by its kind and its names.
pub fn wrong(object: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    if !is_api_version(&api_version) {
        return Some(format!("its apiVersion {} is none of Kubernetes", quoted(&api_version)));
    }
    if !is_kind(&kind) {
        return Some(format!("its kind {} is none of Kubernetes", quoted(&kind)));
    }
    wrong_names(group(&api_version), &object["metadata"])
}

/// Why metadata cannot be that of an object of this group, by its names.
pub fn wrong_names(group: &str, metadata: &Value) -> Option<String> {
    let (name, namespace) = (&metadata["name"], &metadata["namespace"]);
    if !name.as_str().is_some_and(|name| is_name(group, name)) {
        return Some(format!("its name {} is none of Kubernetes", shown(name)));
    }
    let is_namespace =
        namespace.is_null() || namespace.as_str().is_some_and(|namespace| namespace.is_empty() || is_label(namespace));
    (!is_namespace).then(|| format!("its namespace {} is none of Kubernetes", shown(namespace)))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| quoted(&value.to_string()), quoted)
}

/// A text of somebody else in quotes, with nothing hidden in it, and not too much of it.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let visible = visible(text);
    match visible.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("\"{}…\"", &visible[..end]),
        None => format!("\"{visible}\""),
    }
}

/// The group of an API version; empty for the core group.
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether an object of this group can have this name.
pub fn is_name(group: &str, name: &str) -> bool {
    if ANY_NAME.contains(&group) { is_path_segment(name) } else { is_subdomain(name) }
}

/// `NameIsDNSSubdomain`: at most 253 characters, DNS labels joined by dots.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

/// `IsDNS1123Label`: a namespace is one.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// `IsValidPathSegmentName`.
pub fn is_path_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '%'])
}

/// A kind is a DNS label that begins with a letter, but for its case (pkg/apis/apiextensions/validation).
pub fn is_kind(text: &str) -> bool {
    is_label(&text.to_ascii_lowercase()) && text.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// `group/version`, or the version alone in the core group.
pub fn is_api_version(text: &str) -> bool {
    let (group, version) = text.split_once('/').map_or((None, text), |(group, version)| (Some(group), version));
    let is_version = is_label(version) && version.starts_with(|first: char| first.is_ascii_lowercase());
    is_version && group.is_none_or(is_subdomain)
}

fn is_label_of_any_length(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::{Object, Resource};

    /// What people put where a name belongs.
    const HOSTILE: [&str; 14] =
        ["-n", "--all", "a b", "a;b", "$(id)", "`id`", "a\nb", "a\u{1b}[2J", "A", "a_b", "a/b", "../x", "a\u{202e}", "a'b"];

    #[test]
    fn names_are_those_of_kubernetes() {
        for name in ["web", "a.b.c", "0", "istio-sidecar-injector-1-28-2", &"a".repeat(253)] {
            assert!(is_name("apps", name), "{name}");
        }
        for name in HOSTILE.into_iter().chain(["", ".", "a.", ".a", "a..b", "-a", "a-", &"a".repeat(254)]) {
            assert!(!is_name("apps", name), "{name:?}");
        }
        assert!(is_name("rbac.authorization.k8s.io", "system:controller:a b") && !is_name("rbac.authorization.k8s.io", "a/b"));
        for kind in ["Pod", "APIService", "My-Kind", "v1"] {
            assert!(is_kind(kind), "{kind}");
        }
        for kind in ["", "1Pod", "Pod ", "Pod\n", "Po/d", "-Pod", "Pöd"] {
            assert!(!is_kind(kind), "{kind:?}");
        }
        for version in ["v1", "apps/v1", "networking.istio.io/v1beta1", "argoproj.io/v1alpha1"] {
            assert!(is_api_version(version), "{version}");
        }
        for version in ["", "V1", "1", "/v1", "apps/", "a/b/c", "apps /v1", "apps/v1\n", "-n/v1"] {
            assert!(!is_api_version(version), "{version:?}");
        }
    }

    #[test]
    fn no_object_of_another_name_is_read() {
        for resource in Resource::ALL {
            for hostile in HOSTILE {
                let read = |name: &str, namespace: &str| {
                    let object = json!({"metadata": {"name": name, "namespace": namespace}}).to_string();
                    Object::from_json(resource, object.as_bytes()).map(drop)
                };
                let why = read(hostile, "shop").unwrap_err().to_string();
                assert!(why.contains("its name \""), "{resource} {hostile:?}: {why}");
                assert!(why.chars().all(|character| !crate::terminal::shown::is_hidden(character)), "{why:?}");
                assert!(read("web", hostile).unwrap_err().to_string().contains("its namespace"), "{resource} {hostile:?}");
                assert!(read("web", "shop").is_ok());
            }
        }
    }

    #[test]
    fn no_pod_of_another_name_is_decoded() {
        use prost::Message;
        for hostile in HOSTILE {
            let metadata = Metadata { name: hostile.to_owned(), ..Metadata::default() };
            let pod = crate::object::Pod { metadata: Some(metadata), ..Default::default() }.encode_to_vec();
            for read in [Object::from_protobuf(Resource::Pods, &pod), Object::from_partial_metadata(Resource::Pods, &pod)] {
                assert!(read.unwrap().is_err(), "{hostile:?}");
            }
            assert!(Object::from_partial_metadata(Resource::Namespaces, &pod).unwrap().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn an_owner_that_cannot_be_one_is_none_that_anybody_restarts() {
        for (api_version, kind, name) in [
            ("apps/v1", "Deployment\n-n kube-system", "web"),
            ("apps/v1", "Deployment", "web -A"),
            ("--all/v1", "Deployment", "web"),
        ] {
            let pod = json!({"metadata": {"name": "web-1", "namespace": "shop", "ownerReferences":
                [{"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true}]}});
            let pod = Object::from_json(Resource::Pods, pod.to_string().as_bytes()).unwrap();
            let owner = pod.metadata().controller().unwrap();
            assert_eq!((&*owner.api_version, &*owner.kind, &*owner.name, &*owner.uid), ("v1", INVALID_OWNER, "web-1", "u"));
        }
    }

    #[test]
    fn values_are_checked_as_objects_are() {
        let object = |api_version: &str, kind: &str, name: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        assert_eq!(wrong(&object("rbac.authorization.k8s.io/v1", "ClusterRole", "istiod-clusterrole:x")), None);
        assert_eq!(wrong(&object("v1", "Service", "istiod")), None);
        assert!(
            wrong(&object("v1", "Service", "istiod -A")).is_some_and(|why| why == "its name \"istiod -A\" is none of Kubernetes")
        );
        assert!(wrong(&object("v1", "Service\n", "istiod")).is_some_and(|why| why.contains("its kind \"Service\\n\"")));
        assert!(wrong(&object("v1 ", "Service", "istiod")).is_some_and(|why| why.contains("its apiVersion")));
        assert!(wrong(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": 7}})).is_some());
    }
}
