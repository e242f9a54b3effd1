//! The clusters that cases are tried in: which injectors there are, and in which state.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Cluster, Follows, IstioVersion, Options, Revision, Workload};

/// How many worlds there are.
pub const NUMBER: usize = 7;

const OLD: IstioVersion = IstioVersion::V1_26_0;
const NEW: IstioVersion = IstioVersion::V1_28_2;
const PATIENCE: Duration = Duration::from_secs(30);

/// One of them.
pub struct World<'a> {
    /// For messages, and for the names of its namespaces.
    pub name: &'static str,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What `istio.io/rev` may say.
    pub revisions: &'static [&'static str],
}

/// Takes a world and tries cases in it.
pub type Try<'a> = dyn FnMut(&World<'_>) -> Result<()> + 'a;

const REVISIONS: &[&str] = &["1-26-0", "1-28-2", "prod", "canary", "default", "nowhere"];

/// Two named revisions with tags, in five states.
pub fn with_revisions(compare: &mut Try<'_>) -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(OLD), Revision::of(NEW));
    cluster.install(&old)?;
    cluster.install(&new)?;
    cluster.set_tag("prod", &old)?;
    cluster.set_tag("canary", &new)?;
    compare(&World { name: "tags", cluster: &cluster, revisions: REVISIONS })?;
    crate::peers::count(&cluster)?;

    configure(&cluster, "enabled")?;
    compare(&World { name: "config", cluster: &cluster, revisions: REVISIONS })?;
    configure(&cluster, "disabled")?;
    compare(&World { name: "policy", cluster: &cluster, revisions: REVISIONS })?;

    overlap(&cluster)?;
    compare(&World { name: "overlap", cluster: &cluster, revisions: REVISIONS })?;

    // The revision goes, its tag stays; the other loses all its endpoints.
    cluster.uninstall(&old)?;
    cluster.stop_istiod(&new);
    let scale = json!({"spec": {"replicas": 0}});
    cluster.api().patch("/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-28-2", &scale)?;
    // Its autoscaler is there too, and would bring it back.
    cluster.wait("istiod to have no endpoints", PATIENCE, || {
        let slices = cluster.api().get("/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices")?;
        let items = slices["items"].as_array().into_iter().flatten();
        let left = items.filter(|slice| slice["endpoints"].as_array().is_some_and(|endpoints| !endpoints.is_empty())).count();
        Ok((left == 0).then_some(()))
    })?;
    compare(&World { name: "gone", cluster: &cluster, revisions: REVISIONS })
}

/// An unrevisioned install as Helm makes it, beside a named revision: first with its injector active, then with the tag
/// `default` moved to the other, which deactivates it.
pub fn with_an_unrevisioned_install(compare: &mut Try<'_>) -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let named = Revision::of(OLD).by_helm();
    cluster.install(&Revision::unrevisioned(NEW).by_helm())?;
    cluster.install(&named)?;
    let revisions = &["default", "1-26-0", "nowhere"];
    compare(&World { name: "helm", cluster: &cluster, revisions })?;
    cluster.set_tag("default", &named)?;
    compare(&World { name: "moved", cluster: &cluster, revisions })
}

/// Changes what revision 1-28-2 injects, and waits until its istiod has taken it up.
fn configure(cluster: &Cluster, policy: &str) -> Result<()> {
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector-1-28-2";
    let map = cluster.api().get(path)?;
    let config = map["data"]["config"].as_str().context("the injector's ConfigMap has a config")?;
    let config: String = config
        .lines()
        .map(|line| match line {
            _ if line.starts_with("policy:") => format!("policy: {policy}\n"),
            "templates:" => "templates:\n  custom: |\n    spec:\n      containers:\n      - name: istio-proxy\n        image: example.com/custom:1\n".to_owned(),
            "alwaysInjectSelector:" => "alwaysInjectSelector:\n  - matchLabels: {always: \"yes\"}\n".to_owned(),
            "neverInjectSelector:" => "neverInjectSelector:\n  - matchExpressions: [{key: never, operator: Exists}]\n".to_owned(),
            // The empty lists behind the two selectors.
            "  []" => String::new(),
            other => format!("{other}\n"),
        })
        .collect();
    let mut values: Value =
        serde_json::from_str(map["data"]["values"].as_str().unwrap_or_default()).context("values are JSON")?;
    values["global"]["variant"] = json!("distroless");
    cluster.api().patch(path, &json!({"data": {"config": config, "values": values.to_string()}}))?;
    let probe = cluster.namespace("probe", Follows::Revision("1-28-2"))?;
    let plain = Workload::deployment("plain");
    cluster.wait(&format!("policy {policy} to hold"), PATIENCE, || {
        let pod = probe.dry_run(&plain)?;
        let image = proxy_image(&pod).unwrap_or_default();
        let holds = if policy == "enabled" { image.ends_with("-distroless") } else { image.is_empty() };
        Ok(holds.then_some(()))
    })?;
    proxy_configs(cluster)
}

/// ProxyConfigs for the whole mesh (only the other revision's), for a namespace and for some pods of another.
fn proxy_configs(cluster: &Cluster) -> Result<()> {
    let config = |namespace: &str, name: &str, labels: Value, spec: Value| {
        json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig",
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec})
    };
    cluster.apply(&config(
        "istio-system",
        "mesh",
        json!({"istio.io/rev": "1-26-0"}),
        json!({"image": {"imageType": "debug"}}),
    ))?;
    cluster.apply(&config(
        "probe",
        "pods",
        json!({}),
        json!({"selector": {"matchLabels": {"variant": "yes"}}, "image": {"imageType": "debug"}}),
    ))?;
    let probe = cluster.namespace("probe", Follows::Revision("1-28-2"))?;
    let asks = Workload::deployment("plain").pod_labels(json!({"variant": "yes", "sidecar.istio.io/inject": "true"}));
    cluster.wait("the ProxyConfigs to hold", PATIENCE, || {
        Ok(proxy_image(&probe.dry_run(&asks)?).is_some_and(|image| image.ends_with("-debug")).then_some(()))
    })
}

/// A second injector with the selectors of the first, and conditions on a tag's.
fn overlap(cluster: &Cluster) -> Result<()> {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let mut copy = cluster.api().get(&format!("{path}/istio-sidecar-injector-1-28-2"))?;
    copy["metadata"] = json!({"name": "vendor-injector", "labels": {"istio.io/rev": "1-28-2"}});
    cluster.apply(&copy)?;
    let conditions = [("canary", "object.metadata.generateName != 'x'"), ("prod", "true")];
    for (tag, expression) in conditions {
        let path = format!("{path}/istio-revision-tag-{tag}");
        let mut configuration = cluster.api().get(&path)?;
        for webhook in configuration["webhooks"].as_array_mut().context("a configuration has webhooks")? {
            webhook["matchConditions"] = json!([{"name": "truth", "expression": expression}]);
        }
        cluster.api().patch(&path, &json!({"webhooks": configuration["webhooks"]}))?;
    }
    Ok(())
}
