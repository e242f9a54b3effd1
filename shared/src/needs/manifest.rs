//! Needs as RBAC objects, to be read by people and applied by kubectl.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Necessity, Needs, Permission};

/// Verbs by API group and resource.
type Verbs<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a str>>;

/// A ClusterRole for what is needed everywhere, a Role for each namespace, and the notes as comments before them.
pub(super) fn manifest(needs: &Needs, name: &str) -> String {
    let mut by_namespace: BTreeMap<Option<&str>, Vec<(&Permission, Necessity)>> = BTreeMap::new();
    for (permission, necessity) in needs.permissions() {
        by_namespace.entry(permission.namespace.as_deref()).or_default().push((permission, necessity));
    }
    let mut text: String = needs.notes.iter().map(|note| format!("# {note}\n")).collect();
    if by_namespace.is_empty() {
        text.push_str("# Nothing is asked of an API server.\n");
    }
    let roles: Vec<String> = by_namespace.iter().map(|(namespace, permissions)| role(*namespace, permissions, name)).collect();
    text.push_str(&roles.join("---\n"));
    text
}

fn role(namespace: Option<&str>, permissions: &[(&Permission, Necessity)], name: &str) -> String {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let mut text = format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n");
    if let Some(namespace) = namespace {
        line(&mut text, format_args!("  namespace: {namespace}"));
    }
    text.push_str("rules:\n");
    rules(&mut text, permissions, Necessity::Required);
    if permissions.iter().any(|(_, necessity)| *necessity == Necessity::Optional) {
        line(&mut text, format_args!("# The command can do without these, and says what it misses then."));
    }
    rules(&mut text, permissions, Necessity::Optional);
    text
}

/// The rules of one necessity. Resources of one group that need the same verbs share a rule.
fn rules(text: &mut String, permissions: &[(&Permission, Necessity)], necessity: Necessity) {
    let mut verbs: Verbs<'_> = BTreeMap::new();
    for (permission, _) in permissions.iter().filter(|(_, its)| *its == necessity) {
        verbs.entry((&permission.on.group, &permission.on.resource)).or_default().push(permission.verb);
    }
    let mut shared: BTreeMap<(&str, &[&str]), Vec<String>> = BTreeMap::new();
    for ((group, resource), verbs) in &verbs {
        // A bare asterisk is an alias in YAML.
        let resource = if resource.contains('*') { format!("{resource:?}") } else { (*resource).to_owned() };
        shared.entry((*group, verbs.as_slice())).or_default().push(resource);
    }
    for ((group, verbs), resources) in shared {
        line(text, format_args!("- apiGroups: [{group:?}]"));
        line(text, format_args!("  resources: [{}]", resources.join(", ")));
        line(text, format_args!("  verbs: [{}]", verbs.join(", ")));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Resource;

    #[test]
    fn resources_that_need_the_same_verbs_share_a_rule_and_wishes_stand_apart() {
        let needs = Needs::default()
            .note("A note.")
            .require(None, [Resource::Pods, Resource::Namespaces], &["list"])
            .require(Some("shop"), [("", "pods/eviction")], &["create"])
            .prefer(None, [("networking.istio.io", "*")], &["list"]);
        let expected = "\
# A note.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: x
rules:
- apiGroups: [\"\"]
  resources: [namespaces, pods]
  verbs: [list]
# The command can do without these, and says what it misses then.
- apiGroups: [\"networking.istio.io\"]
  resources: [\"*\"]
  verbs: [list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: x
  namespace: shop
rules:
- apiGroups: [\"\"]
  resources: [pods/eviction]
  verbs: [create]
";
        assert_eq!(needs.manifest("x"), expected);
    }

    #[test]
    fn no_need_is_no_role() {
        assert_eq!(Needs::default().manifest("x"), "# Nothing is asked of an API server.\n");
    }
}
