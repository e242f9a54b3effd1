//! Validators: whoever checks Istio's configuration has to be there, or nobody can write any.

use mesh::advice::{Advice, Command};
use mesh::control_plane::Readiness;
use mesh::finding::{Code, Finding};
use mesh::labels;
use mesh::object::Resource;
use serde_json::Value;

use crate::precheck::facts::{Facts, List, error, info, label, subject, warning};

/// The validator of configuration without a revision (manifests/charts/base and manifests/charts/default of istio/istio).
const DEFAULT: &str = "istiod-default-validator";

/// Validators of Istio before 1.11, which an upgrade left behind.
const LEFT_BEHIND: [&str; 2] = ["istio-galley", "istiod-istio-system"];

/// The configurations that validate Istio's kinds: one of their entries has a rule for a group of Istio's.
fn validators(facts: &Facts) -> impl Iterator<Item = &Value> {
    facts.items(List::ValidatingWebhookConfigurations).iter().filter(|configuration| entries(configuration).any(is_istios))
}

fn entries(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration["webhooks"].as_array().into_iter().flatten()
}

fn is_istios(entry: &Value) -> bool {
    let groups =
        entry["rules"].as_array().into_iter().flatten().flat_map(|rule| rule["apiGroups"].as_array().into_iter().flatten());
    groups.filter_map(Value::as_str).any(|group| group.ends_with(".istio.io"))
}

/// A validator whose Service is gone, or has nobody behind it, refuses every write of what it selects while its failure policy is
/// `Fail` (istio/istio issues 24098, 32143, 60596).
pub fn dangling(facts: &Facts) -> Vec<Finding> {
    validators(facts).flat_map(|configuration| dangling_entries(facts, configuration)).collect()
}

fn dangling_entries(facts: &Facts, configuration: &Value) -> Vec<Finding> {
    let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
    let subject = subject("validatingwebhookconfigurations", configuration);
    let delete = Command::kubectl("delete validatingwebhookconfiguration").value(name);
    let advice = if name == DEFAULT {
        Advice::run(Command::mesh_tag("set default --revision REVISION")).and_say(", to one that is ready, moves it")
    } else if LEFT_BEHIND.contains(&name) {
        Advice::say("an old Istio left it behind: ").and_run(delete)
    } else {
        Advice::say("bring its control plane back, or ").and_run(delete).and_say(" if that is gone for good")
    };
    let mut findings = Vec::new();
    for entry in entries(configuration).filter(|entry| is_istios(entry)) {
        let Some(why) = nobody_answers(facts, entry) else { continue };
        let finding = match (why, entry["failurePolicy"] == "Ignore") {
            (Unanswered::Surely(why), false) => error(
                Code::ValidatorDangling,
                subject.clone(),
                format!("{why}: no configuration that it selects can be written"),
                advice.clone(),
            ),
            (Unanswered::Surely(why), true) => warning(
                Code::ValidatorDangling,
                subject.clone(),
                format!("{why}: configuration is not validated"),
                advice.clone(),
            ),
            (Unanswered::Perhaps(why), _) => {
                error(Code::ValidatorUnknown, subject.clone(), why, "--explain-rbac prints the rules that would tell")
            }
        };
        findings.push(finding);
    }
    findings.dedup();
    findings
}

enum Unanswered {
    Surely(String),
    Perhaps(String),
}

fn nobody_answers(facts: &Facts, entry: &Value) -> Option<Unanswered> {
    let service = &entry["clientConfig"]["service"];
    let (Some(name), Some(namespace)) = (service["name"].as_str(), service["namespace"].as_str()) else {
        // An address elsewhere: nothing of it can be seen.
        return None;
    };
    let has_certificate = entry["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
    let snapshot = &facts.survey.snapshot;
    match snapshot.services.get(&(namespace.to_owned(), name.to_owned())) {
        Some(facts) if facts.is_external => None,
        Some(facts) => match facts.readiness {
            Readiness::Ready if has_certificate => None,
            Readiness::Ready => Some(Unanswered::Surely("it has no certificate to trust its istiod by".to_owned())),
            Readiness::NotReady => Some(Unanswered::Surely(format!("service {namespace}/{name} has no ready pod"))),
            Readiness::Unknown => Some(Unanswered::Perhaps(format!("whether service {namespace}/{name} answers is unknown"))),
        },
        None if snapshot.unread(Resource::Services, namespace).is_some() => {
            Some(Unanswered::Perhaps(format!("whether service {namespace}/{name} is there is unknown")))
        }
        // Services are read where control planes are: where none is, none answers.
        None => Some(Unanswered::Surely(format!("service {namespace}/{name}, which is to answer, is not there"))),
    }
}

/// The command that lets the default tag, and its validator, follow the target.
fn default_to(facts: &Facts) -> Command {
    Command::mesh_tag("set default").flag("--revision", facts.target.revision_name())
}

/// The default validator stays with its revision until it is moved, and dangles when that is removed.
pub fn default_validator(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let default = validators(facts).find(|configuration| configuration["metadata"]["name"] == DEFAULT);
    match default {
        Some(configuration) => {
            let revision = label(configuration, labels::REVISION);
            if revision.is_some() && revision == facts.target.from.as_deref() {
                let message = format!("belongs to revision {}, and would dangle without it", revision.unwrap_or_default());
                let advice = Advice::say("at the end: ").and_run(default_to(facts)).and_say(" moves it");
                findings.push(info(
                    Code::ValidatorToMove,
                    subject("validatingwebhookconfigurations", configuration),
                    message,
                    advice,
                ));
            }
        }
        None if facts.unread().all(|(list, _)| list != List::ValidatingWebhookConfigurations) => {
            let message = "there is none: configuration without a revision's label is not validated";
            // It comes with the tag `default`, which has an effect of its own; and only a revision that is here can be pointed to.
            let revision = facts.target.from.as_deref().filter(|_| !facts.target.is_installed);
            let set =
                revision.map_or_else(|| default_to(facts), |from| Command::mesh_tag("set default").flag("--revision", from));
            let advice = Advice::run(set)
                .and_say(" makes it; that tag also answers for every namespace with istio-injection=enabled: look at them first");
            let subject = format!("validatingwebhookconfigurations/{DEFAULT}");
            findings.push(warning(Code::ValidatorMissing, subject, message, advice));
        }
        None => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Info, Warning};
    use mesh::snapshot::ServiceFacts;
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn validator(revision: &str, policy: &str, bundle: &str) -> Value {
        json!({
            "metadata": {"name": DEFAULT, "labels": {"istio.io/rev": revision}},
            "webhooks": [{
                "failurePolicy": policy,
                "rules": [{"apiGroups": ["networking.istio.io"]}],
                "clientConfig": {"service": {"name": "istiod-x", "namespace": "istio-system"}, "caBundle": bundle},
            }],
        })
    }

    fn facts(validator: Value, readiness: Option<Readiness>) -> Facts {
        let mut facts = sample([(List::ValidatingWebhookConfigurations, vec![validator])]);
        if let Some(readiness) = readiness {
            let service = ServiceFacts { revision: None, readiness, tag: None, is_external: false, has_selector: true };
            facts.survey.snapshot.services.insert(("istio-system".to_owned(), "istiod-x".to_owned()), service);
        }
        facts
    }

    #[test]
    fn a_validator_that_nobody_answers_blocks_while_it_refuses() {
        let found = |policy, readiness| brief(&dangling(&facts(validator("1-26-0", policy, "Cg=="), readiness)));
        assert_eq!(found("Fail", Some(Readiness::Ready)), []);
        assert_eq!(found("Fail", Some(Readiness::NotReady)), [("validator-dangling", Error)]);
        assert_eq!(found("Fail", None), [("validator-dangling", Error)]);
        assert_eq!(found("Ignore", None), [("validator-dangling", Warning)]);
        assert_eq!(found("Fail", Some(Readiness::Unknown)), [("validator-unknown", Error)]);
        let untrusted = facts(validator("1-26-0", "Fail", ""), Some(Readiness::Ready));
        assert_eq!(brief(&dangling(&untrusted)), [("validator-dangling", Error)]);
    }

    #[test]
    fn validators_of_other_kinds_are_nobodys_business() {
        let mut other = validator("1-26-0", "Fail", "");
        other["webhooks"][0]["rules"] = json!([{"apiGroups": ["cert-manager.io"]}]);
        assert_eq!(brief(&dangling(&facts(other, None))), []);
    }

    #[test]
    fn the_default_validator_is_to_move_at_the_end() {
        let found = |revision| brief(&default_validator(&facts(validator(revision, "Fail", "Cg=="), Some(Readiness::Ready))));
        assert_eq!(found("1-26-0"), [("validator-to-move", Info)]);
        assert_eq!(found("1-28-2"), []);
        assert_eq!(brief(&default_validator(&sample([]))), [("validator-missing", Warning)]);
    }
}
