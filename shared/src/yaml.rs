//! YAML as Kubernetes reads it: what sigs.k8s.io/yaml makes of it on the way to JSON. That is YAML 1.1 in what a scalar
//! stands for, the last of equal keys counts, and aliases are followed up to a limit.

mod reader;
mod scalar;
mod source;

use std::fmt;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use reader::{Member, Reader};
pub(crate) use source::LARGEST_OBJECT;

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenYaml {
    /// The line of the fault, counted from 1; `None` when the fault is not in the text.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
    /// Whether the line has `{{`, as templates have that nobody rendered.
    pub is_template: bool,
}

impl BrokenYaml {
    /// What is wrong, for those who name the line themselves.
    pub fn what(&self) -> String {
        let template = if self.is_template { ": the line has {{, so this is a template that was not rendered" } else { "" };
        format!("{}{template}", self.why)
    }
}

impl fmt::Display for BrokenYaml {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        formatter.write_str(&self.what())
    }
}

impl std::error::Error for BrokenYaml {}

impl From<BrokenYaml> for io::Error {
    fn from(broken: BrokenYaml) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, broken)
    }
}

/// The first document of a text, as `yaml.Unmarshal` takes it; null where there is none.
///
/// # Errors
/// When it is no YAML.
pub fn value(text: &str) -> Result<Value, BrokenYaml> {
    Ok(Reader::new(text.as_bytes()).document()?.map_or(Value::Null, |(value, _)| value))
}

/// The first document of a text as a type of its own.
///
/// # Errors
/// When it is no YAML, or is shaped otherwise.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, BrokenYaml> {
    shaped(value(text)?)
}

fn shaped<T: DeserializeOwned>(value: Value) -> Result<T, BrokenYaml> {
    serde_json::from_value(value).map_err(|error| BrokenYaml { line: None, why: error.to_string(), is_template: false })
}

/// The only document of a text that somebody wrote for us, as a type of its own: nothing in it may be overlooked, so a second
/// document or a key that stands twice is refused.
///
/// # Errors
/// Also when it is no YAML, or is shaped otherwise.
pub fn parse_whole<T: DeserializeOwned>(text: &str) -> Result<T, BrokenYaml> {
    let mut reader = Reader::new(text.as_bytes()).refusing_double_keys();
    let value = reader.document()?.map_or(Value::Null, |(value, _)| value);
    match reader.document()? {
        Some((more, line)) if !more.is_null() => {
            Err(BrokenYaml { line: Some(line), why: "a second document begins here".to_owned(), is_template: false })
        }
        _ => shaped(value),
    }
}

/// As YAML that kubectl and we read as the same: what looks like anything but text is quoted, by the rules of YAML 1.1 too.
///
/// # Errors
/// For what is no document: a map whose keys are no texts.
pub fn text(document: &impl Serialize) -> Result<String, String> {
    serde_saphyr::to_string(document).map_err(|error| error.to_string())
}

/// A document, and the line on which it begins, counted from 1.
pub type Document = (Value, usize);

/// All documents of a text, the first that is no YAML as the last. A document without content is null.
pub fn documents(text: &str) -> impl Iterator<Item = Result<Document, BrokenYaml>> {
    let mut reader = Some(Reader::new(text.as_bytes()));
    std::iter::from_fn(move || {
        let document = reader.as_mut()?.document().transpose();
        if !matches!(document, Some(Ok(_))) {
            reader = None;
        }
        document
    })
}
