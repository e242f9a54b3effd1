//! Gateways: how each will change, and which would be changed in place.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::proxy::ProxyType;
use mesh::state::{Reason, State};
use mesh::verdict::Verdict;

use crate::precheck::facts::{Facts, info, warning};

/// What an upgrade does to each gateway.
///
/// istio.io, "Canary Upgrades": gateways do not run revision-specific instances. One with a fixed image is written over by the
/// install of any revision that has it in its manifests (manifests/charts/gateways/istio-ingress/templates/deployment.yaml: the
/// name says nothing of the revision). One that is injected changes with its next pod; one that istiod makes for a Gateway changes
/// by itself as soon as its tag or label moves (pilot/pkg/config/kube/gateway/deploymentcontroller.go).
pub fn all(facts: &Facts) -> Vec<Finding> {
    facts.verdicts.iter().filter(|verdict| verdict.proxy_count() > 0).filter_map(gateway).collect()
}

fn gateway(verdict: &Verdict) -> Option<Finding> {
    let id = &verdict.workload;
    let subject = format!("{} -n {}", id.qualified_name(), id.namespace);
    let is_fixed = verdict.state == State::Pinned || verdict.reasons.contains(&Reason::PinnedImage);
    match verdict.proxy_type {
        ProxyType::Gateway if is_fixed => {
            let message = "a gateway with a fixed image: no restart changes it, and an install that has it in its manifests writes over \
                           it in place, at once";
            let advice = "leave it out of the new manifests (profile minimal), and upgrade it by itself: a gateway that is injected, \
                          beside it";
            Some(warning(Code::GatewayInPlace, subject, message, advice))
        }
        ProxyType::Gateway => {
            let message = "an injected gateway: its next pod has the proxy of the revision that it follows then";
            Some(info(
                Code::GatewayInjected,
                subject,
                message,
                Advice::run(Command::mesh_upgrade("restart")).and_say(", as for any workload"),
            ))
        }
        ProxyType::GatewayApi | ProxyType::Waypoint | ProxyType::Agentgateway if verdict.state == State::Blocked => {
            let message = format!("istiod is to make it, and none does: {}", verdict.why);
            Some(warning(Code::GatewayStranded, subject, message, verdict.advice()))
        }
        ProxyType::GatewayApi | ProxyType::Waypoint | ProxyType::Agentgateway => {
            let message =
                "istiod makes it: it rolls by itself as soon as the tag or label that it follows moves, without a restart";
            Some(info(Code::GatewayAtOnce, subject, message, "move that when its traffic allows"))
        }
        ProxyType::Sidecar | ProxyType::Ztunnel | ProxyType::Cni => None,
    }
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Info, Warning};
    use mesh::object::{Interner, Labels};
    use mesh::proxy::Proxy;
    use mesh::template::Template;
    use mesh::workload::{Restart, Workload, WorkloadId};

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn facts(proxy_type: ProxyType, fixed_image: Option<&str>) -> Facts {
        let image = "docker.io/istio/proxyv2:1.26.0";
        let proxy = Proxy { proxy_type, revision: Some("1-26-0".into()), image: image.into(), is_native: false };
        let mut facts = sample([]);
        let mut interner = Interner::default();
        facts.survey.snapshot.namespaces.insert("gates".into(), Labels::default());
        facts.survey.snapshot.workloads = vec![Workload {
            id: WorkloadId {
                namespace: "gates".into(),
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: "edge".into(),
            },
            template: Template { proxy_image: fixed_image.map(|image| interner.text(image)), ..Template::default() },
            restart: Restart::Rollout,
            gateway: None,
            proxies: vec![(Some(proxy), 2)],
            pods: Vec::new(),
            uid: None,
            wanted_pods: None,
            revision: None,
            others: Vec::new(),
            doubt: None,
        }];
        facts.verdicts = mesh::verdict::verdicts(&facts.survey.snapshot, &std::collections::HashMap::new());
        facts
    }

    fn found(proxy_type: ProxyType, fixed_image: Option<&str>, state: State) -> Vec<(&'static str, mesh::finding::Severity)> {
        let mut facts = facts(proxy_type, fixed_image);
        facts.verdicts[0].state = state;
        brief(&all(&facts))
    }

    #[test]
    fn each_kind_of_gateway_is_told_how_it_changes() {
        let image = Some("docker.io/istio/proxyv2:1.26.0");
        assert_eq!(found(ProxyType::Gateway, image, State::Pinned), [("gateway-in-place", Warning)]);
        assert_eq!(found(ProxyType::Gateway, None, State::Current), [("gateway-injected", Info)]);
        for proxy_type in [ProxyType::GatewayApi, ProxyType::Waypoint] {
            assert_eq!(found(proxy_type, None, State::Current), [("gateway-at-once", Info)]);
            assert_eq!(found(proxy_type, None, State::Blocked), [("gateway-stranded", Warning)]);
        }
        assert_eq!(found(ProxyType::Sidecar, None, State::Current), []);
    }
}
