//! Little permission: what is printed by `--explain-rbac` is enough, and each rule that is missing costs only what
//! depends on it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, Output, Workload, plugin};

use crate::snapshots::check;

/// Everything that `-A` reads, as RBAC rules, but for the resources in `without`.
fn rules(without: &[&str]) -> Value {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| {
        let resources: Vec<&&str> = resources.iter().filter(|resource| !without.contains(resource)).collect();
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
    };
    let rules = [
        rule("", &["pods", "namespaces", "services", "configmaps"], &["get", "list"]),
        rule("apps", &["deployments", "statefulsets", "daemonsets", "replicasets"], &["list"]),
        rule("batch", &["jobs"], &["list"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list"]),
        rule("admissionregistration.k8s.io", &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"], &["list"]),
        rule("networking.istio.io", &["proxyconfigs"], &["list"]),
        rule("argoproj.io", &["rollouts"], &["list"]),
        rule("gateway.networking.k8s.io", &["gateways"], &["list"]),
    ];
    let rules = rules.into_iter().filter(|rule| rule["resources"].as_array().is_some_and(|resources| !resources.is_empty()));
    Value::Array(rules.collect())
}

/// Runs `mesh-proxyver ARGUMENTS` as an account with these rules.
fn run_as(cluster: &Cluster, account: &str, rules: Value, arguments: &[&str]) -> Result<Output> {
    let session = plugin("mesh-proxyver")?;
    let file = session.home().join("account");
    cluster.kubeconfig_for(account, rules)?.write(&file)?;
    session.kubeconfig(&file).run(["mesh-proxyver"].iter().chain(arguments))
}

#[test]
fn the_rules_that_are_printed_are_enough() -> Result<()> {
    let cluster = Cluster::shared()?;
    let enough = cluster.namespace("enough", Follows::Revision("1-26-0"))?;
    enough.run(&Workload::deployment("web"))?;
    enough.run(&Workload::replica_set("bare"))?;
    enough.run(&Workload::job("once"))?;
    let session = plugin("mesh-proxyver")?.on(cluster);
    for (account, place) in
        [("everywhere", &["-A"][..]), ("one-namespace", &["-n", "enough"]), ("probing", &["-n", "enough", "--probe=all"])]
    {
        let manifest = session.run(["mesh-proxyver", "--explain-rbac"].iter().chain(place))?;
        assert_eq!(manifest.code, Some(0), "{}", manifest.transcript());
        check(&format!("explain_rbac_{account}"), &manifest);
        let file = session.home().join("rbac.yaml");
        std::fs::write(&file, manifest.stdout.replace("name: mesh-proxyver", &format!("name: {account}-rules")))?;
        cluster.kubectl([std::ffi::OsStr::new("apply"), "-f".as_ref(), file.as_os_str()])?;
        bind(cluster, account, &manifest.stdout)?;
        let mut arguments = place.to_vec();
        arguments.extend(["-o", "json"]);
        let output = run_as(cluster, account, json!([]), &arguments)?;
        let report = output.json()?;
        let unread: Vec<&Value> = report["findings"]
            .as_array()
            .context("a report has findings")?
            .iter()
            .filter(|finding| finding["code"] == "forbidden" || finding["code"] == "probe-failed")
            .collect();
        assert!(unread.is_empty(), "{account}: {unread:#?}");
        assert!(report["items"].as_array().is_some_and(|items| items.len() >= 3), "{}", output.transcript());
    }
    Ok(())
}

/// Binds the account to the roles of a printed manifest.
fn bind(cluster: &Cluster, account: &str, manifest: &str) -> Result<()> {
    for document in manifest.split("---\n") {
        let namespace = document.lines().find_map(|line| line.strip_prefix("  namespace: "));
        let (kind, role) = if namespace.is_some() { ("RoleBinding", "Role") } else { ("ClusterRoleBinding", "ClusterRole") };
        cluster.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": format!("{account}-rules"), "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": format!("{account}-rules")},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
        }))?;
    }
    Ok(())
}

#[test]
fn each_list_that_is_denied_costs_only_what_depends_on_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let poor = cluster.namespace("poor", Follows::Revision("1-26-0"))?;
    poor.run(&Workload::deployment("web"))?;
    poor.run(&Workload::stateful_set("db"))?;
    poor.run(&Workload::replica_set("bare"))?;
    // Where they are not: everything is stale.
    cluster.api().patch("/api/v1/namespaces/poor", &json!({"metadata": {"labels": {"istio.io/rev": "1-28-2"}}}))?;
    let cases: [(&str, [&str; 3]); 10] = [
        ("nothing", ["stale", "stale", "stale"]),
        ("namespaces", ["unknown", "unknown", "unknown"]),
        ("mutatingwebhookconfigurations", ["unknown", "unknown", "unknown"]),
        ("configmaps", ["unknown", "unknown", "unknown"]),
        // The revision differs whatever the image would be.
        ("proxyconfigs", ["stale", "stale", "stale"]),
        ("services", ["stale", "stale", "stale"]),
        ("endpointslices", ["stale", "stale", "stale"]),
        ("deployments", ["unknown", "stale", "stale"]),
        ("statefulsets", ["stale", "unknown", "stale"]),
        ("replicasets", ["stale", "stale", "unknown"]),
    ];
    for (denied, [web, db, bare]) in cases {
        let output = run_as(cluster, &format!("without-{denied}"), rules(&[denied]), &["-n", "poor", "-o", "json"])?;
        let report = output.json()?;
        let state = |name: &str| -> String {
            let mut items = report["items"].as_array().into_iter().flatten();
            let item = items.find(|item| item["workload"]["name"].as_str().is_some_and(|found| found.starts_with(name)));
            item.map_or_else(|| "not listed".to_owned(), |item| item["state"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!([state("web"), state("db"), state("bare")], [web, db, bare], "without {denied}: {}", output.transcript());
        let told = report["findings"].as_array().into_iter().flatten().any(|finding| {
            finding["code"] == "forbidden" && finding["subject"].as_str().is_some_and(|subject| subject.starts_with(denied))
        });
        assert_eq!(told, denied != "nothing", "without {denied}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn without_pods_there_is_no_answer() -> Result<()> {
    let cluster = Cluster::shared()?;
    let output = run_as(cluster, "without-pods", rules(&["pods"]), &["-A"])?;
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{}", output.transcript());
    assert!(output.stderr.contains("pods is forbidden") && output.stderr.contains("--explain-rbac"), "{}", output.transcript());
    Ok(())
}
