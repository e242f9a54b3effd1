//! Credential plugins: programs that print a token or a client certificate, run as k8s.io/client-go/plugin/pkg/client/auth/exec does.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use super::resolved::{Input, Resolved};
use crate::child;
use crate::interruption::Interruption;

/// How long a person may take to log in, when a plugin can ask on the terminal.
const PERSON: Duration = Duration::from_secs(5 * 60);

/// A credential plugin of one user.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    config: ExecConfig,
    cluster: Option<ExecAuthCluster>,
    input: Input,
    limit: Option<Duration>,
    interruption: Interruption,
}

/// How long a plugin is waited for, and who ends it sooner.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    pub(super) limit: Option<Duration>,
    pub(super) interruption: Interruption,
}

/// What a plugin printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Issued {
    pub(super) token: Option<String>,
    /// A client certificate and its key, in PEM.
    pub(super) identity: Option<(String, String)>,
    pub(super) expires: Option<Timestamp>,
}

/// `ExecCredential` of the API group client.authentication.k8s.io.
#[derive(Deserialize)]
struct ExecCredential {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// The plugin of a user.
    ///
    /// # Errors
    /// What kubectl refuses too (`validateAuthInfo`, `newAuthenticator`, `isInteractive` of k8s.io/client-go).
    pub(super) fn new(exec: &ExecConfig, resolved: &Resolved, input: Input, patience: &Patience) -> Result<Plugin, String> {
        if exec.command.as_deref().is_none_or(str::is_empty) {
            return Err("it has no command".to_owned());
        }
        match exec.api_version.as_deref() {
            Some("client.authentication.k8s.io/v1") if exec.interactive_mode.is_none() => {
                return Err("its interactiveMode is missing: Never, IfAvailable or Always".to_owned());
            }
            Some("client.authentication.k8s.io/v1" | "client.authentication.k8s.io/v1beta1") => {}
            other => return Err(format!("its apiVersion {:?} is not known", other.unwrap_or_default())),
        }
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) && input == Input::Program {
            return Err("it asks questions (interactiveMode: Always), and standard input is not a terminal".to_owned());
        }
        let cluster = exec.provide_cluster_info.then(|| ExecAuthCluster::try_from(&resolved.cluster));
        let cluster = cluster.transpose().map_err(|error| error.to_string())?;
        let Patience { limit, interruption } = patience.clone();
        Ok(Plugin { config: exec.clone(), cluster, input, limit, interruption })
    }

    /// The name of its file.
    pub(super) fn command(&self) -> &str {
        self.config.command.as_deref().unwrap_or_default()
    }

    /// How to get it, by the kubeconfig's own words.
    pub(super) fn install_hint(&self) -> Option<String> {
        self.config.install_hint.as_deref().map(|hint| hint.trim().to_owned()).filter(|hint| !hint.is_empty())
    }

    /// A plugin that may ask questions would eat what is piped to us, for example a list of workloads.
    fn may_ask(&self) -> bool {
        self.input == Input::Person && self.config.interactive_mode != Some(ExecInteractiveMode::Never)
    }

    /// Runs it. It is killed when it takes too long.
    ///
    /// # Errors
    /// Why there are no credentials. What the plugin prints to stdout is never repeated: it may be a token.
    pub(super) async fn run(&self) -> Result<Issued, String> {
        let mut command = Command::new(self.command());
        command.args(self.config.args.iter().flatten()).kill_on_drop(true).stdout(Stdio::piped());
        for variable in self.config.env.iter().flatten() {
            if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
                command.env(name, value);
            }
        }
        let mut spec = json!({"interactive": self.may_ask()});
        if let Some(cluster) = &self.cluster {
            spec["cluster"] = json!(cluster);
        }
        let info = json!({"kind": "ExecCredential", "apiVersion": self.config.api_version, "spec": spec});
        command.env("KUBERNETES_EXEC_INFO", info.to_string());
        if self.may_ask() {
            command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            command.stderr(Stdio::piped());
        }
        let limit = self.limit.map(|limit| if self.may_ask() { limit.max(PERSON) } else { limit });
        let output = match limit {
            Some(limit) => tokio::time::timeout(limit, self.output(command))
                .await
                .map_err(|_| format!("it did not end within {} s; --request-timeout gives it longer", limit.as_secs_f64()))?,
            None => self.output(command).await,
        };
        self.understood(&output.map_err(|error| format!("unable to run auth exec: {error}"))?)
    }

    /// One that may ask has to stay in the terminal's foreground process group; any other ends with all that it has started.
    async fn output(&self, mut command: Command) -> io::Result<Output> {
        if self.may_ask() { command.output().await } else { child::run(command, &self.interruption).await }
    }

    fn understood(&self, output: &Output) -> Result<Issued, String> {
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().map(str::trim).find(|line| !line.is_empty());
            return Err(match said {
                Some(said) => format!("failed: {}: {said}", output.status),
                None => format!("failed: {}", output.status),
            });
        }
        let text = std::str::from_utf8(&output.stdout).map_err(|_| "its answer is no ExecCredential".to_owned())?;
        let credential: ExecCredential =
            serde_saphyr::from_str(text).map_err(|_| "its answer is no ExecCredential".to_owned())?;
        let wanted = self.config.api_version.as_deref().unwrap_or_default();
        if credential.api_version != wanted {
            return Err(format!("its answer is of version {:?}, and {wanted:?} is configured", credential.api_version));
        }
        let status = credential.status.ok_or("its answer has no status")?;
        let part = |text: Option<String>| text.filter(|text| !text.is_empty());
        let token = part(status.token);
        let identity = match (part(status.client_certificate_data), part(status.client_key_data)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) if token.is_none() => {
                return Err("its answer has neither a token nor a certificate with its key".to_owned());
            }
            (None, None) => None,
            _ => return Err("its answer has a certificate or a key, and not both".to_owned()),
        };
        let expires = part(status.expiration_timestamp).map(|time| time.parse()).transpose();
        let expires = expires.map_err(|_| "its answer has an expirationTimestamp that is no time".to_owned())?;
        Ok(Issued { token, identity, expires })
    }
}
