//! kubeconfig files, read as kubectl reads them: k8s.io/client-go/tools/clientcmd of version 0.35, loader.go and validation.go, and
//! the YAML reader below them. The client library's own reader is not used: it gives up a file with an odd byte at its end by a
//! panic, takes several documents for one, and lets the first of two entries with one name win without a word.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Kubeconfig};
use serde_json::{Map, Value};

use super::resolved::Environment;
use crate::yaml;

/// More than any kubeconfig: a file that never ends is not read for ever.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The files that there are, merged: the flag's must exist; of the files in `$KUBECONFIG` those that exist are taken, the first wins;
/// else the home folder's. `None` when there is none.
///
/// # Errors
/// A sentence that names the file.
pub(super) fn load(flag: Option<&Path>, environment: &Environment) -> Result<Option<Kubeconfig>, String> {
    if let Some(path) = flag.filter(|path| !path.as_os_str().is_empty()) {
        let bytes = bytes(path).map_err(|error| unreadable(path, &error))?;
        return understood(path, &bytes).map(Some);
    }
    let paths: Vec<PathBuf> = match &environment.kubeconfig {
        Some(paths) if !paths.is_empty() => std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        _ => environment.home.iter().map(|home| home.join(".kube/config")).collect(),
    };
    let mut merged = None;
    for path in paths {
        let bytes = match bytes(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(|error| unreadable(&path, &error))?,
        };
        let next = understood(&path, &bytes)?;
        merged = Some(match merged {
            Some(merged) => merge(merged, next),
            None => next,
        });
    }
    Ok(merged)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// The first file to set a value wins; an entry is taken whole from the first that has its name.
fn merge(mut merged: Kubeconfig, next: Kubeconfig) -> Kubeconfig {
    fn extend<T>(entries: &mut Vec<T>, more: Vec<T>, name: impl Fn(&T) -> &str) {
        let known: BTreeSet<String> = entries.iter().map(|entry| name(entry).to_owned()).collect();
        entries.extend(more.into_iter().filter(|entry| !known.contains(name(entry))));
    }
    extend(&mut merged.clusters, next.clusters, |entry| &entry.name);
    extend(&mut merged.contexts, next.contexts, |entry| &entry.name);
    extend(&mut merged.auth_infos, next.auth_infos, |entry| &entry.name);
    merged.current_context = merged.current_context.or(next.current_context);
    merged
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn understood(path: &Path, bytes: &[u8]) -> Result<Kubeconfig, String> {
    let wrong = |why: String| format!("{} is no kubeconfig: {why}", path.display());
    if bytes.len() as u64 > LARGEST {
        return Err(wrong("it is larger than 16 MiB".to_owned()));
    }
    let mut kubeconfig = parse(&decoded(bytes).map_err(wrong)?).map_err(wrong)?;
    make_absolute(&mut kubeconfig, path)?;
    Ok(kubeconfig)
}

/// The text of a file: UTF-8, or UTF-16 with a byte-order mark, and none of the control characters that YAML forbids.
pub(super) fn decoded(bytes: &[u8]) -> Result<String, String> {
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest)?,
        _ => utf8(bytes)?,
    };
    match text.chars().find(|character| is_forbidden(*character)) {
        Some('\0') => Err("it holds the byte 0: it may be UTF-16 without a byte-order mark, or no text".to_owned()),
        Some(character) => Err(format!("it holds the control character U+{:04X}", u32::from(character))),
        None => Ok(text),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|error| format!("the byte after its first {} is no UTF-8", error.valid_up_to()))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("it is UTF-16 with half a character at its end".to_owned());
    }
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).map_err(|_| "it begins as UTF-16 does, and is none".to_owned())
}

/// What YAML 1.1 does not count as printable (section 5.1).
fn is_forbidden(character: char) -> bool {
    !matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// The entries of a file's text. Nothing of the text stands in an error: it may be a token.
pub(super) fn parse(text: &str) -> Result<Kubeconfig, String> {
    let value = yaml::value(text).map_err(|broken| match broken.line {
        Some(line) => format!("line {line} of it is no YAML that can be read"),
        None => "it is no YAML that can be read".to_owned(),
    })?;
    let mut root = match value {
        Value::Null => return Ok(Kubeconfig::default()),
        Value::Object(root) => root,
        _ => return Err("it is no YAML mapping".to_owned()),
    };
    root.retain(|_, value| !value.is_null());
    check_kind(&root)?;
    for (list, entry) in [("clusters", "cluster"), ("contexts", "context"), ("users", "user")] {
        normalize(&mut root, list, entry)?;
    }
    if root.get("current-context").is_some_and(|name| name == "") {
        root.remove("current-context");
    }
    serde_json::from_value(Value::Object(root)).map_err(|error| wrong_type(&error))
}

/// The words of the JSON library name the value, which may be a token.
fn wrong_type(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("a value in it has the wrong type: expected {expected}"),
        None => "a value in it has the wrong type".to_owned(),
    }
}

fn check_kind(root: &Map<String, Value>) -> Result<(), String> {
    for (key, wanted) in [("kind", "Config"), ("apiVersion", "v1")] {
        if let Some(found) = root.get(key).filter(|found| *found != wanted && *found != "") {
            return Err(format!("its {key} is {found}, not {wanted}"));
        }
    }
    Ok(())
}

/// What is absent, null or empty is one for kubectl. Two entries with one name are an error.
fn normalize(root: &mut Map<String, Value>, list: &str, entry: &str) -> Result<(), String> {
    let Some(Value::Array(entries)) = root.get_mut(list) else { return Ok(()) };
    entries.retain(|found| !found.is_null());
    let mut names = BTreeSet::new();
    for found in entries.iter_mut().filter_map(Value::as_object_mut) {
        let name = found.entry("name").or_insert_with(|| "".into());
        if name.is_null() {
            *name = "".into();
        }
        if let Some(name) = name.as_str()
            && !names.insert(name.to_owned())
        {
            return Err(format!("two of its {list} have the name {name:?}"));
        }
        let fields = found.entry(entry).or_insert_with(|| Value::Object(Map::new()));
        if fields.is_null() {
            *fields = Value::Object(Map::new());
        }
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|_, value| !value.is_null() && *value != "");
            if entry == "context" {
                fields.entry("cluster").or_insert_with(|| "".into());
            }
            if let Some(exec) = fields.get_mut("exec").and_then(Value::as_object_mut) {
                normalize_exec(exec);
            }
            for data in ["certificate-authority-data", "client-certificate-data", "client-key-data"] {
                if let Some(Value::String(text)) = fields.get_mut(data) {
                    // Go's decoder of base64 passes over line breaks, and over nothing else.
                    text.retain(|character| !matches!(character, '\n' | '\r'));
                }
            }
        }
    }
    Ok(())
}

fn normalize_exec(exec: &mut Map<String, Value>) {
    exec.retain(|_, value| !value.is_null());
    if exec.get("interactiveMode").is_some_and(|mode| mode == "") {
        exec.remove("interactiveMode");
    }
    let variables = exec.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten();
    for variable in variables.filter_map(Value::as_object_mut) {
        variable.retain(|_, value| !value.is_null());
        variable.entry("value").or_insert_with(|| "".into());
    }
}

/// Makes the files that are named relative to the kubeconfig absolute (`ResolvePaths` there). A command is one when it has a separator.
fn make_absolute(kubeconfig: &mut Kubeconfig, path: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let clusters = kubeconfig.clusters.iter_mut().filter_map(|entry| entry.cluster.as_mut());
    let users = kubeconfig.auth_infos.iter_mut().filter_map(|entry| entry.auth_info.as_mut());
    for reference in clusters.flat_map(cluster_files).chain(users.flat_map(user_files)) {
        if Path::new(reference.as_str()).is_relative() {
            let joined = clean(&folder.join(reference.as_str()));
            let text = joined
                .to_str()
                .ok_or_else(|| format!("{} names files relative to its folder, whose path is no UTF-8", path.display()))?;
            *reference = text.to_owned();
        }
    }
    Ok(())
}

fn cluster_files(cluster: &mut Cluster) -> impl Iterator<Item = &mut String> {
    cluster.certificate_authority.iter_mut()
}

fn user_files(user: &mut AuthInfo) -> impl Iterator<Item = &mut String> {
    let command = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
    let command = command.filter(|command| command.contains(std::path::MAIN_SEPARATOR));
    let files = [&mut user.client_certificate, &mut user.client_key, &mut user.token_file];
    files.into_iter().flatten().chain(command)
}

/// A path without `..`, by its text alone, as Go's `filepath.Join` gives it: where a folder is a link, the file system goes elsewhere.
fn clean(path: &Path) -> PathBuf {
    if !path.components().any(|component| component == Component::ParentDir) {
        return path.to_owned();
    }
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            cleaned.pop();
        } else {
            cleaned.push(component);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests;
