//! The revisions of a mesh, one beside the other: those that have a control plane, and those that proxies still run without
//! one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mesh::control_plane::{ControlPlane, Readiness};
use mesh::injector::Target;
use mesh::owner::{Owner, owner_of};
use mesh::platform::{Platform, Signs, platform_of};
use mesh::snapshot::Snapshot;
use mesh::version::Version;
use serde_json::Value;

/// One revision.
#[derive(Debug)]
pub struct Revision {
    /// Its name; `default` for the install without one.
    pub name: String,
    /// Its control plane; `None` when only proxies of it are left.
    pub control_plane: Option<Plane>,
    /// Tags that point to it, sorted.
    pub tags: Vec<String>,
    /// Running proxies that it injected or made.
    pub proxies: u32,
    /// The same by version, the oldest first.
    pub proxy_versions: BTreeMap<Version, u32>,
    /// Whether a proxy's image names no version.
    pub has_unreadable_versions: bool,
}

/// The control plane of a revision.
#[derive(Debug)]
pub struct Plane {
    /// Its namespace.
    pub namespace: String,
    /// Its version, where an image names one.
    pub version: Option<Version>,
    /// Whether it answers.
    pub readiness: Readiness,
    /// When its Deployment was created, where that could be read.
    pub created: Option<Timestamp>,
    /// Since when its Deployment has too few ready pods, where it says so.
    pub unavailable_since: Option<Timestamp>,
    /// Who owns its Deployment, where that could be read.
    pub owner: Option<Owner>,
    /// Who owns it all, and how its steps are done.
    pub platform: Box<dyn Platform>,
}

impl Revision {
    /// The version of its control plane.
    pub fn version(&self) -> Option<&Version> {
        self.control_plane.as_ref()?.version.as_ref()
    }

    /// Whether it has a control plane that is known to answer.
    pub fn is_ready(&self) -> bool {
        self.control_plane.as_ref().is_some_and(|plane| plane.readiness == Readiness::Ready)
    }

    /// `yes`, `no`, `unknown`, or `gone` where there is no control plane.
    pub fn readiness_word(&self) -> &'static str {
        match self.control_plane.as_ref().map(|plane| plane.readiness) {
            Some(Readiness::Ready) => "yes",
            Some(Readiness::NotReady) => "no",
            Some(Readiness::Unknown) => "unknown",
            None => "gone",
        }
    }

    /// The same in documents: `ready`, `not-ready`, `unknown` or `gone`.
    pub fn readiness_name(&self) -> &'static str {
        match self.control_plane.as_ref().map(|plane| plane.readiness) {
            Some(Readiness::Ready) => "ready",
            Some(Readiness::NotReady) => "not-ready",
            Some(Readiness::Unknown) => "unknown",
            None => "gone",
        }
    }

    /// The oldest version of its proxies.
    pub fn oldest_proxy(&self) -> Option<&Version> {
        self.proxy_versions.keys().next()
    }

    /// The newest version of its proxies.
    pub fn newest_proxy(&self) -> Option<&Version> {
        self.proxy_versions.keys().next_back()
    }
}

/// Finds the revisions, the oldest version first, those without a version before them. `istiods` are the Deployments of control
/// planes, whole.
pub fn revisions(snapshot: &Snapshot, istiods: &[Value]) -> Vec<Revision> {
    let mut revisions: Vec<Revision> =
        snapshot.control_planes.iter().map(|found| empty(&found.revision, Some(plane(snapshot, found, istiods)))).collect();
    for workload in &snapshot.workloads {
        for (proxy, count) in &workload.proxies {
            let Some(proxy) = proxy.as_ref().filter(|proxy| !proxy.proxy_type.is_of_node()) else { continue };
            let Some(name) = proxy.revision.as_deref() else { continue };
            // One revision in two namespaces is two control planes under one name: nothing on a pod tells which is its own.
            let place = revisions.iter().position(|revision| revision.name == name).unwrap_or_else(|| {
                revisions.push(empty(name, None));
                revisions.len() - 1
            });
            let revision = &mut revisions[place];
            revision.proxies += count;
            match proxy.version() {
                Some(version) => *revision.proxy_versions.entry(version).or_default() += count,
                None => revision.has_unreadable_versions = true,
            }
        }
    }
    for tag in snapshot.tags() {
        let points_to = snapshot.revision_of_tag(tag);
        for revision in revisions.iter_mut().filter(|revision| Some(revision.name.as_str()) == points_to) {
            revision.tags.push(tag.to_owned());
        }
    }
    revisions.sort_by(|one, other| {
        let place = |revision: &Revision| (revision.control_plane.is_some(), revision.version().cloned());
        place(one).cmp(&place(other)).then_with(|| one.name.cmp(&other.name))
    });
    revisions
}

fn empty(name: &str, control_plane: Option<Plane>) -> Revision {
    Revision {
        name: name.to_owned(),
        control_plane,
        tags: Vec::new(),
        proxies: 0,
        proxy_versions: BTreeMap::new(),
        has_unreadable_versions: false,
    }
}

fn plane(snapshot: &Snapshot, control_plane: &ControlPlane, istiods: &[Value]) -> Plane {
    let ControlPlane { revision, namespace, .. } = control_plane;
    let istiod = control_plane.deployment.as_ref().and_then(|deployment| {
        let is_own = |object: &&Value| {
            let metadata = &object["metadata"];
            metadata["name"] == deployment.name.as_str() && metadata["namespace"] == namespace.as_str()
        };
        istiods.iter().find(is_own)
    });
    let owner = istiod.map(owner_of);
    let own_injectors = || snapshot.injectors.iter().filter(|injector| injector.revision.as_ref() == Some(revision));
    let is_external =
        control_plane.deployment.is_none() && own_injectors().any(|injector| matches!(injector.target, Target::Url(_)));
    Plane {
        namespace: namespace.clone(),
        version: control_plane.version(),
        readiness: control_plane.readiness,
        created: istiod.and_then(|object| timestamp(&object["metadata"]["creationTimestamp"])),
        unavailable_since: istiod.and_then(unavailable_since),
        platform: platform_of(Signs { revision, namespace, owner: owner.as_ref(), is_external }),
        owner,
    }
}

/// Since when a Deployment's condition `Available` is false.
fn unavailable_since(deployment: &Value) -> Option<Timestamp> {
    let conditions = deployment["status"]["conditions"].as_array()?;
    let available = conditions.iter().find(|condition| condition["type"] == "Available")?;
    (available["status"] == "False").then(|| timestamp(&available["lastTransitionTime"])).flatten()
}

/// A time as the API server writes it.
pub fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A ready revision of istioctl's for tests, with so many proxies of its own version.
#[cfg(test)]
pub fn sample(name: &str, version: &str, proxies: u32) -> Revision {
    let owner = Owner::Istioctl;
    let platform = platform_of(Signs { revision: name, namespace: "istio-system", owner: Some(&owner), is_external: false });
    let version = version.parse::<Version>().ok();
    let plane = Plane {
        namespace: "istio-system".to_owned(),
        version: version.clone(),
        readiness: Readiness::Ready,
        created: None,
        unavailable_since: None,
        owner: Some(owner),
        platform,
    };
    let proxy_versions = version.filter(|_| proxies > 0).into_iter().map(|version| (version, proxies)).collect();
    Revision { proxies, proxy_versions, ..empty(name, Some(plane)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_says_since_when_it_lacks_pods() {
        let with = |status: &str| {
            json!({"status": {"conditions": [
                {"type": "Progressing", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Available", "status": status, "lastTransitionTime": "2026-02-01T00:00:00Z"},
            ]}})
        };
        assert_eq!(unavailable_since(&with("True")), None);
        assert_eq!(unavailable_since(&with("False")), "2026-02-01T00:00:00Z".parse().ok());
        assert_eq!(unavailable_since(&json!({})), None);
    }
}
