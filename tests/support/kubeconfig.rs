//! Kubeconfigs: the way into a cluster for kubectl, istioctl, istiod and the plugins. One is written as JSON, which is YAML too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a kubeconfig says. Change a field and [`write`](Kubeconfig::write) it for a client that is refused, that trusts the
/// wrong certificate, or that calls where nobody listens.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// The name of its one context.
    pub context: String,
    /// The URL of the API server.
    pub server: String,
    /// The file with the certificates to trust, as PEM.
    pub authority: PathBuf,
    /// The bearer token.
    pub token: String,
    /// The namespace of the context, if it has one.
    pub namespace: Option<String>,
}

impl Kubeconfig {
    /// Writes it to `path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, std::slice::from_ref(self))
    }
}

/// Writes one file with a context for each of `configs`, the first of them current.
pub fn write(path: &Path, configs: &[Kubeconfig]) -> Result<()> {
    let named = |entry: &dyn Fn(&Kubeconfig) -> Value| -> Vec<Value> { configs.iter().map(entry).collect() };
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": configs.first().map(|config| &config.context),
        "contexts": named(&|config| json!({"name": config.context, "context": {
            "cluster": config.context,
            "user": config.context,
            "namespace": config.namespace.as_deref().unwrap_or("default"),
        }})),
        "clusters": named(&|config| json!({"name": config.context, "cluster": {
            "server": config.server,
            "certificate-authority": config.authority,
        }})),
        "users": named(&|config| json!({"name": config.context, "user": {"token": config.token}})),
    });
    fs::write(path, format!("{document:#}\n")).with_context(|| format!("writing {}", path.display()))
}
