//! Everything that the rules are decided from: read before, by [`super::read`], and asked of nobody afterwards.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use mesh::advice::Advice;
use mesh::finding::{Code, Finding, Severity};
use mesh::verdict::{Verdict, verdicts};
use serde_json::Value;

use super::target::Target;
use crate::lists::Found;
use crate::revisions::Revision;
use crate::survey::Survey;

/// A list beyond the snapshot; each variant is the list of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    CustomResourceDefinitions,
    ValidatingWebhookConfigurations,
    Namespaces,
    ConfigMaps,
    EnvoyFilters,
    WasmPlugins,
    BackendTlsPolicies,
    GrpcRoutes,
    LabelledIstioObjects,
    IstioOperators,
    PodDisruptionBudgets,
    HorizontalPodAutoscalers,
    ResourceQuotas,
    Deployments,
    StatefulSets,
    DaemonSets,
}

impl List {
    /// What it is called in messages, as kubectl takes it.
    pub const fn name(self) -> &'static str {
        match self {
            List::CustomResourceDefinitions => "customresourcedefinitions.apiextensions.k8s.io",
            List::ValidatingWebhookConfigurations => "validatingwebhookconfigurations.admissionregistration.k8s.io",
            List::Namespaces => "namespaces",
            List::ConfigMaps => "configmaps",
            List::EnvoyFilters => "envoyfilters.networking.istio.io",
            List::WasmPlugins => "wasmplugins.extensions.istio.io",
            List::BackendTlsPolicies => "backendtlspolicies.gateway.networking.k8s.io",
            List::GrpcRoutes => "grpcroutes.gateway.networking.k8s.io",
            List::LabelledIstioObjects => "Istio's objects with a revision's label",
            List::IstioOperators => "istiooperators.install.istio.io",
            List::PodDisruptionBudgets => "poddisruptionbudgets.policy",
            List::HorizontalPodAutoscalers => "horizontalpodautoscalers.autoscaling",
            List::ResourceQuotas => "resourcequotas",
            List::Deployments => "deployments.apps",
            List::StatefulSets => "statefulsets.apps",
            List::DaemonSets => "daemonsets.apps",
        }
    }

    /// What cannot be said without it.
    pub const fn cost(self) -> &'static str {
        match self {
            List::CustomResourceDefinitions => "whether the definitions are new enough is unknown",
            List::ValidatingWebhookConfigurations => "whether configuration is validated, and by whom, is unknown",
            List::Namespaces => "who would put back a namespace's labels is unknown",
            List::ConfigMaps => "whether the mesh configurations agree is unknown",
            List::EnvoyFilters => "whether filters cease to apply is unknown",
            List::WasmPlugins => "whether a plugin is made for another version is unknown",
            List::BackendTlsPolicies | List::GrpcRoutes => "whether Gateway API objects would be ignored is unknown",
            List::LabelledIstioObjects => "whether configuration belongs to one revision alone is unknown",
            List::IstioOperators => "whether an in-cluster operator was left behind is unknown",
            List::PodDisruptionBudgets | List::HorizontalPodAutoscalers | List::ResourceQuotas => {
                "whether workloads can be restarted without a gap is unknown"
            }
            List::Deployments | List::StatefulSets | List::DaemonSets => "how workloads are replaced is unknown",
        }
    }
}

/// Everything.
pub struct Facts {
    /// The mesh.
    pub survey: Survey,
    /// What every workload of the mesh runs and would get.
    pub verdicts: Vec<Verdict>,
    /// The upgrade in question.
    pub target: Target,
    /// The version of Kubernetes, where it is known.
    pub kubernetes: Option<(u32, u32)>,
    /// The day of the look.
    pub today: Date,
    lists: BTreeMap<List, Found>,
    /// Where each object of a list stands, by namespace and name.
    places: HashMap<List, HashMap<(String, String), usize>>,
}

impl Facts {
    /// With what was read.
    pub fn new(
        survey: Survey,
        target: Target,
        lists: BTreeMap<List, Found>,
        kubernetes: Option<(u32, u32)>,
        today: Date,
    ) -> Facts {
        let verdicts = verdicts(&survey.snapshot, &HashMap::new());
        let places = lists.iter().map(|(list, found)| (*list, places(found))).collect();
        Facts { survey, verdicts, target, kubernetes, today, lists, places }
    }

    /// The objects of a list; none where it could not be read, which [`Facts::unread`] tells.
    pub fn items(&self, list: List) -> &[Value] {
        match self.lists.get(&list) {
            Some(Found::Items(items)) => items,
            _ => &[],
        }
    }

    /// The lists that were not to be had, with why.
    pub fn unread(&self) -> impl Iterator<Item = (List, &str)> {
        self.lists.iter().filter_map(|(list, found)| match found {
            Found::Unread(why) => Some((*list, why.as_str())),
            Found::Items(_) => None,
        })
    }

    /// The revision that is upgraded from.
    pub fn from(&self) -> Option<&Revision> {
        self.revision(self.target.from.as_deref()?)
    }

    /// The revision that is upgraded to, when it is here already.
    pub fn to(&self) -> Option<&Revision> {
        self.target.is_installed.then(|| self.revision(self.target.revision.as_deref()?)).flatten()
    }

    fn revision(&self, name: &str) -> Option<&Revision> {
        self.survey.revisions.iter().find(|revision| revision.name == name)
    }

    /// The object of this name; an empty namespace is none.
    pub fn object(&self, list: List, namespace: &str, name: &str) -> Option<&Value> {
        let place = self.places.get(&list)?.get(&(namespace.to_owned(), name.to_owned()))?;
        self.items(list).get(*place)
    }
}

fn places(found: &Found) -> HashMap<(String, String), usize> {
    let Found::Items(items) = found else { return HashMap::new() };
    let text = |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    items.iter().enumerate().map(|(place, object)| ((text(object, "namespace"), text(object, "name")), place)).collect()
}

/// A finding that blocks.
pub fn error(code: Code, subject: impl Into<String>, message: impl Into<String>, advice: impl Into<Advice>) -> Finding {
    finding(Severity::Error, code, subject, message, advice)
}

/// A finding to think about.
pub fn warning(code: Code, subject: impl Into<String>, message: impl Into<String>, advice: impl Into<Advice>) -> Finding {
    finding(Severity::Warning, code, subject, message, advice)
}

/// A finding that is only good to know.
pub fn info(code: Code, subject: impl Into<String>, message: impl Into<String>, advice: impl Into<Advice>) -> Finding {
    finding(Severity::Info, code, subject, message, advice)
}

/// A finding.
pub fn finding(
    severity: Severity,
    code: Code,
    subject: impl Into<String>,
    message: impl Into<String>,
    advice: impl Into<Advice>,
) -> Finding {
    Finding { severity, code, subject: subject.into(), message: message.into(), advice: advice.into() }
}

/// `envoyfilters/lua -n shop`: how findings name an object.
pub fn subject(plural: &str, object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{plural}/{name} -n {namespace}"),
        None => format!("{plural}/{name}"),
    }
}

/// A label's value.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// Facts for tests: an upgrade from 1-26-0 to the revision 1-28-2 that is here, and whatever lists are given.
#[cfg(test)]
pub fn sample(lists: impl IntoIterator<Item = (List, Vec<Value>)>) -> Facts {
    use crate::revisions::sample as revision;

    let lists = lists.into_iter().map(|(list, items)| (list, Found::Items(items))).collect();
    let revisions = vec![revision("1-26-0", "1.26.0", 3), revision("1-28-2", "1.28.2", 0)];
    let survey = Survey {
        snapshot: mesh::snapshot::Snapshot::default(),
        revisions,
        istiods: Vec::new(),
        istiods_unread: None,

        now: "2026-07-15T12:00:00Z".parse().expect("it is a time"),
    };
    let target = Target {
        revision: Some("1-28-2".to_owned()),
        version: "1.28.2".parse().ok(),
        is_installed: true,
        from: Some("1-26-0".to_owned()),
    };
    Facts::new(survey, target, lists, Some((1, 32)), jiff::civil::date(2026, 7, 15))
}

/// The codes and severities of findings, for tests.
#[cfg(test)]
pub fn brief(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect()
}
