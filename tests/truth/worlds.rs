//! The clusters that cases are tried in: which injectors there are, and in which state.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::workload::proxy_image;
use support::{Cluster, Follows, IstioVersion, Options, Revision, Workload};

/// How many worlds there are.
pub const NUMBER: usize = 9;

const OLD: IstioVersion = IstioVersion::V1_26_0;
const NEW: IstioVersion = IstioVersion::V1_28_2;
const PATIENCE: Duration = Duration::from_secs(30);
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// One of them.
pub struct World<'a> {
    /// For messages, and for the names of its namespaces.
    pub name: &'static str,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What `istio.io/rev` may say, and somebody injects.
    pub present: &'static [&'static str],
    /// What it may say in vain.
    pub absent: &'static [&'static str],
    /// Pod templates that `istioctl kube-inject` has filled.
    pub injected: &'a [Value],
    /// Whether several injectors select the same pods.
    pub overlaps: bool,
    /// Whether conditions in CEL decide.
    pub has_conditions: bool,
    /// Whether its namespaces have ProxyConfigs.
    pub has_proxy_configs: bool,
}

/// Takes a world and tries cases in it.
pub type Try<'a> = dyn FnMut(&World<'_>) -> Result<()> + 'a;

impl<'a> World<'a> {
    fn new(name: &'static str, cluster: &'a Cluster, injected: &'a [Value]) -> Self {
        let (overlaps, has_conditions, has_proxy_configs) = (false, false, false);
        let (present, absent): (&[&str], &[&str]) = (&["1-26-0", "1-28-2", "prod", "canary"], &["default", "nowhere", ""]);
        Self { name, cluster, present, absent, injected, overlaps, has_conditions, has_proxy_configs }
    }

    /// What `istio.io/rev` may say.
    pub fn revisions(&self) -> Vec<&'static str> {
        self.present.iter().chain(self.absent).copied().collect()
    }

    /// Waits until each istiod has seen the newest ProxyConfig, and so all of them.
    pub fn settle(&self) -> Result<()> {
        for revision in self.present.iter().filter(|_| self.has_proxy_configs) {
            let namespace = self.cluster.namespace(&format!("{}-settled-{revision}", self.name), Follows::Revision(revision))?;
            namespace.apply(proxy_config("settled", json!({"image": {"imageType": "settled"}})))?;
            let plain = Workload::deployment("plain").pod_labels(json!({"sidecar.istio.io/inject": "true"}));
            self.cluster.wait(&format!("the ProxyConfigs of {revision} to hold"), PATIENCE, || {
                Ok(proxy_image(&namespace.dry_run(&plain)?).is_some_and(|image| image.ends_with("-settled")).then_some(()))
            })?;
        }
        Ok(())
    }
}

/// Two named revisions with tags, in five states.
pub fn with_revisions(compare: &mut Try<'_>) -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(OLD), Revision::of(NEW));
    cluster.install(&old)?;
    cluster.install(&new)?;
    cluster.set_tag("prod", &old)?;
    cluster.set_tag("canary", &new)?;
    let injected = kube_injected(&cluster, &[&old, &new])?;
    let world = |name| World::new(name, &cluster, &injected);
    compare(&world("tags"))?;
    crate::peers::count(&cluster)?;

    configure(&cluster, "enabled")?;
    default_to_debug(&cluster)?;
    compare(&World { has_proxy_configs: true, ..world("config") })?;
    configure(&cluster, "disabled")?;
    compare(&World { has_proxy_configs: true, ..world("policy") })?;

    overlap(&cluster)?;
    compare(&World { overlaps: true, has_conditions: true, ..world("overlap") })?;

    // The revision goes, its tag stays; the other loses all its endpoints, which the tag's injector ignores.
    cluster.uninstall(&old)?;
    cluster.stop_istiod(&new);
    change_webhooks(&cluster, "istio-revision-tag-canary", |webhook| {
        webhook["failurePolicy"] = json!("Ignore");
        webhook["matchConditions"] = Value::Null;
    })?;
    cluster.api().delete(&format!("{WEBHOOKS}/vendor-injector"))?;
    let scale = json!({"spec": {"replicas": 0}});
    cluster.api().patch("/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-28-2", &scale)?;
    // Its autoscaler is there too, and would bring it back.
    cluster.wait("istiod to have no endpoints", PATIENCE, || {
        let slices = cluster.api().get("/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices")?;
        let items = slices["items"].as_array().into_iter().flatten();
        let left = items.filter(|slice| slice["endpoints"].as_array().is_some_and(|endpoints| !endpoints.is_empty())).count();
        Ok((left == 0).then_some(()))
    })?;
    compare(&world("gone"))
}

/// An unrevisioned install as Helm makes it, beside a named revision: with its injector active; injecting wherever nothing
/// is said; deactivated by the tag `default`; and active beside that tag.
pub fn with_an_unrevisioned_install(compare: &mut Try<'_>) -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (named, unrevisioned) = (Revision::of(OLD).by_helm(), Revision::unrevisioned(NEW).by_helm());
    cluster.install(&unrevisioned)?;
    cluster.install(&named)?;
    let injected = kube_injected(&cluster, &[&named, &unrevisioned])?;
    let world =
        |name| World { present: &["default", "1-26-0"], absent: &["nowhere", ""], ..World::new(name, &cluster, &injected) };
    compare(&world("helm"))?;
    cluster.install(&unrevisioned.clone().set("sidecarInjectorWebhook.enableNamespacesByDefault=true"))?;
    compare(&world("auto"))?;
    let active = cluster.api().get(&format!("{WEBHOOKS}/istio-sidecar-injector"))?;
    cluster.set_tag("default", &named)?;
    compare(&world("moved"))?;
    cluster.api().patch(&format!("{WEBHOOKS}/istio-sidecar-injector"), &json!({"webhooks": active["webhooks"]}))?;
    compare(&World { overlaps: true, ..world("both") })
}

/// Pod templates filled by each version's `istioctl kube-inject`: a plain one, a native one, and one with a proxy container
/// of its own.
fn kube_injected(cluster: &Cluster, revisions: &[&Revision]) -> Result<Vec<Value>> {
    let own = json!([{"name": "app", "image": "app:1"}, {"name": "istio-proxy", "image": "example.com/own/proxyv2:1.25.0"}]);
    let plain = Workload::deployment("plain");
    let workloads =
        [plain.clone(), plain.clone().pod_annotations(json!({"sidecar.istio.io/nativeSidecar": "true"})), plain.containers(own)];
    let keep = |name: &str, text: &str| -> Result<String> {
        let file = cluster.folder().join(format!("kube-inject-{name}"));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file.to_string_lossy().into_owned())
    };
    let mut injected = Vec::new();
    for revision in revisions {
        let suffix = if revision.name == "default" { String::new() } else { format!("-{}", revision.name) };
        let file = |map: &str, key: &str| -> Result<String> {
            let map = cluster.api().get(&format!("/api/v1/namespaces/istio-system/configmaps/{map}{suffix}"))?;
            keep(key, map["data"][key].as_str().with_context(|| format!("the ConfigMap has no {key}"))?)
        };
        let (config, values) = (file("istio-sidecar-injector", "config")?, file("istio-sidecar-injector", "values")?);
        let mesh = file("istio", "mesh")?;
        for workload in &workloads {
            let input = keep("workload", &workload.manifest().to_string())?;
            let files = ["--injectConfigFile", &config, "--valuesFile", &values, "--meshConfigFile", &mesh, "-f", &input];
            let arguments = ["kube-inject", "--revision", &revision.name].into_iter().chain(files);
            let output = keep("injected", &cluster.istioctl(revision.version, arguments)?)?;
            // kubectl turns its YAML into JSON.
            let object = cluster.kubectl(["create", "--dry-run=client", "-o", "json", "-f", &output])?;
            let object: Value = serde_json::from_str(&object).context("kubectl writes JSON")?;
            injected.push(object["spec"]["template"].clone());
        }
    }
    Ok(injected)
}

/// Changes what revision 1-28-2 injects, and waits until its istiod has taken it up.
fn configure(cluster: &Cluster, policy: &str) -> Result<()> {
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector-1-28-2";
    let map = cluster.api().get(path)?;
    let config = map["data"]["config"].as_str().context("the injector's ConfigMap has a config")?;
    let is_new = !config.contains("example.com/custom");
    let config: String = config
        .lines()
        .map(|line| match line {
            _ if line.starts_with("policy:") => format!("policy: {policy}\n"),
            "templates:" if is_new => "templates:\n  custom: |\n    spec:\n      containers:\n      - name: istio-proxy\n        image: example.com/custom:1\n".to_owned(),
            "alwaysInjectSelector:" if is_new => "alwaysInjectSelector:\n  - matchLabels: {always: \"yes\"}\n".to_owned(),
            "neverInjectSelector:" if is_new => "neverInjectSelector:\n  - matchExpressions: [{key: never, operator: Exists}]\n".to_owned(),
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
    })
}

/// Gives all proxies of 1-26-0 another variant by its mesh configuration, and all of 1-28-2 by a ProxyConfig of the root
/// namespace that is for it alone.
fn default_to_debug(cluster: &Cluster) -> Result<()> {
    let path = "/api/v1/namespaces/istio-system/configmaps/istio-1-26-0";
    let map = cluster.api().get(path)?;
    let mesh = map["data"]["mesh"].as_str().context("the mesh's ConfigMap has a mesh")?;
    let mesh = mesh.replace("defaultConfig:\n", "defaultConfig:\n  image:\n    imageType: debug\n");
    cluster.api().patch(path, &json!({"data": {"mesh": mesh}}))?;
    let mut config = proxy_config("mesh", json!({"image": {"imageType": "default"}}));
    config["metadata"] = json!({"name": "mesh", "namespace": "istio-system", "labels": {"istio.io/rev": "1-28-2"}});
    cluster.apply(&config)?;
    let plain = Workload::deployment("plain").pod_labels(json!({"sidecar.istio.io/inject": "true"}));
    for (revision, end) in [("1-26-0", "-debug"), ("1-28-2", ":1.28.2")] {
        let probe = cluster.namespace("probe", Follows::Revision(revision))?;
        cluster.wait(&format!("the images of {revision} to end with {end}"), PATIENCE, || {
            Ok(proxy_image(&probe.dry_run(&plain)?).is_some_and(|image| image.ends_with(end)).then_some(()))
        })?;
    }
    Ok(())
}

fn proxy_config(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig", "metadata": {"name": name}, "spec": spec})
}

/// A second injector with the selectors of the first, and conditions on the others: one that nobody here evaluates, and two
/// that anybody can.
fn overlap(cluster: &Cluster) -> Result<()> {
    let mut copy = cluster.api().get(&format!("{WEBHOOKS}/istio-sidecar-injector-1-28-2"))?;
    copy["metadata"] = json!({"name": "vendor-injector", "labels": {"istio.io/rev": "1-28-2"}});
    cluster.apply(&copy)?;
    let conditions = [
        ("istio-revision-tag-canary", "object.metadata.generateName != 'x'"),
        ("istio-revision-tag-prod", "true"),
        ("istio-sidecar-injector-1-26-0", "false"),
    ];
    for (name, expression) in conditions {
        change_webhooks(cluster, name, |webhook| {
            webhook["matchConditions"] = json!([{"name": "truth", "expression": expression}]);
        })?;
    }
    Ok(())
}

fn change_webhooks(cluster: &Cluster, name: &str, change: impl Fn(&mut Value)) -> Result<()> {
    let path = format!("{WEBHOOKS}/{name}");
    let mut configuration = cluster.api().get(&path)?;
    configuration["webhooks"].as_array_mut().context("a configuration has webhooks")?.iter_mut().for_each(change);
    cluster.api().patch(&path, &json!({"webhooks": configuration["webhooks"]})).map(|_| ())
}
