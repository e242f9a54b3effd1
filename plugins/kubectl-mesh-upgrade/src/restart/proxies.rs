//! What the pods of a workload run, read after its roll-out.

use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::read_list;
use mesh::object::{Interner, LabelSelector, Pod, Resource};
use mesh::proxy::{Proxy, is_alive};
use mesh::verdict::Wanted;
use mesh::workload::WorkloadId;
use serde_json::Value;

/// A pod of a workload.
pub struct OwnPod {
    /// As it came.
    pub object: Value,
    /// Why it does not run what is wanted; `None` when it does.
    pub difference: Option<String>,
}

/// The living pods of a workload, each compared with what is wanted.
///
/// # Errors
/// When pods cannot be listed.
pub async fn own_pods(
    connection: &Connection,
    workload: &WorkloadId,
    object: &Value,
    wanted: Option<&Wanted>,
) -> Result<Vec<OwnPod>, Failure> {
    let path =
        format!("{}{}", Resource::Pods.path(Some(&workload.namespace)), narrowed(&object["spec"]["selector"]["matchLabels"]));
    let what = format!("listing the pods of {workload}");
    let pods = read_list(connection, &path, &what).await?;
    let selector: LabelSelector = serde_json::from_value(object["spec"]["selector"].clone()).unwrap_or_default();
    let mut own = Vec::new();
    for value in pods {
        let Ok(pod) = serde_json::from_value::<Pod>(value.clone()) else { continue };
        let labels = pod.metadata.as_ref().map(|metadata| metadata.labels.clone()).unwrap_or_default();
        if is_alive(&pod) && !selector.is_empty() && selector.matches(&labels) == Ok(true) {
            own.push(OwnPod { difference: difference(&pod, wanted), object: value });
        }
    }
    Ok(own)
}

/// The query that leaves most pods of others at the server. What it lets through is looked at with the whole selector.
fn narrowed(match_labels: &Value) -> String {
    let labels = match_labels.as_object().into_iter().flatten();
    let terms: Vec<String> =
        labels.map(|(key, value)| format!("{}%3D{}", key.replace('/', "%2F"), value.as_str().unwrap_or_default())).collect();
    if terms.is_empty() { String::new() } else { format!("?labelSelector={}", terms.join("%2C")) }
}

fn difference(pod: &Pod, wanted: Option<&Wanted>) -> Option<String> {
    let name = pod.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
    match (Proxy::of_pod(pod, &mut Interner::default()), wanted) {
        (None, None) => None,
        (Some(_), None) => Some(format!("pod {name} has a proxy still")),
        (None, Some(_)) => Some(format!("pod {name} has no proxy")),
        (Some(proxy), Some(wanted)) => {
            if wanted.revision.is_some() && proxy.revision.as_deref() != wanted.revision.as_deref() {
                let revision = proxy.revision.as_deref().unwrap_or("unknown");
                return Some(format!("pod {name} runs a proxy of revision {revision}"));
            }
            let image = wanted.image.as_deref().filter(|image| **image != *proxy.image);
            image.map(|image| format!("pod {name} runs {} instead of {image}", proxy.image))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_server_is_asked_for_few_pods() {
        assert_eq!(
            narrowed(&json!({"app": "web", "example.org/tier": "a"})),
            "?labelSelector=app%3Dweb%2Cexample.org%2Ftier%3Da"
        );
        assert_eq!(narrowed(&Value::Null), "");
    }
}
