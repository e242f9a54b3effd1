//! Lists: the one way to read them, whatever the kind.
//!
//! Built-in kinds that are decoded here come as protobuf in pages, and each object is handed on and forgotten before the next is
//! looked at. A page's first bytes hold the token of the next page, so the server already works on that one while this one is
//! read. What is wanted whole, and every other kind, comes as JSON.

mod page;

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use kube::api::ListParams;
use kube::client::Body;
use serde_json::Value;

use self::page::{Item, PageReader};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::request::{Accept, send};
use crate::change::Subject;
use crate::needs::{GroupResource, Needs};
use crate::object::{Encoded, Metadata, Object, Resource};

/// How many objects are asked for at a time: kubectl's `--chunk-size`.
const PAGE: u32 = 500;

/// How often a list begins again, because the server has forgotten the moment that its pages were taken from (410 Gone), or because
/// a page broke off.
const RESTARTS: [(Begin, usize); 2] = [(Begin::Forgotten, 1), (Begin::BrokenOff, 2)];

/// What is listed: a kind by its place in URLs, as the API server serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// API version inside the group.
    pub version: Cow<'static, str>,
    /// Plural name.
    pub resource: Cow<'static, str>,
}

impl From<Resource> for GroupVersionResource {
    fn from(resource: Resource) -> GroupVersionResource {
        GroupVersionResource::from((resource.group(), resource.version(), resource.plural()))
    }
}

impl From<(&'static str, &'static str, &'static str)> for GroupVersionResource {
    fn from((group, version, resource): (&'static str, &'static str, &'static str)) -> GroupVersionResource {
        GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() }
    }
}

impl From<&Subject> for GroupVersionResource {
    fn from(subject: &Subject) -> GroupVersionResource {
        let version = subject.api_version.rsplit('/').next().unwrap_or_default();
        GroupVersionResource::new(subject.group(), version, &subject.plural)
    }
}

impl From<&GroupVersionResource> for GroupResource {
    fn from(kind: &GroupVersionResource) -> GroupResource {
        GroupResource::from((&*kind.group, &*kind.resource))
    }
}

impl GroupVersionResource {
    /// A kind that is known only when the program runs.
    pub fn new(group: &str, version: &str, resource: &str) -> GroupVersionResource {
        let (group, version, resource) = (group.to_owned(), version.to_owned(), resource.to_owned());
        GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// URL path of its list: everywhere, or in one namespace.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let GroupVersionResource { group, version, resource } = self;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{resource}"),
            None => format!("{root}/{resource}"),
        }
    }

    /// As a resource that a snapshot reads, if it is one.
    fn known(&self) -> Option<Resource> {
        let is_it = |resource: &Resource| GroupVersionResource::from(*resource) == *self;
        Resource::ALL.into_iter().find(is_it)
    }
}

impl fmt::Display for GroupVersionResource {
    /// `plural` or `plural.group`, as kubectl writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(formatter, "{}{dot}{}", self.resource, self.group)
    }
}

/// A list to read: what, where, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    kind: GroupVersionResource,
    /// The kind, where a snapshot reads it.
    resource: Option<Resource>,
    /// Everywhere when `None`.
    namespace: Option<String>,
    /// Requirements, all of which hold.
    labels: Vec<String>,
    fields: Vec<String>,
    form: Form,
}

/// How the objects come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As they are decoded here: protobuf where there is a decoder for the kind.
    Decoded,
    /// Decoded, and only their metadata: the rest is as empty.
    Metadata,
    /// As JSON, whole.
    Json,
    /// As JSON, and only their metadata.
    JsonMetadata,
}

/// The metadata of an item that cannot be decoded whole.
fn metadata_of(item: &Item<'_>) -> Option<Metadata> {
    match item {
        Item::Protobuf(bytes) => Object::metadata_from_protobuf(bytes),
        Item::Json { text, .. } => Object::metadata_from_json(text.as_bytes()),
    }
}

/// How messages begin that are about an object of which perhaps only the metadata is known: `web-1 -n shop: `.
pub(crate) fn named(metadata: Option<&Metadata>) -> String {
    metadata.filter(|metadata| !metadata.name.is_empty()).map_or_else(String::new, |metadata| {
        let place = if metadata.namespace.is_empty() { String::new() } else { format!(" -n {}", metadata.namespace) };
        format!("{}{place}: ", metadata.name)
    })
}

/// Sees the objects of lists on their way in: to fold them into a snapshot, to count, or to keep them for a file.
pub trait Observer {
    /// An object has arrived.
    fn object(&self, object: &Object);
    /// The same object as it came, with what is not decoded of it.
    fn encoded(&self, _object: &Object, _encoded: Encoded<'_>) {}
    /// The same object as it came, where it came as JSON.
    fn whole(&self, _resource: Resource, _json: &str) {}
    /// An object has arrived that cannot be decoded: its metadata, where at least that can be read, and why.
    fn undecodable(&self, _list: &List, _metadata: Option<&Metadata>, _why: &str) {}
    /// All objects of a kind that are needed have arrived, even if there are none.
    fn complete(&self, _resource: Resource) {}
    /// Some objects of a kind are not to be had.
    fn incomplete(&self, _resource: Resource) {}
    /// A list begins again: what came of it so far no longer counts.
    fn restart(&self, list: &List, begin: Begin);
}

/// Why a list begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The server has forgotten the moment that its pages were taken from.
    Forgotten,
    /// The answer ended in the middle of a page, or nothing more came of it.
    BrokenOff,
}

/// What came of a list that may be denied.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Its objects. A kind that the API server does not serve has none.
    Items(Vec<Value>),
    /// It was not to be had, so nothing is known of it: why.
    Unread(String),
}

impl Found {
    /// What came of reading something.
    ///
    /// # Errors
    /// When the API server cannot be reached or does not know the user: then nothing else is to be had either.
    pub fn of(result: Result<Vec<Value>, Failure>) -> Result<Found, Failure> {
        match result {
            Ok(items) => Ok(Found::Items(items)),
            Err(failure) if failure.cause == Cause::NotFound => Ok(Found::Items(Vec::new())),
            Err(failure) if failure.cause.is_tolerable() => Ok(Found::Unread(failure.to_string())),
            Err(failure) => Err(failure),
        }
    }

    /// Both as one: what is unknown of one is unknown of both.
    #[must_use]
    pub fn and(self, other: Found) -> Found {
        match (self, other) {
            (Found::Items(mut items), Found::Items(more)) => {
                items.extend(more);
                Found::Items(items)
            }
            (Found::Unread(why), _) | (_, Found::Unread(why)) => Found::Unread(why),
        }
    }
}

impl List {
    /// All objects of a kind, everywhere.
    pub fn of(kind: impl Into<GroupVersionResource>) -> List {
        let kind = kind.into();
        let resource = kind.known();
        List { kind, resource, namespace: None, labels: Vec::new(), fields: Vec::new(), form: Form::Decoded }
    }

    /// Only in this namespace; everywhere when `None`. A kind that stands in no namespace is not narrowed.
    #[must_use]
    pub fn within(self, namespace: Option<&str>) -> List {
        let stands_in_none = self.resource.is_some_and(|resource| !resource.is_namespaced());
        List { namespace: namespace.filter(|_| !stands_in_none).map(str::to_owned), ..self }
    }

    /// Only in this namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> List {
        self.within(Some(namespace))
    }

    /// Only those whose label has this value.
    #[must_use]
    pub fn labelled(self, key: &str, value: &str) -> List {
        self.selected_by(&format!("{key}={value}"))
    }

    /// Only those that have this label.
    #[must_use]
    pub fn with_label(self, key: &str) -> List {
        self.selected_by(key)
    }

    /// Only those that a label selector in kubectl's notation selects.
    #[must_use]
    pub fn selected_by(mut self, selector: &str) -> List {
        self.labels.push(selector.to_owned());
        self
    }

    /// Only those that a field selector in kubectl's notation selects.
    #[must_use]
    pub fn with_fields(mut self, selector: &str) -> List {
        self.fields.push(selector.to_owned());
        self
    }

    /// Only the metadata of each object.
    #[must_use]
    pub fn metadata_only(self) -> List {
        List { form: Form::Metadata, ..self }
    }

    /// Each object whole, in the text that the API server sends.
    #[must_use]
    pub fn as_json(self) -> List {
        List { form: Form::Json, ..self }
    }

    /// What is listed.
    pub fn kind(&self) -> &GroupVersionResource {
        &self.kind
    }

    /// What is listed, where a snapshot reads it.
    pub fn resource(&self) -> Option<Resource> {
        self.resource
    }

    /// Where; everywhere when `None`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether it holds all objects of its kind in its place.
    pub(crate) fn is_of_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object of this kind and namespace stands in the list, whatever its labels.
    pub fn covers(&self, resource: Resource, namespace: &str) -> bool {
        self.resource == Some(resource) && self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    /// What it asks of the API server.
    pub fn needs(&self) -> Needs {
        Needs::default().require(self.namespace(), [&self.kind], &["list"])
    }

    /// Reads the list whole, as JSON. Items get the `apiVersion` and `kind` that a list leaves out.
    ///
    /// # Errors
    /// Also [`Cause::NotFound`] when the API server does not serve the kind.
    pub async fn whole(self, connection: &Connection) -> Result<Vec<Value>, Failure> {
        self.whole_where(connection, |_| true).await
    }

    /// As [`List::whole`], but only those objects whose text in JSON is to be kept: the others are not even taken apart.
    ///
    /// # Errors
    /// As [`List::whole`].
    pub async fn whole_where(self, connection: &Connection, keep: impl Fn(&str) -> bool) -> Result<Vec<Value>, Failure> {
        self.as_json().values(connection, keep).await
    }

    /// Reads nothing but the metadata of each object, as JSON: no data of it leaves the API server.
    ///
    /// # Errors
    /// As [`List::whole`].
    pub async fn metadata(self, connection: &Connection) -> Result<Vec<Value>, Failure> {
        List { form: Form::JsonMetadata, ..self }.values(connection, |_| true).await
    }

    async fn values(self, connection: &Connection, keep: impl Fn(&str) -> bool) -> Result<Vec<Value>, Failure> {
        let list = self;
        let items: RefCell<Vec<Value>> = RefCell::default();
        let unreadable = RefCell::new(None);
        let take = |item: Item<'_>| {
            if matches!(&item, Item::Json { text, .. } if !keep(text)) {
                return;
            }
            match item.into_value() {
                Ok(item) => items.borrow_mut().push(item),
                Err(why) => *unreadable.borrow_mut() = Some(why),
            }
        };
        list.read_items(connection, take, |_| items.borrow_mut().clear()).await?;
        match unreadable.into_inner() {
            Some(why) => Err(list.undecodable(&why)),
            None => Ok(items.into_inner()),
        }
    }

    /// Reads the list whole, as far as it is to be had.
    ///
    /// # Errors
    /// As [`Found::of`].
    pub async fn found(self, connection: &Connection) -> Result<Found, Failure> {
        Found::of(self.whole(connection).await)
    }

    /// Reads the list decoded; of a kind that a snapshot reads.
    ///
    /// # Errors
    /// Also when one object cannot be decoded: it may be the one that matters.
    pub async fn objects(&self, connection: &Connection) -> Result<Vec<Object>, Failure> {
        let objects = Objects::default();
        self.read(connection, &objects).await?;
        match objects.undecodable.into_inner() {
            Some(why) => Err(self.undecodable(&format!("an object could not be decoded: {why}"))),
            None => Ok(objects.found.into_inner()),
        }
    }

    /// Reads the list, an object at a time.
    pub(crate) async fn read(&self, connection: &Connection, observer: &impl Observer) -> Result<(), Failure> {
        let take = |item: Item<'_>| {
            if let (Item::Json { text, .. }, Some(resource)) = (&item, self.resource) {
                observer.whole(resource, text);
            }
            match self.decoded(&item) {
                Ok(object) => {
                    observer.object(&object);
                    observer.encoded(&object, item.encoded());
                }
                Err(why) => observer.undecodable(self, metadata_of(&item).as_ref(), &why),
            }
        };
        self.read_items(connection, take, |begin| observer.restart(self, begin)).await
    }

    /// An object that no decoder here is for is unread too, and never left out.
    fn decoded(&self, item: &Item<'_>) -> Result<Object, String> {
        let unknown = || format!("{} are not read in this form", self.kind);
        let resource = self.resource.ok_or_else(unknown)?;
        let decoded = match (item, self.form) {
            (Item::Protobuf(bytes), Form::Metadata) => Object::from_partial_metadata(resource, bytes).ok_or_else(unknown)?,
            (Item::Protobuf(bytes), _) => Object::from_protobuf(resource, bytes).ok_or_else(unknown)?,
            (Item::Json { text, .. }, _) => Object::from_json(resource, text.as_bytes()),
        };
        decoded.map_err(|error| error.to_string())
    }

    /// The version of the list at this moment, from which its changes can be watched.
    pub(crate) async fn resource_version(&self, connection: &Connection) -> Result<String, Failure> {
        let list = self.clone().as_json();
        let response = list.request(connection, None, 1).await?;
        let mut page = PageReader::new(&list, connection.request_timeout, response);
        page.read_all(&|_| {}).await?;
        page.resource_version()
    }

    async fn read_items(&self, connection: &Connection, take: impl Fn(Item<'_>), restart: impl Fn(Begin)) -> Result<(), Failure> {
        let mut left = RESTARTS;
        loop {
            let failure = match self.read_pages(connection, &take).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let begin = match failure.cause {
                Cause::Expired => Begin::Forgotten,
                Cause::Broken | Cause::Timeout => Begin::BrokenOff,
                _ => return Err(failure),
            };
            let Some((_, count)) = left.iter_mut().find(|(cause, count)| *cause == begin && *count > 0) else {
                return Err(failure);
            };
            *count -= 1;
            restart(begin);
        }
    }

    async fn read_pages(&self, connection: &Connection, take: &impl Fn(Item<'_>)) -> Result<(), Failure> {
        let mut page = self.request(connection, None, PAGE).await?;
        let mut last = String::new();
        loop {
            let mut reader = PageReader::new(self, connection.request_timeout, page);
            let Some(token) = reader.next_token(take).await? else {
                return reader.finish(take).await;
            };
            if token == last {
                return Err(self.undecodable("the server gives the same page again and again"));
            }
            last.clone_from(&token);
            // Sent now, so that the server is not idle while this page is read.
            let next = AbortOnDrop(tokio::spawn(self.clone().request_owned(connection.clone(), token)));
            reader.finish(take).await?;
            page = next.join(self).await?;
        }
    }

    async fn request_owned(self, connection: Connection, token: String) -> Result<http::Response<Body>, Failure> {
        self.request(&connection, Some(&token), PAGE).await
    }

    async fn request(&self, connection: &Connection, token: Option<&str>, limit: u32) -> Result<http::Response<Body>, Failure> {
        let joined = |requirements: &[String]| (!requirements.is_empty()).then(|| requirements.join(","));
        let mut parameters = ListParams::default().limit(limit);
        parameters.label_selector = joined(&self.labels);
        parameters.field_selector = joined(&self.fields);
        parameters.continue_token = token.map(str::to_owned);
        let request = kube::core::Request::new(self.kind.path(self.namespace()))
            .list(&parameters)
            .map_err(|error| Failure::new(self.describe(), Cause::Other(error.to_string())))?;
        let accept = match self.form {
            Form::Metadata => Accept::Metadata,
            Form::Decoded if self.resource.is_some_and(has_protobuf) => Accept::Protobuf,
            Form::JsonMetadata => Accept::JsonMetadata,
            Form::Decoded | Form::Json => Accept::Json,
        };
        send(connection, request, accept, &self.describe()).await
    }

    /// For messages: `listing pods in namespace shop`.
    fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("listing {} in namespace {namespace}", self.kind),
            None => format!("listing {}", self.kind),
        }
    }

    fn undecodable(&self, why: &str) -> Failure {
        Failure::new(self.describe(), Cause::Decode(why.to_owned()))
    }
}

/// Keeps all objects of a list.
#[derive(Default)]
struct Objects {
    found: RefCell<Vec<Object>>,
    undecodable: RefCell<Option<String>>,
}

impl Observer for Objects {
    fn object(&self, object: &Object) {
        self.found.borrow_mut().push(object.clone());
    }

    fn undecodable(&self, _list: &List, metadata: Option<&Metadata>, why: &str) {
        *self.undecodable.borrow_mut() = Some(format!("{}{why}", named(metadata)));
    }

    fn restart(&self, _list: &List, _begin: Begin) {
        self.found.borrow_mut().clear();
        *self.undecodable.borrow_mut() = None;
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
