//! The inventory: objects beyond the snapshot that may need a revision, each with the list that it came from.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::installation::{annotation, label, name, namespace};
use crate::labels;

/// Objects of many kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Those that may matter.
    pub objects: Vec<Listed>,
    /// What could not be read: a line each.
    pub unread: Vec<String>,
}

impl Inventory {
    /// Takes in more.
    pub fn add(&mut self, more: Inventory) {
        self.objects.extend(more.objects);
        self.unread.extend(more.unread);
    }
}

/// An object, and its list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// API group of the list; empty for the core group.
    pub group: String,
    /// Plural resource.
    pub plural: String,
    /// The object: all of it, or only its metadata.
    pub object: Value,
}

impl Listed {
    /// As kubectl takes it: `virtualservices/web -n shop`.
    pub fn subject(&self) -> String {
        // Two groups have a kind of this name.
        let plural = match (self.group.as_str(), self.plural.as_str()) {
            ("networking.istio.io", "gateways") => "gateways.networking.istio.io",
            (_, plural) => plural,
        };
        match namespace(&self.object) {
            "" => format!("{plural}/{}", name(&self.object)),
            namespace => format!("{plural}/{} -n {namespace}", name(&self.object)),
        }
    }

    /// `virtualservices.networking.istio.io`: so that no other group's kind is meant.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it is of this kind.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether its kind is one of Istio's own or of the Gateway API's, known or not.
    pub fn is_configuration(&self) -> bool {
        is_mesh_group(&self.group)
    }

    /// The revision or tag that its label names, or its annotation.
    pub fn revision(&self) -> Option<&str> {
        label(&self.object, labels::REVISION).or_else(|| annotation(&self.object, labels::REVISION))
    }
}

/// What the name of the policy that Istio's chart makes on demand begins with, and its binding's
/// (templates/validatingadmissionpolicy.yaml of istio-control/istio-discovery).
pub(super) const CHART_POLICY: &str = "stable-channel-policy";

/// Whether a group's kinds configure a mesh: Istio's groups and those of the Gateway API.
pub fn is_mesh_group(group: &str) -> bool {
    let is_within = |parent: &str| group == parent || group.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    ["istio.io", "gateway.networking.k8s.io", "gateway.networking.x-k8s.io"].into_iter().any(is_within)
}

/// Which objects of a list are kept, decided from their text before anything is taken apart: a cluster may have thousands that
/// have nothing to do with any of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relevance {
    words: BTreeSet<String>,
}

impl Relevance {
    /// Keeps what has one of these words in it, whatever its case; words of Istio that matter always are among them.
    pub fn new(words: impl IntoIterator<Item = String>) -> Relevance {
        // The binding of the chart's own policy names nothing but that policy.
        let always = [labels::REVISION, "istiod", "15012", "15017", "eastwest", "topology.istio.io/network", CHART_POLICY];
        let words = words.into_iter().chain(always.map(str::to_owned)).map(|word| word.to_ascii_lowercase());
        Relevance { words: words.collect() }
    }

    /// Whether an object with this text is kept.
    pub fn keeps(&self, json: &str) -> bool {
        let json = json.to_ascii_lowercase();
        self.words.iter().any(|word| json.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_istio_and_of_the_gateway_api_are_known_with_what_comes_to_them() {
        for group in [
            "networking.istio.io",
            "extensions.istio.io",
            "new.istio.io",
            "gateway.networking.k8s.io",
            "gateway.networking.x-k8s.io",
        ] {
            assert!(is_mesh_group(group), "{group}");
        }
        for group in ["", "apps", "networking.k8s.io", "myistio.io", "istio.io.example.org"] {
            assert!(!is_mesh_group(group), "{group}");
        }
    }

    #[test]
    fn what_says_nothing_of_a_revision_is_dropped() {
        let relevance = Relevance::new(["mesh-control".to_owned()]);
        assert!(relevance.keeps("{\"host\":\"MESH-control.x\"}"));
        assert!(relevance.keeps("{\"labels\":{\"istio.io/rev\":\"a\"}}"));
        assert!(relevance.keeps("{\"name\":\"stable-channel-policy-binding-a-istio-system.istio.io\"}"));
        assert!(!relevance.keeps("{\"host\":\"reviews\"}"));
    }
}
