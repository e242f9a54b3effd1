//! The webhook of a tag, made from a revision's live injector, and the injector without a revision, which gives way to
//! the `default` tag.
//!
//! What Istio's charts render (manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml and
//! revision-tags-mwc.yaml) is known here only as far as nothing live can tell it; everything else, such as the terms that
//! a platform adds to selectors, is taken from the revision's own webhook.

use serde_json::{Map, Value, json};

use super::DEFAULT;
use crate::advice::Command;
use crate::control_plane::UNREVISIONED;
use crate::installation::{annotation, label, name};
use crate::labels;
use crate::refusal::Refusal;

/// The end of the name of every entry that injects.
const SUFFIX: &str = "sidecar-injector.istio.io";
/// Entries by the beginning of their names.
const BY_REVISION_OF_NAMESPACE: &str = "rev.namespace.";
const BY_REVISION_OF_POD: &str = "rev.object.";
const BY_INJECTION_OF_NAMESPACE: &str = "namespace.";
const BY_INJECTION_OF_POD: &str = "object.";
const WITHOUT_ASKING: &str = "auto.";

/// The entries of a tag's webhook, and what could not be taken over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entries {
    pub(super) entries: Vec<Value>,
    pub(super) notes: Vec<String>,
}

/// The entries that `tag` needs to ask the revision of `canonical`. `present` is whatever serves the default now: it
/// says whether namespaces are injected without asking.
pub(super) fn entries(canonical: &Value, tag: &str, present: &[&Value]) -> Result<Entries, Refusal> {
    let revision = label(canonical, labels::REVISION).unwrap_or(UNREVISIONED);
    let active = reactivated_entries(canonical);
    let mut result = Entries::default();
    let mut by_revision = Vec::new();
    for entry in &active {
        let entry_name = entry["name"].as_str().unwrap_or_default();
        if names_revision(entry, revision) {
            by_revision.push(with_tag(entry, revision, tag));
        } else if !entry_name.ends_with(SUFFIX) {
            let note = format!("the entry {entry_name} of {} names no revision; the tag does without it", name(canonical));
            result.notes.push(note);
        }
    }
    let find = |prefix: &str| by_revision.iter().find(|entry| prefix_of(entry) == prefix);
    let (Some(of_namespace), Some(of_pod)) = (find(BY_REVISION_OF_NAMESPACE), find(BY_REVISION_OF_POD)) else {
        if by_revision.is_empty() || tag == DEFAULT {
            let reason = format!(
                "the injector {} of revision {revision} has no entries for {}={revision}, so none can be made for a tag",
                name(canonical),
                labels::REVISION
            );
            return Err(Refusal::new(
                reason,
                Command::kubectl("get mutatingwebhookconfiguration").value(name(canonical)).words("-o yaml"),
            ));
        }
        result.entries = by_revision;
        return Ok(result);
    };
    if tag == DEFAULT {
        let live = |prefix: &str| active.iter().find(|entry| prefix_of(entry) == prefix).cloned();
        let of_injection = live(BY_INJECTION_OF_NAMESPACE).unwrap_or_else(|| enabled_namespaces(of_namespace));
        let of_asking_pods = live(BY_INJECTION_OF_POD).unwrap_or_else(|| asking_pods(of_pod));
        let without_asking = live(WITHOUT_ASKING).or_else(|| {
            let serves = |webhook: &&Value| entries_of(webhook).any(|entry| prefix_of(entry) == WITHOUT_ASKING);
            let model = present.iter().find(|webhook| serves(webhook))?;
            let model = reactivated_entries(model).into_iter().find(|entry| prefix_of(entry) == WITHOUT_ASKING)?;
            // Whom it selects stays as it is, who answers changes.
            let mut entry = of_namespace.clone();
            for field in ["name", "namespaceSelector", "objectSelector"] {
                entry[field] = model[field].clone();
            }
            Some(entry)
        });
        result.entries = by_revision.clone();
        result.entries.extend([of_injection, of_asking_pods]);
        result.entries.extend(without_asking);
    } else {
        result.entries = by_revision;
    }
    Ok(result)
}

/// All entries of a configuration.
pub(super) fn entries_of(webhook: &Value) -> impl Iterator<Item = &Value> {
    webhook["webhooks"].as_array().into_iter().flatten()
}

fn prefix_of(entry: &Value) -> &str {
    entry["name"].as_str().and_then(|name| name.strip_suffix(SUFFIX)).unwrap_or_default()
}

/// Whether one of its selectors asks for the revision by label.
fn names_revision(entry: &Value, revision: &str) -> bool {
    ["namespaceSelector", "objectSelector"].iter().any(|selector| {
        let selector = &entry[*selector];
        let is_value = |value: &Value| value == revision;
        let in_expression = selector["matchExpressions"].as_array().into_iter().flatten().any(|term| {
            term["key"] == labels::REVISION
                && term["operator"] == "In"
                && term["values"].as_array().is_some_and(|values| values.iter().any(is_value))
        });
        in_expression || is_value(&selector["matchLabels"][labels::REVISION])
    })
}

fn with_tag(entry: &Value, revision: &str, tag: &str) -> Value {
    let mut entry = entry.clone();
    for selector in ["namespaceSelector", "objectSelector"] {
        let terms = entry[selector]["matchExpressions"].as_array_mut().into_iter().flatten();
        for term in terms.filter(|term| term["key"] == labels::REVISION && term["operator"] == "In") {
            term["values"] = json!([tag]);
        }
        if entry[selector]["matchLabels"][labels::REVISION] == revision {
            entry[selector]["matchLabels"][labels::REVISION] = tag.into();
        }
    }
    entry
}

/// `istio-injection=enabled`, with what the platform demands of namespaces and pods besides.
fn enabled_namespaces(of_namespace: &Value) -> Value {
    let mut entry = renamed(of_namespace, BY_INJECTION_OF_NAMESPACE);
    let own = [labels::REVISION, labels::INJECTION];
    entry["namespaceSelector"] = with_terms(
        &of_namespace["namespaceSelector"],
        &own,
        json!([{"key": labels::INJECTION, "operator": "In", "values": ["enabled"]}]),
    );
    entry
}

/// `sidecar.istio.io/inject=true` on a pod, where neither pod nor namespace say more.
fn asking_pods(of_pod: &Value) -> Value {
    let mut entry = renamed(of_pod, BY_INJECTION_OF_POD);
    let absent = |key: &str| json!({"key": key, "operator": "DoesNotExist"});
    entry["namespaceSelector"] = with_terms(
        &of_pod["namespaceSelector"],
        &[labels::REVISION, labels::INJECTION],
        json!([absent(labels::INJECTION), absent(labels::REVISION)]),
    );
    entry["objectSelector"] = with_terms(
        &of_pod["objectSelector"],
        &[labels::REVISION, labels::INJECT],
        json!([{"key": labels::INJECT, "operator": "In", "values": ["true"]}, absent(labels::REVISION)]),
    );
    entry
}

fn renamed(entry: &Value, prefix: &str) -> Value {
    let mut entry = entry.clone();
    entry["name"] = format!("{prefix}{SUFFIX}").into();
    entry
}

/// A selector without its terms about `own` keys, and with these instead.
fn with_terms(selector: &Value, own: &[&str], terms: Value) -> Value {
    let is_own = |key: &str| own.contains(&key);
    let others = selector["matchExpressions"].as_array().into_iter().flatten();
    let others = others.filter(|term| !is_own(term["key"].as_str().unwrap_or_default())).cloned();
    let mut terms: Vec<Value> = terms.as_array().cloned().unwrap_or_default();
    terms.extend(others);
    let mut result = json!({"matchExpressions": terms});
    if let Some(equal) = selector["matchLabels"].as_object() {
        let equal: Map<String, Value> =
            equal.iter().filter(|(key, _)| !is_own(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        if !equal.is_empty() {
            result["matchLabels"] = Value::Object(equal);
        }
    }
    result
}

/// Whether an entry was made to select nothing (istioctl/pkg/tag/util.go, `DeactivateIstioInjectionWebhook`).
pub(super) fn is_deactivated(entry: &Value) -> bool {
    ["namespaceSelector", "objectSelector"]
        .iter()
        .any(|selector| entry[*selector]["matchLabels"].get(labels::DEACTIVATED).is_some())
}

/// The name of the condition under which an injector leaves alone what another one has injected.
const YIELDS: &str = "not-injected.mesh.kubectl";

/// The injector without a revision, leaving alone what another one has injected before it. For as long as both it and the
/// `default` tag select the same pods: two releases of Istio that inject one pod may make a pod that the API server refuses,
/// one with the proxy as a native sidecar and the other not.
///
/// Webhooks are called in the order of their names and see what those before them have made of the pod, so the tag's
/// (`istio-revision-tag-default`) comes first. API servers before 1.28 know no conditions and leave them out.
pub(super) fn yielding(webhook: &Value) -> Value {
    let mut webhook = freed(webhook);
    let condition = json!({
        "name": YIELDS,
        "expression": format!("!has(object.metadata.annotations) || !('{}' in object.metadata.annotations)", labels::STATUS),
    });
    let entries = webhook["webhooks"].as_array_mut().into_iter().flatten();
    for entry in entries.filter(|entry| !is_deactivated(entry)) {
        match entry.get_mut("matchConditions").and_then(Value::as_array_mut) {
            Some(conditions) => conditions.push(condition.clone()),
            None => entry["matchConditions"] = json!([condition]),
        }
    }
    webhook
}

/// The same without that condition.
pub(super) fn freed(webhook: &Value) -> Value {
    let mut webhook = webhook.clone();
    for entry in webhook["webhooks"].as_array_mut().into_iter().flatten() {
        let Some(conditions) = entry.get_mut("matchConditions").and_then(Value::as_array_mut) else { continue };
        conditions.retain(|condition| condition["name"] != YIELDS);
        if conditions.is_empty() {
            entry.as_object_mut().map(|fields| fields.remove("matchConditions"));
        }
    }
    webhook
}

/// Whether an injector carries that condition.
pub(super) fn is_yielding(webhook: &Value) -> bool {
    freed(webhook) != *webhook
}

/// The injector without a revision, selecting nothing any more; its selectors are kept in an annotation.
pub(super) fn deactivated(webhook: &Value) -> Value {
    let webhook = &freed(webhook);
    let kept: Vec<Value> = entries_of(webhook)
        .filter(|entry| !is_deactivated(entry))
        .map(|entry| {
            json!({"name": entry["name"], "namespaceSelector": entry["namespaceSelector"], "objectSelector": entry["objectSelector"]})
        })
        .collect();
    if kept.is_empty() {
        return webhook.clone();
    }
    let mut webhook = webhook.clone();
    webhook["metadata"]["annotations"][labels::SELECTORS] = Value::Array(kept).to_string().into();
    let never = json!({"matchLabels": {labels::DEACTIVATED: "never-match"}});
    for entry in webhook["webhooks"].as_array_mut().into_iter().flatten() {
        entry["namespaceSelector"] = never.clone();
        entry["objectSelector"] = never.clone();
    }
    webhook
}

/// The injector without a revision as it was before it was deactivated: from our annotation, else as Istio renders it.
pub(super) fn reactivated(webhook: &Value) -> Value {
    let mut result = webhook.clone();
    result["webhooks"] = Value::Array(reactivated_entries(webhook));
    if let Some(annotations) = result["metadata"]["annotations"].as_object_mut() {
        annotations.remove(labels::SELECTORS);
    }
    result
}

fn reactivated_entries(webhook: &Value) -> Vec<Value> {
    let kept: Vec<Value> =
        annotation(webhook, labels::SELECTORS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let revision = label(webhook, labels::REVISION).unwrap_or(UNREVISIONED);
    let restore = |entry: &Value| -> Value {
        if !is_deactivated(entry) {
            return entry.clone();
        }
        let selectors = kept.iter().find(|kept| kept["name"] == entry["name"]).cloned();
        let selectors = selectors.or_else(|| rendered_selectors(prefix_of(entry), revision));
        let Some(selectors) = selectors else { return entry.clone() };
        let mut entry = entry.clone();
        for field in ["namespaceSelector", "objectSelector"] {
            entry[field] = selectors[field].clone();
        }
        entry
    };
    entries_of(webhook).map(restore).collect()
}

/// The selectors that Istio's chart renders for an entry.
fn rendered_selectors(prefix: &str, revision: &str) -> Option<Value> {
    let term = |key: &str, operator: &str, values: &[&str]| {
        if values.is_empty() {
            json!({"key": key, "operator": operator})
        } else {
            json!({"key": key, "operator": operator, "values": values})
        }
    };
    let absent = |key: &str| term(key, "DoesNotExist", &[]);
    let not_refused = term(labels::INJECT, "NotIn", &["false"]);
    let neither = [absent(labels::INJECTION), absent(labels::REVISION)];
    let (namespaces, pods) = match prefix {
        BY_REVISION_OF_NAMESPACE => {
            (vec![term(labels::REVISION, "In", &[revision]), absent(labels::INJECTION)], vec![not_refused])
        }
        BY_REVISION_OF_POD => (neither.to_vec(), vec![not_refused, term(labels::REVISION, "In", &[revision])]),
        BY_INJECTION_OF_NAMESPACE => (vec![term(labels::INJECTION, "In", &["enabled"])], vec![not_refused]),
        BY_INJECTION_OF_POD => (neither.to_vec(), vec![term(labels::INJECT, "In", &["true"]), absent(labels::REVISION)]),
        WITHOUT_ASKING => {
            let ignored = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
            let mut namespaces = neither.to_vec();
            namespaces.push(term("kubernetes.io/metadata.name", "NotIn", &ignored));
            (namespaces, vec![absent(labels::INJECT), absent(labels::REVISION)])
        }
        _ => return None,
    };
    Some(json!({"namespaceSelector": {"matchExpressions": namespaces}, "objectSelector": {"matchExpressions": pods}}))
}

/// What an object of a revision hands on to a tag of it: its labels, but for those by which an installer, a Helm release or
/// a GitOps tool finds what is its own. A tag outlives the release of the revision that it was made from.
pub(super) fn inherited_labels(canonical: &Value) -> Map<String, Value> {
    let foreign = [
        "operator.istio.io",
        "argocd.argoproj.io",
        "fluxcd.io",
        "kubernetes.azure.com/",
        "addonmanager.kubernetes.io",
        "helm.sh/",
    ];
    let of_release = ["release", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"];
    let is_foreign = |key: &str| foreign.iter().any(|part| key.contains(part)) || of_release.contains(&key);
    let labels = canonical["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.into_iter().filter(|(key, _)| !is_foreign(key)).collect()
}

/// Takes over what has changed between two states of the revision's injector, and leaves alone what somebody else wrote
/// into the tag's webhook: for each field of each entry, `new` where the live one is as `old`, else the live one.
///
/// Who answers is never left alone: it is what a tag is about.
pub(super) fn merged(live: &[Value], old: &[Value], new: &[Value]) -> Entries {
    let find = |entries: &[Value], name: &Value| entries.iter().find(|entry| entry["name"] == *name).cloned();
    let mut result = Entries::default();
    for wanted in new {
        let name = wanted["name"].as_str().unwrap_or_default();
        let Some(live) = find(live, &wanted["name"]) else {
            // Entries of the default tag may be new; one that somebody took out stays out.
            if find(old, &wanted["name"]).is_some() {
                result.notes.push(format!("somebody removed the entry {name} from the tag's webhook: it stays removed"));
            } else {
                result.entries.push(wanted.clone());
            }
            continue;
        };
        let old = find(old, &wanted["name"]).unwrap_or_else(|| wanted.clone());
        let mut entry = wanted.clone();
        let mut fields: Vec<&String> = live.as_object().into_iter().chain(wanted.as_object()).flat_map(Map::keys).collect();
        fields.sort();
        fields.dedup();
        for field in fields.into_iter().filter(|field| *field != "clientConfig") {
            if !equal(&live[field.as_str()], &old[field.as_str()]) && !equal(&live[field.as_str()], &wanted[field.as_str()]) {
                result.notes.push(format!("somebody changed {field} of the entry {name} in the tag's webhook: it is kept"));
                entry[field.as_str()] = live[field.as_str()].clone();
            }
        }
        result.entries.push(entry);
    }
    for entry in live.iter().filter(|entry| find(new, &entry["name"]).is_none()) {
        let name = entry["name"].as_str().unwrap_or_default();
        if find(old, &entry["name"]).is_none() {
            result.notes.push(format!("somebody added the entry {name} to the tag's webhook: it is kept"));
            let mut entry = entry.clone();
            // One more way to be injected moves with the tag; what calls somebody else goes on calling them.
            let calls = |other: &Value| ["service", "url"].map(|field| other["clientConfig"][field].clone());
            let is_injecting = live.iter().any(|known| find(new, &known["name"]).is_some() && calls(known) == calls(&entry));
            if let (true, Some(answers)) = (is_injecting, new.first()) {
                entry["clientConfig"] = answers["clientConfig"].clone();
            }
            result.entries.push(entry);
        }
    }
    result
}

/// Equal but for the order of a selector's terms, which means nothing.
fn equal(one: &Value, other: &Value) -> bool {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect(),
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(sorted).collect();
                items.sort_by_key(Value::to_string);
                Value::Array(items)
            }
            other => other.clone(),
        }
    }
    sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(prefix: &str, revision: &str, service: &str) -> Value {
        let mut entry = rendered_selectors(prefix, revision).unwrap();
        entry["name"] = format!("{prefix}{SUFFIX}").into();
        entry["clientConfig"] = json!({"service": {"name": service}, "caBundle": "Q0E="});
        entry["timeoutSeconds"] = 10.into();
        entry
    }

    fn revision(name: &str) -> Value {
        let mut entries = vec![entry("rev.namespace.", name, "istiod-x"), entry("rev.object.", name, "istiod-x")];
        // As on AKS: a term that no chart of Istio's has.
        let managed = json!({"key": "kubernetes.azure.com/managedby", "operator": "NotIn", "values": ["aks"]});
        for entry in &mut entries {
            entry["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap().push(managed.clone());
        }
        json!({"metadata": {"name": format!("istio-sidecar-injector-{name}"), "labels": {labels::REVISION: name}}, "webhooks": entries})
    }

    fn unrevisioned() -> Value {
        let prefixes = ["rev.namespace.", "rev.object.", "namespace.", "object."];
        let entries: Vec<Value> = prefixes.iter().map(|prefix| entry(prefix, "default", "istiod")).collect();
        json!({"metadata": {"name": "istio-sidecar-injector", "labels": {labels::REVISION: "default"}}, "webhooks": entries})
    }

    fn names(entries: &[Value]) -> Vec<&str> {
        entries.iter().map(prefix_of).collect()
    }

    #[test]
    fn an_injector_that_gives_way_keeps_its_own_conditions() {
        let own = json!({"name": "own", "expression": "true"});
        let webhook = json!({
            "metadata": {"labels": {labels::REVISION: "default"}},
            "webhooks": [{"name": "a.sidecar-injector.istio.io"}, {"name": "b.sidecar-injector.istio.io", "matchConditions": [own]}],
        });
        let gives_way = yielding(&webhook);
        let names = |entry: usize| -> Vec<&str> {
            let conditions = gives_way["webhooks"][entry]["matchConditions"].as_array().into_iter().flatten();
            conditions.filter_map(|condition| condition["name"].as_str()).collect()
        };
        assert_eq!((names(0), names(1)), (vec![YIELDS], vec!["own", YIELDS]));
        assert!(is_yielding(&gives_way) && !is_yielding(&webhook));
        assert_eq!(yielding(&gives_way), gives_way, "once is enough");
        assert_eq!(freed(&gives_way), webhook);
        let off = deactivated(&gives_way);
        assert!(!is_yielding(&off) && yielding(&off) == off, "who selects nothing has nothing to leave alone");
        assert_eq!(freed(&reactivated(&off))["webhooks"][1]["matchConditions"], json!([own]));
    }

    #[test]
    fn a_tag_asks_for_itself_and_keeps_the_platforms_terms() {
        let entries = entries(&revision("x"), "prod", &[]).unwrap().entries;
        assert_eq!(names(&entries), ["rev.namespace.", "rev.object."]);
        let terms = entries[0]["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        assert_eq!(terms[0], json!({"key": "istio.io/rev", "operator": "In", "values": ["prod"]}));
        assert_eq!(terms[2]["key"], "kubernetes.azure.com/managedby");
        assert_eq!(entries[1]["clientConfig"]["service"]["name"], "istiod-x");
    }

    #[test]
    fn the_default_tag_of_a_named_revision_answers_for_the_injection_label_too() {
        let result = entries(&revision("x"), "default", &[]).unwrap().entries;
        assert_eq!(names(&result), ["rev.namespace.", "rev.object.", "namespace.", "object."]);
        let terms = result[2]["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        assert_eq!(terms[0]["values"], json!(["enabled"]));
        assert_eq!(terms[1]["key"], "kubernetes.azure.com/managedby");
        // Namespaces that are injected without asking stay so.
        let mut present = unrevisioned();
        present["webhooks"].as_array_mut().unwrap().push(entry("auto.", "default", "istiod"));
        let result = entries(&revision("x"), "default", &[&present]).unwrap().entries;
        assert_eq!(names(&result).last(), Some(&"auto."));
        assert_eq!(result.last().unwrap()["clientConfig"]["service"]["name"], "istiod-x");
    }

    #[test]
    fn deactivation_can_be_undone() {
        let before = unrevisioned();
        let after = deactivated(&before);
        assert!(entries_of(&after).all(is_deactivated));
        let back = reactivated(&after);
        assert_eq!(back["webhooks"], before["webhooks"]);
        assert_eq!(back["metadata"]["annotations"], json!({}));
        // Deactivated by istioctl, which keeps nothing: as Istio renders it.
        let mut by_istioctl = after.clone();
        by_istioctl["metadata"]["annotations"] = json!({});
        assert_eq!(reactivated(&by_istioctl)["webhooks"], before["webhooks"]);
        // A second time there is nothing to do, and nothing is forgotten.
        assert_eq!(deactivated(&after), after);
        // A tag is made from what it was.
        assert_eq!(entries(&after, "prod", &[]).unwrap(), entries(&before, "prod", &[]).unwrap());
    }

    #[test]
    fn an_injector_without_known_entries_is_refused() {
        let mut odd = revision("x");
        odd["webhooks"] = json!([{"name": "other.example.com", "clientConfig": {}}]);
        let refusal = entries(&odd, "prod", &[]).unwrap_err();
        assert!(refusal.reason.contains("istio-sidecar-injector-x"), "{refusal:?}");
    }

    #[test]
    fn an_entry_that_somebody_added_moves_only_if_it_injects() {
        let old = entries(&revision("x"), "prod", &[]).unwrap().entries;
        let mut new = old.clone();
        new.iter_mut().for_each(|entry| entry["clientConfig"]["service"]["name"] = "istiod-y".into());
        let mut live = old.clone();
        let mut injecting = old[0].clone();
        injecting["name"] = "more.sidecar-injector.istio.io".into();
        live.push(injecting);
        live.push(json!({"name": "policy.example.com", "clientConfig": {"service": {"name": "policy"}, "caBundle": "UA=="}}));
        let result = merged(&live, &old, &new);
        let calls: Vec<&Value> = result.entries.iter().map(|entry| &entry["clientConfig"]["service"]["name"]).collect();
        assert_eq!(calls, ["istiod-y", "istiod-y", "istiod-y", "policy"]);
        assert_eq!(result.entries[3], live[3]);
        assert_eq!(result.notes.len(), 2, "{:?}", result.notes);
    }

    #[test]
    fn what_somebody_wrote_by_hand_is_kept_and_told() {
        let old = entries(&revision("x"), "prod", &[]).unwrap().entries;
        let mut new = old.clone();
        for entry in &mut new {
            entry["clientConfig"]["service"]["name"] = "istiod-y".into();
            entry["reinvocationPolicy"] = "IfNeeded".into();
        }
        let mut live = old.clone();
        live[0]["timeoutSeconds"] = 3.into();
        live.remove(1);
        let result = merged(&live, &old, &new);
        assert_eq!(result.entries.len(), 1);
        let entry = &result.entries[0];
        assert_eq!((&entry["timeoutSeconds"], &entry["reinvocationPolicy"]), (&json!(3), &json!("IfNeeded")));
        assert_eq!(entry["clientConfig"]["service"]["name"], "istiod-y");
        assert_eq!(result.notes.len(), 2, "{:?}", result.notes);
        assert_eq!(merged(&old, &old, &new), Entries { entries: new, notes: Vec::new() });
    }
}
