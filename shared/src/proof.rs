//! Where a pod could be created, as a dry run, so that one certain injector is asked: the proof that it answers.

use std::collections::BTreeMap;

use crate::injector::{Injector, Match};
use crate::labels;
use crate::object::{Labels, StringMap};
use crate::snapshot::Snapshot;

/// Namespaces in which istiod never injects (`IgnoredNamespaces`, pkg/kube/inject/initializer.go).
const IGNORED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// So many places are tried: each may be closed by a quota or a policy that has nothing to do with injection.
const PLACES: usize = 4;

/// A place for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Namespace.
    pub namespace: String,
    /// Labels of the pod.
    pub labels: StringMap,
}

/// Places in which only the webhook configuration `configuration` is asked about a pod, the best first: `preferred`
/// namespaces, then all others. `names` are the tags and revisions that the pod may name.
pub fn places(snapshot: &Snapshot, configuration: &str, names: &[&str], preferred: &[&str]) -> Vec<Place> {
    let others = snapshot.namespaces.keys().map(|name| &**name).filter(|name| !preferred.contains(name));
    let namespaces = preferred.iter().copied().chain(others).filter(|name| !IGNORED.contains(name));
    let wishes: Vec<StringMap> = pod_labels(names);
    let active: Vec<&Injector> = snapshot.injectors.iter().filter(|injector| !injector.is_deactivated()).collect();
    let mut places = Vec::new();
    for namespace in namespaces {
        let Some(namespace_labels) = snapshot.namespaces.get(namespace) else { continue };
        let place = wishes.iter().find(|labels| asks_only(&active, configuration, namespace_labels, labels));
        places.extend(place.map(|labels| Place { namespace: namespace.to_owned(), labels: labels.clone() }));
        if places.len() == PLACES {
            break;
        }
    }
    places
}

/// A pod that wants a proxy whatever the policy, with and without naming a revision.
fn pod_labels(names: &[&str]) -> Vec<StringMap> {
    let wants = (labels::INJECT.to_owned(), "true".to_owned());
    let naming = names.iter().map(|name| BTreeMap::from([wants.clone(), (labels::REVISION.to_owned(), (*name).to_owned())]));
    naming.chain([BTreeMap::from([wants.clone()])]).collect()
}

fn asks_only(injectors: &[&Injector], configuration: &str, namespace: &Labels, pod: &StringMap) -> bool {
    let mut asked = injectors.iter().filter(|injector| injector.matches(namespace, pod) != Match::No).peekable();
    asked.peek().is_some()
        && asked.all(|injector| injector.configuration == configuration && injector.matches(namespace, pod) == Match::Yes)
}
