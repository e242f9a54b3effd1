//! Injectors: the webhook entries that put proxies into pods. What an entry selects is read from its live selectors,
//! never from its name.

use std::fmt;

use crate::labels;
use crate::object::{
    LabelSelector, Lookup, MatchCondition, Rule, ServiceReference, UnknownOperator, Webhook, WebhookConfiguration,
};

/// The end of the name of every injector's entry. istiod recognises its entries by it
/// (pkg/webhooks/webhookpatch.go), and so do we.
const ENTRY_SUFFIX: &str = "sidecar-injector.istio.io";

/// One entry of a MutatingWebhookConfiguration that injects.
#[derive(Clone, Debug, PartialEq)]
pub struct Injector {
    /// Name of the configuration.
    pub configuration: String,
    /// Name of the entry.
    pub entry: String,
    /// The revision that the configuration's label names.
    pub revision: Option<String>,
    /// The tag that the configuration is, if it is one.
    pub tag: Option<String>,
    /// Who answers.
    pub target: Target,
    /// The certificates to verify the answer against, as they stand there: base64 of PEM. `None` when there are none.
    pub ca_bundle: Option<String>,
    /// Whether pods are refused when nobody answers.
    pub failure_policy: FailurePolicy,
    namespace_selector: LabelSelector,
    object_selector: LabelSelector,
    conditions: Vec<MatchCondition>,
    asks_about_pods: bool,
    is_recognised: bool,
}

/// Who answers for an injector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A Service in the cluster.
    Service(ServiceReference),
    /// An address elsewhere: an external control plane, of which nothing can be seen here.
    Url(String),
}

impl Target {
    /// The namespace of whoever answers, where that is in the cluster.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Target::Service(service) => Some(&service.namespace),
            Target::Url(_) => None,
        }
    }

    /// Whether both lead to one Service, at whatever path.
    pub(crate) fn is_same_service(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Service(one), Target::Service(other)) => one.namespace == other.namespace && one.name == other.name,
            _ => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Service(service) => write!(formatter, "service {}/{}", service.namespace, service.name),
            Target::Url(url) => formatter.write_str(url),
        }
    }
}

/// What happens to a pod when its injector cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused.
    Fail,
    /// It is created as it is.
    Ignore,
}

/// Whether an injector is asked about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// A selector cannot be evaluated.
    UnknownOperator(UnknownOperator),
    /// The selectors match; conditions in CEL decide, and nobody evaluates them here.
    Conditions,
}

impl Injector {
    /// The injectors among a configuration's entries, and those that may be: of other names, and served at istiod's path.
    pub fn all_of(configuration: &WebhookConfiguration) -> Vec<Injector> {
        let metadata = &configuration.metadata;
        let is_labelled = metadata.label(labels::REVISION).is_some();
        configuration
            .webhooks
            .iter()
            .filter(|webhook| webhook.name.ends_with(ENTRY_SUFFIX) || serves_injection(webhook))
            .map(|webhook| Injector {
                configuration: metadata.name.clone(),
                entry: webhook.name.clone(),
                revision: metadata.label(labels::REVISION).map(str::to_owned),
                tag: metadata.label(labels::TAG).map(str::to_owned),
                target: target(webhook),
                ca_bundle: webhook.client_config.ca_bundle.clone().filter(|bundle| !bundle.is_empty()),
                failure_policy: match webhook.failure_policy.as_deref() {
                    Some("Ignore") => FailurePolicy::Ignore,
                    _ => FailurePolicy::Fail,
                },
                namespace_selector: webhook.namespace_selector.clone().unwrap_or_default(),
                object_selector: webhook.object_selector.clone().unwrap_or_default(),
                conditions: webhook.match_conditions.clone(),
                asks_about_pods: webhook.rules.iter().any(covers_pod_creation),
                is_recognised: webhook.name.ends_with(ENTRY_SUFFIX) || is_labelled,
            })
            .collect()
    }

    /// Whether it is an injector by its name or its configuration's label; all others are only if they lead to an istiod.
    pub(crate) fn is_recognised(&self) -> bool {
        self.is_recognised
    }

    /// The keys of labels by which it excludes a namespace that asks for it by the label `asked`; nothing when it does not look at that
    /// label, or the label itself does not match.
    pub fn excluded_by(&self, namespace: &impl Lookup, asked: &str) -> Vec<&str> {
        let looks_at_it = self.namespace_selector.keys().any(|key| key == asked);
        let failing = self.namespace_selector.failing_keys(namespace);
        if !self.asks_about_pods || !looks_at_it || failing.contains(&asked) { Vec::new() } else { failing }
    }

    /// Whether the API server asks this injector about the creation of a pod.
    ///
    /// Order and defaults as in `k8s.io/apiserver/pkg/admission/plugin/webhook/generic/webhook.go`: rules, namespace
    /// selector, object selector, conditions; an absent selector matches everything.
    pub fn matches(&self, namespace: &impl Lookup, pod: &impl Lookup) -> Match {
        if !self.asks_about_pods {
            return Match::No;
        }
        let mut unknown = None;
        for selected in [self.namespace_selector.matches(namespace), self.object_selector.matches(pod)] {
            match selected {
                Ok(true) => {}
                Ok(false) => return Match::No,
                Err(operator) => unknown = Some(operator),
            }
        }
        if let Some(operator) = unknown {
            return Match::UnknownOperator(operator);
        }
        self.conditions_hold()
    }

    /// The keys of the pod labels that its selector looks at.
    pub fn pod_label_keys(&self) -> impl Iterator<Item = &str> {
        self.object_selector.keys()
    }

    /// Whether some pod in some namespace could be injected by both. Conditions may hold for anything.
    pub fn overlaps(&self, other: &Injector) -> bool {
        self.asks_about_pods
            && other.asks_about_pods
            && self.namespace_selector.overlaps(&other.namespace_selector)
            && self.object_selector.overlaps(&other.object_selector)
    }

    /// Only conditions that are the literals `true` or `false` are decided here.
    fn conditions_hold(&self) -> Match {
        let literals = || self.conditions.iter().map(|condition| condition.expression.trim());
        if literals().any(|expression| expression == "false") {
            Match::No
        } else if literals().all(|expression| expression == "true") {
            Match::Yes
        } else {
            Match::Conditions
        }
    }

    /// Whether this entry looks at any namespace's or pod's labels at all; `istioctl tag set default` deactivates the
    /// unrevisioned injector by a selector that never matches.
    pub fn is_deactivated(&self) -> bool {
        self.namespace_selector.match_labels.contains_key(labels::DEACTIVATED)
            || self.object_selector.match_labels.contains_key(labels::DEACTIVATED)
    }
}

fn serves_injection(webhook: &Webhook) -> bool {
    let path = match (&webhook.client_config.service, &webhook.client_config.url) {
        (Some(service), _) => service.path.clone().unwrap_or_default(),
        (None, Some(url)) => {
            url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|slash| rest[slash..].to_owned())).unwrap_or_default()
        }
        (None, None) => return false,
    };
    path == "/inject" || path.starts_with("/inject/")
}

fn target(webhook: &Webhook) -> Target {
    match (&webhook.client_config.service, &webhook.client_config.url) {
        (Some(service), _) => Target::Service(service.clone()),
        (None, url) => Target::Url(url.clone().unwrap_or_default()),
    }
}

/// Whether a rule covers `CREATE` of `v1` pods. Source: `k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules`.
fn covers_pod_creation(rule: &Rule) -> bool {
    let has = |list: &[String], values: &[&str]| list.iter().any(|entry| values.contains(&entry.as_str()));
    has(&rule.operations, &["CREATE", "*"])
        && has(&rule.api_groups, &["", "*"])
        && has(&rule.api_versions, &["v1", "*"])
        && has(&rule.resources, &["pods", "*", "*/*"])
        && rule.scope.as_deref().is_none_or(|scope| matches!(scope, "Namespaced" | "*"))
}
