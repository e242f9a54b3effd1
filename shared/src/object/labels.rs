//! Labels and annotations in a form that is small in memory: thousands of workloads share the same few texts.

use std::collections::HashSet;
use std::sync::Arc;

use super::metadata::StringMap;

/// Something that has values by key.
pub trait Lookup {
    /// The value of a key, if it is there.
    fn value(&self, key: &str) -> Option<&str>;
}

impl Lookup for StringMap {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// Labels or annotations, sorted by key, with shared texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Lookup for Labels {
    fn value(&self, key: &str) -> Option<&str> {
        let position = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(key)).ok()?;
        Some(&self.0[position].1)
    }
}

impl Labels {
    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// Keeps one copy of each text.
#[derive(Debug, Default)]
pub struct Interner(HashSet<Arc<str>>);

impl Interner {
    /// The shared copy of a text.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }

    /// The entries whose key is wanted.
    pub fn labels(&mut self, map: &StringMap, is_wanted: impl Fn(&str) -> bool) -> Labels {
        map.iter().filter(|(key, _)| is_wanted(key)).map(|(key, value)| (self.text(key), self.text(value))).collect()
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    /// The keys must come sorted, as a [`StringMap`] gives them.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(entries: I) -> Self {
        Labels(entries.into_iter().collect())
    }
}

impl From<&StringMap> for Labels {
    fn from(map: &StringMap) -> Self {
        map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
    }
}
