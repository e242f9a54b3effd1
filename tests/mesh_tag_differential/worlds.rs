//! Clusters in which both tools do the same.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, IstioVersion, Options, Program, Revision, Session, plugin};

use crate::grid;

/// A cluster and what is done to it.
pub struct World {
    /// What a failure says.
    pub name: &'static str,
    /// The control planes' namespace.
    pub namespace: &'static str,
    /// Whether the older revision has no name.
    pub unrevisioned: bool,
    /// Whether Helm installs the revisions.
    pub by_helm: bool,
    /// Whether a platform has added terms of its own to the webhooks, as AKS does.
    pub has_platform_terms: bool,
    /// The steps.
    pub steps: &'static [Step],
}

impl World {
    /// Two named revisions by istioctl in `istio-system`.
    pub const PLAIN: World =
        World { name: "", namespace: "istio-system", unrevisioned: false, by_helm: false, has_platform_terms: false, steps: &[] };
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A tag that is not there is made.
    Set(&'static str, &'static str),
    /// A tag that is there is moved.
    Move(&'static str, &'static str),
    /// A tag is removed.
    Remove(&'static str),
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// istioctl of this version.
    Istioctl(IstioVersion),
    /// mesh-tag.
    MeshTag,
}

/// A running cluster of one side.
pub struct Running {
    /// Who acts on it.
    pub side: Side,
    /// The cluster.
    pub cluster: Cluster,
    namespace: &'static str,
    session: Session,
}

/// The term that AKS adds to every namespaceSelector.
const PLATFORM_TERM: (&str, &str) = ("kubernetes.azure.com/managedby", "aks");

impl World {
    /// Starts the cluster.
    pub fn start(&self, side: Side) -> Result<Running> {
        let cluster = Cluster::start(&Options::default())?;
        let first =
            if self.unrevisioned { Revision::unrevisioned(IstioVersion::V1_26_0) } else { Revision::of(IstioVersion::V1_26_0) };
        for revision in [first, Revision::of(IstioVersion::V1_28_2)] {
            let revision = revision.namespace(self.namespace);
            cluster.install(&if self.by_helm { revision.by_helm() } else { revision })?;
        }
        if self.has_platform_terms {
            add_platform_terms(&cluster)?;
        }
        grid::make_namespaces(&cluster)?;
        let session = plugin("mesh-tag")?.on(&cluster);
        Ok(Running { side, cluster, namespace: self.namespace, session })
    }
}

impl Running {
    /// Does one step.
    pub fn take(&self, step: &Step) -> Result<()> {
        // mesh-tag removes no tag that is followed, so for a moment nobody does.
        if matches!(step, Step::Remove(_)) {
            grid::unlabel_namespaces(&self.cluster)?;
        }
        match self.side {
            Side::Istioctl(version) => self.by_istioctl(version, step)?,
            Side::MeshTag => self.by_mesh_tag(step)?,
        }
        if matches!(step, Step::Remove(_)) {
            grid::make_namespaces(&self.cluster)?;
        }
        Ok(())
    }

    fn by_istioctl(&self, version: IstioVersion, step: &Step) -> Result<()> {
        let mut words = vec!["tag"];
        match step {
            Step::Set(tag, revision) => words.extend(["set", tag, "--revision", revision]),
            Step::Move(tag, revision) => words.extend(["set", tag, "--revision", revision, "--overwrite"]),
            Step::Remove(tag) => words.extend(["remove", tag]),
        }
        words.extend(["-y", "--istioNamespace", self.namespace]);
        self.cluster.run(Program::Istioctl(version), words).map(|_| ())
    }

    fn by_mesh_tag(&self, step: &Step) -> Result<()> {
        let mut words = vec!["mesh-tag"];
        match step {
            Step::Set(tag, revision) => words.extend(["set", tag, "--revision", revision]),
            Step::Move(tag, revision) => words.extend(["set", tag, "--revision", revision, "--overwrite"]),
            Step::Remove(tag) => words.extend(["remove", tag]),
        }
        words.push("--yes");
        let output = self.session.run(words)?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        Ok(())
    }
}

fn add_platform_terms(cluster: &Cluster) -> Result<()> {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let list = cluster.api().get(path)?;
    let (key, value) = PLATFORM_TERM;
    for webhook in list["items"].as_array().context("a list has items")? {
        let mut entries = webhook["webhooks"].clone();
        for entry in entries.as_array_mut().into_iter().flatten() {
            let terms = entry["namespaceSelector"]["matchExpressions"].as_array_mut();
            terms.context("a selector has terms")?.push(json!({"key": key, "operator": "NotIn", "values": [value]}));
        }
        let name = webhook["metadata"]["name"].as_str().context("a webhook has a name")?;
        cluster.api().patch(
            &format!("{path}/{name}"),
            &json!({"webhooks": Value::Array(entries.as_array().cloned().unwrap_or_default())}),
        )?;
    }
    Ok(())
}
