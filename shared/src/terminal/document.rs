//! Documents and objects in JSON and YAML, as kubectl writes them.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::shown::is_plain;

use crate::yaml;

/// Formats of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectOutput {
    /// YAML documents
    Yaml,
    /// A List in JSON
    Json,
    /// RESOURCE/NAME, one a line
    Name,
}

/// Writes one JSON document, indented.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(document: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

/// Writes one YAML document.
///
/// # Errors
/// When it cannot be written.
pub fn write_yaml(document: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = yaml::text(document).map_err(io::Error::other)?;
    // In plain YAML what is hidden could not be written by its number; JSON is YAML too, and a stream writes its texts so.
    if text.split(['\n', '\t']).all(is_plain) { out.write_all(text.as_bytes()) } else { write_json(document, out) }
}

/// Writes objects.
///
/// # Errors
/// When they cannot be written.
pub fn write_objects(objects: &[Value], format: ObjectOutput, out: &mut dyn Write) -> io::Result<()> {
    match format {
        ObjectOutput::Json => write_json(&json!({"apiVersion": "v1", "kind": "List", "items": objects}), out),
        ObjectOutput::Yaml => {
            for (number, object) in objects.iter().enumerate() {
                if number > 0 {
                    writeln!(out, "---")?;
                }
                write_yaml(object, out)?;
            }
            Ok(())
        }
        ObjectOutput::Name => {
            for object in objects {
                writeln!(out, "{}", name(object))?;
            }
            Ok(())
        }
    }
}

/// `kind.group/name`, as `kubectl -o name` writes it.
fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{kind}{group}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_something_else_stay_texts() {
        // YAML 1.1, which kubectl reads, takes each of these for a number, a boolean or nothing.
        let names = [
            "123", "1e3", "0x1f", "1.5", "true", "on", "yes", "y", "n", "off", "null", "~", "0o7", "012", "1_000", "12:30", ".5",
            "-1",
        ];
        for name in names {
            let mut out = Vec::new();
            write_objects(&[json!({"tag": name})], ObjectOutput::Yaml, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text == format!("tag: \"{name}\"\n") || text == format!("tag: '{name}'\n"), "{name}: {text}");
        }
    }
}
