//! Injectors: whether every one is answered, and no pod is asked about twice.

use mesh::advice::{Advice, Command};
use std::collections::BTreeMap;

use mesh::finding::{Code, Finding, Severity};
use mesh::health;
use mesh::injection::lead_to_one_istiod;
use mesh::injector::{Injector, Match};
use mesh::labels;
use mesh::object::{Interner, Labels};

use crate::precheck::facts::{Facts, error};

/// What is wrong with injectors, tags and namespace labels as they are now: see [`mesh::health`].
///
/// A list that was denied blocks: a verdict without it is none.
pub fn health(facts: &Facts) -> Vec<Finding> {
    let found = health::findings(&facts.survey.snapshot).into_iter();
    found
        .map(|finding| match finding.code {
            Code::Forbidden | Code::Unread | Code::Undecodable => Finding { severity: Severity::Error, ..finding },
            _ => finding,
        })
        .collect()
}

/// Several injectors for one pod: each would add a proxy, and the last one wins.
///
/// IST0139 of `istioctl analyze` (pkg/config/analysis/analyzers/webhook/webhook.go) tries made-up labels; here the namespaces' own
/// are tried, with what a pod may say: nothing, `sidecar.istio.io/inject`, or a revision or tag that is here.
pub fn overlap(facts: &Facts) -> Vec<Finding> {
    let snapshot = &facts.survey.snapshot;
    let pods = pods(facts);
    let mut overlaps: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for (namespace, namespace_labels) in &snapshot.namespaces {
        for pod in &pods {
            let matching = snapshot.injectors.iter().filter(|injector| injector.matches(namespace_labels, pod) == Match::Yes);
            let matching: Vec<&Injector> = matching.collect();
            let mut configurations: Vec<&str> = matching.iter().map(|injector| injector.configuration.as_str()).collect();
            configurations.dedup();
            // Of those that lead to one istiod `health` warns.
            if configurations.len() > 1 && !lead_to_one_istiod(snapshot, &matching) {
                let namespaces = overlaps.entry(configurations).or_default();
                if !namespaces.contains(&&**namespace) {
                    namespaces.push(namespace);
                }
            }
        }
    }
    overlaps
        .into_iter()
        .map(|(configurations, namespaces)| {
            let names = configurations.join(" and ");
            let message = format!("{names} both ask for pods in {}: the last one wins", listed(&namespaces));
            let advice = Advice::say("see with ")
                .and_run(Command::kubectl("get mutatingwebhookconfigurations").values(configurations.clone()).words("-o yaml"))
                .and_say(", and let one of them no longer match: a tag's by ")
                .and_run(Command::mesh_tag("remove"))
                .and_say(", the unrevisioned one's by ")
                .and_run(Command::mesh_tag("set default"));
            error(Code::InjectorsOverlap, format!("mutatingwebhookconfigurations/{}", configurations[0]), message, advice)
        })
        .collect()
}

/// What pods may say of injection.
fn pods(facts: &Facts) -> Vec<Labels> {
    let mut interner = Interner::default();
    let mut with =
        |key: &str, value: &str| -> Labels { [(interner.text(key), interner.text(value))].into_iter().collect::<Labels>() };
    let snapshot = &facts.survey.snapshot;
    let mut names: Vec<&str> = snapshot.revisions();
    names.extend(snapshot.tags());
    let mut pods = vec![Labels::default(), with(labels::INJECT, "true")];
    pods.extend(names.into_iter().map(|name| with(labels::REVISION, name)));
    pods
}

/// A few names, and how many more there are.
pub fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// A revision named as a tag is: both would answer for its followers (`istioctl tag set` refuses the same, generate.go).
pub fn shadowed_name(facts: &Facts) -> Vec<Finding> {
    let name = facts.target.revision_name();
    let snapshot = &facts.survey.snapshot;
    if !snapshot.tags().contains(&name.as_str()) {
        return Vec::new();
    }
    let message = "a tag has this name: the injectors of both would answer for its followers";
    vec![error(
        Code::TagShadowsRevision,
        format!("revision {name}"),
        message,
        Advice::run(Command::mesh_tag("remove").value(&name)).and_say(", or another name"),
    )]
}

#[cfg(test)]
mod tests {
    use mesh::object::WebhookConfiguration;
    use mesh::snapshot::{Unread, UnreadCause};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn injectors(name: &str, revision: &str, tag: Option<&str>, value: &str) -> Vec<Injector> {
        let mut configuration = json!({
            "metadata": {"name": name, "labels": {"istio.io/rev": revision}},
            "webhooks": [{
                "name": "rev.namespace.sidecar-injector.istio.io",
                "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system", "path": "/inject"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": [value]}]},
            }],
        });
        if let Some(tag) = tag {
            configuration["metadata"]["labels"]["istio.io/tag"] = tag.into();
        }
        let configuration: WebhookConfiguration = serde_json::from_value(configuration).unwrap();
        Injector::all_of(&configuration)
    }

    fn facts(injectors: Vec<Injector>) -> Facts {
        let mut facts = sample([]);
        let mut interner = Interner::default();
        let labels: Labels = [(interner.text("istio.io/rev"), interner.text("prod"))].into_iter().collect();
        facts.survey.snapshot.namespaces.insert("shop".into(), labels);
        facts.survey.snapshot.injectors = injectors;
        facts
    }

    #[test]
    fn two_injectors_for_one_namespace_block() {
        let tag = injectors("istio-revision-tag-prod", "1-26-0", Some("prod"), "prod");
        assert_eq!(overlap(&facts(tag.clone())), []);
        let twice = [tag.clone(), injectors("istio-sidecar-injector-prod", "prod", None, "prod")].concat();
        let found = overlap(&facts(twice));
        assert_eq!(brief(&found), [("injectors-overlap", Severity::Error)]);
        assert!(found[0].message.contains("pods in shop"), "{found:#?}");
        // The entries of one configuration are one injector.
        assert_eq!(overlap(&facts([tag.clone(), tag].concat())), []);
    }

    #[test]
    fn a_revision_named_as_a_tag_blocks() {
        let mut facts = facts(injectors("istio-revision-tag-prod", "1-26-0", Some("prod"), "prod"));
        assert_eq!(shadowed_name(&facts), []);
        facts.target.revision = Some("prod".to_owned());
        assert_eq!(brief(&shadowed_name(&facts)), [("tag-shadows-revision", Severity::Error)]);
    }

    #[test]
    fn a_list_of_the_snapshot_that_was_denied_blocks() {
        let mut facts = sample([]);
        let resource = mesh::object::Resource::MutatingWebhookConfigurations;
        facts.survey.snapshot.unread.push(Unread { resource, namespace: None, cause: UnreadCause::Forbidden });
        facts.survey.snapshot.findings.push(Finding {
            severity: Severity::Warning,
            code: Code::Forbidden,
            subject: resource.to_string(),
            message: "listing it is denied".to_owned(),
            advice: Advice::none(),
        });
        assert_eq!(brief(&health(&facts)), [("forbidden", Severity::Error)]);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert_eq!(listed(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
