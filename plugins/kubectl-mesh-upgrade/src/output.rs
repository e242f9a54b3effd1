//! What the formats of several verbs share.

pub use mesh::terminal::document::{write_json, write_yaml};

/// A cell of a table, with kubectl's word where there is nothing.
pub fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".to_owned())
}
