//! Mesh configuration: what the old revision is told and the new one is not.
//!
//! Each revision reads a ConfigMap of its own, `istio[-REV]` (pilot/pkg/bootstrap/mesh.go), and edits of one are carried to no
//! other.

use mesh::advice::{Advice, Command};
use std::collections::BTreeMap;

use mesh::control_plane::revision_suffix;
use mesh::finding::{Code, Finding};
use serde_json::Value;

use crate::mesh_config::{Flat, IDENTITY, INJECTOR_IDENTITY, OWN, differences, flat, is_among, is_plain, parsed, shown};
use crate::precheck::facts::{Facts, List, error, warning};
use crate::revisions::Revision;

/// Environment of istiod that decides who signs certificates, and for whom.
const ISTIOD_IDENTITY: [&str; 6] =
    ["ENABLE_CA_SERVER", "EXTERNAL_CA", "K8S_SIGNER", "PILOT_CERT_PROVIDER", "CLUSTER_ID", "TRUSTED_GATEWAY_CIDR"];

/// A revision's ConfigMap, by what it is called in messages.
struct Configuration {
    subject: String,
    mesh: Result<Flat, String>,
}

fn configuration(facts: &Facts, revision: &Revision) -> Option<Configuration> {
    let namespace = &revision.control_plane.as_ref()?.namespace;
    let name = format!("istio{}", revision_suffix(&revision.name));
    let map = facts.object(List::ConfigMaps, namespace, &name)?;
    let mut mesh = parsed(&map["data"]["mesh"]);
    // Networks stand beside the mesh's own keys, in a document of their own.
    if let (Ok(mesh), Ok(networks)) = (&mut mesh, parsed(&map["data"]["meshNetworks"])) {
        mesh.extend(networks.into_iter().map(|(key, value)| (format!("meshNetworks.{key}"), value)));
    }
    Some(Configuration { subject: format!("configmaps/{name} -n {namespace}"), mesh })
}

/// Both configurations, where both revisions are here; and what is wrong with one that cannot be read.
fn both(facts: &Facts) -> Result<Option<[(String, Flat); 2]>, Finding> {
    let (Some(from), Some(to)) = (facts.from(), facts.to()) else { return Ok(None) };
    let (Some(old), Some(new)) = (configuration(facts, from), configuration(facts, to)) else { return Ok(None) };
    let read = |configuration: Configuration| match configuration.mesh {
        Ok(mesh) => Ok((configuration.subject, mesh)),
        Err(why) => Err(error(
            Code::MeshConfigBroken,
            configuration.subject,
            format!("its mesh configuration cannot be read: {}", why.lines().next().unwrap_or_default()),
            "mend it: istiod keeps what it read last, and a restart of istiod would lose that",
        )),
    };
    Ok(Some([read(old)?, read(new)?]))
}

/// Other names, trust or networks than the old revision's: proxies of both would no longer trust each other.
///
/// istio.io, "Trust Domain Migration": without aliases, workloads of another trust domain are refused.
pub fn identity(facts: &Facts) -> Vec<Finding> {
    let both = match both(facts) {
        Ok(Some(both)) => both,
        Ok(None) => return Vec::new(),
        Err(broken) => return vec![broken],
    };
    let [(old_subject, old), (new_subject, new)] = &both;
    differences(old, new)
        .filter(|(key, ..)| is_among(key, &IDENTITY))
        .map(|(key, before, after)| {
            let message = format!(
                "{key} is {}, in {old_subject} it is {}: proxies of both would not trust each other",
                shown(after),
                shown(before)
            );
            error(Code::MeshIdentity, new_subject.clone(), message, Advice::say(format!("set {key} to the same in both")))
        })
        .collect()
}

/// Every other key in which the configurations differ: edits of the old that the new one lacks, and the reverse.
pub fn drift(facts: &Facts) -> Vec<Finding> {
    let Ok(Some([(old_subject, old), (new_subject, new)])) = both(facts) else { return Vec::new() };
    differences(&old, &new)
        .filter(|(key, ..)| !is_among(key, &IDENTITY) && !is_among(key, &OWN))
        .map(|(key, before, after)| {
            let message = format!("{key} is {}, in {old_subject} it is {}", shown(after), shown(before));
            let edit = Command::kubectl("edit").object(&new_subject);
            let advice = Advice::say("carry it over, if it is meant for both: ").and_run(edit);
            warning(Code::MeshConfigDrift, new_subject.clone(), message, advice)
        })
        .collect()
}

/// Before the new revision is here: what the old one is told beyond a plain install, and what a plain install tells otherwise.
pub fn edits_to_carry(facts: &Facts) -> Vec<Finding> {
    let Some(from) = facts.from().filter(|_| !facts.target.is_installed) else { return Vec::new() };
    let Some(configuration) = configuration(facts, from) else { return Vec::new() };
    let Ok(mesh) = configuration.mesh else { return Vec::new() };
    let edits: Vec<&str> = mesh.iter().filter(|(key, value)| !is_plain(key, value)).map(|(key, _)| key.as_str()).collect();
    if edits.is_empty() {
        return Vec::new();
    }
    let message =
        format!("sets {} beyond a plain install: the new revision has them only if its manifests say so", edits.join(", "));
    let advice = Advice::run(Command::mesh_upgrade("start --carry-mesh-config")).and_say(" carries them over");
    vec![warning(Code::MeshConfigEdits, configuration.subject, message, advice)]
}

/// Mesh id, network and certificate authority as the injectors hand them to proxies.
pub fn injector_values(facts: &Facts) -> Vec<Finding> {
    let (Some(from), Some(to)) = (facts.from(), facts.to()) else { return Vec::new() };
    let values = |revision: &Revision| {
        let namespace = &revision.control_plane.as_ref()?.namespace;
        let name = format!("istio-sidecar-injector{}", revision_suffix(&revision.name));
        let text = facts.object(List::ConfigMaps, namespace, &name)?["data"]["values"].as_str()?;
        let values: Value = serde_json::from_str(text).ok()?;
        Some((format!("configmaps/{name} -n {namespace}"), flat(&values)))
    };
    let (Some((old_subject, old)), Some((new_subject, new))) = (values(from), values(to)) else { return Vec::new() };
    differences(&old, &new)
        .filter(|(key, ..)| INJECTOR_IDENTITY.contains(key))
        .map(|(key, before, after)| {
            let message = format!("{key} is {}, in {old_subject} it is {}", shown(after), shown(before));
            error(
                Code::MeshIdentity,
                new_subject.clone(),
                message,
                Advice::say(format!("install the new revision with the same value {key}")),
            )
        })
        .collect()
}

/// The certificate authority of both istiods, as far as their environment says it.
pub fn istiod_environment(facts: &Facts) -> Vec<Finding> {
    let (Some(from), Some(to)) = (facts.from(), facts.to()) else { return Vec::new() };
    let (Some(old), Some(new)) = (istiod(facts, from), istiod(facts, to)) else { return Vec::new() };
    let name = |object: &Value| crate::precheck::facts::subject("deployments", object);
    let (before, after) = (environment(old), environment(new));
    ISTIOD_IDENTITY
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let shown = |value: Option<&String>| value.map_or_else(|| "not set".to_owned(), |value| format!("{value:?}"));
            let message = format!(
                "{key} is {}, in {} it is {}: certificates would come from elsewhere",
                shown(after.get(key)),
                name(old),
                shown(before.get(key))
            );
            error(Code::MeshIdentity, name(new), message, Advice::say(format!("install the new revision with the same {key}")))
        })
        .collect()
}

fn istiod<'a>(facts: &'a Facts, revision: &Revision) -> Option<&'a Value> {
    let namespace = &revision.control_plane.as_ref()?.namespace;
    let name = format!("istiod{}", revision_suffix(&revision.name));
    let is_it =
        |object: &&Value| object["metadata"]["namespace"] == namespace.as_str() && object["metadata"]["name"] == name.as_str();
    facts.survey.istiods.iter().find(is_it)
}

/// Plain values only: what comes from a field or a Secret cannot be compared here.
fn environment(deployment: &Value) -> BTreeMap<String, String> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let discovery = containers.into_iter().flatten().find(|container| container["name"] == "discovery");
    let variables = discovery.and_then(|container| container["env"].as_array()).into_iter().flatten();
    variables
        .filter_map(|variable| Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Warning};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    const PLAIN_MESH: &str = "defaultConfig:\n  discoveryAddress: istiod-X.istio-system.svc:15012\ndefaultProviders:\n  metrics:\n  - prometheus\nenablePrometheusMerge: true\nrootNamespace: istio-system\ntrustDomain: cluster.local";

    fn map(name: &str, key: &str, text: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "istio-system"}, "data": {key: text}})
    }

    fn facts(old: &str, new: &str) -> Facts {
        let maps = vec![map("istio-1-26-0", "mesh", old), map("istio-1-28-2", "mesh", new)];
        sample([(List::ConfigMaps, maps)])
    }

    #[test]
    fn equal_configurations_agree_though_their_addresses_differ() {
        let facts = facts(&PLAIN_MESH.replace('X', "1-26-0"), &PLAIN_MESH.replace('X', "1-28-2"));
        assert_eq!((brief(&identity(&facts)), brief(&drift(&facts))), (Vec::new(), Vec::new()));
    }

    #[test]
    fn another_trust_domain_or_mesh_blocks() {
        let other = PLAIN_MESH.replace("cluster.local", "example.com");
        assert_eq!(brief(&identity(&facts(PLAIN_MESH, &other))), [("mesh-identity", Error)]);
        let mesh_id = format!("{PLAIN_MESH}\n").replace("defaultConfig:\n", "defaultConfig:\n  meshId: one\n");
        assert_eq!(brief(&identity(&facts(&mesh_id, PLAIN_MESH))), [("mesh-identity", Error)]);
        let found = identity(&facts(PLAIN_MESH, &other));
        assert!(found[0].message.contains("trustDomain is \"example.com\", in configmaps/istio-1-26-0"), "{found:#?}");
    }

    #[test]
    fn an_edit_of_the_old_that_the_new_one_lacks_is_told_by_its_key() {
        let edited = format!("{PLAIN_MESH}\naccessLogFile: /dev/stdout\nextensionProviders:\n- name: otel\n");
        let found = drift(&facts(&edited, PLAIN_MESH));
        assert_eq!(brief(&found), [("mesh-config-drift", Warning), ("mesh-config-drift", Warning)]);
        assert!(found[0].message.starts_with("accessLogFile is nothing, in configmaps/istio-1-26-0"), "{found:#?}");
        assert_eq!(brief(&identity(&facts(&edited, PLAIN_MESH))), []);
        // What says nothing is no difference.
        assert_eq!(brief(&drift(&facts(&format!("{PLAIN_MESH}\naccessLogFile: \"\"\n"), PLAIN_MESH))), []);
    }

    #[test]
    fn a_configuration_that_nobody_can_read_blocks() {
        assert_eq!(brief(&identity(&facts("a: [", PLAIN_MESH))), [("mesh-config-broken", Error)]);
    }

    #[test]
    fn edits_are_told_before_the_new_revision_is_here() {
        let before = |mesh: &str| {
            let mut facts = facts(mesh, PLAIN_MESH);
            facts.target.is_installed = false;
            facts
        };
        assert_eq!(brief(&edits_to_carry(&before(PLAIN_MESH))), []);
        let found = edits_to_carry(&before(&format!("{PLAIN_MESH}\naccessLogFile: /dev/stdout\n")));
        assert_eq!(brief(&found), [("mesh-config-edits", Warning)]);
        assert!(found[0].message.contains("sets accessLogFile beyond"), "{found:#?}");
        for (plain, edited) in [("cluster.local", "example.com"), ("Merge: true", "Merge: false"), ("- prometheus", "- other")] {
            let found = edits_to_carry(&before(&PLAIN_MESH.replace(plain, edited)));
            assert_eq!(brief(&found), [("mesh-config-edits", Warning)], "{edited}");
        }
        // Once it is here, the two are compared.
        assert_eq!(brief(&edits_to_carry(&facts(PLAIN_MESH, PLAIN_MESH))), []);
    }

    #[test]
    fn injectors_that_hand_out_another_mesh_or_network_block() {
        let facts = |old: Value, new: Value| {
            let maps = vec![
                map("istio-sidecar-injector-1-26-0", "values", &old.to_string()),
                map("istio-sidecar-injector-1-28-2", "values", &new.to_string()),
            ];
            sample([(List::ConfigMaps, maps)])
        };
        let global = |network: &str, tag: &str| json!({"global": {"network": network, "tag": tag, "meshID": ""}});
        assert_eq!(brief(&injector_values(&facts(global("one", "1.26.0"), global("one", "1.28.2")))), []);
        assert_eq!(brief(&injector_values(&facts(global("one", "1"), global("", "1")))), [("mesh-identity", Error)]);
    }

    #[test]
    fn istiods_that_sign_by_another_authority_block() {
        let istiod = |name: &str, environment: Value| {
            json!({"metadata": {"name": name, "namespace": "istio-system"},
                "spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": environment}]}}}})
        };
        let mut facts = sample([]);
        let variable = |value: &str| json!([{"name": "EXTERNAL_CA", "value": value}, {"name": "REVISION", "value": value}]);
        facts.survey.istiods = vec![istiod("istiod-1-26-0", variable("a")), istiod("istiod-1-28-2", variable("a"))];
        assert_eq!(brief(&istiod_environment(&facts)), []);
        facts.survey.istiods[1] = istiod("istiod-1-28-2", json!([]));
        assert_eq!(brief(&istiod_environment(&facts)), [("mesh-identity", Error)]);
    }
}
