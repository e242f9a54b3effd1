//! What the tests of `mesh-tag` look at: the objects of a tag, and what a new pod gets.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::{Cluster, Namespace, Workload};

/// The revisions of the shared cluster.
pub const OLD: &str = "1-26-0";
/// The newer one.
pub const NEW: &str = "1-28-2";

/// What the install without a revision calls itself.
pub const UNREVISIONED: &str = "default";

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATORS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const SERVICES: &str = "/api/v1/services";

/// Everything that makes up a tag, whatever it is called.
pub struct TagObjects {
    tag: String,
    /// MutatingWebhookConfigurations.
    pub webhooks: Vec<Value>,
    /// Services.
    pub services: Vec<Value>,
}

impl TagObjects {
    /// Reads them.
    pub fn of(cluster: &Cluster, tag: &str) -> Result<Self> {
        let labelled = |path: &str| -> Result<Vec<Value>> {
            let list = cluster.api().get(&format!("{path}?labelSelector=istio.io/tag={tag}"))?;
            Ok(list["items"].as_array().context("a list has items")?.clone())
        };
        Ok(Self { tag: tag.to_owned(), webhooks: labelled(WEBHOOKS)?, services: labelled(SERVICES)? })
    }

    /// All of them say and route to `revision`; none of them is there where that is none.
    pub fn is_whole(&self, revision: Option<&str>) -> Result<()> {
        let Some(revision) = revision else {
            ensure!(self.webhooks.is_empty() && self.services.is_empty(), "something of {} is left: {}", self.tag, self.told());
            return Ok(());
        };
        ensure!(self.webhooks.len() == 1, "{} has {} webhooks: {}", self.tag, self.webhooks.len(), self.told());
        // Istio 1.28 brought a Service for each tag; what a tag had stays when it moves back.
        ensure!(self.services.len() <= 1, "{} has {} Services: {}", self.tag, self.services.len(), self.told());
        ensure!(revision != NEW || self.services.len() == 1, "{} has no Service: {}", self.tag, self.told());
        for object in self.webhooks.iter().chain(&self.services) {
            ensure!(
                object["metadata"]["labels"]["istio.io/rev"] == revision,
                "{} is not at {revision}: {}",
                self.tag,
                self.told()
            );
        }
        let entries = self.webhooks[0]["webhooks"].as_array().context("a configuration has entries")?;
        for entry in entries {
            let client = &entry["clientConfig"];
            let istiod = if revision == UNREVISIONED { "istiod".to_owned() } else { format!("istiod-{revision}") };
            let leads_there = client["service"]["name"] == istiod.as_str();
            let trusts = client["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
            ensure!(leads_there && trusts, "an entry of {} leads elsewhere: {}", self.tag, self.told());
        }
        for service in &self.services {
            let selected = &service["spec"]["selector"]["istio.io/rev"];
            ensure!(selected == revision, "the Service of {} selects {selected}", self.tag);
        }
        Ok(())
    }

    /// Deletes them, whatever they are.
    pub fn delete(&self, cluster: &Cluster) -> Result<()> {
        for webhook in &self.webhooks {
            cluster.api().delete(&format!("{WEBHOOKS}/{}", name_of(webhook)))?;
        }
        for service in &self.services {
            let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
            cluster.api().delete(&format!("/api/v1/namespaces/{namespace}/services/{}", name_of(service)))?;
        }
        Ok(())
    }

    /// Their names and where they lead.
    fn told(&self) -> String {
        let objects = self.webhooks.iter().chain(&self.services);
        let lines = objects.map(|object| {
            let client = &object["webhooks"][0]["clientConfig"]["service"]["name"];
            format!(
                "{} has labels {} and leads to {client}{}",
                name_of(object),
                object["metadata"]["labels"],
                object["spec"]["selector"]
            )
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The revision whose proxy a new pod in the namespace gets, by a dry run; an error where the pod is refused.
pub fn revision_of_a_new_pod(namespace: &Namespace<'_>) -> Result<Option<String>> {
    revision_of(namespace, &Workload::pod("probe"))
}

/// As [`revision_of_a_new_pod`], of any pod.
pub fn revision_of(namespace: &Namespace<'_>, pod: &Workload) -> Result<Option<String>> {
    let pod = namespace.dry_run(pod).with_context(|| format!("a new pod in {} is refused", namespace.name()))?;
    let status = &pod["metadata"]["annotations"]["sidecar.istio.io/status"];
    let Some(status) = status.as_str() else { return Ok(None) };
    let status: Value = serde_json::from_str(status).context("the injection status is JSON")?;
    Ok(status["revision"].as_str().map(str::to_owned))
}

/// Objects as they were at a moment, by their paths.
pub struct Saved {
    which: Which,
    /// The objects.
    pub objects: Vec<(String, Value)>,
}

/// Which objects.
#[derive(Clone)]
enum Which {
    /// Those of a tag.
    Tag(String),
    /// All that a `default` tag is made of, or that it changes.
    All,
}

impl Saved {
    /// The objects of a tag.
    pub fn of_tag(cluster: &Cluster, tag: &str) -> Result<Self> {
        Self::of(cluster, Which::Tag(tag.to_owned()))
    }

    /// All webhooks, and the Services of the control plane.
    pub fn of_all(cluster: &Cluster) -> Result<Self> {
        Self::of(cluster, Which::All)
    }

    /// No object of a tag, so that a restoration removes those that there are.
    pub fn nothing_of_tag(tag: &str) -> Self {
        Self { which: Which::Tag(tag.to_owned()), objects: Vec::new() }
    }

    /// Whether they are what others are, but for what istiod and the API server write by themselves.
    pub fn is_like(&self, other: &Self) -> bool {
        let content = |saved: &Self| -> Vec<(String, Value)> {
            let mut objects = saved.objects.clone();
            for (_, object) in &mut objects {
                for field in ["resourceVersion", "generation", "managedFields", "uid", "creationTimestamp"] {
                    object["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
                }
            }
            objects
        };
        content(self) == content(other)
    }

    fn of(cluster: &Cluster, which: Which) -> Result<Self> {
        let selector = match &which {
            Which::Tag(tag) => format!("?labelSelector=istio.io/tag={tag}"),
            Which::All => String::new(),
        };
        let mut objects = Vec::new();
        for path in [WEBHOOKS, VALIDATORS, "/api/v1/namespaces/istio-system/services"] {
            let list = cluster.api().get(&format!("{path}{selector}"))?;
            let items = list["items"].as_array().context("a list has items")?;
            objects.extend(items.iter().map(|item| (format!("{path}/{}", name_of(item)), item.clone())));
        }
        Ok(Self { which, objects })
    }

    /// Makes them what they were.
    pub fn restore(&self, cluster: &Cluster) -> Result<()> {
        let now = Self::of(cluster, self.which.clone())?.objects;
        let is_among = |path: &str, objects: &[(String, Value)]| objects.iter().any(|(other, _)| other == path);
        for (path, _) in now.iter().filter(|(path, _)| !is_among(path, &self.objects)) {
            cluster.api().delete(path)?;
        }
        for (path, object) in &self.objects {
            let mut object = object.clone();
            let metadata = object["metadata"].as_object_mut().context("an object has metadata")?;
            metadata.remove("managedFields");
            if let Some((_, there)) = now.iter().find(|(other, _)| other == path) {
                for field in ["uid", "resourceVersion"] {
                    metadata.insert(field.to_owned(), there["metadata"][field].clone());
                }
                cluster.api().replace(path, &object)?;
            } else {
                metadata.remove("uid");
                metadata.remove("resourceVersion");
                let (collection, _) = path.rsplit_once('/').context("a path has a collection")?;
                cluster.api().create(collection, &object)?;
            }
        }
        Ok(())
    }
}
