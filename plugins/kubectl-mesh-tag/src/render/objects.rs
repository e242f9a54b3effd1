//! Objects as kubectl takes them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::document::{json, yaml};
use crate::args::ObjectOutput;

/// Writes objects.
pub fn objects(objects: &[Value], format: ObjectOutput, out: &mut dyn Write) -> io::Result<()> {
    match format {
        ObjectOutput::Json => json(&json!({"apiVersion": "v1", "kind": "List", "items": objects}), out),
        ObjectOutput::Yaml => {
            for (number, object) in objects.iter().enumerate() {
                if number > 0 {
                    writeln!(out, "---")?;
                }
                yaml(object, out)?;
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
