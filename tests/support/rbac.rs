//! What `--explain-rbac` prints, and accounts that have just that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::plugin::{Output, Session, plugin};

/// One permission: a namespace or none, the API group, the resource and the verb.
pub type Permission = (Option<String>, String, String, String);

/// What `--explain-rbac` prints, permission by permission. It is YAML of a fixed form: a field a line, lists in brackets.
///
/// # Errors
/// When it prints something else.
pub fn explained(session: &Session, words: &[&str]) -> Result<Vec<Permission>> {
    let permissions = permissions(&session.run(words.iter().chain(&["--explain-rbac"]))?)?;
    ensure!(permissions.len() > 5, "too few: {permissions:?}");
    Ok(permissions)
}

/// The permissions of what a command has printed so.
///
/// # Errors
/// As [`explained`].
pub fn permissions(output: &Output) -> Result<Vec<Permission>> {
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
    ensure!(!permissions.is_empty(), "none: {}", output.stdout);
    Ok(permissions)
}

/// Whether who has the permission `had` may do what `asked` names. A group's `*` stands for all of its resources.
pub fn covers(had: &Permission, asked: &Permission) -> bool {
    (had.0.is_none() || had.0 == asked.0) && had.1 == asked.1 && (had.2 == "*" || had.2 == asked.2) && had.3 == asked.3
}

/// What a request (`METHOD TARGET`) has to be allowed, as the API server reads it (`RequestInfo`,
/// k8s.io/apiserver/pkg/endpoints/request/requestinfo.go); `None` for what is about no resource, such as discovery, which
/// `system:discovery` lets everybody who is logged in do.
pub fn asked(request: &str) -> Option<Permission> {
    let (method, target) = request.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match words[..] {
        ["api", _, ref rest @ ..] => ("", rest),
        ["apis", group, _, ref rest @ ..] => (group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // A namespace is an object of its own too.
        ["namespaces", name, rest @ ..] if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) => (Some(*name), rest),
        rest => (None, rest),
    };
    let resource = match rest {
        [] => return None,
        [resource] | [resource, _] => (*resource).to_owned(),
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
    };
    let is_list = rest.len() == 1;
    let verb = match method {
        "GET" if is_list && query.split('&').any(|term| matches!(term, "watch=true" | "watch=1" | "watch")) => "watch",
        "GET" if is_list => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if is_list => "deletecollection",
        "DELETE" => "delete",
        other => other,
    };
    Some((namespace.map(str::to_owned), group.to_owned(), resource, verb.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_the_api_server_reads_it() {
        let check = |request: &str, expected: Option<(Option<&str>, &str, &str, &str)>| {
            let text = |text: &str| text.to_owned();
            let expected =
                expected.map(|(place, group, resource, verb)| (place.map(text), text(group), text(resource), text(verb)));
            assert_eq!(asked(request), expected, "{request}");
        };
        check("GET /api/v1/pods?limit=500", Some((None, "", "pods", "list")));
        check("GET /api/v1/namespaces/shop/pods/web?x=y", Some((Some("shop"), "", "pods", "get")));
        check("GET /api/v1/namespaces/shop", Some((None, "", "namespaces", "get")));
        check("GET /api/v1/namespaces?watch=true&resourceVersion=7", Some((None, "", "namespaces", "watch")));
        check("POST /api/v1/namespaces/shop/pods/web/eviction", Some((Some("shop"), "", "pods/eviction", "create")));
        check(
            "GET /api/v1/namespaces/mesh/pods/istiod:15014/proxy/debug/connections",
            Some((Some("mesh"), "", "pods/proxy", "get")),
        );
        check("PATCH /apis/apps/v1/namespaces/shop/deployments/web", Some((Some("shop"), "apps", "deployments", "patch")));
        check(
            "DELETE /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/x",
            Some((None, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "delete")),
        );
        check("PUT /apis/a.example/v1/things/x", Some((None, "a.example", "things", "update")));
        for request in ["GET /version", "GET /apis", "GET /apis/apps/v1", "GET /openapi/v3/apis/apps/v1"] {
            check(request, None);
        }
    }
}
