//! The components that stand on every node once for all revisions: ztunnel and the CNI plugin.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::image::Image;
use serde_json::Value;

use crate::precheck::facts::{Facts, List, error, info, label, subject, warning};

/// Neither has a canary: both are upgraded in place, CNI before ztunnel, after the control plane.
///
/// istio.io, "Upgrade with Helm" for ambient mode: CRDs, istiod, CNI, ztunnel, then waypoints and gateways; each works with a
/// control plane of its own minor version or one above.
pub fn node_components(facts: &Facts) -> Vec<Finding> {
    let Some(to) = &facts.target.version else { return Vec::new() };
    let mut findings = Vec::new();
    for object in facts.items(List::DaemonSets) {
        let Some((name, container)) = component(object) else { continue };
        let subject = subject("daemonsets.apps", object);
        let Some(version) = image(object, container).and_then(|image| Image::parse(image).version()) else {
            let message = format!("{name} of no known version: whether it works with {to} is unknown");
            findings.push(warning(Code::NodeComponentVersion, subject, message, "give its image a version as its tag"));
            continue;
        };
        match to.minors_ahead_of(&version) {
            Some(ahead) if ahead < 0 => {
                let message = format!("{name} {version} would be ahead of its control plane, {to}");
                findings.push(error(Code::NodeComponentAhead, subject, message, "a newer target"));
            }
            Some(ahead) if ahead > 1 => {
                let message = format!("{name} {version} would be {ahead} minor versions behind: it works with one at most");
                let between = format!("{}.{}", version.major, version.minor + 1);
                let advice = Advice::say("upgrade by one minor version in between: ")
                    .and_run(Command::mesh_upgrade("precheck").flag("--to", between));
                findings.push(error(Code::NodeComponentBehind, subject, message, advice));
            }
            _ if version < *to => {
                let message = format!("{name} {version} is upgraded in place, for all revisions at once");
                let advice = "after the control plane: CNI, then ztunnel, node by node, then waypoints; long connections break";
                findings.push(info(Code::NodeComponentOrder, subject, message, advice));
            }
            _ => {}
        }
    }
    findings
}

/// What a DaemonSet is, and the container whose image has its version.
fn component(object: &Value) -> Option<(&'static str, &'static str)> {
    if label(object, "app") == Some("ztunnel") || object["metadata"]["name"] == "ztunnel" {
        Some(("ztunnel", "istio-proxy"))
    } else if label(object, "k8s-app") == Some("istio-cni-node") {
        Some(("the CNI plugin", "install-cni"))
    } else {
        None
    }
}

fn image<'a>(object: &'a Value, container: &str) -> Option<&'a str> {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array()?;
    containers.iter().find(|found| found["name"] == container)?["image"].as_str()
}

#[cfg(test)]
mod tests {
    use mesh::finding::Severity::{Error, Info, Warning};
    use serde_json::json;

    use super::*;
    use crate::precheck::facts::{brief, sample};

    fn found(labels: Value, container: &str, image: &str) -> Vec<(&'static str, mesh::finding::Severity)> {
        let object = json!({"metadata": {"name": "x", "namespace": "istio-system", "labels": labels},
            "spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}});
        brief(&node_components(&sample([(List::DaemonSets, vec![object])])))
    }

    #[test]
    fn ztunnel_is_neither_ahead_nor_more_than_one_behind() {
        let ztunnel =
            |version: &str| found(json!({"app": "ztunnel"}), "istio-proxy", &format!("docker.io/istio/ztunnel:{version}"));
        assert_eq!(ztunnel("1.28.2"), []);
        assert_eq!(ztunnel("1.27.0"), [("node-component-order", Info)]);
        assert_eq!(ztunnel("1.26.0"), [("node-component-behind", Error)]);
        assert_eq!(ztunnel("1.29.0"), [("node-component-ahead", Error)]);
        assert_eq!(ztunnel("latest"), [("node-component-version", Warning)]);
    }

    #[test]
    fn the_cni_plugin_is_judged_alike_and_other_daemon_sets_not_at_all() {
        let image = "docker.io/istio/install-cni:1.27.0";
        assert_eq!(found(json!({"k8s-app": "istio-cni-node"}), "install-cni", image), [("node-component-order", Info)]);
        assert_eq!(found(json!({"app": "logs"}), "install-cni", image), []);
    }
}
