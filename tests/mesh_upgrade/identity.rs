//! Which objects `restart` touches: those that a workload controls by uid, whatever carries the same labels or name; and by
//! which rule it finds that a new pod is what is wanted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, Namespace, Workload, plugin};

/// A namespace in which these workloads are stale.
fn stale<'a>(cluster: &'a Cluster, name: &str, workloads: &[Workload]) -> Result<Namespace<'a>> {
    let namespace = cluster.namespace(name, Follows::Revision("1-26-0"))?;
    for workload in workloads {
        namespace.run(workload)?;
    }
    cluster.namespace(name, Follows::Revision("1-28-2"))
}

/// Name, uid and revision of each living pod whose name begins so.
fn pods(namespace: &Namespace<'_>, prefix: &str) -> Result<Vec<(String, String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |pod: &Value| {
        let metadata = &pod["metadata"];
        (text(&metadata["name"]), text(&metadata["uid"]), text(&metadata["annotations"]["istio.io/rev"]))
    };
    let mut pods: Vec<_> = namespace.pods()?.iter().map(of).filter(|(name, ..)| name.starts_with(prefix)).collect();
    pods.sort();
    Ok(pods)
}

fn revisions(namespace: &Namespace<'_>, prefix: &str) -> Result<Vec<String>> {
    let mut revisions: Vec<String> = pods(namespace, prefix)?.into_iter().map(|(_, _, revision)| revision).collect();
    revisions.dedup();
    Ok(revisions)
}

#[test]
fn only_pods_that_a_workload_controls_are_evicted_or_judged() -> Result<()> {
    let cluster = Cluster::shared()?;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let shared = || json!({"group": "all"});
    let selector = || json!({"selector": {"matchLabels": {"app": null, "group": "all"}}});
    // One label for all of them: each selects the pods of all others.
    let of_all = |workload: Workload| workload.pod_labels(shared());
    let mine = cluster.namespace("identity-mine", Follows::Revision("1-26-0"))?;
    // As `kubectl debug --copy-to` leaves it: a pod with the labels of the one that it copies. A controller of its own keeps the
    // ReplicaSet from adopting it.
    let keeper = mine.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keeper"}}))?;
    let mut copy = Workload::pod("bystander").pod_labels(shared()).manifest();
    copy["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": keeper["metadata"]["uid"], "controller": true},
    ]);
    mine.apply(copy)?;
    let mine = stale(
        cluster,
        "identity-mine",
        &[
            of_all(Workload::stateful_set("db")).replicas(2).spec(selector()).spec(on_delete.clone()),
            of_all(Workload::stateful_set("part"))
                .replicas(2)
                .spec(selector())
                .spec(json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}})),
            of_all(Workload::daemon_set("agent")).spec(selector()).spec(on_delete),
            of_all(Workload::deployment("one")).spec(selector()),
            of_all(Workload::deployment("two")).spec(selector()),
            of_all(Workload::replica_set("legacy")).spec(selector()),
            of_all(Workload::job("once")),
        ],
    )?;
    let (bystander, job) = (pods(&mine, "bystander")?, pods(&mine, "once")?);
    ensure!(bystander.len() == 1 && bystander[0].2 == "1-26-0", "{bystander:?}");
    let session = plugin("mesh-upgrade")?.on(cluster).time_limit(Duration::from_secs(300));
    let output = session.run(["mesh-upgrade", "restart", "-n", "identity-mine", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(output.stderr.contains("6 workloads run what is wanted"), "{}", output.transcript());
    ensure!(pods(&mine, "bystander")? == bystander, "a bare pod with the same label is another's: {}", output.transcript());
    ensure!(pods(&mine, "once")? == job, "a Job's pod with the same label is the Job's: {}", output.transcript());
    for workload in ["db", "part", "agent", "one", "two", "legacy"] {
        ensure!(revisions(&mine, workload)? == ["1-28-2"], "{workload}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn a_workload_that_was_made_anew_is_not_touched() -> Result<()> {
    let cluster = Cluster::shared()?;
    let web = Workload::deployment("web");
    let anew = stale(cluster, "identity-anew", std::slice::from_ref(&web))?;
    let plan = plugin("mesh-upgrade")?.on(cluster);
    let planned = plan.run(["mesh-upgrade", "plan", "-n", "identity-anew"])?;
    ensure!(planned.code == Some(0) && planned.stdout.contains("uid: "), "{}", planned.transcript());
    std::fs::write(plan.home().join("plan.yaml"), &planned.stdout)?;
    let (api, is_done) = (cluster.api().clone(), AtomicBool::new(false));
    let mut manifest = web.manifest();
    manifest["metadata"]["namespace"] = "identity-anew".into();
    let interceptor = Interceptor::before(cluster, move |call| {
        if call.method == "PATCH" && !is_done.swap(true, Ordering::SeqCst) {
            let path = "/apis/apps/v1/namespaces/identity-anew/deployments";
            let made = api.delete(&format!("{path}/web")).and_then(|_| api.create(path, &manifest));
            assert!(made.is_ok(), "{made:?}");
        }
        Fate::Pass
    })?;
    let output =
        plugin("mesh-upgrade")?.through(&interceptor)?.run(["mesh-upgrade", "restart", "-n", "identity-anew", "--yes"])?;
    ensure!(output.code == Some(5), "{}", output.transcript());
    // Said once, where it happens.
    ensure!(output.stdout.contains("deleted and made anew"), "{}", output.transcript());
    ensure!(!output.stderr.contains("deleted and made anew"), "{}", output.transcript());
    let template = anew.get(&web)?["spec"]["template"].clone();
    ensure!(template["metadata"]["annotations"].is_null(), "the new one was not restarted: {template}");
    let file = plan.home().join("plan.yaml");
    let refused = plan.run(["mesh-upgrade", "restart", "--plan", &file.to_string_lossy(), "--yes"])?;
    ensure!(refused.code == Some(4), "{}", refused.transcript());
    ensure!(refused.stderr.contains("was deleted and made anew since"), "{}", refused.transcript());
    Ok(())
}

#[test]
fn a_pod_whose_owner_is_gone_is_not_evicted_or_is_reported() -> Result<()> {
    let cluster = Cluster::shared()?;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    // The owner leaves its pods behind just before the eviction, or just after it.
    for (name, code, told) in [
        ("identity-before", 0, "left alone: statefulset.apps/db -n identity-before: it is not there any more"),
        ("identity-after", 5, "pod db-0 was evicted, and then: it is not there any more"),
    ] {
        let namespace = stale(cluster, name, &[Workload::stateful_set("db").spec(on_delete.clone())])?;
        let pods_before = pods(&namespace, "db")?;
        let (is_evicting, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
        let interceptor = front.beside(move |call| {
            let is_eviction = call.target.contains("/eviction");
            let is_time = if code == 0 { is_eviction } else { is_evicting.load(Ordering::SeqCst) };
            if is_time && !is_done.swap(true, Ordering::SeqCst) {
                let orphaned = cluster.kubectl(["delete", "statefulset/db", "-n", name, "--cascade=orphan"]);
                assert!(orphaned.is_ok(), "{orphaned:?}");
            }
            is_evicting.fetch_or(is_eviction, Ordering::SeqCst);
            Fate::Pass
        })?;
        let output = plugin("mesh-upgrade")?.through(&interceptor)?.run(["mesh-upgrade", "restart", "-n", name, "--yes"])?;
        ensure!(output.code == Some(code), "{}", output.transcript());
        // A failure stands beside the outcomes of the other workloads, what was left alone beside the warnings.
        let stream = if code == 0 { &output.stderr } else { &output.stdout };
        ensure!(stream.contains(told), "{}", output.transcript());
        ensure!(code != 0 || pods(&namespace, "db")? == pods_before, "nobody makes it anew: {}", output.transcript());
    }
    Ok(())
}

/// A policy of the API server that rewrites the proxy's image in pods of a namespace, as a mirror's webhook does.
fn rewrite(cluster: &Cluster, namespace: &str, image: &str) -> Result<()> {
    let expression = format!(
        "Object{{spec: Object.spec{{initContainers: object.spec.?initContainers.orValue([]).filter(c, c.name == 'istio-proxy')\
         .map(c, Object.spec.initContainers{{name: c.name, image: {image}}})}}}}"
    );
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
            ]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        },
    }))?;
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {
            "policyName": namespace,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    }))?;
    // The API server learns of it a moment later.
    let probe = Workload::pod("probe");
    cluster.wait("the policy to rewrite images", Duration::from_secs(60), || {
        let pod = cluster.namespace_named(namespace).dry_run(&probe)?;
        let images = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
        let is_rewritten = |container: &Value| {
            container["name"] == "istio-proxy"
                && container["image"].as_str().is_some_and(|image| image.starts_with("mirror.example.org/"))
        };
        Ok(images.iter().any(is_rewritten).then_some(()))
    })
}

#[test]
fn an_image_that_a_policy_rewrites_is_no_failure_and_another_image_is() -> Result<()> {
    let cluster = Cluster::shared()?;
    let digest = "sha256:".to_owned() + &"ab".repeat(32);
    let cases = [
        ("mirrored", "'mirror.example.org/' + c.image".to_owned(), Some(0), ""),
        ("pinned-tag", format!("'mirror.example.org/proxyv2:1.28.2@{digest}'"), Some(0), ""),
        // The tag is dropped: the revision and the dry run decide, and that is said.
        ("by-digest", format!("'mirror.example.org/proxyv2@{digest}'"), Some(0), "its version cannot be read off"),
        ("another-version", "'mirror.example.org/proxyv2:1.27.0'".to_owned(), Some(4), "a new pod gets"),
        ("another-variant", "'mirror.example.org/proxyv2:1.28.2-debug'".to_owned(), Some(4), "a new pod gets"),
        ("another-name", "'mirror.example.org/envoy:1.28.2'".to_owned(), Some(4), "a new pod gets"),
    ];
    for (name, image, code, told) in cases {
        let place = format!("images-{name}");
        let web = Workload::deployment("web");
        let namespace = stale(cluster, &place, std::slice::from_ref(&web))?;
        rewrite(cluster, &place, &image)?;
        let output = plugin("mesh-upgrade")?.on(cluster).run(["mesh-upgrade", "restart", "-n", &place, "--yes"])?;
        ensure!(output.code == code && output.stderr.contains(told), "{name}: {}", output.transcript());
        let expected = if code == Some(0) { "1-28-2" } else { "1-26-0" };
        ensure!(revisions(&namespace, "web")? == [expected], "{name}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn a_namesake_in_another_group_is_another_workload() -> Result<()> {
    let cluster = Cluster::shared()?;
    let db = Workload::stateful_set("db").spec(json!({"updateStrategy": {"type": "OnDelete"}}));
    let namespace = stale(cluster, "identity-namesake", std::slice::from_ref(&db))?;
    let definition = crate::operators::definition("apps.kruise.io", "statefulsets", "StatefulSet");
    crate::operators::define(cluster, &definition)?;
    let other = namespace.apply(json!({"apiVersion": "apps.kruise.io/v1", "kind": "StatefulSet", "metadata": {"name": "db"}}))?;
    let mut pod = Workload::pod("kruise-0").pod_labels(json!({"istio.io/rev": "1-26-0"})).manifest();
    pod["metadata"]["labels"]["app"] = "db".into();
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps.kruise.io/v1", "kind": "StatefulSet", "name": "db", "uid": other["metadata"]["uid"], "controller": true,
    }]);
    namespace.apply(pod)?;
    let before = pods(&namespace, "kruise")?;
    let session = plugin("mesh-upgrade")?.on(cluster);
    let output = session.run(["mesh-upgrade", "restart", "-n", "identity-namesake", "statefulset.apps/db", "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    ensure!(!output.stderr.contains("kruise"), "it was not named: {}", output.transcript());
    ensure!(pods(&namespace, "kruise")? == before, "{}", output.transcript());
    ensure!(revisions(&namespace, "db")? == ["1-28-2"], "{}", output.transcript());
    let report = plugin("mesh-proxyver")?.on(cluster).run(["mesh-proxyver", "-n", "identity-namesake", "-o", "json"])?.json()?;
    let items = report["items"].as_array().context("a report has items")?;
    let counts: Vec<(&str, &Value)> =
        items.iter().filter_map(|item| Some((item["workload"]["apiVersion"].as_str()?, &item["proxies"]))).collect();
    ensure!(counts == [("apps.kruise.io/v1", &json!(1)), ("apps/v1", &json!(1))], "{counts:?}");
    Ok(())
}
