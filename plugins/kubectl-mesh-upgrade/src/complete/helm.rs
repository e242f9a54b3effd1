//! `helm uninstall`, of exactly one release.

use std::process::Stdio;

use mesh::refusal::Refusal;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;

use crate::args::Invocation;

/// Whether helm can be run at all; asked before anything is changed.
///
/// # Errors
/// When it is not there.
pub async fn check() -> Result<(), Stop> {
    let version = tokio::process::Command::new("helm").arg("version").arg("--short").stdin(Stdio::null()).output().await;
    match version {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Stop::Message(format!("helm version ended with {}", output.status))),
        Err(error) => Err(Stop::Message(format!(
            "helm is needed to remove what it has installed, and cannot be run: {error}\n  install it, then the same command"
        ))),
    }
}

/// Uninstalls a release. What helm prints goes to stderr.
///
/// # Errors
/// When helm fails; the same command continues.
pub async fn uninstall(invocation: &Invocation, release: &str, namespace: &str, terminal: &mut Terminal) -> Result<(), Stop> {
    let mut command = tokio::process::Command::new("helm");
    command.args(["uninstall", release, "--namespace", namespace, "--wait"]).args(flags(invocation)).stdin(Stdio::null());
    writeln!(terminal.err, "helm uninstall {release} --namespace {namespace}")?;
    let output = command.output().await.map_err(|error| Stop::Message(format!("helm cannot be run: {error}")))?;
    for line in String::from_utf8_lossy(&output.stdout).lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
        writeln!(terminal.err, "  {line}")?;
    }
    if output.status.success() {
        return Ok(());
    }
    let reason = format!("helm uninstall {release} ended with {}", output.status);
    Err(Stop::Partly(Refusal::new(reason, format!("helm status {release} --namespace {namespace}; the same command continues"))))
}

/// Our connection flags in helm's words.
fn flags(invocation: &Invocation) -> Vec<String> {
    let connection = &invocation.common.connection;
    let path = |flag: &str, path: &Option<std::path::PathBuf>| path.as_ref().map(|path| format!("{flag}={}", path.display()));
    let text = |flag: &str, text: &Option<String>| text.as_ref().map(|text| format!("{flag}={text}"));
    let mut flags: Vec<String> = [
        path("--kubeconfig", &connection.kubeconfig),
        text("--kube-context", &connection.context.first().cloned()),
        text("--kube-apiserver", &connection.server),
        text("--kube-token", &connection.token),
        text("--kube-tls-server-name", &connection.tls_server_name),
        text("--kube-as-user", &connection.impersonate),
        path("--kube-ca-file", &connection.certificate_authority),
    ]
    .into_iter()
    .flatten()
    .collect();
    flags.extend(connection.impersonate_groups.iter().map(|group| format!("--kube-as-group={group}")));
    if connection.insecure_skip_tls_verify == Some(true) {
        flags.push("--kube-insecure-skip-tls-verify".to_owned());
    }
    flags
}
