//! What is there, who follows, what is wrong.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Fate, Follows, Interceptor, IstioVersion, Options, Output, Revision, Workload, plugin, transcript};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

/// Copies a tag's webhook under another tag, changed by `change`.
fn broken_tag(cluster: &Cluster, from: &str, tag: &str, change: impl Fn(&mut Value)) -> Result<()> {
    let webhook = cluster.api().get(&format!("{WEBHOOKS}/istio-revision-tag-{from}"))?;
    let mut entries = webhook["webhooks"].clone();
    for entry in entries.as_array_mut().context("a webhook has entries")? {
        let text = entry.to_string().replace(&format!("\"{from}\""), &format!("\"{tag}\""));
        *entry = serde_json::from_str(&text)?;
        change(entry);
    }
    let revision = webhook["metadata"]["labels"]["istio.io/rev"].clone();
    // istiod must not mend what is broken on purpose.
    let revision = if tag == "untrusted" { json!("nobody") } else { revision };
    cluster.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": format!("istio-revision-tag-{tag}"), "labels": {"istio.io/tag": tag, "istio.io/rev": revision, "app": "sidecar-injector"}},
        "webhooks": entries,
    }))?;
    Ok(())
}

#[test]
fn followers_and_faults_of_every_kind_are_shown() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(IstioVersion::V1_28_2));
    let session = plugin("mesh-tag")?.on(&cluster);
    check("list_no_mesh", &session.run(["mesh-tag"])?);
    cluster.install(&old)?;
    check("list_no_tags", &session.run(["mesh-tag"])?);
    cluster.install(&new)?;
    for tag in ["prod", "moved"] {
        let set = session.run(["mesh-tag", "set", tag, "--revision", "1-28-2", "--yes"])?;
        assert_eq!(set.code, Some(0), "{}", set.transcript());
    }
    // istioctl 1.26 knows nothing of the Service, and leaves it where it is.
    cluster.istioctl(IstioVersion::V1_26_0, ["tag", "set", "moved", "--revision", "1-26-0", "--overwrite", "-y"])?;
    cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", "1-26-0", "--revision", "1-28-2", "--overwrite", "-y"])?;
    broken_tag(&cluster, "prod", "dangling", |entry| entry["clientConfig"]["service"]["name"] = json!("istiod-gone"))?;
    broken_tag(&cluster, "prod", "differs", |entry| entry["clientConfig"]["service"]["name"] = json!("istiod-1-26-0"))?;
    broken_tag(&cluster, "prod", "untrusted", |entry| entry["clientConfig"]["caBundle"] = Value::Null)?;
    let shop = cluster.namespace("shop", Follows::Revision("prod"))?;
    shop.run(&Workload::deployment("web").replicas(2))?;
    cluster.namespace("legacy", Follows::Injection)?.run(&Workload::deployment("old"))?;
    let mixed = cluster.namespace("mixed", Follows::Nothing)?;
    mixed.run(&Workload::deployment("alone").pod_labels(json!({"istio.io/rev": "prod"})))?;
    mixed.run(&Workload::deployment("asking").pod_labels(json!({"sidecar.istio.io/inject": "true"})))?;
    cluster.namespace("direct", Follows::Revision("1-28-2"))?.run(&Workload::deployment("api"))?;

    check("list", &session.run(["mesh-tag", "list"])?);
    check("list_wide", &session.run(["mesh-tag", "list", "-o", "wide", "--no-stale"])?);
    check("list_json", &session.run(["mesh-tag", "-o", "json"])?);
    assert_eq!(session.run(["mesh-tag", "list", "--exit-code"])?.code, Some(3));
    // A pod of the old revision is stale once the tag has moved.
    cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", "prod", "--revision", "1-26-0", "--overwrite", "-y"])?;
    let listed = session.run(["mesh-tag", "-o", "json"])?.json()?;
    let items = listed["items"].as_array().context("a TagList has items")?;
    let prod = items.iter().find(|item| item["name"] == "prod").context("the tag is listed")?;
    assert_eq!((&prod["proxies"], &prod["stale"]), (&json!(3), &json!(3)), "{prod}");
    Ok(())
}

#[test]
fn one_list_a_kind_is_asked_for_however_many_tags_there_are() -> Result<()> {
    let cluster = Cluster::shared()?;
    let interceptor = Interceptor::before(cluster, |_| Fate::Pass)?;
    let session = plugin("mesh-tag")?.through(&interceptor)?;
    let output = session.run(["mesh-tag", "list"])?;
    assert_eq!(output.code, Some(0), "{}", output.transcript());
    let mut lists: Vec<String> = interceptor
        .requests()
        .iter()
        .filter(|request| request.contains("limit="))
        .map(|request| request.split('?').next().unwrap_or_default().to_owned())
        .collect();
    lists.sort();
    let count = lists.len();
    lists.dedup();
    assert_eq!(lists.len(), count, "a list was asked for twice: {:#?}", interceptor.requests());
    Ok(())
}

#[test]
fn a_validator_that_nobody_answers_is_told() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let revision = Revision::of(IstioVersion::V1_28_2);
    cluster.install(&revision)?;
    cluster.kubectl(["delete", "service", "istiod-1-28-2", "-n", "istio-system"])?;
    let listed = plugin("mesh-tag")?.on(&cluster).run(["mesh-tag", "list", "-o", "json"])?.json()?;
    let findings: Vec<&Value> =
        listed["findings"].as_array().into_iter().flatten().filter(|finding| finding["code"] == "dangling-validator").collect();
    let subjects: Vec<&str> = findings.iter().filter_map(|finding| finding["subject"].as_str()).collect();
    let kind = "validatingwebhookconfigurations";
    assert_eq!(subjects, [format!("{kind}/istio-validator-1-28-2-istio-system"), format!("{kind}/istiod-default-validator")]);
    Ok(())
}
