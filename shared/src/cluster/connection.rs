//! How a cluster is reached: kubectl's connection flags and kubeconfig, with kubectl's meaning.

mod client;
mod proxy;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::config::{AuthInfo, Cluster, Context, ExecAuthCluster, ExecInteractiveMode, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::failure::{Cause, Failure};
use super::wait::Waiting;

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
    warnings: Arc<Mutex<Warnings>>,
    skew: Arc<AtomicI64>,
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

    /// Connects to a context, or to the current one. Nothing is sent yet, but for what a credential plugin does by itself.
    ///
    /// # Errors
    /// [`Cause::Configuration`] when the kubeconfig and the flags do not say where to connect or name what does not exist,
    /// [`Cause::Credentials`] and [`Cause::Tls`] when what they name cannot be used.
    pub async fn connect(&self, context: Option<&str>, user_agent: &str) -> Result<Connection, Failure> {
        self.connect_in(&Environment::read(), context, user_agent)
    }

    fn connect_in(&self, environment: &Environment, context: Option<&str>, user_agent: &str) -> Result<Connection, Failure> {
        let target = self.target(environment, context).map_err(configuration)?;
        let mut config = target.config;
        self.patch(&mut config, user_agent).map_err(configuration)?;
        let (namespace, server) = (config.default_namespace.clone(), config.cluster_url.to_string());
        let plugin = config.auth_info.exec.clone();
        let client = client::build(config).map_err(|error| {
            let mut failure = Failure::from_kube(LOADING, error);
            if let (Cause::Credentials(_), Some(plugin)) = (&failure.cause, plugin) {
                failure.what = format!("running the credential plugin {}", plugin.command.unwrap_or_default());
                failure.hint = plugin.install_hint.map(|hint| hint.trim().to_owned()).or(failure.hint);
            }
            failure
        })?;
        Ok(Connection {
            client,
            context: target.context,
            cluster_name: target.cluster_name,
            server: server.trim_end_matches('/').to_owned(),
            namespace,
            request_timeout: self.request_timeout.0,
            waiting: Waiting::default(),
            warnings: Arc::default(),
            skew: Arc::default(),
        })
    }

    /// Where to connect to: the kubeconfig's entries with the flags put over them.
    fn target(&self, environment: &Environment, context: Option<&str>) -> Result<Target, String> {
        let loaded = load_kubeconfig(self.kubeconfig.as_deref(), environment).map_err(|error| describe(&error))?;
        let Some(kubeconfig) = loaded.or_else(|| self.server.as_ref().map(|_| Kubeconfig::default())) else {
            return self.in_cluster(context);
        };
        let name = context.map(str::to_owned).or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
        if name.is_none() && self.server.is_none() && self.cluster.is_none() {
            return Err("the kubeconfig has no current context".to_owned());
        }
        let contexts = kubeconfig.contexts.into_iter().map(|entry| (entry.name, entry.context));
        let context = find("context", name.as_deref(), contexts)?;
        let cluster_name = self.cluster.clone().unwrap_or_else(|| context.cluster.clone());
        let clusters = kubeconfig.clusters.into_iter().map(|entry| (entry.name, entry.cluster));
        let mut cluster = find("cluster", Some(&cluster_name), clusters)?;
        let users = kubeconfig.auth_infos.into_iter().map(|entry| (entry.name, entry.auth_info));
        // The library takes a user that does not exist as nobody, and would go on without any credentials.
        let mut user = find("user", self.user.as_deref().or(context.user.as_deref()), users)?;
        self.put_over_cluster(&mut cluster)?;
        self.put_over_user(&mut user)?;
        let config = configure(context, &cluster, user, environment)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let cluster_name = Some(cluster_name).filter(|name| !name.is_empty()).unwrap_or_else(|| server.clone());
        Ok(Target { config, context: name.unwrap_or(server), cluster_name })
    }

    /// The cluster that this process is a pod of. Names of a kubeconfig cannot be meant: there is none.
    fn in_cluster(&self, context: Option<&str>) -> Result<Target, String> {
        let named = [("context", context), ("cluster", self.cluster.as_deref()), ("user", self.user.as_deref())];
        if let Some((kind, Some(name))) = named.into_iter().find(|(_, name)| name.is_some()) {
            return Err(format!("{kind} {name:?} does not exist: there is no kubeconfig"));
        }
        let mut config = Config::incluster().map_err(|_| "there is no kubeconfig, and this is no pod of a cluster".to_owned())?;
        // What the flags say is put into an empty entry first, so that no flag is dropped without a word.
        let mut cluster = Cluster::default();
        self.put_over_cluster(&mut cluster)?;
        self.put_over_user(&mut config.auth_info)?;
        config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.tls_server_name.clone_from(&cluster.tls_server_name);
        if let Some(authorities) = authorities(&cluster)? {
            config.root_cert = Some(authorities);
            config.root_cert_file = None;
        }
        Ok(Target { config, context: IN_CLUSTER.to_owned(), cluster_name: IN_CLUSTER.to_owned() })
    }

    fn put_over_cluster(&self, cluster: &mut Cluster) -> Result<(), String> {
        if self.insecure_skip_tls_verify == Some(true) && self.certificate_authority.is_some() {
            return Err("--certificate-authority and --insecure-skip-tls-verify exclude each other".to_owned());
        }
        cluster.server = self.server.clone().or_else(|| cluster.server.take());
        cluster.tls_server_name = self.tls_server_name.clone().or_else(|| cluster.tls_server_name.take());
        cluster.disable_compression = self.disable_compression.or(cluster.disable_compression);
        if let Some(file) = &self.certificate_authority {
            cluster.certificate_authority = Some(file.display().to_string());
            cluster.certificate_authority_data = None;
        }
        cluster.insecure_skip_tls_verify = self.insecure_skip_tls_verify.or(cluster.insecure_skip_tls_verify);
        if self.insecure_skip_tls_verify == Some(true) {
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        Ok(())
    }

    fn put_over_user(&self, user: &mut AuthInfo) -> Result<(), String> {
        if let Some(token) = &self.token {
            // The library prefers each of these to a token; kubectl does not.
            user.auth_provider = None;
            user.exec = None;
            user.username = None;
            user.password = None;
            user.token_file = None;
            user.token = Some(token.clone().into());
        }
        if let Some(file) = &self.client_certificate {
            user.client_certificate = Some(file.display().to_string());
            user.client_certificate_data = None;
        }
        if let Some(file) = &self.client_key {
            user.client_key = Some(file.display().to_string());
            user.client_key_data = None;
        }
        self.put_over_impersonation(user)
    }

    /// Who to act as. client-go refuses attributes without a user too (`NewImpersonatingRoundTripper`'s caller,
    /// k8s.io/client-go/rest/transport.go): the server would take them as the caller's own and ignore them.
    fn put_over_impersonation(&self, user: &mut AuthInfo) -> Result<(), String> {
        user.impersonate = self.impersonate.clone().or_else(|| user.impersonate.take());
        user.impersonate_uid = self.impersonate_uid.clone().or_else(|| user.impersonate_uid.take());
        if !self.impersonate_groups.is_empty() {
            user.impersonate_groups = Some(self.impersonate_groups.clone());
        }
        if !self.impersonate_user_extra.is_empty() {
            let extra = user.impersonate_user_extra.insert(Default::default());
            for (key, value) in &self.impersonate_user_extra {
                extra.entry(key.clone()).or_default().push(value.clone());
            }
        }
        let has_attributes =
            user.impersonate_uid.is_some() || user.impersonate_groups.is_some() || user.impersonate_user_extra.is_some();
        if user.impersonate.is_none() && has_attributes {
            return Err("requesting uid, groups or user-extra without impersonating a user: --as is missing".to_owned());
        }
        Ok(())
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
/// The name of a cluster that no kubeconfig names.
const IN_CLUSTER: &str = "in-cluster";
/// A server that does not take a connection in this time is not there, however long answers may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(30);

fn configuration(why: String) -> Failure {
    Failure::new(LOADING, Cause::Configuration(why))
}

/// Where to connect to.
struct Target {
    config: Config,
    context: String,
    cluster_name: String,
}

/// What the process's surroundings say about the way to a cluster.
#[derive(Clone, Debug, Default)]
struct Environment {
    /// `KUBECONFIG`: a list of files.
    kubeconfig: Option<OsString>,
    home: Option<PathBuf>,
    proxies: proxy::Proxies,
    input: Input,
}

/// Who writes to stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Input {
    Person,
    #[default]
    Program,
}

impl Environment {
    fn read() -> Environment {
        Environment {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            proxies: proxy::Proxies::from_environment(),
            input: if io::stdin().is_terminal() { Input::Person } else { Input::Program },
        }
    }
}

/// The named entry of a part of the kubeconfig; an empty one when none is named.
fn find<T: Default>(kind: &str, wanted: Option<&str>, entries: impl Iterator<Item = (String, Option<T>)>) -> Result<T, String> {
    let Some(wanted) = wanted.filter(|name| !name.is_empty()) else { return Ok(T::default()) };
    let mut known = Vec::new();
    for (name, entry) in entries {
        if name == wanted {
            return Ok(entry.unwrap_or_default());
        }
        known.push(name);
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Err(format!("{kind} {wanted:?} does not exist: there are {known}"))
}

/// The library's configuration. Its own loader is not used, because that compares `NO_PROXY` with the proxy's host, and
/// fails when there is an empty element in it.
fn configure(context: Context, cluster: &Cluster, mut user: AuthInfo, environment: &Environment) -> Result<Config, String> {
    let server = cluster.server.as_deref().filter(|server| !server.is_empty());
    let server = server.ok_or_else(|| format!("cluster {:?} has no server", context.cluster))?;
    let url = with_scheme(server, cluster, &user).parse::<http::Uri>();
    let mut config = Config::new(url.map_err(|error| format!("the server {server:?} is no address: {error}"))?);
    config.default_namespace =
        context.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned());
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.root_cert = authorities(cluster)?;
    config.proxy_url = environment.proxies.choose(&config.cluster_url, cluster.proxy_url.as_deref())?;
    if let Some(exec) = &mut user.exec {
        if exec.provide_cluster_info {
            exec.cluster = Some(ExecAuthCluster::try_from(cluster).map_err(|error| describe(&error))?);
        }
        // A plugin that may ask questions would eat what is piped to us, for example a list of workloads.
        if environment.input == Input::Program && exec.interactive_mode != Some(ExecInteractiveMode::Always) {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
    config.auth_info = user;
    Ok(config)
}

/// A server that is written without a scheme is reached through TLS when anything is said about TLS, else without
/// (`defaultServerUrlFor`, k8s.io/client-go/rest/url_utils.go).
fn with_scheme(server: &str, cluster: &Cluster, user: &AuthInfo) -> String {
    if server.contains("://") {
        return server.to_owned();
    }
    let has_authority = cluster.certificate_authority.is_some() || cluster.certificate_authority_data.is_some();
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let is_secure = has_authority || has_certificate || cluster.insecure_skip_tls_verify == Some(true);
    format!("{}://{server}", if is_secure { "https" } else { "http" })
}

/// The certificate authorities of a cluster in DER, `None` for those of the system.
fn authorities(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, String> {
    let loaded = ExecAuthCluster::try_from(cluster).map_err(|error| describe(&error))?;
    let Some(text) = loaded.certificate_authority_data else { return Ok(None) };
    let blocks = pem::parse_many(text).map_err(|error| format!("the certificate authority is no PEM: {error}"))?;
    let certificates: Vec<_> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect();
    if certificates.is_empty() {
        return Err("the certificate authority holds no certificate".to_owned());
    }
    Ok(Some(certificates))
}

impl Connection {
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

/// What an API server warned of.
#[derive(Debug, Default)]
struct Warnings {
    seen: Vec<String>,
    untold: Vec<String>,
}

/// The texts of a header `299 - "text" "date", 299 - …`, as `ParseWarningHeaders` of k8s.io/apimachinery/pkg/util/net
/// takes it; other codes are not for users. Control characters are left out: the texts go to a terminal.
fn warning_texts(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once('"') {
        let (text, length) = unquoted(after);
        // The date that may follow a text has no code in front of it.
        if before.trim_start_matches([',', ' ']).starts_with("299 ") {
            texts.push(text);
        }
        rest = &after[length..];
    }
    texts
}

/// The text up to the closing quote, and its length with that quote.
fn unquoted(quoted: &str) -> (String, usize) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (text, position + 1),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            character if character.is_control() => {}
            character => text.push(character),
        }
    }
    (text, quoted.len())
}

/// Reads the kubeconfig as kubectl does: the flag's file must exist; of the files in `$KUBECONFIG` those that exist are
/// merged, the first wins; else the home folder's. `None` when there is none.
fn load_kubeconfig(flag: Option<&Path>, environment: &Environment) -> Result<Option<Kubeconfig>, KubeconfigError> {
    if let Some(path) = flag {
        return Kubeconfig::read_from(path).map(Some);
    }
    let paths: Vec<PathBuf> = match &environment.kubeconfig {
        Some(paths) if !paths.is_empty() => std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        _ => environment.home.iter().map(|home| home.join(".kube/config")).collect(),
    };
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        match Kubeconfig::read_from(&path) {
            Ok(mut config) => {
                // An empty name is none, and must not hide the next file's.
                config.current_context = config.current_context.filter(|name| !name.is_empty());
                merged = Some(match merged {
                    Some(merged) => merged.merge(config)?,
                    None => config,
                });
            }
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(merged)
}

/// One line of an error of the kubeconfig, without Rust's quoting of paths.
fn describe(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, path) => format!("cannot read {}: {error}", path.display()),
        KubeconfigError::Parse(error) => {
            format!("the kubeconfig is no YAML: {}", error.to_string().lines().next().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
