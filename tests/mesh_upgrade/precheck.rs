//! `mesh-upgrade precheck`: each of the dangers that matter most, made on a real cluster, found, and gone again when it is mended.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Output, Revision, Session, Workload, plugin};

const OLD: IstioVersion = IstioVersion::V1_26_0;
const NEW: IstioVersion = IstioVersion::V1_28_2;

/// Both revisions, side by side, and a workload that follows the old one.
fn both() -> Result<Cluster> {
    let cluster = old_alone()?;
    cluster.install(&Revision::of(NEW))?;
    Ok(cluster)
}

fn old_alone() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::of(OLD))?;
    cluster.namespace("shop", Follows::Revision("1-26-0"))?.run(&Workload::deployment("web").replicas(2))?;
    Ok(cluster)
}

fn precheck(session: &Session, to: &str) -> Result<(Option<i32>, Value)> {
    let output = session.run(["mesh-upgrade", "precheck", "--to", to, "-o", "json"])?;
    Ok((output.code, output.json()?))
}

/// Severities of the findings with this code about this object.
fn found(report: &Value, code: &str, subject: &str) -> Vec<String> {
    let items = report["items"].as_array().into_iter().flatten();
    let is_it = |item: &&Value| item["code"] == code && item["subject"] == subject;
    items.filter(is_it).map(|item| item["severity"].as_str().unwrap_or_default().to_owned()).collect()
}

fn blocking(report: &Value) -> Vec<&str> {
    let items = report["items"].as_array().into_iter().flatten();
    items.filter(|item| item["severity"] == "error").filter_map(|item| item["code"].as_str()).collect()
}

fn assert_refused(output: &Output, parts: &[&str]) {
    assert_eq!(output.code, Some(4), "{}", output.transcript());
    for part in parts {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.transcript());
    }
}

#[test]
fn a_sound_mesh_may_be_upgraded_and_the_next_step_is_named() -> Result<()> {
    let cluster = old_alone()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    // Before the new revision is here: by its name, and by its version.
    for to in ["1-28-2", "1.28.2"] {
        let (code, report) = precheck(&session, to)?;
        assert_eq!((code, blocking(&report)), (Some(0), Vec::new()), "{report:#}");
        assert_eq!(report["kind"], "PrecheckReport");
        assert_eq!((&report["from"], &report["to"]["version"]), (&json!("1-26-0"), &json!("1.28.2")), "{report:#}");
        assert_eq!(found(&report, "crd-older", "customresourcedefinitions"), ["warning"], "{report:#}");
    }
    let before = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert!(before.stderr.contains("Next: kubectl mesh-upgrade start --revision 1-28-2"), "{}", before.transcript());
    cluster.install(&Revision::of(NEW))?;
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!((code, blocking(&report)), (Some(0), Vec::new()), "{report:#}");
    assert_eq!(precheck(&session, "1-28-2")?.1, report);
    assert!(found(&report, "crd-older", "customresourcedefinitions").is_empty(), "{report:#}");
    let junit = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2", "-o", "junit"])?;
    assert!(junit.stdout.contains("failures=\"0\""), "{}", junit.transcript());
    Ok(())
}

#[test]
fn versions_that_do_not_go_together_are_refused() -> Result<()> {
    let cluster = both()?;
    cluster.set_tag("prod", &Revision::of(OLD))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let far = session.run(["mesh-upgrade", "precheck", "--to", "1.29.1"])?;
    assert_refused(&far, &["(skew-too-far)", "kubectl mesh-upgrade precheck --to 1.28"]);
    let back = session.run(["mesh-upgrade", "precheck", "--to", "1-26-0", "--from", "1-28-2"])?;
    assert_refused(&back, &["(downgrade)", "kubectl mesh-upgrade rollback --to 1-26-0"]);
    let tag = session.run(["mesh-upgrade", "precheck", "--to", "prod"])?;
    assert!(tag.code == Some(2) && tag.stderr.contains("prod is a tag"), "{}", tag.transcript());
    let nameless = session.run(["mesh-upgrade", "precheck", "--to", "canary"])?;
    assert!(nameless.code == Some(2) && nameless.stderr.contains("--target-version"), "{}", nameless.transcript());
    let named = session.run(["mesh-upgrade", "precheck", "--to", "canary", "--target-version", "1.27.3"])?;
    // The definitions that came with 1.28.2 are newer than that, and nothing else forbids it.
    assert_refused(&named, &["1 finding blocks", "customresourcedefinitions (crd-newer)"]);
    Ok(())
}

#[test]
fn mesh_configurations_are_compared_key_by_key() -> Result<()> {
    let cluster = both()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-1-28-2";
    let original = cluster.api().get(path)?;
    let mesh = original["data"]["mesh"].as_str().context("a ConfigMap has a mesh")?;
    let write = |mesh: &str| cluster.api().patch(path, &json!({"data": {"mesh": mesh}})).map(|_| ());

    write(&mesh.replace("cluster.local", "example.com"))?;
    let output = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert_refused(&output, &["configmaps/istio-1-28-2 -n istio-system (mesh-identity)", "set trustDomain to the same in both"]);
    write(&format!("{mesh}\naccessLogFile: /dev/stdout\n"))?;
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(found(&report, "mesh-config-drift", "configmaps/istio-1-28-2 -n istio-system"), ["warning"], "{report:#}");
    write("trustDomain: [")?;
    let output = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert_refused(&output, &["(mesh-config-broken)"]);
    write(mesh)?;
    assert_eq!(precheck(&session, "1-28-2")?.0, Some(0));
    Ok(())
}

#[test]
fn webhooks_and_definitions_that_would_fail_are_refused() -> Result<()> {
    let cluster = both()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let root = "/apis/admissionregistration.k8s.io/v1";

    // The default validator points to a Service that is gone.
    let validator = format!("{root}/validatingwebhookconfigurations/istiod-default-validator");
    let original = cluster.api().get(&validator)?;
    let mut dangling = original["webhooks"].clone();
    dangling[0]["clientConfig"]["service"]["name"] = json!("istiod-gone");
    cluster.api().patch(&validator, &json!({"webhooks": dangling}))?;
    let output = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert_refused(
        &output,
        &["validatingwebhookconfigurations/istiod-default-validator (validator-dangling)", "kubectl mesh-tag set default"],
    );
    cluster.api().patch(&validator, &json!({"webhooks": original["webhooks"]}))?;

    // Two injectors of two istiods for one namespace: a second configuration with the first one's selectors.
    let injector = cluster.api().get(&format!("{root}/mutatingwebhookconfigurations/istio-sidecar-injector-1-26-0"))?;
    let mut webhooks = injector["webhooks"].clone();
    for webhook in webhooks.as_array_mut().context("it has webhooks")? {
        webhook["clientConfig"]["service"]["name"] = json!("istiod-1-28-2");
    }
    let twin = json!({
        "apiVersion": injector["apiVersion"], "kind": injector["kind"], "webhooks": webhooks,
        "metadata": {"name": "second-injector", "labels": {"istio.io/rev": "1-26-0"}},
    });
    cluster.apply(&twin)?;
    let (code, report) = precheck(&session, "1-28-2")?;
    let subject = "mutatingwebhookconfigurations/istio-sidecar-injector-1-26-0";
    assert_eq!((code, found(&report, "injectors-overlap", subject)), (Some(4), vec!["error".to_owned()]), "{report:#}");
    cluster.delete(&twin)?;

    // A definition that does not serve what istiod reads.
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sidecars.networking.istio.io";
    let served = |is_served: bool| -> Result<()> {
        let mut versions = cluster.api().get(path)?["spec"]["versions"].clone();
        let all = versions.as_array_mut().context("a definition has versions")?;
        let version = all.iter_mut().find(|version| version["name"] == "v1").context("sidecars have a v1")?;
        version["served"] = json!(is_served);
        cluster.api().patch(path, &json!({"spec": {"versions": versions}})).map(|_| ())
    };
    served(false)?;
    let output = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert_refused(&output, &["customresourcedefinitions/sidecars.networking.istio.io (crd-version-not-served)"]);
    served(true)?;

    // A namespace that nobody serves is no reason to refuse, but told.
    cluster.namespace("lost", Follows::Revision("1-99-0"))?;
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!((code, found(&report, "no-injector", "namespaces/lost")), (Some(0), vec!["warning".to_owned()]), "{report:#}");
    Ok(())
}

#[test]
fn configuration_and_workloads_that_an_upgrade_would_hurt_are_named() -> Result<()> {
    let cluster = both()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let shop = cluster.namespace("shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::stateful_set("single"))?;
    shop.run(&Workload::stateful_set("by-hand").replicas(2).spec(json!({"updateStrategy": {"type": "OnDelete"}})))?;
    shop.run(&Workload::deployment("paused").replicas(2))?;
    cluster.kubectl(["-n", "shop", "rollout", "pause", "deployment/paused"])?;
    shop.run(&Workload::deployment("at-once").spec(json!({"strategy": {"type": "Recreate"}})))?;
    shop.run(&Workload::pod("bare"))?;
    shop.run(
        &Workload::deployment("edge")
            .pod_labels(json!({"sidecar.istio.io/inject": "false", "operator.istio.io/component": "IngressGateways"}))
            .pod_annotations(json!({"istio.io/rev": "1-26-0"}))
            .containers(json!([{"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.26.0"}])),
    )?;
    shop.apply(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budget"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "by-hand"}}},
    }))?;
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/budget";
    cluster.wait("the budget to be counted", std::time::Duration::from_secs(30), || {
        Ok((cluster.api().get(budget)?["status"]["expectedPods"] == 2).then_some(()))
    })?;
    let patch = json!({
        "applyTo": "CLUSTER", "match": {"context": "SIDECAR_OUTBOUND", "proxy": {"proxyVersion": r"^1\.26.*"}},
        "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}},
    });
    shop.apply(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": {"name": "timeout"},
        "spec": {"configPatches": [patch]},
    }))?;
    shop.apply(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "egress", "labels": {"istio.io/rev": "1-26-0"}},
        "spec": {"egress": [{"hosts": ["./*"]}]},
    }))?;

    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!(code, Some(4), "{report:#}");
    for (code, subject, severity) in [
        ("no-surge", "statefulset.apps/single -n shop", "warning"),
        ("no-surge", "deployment.apps/at-once -n shop", "warning"),
        ("on-delete", "statefulset.apps/by-hand -n shop", "info"),
        ("pdb-blocks", "statefulset.apps/by-hand -n shop", "error"),
        ("paused", "deployment.apps/paused -n shop", "warning"),
        ("bare-pod", "pod/bare -n shop", "warning"),
        ("gateway-in-place", "deployment.apps/edge -n shop", "warning"),
        ("envoyfilter-version", "envoyfilters.networking.istio.io/timeout -n shop", "error"),
        ("config-of-one-revision", "sidecars.networking.istio.io/egress -n shop", "error"),
    ] {
        assert_eq!(found(&report, code, subject), [severity], "{code} {subject}: {report:#}");
    }
    // Each has something to do about it.
    let items = report["items"].as_array().context("a report has items")?;
    let idle: Vec<&Value> = items.iter().filter(|item| item["severity"] != "info" && item["advice"] == "").collect();
    ensure!(idle.is_empty(), "without advice: {idle:#?}");
    Ok(())
}

#[test]
fn who_may_not_take_the_later_steps_is_told_before_the_first() -> Result<()> {
    let cluster = both()?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    // The rules that it prints are enough to look, and not enough for what follows.
    let rules = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2", "--explain-rbac"])?;
    assert_eq!(rules.code, Some(0), "{}", rules.transcript());
    let file = session.home().join("rules.yaml");
    std::fs::write(&file, &rules.stdout)?;
    let file = file.to_string_lossy();
    let printed = cluster.kubectl(["create", "--dry-run=client", "-o", "json", "-f", &file])?;
    let roles = serde_json::Deserializer::from_str(&printed).into_iter::<Value>().collect::<Result<Vec<_>, _>>()?;
    let all: Vec<Value> = roles.iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect();
    let reader = cluster.kubeconfig_for("reader", json!(all))?;
    let path = session.home().join("reader");
    reader.write(&path)?;
    let session = session.kubeconfig(&path);
    // Perhaps somebody else takes them: who only looks is not refused, and has one warning for all.
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!((code, blocking(&report)), (Some(0), Vec::new()), "{report:#}");
    assert_eq!(found(&report, "permission", "later steps"), ["warning"], "{report:#}");
    let permissions =
        |report: &Value| report["items"].as_array().into_iter().flatten().filter(|item| item["code"] == "permission").count();
    assert_eq!(permissions(&report), 1, "{report:#}");
    let warned = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2"])?;
    assert!(warned.stdout.contains("you may not: complete ("), "{}", warned.transcript());
    // Who takes them is refused.
    let own = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2", "--for", "restart", "-o", "json"])?;
    let report = own.json()?;
    assert_eq!(own.code, Some(4), "{report:#}");
    assert_eq!(found(&report, "permission", "deployments.apps"), ["error"], "{report:#}");
    assert!(blocking(&report).iter().all(|code| *code == "permission"), "{report:#}");
    let every = session.run(["mesh-upgrade", "precheck", "--to", "1-28-2", "--for", "all", "-o", "json"])?.json()?;
    assert_eq!(found(&every, "permission", "deployments.apps").len(), 2, "{every:#}");
    assert!(found(&every, "permission", "later steps").is_empty(), "{every:#}");

    // With a list denied that a rule needs, what it would say is unknown, and that blocks too.
    // Its rule is for every kind of the group: here it is for all others.
    let others = ["destinationrules", "gateways", "proxyconfigs", "serviceentries", "sidecars", "virtualservices"];
    let others = others.into_iter().chain(["workloadentries", "workloadgroups"]).collect::<Vec<_>>();
    let mut fewer: Vec<Value> = all;
    let is_filters = |rule: &&mut Value| rule["apiGroups"] == json!(["networking.istio.io"]);
    let rules: Vec<&mut Value> = fewer.iter_mut().filter(is_filters).collect();
    assert!(!rules.is_empty(), "{printed}");
    rules.into_iter().for_each(|rule| rule["resources"] = json!(others));
    cluster.kubeconfig_for("reader", json!(fewer))?;
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!(code, Some(4));
    assert_eq!(found(&report, "unread", "envoyfilters.networking.istio.io"), ["error"], "{report:#}");
    Ok(())
}

#[test]
fn whatever_cannot_be_read_keeps_it_from_saying_that_all_is_well() -> Result<()> {
    let cluster = both()?;
    let watched = Interceptor::before(&cluster, |_| Fate::Pass)?;
    let arguments = ["mesh-upgrade", "precheck", "--to", "1-28-2"];
    let sound = plugin("mesh-upgrade")?.through(&watched)?.run(arguments)?;
    assert_eq!(sound.code, Some(0), "{}", sound.transcript());
    let path = |request: &String| request.split(' ').next_back().and_then(|target| target.split('?').next()).map(str::to_owned);
    let mut paths: Vec<String> = watched.requests().iter().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    ensure!(paths.len() > 30, "it asks for more than {paths:?}");
    for path in paths {
        let spoiled = path.clone();
        let is_spoiled = move |target: &str| target.split('?').next() == Some(&spoiled);
        let interceptor =
            Interceptor::before(&cluster, move |call| if is_spoiled(&call.target) { Fate::Status(403) } else { Fate::Pass })?;
        let output = plugin("mesh-upgrade")?.through(&interceptor)?.run(arguments)?;
        assert!(matches!(output.code, Some(1 | 4)), "{path} is denied: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn other_ways_of_installing_give_no_false_alarm() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(OLD))?;
    cluster.namespace("shop", Follows::Injection)?.run(&Workload::deployment("web").replicas(2))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!((code, blocking(&report)), (Some(0), Vec::new()), "{report:#}");
    assert_eq!(report["from"], "default", "{report:#}");
    cluster.install(&Revision::of(NEW).by_helm())?;
    let (code, report) = precheck(&session, "1-28-2")?;
    assert_eq!((code, blocking(&report)), (Some(0), Vec::new()), "{report:#}");
    Ok(())
}

#[test]
fn node_components_are_upgraded_after_the_control_plane_and_never_far_behind() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    cluster.install(&Revision::unrevisioned(OLD).profile("ambient"))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let ztunnel = "daemonsets.apps/ztunnel -n istio-system";
    let (_, one) = precheck(&session, "1.27.3")?;
    assert_eq!(found(&one, "node-component-order", ztunnel), ["info"], "{one:#}");
    let (code, two) = precheck(&session, "1.28.2")?;
    assert_eq!((code, found(&two, "node-component-behind", ztunnel)), (Some(4), vec!["error".to_owned()]), "{two:#}");
    Ok(())
}

#[test]
fn a_revision_with_another_root_certificate_blocks() -> Result<()> {
    let cluster = old_alone()?;
    cluster.install(&Revision::new("apart", NEW).namespace("apart").set("meshConfig.rootNamespace=istio-system"))?;
    let session = plugin("mesh-upgrade")?.on(&cluster);
    let (code, report) = precheck(&session, "apart")?;
    ensure!(code == Some(4) && found(&report, "roots-differ", "revision apart") == ["error"], "{report:#}");
    // Of one certificate authority they trust each other.
    cluster.install(&Revision::of(NEW))?;
    let (_, report) = precheck(&session, "1-28-2")?;
    let codes = ["roots-differ", "roots-unknown"].map(|code| found(&report, code, "revision 1-28-2"));
    ensure!(codes.iter().all(Vec::is_empty), "{report:#}");
    Ok(())
}
