//! What `--explain-rbac` prints, and accounts that have just that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::plugin::{Session, plugin};

/// One permission: a namespace or none, the API group, the resource and the verb.
pub type Permission = (Option<String>, String, String, String);

/// What `--explain-rbac` prints, permission by permission. It is YAML of a fixed form: a field a line, lists in brackets.
///
/// # Errors
/// When it prints something else.
pub fn explained(session: &Session, words: &[&str]) -> Result<Vec<Permission>> {
    let output = session.run(words.iter().chain(&["--explain-rbac"]))?;
    ensure!(output.code == Some(0) && output.stderr.is_empty(), "{}", output.transcript());
    let mut permissions = Vec::new();
    for document in output.stdout.split("---\n") {
        let namespace = document.lines().find_map(|line| line.strip_prefix("  namespace: ")).map(str::to_owned);
        let list = |line: &str| -> Vec<String> {
            line.trim_matches(['[', ']']).split(", ").map(|word| word.trim_matches('"').to_owned()).collect()
        };
        let (mut groups, mut resources) = (Vec::new(), Vec::new());
        for line in document.lines() {
            if let Some(line) = line.strip_prefix("- apiGroups: ") {
                groups = list(line);
            } else if let Some(line) = line.strip_prefix("  resources: ") {
                resources = list(line);
            } else if let Some(line) = line.strip_prefix("  verbs: ") {
                for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
                    for verb in list(line) {
                        permissions.push((namespace.clone(), group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    ensure!(permissions.len() > 5, "too few: {}", output.stdout);
    Ok(permissions)
}

/// A session of a plugin as an account that has these permissions and no others.
///
/// # Errors
/// When the account cannot be made.
pub fn session_with(name: &str, cluster: &Cluster, account: &str, permissions: &[Permission]) -> Result<Session> {
    let session = plugin(name)?;
    let file = session.home().join("account");
    cluster.kubeconfig_for(account, json!([]))?.write(&file)?;
    let mut namespaces: Vec<&Option<String>> = permissions.iter().map(|(namespace, ..)| namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    for namespace in namespaces {
        let rules: Vec<Value> = permissions
            .iter()
            .filter(|permission| permission.0 == *namespace)
            .map(|(_, group, resource, verb)| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
            .collect();
        let (role, binding) = match namespace {
            Some(_) => ("Role", "RoleBinding"),
            None => ("ClusterRole", "ClusterRoleBinding"),
        };
        let metadata = json!({"name": format!("{account}-verb"), "namespace": namespace});
        let version = "rbac.authorization.k8s.io/v1";
        cluster.apply(&json!({"apiVersion": version, "kind": role, "metadata": metadata, "rules": rules}))?;
        cluster.apply(&json!({
            "apiVersion": version, "kind": binding, "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
        }))?;
    }
    Ok(session.kubeconfig(&file))
}
