//! Lists in protobuf, taken apart as they arrive, against prost, which decodes the whole answer.

use proptest::prelude::*;
use prost::Message;

use super::mutation::{mutated, mutations};
use super::{MESH, check};
use crate::cluster::protobuf::ListDecoder;
use crate::object::{Object, Pod, Resource};

/// `runtime.Unknown` (k8s.io/apimachinery/pkg/runtime/generated.proto).
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodList {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    items: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ListMeta {
    #[prost(string, tag = "3")]
    r#continue: String,
    #[prost(int64, optional, tag = "4")]
    remaining_item_count: Option<i64>,
}

/// Two pods, as kube-apiserver 1.35 sent them.
const REAL: &[u8] = include_bytes!("pods.pb");

fn pods() -> Vec<Vec<u8>> {
    let list: serde_json::Value = serde_json::from_str(MESH).expect("the sample is JSON");
    let pods = list["items"].as_array().into_iter().flatten().filter(|object| object["kind"] == "Pod").take(6);
    pods.map(|pod| serde_json::from_value::<Pod>(pod.clone()).expect("it is a pod").encode_to_vec()).collect()
}

fn answer() -> Vec<u8> {
    let metadata = ListMeta { r#continue: "token".to_owned(), remaining_item_count: Some(7) };
    let list = PodList { metadata: Some(metadata), items: pods() };
    let type_meta = TypeMeta { api_version: "v1".to_owned(), kind: "PodList".to_owned() };
    let envelope = Envelope { type_meta: Some(type_meta), raw: list.encode_to_vec() };
    [&b"k8s\0"[..], &envelope.encode_to_vec()].concat()
}

/// The items and the token of the next page; nothing when it is no list, or not whole.
fn taken(answer: &[u8], size: usize) -> Option<(Vec<Vec<u8>>, String)> {
    let mut decoder = ListDecoder::default();
    let (mut items, mut rest) = (Vec::new(), Vec::new());
    for piece in answer.chunks(size) {
        rest.extend_from_slice(piece);
        let taken = decoder.take(&rest, |item| items.push(item.to_vec())).ok()?;
        rest.drain(..taken);
    }
    (decoder.is_complete() && rest.is_empty()).then(|| (items, decoder.next_page().unwrap_or_default().to_owned()))
}

#[test]
fn changed_answers_are_taken_apart_as_prost_decodes_them() {
    let answers = [answer(), REAL.to_vec()];
    assert_eq!(taken(&answers[0], 10), Some((pods(), "token".to_owned())));
    assert_eq!(taken(REAL, 100).map(|(pods, token)| (pods.len(), token)), Some((2, String::new())));
    check("protobuf lists", (0..answers.len(), mutations(), 1..5000_usize), move |(answer, mutations, size)| {
        let answer = mutated(&answers[answer], &mutations);
        let taken = taken(&answer, size);
        if let Some((items, _)) = &taken {
            for item in items {
                // A pod that cannot be decoded is an error, and never a panic.
                if let Some(Ok(object)) = Object::from_protobuf(Resource::Pods, item) {
                    drop(object.to_json());
                }
                drop(Object::from_partial_metadata(Resource::Pods, item));
            }
        }
        if let Some((items, token)) = taken {
            let envelope = Envelope::decode(&answer[4..]).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let list = PodList::decode(&envelope.raw[..]).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(list.items, items);
            prop_assert_eq!(list.metadata.unwrap_or_default().r#continue, token);
        }
        Ok(())
    });
}
