//! A grid of pods: every way in which a namespace and a pod can ask for a proxy, answered by the API server itself.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use support::{Cluster, Follows, Workload};

/// What namespaces say, by their names.
fn namespaces() -> Vec<(&'static str, Value)> {
    vec![
        ("grid-nothing", json!({})),
        ("grid-enabled", json!({"istio-injection": "enabled"})),
        ("grid-disabled", json!({"istio-injection": "disabled"})),
        ("grid-prod", json!({"istio.io/rev": "prod"})),
        ("grid-canary", json!({"istio.io/rev": "canary"})),
        ("grid-old", json!({"istio.io/rev": "1-26-0"})),
        ("grid-new", json!({"istio.io/rev": "1-28-2"})),
        ("grid-default", json!({"istio.io/rev": "default"})),
        ("grid-both", json!({"istio-injection": "enabled", "istio.io/rev": "prod"})),
        ("grid-empty", json!({"istio.io/rev": ""})),
        ("grid-platform", json!({"istio.io/rev": "prod", "kubernetes.azure.com/managedby": "aks"})),
    ]
}

/// What pods say.
fn pods() -> Vec<Value> {
    vec![
        json!({}),
        json!({"sidecar.istio.io/inject": "true"}),
        json!({"sidecar.istio.io/inject": "false"}),
        json!({"istio.io/rev": "prod"}),
        json!({"istio.io/rev": "1-28-2"}),
        json!({"istio.io/rev": "default"}),
        json!({"istio.io/rev": "prod", "sidecar.istio.io/inject": "true"}),
    ]
}

/// Makes the namespaces, or gives them their labels again.
pub fn make_namespaces(cluster: &Cluster) -> Result<()> {
    for (name, labels) in namespaces() {
        cluster.namespace(name, Follows::Labels(labels))?;
    }
    Ok(())
}

/// Takes away what they ask for.
pub fn unlabel_namespaces(cluster: &Cluster) -> Result<()> {
    for (name, _) in namespaces() {
        cluster.namespace(name, Follows::Nothing)?;
    }
    Ok(())
}

/// The revision that the API server's own answer names, or that there is no proxy, or that the pod is refused.
pub fn answers(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut answers = BTreeMap::new();
    for (namespace, _) in namespaces() {
        for labels in pods() {
            let workload = Workload::pod("grid").pod_labels(labels.clone());
            let answer = match cluster.namespace_named(namespace).dry_run(&workload) {
                Ok(pod) => pod["metadata"]["annotations"]["istio.io/rev"].as_str().unwrap_or("no proxy").to_owned(),
                Err(error) if format!("{error:#}").contains("failed calling webhook") => "refused".to_owned(),
                Err(error) => return Err(error),
            };
            answers.insert(format!("{namespace} {labels}"), answer);
        }
    }
    Ok(answers)
}
