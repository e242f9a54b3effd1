//! Objects that stand more than once in the input. An API server holds each once, so files that do not agree on one were
//! written at different moments, and what it is now is not known.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::io;

use serde_json::Value;

use crate::object::{Object, Resource};

/// Which objects came so far.
#[derive(Default)]
pub(super) struct Known {
    state: RandomState,
    /// By what names it, a hash of its content; and by its uid, where it stands.
    contents: HashMap<u64, u64>,
    uids: HashMap<u64, Place>,
}

/// Where an object stands: its kind, and its namespace if it has one.
pub(super) type Place = (Resource, Option<Box<str>>);

/// Where this object stands. A namespace stands in itself.
pub(super) fn place(object: &Object) -> Place {
    let metadata = object.metadata();
    let within = if object.resource() == Resource::Namespaces { &metadata.name } else { &metadata.namespace };
    (object.resource(), (!within.is_empty()).then(|| within.as_str().into()))
}

/// How an object stands to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Appearance {
    /// It is the first of its name.
    First,
    /// It came before, the same.
    Again,
    /// It came before with other content.
    Otherwise,
    /// It is the first of its name, and an object of another name, which stands there, has its uid.
    UidTaken(Place),
}

impl Known {
    /// Takes an object in; `json` is the whole of it.
    pub(super) fn appearance(&mut self, object: &Object, json: &str) -> Appearance {
        let metadata = object.metadata();
        let name = self.state.hash_one((object.resource(), &metadata.namespace, &metadata.name));
        let content = self.content(object, json);
        match self.contents.entry(name) {
            Entry::Occupied(known) => return if *known.get() == content { Appearance::Again } else { Appearance::Otherwise },
            Entry::Vacant(vacant) => vacant.insert(content),
        };
        if metadata.uid.is_empty() {
            return Appearance::First;
        }
        let uid = self.state.hash_one(&metadata.uid);
        match self.uids.entry(uid) {
            Entry::Occupied(known) => Appearance::UidTaken(known.get().clone()),
            Entry::Vacant(vacant) => {
                vacant.insert(place(object));
                Appearance::First
            }
        }
    }

    /// A hash of what decides.
    fn content(&self, object: &Object, json: &str) -> u64 {
        let mut hashed = Hashed(self.state.build_hasher());
        match whole(object, json) {
            Some(whole) => hashed.0.write(whole.to_string().as_bytes()),
            None => object.write_fields(&mut hashed),
        }
        hashed.0.finish()
    }
}

/// Hashes what is written: no text is made of the many objects of a file.
struct Hashed(DefaultHasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What decides, of the kinds that are shown and written whole: all but what changes with every write and what `kubectl get` may leave
/// out. Of other kinds only the fields that are read decide.
fn whole(object: &Object, json: &str) -> Option<Value> {
    let is_whole = matches!(
        object.resource(),
        Resource::MutatingWebhookConfigurations
            | Resource::ValidatingWebhookConfigurations
            | Resource::Services
            | Resource::Gateways
    );
    let whole = is_whole.then(|| serde_json::from_str::<Value>(json).ok()).flatten();
    let mut whole = whole?;
    if let Some(fields) = whole.as_object_mut() {
        // Lists of one kind leave them out.
        fields.retain(|field, _| field != "apiVersion" && field != "kind");
    }
    if let Some(metadata) = whole["metadata"].as_object_mut() {
        metadata.retain(|field, _| field != "managedFields" && field != "resourceVersion");
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn appearances(objects: &[Value]) -> Vec<Appearance> {
        let mut known = Known::default();
        let appearance = |object: &Value| {
            let resource = Resource::of_kind("v1", object["kind"].as_str().unwrap()).unwrap();
            let json = object.to_string();
            known.appearance(&Object::from_json(resource, json.as_bytes()).unwrap(), &json)
        };
        objects.iter().map(appearance).collect()
    }

    #[test]
    fn what_does_not_decide_makes_no_difference() {
        let pod = |version: &str, image: &str| {
            json!({"kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": version},
                "spec": {"containers": [{"name": "istio-proxy", "image": image}]}})
        };
        let seen = appearances(&[pod("1", "a"), pod("2", "a"), pod("2", "b"), pod("1", "a")]);
        assert_eq!(seen, [Appearance::First, Appearance::Again, Appearance::Otherwise, Appearance::Again]);
        let service = |managed: Value, port: u16| {
            json!({"kind": "Service", "metadata": {"name": "istiod", "namespace": "istio-system", "managedFields": managed},
                "spec": {"ports": [{"port": port}]}})
        };
        let seen = appearances(&[service(json!([]), 1), service(json!([{}]), 1), service(json!([]), 2)]);
        assert_eq!(seen, [Appearance::First, Appearance::Again, Appearance::Otherwise]);
    }

    #[test]
    fn a_uid_belongs_to_one() {
        let pod = |name: &str| json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": "u"}});
        let place = (Resource::Pods, Some("shop".into()));
        assert_eq!(appearances(&[pod("a"), pod("b")]), [Appearance::First, Appearance::UidTaken(place)]);
    }
}
