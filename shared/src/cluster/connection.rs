//! How a cluster is reached: kubectl's connection flags and kubeconfig, with kubectl's meaning.

mod client;
mod credentials;
mod exec;
mod kubeconfig;
mod private_kubeconfig;
mod proxy;
mod resolved;
mod warnings;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::{Client, Config};

use self::credentials::{Credentials, Unavailable};
use self::exec::Patience;
pub use self::private_kubeconfig::{PrivateKubeconfig, remove_private_files};
use self::resolved::{Environment, Resolved};
use self::warnings::{Warnings, warning_texts};
use super::failure::{Cause, Failure};
use super::wait::Waiting;
use crate::advice::Advice;
use crate::interruption::Interruption;

/// kubectl's connection flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct ConnectionArgs {
    /// Path of the kubeconfig file
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context to use; repeated, all of them in one table
    #[arg(long, value_name = "NAME", value_delimiter = ',', global = true)]
    pub context: Vec<String>,
    /// Cluster of the kubeconfig to use
    #[arg(long, value_name = "NAME", global = true)]
    pub cluster: Option<String>,
    /// User of the kubeconfig to use
    #[arg(long, value_name = "NAME", global = true)]
    pub user: Option<String>,
    /// Address and port of the API server
    #[arg(short, long, value_name = "URL", global = true)]
    pub server: Option<String>,
    /// Name to verify the server's certificate against
    #[arg(long, value_name = "NAME", global = true)]
    pub tls_server_name: Option<String>,
    /// Do not verify the server's certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", global = true)]
    pub insecure_skip_tls_verify: Option<bool>,
    /// File of the certificate authority
    #[arg(long, value_name = "FILE", global = true)]
    pub certificate_authority: Option<PathBuf>,
    /// File of the client certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub client_certificate: Option<PathBuf>,
    /// File of the client key
    #[arg(long, value_name = "FILE", global = true)]
    pub client_key: Option<PathBuf>,
    /// Bearer token
    #[arg(long, value_name = "TOKEN", global = true)]
    pub token: Option<String>,
    /// User to act as
    #[arg(long = "as", value_name = "USER", global = true)]
    pub impersonate: Option<String>,
    /// Group to act as; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", global = true)]
    pub impersonate_groups: Vec<String>,
    /// Uid to act as
    #[arg(long = "as-uid", value_name = "UID", global = true)]
    pub impersonate_uid: Option<String>,
    /// Extra attribute of the user to act as, KEY=VALUE; may be repeated
    #[arg(long = "as-user-extra", value_name = "KEY=VALUE", value_parser = parse_extra, global = true)]
    pub impersonate_user_extra: Vec<(String, String)>,
    /// Longest time without an answer, such as 1s, 2m or 3h; 0 for no limit. A server that is busy or away is waited for, up to 2 minutes
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout, global = true)]
    pub request_timeout: Timeout,
    /// Do not ask for compressed answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", global = true)]
    pub disable_compression: Option<bool>,
}

/// A limit in time; none when it was given as 0. The default is the flag's, so that no caller waits for ever by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl Default for Timeout {
    fn default() -> Timeout {
        Timeout(Some(Duration::from_secs(30)))
    }
}

/// Parses kubectl's `--request-timeout` (`ParseTimeout`, k8s.io/client-go/tools/clientcmd/overrides.go), but refuses a
/// negative time and an empty text, which a script with an unset variable would give and which would mean no limit.
fn parse_timeout(text: &str) -> Result<Timeout, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    // The library panics where a text overflows its type, so nothing long is handed to it.
    let is_sane = !text.is_empty() && text.len() <= 16 && !text.contains(['-', '+']);
    let written = || text.parse::<kube::core::Duration>().ok().filter(|_| is_sane).map(Duration::from);
    let duration = seconds.or_else(|| is_sane.then(written).flatten()).filter(|duration| *duration <= LONGEST);
    let duration = duration.ok_or(
        "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time \
         unit (e.g. 1s | 2m | 3h)",
    )?;
    Ok(Timeout((!duration.is_zero()).then_some(duration)))
}

fn parse_extra(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must be KEY=VALUE".to_owned()),
    }
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Connection {
    /// The client. Only this module's siblings use it.
    pub(super) client: Client,
    /// The context, or the server where there is none.
    pub context: String,
    /// The kubeconfig's name of the cluster, or the server where it has none.
    pub cluster_name: String,
    /// The address of the API server.
    pub server: String,
    /// The context's namespace.
    pub namespace: String,
    /// Longest silence.
    pub request_timeout: Option<Duration>,
    /// What is known about waiting for this server.
    pub waiting: Waiting,
    /// Whether the user has asked to stop, and what was written so far: nothing may be written unless a command says that it
    /// writes.
    pub interruption: Interruption,
    warnings: Arc<Mutex<Warnings>>,
    skew: Arc<AtomicI64>,
    resolved: Arc<Resolved>,
    private: Arc<OnceLock<PrivateKubeconfig>>,
}

impl ConnectionArgs {
    /// The contexts to look at, each once: those named, or the current one as `None`.
    pub fn contexts(&self) -> Vec<Option<String>> {
        let mut contexts: Vec<Option<String>> = Vec::new();
        for context in self.context.iter().cloned().map(Some) {
            if !contexts.contains(&context) {
                contexts.push(context);
            }
        }
        if contexts.is_empty() { vec![None] } else { contexts }
    }

    /// The namespace of a context, or of the current one, as kubectl takes it: `default` where nothing names another.
    pub fn context_namespace(&self, context: Option<&str>) -> String {
        Resolved::new(self, &Environment::read(&Interruption::default()), context)
            .map_or_else(|_| "default".to_owned(), |resolved| resolved.namespace)
    }

    /// Connects to a context, or to the current one. Nothing is sent yet, but for what a credential plugin does by itself.
    ///
    /// # Errors
    /// [`Cause::Configuration`] when the kubeconfig and the flags do not say where to connect or name what does not exist,
    /// [`Cause::Credentials`] and [`Cause::Tls`] when what they name cannot be used.
    pub async fn connect(
        &self,
        context: Option<&str>,
        user_agent: &str,
        interruption: &Interruption,
    ) -> Result<Connection, Failure> {
        self.connect_in(&Environment::read(interruption), context, user_agent).await
    }

    async fn connect_in(
        &self,
        environment: &Environment,
        context: Option<&str>,
        user_agent: &str,
    ) -> Result<Connection, Failure> {
        let resolved = Resolved::new(self, environment, context).map_err(configuration)?;
        let mut config = resolved.config(environment).map_err(configuration)?;
        self.patch(&mut config, user_agent).map_err(configuration)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let interruption = environment.interruption.clone();
        let patience = Patience { limit: self.request_timeout.0, interruption: interruption.clone() };
        let credentials = Credentials::of(&resolved, environment, &patience).map_err(unavailable)?;
        let client = credentials.client(config).await.map_err(unavailable)?;
        let client = client.map_err(|error| Failure::from_kube(LOADING, error))?;
        Ok(Connection {
            client,
            context: resolved.context.clone(),
            cluster_name: resolved.cluster_name.clone(),
            server,
            namespace: resolved.namespace.clone(),
            request_timeout: self.request_timeout.0,
            waiting: Waiting::default(),
            interruption,
            warnings: Arc::default(),
            skew: Arc::default(),
            resolved: Arc::new(resolved),
            private: Arc::default(),
        })
    }

    /// What is set on every configuration, wherever it came from.
    fn patch(&self, config: &mut Config, user_agent: &str) -> Result<(), String> {
        // Single requests have their own, bounded retries; the library's go on for minutes.
        config.default_retry = false;
        config.connect_timeout = Some(self.request_timeout.0.unwrap_or(LONGEST_CONNECT).min(LONGEST_CONNECT));
        // Without this the library looks for the system's certificate authorities, and fails where there are none.
        let is_plain = config.cluster_url.scheme_str() == Some("http");
        if (config.accept_invalid_certs || is_plain) && config.root_cert.is_none() {
            config.root_cert = Some(Vec::new());
        }
        // Compressing costs more than sending does when nothing leaves the machine.
        let is_local = proxy::is_loopback(config.cluster_url.host().unwrap_or_default());
        config.disable_compression = self.disable_compression.unwrap_or(config.disable_compression) || is_local;
        let agent = http::HeaderValue::from_str(user_agent).map_err(|error| error.to_string())?;
        config.headers.push((http::header::USER_AGENT, agent));
        Ok(())
    }
}

/// What is being done while none of the cluster's objects is named yet.
const LOADING: &str = "loading the client configuration";
/// A server that does not take a connection in this time is not there, however long answers may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

fn configuration(why: String) -> Failure {
    Failure::new(LOADING, Cause::Configuration(why))
}

fn unavailable(unavailable: Unavailable) -> Failure {
    let Unavailable { what, why, hint } = unavailable;
    let failure = Failure::new(what.unwrap_or_else(|| LOADING.to_owned()), Cause::Credentials(why));
    Failure { hint: hint.map_or(failure.hint, Advice::say), ..failure }
}

impl Connection {
    /// The same connection for several requests that together wait for the server no longer than one would.
    #[must_use]
    pub fn for_one_budget(&self) -> Connection {
        Connection { waiting: self.waiting.for_one_budget(), ..self.clone() }
    }

    /// Notes the API server's time, which each of its answers has.
    pub(super) fn note_time(&self, headers: &http::HeaderMap) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        if let Some(skew) = date.and_then(|date| seconds_ahead(date, Timestamp::now())) {
            self.skew.store(skew, Ordering::Relaxed);
        }
    }

    /// How many seconds the API server's clock is ahead of this machine's, by its newest answer; 0 before the first.
    pub fn skew(&self) -> i64 {
        self.skew.load(Ordering::Relaxed)
    }

    /// Keeps the warnings of an answer, each once for the whole connection.
    pub(super) fn note_warnings(&self, headers: &http::HeaderMap) {
        let mut warnings = self.warnings.lock().expect("nothing panics while it holds this lock");
        for header in headers.get_all(http::header::WARNING) {
            for text in warning_texts(&String::from_utf8_lossy(header.as_bytes())) {
                if !warnings.seen.contains(&text) {
                    warnings.seen.push(text.clone());
                    warnings.untold.push(text);
                }
            }
        }
    }

    /// The warnings that came since the last call. None comes twice.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().expect("nothing panics while it holds this lock").untold)
    }
}

/// How many seconds a header `Date` (RFC 9110, 5.6.7) is ahead of `now`. One second is its resolution, and no difference.
fn seconds_ahead(date: &str, now: Timestamp) -> Option<i64> {
    let there = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let difference = there.as_second() - now.as_second();
    Some(if difference.abs() <= 1 { 0 } else { difference })
}

#[cfg(test)]
mod tests;
