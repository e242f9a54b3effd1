//! The stream of JSON objects against serde_json, which reads the whole text.

use std::io::{self, Read};

use proptest::prelude::*;
use serde_json::Value;

use super::mutation::{mutated, mutations};
use super::{MESH, check};
use crate::cluster::json_stream::{JsonStream, Piece};

/// Gives a text in pieces of one size.
pub(super) struct Pieces<'a>(pub(super) &'a [u8], pub(super) usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// The objects of a stream; nothing when it is no JSON.
fn streamed(text: &[u8], size: usize) -> Option<Vec<Value>> {
    let mut stream = JsonStream::new(Pieces(text, size));
    let mut objects = Vec::new();
    loop {
        match stream.next().ok()? {
            Piece::End => return Some(objects),
            Piece::EndOfList(_) => {}
            Piece::Object { json, .. } => objects.push(serde_json::from_str(json).ok()?),
        }
    }
}

/// The same by way of whole values; nothing when it is no JSON, or none that is made of objects.
fn whole(text: &[u8]) -> Option<Vec<Value>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut objects = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let mut value = value.ok()?;
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => objects.extend(items),
            Some(items) => {
                value["items"] = items;
                objects.push(value);
            }
            None if value.is_object() => objects.push(value),
            None => return None,
        }
    }
    Some(objects)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\\\\\"{}\\[\\]é\u{2028}\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map("(items|kind|metadata|[a-z\"\\\\]{0,4})", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn any_objects_come_out_as_they_went_in() {
    let strategy = (proptest::collection::vec(values(), 0..5), any::<bool>(), 1..100_usize);
    check("the JSON stream, any objects", strategy, |(values, pretty, size)| {
        let text = |value: &Value| if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text: String = values.iter().filter(|value| value.is_object()).filter_map(|value| text(value).ok()).collect();
        prop_assert_eq!(streamed(text.as_bytes(), size), whole(text.as_bytes()));
        Ok(())
    });
}

#[test]
fn changed_lists_are_read_as_serde_json_reads_them() {
    check("the JSON stream, changed lists", (mutations(), 1..5000_usize), |(mutations, size)| {
        let text = mutated(&MESH.as_bytes()[..6000], &mutations);
        let closed = [&text[..], b"]}"].concat();
        for text in [&text, &closed] {
            let (streamed, whole) = (streamed(text, size), whole(text));
            // Of keys that stand twice one counts there and the other here.
            if streamed != whole && !has_double_key(text) {
                prop_assert_eq!(streamed, whole);
            }
        }
        Ok(())
    });
}

/// Whether `items` stands more often than once where a List may have it.
fn has_double_key(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).matches("items").count() > 1
}
