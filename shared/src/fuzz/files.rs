//! Files of objects: whatever is in them, the same objects in JSON and YAML and in any order give the same verdicts.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::mutation::{mutated, mutations};
use super::{MESH, check};
use crate::cluster::read_bytes;
use crate::manifest::manifests;
use crate::verdict::verdicts;
use crate::yaml;

fn objects() -> Vec<Value> {
    let list: Value = serde_json::from_str(MESH).expect("the sample is JSON");
    list["items"].as_array().expect("it is a List").clone()
}

/// What is shown of a file: its verdicts and what is odd about it, or why it is none.
fn shown(text: &[u8]) -> Result<String, String> {
    let snapshot = read_bytes("file", text).map_err(|failure| failure.to_string())?;
    let findings: Vec<String> = snapshot
        .findings
        .iter()
        .map(|finding| format!("{} {} {}", finding.code, finding.subject, without_lines(&finding.message)))
        .collect();
    let mut unread: Vec<String> = snapshot.unread.iter().map(|unread| format!("{unread:?}")).collect();
    unread.sort();
    Ok(format!("{:#?}\n{findings:#?}\n{unread:#?}", verdicts(&snapshot, &HashMap::new())))
}

/// Lines and columns differ from file to file.
fn without_lines(message: &str) -> String {
    message.chars().filter(|character| !character.is_ascii_digit()).collect()
}

#[test]
fn json_and_yaml_and_any_order_give_the_same_verdicts() {
    let shuffled = Just(objects()).prop_shuffle().prop_flat_map(|objects| {
        let all = objects.len();
        // A file rarely has everything.
        (Just(objects), prop_oneof![3 => Just(all), 1 => 0..all], any::<bool>())
    });
    check("files, in any order", shuffled, |(objects, length, is_list)| {
        let objects = &objects[..length];
        let mut sorted = objects.to_vec();
        sorted.sort_by_key(ToString::to_string);
        let list = |objects: &[Value]| json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}});
        let expected = shown(list(&sorted).to_string().as_bytes());
        let text = if is_list {
            yaml::text(&list(objects)).map_err(TestCaseError::fail)?
        } else {
            let documents: Result<Vec<String>, String> = objects.iter().map(yaml::text).collect();
            documents.map_err(TestCaseError::fail)?.join("---\n")
        };
        if !objects.is_empty() {
            prop_assert_eq!(shown(text.as_bytes()), expected.clone());
        }
        prop_assert_eq!(shown(list(objects).to_string().as_bytes()), expected);
        Ok(())
    });
}

#[test]
fn changed_files_never_end_in_a_panic() {
    let objects = objects();
    let few: Vec<&Value> = objects.iter().step_by(objects.len() / 6).collect();
    let list = json!({"apiVersion": "v1", "items": few, "kind": "List", "metadata": {"continue": ""}});
    let texts = [list.to_string(), yaml::text(&list).expect("it is a document")];
    check("files, changed", (0..texts.len(), mutations()), move |(text, mutations)| {
        let text = mutated(texts[text].as_bytes(), &mutations);
        if let Err(why) = shown(&text) {
            prop_assert!(why.starts_with("reading file: "), "{}", why);
        }
        if let Ok(text) = std::str::from_utf8(&text) {
            drop(manifests(text));
        }
        Ok(())
    });
}
