//! Trust: whether proxies of two revisions accept each other's certificates, as far as the cluster shows it.
//!
//! istiod writes the roots of its certificate authority into the webhooks that ask it (`patchMutatingWebhookConfig`,
//! pkg/webhooks/webhookpatch.go), the same that it gives to proxies. No Secret has to be read for that.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::injector::{Injector, Target};
use crate::snapshot::Snapshot;

/// Whether two revisions trust each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They have a root certificate in common.
    Common,
    /// Neither has any of the other's.
    None,
    /// It cannot be said: why.
    Unknown(String),
}

/// Whether proxies of two revisions trust each other, by the certificates in their injectors.
pub fn trust(snapshot: &Snapshot, one: &str, other: &str) -> Trust {
    match (roots(snapshot, one), roots(snapshot, other)) {
        (Ok(one), Ok(other)) if one.is_disjoint(&other) => Trust::None,
        (Ok(_), Ok(_)) => Trust::Common,
        (Err(why), _) | (_, Err(why)) => Trust::Unknown(why),
    }
}

/// The certificates of a revision's own injectors, in DER.
fn roots(snapshot: &Snapshot, revision: &str) -> Result<BTreeSet<Vec<u8>>, String> {
    let is_own = |injector: &&Injector| injector.tag.is_none() && injector.revision.as_deref() == Some(revision);
    let mut roots = BTreeSet::new();
    for injector in snapshot.injectors.iter().filter(is_own) {
        let name = &injector.configuration;
        if matches!(injector.target, Target::Url(_)) {
            return Err(format!("{name} asks an address elsewhere"));
        }
        let bundle = injector.ca_bundle.as_deref().ok_or_else(|| format!("{name} has no caBundle"))?;
        roots.extend(certificates(bundle).map_err(|why| format!("the caBundle of {name} {why}"))?);
    }
    if roots.is_empty() { Err(format!("revision {revision} has no injector of its own")) } else { Ok(roots) }
}

fn certificates(bundle: &str) -> Result<Vec<Vec<u8>>, String> {
    let text = BASE64.decode(bundle).map_err(|error| format!("is no base64: {error}"))?;
    let blocks = pem::parse_many(text).map_err(|error| format!("is no PEM: {error}"))?;
    let certificates: Vec<_> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect();
    if certificates.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(roots: &[&str]) -> String {
        BASE64.encode(roots.iter().map(|root| pem::encode(&pem::Pem::new("CERTIFICATE", root.as_bytes()))).collect::<String>())
    }

    fn snapshot(revisions: &[(&str, &str)]) -> Snapshot {
        let injectors = revisions.iter().flat_map(|(revision, bundle)| {
            let configuration = json!({
                "metadata": {"name": format!("injector-{revision}"), "labels": {"istio.io/rev": revision}},
                "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io",
                    "clientConfig": {"caBundle": bundle, "service": {"name": "istiod", "namespace": "istio-system"}}}],
            });
            Injector::all_of(&serde_json::from_value(configuration).unwrap())
        });
        Snapshot { injectors: injectors.collect(), ..Snapshot::default() }
    }

    #[test]
    fn one_root_in_common_is_enough_and_none_is_a_break() {
        let check = |one: &[&str], other: &[&str]| trust(&snapshot(&[("a", &bundle(one)), ("b", &bundle(other))]), "a", "b");
        assert_eq!(check(&["root"], &["root"]), Trust::Common);
        assert_eq!(check(&["old"], &["new", "old"]), Trust::Common);
        assert_eq!(check(&["old"], &["new"]), Trust::None);
    }

    #[test]
    fn what_cannot_be_compared_is_unknown() {
        let check = |other: &str| trust(&snapshot(&[("a", &bundle(&["root"])), ("b", other)]), "a", "b");
        for odd in ["", "c2F2ZWQ=", "-"] {
            assert!(matches!(check(odd), Trust::Unknown(_)), "{odd}");
        }
        assert!(matches!(trust(&snapshot(&[("a", &bundle(&["root"]))]), "a", "gone"), Trust::Unknown(_)));
    }
}
