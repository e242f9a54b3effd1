//! Files and standard input as a cluster: what `kubectl get -o json|yaml` writes, in any number and order.
//!
//! JSON is streamed: a List is taken apart object by object, so that a file of any size needs little memory. YAML is
//! read document by document.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::{Cause, Failure};
use super::json_stream::{JsonStream, Piece};
use super::list::Observer;
use super::read::Whole;
use crate::finding::{Finding, Severity};
use crate::installation::Installation;
use crate::object::{Object, Resource};
use crate::snapshot::{Detail, Origin, Snapshot, SnapshotBuilder, Unread, UnreadCause};

/// Reads every file, folder and `-` (standard input) into one snapshot.
///
/// # Errors
/// When a file cannot be read, or holds no Kubernetes objects at all, or ends in the middle of one. Single objects
/// that cannot be understood become findings, and their kind counts as not completely read.
pub fn read_files(paths: &[PathBuf], detail: Detail, observer: &impl Observer) -> Result<Snapshot, Failure> {
    let mut reading = Reading { builder: SnapshotBuilder::new(Origin::Files, detail), observer, objects: 0 };
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
        failure.hint = Some(
            "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations,namespaces,services,deployments,configmaps -A -o yaml writes it"
                .to_owned(),
        );
        return Err(failure);
    }
    Ok(installation)
}

struct Reading<'a, O> {
    builder: SnapshotBuilder,
    observer: &'a O,
    objects: usize,
}

/// What tells the kind of an object.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: String,
    kind: String,
}

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
        let mut source = BufReader::with_capacity(256 * 1024, source);
        match first_character(&mut source).map_err(|error| unreadable(name, &error))? {
            None => {}
            Some(b'{') => self.json(name, source)?,
            Some(b'[') => return Err(not_kubernetes(name, "it is a JSON array, not a List")),
            Some(_) => self.yaml(name, source)?,
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
                Piece::Object { json, list_kind } => self.json_object(name, json, list_kind.as_deref())?,
                Piece::EmptyList => self.objects += 1,
            }
        }
    }

    /// `list_kind` is the kind of the list that the object stands in: lists of one kind leave it out of their items.
    fn json_object(&mut self, name: &str, json: &[u8], list_kind: Option<&str>) -> Result<(), Failure> {
        let mut head: Head = match serde_json::from_slice(json) {
            Ok(head) => head,
            Err(error) if error.is_syntax() || error.is_eof() => {
                return Err(Failure::new(format!("reading {name}"), Cause::Decode(format!("it is no JSON: {error}"))));
            }
            Err(error) => {
                self.broken(name, "an object", &error.to_string());
                return Ok(());
            }
        };
        if head.kind.is_empty()
            && let Some(kind) = list_kind.and_then(|kind| kind.strip_suffix("List")).filter(|kind| !kind.is_empty())
        {
            let by_kind = Resource::ALL.into_iter().find(|resource| resource.kind() == kind);
            head.api_version = by_kind.map_or_else(String::new, Resource::api_version);
            head.kind = kind.to_owned();
        }
        if head.kind.is_empty() {
            if list_kind.is_none() {
                return Err(not_kubernetes(name, "an object in it has no kind"));
            }
            self.objects += 1;
            self.broken(name, "an item of its List", "it has no kind, nor does the List name one before its items");
            return Ok(());
        }
        self.objects += 1;
        let Some(resource) = Resource::of_kind(&head.api_version, &head.kind) else { return Ok(()) };
        match Object::from_json(resource, json) {
            Ok(object) if object.metadata().name.is_empty() => self.broken_kind(name, resource, "it has no name"),
            Ok(object) => {
                if let Ok(json) = std::str::from_utf8(json) {
                    self.observer.whole(resource, json);
                }
                self.object(&object);
            }
            Err(error) => self.broken_kind(name, resource, &error.to_string()),
        }
        Ok(())
    }

    fn yaml(&mut self, name: &str, mut source: impl Read) -> Result<(), Failure> {
        let mut text = String::new();
        source.read_to_string(&mut text).map_err(|error| unreadable(name, &error))?;
        for document in yaml_documents(&text) {
            let value: serde_json::Value = serde_saphyr::from_str(document).map_err(|error| {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                Failure::new(format!("reading {name}"), Cause::Decode(format!("it is no YAML: {first}")))
            })?;
            self.value(name, value)?;
        }
        Ok(())
    }

    fn value(&mut self, name: &str, mut value: serde_json::Value) -> Result<(), Failure> {
        if value.is_null() {
            return Ok(());
        }
        if !value.is_object() {
            return Err(not_kubernetes(name, "a document in it is not an object"));
        }
        let list_kind = value["kind"].as_str().unwrap_or_default().to_owned();
        if let Some(items) = value.get_mut("items").map(serde_json::Value::take)
            && let serde_json::Value::Array(items) = items
        {
            self.objects += usize::from(items.is_empty());
            return items.into_iter().try_for_each(|item| self.json_object(name, item.to_string().as_bytes(), Some(&list_kind)));
        }
        self.json_object(name, value.to_string().as_bytes(), None)
    }

    fn object(&mut self, object: &Object) {
        self.observer.object(object);
        self.builder.add(object);
    }

    /// An object of a known kind that cannot be understood: its kind is not completely read.
    fn broken_kind(&mut self, name: &str, resource: Resource, why: &str) {
        let cause = UnreadCause::Failed(format!("an object in {name} cannot be read"));
        self.builder.unread(Unread { resource, namespace: None, cause });
        self.broken(name, &format!("an object of kind {}", resource.kind()), why);
    }

    fn broken(&mut self, name: &str, what: &str, why: &str) {
        self.builder.finding(Finding {
            severity: Severity::Error,
            code: "broken-object",
            subject: name.to_owned(),
            message: format!("{what} cannot be read: {why}"),
            advice: "write the file anew with kubectl get -o json".to_owned(),
        });
    }
}

/// The first character that is not white space, left in the reader (without what stands before it).
fn first_character(source: &mut BufReader<impl Read>) -> io::Result<Option<u8>> {
    use std::io::BufRead;
    loop {
        let available = source.fill_buf()?;
        if available.is_empty() {
            return Ok(None);
        }
        let blank = available
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0xef || **byte == 0xbb || **byte == 0xbf)
            .count();
        let found = available.get(blank).copied();
        source.consume(blank);
        if found.is_some() {
            return Ok(found);
        }
    }
}

/// The documents of a YAML stream: between lines `---`, up to a line `...`.
fn yaml_documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        let end = position + line.len();
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push(&text[start..position]);
            start = position + 3;
        }
        position = end;
    }
    documents.push(&text[start..]);
    let has_content = |document: &&str| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#') && line.trim() != "...")
    };
    documents.into_iter().filter(has_content).collect()
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle of an object: it was cut short".to_owned(),
        io::ErrorKind::InvalidData => format!("it is neither JSON nor YAML: {error}"),
        _ => error.to_string(),
    };
    Failure::new(format!("reading {name}"), Cause::Decode(cause))
}

fn not_kubernetes(name: &str, why: &str) -> Failure {
    let mut failure = Failure::new(format!("reading {name}"), Cause::Decode(format!("it holds no Kubernetes objects: {why}")));
    failure.hint = Some("write it with kubectl get KINDS -A -o json, or with --save".to_owned());
    failure
}
