//! What the formats of several verbs share.

use std::io::{self, Write};

use serde_json::Value;

/// One JSON document, indented.
pub fn write_json(document: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(io::Error::from)?;
    writeln!(out)
}

/// One YAML document.
pub fn write_yaml(document: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_saphyr::to_string(document).map_err(|error| io::Error::other(error.to_string()))?;
    out.write_all(text.as_bytes())
}

/// A cell of a table, with kubectl's word where there is nothing.
pub fn or_none(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "<none>".to_owned())
}

/// A text inside XML's quotes.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
