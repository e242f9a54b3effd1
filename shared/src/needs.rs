//! What a command may ask of an API server, as data. Every read and write says its own beside its code, and a verb adds up
//! what it is made of: `--explain-rbac` prints the sum, and `mesh-upgrade precheck` asks whether it is granted. A test runs
//! every verb behind a recording server and compares what was asked for with what was said.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};

use crate::object::Resource;

/// Stands for every resource that a group serves, in a [`Permission`] as in an RBAC rule.
pub const EVERY_RESOURCE: &str = "*";

/// A kind of request: an API group and one of its resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource, with its subresource behind a slash: `pods/eviction`. [`EVERY_RESOURCE`] for all of the group.
    pub resource: String,
}

impl From<(&str, &str)> for GroupResource {
    fn from((group, resource): (&str, &str)) -> GroupResource {
        GroupResource { group: group.to_owned(), resource: resource.to_owned() }
    }
}

impl From<Resource> for GroupResource {
    fn from(resource: Resource) -> GroupResource {
        GroupResource::from((resource.group(), resource.plural()))
    }
}

impl GroupResource {
    /// Whether its objects stand in no namespace. Only kinds of Kubernetes itself and of the Gateway API that are asked for here
    /// are known.
    fn is_cluster_wide(&self) -> bool {
        const CLUSTER_WIDE: [(&str, &str); 9] = [
            ("", "namespaces"),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
            ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            ("gateway.networking.k8s.io", "gatewayclasses"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ];
        CLUSTER_WIDE.contains(&(self.group.as_str(), self.resource.as_str()))
    }
}

/// One request that may be made, as an RBAC rule grants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// In which namespace; `None` for all of them, and for what stands in none.
    pub namespace: Option<String>,
    /// On what.
    pub on: GroupResource,
    /// The verb of RBAC: `list`, `escalate`.
    pub verb: &'static str,
}

impl Permission {
    /// Whether who has this one has the other one too.
    pub fn covers(&self, other: &Permission) -> bool {
        (self.namespace.is_none() || self.namespace == other.namespace)
            && self.on.group == other.on.group
            && (self.on.resource == EVERY_RESOURCE || self.on.resource == other.on.resource)
            && self.verb == other.verb
    }
}

/// How much depends on a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Necessity {
    /// Without it the command goes on, and says what it does not know.
    Optional,
    /// Without it the command cannot do or decide what it is for.
    Required,
}

/// Everything that a command may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    permissions: BTreeMap<Permission, Necessity>,
    notes: BTreeSet<String>,
}

impl Needs {
    /// Adds what it cannot do without: these verbs on each of these resources, in a namespace or everywhere (`None`).
    #[must_use]
    pub fn require<T: Into<GroupResource>>(
        self,
        namespace: Option<&str>,
        resources: impl IntoIterator<Item = T>,
        verbs: &[&'static str],
    ) -> Needs {
        self.with(Necessity::Required, namespace, resources, verbs)
    }

    /// Adds what it can do without.
    #[must_use]
    pub fn prefer<T: Into<GroupResource>>(
        self,
        namespace: Option<&str>,
        resources: impl IntoIterator<Item = T>,
        verbs: &[&'static str],
    ) -> Needs {
        self.with(Necessity::Optional, namespace, resources, verbs)
    }

    /// Adds what cannot be said as a permission: a sentence.
    #[must_use]
    pub fn note(mut self, sentence: &str) -> Needs {
        self.notes.insert(sentence.to_owned());
        self
    }

    /// Both: what either requires is required.
    #[must_use]
    pub fn and(mut self, other: Needs) -> Needs {
        for (permission, necessity) in other.permissions {
            self.add(permission, necessity);
        }
        self.notes.extend(other.notes);
        self
    }

    /// The same, as what a command can do without.
    #[must_use]
    pub fn optional(mut self) -> Needs {
        self.permissions.values_mut().for_each(|necessity| *necessity = Necessity::Optional);
        self
    }

    /// Every permission once, in order, without those that another one covers.
    pub fn permissions(&self) -> impl Iterator<Item = (&Permission, Necessity)> {
        let is_covered = |permission: &Permission, necessity: Necessity| {
            let mut others = self.permissions.iter().filter(move |(other, its)| *other != permission && **its >= necessity);
            others.any(|(other, _)| other.covers(permission))
        };
        let all = self.permissions.iter().map(|(permission, necessity)| (permission, *necessity));
        all.filter(move |(permission, necessity)| !is_covered(permission, *necessity))
    }

    /// As YAML that `kubectl apply -f -` takes: a ClusterRole for what is needed everywhere, a Role for each namespace.
    pub fn manifest(&self, name: &str) -> String {
        manifest::manifest(self, name)
    }

    fn with<T: Into<GroupResource>>(
        mut self,
        necessity: Necessity,
        namespace: Option<&str>,
        resources: impl IntoIterator<Item = T>,
        verbs: &[&'static str],
    ) -> Needs {
        for on in resources.into_iter().map(Into::into) {
            let namespace = namespace.filter(|_| !on.is_cluster_wide());
            for verb in verbs {
                self.add(Permission { namespace: namespace.map(str::to_owned), on: on.clone(), verb }, necessity);
            }
        }
        self
    }

    fn add(&mut self, permission: Permission, necessity: Necessity) {
        let known = self.permissions.entry(permission).or_insert(necessity);
        *known = (*known).max(necessity);
    }
}

impl FromIterator<Needs> for Needs {
    fn from_iter<I: IntoIterator<Item = Needs>>(parts: I) -> Needs {
        parts.into_iter().fold(Needs::default(), Needs::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(needs: &Needs) -> Vec<String> {
        let line = |(permission, necessity): (&Permission, Necessity)| {
            let place = permission.namespace.as_deref().unwrap_or("*");
            format!("{necessity:?} {} {} {place}", permission.verb, permission.on.resource)
        };
        needs.permissions().map(line).collect()
    }

    #[test]
    fn what_is_needed_everywhere_is_not_asked_for_again_in_one_namespace() {
        let needs = Needs::default().require(Some("shop"), [Resource::Pods], &["list", "create"]).require(
            None,
            [Resource::Pods],
            &["list"],
        );
        assert_eq!(shown(&needs), ["Required list pods *", "Required create pods shop"]);
    }

    #[test]
    fn what_is_required_in_one_namespace_stays_so_beside_a_wish_for_all() {
        let needs = Needs::default().require(Some("shop"), [Resource::Pods], &["list"]).prefer(None, [Resource::Pods], &["list"]);
        assert_eq!(shown(&needs), ["Optional list pods *", "Required list pods shop"]);
    }

    #[test]
    fn a_sum_requires_what_one_of_its_parts_requires() {
        let wish = Needs::default().prefer(None, [Resource::Jobs], &["list"]);
        let need = Needs::default().require(None, [Resource::Jobs], &["list"]);
        for parts in [[wish.clone(), need.clone()], [need, wish]] {
            assert_eq!(shown(&parts.into_iter().collect()), ["Required list jobs *"]);
        }
    }

    #[test]
    fn a_whole_group_covers_its_resources_and_nothing_else() {
        let needs = Needs::default().require(
            None,
            [("networking.istio.io", EVERY_RESOURCE), ("networking.istio.io", "gateways"), ("", "services")],
            &["list"],
        );
        assert_eq!(shown(&needs), ["Required list services *", "Required list * *"]);
    }

    #[test]
    fn what_stands_in_no_namespace_is_needed_in_none() {
        let needs = Needs::default().require(Some("shop"), [Resource::Namespaces], &["get"]);
        assert_eq!(shown(&needs), ["Required get namespaces *"]);
    }
}
