//! Label selectors: the structured kind that objects hold, and the text that `-l` takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::labels::Lookup;
use super::metadata::{StringMap, null_is_default};

/// `metav1.LabelSelector`: all its terms must hold. An empty one selects everything.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[prost(btree_map = "string, string", tag = "1")]
    #[serde(skip_serializing_if = "StringMap::is_empty", deserialize_with = "null_is_default")]
    pub match_labels: StringMap,
    /// Further terms.
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub match_expressions: Vec<Requirement>,
}

/// One term of a selector.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requirement {
    /// Label key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[prost(string, tag = "2")]
    pub operator: String,
    /// Values of `In` and `NotIn`.
    #[prost(string, repeated, tag = "3")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub values: Vec<String>,
}

/// An operator that this version does not know: whether the selector matches cannot be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOperator(pub String);

impl LabelSelector {
    /// Whether the selector has no term at all.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether it selects an object with these labels. A term that fails decides even when another has an operator
    /// that nobody here knows.
    ///
    /// Follows `LabelSelectorAsSelector` (k8s.io/apimachinery, pkg/apis/meta/v1/helpers.go): `NotIn` also matches
    /// objects that lack the key.
    pub fn matches(&self, labels: &impl Lookup) -> Result<bool, UnknownOperator> {
        let equal = self.match_labels.iter().all(|(key, value)| labels.value(key) == Some(value));
        if !equal {
            return Ok(false);
        }
        let mut unknown = None;
        for requirement in &self.match_expressions {
            match requirement.matches(labels) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(operator) => unknown = Some(operator),
            }
        }
        unknown.map_or(Ok(true), Err)
    }
}

impl LabelSelector {
    /// Whether some object could be selected by both. A selector is a conjunction of terms that each look at one key, so
    /// each key can be asked alone; only the values that a term names, any other value, and none can make a difference.
    /// An operator that nobody knows may select anything.
    pub fn overlaps(&self, other: &LabelSelector) -> bool {
        let mut keys: Vec<&str> = self.keys().chain(other.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().all(|key| {
            let values = self.values_of(key).chain(other.values_of(key)).map(Some);
            let mut candidates = values.chain([Some("another value"), None]);
            candidates.any(|value| self.admits(key, value) && other.admits(key, value))
        })
    }

    /// The keys that its terms look at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let of_expressions = self.match_expressions.iter().map(|requirement| requirement.key.as_str());
        self.match_labels.keys().map(String::as_str).chain(of_expressions)
    }

    /// The keys of the terms that do not hold for an object with these labels, each once.
    pub fn failing_keys(&self, labels: &impl Lookup) -> Vec<&str> {
        let mut keys: Vec<&str> = self.keys().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !self.admits(key, labels.value(key)));
        keys
    }

    fn values_of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let of_expressions = self.match_expressions.iter().filter(move |requirement| requirement.key == key);
        let values = of_expressions.flat_map(|requirement| requirement.values.iter().map(String::as_str));
        self.match_labels.get(key).map(String::as_str).into_iter().chain(values)
    }

    /// Whether the terms about one key hold for an object whose label `key` is `value`.
    fn admits(&self, key: &str, value: Option<&str>) -> bool {
        let labels = OneLabel { key, value };
        let equal = self.match_labels.get(key).is_none_or(|wanted| value == Some(wanted));
        let mut terms = self.match_expressions.iter().filter(|requirement| requirement.key == key);
        equal && terms.all(|requirement| requirement.matches(&labels).unwrap_or(true))
    }
}

struct OneLabel<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

impl Lookup for OneLabel<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        self.value.filter(|_| key == self.key)
    }
}

impl Requirement {
    fn matches(&self, labels: &impl Lookup) -> Result<bool, UnknownOperator> {
        let value = labels.value(&self.key);
        let is_among = |value: &str| self.values.iter().any(|candidate| candidate == value);
        match self.operator.as_str() {
            "In" => Ok(value.is_some_and(is_among)),
            "NotIn" => Ok(value.is_none_or(|value| !is_among(value))),
            "Exists" => Ok(value.is_some()),
            "DoesNotExist" => Ok(value.is_none()),
            other => Err(UnknownOperator(other.to_owned())),
        }
    }
}

/// What is wrong with the text of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSelector(String);

impl fmt::Display for InvalidSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unable to parse the label selector: {}", self.0)
    }
}

impl std::error::Error for InvalidSelector {}

impl FromStr for LabelSelector {
    type Err = InvalidSelector;

    /// Parses what kubectl's `-l` takes: terms `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`,
    /// separated by commas.
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let match_expressions = terms(text)?.into_iter().map(parse_requirement).collect::<Result<Vec<_>, _>>()?;
        Ok(LabelSelector { match_labels: StringMap::new(), match_expressions })
    }
}

/// Splits at the commas that stand outside parentheses.
fn terms(text: &str) -> Result<Vec<&str>, InvalidSelector> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut in_set = false;
    for (position, character) in text.char_indices() {
        match character {
            '(' if !in_set => in_set = true,
            ')' if in_set => in_set = false,
            '(' | ')' => return Err(InvalidSelector(format!("unexpected '{character}' in {text:?}"))),
            ',' if !in_set => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    if in_set {
        return Err(InvalidSelector(format!("missing ')' in {text:?}")));
    }
    terms.push(&text[start..]);
    if terms.len() == 1 && terms[0].trim().is_empty() {
        terms.clear();
    }
    Ok(terms)
}

fn parse_requirement(term: &str) -> Result<Requirement, InvalidSelector> {
    let term = term.trim();
    let requirement = |key: &str, operator: &str, values: Vec<String>| {
        let key = key.trim();
        if key.is_empty() || key.contains(|character: char| character.is_whitespace() || "=!()".contains(character)) {
            return Err(InvalidSelector(format!("{term:?} is no term: use key, !key, key=value or key in (a,b)")));
        }
        Ok(Requirement { key: key.to_owned(), operator: operator.to_owned(), values })
    };
    if let Some(set) = term.strip_suffix(')') {
        let (head, values) = set.split_once('(').ok_or_else(|| InvalidSelector(format!("missing '(' in {term:?}")))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => requirement(key, "In", values),
            Some((key, "notin")) => requirement(key, "NotIn", values),
            _ => Err(InvalidSelector(format!("{term:?} needs in or notin before the values"))),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return requirement(key, "NotIn", vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return requirement(key, "In", vec![value.trim().to_owned()]);
    }
    match term.strip_prefix('!') {
        Some(key) => requirement(key, "DoesNotExist", Vec::new()),
        None => requirement(term, "Exists", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> StringMap {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn check(selector: &str, pairs: &[(&str, &str)], expected: bool) {
        let selector: LabelSelector = selector.parse().unwrap();
        assert_eq!(selector.matches(&labels(pairs)), Ok(expected), "{selector:?} on {pairs:?}");
    }

    #[test]
    fn text_selectors_select_as_kubectl_does() {
        check("", &[("a", "1")], true);
        check("a=1", &[("a", "1")], true);
        check("a==1,b", &[("a", "1")], false);
        check("a == 1 , b", &[("a", "1"), ("b", "")], true);
        check("a!=1", &[], true);
        check("a!=1", &[("a", "1")], false);
        check("!a", &[], true);
        check("!a", &[("a", "")], false);
        check("a in (1, 2)", &[("a", "2")], true);
        check("a notin (1,2),b=3", &[("a", "2"), ("b", "3")], false);
        check("a notin (1,2)", &[("b", "3")], true);
        check("a=", &[("a", "")], true);
    }

    #[test]
    fn text_that_is_no_selector_is_refused() {
        for text in ["a in 1,2", "a in (1", "a)", "=1", "a b", "a of (1)", ",a"] {
            assert!(text.parse::<LabelSelector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_false_term_decides_in_spite_of_an_unknown_operator() {
        let unknown = Requirement { key: "a".into(), operator: "Gt".into(), values: vec!["1".into()] };
        let mut selector = LabelSelector { match_expressions: vec![unknown], ..Default::default() };
        assert_eq!(selector.matches(&labels(&[("a", "2")])), Err(UnknownOperator("Gt".into())));
        selector.match_expressions.push(Requirement { key: "b".into(), operator: "Exists".into(), values: vec![] });
        assert_eq!(selector.matches(&labels(&[("a", "2")])), Ok(false));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let selector = LabelSelector {
            match_expressions: vec![Requirement { key: "a".into(), operator: "DoesNotExist".into(), values: vec![] }],
            ..Default::default()
        };
        assert_eq!(selector.matches(&labels(&[("a", "")])), Ok(false));
    }

    #[test]
    fn selectors_overlap_when_some_object_could_have_both() {
        let selector = |text: &str| text.parse::<LabelSelector>().unwrap();
        let cases = [
            ("a=1", "a=2", false),
            ("a=1", "b=2", true),
            ("a in (1,2)", "a in (2,3)", true),
            ("a", "!a", false),
            ("a", "a!=1", true),
            ("a=1", "a notin (1,2)", false),
            ("!a", "a notin (1)", true),
            ("rev=x,!injection", "injection=enabled", false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(selector(one).overlaps(&selector(other)), expected, "{one} and {other}");
            assert_eq!(selector(other).overlaps(&selector(one)), expected, "{other} and {one}");
        }
    }
}
