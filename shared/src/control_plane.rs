//! Control planes: one installed istiod, with what it injects and whether it is there to answer.

use crate::injector_config::InjectorConfig;
use crate::mesh_config::MeshConfig;
use crate::object::{Deployment, Metadata};
use crate::version::Version;

/// The name under which the install without a revision labels its objects.
pub const UNREVISIONED: &str = "default";

/// One installed revision in one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlPlane {
    /// Its revision's name, `default` for the install without one.
    pub revision: String,
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment, where there is one that could be read.
    pub deployment: Option<Istiod>,
    /// What it injects.
    pub injector_config: Read<InjectorConfig>,
    /// Its mesh configuration.
    pub mesh_config: Read<MeshConfig>,
    /// Whether it answers.
    pub readiness: Readiness,
    /// Whether it runs outside of this cluster: its Service has no selector, or its injector leads to an address.
    pub is_elsewhere: bool,
}

/// An istiod Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Istiod {
    /// The Deployment's name.
    pub name: String,
    /// Image of its container `discovery`.
    pub image: String,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Whether its controller has seen its newest specification.
    pub is_observed: bool,
    /// The version that its labels name.
    pub labelled_version: Option<Version>,
    /// The ConfigMap that is mounted as its injector configuration, which it prefers to the one of its name.
    pub injector_config_map: Option<String>,
    /// The ConfigMap that is mounted as its mesh configuration, likewise.
    pub mesh_config_map: Option<String>,
    /// The ConfigMap that it merges below its mesh configuration.
    pub shared_mesh_config: Option<String>,
    /// `ENABLE_NATIVE_SIDECARS` as it was given.
    pub native_sidecars: Option<String>,
}

/// The variables of an istiod that decide something: what it merges below its mesh configuration (`SharedMeshConfig`,
/// pilot/pkg/features), and whether proxies are native sidecars.
const SHARED_MESH_CONFIG: &str = "SHARED_MESH_CONFIG";
const NATIVE_SIDECARS: &str = "ENABLE_NATIVE_SIDECARS";

/// All of them.
pub(crate) const DECIDING_VARIABLES: [&str; 2] = [SHARED_MESH_CONFIG, NATIVE_SIDECARS];

/// Where an istiod looks for its configuration as files, before it asks for ConfigMaps (pilot/pkg/bootstrap/mesh.go and
/// sidecarinjector.go); charts until 1.27 mount both.
const MESH_CONFIG_PATH: &str = "/etc/istio/config";
const INJECTOR_CONFIG_PATH: &str = "/var/lib/istio/inject";

/// Both paths.
pub(crate) const CONFIGURATION_PATHS: [&str; 2] = [MESH_CONFIG_PATH, INJECTOR_CONFIG_PATH];

/// The labels that name the version of what carries them, the strongest first: of every chart since Istio 1.23, of the chart itself, and
/// of `istioctl`'s operator.
const VERSION_LABELS: [&str; 3] = ["app.kubernetes.io/version", "helm.sh/chart", "operator.istio.io/version"];

impl Istiod {
    /// The istiod that a Deployment is, if it is one.
    pub(crate) fn of(deployment: &Deployment) -> Option<Istiod> {
        let (metadata, template) = (deployment.metadata.as_ref()?, deployment.spec.as_ref()?.template.as_ref()?);
        let discovery = template.spec.as_ref()?.containers.iter().find(|container| container.name == "discovery")?;
        if metadata.label(crate::labels::APP) != Some("istiod") {
            return None;
        }
        let variable = |name: &str| {
            let variable = discovery.env.iter().find(|variable| variable.name == name && !variable.value.is_empty());
            variable.map(|variable| variable.value.clone())
        };
        let mounted = |path: &str| template.config_map_at(path).map(str::to_owned);
        let status = deployment.status.as_ref();
        Some(Istiod {
            name: metadata.name.clone(),
            image: discovery.image.clone(),
            ready_replicas: status.map_or(0, |status| status.ready_replicas),
            is_observed: status.is_none_or(|status| status.observed_generation >= metadata.generation),
            labelled_version: labelled_version(metadata),
            injector_config_map: mounted(INJECTOR_CONFIG_PATH),
            mesh_config_map: mounted(MESH_CONFIG_PATH),
            shared_mesh_config: variable(SHARED_MESH_CONFIG),
            native_sidecars: variable(NATIVE_SIDECARS),
        })
    }
}

fn labelled_version(metadata: &Metadata) -> Option<Version> {
    VERSION_LABELS.into_iter().find_map(|key| {
        let value = metadata.label(key)?;
        value.parse().ok().or_else(|| value.find('-').and_then(|dash| value[dash + 1..].parse().ok()))
    })
}

/// The result of reading something that may be absent, unreadable or not understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Read<T> {
    /// As read.
    Known(T),
    /// Surely not there.
    Absent,
    /// There, but not understood: why.
    Broken(String),
    /// Any of these could be meant, by name.
    Several(Vec<String>),
    /// The list that would hold it could not be read.
    Unread,
}

/// Whether a control plane is there to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Its Service has a ready endpoint (or, where endpoints cannot be read, its Deployment a ready pod).
    Ready,
    /// It has none.
    NotReady,
    /// Neither could be read.
    Unknown,
}

impl ControlPlane {
    /// The version, from istiod's own image, else from its labels, else from what it injects.
    pub fn version(&self) -> Option<Version> {
        let own =
            |istiod: &Istiod| crate::image::Image::parse(&istiod.image).version().or_else(|| istiod.labelled_version.clone());
        self.deployment.as_ref().and_then(own).or_else(|| match &self.injector_config {
            Read::Known(config) => crate::image::Image::parse(&config.proxy_image(None)).version(),
            _ => None,
        })
    }
}

/// The suffix of names that belong to a revision.
pub fn revision_suffix(revision: &str) -> String {
    if revision.is_empty() || revision == UNREVISIONED { String::new() } else { format!("-{revision}") }
}
