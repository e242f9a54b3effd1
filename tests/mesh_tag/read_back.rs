//! What was written is what is there afterwards, or the command says what is not: admission may put fields back, somebody may answer in
//! the API server's place, and what has finalizers stays when it is deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{Call, Cluster, Fate, Follows, Interceptor, Output, plugin};

use crate::tags::{NEW, OLD, TagObjects};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const SERVICES: &str = "/api/v1/namespaces/istio-system/services";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicybindings";

/// What an intermediary may say that has done nothing.
const DONE: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":200}"#;

fn run(cluster: &Cluster, words: &[&str]) -> Result<Output> {
    plugin("mesh-tag")?.on(cluster).run(["mesh-tag"].iter().chain(words))
}

fn succeeds(cluster: &Cluster, words: &[&str]) -> Result<()> {
    let output = run(cluster, words)?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(())
}

/// A policy by which the Service of a tag keeps a revision, whatever is written.
fn keep(cluster: &Cluster, tag: &str, revision: &str) -> Result<()> {
    let replace = |path: &str| format!("JSONPatch{{op: 'replace', path: '{path}/istio.io~1rev', value: '{revision}'}}");
    let expression = format!("[{}, {}]", replace("/spec/selector"), replace("/metadata/labels"));
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": tag},
        "spec": {
            "failurePolicy": "Ignore", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "objectSelector": {"matchLabels": {"istio.io/tag": tag}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["services"]}],
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }))?;
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": tag}, "spec": {"policyName": tag},
    }))?;
    let path = format!("{SERVICES}/istiod-revision-tag-{tag}?dryRun=All");
    cluster.wait("the policy to keep the Service", Duration::from_secs(60), || {
        let answer = cluster.api().patch(&path, &json!({"spec": {"selector": {"istio.io/rev": "other"}}}))?;
        Ok((answer["spec"]["selector"]["istio.io/rev"] == revision).then_some(()))
    })
}

#[test]
fn a_tag_whose_service_admission_changes_back_is_not_split() -> Result<()> {
    let cluster = Cluster::shared()?;
    succeeds(cluster, &["set", "altered", "--revision", NEW, "--yes"])?;
    keep(cluster, "altered", NEW)?;
    let moved = run(cluster, &["set", "altered", "--revision", OLD, "--yes", "--overwrite"])?;
    assert_eq!(moved.code, Some(1), "{}", moved.transcript());
    for told in ["services/istiod-revision-tag-altered", "spec.selector.istio.io/rev is 1-28-2, not 1-26-0", "was put back"] {
        assert!(moved.stderr.contains(told), "{told} is missing: {}", moved.transcript());
    }
    TagObjects::of(cluster, "altered")?.is_whole(Some(NEW))?;
    for path in [format!("{BINDINGS}/altered"), format!("{POLICIES}/altered")] {
        cluster.api().delete(&path)?;
    }
    TagObjects::of(cluster, "altered")?.delete(cluster)
}

#[test]
fn what_somebody_else_has_answered_is_not_taken_for_done() -> Result<()> {
    let cluster = Cluster::shared()?;
    let front = Interceptor::before(cluster, |_| Fate::Pass)?;
    let answered = |of: &'static str, words: &[&str]| -> Result<Output> {
        let judge = move |call: &Call| if call.is_write() && call.target.contains(of) { Fate::Answer(DONE) } else { Fate::Pass };
        plugin("mesh-tag")?.through(&front.beside(judge)?)?.run(["mesh-tag"].iter().chain(words))
    };
    for of in ["/services", "/mutatingwebhookconfigurations"] {
        let set = |revision: &'static str| ["set", "answered", "--revision", revision, "--yes", "--overwrite"];
        for (words, before) in [(&set(NEW)[..], None), (&set(OLD), Some(NEW)), (&["undo", "answered", "--yes"], Some(OLD))] {
            let output = answered(of, words)?;
            assert!(matches!(output.code, Some(1 | 5)) && output.stderr.contains("answered"), "{of}: {}", output.transcript());
            // What could not be put back for the same reason is named; nothing is said to be done that is not.
            if output.code == Some(1) {
                TagObjects::of(cluster, "answered")?.is_whole(before)?;
            }
            succeeds(cluster, words)?;
        }
        let removed = answered(of, &["remove", "answered", "--yes"])?;
        assert_eq!(removed.code, Some(5), "{of}: {}", removed.transcript());
        assert!(removed.stderr.contains("is still there: nobody has deleted it"), "{of}: {}", removed.transcript());
        succeeds(cluster, &["remove", "answered", "--yes"])?;
        TagObjects::of(cluster, "answered")?.is_whole(None)?;
    }
    Ok(())
}

#[test]
fn what_waits_for_its_finalizers_is_neither_gone_nor_built_on() -> Result<()> {
    let cluster = Cluster::shared()?;
    let set = ["set", "held", "--revision", NEW, "--yes"];
    for path in [format!("{SERVICES}/istiod-revision-tag-held"), format!("{WEBHOOKS}/istio-revision-tag-held")] {
        let finalizers = |names: Value| cluster.api().patch(&path, &json!({"metadata": {"finalizers": names}}));
        let names_it = |output: &Output, code: i32| {
            assert_eq!(output.code, Some(code), "{}", output.transcript());
            let name = path.rsplit('/').next().unwrap_or_default();
            let told = "is being deleted, and waits for its finalizers: example.org/hold";
            assert!(output.stderr.contains(name) && output.stderr.contains(told), "{}", output.transcript());
            assert!(!output.stderr.contains("somebody") && !output.stderr.contains("was removed"), "{}", output.transcript());
        };
        succeeds(cluster, &set)?;
        finalizers(json!(["example.org/hold"]))?;
        names_it(&run(cluster, &["remove", "held", "--yes"])?, 5);
        names_it(&run(cluster, &set)?, 4);
        names_it(&run(cluster, &["set", "held", "--revision", OLD, "--yes", "--overwrite"])?, 4);
        finalizers(json!([]))?;
        ensure!(cluster.api().find(&path)?.is_none(), "{path} is gone without its finalizer");
        TagObjects::of(cluster, "held")?.delete(cluster)?;
    }
    Ok(())
}

#[test]
fn a_namespace_that_is_being_deleted_follows_nobody() -> Result<()> {
    let cluster = Cluster::shared()?;
    let path = "/api/v1/namespaces/leaving-shop";
    cluster.namespace("leaving-shop", Follows::Nothing)?;
    cluster.api().patch(path, &json!({"metadata": {"finalizers": ["example.org/hold"]}}))?;
    cluster.api().delete(path)?;
    let attached = run(cluster, &["attach", NEW, "leaving-shop"])?;
    assert_eq!(attached.code, Some(4), "{}", attached.transcript());
    assert!(attached.stderr.contains("namespaces/leaving-shop is being deleted"), "{}", attached.transcript());
    assert_eq!(cluster.api().get(path)?["metadata"]["labels"]["istio.io/rev"], Value::Null);
    cluster.api().patch(path, &json!({"metadata": {"finalizers": []}}))?;
    Ok(())
}
