//! How a cluster is reached: kubectl's connection flags and kubeconfig, with kubectl's meaning.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster, NamedContext};
use kube::{Client, Config};
use tower::buffer::BufferLayer;

use super::failure::{Cause, Failure};

/// kubectl's connection flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Path of the kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context to use; repeated, all of them in one table
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub context: Vec<String>,
    /// Cluster of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// User of the kubeconfig to use
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Address and port of the API server
    #[arg(short, long, value_name = "URL")]
    pub server: Option<String>,
    /// Name to verify the server's certificate against
    #[arg(long, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Do not verify the server's certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub insecure_skip_tls_verify: bool,
    /// File of the certificate authority
    #[arg(long, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// File of the client certificate
    #[arg(long, value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// File of the client key
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Bearer token
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// User to act as
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to act as; may be repeated
    #[arg(long = "as-group", value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
    /// Uid to act as
    #[arg(long = "as-uid", value_name = "UID")]
    pub impersonate_uid: Option<String>,
    /// Longest time without an answer, such as 1s, 2m or 3h; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout)]
    pub request_timeout: Timeout,
    /// Do not ask for compressed answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub disable_compression: bool,
}

/// A limit in time; none when it was given as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// Parses kubectl's `--request-timeout` (`ParseTimeout`, k8s.io/client-go/tools/clientcmd/overrides.go).
fn parse_timeout(text: &str) -> Result<Timeout, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text.parse::<kube::core::Duration>().ok().and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(|| {
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time \
             unit (e.g. 1s | 2m | 3h)"
                .to_owned()
        })?,
    };
    Ok(Timeout((!duration.is_zero()).then_some(duration)))
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Connection {
    /// The client. Only this module's siblings use it.
    pub(super) client: Client,
    /// The context, or the server where there is none.
    pub context: String,
    /// The context's namespace.
    pub namespace: String,
    /// Longest silence.
    pub request_timeout: Option<Duration>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl ConnectionArgs {
    /// The contexts to look at: those named, or the current one as `None`.
    pub fn contexts(&self) -> Vec<Option<String>> {
        if self.context.is_empty() { vec![None] } else { self.context.iter().cloned().map(Some).collect() }
    }

    /// The flags that advice must repeat to reach the same cluster, besides the context.
    pub fn repeated_flags(&self) -> Vec<String> {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| format!("--kubeconfig={}", path.display()));
        let server = self.server.as_ref().map(|server| format!("--server={server}"));
        kubeconfig.into_iter().chain(server).collect()
    }

    /// Connects. Nothing is sent yet, but for what a credential plugin does by itself.
    pub async fn connect(&self, context: Option<&str>, user_agent: &str) -> Result<Connection, Failure> {
        const WHAT: &str = "loading the client configuration";
        let configuration = |why: String| Failure::new(WHAT, Cause::Configuration(why));
        if self.impersonate.is_none() && (self.impersonate_uid.is_some() || !self.impersonate_groups.is_empty()) {
            return Err(configuration("requesting uid or groups without impersonating a user: --as is missing".to_owned()));
        }
        let (mut config, context) = self.config(context, &configuration).await?;
        self.patch(&mut config, user_agent, &configuration)?;
        let namespace = config.default_namespace.clone();
        let client = client(config).map_err(|error| Failure::from_kube(WHAT, error))?;
        Ok(Connection { client, context, namespace, request_timeout: self.request_timeout.0, warnings: Arc::default() })
    }

    /// The configuration of a context, with the flags that have to be applied before it is loaded.
    async fn config(
        &self,
        context: Option<&str>,
        configuration: &dyn Fn(String) -> Failure,
    ) -> Result<(Config, String), Failure> {
        let loaded = load_kubeconfig(self.kubeconfig.as_deref()).map_err(|error| configuration(error.to_string()))?;
        let Some(mut kubeconfig) = loaded.or_else(|| self.server.as_ref().map(|_| Kubeconfig::default())) else {
            return match Config::incluster() {
                Ok(config) => Ok((config, "in-cluster".to_owned())),
                Err(_) => Err(configuration("there is no kubeconfig, and this is no pod of a cluster".to_owned())),
            };
        };
        check_names(&kubeconfig, context, self.cluster.as_deref(), self.user.as_deref()).map_err(configuration)?;
        let name = context.map(str::to_owned).or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
        if name.is_none() && self.server.is_none() && self.cluster.is_none() {
            return Err(configuration("the kubeconfig has no current context".to_owned()));
        }
        let name = self.complete(&mut kubeconfig, name);
        let options = KubeConfigOptions { context: Some(name.clone()), cluster: self.cluster.clone(), user: self.user.clone() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| configuration(describe(&error)))?;
        Ok((config, name))
    }

    /// Puts the flags into the entries of the kubeconfig that the context uses, making them where they are missing.
    fn complete(&self, kubeconfig: &mut Kubeconfig, context: Option<String>) -> String {
        const MADE: &str = "flags";
        let name = context.unwrap_or_else(|| MADE.to_owned());
        let position = kubeconfig.contexts.iter().position(|context| context.name == name).unwrap_or_else(|| {
            kubeconfig.contexts.push(NamedContext { name: name.clone(), context: Some(Default::default()), other: Default::default() });
            kubeconfig.contexts.len() - 1
        });
        let context = kubeconfig.contexts[position].context.get_or_insert_default();
        let cluster_name = self.cluster.clone().unwrap_or_else(|| context.cluster.clone());
        let cluster_name = if cluster_name.is_empty() { MADE.to_owned() } else { cluster_name };
        context.cluster.clone_from(&cluster_name);
        let user_name = self.user.clone().or_else(|| context.user.clone()).unwrap_or_else(|| MADE.to_owned());
        context.user = Some(user_name.clone());
        self.complete_cluster(kubeconfig, &cluster_name);
        self.complete_user(kubeconfig, &user_name);
        name
    }

    fn complete_cluster(&self, kubeconfig: &mut Kubeconfig, name: &str) {
        let position = kubeconfig.clusters.iter().position(|cluster| cluster.name == name).unwrap_or_else(|| {
            kubeconfig.clusters.push(NamedCluster { name: name.to_owned(), cluster: Some(Default::default()), other: Default::default() });
            kubeconfig.clusters.len() - 1
        });
        let cluster = kubeconfig.clusters[position].cluster.get_or_insert_default();
        if let Some(server) = &self.server {
            let has_scheme = server.contains("://");
            cluster.server = Some(if has_scheme { server.clone() } else { format!("https://{server}") });
        }
        if let Some(name) = &self.tls_server_name {
            cluster.tls_server_name = Some(name.clone());
        }
        if let Some(file) = &self.certificate_authority {
            cluster.certificate_authority = Some(file.display().to_string());
            cluster.certificate_authority_data = None;
        }
        if self.insecure_skip_tls_verify {
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
    }

    fn complete_user(&self, kubeconfig: &mut Kubeconfig, name: &str) {
        let position = kubeconfig.auth_infos.iter().position(|user| user.name == name).unwrap_or_else(|| {
            kubeconfig.auth_infos.push(NamedAuthInfo { name: name.to_owned(), auth_info: Some(Default::default()), other: Default::default() });
            kubeconfig.auth_infos.len() - 1
        });
        let user = kubeconfig.auth_infos[position].auth_info.get_or_insert_default();
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
        if self.impersonate.is_some() {
            user.impersonate.clone_from(&self.impersonate);
            user.impersonate_groups = Some(self.impersonate_groups.clone()).filter(|groups| !groups.is_empty());
            user.impersonate_uid.clone_from(&self.impersonate_uid);
        }
    }

    /// What can only be set on the loaded configuration.
    fn patch(&self, config: &mut Config, user_agent: &str, configuration: &dyn Fn(String) -> Failure) -> Result<(), Failure> {
        // Single requests have their own, bounded retries; the library's go on for minutes.
        config.default_retry = false;
        config.connect_timeout = Some(self.request_timeout.0.unwrap_or(Duration::from_secs(30)).min(Duration::from_secs(30)));
        // Without this the library looks for the system's certificate authorities, and fails where there are none.
        let is_plain = config.cluster_url.scheme_str() == Some("http");
        if (config.accept_invalid_certs || is_plain) && config.root_cert.is_none() {
            config.root_cert = Some(Vec::new());
        }
        let host = config.cluster_url.host().unwrap_or_default().to_owned();
        if is_excepted(&host, &no_proxy()) {
            config.proxy_url = None;
        }
        // Compressing costs more than sending does when nothing leaves the machine.
        config.disable_compression = config.disable_compression || self.disable_compression || is_loopback(&host);
        let agent = http::HeaderValue::from_str(user_agent).map_err(|error| configuration(error.to_string()))?;
        config.headers.push((http::header::USER_AGENT, agent));
        Ok(())
    }
}

impl Connection {
    /// Keeps the warnings of an answer, each once.
    pub(super) fn note_warnings(&self, headers: &http::HeaderMap) {
        let mut warnings = self.warnings.lock().expect("nothing panics while it holds this lock");
        for warning in headers.get_all(http::header::WARNING) {
            if let Some(text) = warning_text(warning) && !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }

    /// The warnings that came since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().expect("nothing panics while it holds this lock"))
    }
}

/// The text of a header `299 - "text"`.
fn warning_text(header: &http::HeaderValue) -> Option<String> {
    let text = header.to_str().ok()?;
    let (_, quoted) = text.split_once('"')?;
    Some(quoted.strip_suffix('"').unwrap_or(quoted).replace("\\\"", "\""))
}

/// The client. A credential plugin is run once: the library would run it three times.
fn client(config: Config) -> Result<Client, kube::Error> {
    if config.auth_info.exec.is_none() {
        return Client::try_from(config);
    }
    match config.auth_layer()? {
        Some(authentication) => {
            let mut bare = config;
            bare.auth_info.exec = None;
            let buffer = BufferLayer::<http::Request<Body>>::new(64);
            Ok(ClientBuilder::try_from(bare)?.with_layer(&buffer).with_layer(&authentication).build())
        }
        // The plugin gave a client certificate, which the library must see.
        None => Client::try_from(config),
    }
}

/// Reads the kubeconfig as kubectl does: the flag's file must exist; of the files in `$KUBECONFIG` those that exist are
/// merged, the first wins; else the home folder's. `None` when there is none.
fn load_kubeconfig(flag: Option<&std::path::Path>) -> Result<Option<Kubeconfig>, KubeconfigError> {
    if let Some(path) = flag {
        return Kubeconfig::read_from(path).map(Some);
    }
    let paths: Vec<PathBuf> = match std::env::var_os("KUBECONFIG") {
        Some(paths) if !paths.is_empty() => std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        _ => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        match Kubeconfig::read_from(&path) {
            Ok(config) => merged = Some(match merged { Some(merged) => merged.merge(config)?, None => config }),
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(merged)
}

/// Checks that what is named exists; the library takes an unknown user as nobody.
fn check_names(kubeconfig: &Kubeconfig, context: Option<&str>, cluster: Option<&str>, user: Option<&str>) -> Result<(), String> {
    let check = |kind: &str, wanted: Option<&str>, known: Vec<&str>| match wanted {
        Some(wanted) if !known.contains(&wanted) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(format!("{kind} {wanted:?} does not exist: there are {known}"))
        }
        _ => Ok(()),
    };
    check("context", context, kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect())?;
    check("cluster", cluster, kubeconfig.clusters.iter().map(|cluster| cluster.name.as_str()).collect())?;
    check("user", user, kubeconfig.auth_infos.iter().map(|user| user.name.as_str()).collect())
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

fn no_proxy() -> String {
    std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default()
}

/// Whether a host is reached without the proxy: `*`, the host itself, or one of its parent domains stands in the list.
/// Loopback never goes through a proxy (golang.org/x/net/http/httpproxy, as client-go uses it). The client library
/// would compare the list with the proxy's own host.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_lowercase();
    is_loopback(&host)
        || list.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
            let domain = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || host == domain || host.ends_with(&format!(".{domain}")) || is_in_network(&host, &entry)
        })
}

/// Whether an IPv4 address is in a network such as `10.0.0.0/8`.
fn is_in_network(host: &str, network: &str) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(host), Ok(base), Ok(length)) =
        (host.parse::<std::net::Ipv4Addr>(), base.parse::<std::net::Ipv4Addr>(), length.parse::<u32>())
    else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
    length <= 32 && host.to_bits() & mask == base.to_bits() & mask
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_kubectls() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(parse_timeout(text).unwrap(), Timeout(seconds.map(Duration::from_secs)), "{text}");
        };
        check("0", None);
        check("0s", None);
        check("5", Some(5));
        check("90s", Some(90));
        check("1m30s", Some(90));
        for text in ["", "x", "5x", "-1s"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_are_not_used_for_what_is_excepted() {
        let check = |host: &str, list: &str, expected: bool| assert_eq!(is_excepted(host, list), expected, "{host} {list}");
        check("api.example.com", "", false);
        check("api.example.com", "example.com", true);
        check("api.example.com", ".example.com,", true);
        check("api.example.com", "a,,api.example.com", true);
        check("notexample.com", "example.com", false);
        check("api.example.com", "*", true);
        check("10.1.2.3", "10.0.0.0/8", true);
        check("11.1.2.3", "10.0.0.0/8", false);
        check("127.0.0.1", "", true);
        check("localhost", "", true);
    }

    #[test]
    fn names_that_do_not_exist_are_told_with_those_that_do() {
        let kubeconfig: Kubeconfig =
            serde_json::from_str(r#"{"contexts":[{"name":"a"},{"name":"b"}],"users":[],"clusters":[]}"#).unwrap();
        assert_eq!(check_names(&kubeconfig, Some("c"), None, None), Err("context \"c\" does not exist: there are a, b".to_owned()));
        assert_eq!(check_names(&kubeconfig, Some("a"), None, None), Ok(()));
        assert_eq!(check_names(&kubeconfig, None, None, Some("u")), Err("user \"u\" does not exist: there are none".to_owned()));
    }

    #[test]
    fn warnings_lose_their_number() {
        let header = http::HeaderValue::from_static("299 - \"v1 \\\"X\\\" is deprecated\"");
        assert_eq!(warning_text(&header).unwrap(), "v1 \"X\" is deprecated");
    }
}
