//! Custom resource definitions: they are shared by all revisions, and come before the control plane that reads them.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::version::Version;
use serde_json::Value;

use crate::definition::{leave_definitions_out, newer_than, version_of};
use crate::precheck::facts::{Facts, List, error, info, subject, warning};

/// A definition that istiod reads.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// The version in which istiod reads it, by the first minor release that does, the newest first.
    ///
    /// pkg/config/schema/metadata.yaml of istio/istio 1.26.0, 1.28.2 and 1.29.1, kinds that istiod reads without further ado. Of older
    /// releases nothing is claimed.
    reads: &'static [(u32, &'static str)],
    /// The oldest bundle of the Gateway API with which istiod takes notice of it at all, likewise: `minimumCRDVersions`,
    /// pkg/kube/kclient/crdwatcher.go.
    oldest_bundle: &'static [(u32, (u32, u32))],
}

const fn istio(name: &'static str, version: &'static [(u32, &'static str)]) -> Definition {
    Definition { name, reads: version, oldest_bundle: &[] }
}

const V1: &[(u32, &str)] = &[(26, "v1")];
const GATEWAY_API: &[(u32, &str)] = &[(29, "v1"), (26, "v1beta1")];

/// Those that are looked at.
pub const DEFINITIONS: [Definition; 20] = [
    istio("authorizationpolicies.security.istio.io", V1),
    istio("destinationrules.networking.istio.io", V1),
    istio("envoyfilters.networking.istio.io", &[(26, "v1alpha3")]),
    istio("gateways.networking.istio.io", V1),
    istio("peerauthentications.security.istio.io", V1),
    istio("proxyconfigs.networking.istio.io", &[(26, "v1beta1")]),
    istio("requestauthentications.security.istio.io", V1),
    istio("serviceentries.networking.istio.io", V1),
    istio("sidecars.networking.istio.io", V1),
    istio("telemetries.telemetry.istio.io", V1),
    istio("virtualservices.networking.istio.io", V1),
    istio("wasmplugins.extensions.istio.io", &[(26, "v1alpha1")]),
    istio("workloadentries.networking.istio.io", V1),
    istio("workloadgroups.networking.istio.io", V1),
    istio("gatewayclasses.gateway.networking.k8s.io", GATEWAY_API),
    istio("gateways.gateway.networking.k8s.io", GATEWAY_API),
    istio("httproutes.gateway.networking.k8s.io", GATEWAY_API),
    istio("referencegrants.gateway.networking.k8s.io", &[(26, "v1beta1")]),
    Definition { name: "grpcroutes.gateway.networking.k8s.io", reads: &[(26, "v1")], oldest_bundle: &[(26, (1, 1))] },
    Definition { name: "backendtlspolicies.gateway.networking.k8s.io", reads: &[(28, "v1")], oldest_bundle: &[(28, (1, 4))] },
];

impl Definition {
    fn version_read_by(&self, istio: &Version) -> Option<&'static str> {
        self.reads.iter().find(|(since, _)| istio.minor >= *since).map(|(_, version)| *version)
    }

    fn oldest_bundle_for(&self, istio: &Version) -> Option<(u32, u32)> {
        self.oldest_bundle.iter().find(|(since, _)| istio.minor >= *since).map(|(_, bundle)| *bundle)
    }
}

/// Definitions that are here, each with what is known of it.
fn here(facts: &Facts) -> impl Iterator<Item = (&'static Definition, &Value)> {
    let object =
        |definition: &'static Definition| Some((definition, facts.object(List::CustomResourceDefinitions, "", definition.name)?));
    DEFINITIONS.iter().filter_map(object)
}

/// What istiod cannot list keeps it from ever being ready: 1.28.2 waits for its list of Sidecars, HTTPRoutes or ProxyConfigs for
/// ever when the version that it reads is not served. A bundle of the Gateway API that is too old is no such case: istiod takes
/// no notice of it, see [`ignored_gateway_api`].
pub fn served(facts: &Facts) -> Vec<Finding> {
    let Some(istio) = &facts.target.version else { return Vec::new() };
    let mut findings = Vec::new();
    for (definition, object) in here(facts) {
        let Some(version) = definition.version_read_by(istio) else { continue };
        let is_served = versions(object).any(|found| found["name"] == version && found["served"] == true);
        let is_ignored =
            definition.oldest_bundle_for(istio).is_some_and(|oldest| bundle(object).is_none_or(|found| found < oldest));
        if !is_served && !is_ignored {
            let advice = if definition.name.ends_with(".istio.io") {
                Advice::say(format!("apply the CustomResourceDefinitions of Istio {istio} first: chart base, or "))
                    .and_run(Command::istioctl("manifest generate").local())
            } else {
                Advice::say("apply a newer bundle of the Gateway API first")
            };
            let message = format!("version {version} is not served, and istiod {istio} reads no other: it would never be ready");
            findings.push(error(Code::CrdVersionNotServed, subject("customresourcedefinitions", object), message, advice));
        }
    }
    findings
}

/// Objects may still be stored in a version that is on its way out. The API server refuses a definition that no longer has such a
/// version (`ValidateCustomResourceDefinitionStoredVersions`, k8s.io/apiextensions-apiserver), and cannot read objects of one that
/// is gone.
pub fn stored(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, object) in here(facts) {
        let subject = subject("customresourcedefinitions", object);
        let storage = versions(object).find(|version| version["storage"] == true).and_then(|version| version["name"].as_str());
        let stored = object["status"]["storedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for version in stored.filter(|version| Some(*version) != storage) {
            let is_served = versions(object).any(|found| found["name"] == version && found["served"] == true);
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let read = Command::kubectl("get").value(name).words("-A -o json");
            let rewrite = Advice::run(read.read_by(Command::kubectl("replace -f -")))
                .and_say(format!(" writes them anew; then take {version} out of status.storedVersions"));
            if is_served {
                let message = format!("objects may still be stored as {version}: a later definition without it will be refused");
                findings.push(info(Code::CrdStoredVersion, subject.clone(), message, rewrite));
            } else {
                let message =
                    format!("objects may be stored as {version}, which is no longer served: a newer one may be refused");
                findings.push(error(Code::CrdStoredVersion, subject.clone(), message, rewrite));
            }
        }
    }
    findings
}

/// Definitions come before the control plane. istio.io, "Upgrade with Helm": "upgrade the Istio base chart" first; the same
/// objects serve all revisions, so the newest minor version owns them.
pub fn age(facts: &Facts) -> Vec<Finding> {
    let Some(istio) = &facts.target.version else { return Vec::new() };
    let older: Vec<(&Definition, Version)> = here(facts)
        .filter(|(definition, _)| definition.name.ends_with(".istio.io"))
        .filter_map(|(definition, object)| Some((definition, version_of(object)?)))
        .filter(|(_, version)| version.line() < istio.line())
        .collect();
    let Some((_, oldest)) = older.iter().min_by(|one, other| one.1.cmp(&other.1)) else { return Vec::new() };
    let message = format!("{} of Istio are older than {istio}, the oldest of {oldest}", older.len());
    let advice = Advice::say("apply those of the new version before its control plane: ")
        .and_run(Command::mesh_upgrade("start"))
        .and_say(" does, from manifests that have them");
    vec![warning(Code::CrdOlder, "customresourcedefinitions", message, advice)]
}

/// Definitions are never taken back: fields and versions that a newer release knows would be lost from every object that is written
/// afterwards. So a revision of an older release comes without them, and `start` refuses it with them.
pub fn newer(facts: &Facts) -> Vec<Finding> {
    let Some(istio) = &facts.target.version else { return Vec::new() };
    let versions = here(facts).filter(|(definition, _)| definition.name.ends_with(".istio.io"));
    let versions = versions.filter_map(|(_, object)| newer_than(object, Some(istio)));
    let mut versions: Vec<Version> = versions.collect();
    versions.sort();
    let Some(newest) = versions.last() else { return Vec::new() };
    let subject = "customresourcedefinitions";
    let message = format!(
        "{} of Istio are newer than {istio}, the newest of {newest}: they are shared, and never taken back",
        versions.len()
    );
    // What runs beside them already has come to terms with them.
    let make = if facts.target.is_installed { warning } else { error };
    vec![make(Code::CrdNewer, subject, message, leave_definitions_out())]
}

/// Gateway API objects that istiod would take no notice of, since their definition is too old for it.
pub fn ignored_gateway_api(facts: &Facts) -> Vec<Finding> {
    let Some(istio) = &facts.target.version else { return Vec::new() };
    let mut findings = Vec::new();
    for (definition, object) in here(facts) {
        let Some(oldest) = definition.oldest_bundle_for(istio) else { continue };
        if bundle(object).is_some_and(|found| found >= oldest) {
            continue;
        }
        let objects = match definition.name.split_once('.') {
            Some(("backendtlspolicies", _)) => facts.items(List::BackendTlsPolicies).len(),
            _ => facts.items(List::GrpcRoutes).len(),
        };
        let found =
            bundle(object).map_or_else(|| "of no known bundle".to_owned(), |(major, minor)| format!("of bundle {major}.{minor}"));
        let message = format!("is {found}: istiod {istio} ignores it before {}.{}", oldest.0, oldest.1);
        let subject = subject("customresourcedefinitions", object);
        let advice = "apply a newer bundle of the Gateway API first";
        if objects > 0 {
            let message = format!("{message}, and with it {objects} objects that are here");
            findings.push(error(Code::GatewayApiIgnored, subject, message, advice));
        } else {
            findings.push(info(Code::GatewayApiIgnored, subject, message, advice));
        }
    }
    findings
}

/// The bundle that a definition of the Gateway API comes from: `gateway.networking.k8s.io/bundle-version`.
fn bundle(object: &Value) -> Option<(u32, u32)> {
    let version = object["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"].as_str()?;
    version.parse::<Version>().ok().map(|version| version.line())
}

fn versions(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["versions"].as_array().into_iter().flatten()
}

/// What the in-cluster operator left behind, which Istio 1.24 took away: nobody reads it any more, and an operator that still runs
/// would put back the old version.
pub fn operators(facts: &Facts) -> Vec<Finding> {
    let objects = facts.items(List::IstioOperators).iter();
    objects
        .map(|object| {
            let message =
                "is left from the in-cluster operator, which ended with Istio 1.23; one that still runs would revert an upgrade";
            let advice = Advice::run(Command::kubectl("get deployments -A -l name=istio-operator"))
                .and_say("; remove it, and keep the settings for ")
                .and_run(Command::istioctl("install -f FILE"));
            warning(Code::OperatorLeftover, subject("istiooperators.install.istio.io", object), message, advice)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Info, Warning};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn definition(name: &str, versions: &[(&str, bool, bool)], stored: &[&str]) -> Value {
        let versions: Vec<Value> =
            versions.iter().map(|(name, served, storage)| json!({"name": name, "served": served, "storage": storage})).collect();
        json!({"metadata": {"name": name}, "spec": {"versions": versions}, "status": {"storedVersions": stored}})
    }

    fn with(definition: Value) -> Facts {
        sample([(List::CustomResourceDefinitions, vec![definition])])
    }

    const NAME: &str = "virtualservices.networking.istio.io";

    #[test]
    fn a_version_that_istiod_reads_has_to_be_served() {
        let facts = |served| with(definition(NAME, &[("v1", served, false), ("v1beta1", true, true)], &["v1beta1"]));
        assert_eq!(brief(&served(&facts(true))), []);
        assert_eq!(brief(&served(&facts(false))), [("crd-version-not-served", Error)]);
        // One that is not here at all is not waited for.
        assert_eq!(brief(&served(&sample([]))), []);
    }

    #[test]
    fn versions_that_objects_are_stored_in_are_told() {
        let versions = [("v1", true, true), ("v1beta1", true, false), ("v1alpha3", false, false)];
        let facts = |stored: &[&str]| with(definition(NAME, &versions, stored));
        assert_eq!(brief(&stored(&facts(&["v1"]))), []);
        assert_eq!(brief(&stored(&facts(&["v1beta1", "v1"]))), [("crd-stored-version", Info)]);
        assert_eq!(brief(&stored(&facts(&["v1alpha3", "v1"]))), [("crd-stored-version", Error)]);
    }

    #[test]
    fn definitions_of_an_older_istio_are_told_once() {
        let mut old = definition(NAME, &[("v1", true, true)], &["v1"]);
        old["metadata"]["labels"] = json!({"operator.istio.io/version": "1.26.0", "helm.sh/chart": "base-1.0.0"});
        assert_eq!(brief(&age(&with(old.clone()))), [("crd-older", Warning)]);
        old["metadata"]["labels"] = json!({"helm.sh/chart": "base-1.27.3"});
        assert_eq!(brief(&age(&with(old.clone()))), [("crd-older", Warning)]);
        for labels in [json!({"operator.istio.io/version": "1.28.0"}), json!({"helm.sh/chart": "base-1.0.0"}), json!({})] {
            old["metadata"]["labels"] = labels;
            assert_eq!(brief(&age(&with(old.clone()))), []);
        }
    }

    #[test]
    fn definitions_of_a_newer_istio_forbid_a_start_and_are_told_once() {
        let newer_definition = |name: &str| {
            let mut object = definition(name, &[("v1", true, true)], &["v1"]);
            object["metadata"]["labels"] = json!({"operator.istio.io/version": "1.31.0"});
            object
        };
        let both = [NAME, "sidecars.networking.istio.io"].map(newer_definition).to_vec();
        let mut facts = sample([(List::CustomResourceDefinitions, both)]);
        facts.target.is_installed = false;
        let found = newer(&facts);
        assert_eq!(brief(&found), [("crd-newer", Error)]);
        assert!(found[0].message.starts_with("2 of Istio are newer than 1.28.2, the newest of 1.31.0"), "{}", found[0].message);
        let advice = mesh::terminal::advisor::Advisor::default().text(&found[0].advice);
        assert!(advice.contains("--set components.base.enabled=false") && advice.contains("helm template"), "{advice}");
        facts.target.is_installed = true;
        assert_eq!(brief(&newer(&facts)), [("crd-newer", Warning)]);
        facts.target.version = "1.31.2".parse().ok();
        assert_eq!(brief(&newer(&facts)), []);
    }

    #[test]
    fn gateway_api_objects_that_would_be_ignored_block() {
        let mut policies = definition("backendtlspolicies.gateway.networking.k8s.io", &[("v1alpha3", true, true)], &["v1alpha3"]);
        let policy = json!({"metadata": {"name": "tls", "namespace": "shop"}});
        let facts = |definition: &Value, objects: Vec<Value>| {
            sample([(List::CustomResourceDefinitions, vec![definition.clone()]), (List::BackendTlsPolicies, objects)])
        };
        policies["metadata"]["annotations"] = json!({"gateway.networking.k8s.io/bundle-version": "v1.3.0"});
        assert_eq!(brief(&ignored_gateway_api(&facts(&policies, vec![policy.clone()]))), [("gateway-api-ignored", Error)]);
        assert_eq!(brief(&ignored_gateway_api(&facts(&policies, Vec::new()))), [("gateway-api-ignored", Info)]);
        // What is ignored keeps nobody from being ready.
        assert_eq!(brief(&served(&facts(&policies, Vec::new()))), []);
        policies["metadata"]["annotations"] = json!({"gateway.networking.k8s.io/bundle-version": "v1.4.0"});
        assert_eq!(brief(&ignored_gateway_api(&facts(&policies, vec![policy]))), []);
        assert_eq!(brief(&served(&facts(&policies, Vec::new()))), [("crd-version-not-served", Error)]);
    }

    #[test]
    fn what_the_operator_left_is_told() {
        let left = json!({"metadata": {"name": "installed-state", "namespace": "istio-system"}});
        let found = operators(&sample([(List::IstioOperators, vec![left])]));
        assert_eq!(brief(&found), [("operator-leftover", Warning)]);
        assert_eq!(found[0].subject, "istiooperators.install.istio.io/installed-state -n istio-system");
        assert!(operators(&sample([])).is_empty());
    }
}
