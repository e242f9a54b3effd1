//! Trust: whether proxies of the new revision accept connections of those of the old one, and the other way round.

use mesh::advice::{Advice, Command};
use mesh::control_plane::revision_suffix;
use mesh::finding::{Code, Finding};
use mesh::trust::{Trust, trust};
use serde_json::Value;

use crate::precheck::facts::{Facts, List, error, warning};
use crate::revisions::Revision;

/// Another root certificate than that of a revision whose proxies run: mutual TLS between the two fails.
///
/// istio.io, "Plug in CA Certificates": all control planes of a mesh need a root in common.
pub fn roots(facts: &Facts) -> Vec<Finding> {
    let Some(to) = facts.to() else { return Vec::new() };
    let from = facts.from().map(|from| from.name.as_str());
    let is_other = |other: &&Revision| {
        other.name != to.name && other.control_plane.is_some() && (other.proxies > 0 || from == Some(other.name.as_str()))
    };
    facts.survey.revisions.iter().filter(is_other).filter_map(|other| between(facts, other, to)).collect()
}

fn between(facts: &Facts, from: &Revision, to: &Revision) -> Option<Finding> {
    let subject = format!("revision {}", to.name);
    let why = match (trust(&facts.survey.snapshot, &from.name, &to.name), elsewhere(facts, from).or_else(|| elsewhere(facts, to)))
    {
        (Trust::Common, _) => return None,
        (Trust::None, None) => {
            let message = format!(
                "its certificates have another root than those of revision {}: proxies of the two refuse each other's connections",
                from.name
            );
            let advice = Advice::say(
                "install it with the certificate authority of that revision: the Secret cacerts, or istio-ca-secret, of ",
            )
            .and_say(format!("namespace {} has to be in namespace {} too; ", namespace(from), namespace(to)))
            .and(see(from, to));
            return Some(error(Code::RootsDiffer, subject, message, advice));
        }
        (Trust::None, Some(why)) | (Trust::Unknown(why), _) => why,
    };
    let message =
        format!("whether its certificates have a root in common with those of revision {} is not known: {why}", from.name);
    Some(warning(Code::RootsUnknown, subject, message, see(from, to)))
}

/// What else decides whom proxies trust than what stands in webhooks.
fn elsewhere(facts: &Facts, revision: &Revision) -> Option<String> {
    let name = format!("istio{}", revision_suffix(&revision.name));
    let map = facts.object(List::ConfigMaps, namespace(revision), &name)?;
    let is_set = map["data"]["mesh"].as_str().is_some_and(|mesh| mesh.contains("caCertificates"));
    is_set.then(|| format!("caCertificates of configmaps/{name} -n {} adds roots", namespace(revision))).or_else(|| {
        let istiod = format!("istiod{}", revision_suffix(&revision.name));
        let is_it =
            |found: &&Value| found["metadata"]["name"] == *istiod && found["metadata"]["namespace"] == *namespace(revision);
        let deployment = facts.items(List::Deployments).iter().find(is_it)?;
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array()?;
        let mut environment = containers.iter().filter_map(|container| container["env"].as_array()).flatten();
        let provider = environment.find(|variable| variable["name"] == "PILOT_CERT_PROVIDER")?["value"].as_str()?;
        (provider != "istiod")
            .then(|| format!("PILOT_CERT_PROVIDER of deployments/{istiod} is {provider}, so its webhooks show another root"))
    })
}

fn namespace(revision: &Revision) -> &str {
    revision.control_plane.as_ref().map_or("istio-system", |plane| plane.namespace.as_str())
}

/// What shows the roots of both.
fn see(from: &Revision, to: &Revision) -> Advice {
    let roots = |revision: &Revision| Command::kubectl("get configmap istio-ca-root-cert -o yaml").namespace(namespace(revision));
    Advice::say("compare ").and_run(roots(from)).and_say(" with ").and_run(roots(to))
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::Warning;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    #[test]
    fn what_cannot_be_compared_is_told_with_what_shows_it() {
        let found = roots(&sample([]));
        assert_eq!(brief(&found), [("roots-unknown", Warning)]);
    }
}
