//! Who writes the pod template of a workload, as its field managers tell. Whoever keeps a template as a custom resource says puts
//! back what others write there; tools that people run, and those that deploy from Git, put back only what they have written.

use serde_json::Value;

use crate::object::Metadata;
use crate::operator::OwnerName;

/// Field managers that are nobody's operator, by how they begin, as of 2026-11.
///
/// kubectl writes as `kubectl`, `kubectl-client-side-apply`, `kubectl-rollout` and the like (k8s.io/kubectl/pkg/cmd), this plugin as
/// `kubectl-mesh`; a server without managed fields before is `before-first-apply` (apimachinery/pkg/util/managedfields); the API server's own
/// controllers are kube-controller-manager. Helm writes as its program is called (pkg/kube/client.go), Argo CD as
/// `argocd-controller` (common/common.go) or by its older names, Flux as its controllers are called. The Terraform provider writes as
/// `Terraform` (manifest/provider/configure.go) or, without Server-Side Apply, as `HashiCorp` (its user agent), Pulumi as
/// `pulumi-kubernetes`. Dashboards write as what their HTTP client is called: `dashboard`, `node-fetch` (Lens), `rancher`, `Mozilla` (browsers);
/// k9s, Skaffold, Tilt, kapp, Werf, Ansible's OpenAPI-Generator and `curl` by their own names.
const TOOLS: [&str; 28] = [
    "kubectl",
    "before-first-apply",
    "kube-controller-manager",
    "helm",
    "argocd",
    "argo-cd",
    "kustomize-controller",
    "helm-controller",
    "flux",
    "gotk",
    "terraform",
    "hashicorp",
    "opentofu",
    "pulumi",
    "dashboard",
    "node-fetch",
    "lens",
    "freelens",
    "rancher",
    "mozilla",
    "k9s",
    "skaffold",
    "tilt",
    "kapp",
    "werf",
    "openapi-generator",
    "oc",
    "curl",
];

fn is_tool(manager: &str) -> bool {
    let manager = manager.to_ascii_lowercase();
    // A whole word of it: `octopus` is not `oc`.
    let is_more = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric());
    TOOLS.iter().any(|tool| manager.strip_prefix(tool).is_some_and(|rest| !is_more(rest)))
}

/// The field managers that write fields of this workload's pod template, but for known tools; each once, in the object's order.
pub fn of(workload: &Value) -> Vec<&str> {
    let entries = workload["metadata"]["managedFields"].as_array().into_iter().flatten();
    let template = entries.filter(|entry| {
        let is_of_object = entry["subresource"].as_str().unwrap_or_default().is_empty();
        is_of_object && entry["fieldsV1"]["f:spec"]["f:template"].is_object()
    });
    let mut writers: Vec<&str> = Vec::new();
    for writer in template.filter_map(|entry| entry["manager"].as_str()).filter(|manager| !is_tool(manager)) {
        if !writers.contains(&writer) {
            writers.push(writer);
        }
    }
    writers
}

/// Who operates a workload although no controller reference says so: what it names as its owner, where somebody who is no known tool
/// writes its pod template.
///
/// An owner counts when its kind is a custom resource: `Application.app.k8s.io` groups objects, and what Kubernetes itself serves is there
/// for garbage collection. So does the label `app.kubernetes.io/managed-by`, when it names that writer or an operator.
pub fn operator(workload: &Value) -> Option<OwnerName> {
    let writers = of(workload);
    if writers.is_empty() {
        return None;
    }
    let metadata: Metadata = serde_json::from_value(workload["metadata"].clone()).unwrap_or_default();
    let is_custom = |group: &str| group.contains('.') && !group.ends_with(".k8s.io");
    let owner = metadata.owner_references.iter().map(OwnerName::from).find(|owner| is_custom(owner.group()));
    owner.or_else(|| {
        let named = metadata.label("app.kubernetes.io/managed-by")?;
        let is_writer = writers.iter().any(|writer| writer.eq_ignore_ascii_case(named));
        let is_operator = is_writer || named.to_ascii_lowercase().ends_with("operator");
        is_operator.then(|| OwnerName { api_version: "".into(), kind: "operator".into(), name: named.into() })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(managers: &[(&str, Value)], metadata: &Value) -> Value {
        let fields = |(manager, fields): &(&str, Value)| json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
        let mut metadata = metadata.clone();
        metadata["managedFields"] = managers.iter().map(fields).collect();
        json!({"kind": "Deployment", "metadata": metadata})
    }

    fn template() -> Value {
        json!({"f:spec": {"f:template": {"f:spec": {}}}})
    }

    #[test]
    fn tools_and_those_who_write_something_else_are_no_writers() {
        for tool in
            ["kubectl-client-side-apply", "kubectl", "Helm", "argocd-controller", "helm-controller", "Terraform", "Mozilla"]
        {
            assert_eq!(of(&workload(&[(tool, template())], &json!({}))), [""; 0], "{tool}");
        }
        let mut status = workload(&[("shop-operator", template())], &json!({}));
        status["metadata"]["managedFields"][0]["subresource"] = "status".into();
        assert_eq!(of(&status), [""; 0]);
        let scaler = json!({"f:spec": {"f:replicas": {}}});
        let writers = [("scaler", scaler), ("octopus", template()), ("helmsman", template()), ("octopus", template())];
        assert_eq!(of(&workload(&writers, &json!({}))), ["octopus", "helmsman"]);
    }

    #[test]
    fn a_writer_operates_what_names_its_resource_or_itself() {
        let owned = |api_version: &str, kind: &str| json!({"ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": "a", "uid": "u"}]});
        let by = |manager: &str, metadata: &Value| {
            operator(&workload(&[(manager, template())], metadata)).map(|owner| owner.to_string())
        };
        let shop = owned("example.org/v1", "Shop");
        assert_eq!(by("manager", &shop).as_deref(), Some("Shop.example.org/a"));
        assert_eq!(by("kubectl", &shop), None);
        for (api_version, kind) in [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("app.k8s.io/v1beta1", "Application")] {
            assert_eq!(by("manager", &owned(api_version, kind)), None, "{kind}");
        }
        let labelled = |value: &str| json!({"labels": {"app.kubernetes.io/managed-by": value}});
        assert_eq!(by("shop-controller", &labelled("Shop-Controller")).as_deref(), Some("operator/Shop-Controller"));
        assert_eq!(by("manager", &labelled("shop-operator")).as_deref(), Some("operator/shop-operator"));
        assert_eq!(by("manager", &labelled("Helm")), None);
        // People deploy with tools of their own.
        assert_eq!(by("our-deployer", &json!({})), None);
    }
}
