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
            objects(&[json!({"tag": name})], ObjectOutput::Yaml, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text == format!("tag: \"{name}\"\n") || text == format!("tag: '{name}'\n"), "{name}: {text}");
        }
    }
}
