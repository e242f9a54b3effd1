//! The variables of a container, with the values that they have in it: `$(NAME)` stands for the value of an earlier one.

use std::collections::HashMap;

use crate::object::Environment;

/// The variables of a container, in their order.
pub(super) struct Variables<'a> {
    values: Vec<(&'a str, Text)>,
    known: HashMap<&'a str, String>,
}

/// A text in which variables are replaced by their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// The text.
    pub(super) text: String,
    /// Whether a part of it comes from elsewhere, or from nowhere: it stands in it as `$(NAME)`.
    pub(super) is_incomplete: bool,
}

impl<'a> Variables<'a> {
    /// Those of a container. A variable may refer to those before it.
    pub(super) fn of(container: &'a Environment) -> Variables<'a> {
        let mut variables = Variables { values: Vec::new(), known: HashMap::new() };
        for variable in &container.env {
            let name = variable.name.as_str();
            if variable.value_from.is_some() {
                variables.known.remove(name);
                continue;
            }
            let text = variables.expanded(&variable.value);
            // Whoever refers to an incomplete one is incomplete too.
            if text.is_incomplete {
                variables.known.remove(name);
            } else {
                variables.known.insert(name, text.text.clone());
            }
            variables.values.push((name, text));
        }
        variables
    }

    /// Names and values of those whose values are given.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &Text)> {
        self.values.iter().map(|(name, text)| (*name, text))
    }

    /// A text as Kubernetes expands it: `$$` is a dollar sign, and what is not known stays as it is
    /// (k8s.io/kubernetes/third_party/forked/golang/expansion/expand.go).
    pub(super) fn expanded(&self, text: &str) -> Text {
        let mut expanded = Text { text: String::with_capacity(text.len()), is_incomplete: false };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                expanded.text.push('$');
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('(').and_then(|after| after.split_once(')')) {
                match self.known.get(name) {
                    Some(value) => expanded.text.push_str(value),
                    None => {
                        expanded.is_incomplete = true;
                        expanded.text.extend(["$(", name, ")"]);
                    }
                }
                rest = after;
            } else {
                expanded.text.push('$');
                rest = after;
            }
        }
        expanded.text.push_str(rest);
        expanded
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let container: Environment = serde_json::from_value(json!({"env": [
            {"name": "EARLY", "value": "$(REV)"},
            {"name": "REV", "value": "1-26-0"},
            {"name": "HOST", "value": "istiod-$(REV).istio-system.svc"},
            {"name": "ADDRESS", "value": "$(HOST):15012"},
            {"name": "ESCAPED", "value": "$$(REV) $REV $"},
            {"name": "ELSEWHERE", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}},
            {"name": "OPEN", "value": "istiod-$(ELSEWHERE).x"},
            {"name": "CHAINED", "value": "$(OPEN):15012"},
        ]}))
        .unwrap();
        let variables = Variables::of(&container);
        let found: Vec<(&str, &str, bool)> =
            variables.iter().map(|(name, text)| (name, text.text.as_str(), text.is_incomplete)).collect();
        let expected = [
            ("EARLY", "$(REV)", true),
            ("REV", "1-26-0", false),
            ("HOST", "istiod-1-26-0.istio-system.svc", false),
            ("ADDRESS", "istiod-1-26-0.istio-system.svc:15012", false),
            ("ESCAPED", "$(REV) $REV $", false),
            ("OPEN", "istiod-$(ELSEWHERE).x", true),
            ("CHAINED", "$(OPEN):15012", true),
        ];
        assert_eq!(found, expected);
        assert_eq!(variables.expanded("--xds=$(ADDRESS)").text, "--xds=istiod-1-26-0.istio-system.svc:15012");
    }
}
