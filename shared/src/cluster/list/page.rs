//! One page of a list on its way in: its bytes into objects, and the token of the page after it.

use std::time::Duration;

use kube::client::Body;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::List;
use crate::cluster::failure::Failure;
use crate::cluster::protobuf::ListDecoder;
use crate::cluster::request::{LARGEST_ANSWER, append, next_bytes};
use crate::object::{Encoded, naming};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// One object of a list, as it came.
pub(super) enum Item<'a> {
    /// Its bytes in protobuf, without the envelope.
    Protobuf(&'a [u8]),
    /// Its text in JSON, and what the list says of all its objects.
    Json { api_version: &'a str, kind: &'a str, text: &'a str },
}

impl Item<'_> {
    /// As it came.
    pub(super) fn encoded(&self) -> Encoded<'_> {
        match self {
            Item::Protobuf(bytes) => Encoded::Protobuf(bytes),
            Item::Json { text, .. } => Encoded::Json(text.as_bytes()),
        }
    }

    /// As JSON that names its kind.
    pub(super) fn into_value(self) -> Result<Value, String> {
        let Item::Json { api_version, kind, text } = self else { return Err("it came in protobuf".to_owned()) };
        let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("an item is no object".to_owned());
        }
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.into();
        naming::wrong(&value).map_or(Ok(value), Err)
    }
}

/// Reads one page.
pub(super) struct PageReader<'a> {
    list: &'a List,
    limit: Option<Duration>,
    body: Body,
    decoder: Decoder,
    /// Bytes that are not yet a whole object.
    rest: Vec<u8>,
}

enum Decoder {
    Protobuf(ListDecoder),
    Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonList<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: JsonListMetadata,
    /// `None` where there is no such field: then it is no list.
    #[serde(borrow, default, deserialize_with = "items")]
    items: Option<Vec<&'a RawValue>>,
}

/// Go writes an empty list as `null`.
fn items<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<&'a RawValue>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonListMetadata {
    r#continue: String,
    resource_version: String,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(list: &'a List, limit: Option<Duration>, response: http::Response<Body>) -> PageReader<'a> {
        let content_type = response.headers().get(http::header::CONTENT_TYPE);
        let is_protobuf = content_type.is_some_and(|value| value.as_bytes().starts_with(PROTOBUF.as_bytes()));
        let decoder = if is_protobuf { Decoder::Protobuf(ListDecoder::default()) } else { Decoder::Json };
        PageReader { list, limit, body: response.into_body(), decoder, rest: Vec::new() }
    }

    /// Reads until the token of the next page is known; `None` when this is the last page.
    pub(super) async fn next_token(&mut self, take: &impl Fn(Item<'_>)) -> Result<Option<String>, Failure> {
        loop {
            if let Decoder::Protobuf(decoder) = &self.decoder
                && let Some(token) = decoder.next_page()
            {
                return Ok((!token.is_empty()).then(|| token.to_owned()));
            }
            if !self.read_some(take).await? {
                return match &self.decoder {
                    // A page without metadata is the last one.
                    Decoder::Protobuf(_) => Ok(None),
                    Decoder::Json => {
                        let token = self.json()?.metadata.r#continue;
                        Ok((!token.is_empty()).then_some(token))
                    }
                };
            }
        }
    }

    /// Reads the rest of the page.
    pub(super) async fn finish(mut self, take: &impl Fn(Item<'_>)) -> Result<(), Failure> {
        self.read_all(take).await?;
        match &self.decoder {
            Decoder::Protobuf(decoder) if !decoder.is_complete() => {
                Err(self.list.undecodable("the answer ends in the middle of an object"))
            }
            Decoder::Protobuf(_) => Ok(()),
            Decoder::Json => self.hand_on_json(take),
        }
    }

    /// Reads to the end of the body. Objects in JSON are handed on only when the page is whole.
    pub(super) async fn read_all(&mut self, take: &impl Fn(Item<'_>)) -> Result<(), Failure> {
        while self.read_some(take).await? {}
        Ok(())
    }

    /// The version of the list, of a page in JSON that was read to its end.
    pub(super) fn resource_version(&self) -> Result<String, Failure> {
        Ok(self.json()?.metadata.resource_version)
    }

    /// Takes in one piece of the body; `false` at its end.
    async fn read_some(&mut self, take: &impl Fn(Item<'_>)) -> Result<bool, Failure> {
        let bytes = match next_bytes(&mut self.body, self.limit, "").await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(false),
            Err(failure) => return Err(Failure { what: self.list.describe(), ..failure }),
        };
        let Decoder::Protobuf(decoder) = &mut self.decoder else {
            append(&mut self.rest, &bytes, LARGEST_ANSWER).map_err(|why| self.list.undecodable(&why))?;
            return Ok(true);
        };
        let hand_on = |item: &[u8]| take(Item::Protobuf(item));
        let result = if self.rest.is_empty() {
            decoder.take(&bytes, hand_on).map(|taken| self.rest.extend_from_slice(&bytes[taken..]))
        } else {
            self.rest.extend_from_slice(&bytes);
            decoder.take(&self.rest, hand_on).map(|taken| drop(self.rest.drain(..taken)))
        };
        result.map_err(|why| self.list.undecodable(&why))?;
        Ok(true)
    }

    fn json(&self) -> Result<JsonList<'_>, Failure> {
        serde_json::from_slice(&self.rest).map_err(|error| self.list.undecodable(&error.to_string()))
    }

    fn hand_on_json(&self, take: &impl Fn(Item<'_>)) -> Result<(), Failure> {
        let list = self.json()?;
        let (Some(kind), Some(items)) = (list.kind.strip_suffix("List"), list.items) else {
            return Err(self.list.undecodable("the answer is no list"));
        };
        for item in items {
            take(Item::Json { api_version: &list.api_version, kind, text: item.get() });
        }
        Ok(())
    }
}
