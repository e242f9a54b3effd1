//! Lists, read as they arrive.
//!
//! Built-in kinds come as protobuf in pages, and each object is handed on and forgotten before the next is looked at.
//! A page's first bytes hold the token of the next page, so the server already works on that one while this one is
//! read. Objects of other kinds are few and come as JSON.

use std::time::Duration;

use kube::api::ListParams;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::protobuf::ListDecoder;
use super::request::{Accept, next_bytes, send};
use crate::object::{Object, Resource};

/// How many objects are asked for at a time: kubectl's `--chunk-size`.
pub(crate) const PAGE: u32 = 500;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A list to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) resource: Resource,
    /// Everywhere when `None`.
    pub(crate) namespace: Option<String>,
    pub(crate) label_selector: Option<String>,
    pub(crate) field_selector: Option<String>,
    pub(crate) part: Part,
}

/// How much of each object comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Its metadata: the rest is as empty.
    Metadata,
}

/// Takes in what a list brings.
pub(crate) trait Sink {
    /// One object.
    fn object(&self, object: &Object);
    /// The same object as it came, where it came as JSON.
    fn whole(&self, _list: &List, _json: &str) {}
    /// An object that cannot be decoded: why.
    fn undecodable(&self, list: &List, why: &str);
    /// The list begins again: what came of it so far no longer counts.
    fn restart(&self, list: &List);
}

impl List {
    pub(crate) fn everywhere(resource: Resource) -> List {
        List::within(resource, None)
    }

    pub(crate) fn within(resource: Resource, namespace: Option<&str>) -> List {
        let namespace = namespace.map(str::to_owned);
        List { resource, namespace, label_selector: None, field_selector: None, part: Part::Whole }
    }

    pub(crate) fn labelled(self, selector: &str) -> List {
        List { label_selector: Some(selector.to_owned()), ..self }
    }

    /// Only the metadata of each object.
    pub(crate) fn metadata_only(self) -> List {
        List { part: Part::Metadata, ..self }
    }

    /// For messages: `listing pods in namespace shop`.
    pub(crate) fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("listing {} in namespace {namespace}", self.resource),
            None => format!("listing {}", self.resource),
        }
    }

    /// Reads the whole list into the sink. When the server has forgotten the moment that the pages were taken from
    /// (410 Gone), it begins again, once.
    pub(crate) async fn read(&self, connection: &Connection, sink: &impl Sink) -> Result<(), Failure> {
        match self.read_pages(connection, sink).await {
            Err(failure) if failure.cause == Cause::Expired => {
                sink.restart(self);
                self.read_pages(connection, sink).await
            }
            result => result,
        }
    }

    async fn read_pages(&self, connection: &Connection, sink: &impl Sink) -> Result<(), Failure> {
        let mut page = self.request(connection, None).await?;
        loop {
            let mut reader = PageReader::new(self, connection.request_timeout, page);
            let Some(token) = reader.next_token(sink).await? else {
                return reader.finish(sink).await;
            };
            // Sent now, so that the server is not idle while this page is read.
            let next = AbortOnDrop(tokio::spawn(self.clone().request_owned(connection.clone(), token)));
            reader.finish(sink).await?;
            page = next.join(self).await?;
        }
    }

    async fn request_owned(self, connection: Connection, token: String) -> Result<http::Response<Body>, Failure> {
        self.request(&connection, Some(&token)).await
    }

    async fn request(&self, connection: &Connection, token: Option<&str>) -> Result<http::Response<Body>, Failure> {
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector = self.label_selector.clone();
        parameters.field_selector = self.field_selector.clone();
        parameters.continue_token = token.map(str::to_owned);
        let request = kube::core::Request::new(self.resource.path(self.namespace.as_deref()))
            .list(&parameters)
            .map_err(|error| Failure::new(self.describe(), Cause::Other(error.to_string())))?;
        let accept = match self.part {
            Part::Metadata => Accept::Metadata,
            Part::Whole if has_protobuf(self.resource) => Accept::Protobuf,
            Part::Whole => Accept::Json,
        };
        send(connection, request, accept, &self.describe()).await
    }
}

/// The kinds that are decoded from protobuf here.
fn has_protobuf(resource: Resource) -> bool {
    Object::from_protobuf(resource, &[]).is_some()
}

/// A request that is under way, and is given up when nobody waits for it any more.
struct AbortOnDrop(tokio::task::JoinHandle<Result<http::Response<Body>, Failure>>);

impl AbortOnDrop {
    async fn join(mut self, list: &List) -> Result<http::Response<Body>, Failure> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) => Err(Failure::new(list.describe(), Cause::Other(error.to_string()))),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One page on its way in.
struct PageReader<'a> {
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
struct JsonList<'a> {
    #[serde(default)]
    metadata: JsonListMetadata,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct JsonListMetadata {
    #[serde(default)]
    r#continue: String,
}

impl<'a> PageReader<'a> {
    fn new(list: &'a List, limit: Option<Duration>, response: http::Response<Body>) -> PageReader<'a> {
        let content_type = response.headers().get(http::header::CONTENT_TYPE);
        let is_protobuf = content_type.is_some_and(|value| value.as_bytes().starts_with(PROTOBUF.as_bytes()));
        let decoder = if is_protobuf { Decoder::Protobuf(ListDecoder::default()) } else { Decoder::Json };
        PageReader { list, limit, body: response.into_body(), decoder, rest: Vec::new() }
    }

    /// Reads until the token of the next page is known; `None` when this is the last page.
    async fn next_token(&mut self, sink: &impl Sink) -> Result<Option<String>, Failure> {
        loop {
            if let Decoder::Protobuf(decoder) = &self.decoder
                && let Some(token) = decoder.next_page()
            {
                return Ok((!token.is_empty()).then(|| token.to_owned()));
            }
            if !self.read_some(sink).await? {
                return self.json_token();
            }
        }
    }

    /// Reads the rest of the page.
    async fn finish(mut self, sink: &impl Sink) -> Result<(), Failure> {
        while self.read_some(sink).await? {}
        match &self.decoder {
            Decoder::Protobuf(decoder) if !decoder.is_complete() => {
                Err(self.undecodable("the answer ends in the middle of an object"))
            }
            Decoder::Protobuf(_) => Ok(()),
            Decoder::Json => self.hand_on_json(sink),
        }
    }

    /// Takes in one piece of the body; `false` at its end.
    async fn read_some(&mut self, sink: &impl Sink) -> Result<bool, Failure> {
        let what = || self.list.describe();
        let Some(bytes) = next_bytes(&mut self.body, self.limit, &what()).await? else { return Ok(false) };
        let Decoder::Protobuf(decoder) = &mut self.decoder else {
            self.rest.extend_from_slice(&bytes);
            return Ok(true);
        };
        let resource = self.list.resource;
        let list = self.list;
        let decode = |item: &[u8]| match list.part {
            Part::Whole => Object::from_protobuf(resource, item),
            Part::Metadata => Object::from_partial_metadata(resource, item),
        };
        let hand_on = |item: &[u8]| match decode(item) {
            Some(Ok(object)) => sink.object(&object),
            Some(Err(error)) => sink.undecodable(list, &error.to_string()),
            None => {}
        };
        let result = if self.rest.is_empty() {
            decoder.take(&bytes, hand_on).map(|taken| self.rest.extend_from_slice(&bytes[taken..]))
        } else {
            self.rest.extend_from_slice(&bytes);
            decoder.take(&self.rest, hand_on).map(|taken| drop(self.rest.drain(..taken)))
        };
        result.map_err(|why| self.undecodable(&why))?;
        Ok(true)
    }

    fn json_list(&self) -> Result<JsonList<'_>, Failure> {
        serde_json::from_slice(&self.rest).map_err(|error| self.undecodable(&error.to_string()))
    }

    fn json_token(&self) -> Result<Option<String>, Failure> {
        let token = self.json_list()?.metadata.r#continue;
        Ok((!token.is_empty()).then_some(token))
    }

    fn hand_on_json(&self, sink: &impl Sink) -> Result<(), Failure> {
        for item in self.json_list()?.items {
            sink.whole(self.list, item.get());
            match Object::from_json(self.list.resource, item.get().as_bytes()) {
                Ok(object) => sink.object(&object),
                Err(error) => sink.undecodable(self.list, &error.to_string()),
            }
        }
        Ok(())
    }

    fn undecodable(&self, why: &str) -> Failure {
        Failure::new(self.list.describe(), Cause::Decode(why.to_owned()))
    }
}
