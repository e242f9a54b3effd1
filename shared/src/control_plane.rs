//! Control planes: one installed istiod, with what it injects and whether it is there to answer.

use crate::injector_config::{InjectorConfig, MeshConfig};
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
}

/// An istiod Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Istiod {
    /// The Deployment's name.
    pub name: String,
    /// Image of its container `discovery`.
    pub image: String,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Whether its controller has seen its newest specification.
    pub is_observed: bool,
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
    /// The version, from istiod's own image, else from what it injects.
    pub fn version(&self) -> Option<Version> {
        let own = self.deployment.as_ref().and_then(|istiod| crate::image::Image::parse(&istiod.image).version());
        own.or_else(|| match &self.injector_config {
            Read::Known(config) => crate::image::Image::parse(&config.proxy_image(None)).version(),
            _ => None,
        })
    }
}

/// The suffix of names that belong to a revision.
pub fn revision_suffix(revision: &str) -> String {
    if revision.is_empty() || revision == UNREVISIONED { String::new() } else { format!("-{revision}") }
}
