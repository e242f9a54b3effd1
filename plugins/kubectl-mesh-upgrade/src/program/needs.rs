//! What the programs ask of the API server by themselves. Which requests they make was seen behind a recording server, with
//! helm 4 and istioctl 1.28.

use mesh::needs::Needs;
use mesh::session::Intent;

use super::Program;
use crate::start::needs::{granting_needs, rendered_needs};

impl Program {
    /// What it may ask for when it installs a control plane in this namespace.
    pub fn install_needs(self, namespace: &str, intent: Intent) -> Needs {
        let installing = || rendered_needs(namespace, &["get", "create", "patch"]).and(granting_needs(namespace));
        match (self, intent) {
            (Program::Istioctl, Intent::Read) => Needs::default(),
            (Program::Istioctl, Intent::Write) => installing(),
            (Program::Helm, Intent::Read) => release_needs(namespace, intent),
            (Program::Helm, Intent::Write) => installing().and(release_needs(namespace, intent)),
        }
    }
}

/// Helm keeps what it knows of a release in Secrets of the release's namespace. What installs, changes or removes one reads it
/// first, as a dry run does.
pub fn release_needs(namespace: &str, intent: Intent) -> Needs {
    let secrets = [("", "secrets")];
    let reading = Needs::default().require(Some(namespace), secrets, &["get", "list"]);
    match intent {
        Intent::Read => reading,
        Intent::Write => reading.require(Some(namespace), secrets, &["create", "update", "delete"]),
    }
}
