//! YAML against the values that it was written from, and a List item by item against the List as a whole.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::json::Pieces;
use super::mutation::{mutated, mutations};
use super::{MESH, check};
use crate::yaml::{Member, Reader, text, value};

/// Texts that look like something else, and texts of odd characters.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-fA-FxXoObBeE+._:-]{0,10}",
        "(y|n|yes|no|on|off|true|false|null|~|=|<<|\\.inf|-\\.inf|\\.nan|[Yy]es|NULL|0o17|0x1F|1_000|1:30|2024-01-01|1e3|1234e567)",
        "[ -~]{0,20}",
        "[ \t\n\r#:?,\\[\\]{}&*!|>'\"%@`é\u{85}\u{2028}\u{feff}\u{7f}\u{0}-]{0,12}",
        "(---|\\.\\.\\.|\\? |- |# )?[a-z]{0,5}\n{0,3}[ ]{0,3}[a-z]{0,5}\n{0,2}",
        "[a-z ]{60,140}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        8 => texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map(texts(), inner, 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// All documents of a stream, its Lists put together again; nothing when it is no YAML.
fn put_together(yaml: &[u8], size: usize) -> Option<Vec<Value>> {
    let mut reader = Reader::new(Pieces(yaml, size));
    let (mut all, mut items) = (Vec::new(), Vec::new());
    while let Some(member) = reader.member().ok()? {
        match member {
            Member::Item((item, _)) => items.push(item),
            Member::End { rest: (mut rest, _), items: count } => {
                if count.is_some() {
                    rest["items"] = Value::Array(std::mem::take(&mut items));
                }
                all.push(rest);
            }
        }
    }
    Some(all)
}

fn whole(yaml: &[u8]) -> Option<Vec<Value>> {
    let mut reader = Reader::new(yaml);
    let mut all = Vec::new();
    while let Some((document, _)) = reader.document().ok()? {
        all.push(document);
    }
    Some(all)
}

#[test]
fn what_we_write_we_read() {
    check("YAML, written and read", values(), |written| {
        let yaml = text(&written).map_err(TestCaseError::fail)?;
        prop_assert_eq!(value(&yaml), Ok(written), "{}", yaml);
        Ok(())
    });
}

#[test]
fn json_is_yaml() {
    check("YAML, from JSON", values(), |written| {
        // YAML 1.1 lets no control character stand but escaped, and a key that is not in braces takes 1024 characters.
        let json = written.to_string().replace('\u{7f}', "\\u007f").replace('\u{feff}', "\\ufeff");
        prop_assert_eq!(value(&json), Ok(written), "{}", json);
        Ok(())
    });
}

#[test]
fn a_list_item_by_item_is_the_list() {
    let list: Value = serde_json::from_str(MESH).expect("the sample is JSON");
    let items = list["items"].as_array().expect("it is a List");
    let few: Vec<&Value> = items.iter().step_by(items.len() / 6).collect();
    let yaml = text(&json!({"apiVersion": "v1", "items": few, "kind": "List", "metadata": {"resourceVersion": ""}}))
        .expect("it is a document");
    check("YAML, changed lists", (mutations(), 1..5000_usize), move |(mutations, size)| {
        let yaml = mutated(yaml.as_bytes(), &mutations);
        let (streamed, whole) = (put_together(&yaml, size), whole(&yaml));
        // Items that stand twice are refused where they are handed on one by one.
        if streamed.is_some() || String::from_utf8_lossy(&yaml).matches("items").count() == 1 {
            prop_assert_eq!(streamed, whole);
        }
        Ok(())
    });
}
