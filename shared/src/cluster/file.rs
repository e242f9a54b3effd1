//! Files and standard input as a cluster: what `kubectl get -o json|yaml` writes, in any number and order.
//!
//! Both are streamed: a List is taken apart object by object, so that a file of any size needs little memory.

mod duplicates;
mod encoding;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::duplicates::{Appearance, Known};
use self::encoding::Opening;
use super::failure::{Cause, Failure};
use super::installation::Whole;
use super::json_stream::{JsonStream, ListEnd, ListMetadata, Piece};
use super::list::Observer;
use crate::advice::{Advice, Command};
use crate::finding::{Code, Finding, Severity};
use crate::installation::Installation;
use crate::object::{Object, Resource, naming};
use crate::snapshot::{Detail, Origin, Snapshot, SnapshotBuilder, Unread, UnreadCause};
use crate::terminal::shown;
use crate::yaml::{BrokenYaml, LARGEST_OBJECT, Member, Reader};

/// Reads every file, folder and `-` (standard input) into one snapshot.
///
/// # Errors
/// When a file cannot be read, or holds no Kubernetes objects at all, or ends in the middle of one. Single objects
/// that cannot be understood become findings, and their kind counts as not completely read.
pub fn read_files(paths: &[PathBuf], detail: Detail, observer: &impl Observer) -> Result<Snapshot, Failure> {
    let builder = SnapshotBuilder::new(Origin::Files, detail);
    let mut reading = Reading { builder, observer, known: Known::default(), objects: 0 };
    for path in paths {
        if path.as_os_str() == "-" {
            reading.document_stream("standard input", io::stdin().lock())?;
        } else if path.is_dir() {
            reading.folder(path)?;
        } else {
            reading.file(path)?;
        }
    }
    Ok(reading.builder.build())
}

/// The text of a file, or of standard input for `-`: what is no text of ours is named.
///
/// # Errors
/// When it cannot be read, is no UTF-8, or larger than anything that people write by hand or render.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let failure = |why: String| Failure::new(format!("reading {name}"), Cause::Decode(why));
    let source: Box<dyn Read> = if is_stdin {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| failure(error.to_string()))?)
    };
    let mut source = BufReader::new(source);
    if let Opening::Foreign(what) = encoding::opening(&mut source).map_err(|error| failure(error.to_string()))? {
        return Err(failure(what.to_owned()));
    }
    let mut bytes = Vec::new();
    source.take(LARGEST_OBJECT as u64 + 1).read_to_end(&mut bytes).map_err(|error| failure(error.to_string()))?;
    if bytes.len() > LARGEST_OBJECT {
        return Err(failure(format!("it is larger than {} MiB", LARGEST_OBJECT / 1024 / 1024)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        failure(format!("line {line}: it is not UTF-8 here (byte 0x{:02x})", error.as_bytes()[valid.len()]))
    })
}

/// Reads one text into a snapshot, as a file of this name.
#[cfg(test)]
pub(crate) fn read_bytes(name: &str, bytes: &[u8]) -> Result<Snapshot, Failure> {
    let builder = SnapshotBuilder::new(Origin::Files, Detail::Workloads);
    let observer = Whole::default();
    let mut reading = Reading { builder, observer: &observer, known: Known::default(), objects: 0 };
    reading.document_stream(name, bytes)?;
    Ok(reading.builder.build())
}

/// Reads what is installed from files, whole.
///
/// # Errors
/// As [`read_files`]; and when the files hold only what verdicts need, from which nothing can be written.
pub fn read_installation_files(paths: &[PathBuf]) -> Result<Installation, Failure> {
    let whole = Whole::default();
    let snapshot = read_files(paths, Detail::Workloads, &whole)?;
    let installation = whole.installation(snapshot);
    let mut entries = installation.injectors.iter().flat_map(|webhook| webhook["webhooks"].as_array().into_iter().flatten());
    // The API server demands this field of every entry, and --save leaves it out.
    if let Some(entry) = entries.find(|entry| entry["sideEffects"].is_null()) {
        let why = format!("its entry {} is not whole: it was written by --save", entry["name"].as_str().unwrap_or_default());
        let mut failure = Failure::new("reading MutatingWebhookConfigurations", Cause::Decode(why));
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,namespaces,services,deployments,configmaps";
        failure.hint = Advice::run(Command::kubectl("get").value(kinds).words("-A -o yaml")).and_say(" writes it");
        return Err(failure);
    }
    Ok(installation)
}

struct Reading<'a, O> {
    builder: SnapshotBuilder,
    observer: &'a O,
    known: Known,
    objects: usize,
}

/// What tells what an object is.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Head<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(borrow)]
    items: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
}

/// Where an object stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The file.
    file: &'a str,
    /// The line on which the object, or what it stands in, begins.
    line: usize,
    /// The kind of the List that it stands in; empty when that is not known yet, `None` outside of Lists.
    list_kind: Option<&'a str>,
    /// In how many Lists it stands.
    depth: usize,
}

/// Lists in Lists: nobody writes more.
const DEEPEST_LIST: usize = 8;

impl<O: Observer> Reading<'_, O> {
    /// All files of a folder whose names end as kubectl expects (`.json`, `.yaml`, `.yml`), by name.
    fn folder(&mut self, folder: &Path) -> Result<(), Failure> {
        let failure =
            |error: io::Error| Failure::new(format!("reading folder {}", folder.display()), Cause::Other(error.to_string()));
        let entries = std::fs::read_dir(folder).map_err(failure)?;
        let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failure)?;
        files.retain(|file| {
            let extension = file.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("json" | "yaml" | "yml"))
        });
        files.sort();
        if files.is_empty() {
            let why = "it has no file that ends in .json, .yaml or .yml".to_owned();
            return Err(Failure::new(format!("reading folder {}", folder.display()), Cause::Other(why)));
        }
        files.iter().try_for_each(|file| self.file(file))
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::new(format!("reading {name}"), Cause::Other(error.to_string())))?;
        self.document_stream(&name, file)
    }

    fn document_stream(&mut self, name: &str, source: impl Read) -> Result<(), Failure> {
        let before = self.objects;
        let mut source = BufReader::with_capacity(64 * 1024, source);
        match encoding::opening(&mut source).map_err(|error| unreadable(name, &error))? {
            Opening::Nothing => {}
            Opening::Object => self.json(name, source)?,
            Opening::Array => return Err(not_kubernetes(name, "it is a JSON array, not a List")),
            Opening::Other => self.yaml(name, source)?,
            Opening::Foreign(what) => return Err(Failure::new(format!("reading {name}"), Cause::Decode(what.to_owned()))),
        }
        if self.objects == before {
            return Err(not_kubernetes(name, "it is empty"));
        }
        Ok(())
    }

    fn json(&mut self, name: &str, source: impl Read) -> Result<(), Failure> {
        let mut stream = JsonStream::new(source);
        loop {
            match stream.next().map_err(|error| unreadable(name, &error))? {
                Piece::End => return Ok(()),
                Piece::Object { json, list_kind, line, levels } => {
                    let depth = usize::from(list_kind.is_some());
                    let place = Place { file: name, line, list_kind: list_kind.as_deref(), depth };
                    self.object(json, levels, place)?;
                }
                Piece::EndOfList(end) => self.end_of_list(name, &end),
            }
        }
    }

    fn yaml(&mut self, name: &str, source: impl Read) -> Result<(), Failure> {
        let mut reader = Reader::new(source);
        let broken =
            |broken: BrokenYaml| Failure::new(format!("reading {name}"), Cause::Decode(format!("it is no YAML: {broken}")));
        while let Some(member) = reader.member().map_err(broken)? {
            match member {
                // Its kind stands behind the items, as kubectl sorts them; what they leave out is not known before.
                Member::Item((value, line)) => {
                    let json = value.to_string();
                    self.object(&json, levels(&json), Place { file: name, line, list_kind: Some(""), depth: 1 })?;
                }
                Member::End { rest: (value, _), items: Some(items) } => {
                    let Some(kind) = value["kind"].as_str() else {
                        let why = "it has items and no kind behind them, as kubectl writes it: it was cut short";
                        return Err(Failure::new(format!("reading {name}"), Cause::Decode(why.to_owned())));
                    };
                    let is_partial = is_partial(&value["metadata"]);
                    let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
                    self.end_of_list(name, &ListEnd { api_version, kind: kind.to_owned(), items, is_partial });
                }
                Member::End { rest: (Value::Null, _), .. } => {}
                Member::End { rest: (value @ Value::Object(_), line), items: None } => {
                    let json = value.to_string();
                    self.object(&json, levels(&json), Place { file: name, line, list_kind: None, depth: 0 })?;
                }
                Member::End { rest: (_, line), .. } => {
                    return Err(not_kubernetes(name, &format!("the document on line {line} is not an object")));
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, json: &str, levels: usize, place: Place<'_>) -> Result<(), Failure> {
        let head: Head<'_> = match serde_json::from_str(json) {
            Ok(head) => head,
            Err(error) if error.is_syntax() || error.is_eof() => {
                let why = format!("line {}: it is no JSON: {error}", place.line);
                return Err(Failure::new(format!("reading {}", place.file), Cause::Decode(why)));
            }
            Err(error) => {
                self.objects += 1;
                self.unattributed(place, &error.to_string());
                return Ok(());
            }
        };
        let kind = head.kind.unwrap_or_default();
        if let Some(items) = head.items.filter(|items| items.get().starts_with('[')) {
            let list = ListEnd { api_version: head.api_version.unwrap_or_default(), kind, ..ListEnd::default() };
            return self.list_in_memory(list, items, head.metadata, place);
        }
        let (api_version, kind) = match place.list_kind.and_then(|kind| kind.strip_suffix("List")) {
            // Lists of one kind leave it out of their items.
            Some(of_list) if kind.is_empty() && !of_list.is_empty() => {
                let resource = Resource::ALL.into_iter().find(|resource| resource.kind() == of_list);
                (resource.map_or_else(String::new, Resource::api_version), of_list.to_owned())
            }
            _ => (head.api_version.unwrap_or_default(), kind),
        };
        if kind.is_empty() && place.list_kind.is_none() {
            return Err(not_kubernetes(place.file, &format!("an object in it has no kind (line {})", place.line)));
        }
        self.objects += 1;
        if kind.is_empty() {
            self.unattributed(place, "it has no kind, nor does the List name one before its items");
            return Ok(());
        }
        if !naming::is_kind(&kind) || !(api_version.is_empty() || naming::is_api_version(&api_version)) {
            self.unattributed(
                place,
                &format!("{} is no kind of Kubernetes", shown::visible(&format!("{kind} of {api_version}"))),
            );
        } else if let Some(resource) = Resource::of_kind(&api_version, &kind) {
            self.known_kind(resource, json, levels, place);
        }
        Ok(())
    }

    /// A List that stands in another, or whose items were not seen while it was read.
    fn list_in_memory(
        &mut self,
        list: ListEnd,
        items: &RawValue,
        metadata: Option<&RawValue>,
        place: Place<'_>,
    ) -> Result<(), Failure> {
        let items: Vec<&RawValue> = match serde_json::from_str(items.get()) {
            Ok(items) if place.depth < DEEPEST_LIST => items,
            _ => return Err(not_kubernetes(place.file, &format!("line {}: it has Lists in Lists in Lists", place.line))),
        };
        for item in &items {
            self.object(item.get(), levels(item.get()), Place { list_kind: Some(&list.kind), depth: place.depth + 1, ..place })?;
        }
        let is_partial =
            metadata.is_some_and(|metadata| serde_json::from_str(metadata.get()).is_ok_and(|value| is_partial(&value)));
        self.end_of_list(place.file, &ListEnd { items: items.len(), is_partial, ..list });
        Ok(())
    }

    fn known_kind(&mut self, resource: Resource, json: &str, levels: usize, place: Place<'_>) {
        if levels > DEEPEST {
            return self.broken(resource, place, &format!("it is nested deeper than {DEEPEST} levels"));
        }
        match Object::from_json(resource, json.as_bytes()) {
            Ok(object) => match self.known.appearance(&object, json) {
                Appearance::First => self.add(&object, json),
                Appearance::Again => {
                    self.duplicate(&object, Severity::Info, "stands more than once in the input, always the same")
                }
                Appearance::Otherwise => {
                    self.builder.withdraw(&object);
                    self.ambiguous(&object, [duplicates::place(&object)], "stands more than once in the input, and not the same");
                }
                Appearance::UidTaken(other) => {
                    self.add(&object, json);
                    let places = [other, duplicates::place(&object)];
                    self.ambiguous(&object, places, "has the uid of another object in the input: one of them is a copy");
                }
            },
            Err(error) => self.broken(resource, place, &error.to_string()),
        }
    }

    fn end_of_list(&mut self, name: &str, end: &ListEnd) {
        // A List without items says that there is nothing, which is something.
        self.objects += usize::from(end.items == 0);
        let kind = end.kind.strip_suffix("List").unwrap_or(&end.kind);
        if !end.is_partial {
            if let Some(resource) = Resource::of_kind(&end.api_version, kind).filter(|_| end.items == 0) {
                self.builder.complete(resource);
                self.observer.complete(resource);
            }
            return;
        }
        let resources: Vec<Resource> =
            Resource::ALL.into_iter().filter(|resource| resource.kind() == kind || kind.is_empty()).collect();
        for resource in &resources {
            let cause = UnreadCause::PartlyInFile(format!("the list in {name} is only a part"));
            self.unread(*resource, None, cause);
        }
        if let Some(resource) = resources.first() {
            let what = if kind.is_empty() { "List".to_owned() } else { format!("list of {resource}") };
            self.builder.finding(Finding {
                severity: Severity::Error,
                code: Code::PartialList,
                subject: name.to_owned(),
                message: format!(
                    "its {what} is only a part: {} items are there, and metadata.continue says that there are more",
                    end.items
                ),
                advice: if kind.is_empty() {
                    Advice::say("write the file anew with ").and_run(Command::kubectl("get KINDS -A -o json"))
                } else {
                    Advice::run(Command::kubectl("get").value(resource.to_string()).words("-A -o json"))
                        .and_say(" writes all of them")
                },
            });
        }
    }

    fn add(&mut self, object: &Object, json: &str) {
        self.observer.whole(object.resource(), json);
        self.observer.object(object);
        self.builder.add(object);
    }

    fn unread(&mut self, resource: Resource, namespace: Option<String>, cause: UnreadCause) {
        self.observer.incomplete(resource);
        self.builder.unread(Unread { resource, namespace, cause });
    }

    /// What stands in these places is not certain.
    fn ambiguous(&mut self, object: &Object, places: impl IntoIterator<Item = duplicates::Place>, how: &str) {
        for (resource, namespace) in places {
            let cause = UnreadCause::PartlyInFile(format!("{} {how}", subject(object)));
            self.unread(resource, namespace.map(String::from), cause);
        }
        self.duplicate(object, Severity::Error, how);
    }

    fn duplicate(&mut self, object: &Object, severity: Severity, how: &str) {
        self.builder.finding(Finding {
            severity,
            code: Code::DuplicateObject,
            subject: subject(object),
            message: how.to_owned(),
            advice: "give each object once, from one moment".into(),
        });
    }

    /// An object of a known kind that cannot be understood: its kind is not completely read.
    fn broken(&mut self, resource: Resource, place: Place<'_>, why: &str) {
        let cause = UnreadCause::PartlyInFile(format!("an object in {} cannot be read", place.file));
        self.unread(resource, None, cause);
        self.broken_object(place, &format!("the {} on line {}", resource.kind(), place.line), why);
    }

    /// Something without a kind. In a list of one kind it is one of that kind; elsewhere it is nothing that an API server
    /// writes.
    fn unattributed(&mut self, place: Place<'_>, why: &str) {
        let kind = place.list_kind.and_then(|kind| kind.strip_suffix("List")).unwrap_or_default();
        for resource in Resource::ALL.into_iter().filter(|resource| resource.kind() == kind) {
            let cause = UnreadCause::PartlyInFile(format!("an object in {} cannot be read", place.file));
            self.unread(resource, None, cause);
        }
        self.broken_object(place, &format!("an object on line {}", place.line), why);
    }

    fn broken_object(&mut self, place: Place<'_>, what: &str, why: &str) {
        self.builder.finding(Finding {
            severity: Severity::Error,
            code: Code::BrokenObject,
            subject: place.file.to_owned(),
            message: format!("{what} cannot be read: {why}"),
            advice: Advice::say("write the file anew with ").and_run(Command::kubectl("get KINDS -A -o json")),
        });
    }
}

fn subject(object: &Object) -> String {
    let metadata = object.metadata();
    let place = if metadata.namespace.is_empty() { String::new() } else { format!(" -n {}", metadata.namespace) };
    format!("{}/{}{place}", object.resource(), metadata.name)
}

/// How deep serde_json reads.
const DEEPEST: usize = 127;

/// How many levels of objects and arrays a value has.
fn levels(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn is_partial(metadata: &Value) -> bool {
    ListMetadata::deserialize(metadata).is_ok_and(|metadata| metadata.is_partial())
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        io::ErrorKind::InvalidData => format!("it is neither JSON nor YAML: {error}"),
        _ => error.to_string(),
    };
    Failure::new(format!("reading {name}"), Cause::Decode(cause))
}

fn not_kubernetes(name: &str, why: &str) -> Failure {
    let mut failure = Failure::new(format!("reading {name}"), Cause::Decode(format!("it holds no Kubernetes objects: {why}")));
    failure.hint = Advice::say("write it with ").and_run(Command::kubectl("get KINDS -A -o json")).and_say(", or with --save");
    failure
}
