//! Where to connect to and as whom: the kubeconfig's entries with the flags put over them, as k8s.io/client-go/tools/clientcmd 0.35
//! puts them (client_config.go), and refused where kubectl refuses them (validation.go).

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context};

use super::ConnectionArgs;
use super::kubeconfig::load;
use super::proxy::Proxies;
use crate::interruption::Interruption;

/// What the process's surroundings say about the way to a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// `KUBECONFIG`: a list of files.
    pub(super) kubeconfig: Option<OsString>,
    pub(super) home: Option<PathBuf>,
    pub(super) proxies: Proxies,
    pub(super) input: Input,
    /// What ends the programs that are run for credentials.
    pub(super) interruption: Interruption,
}

/// Who writes to stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    Person,
    #[default]
    Program,
}

impl Environment {
    pub(super) fn read(interruption: &Interruption) -> Environment {
        Environment {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            proxies: Proxies::from_environment(),
            input: if io::stdin().is_terminal() { Input::Person } else { Input::Program },
            interruption: interruption.clone(),
        }
    }
}

/// One cluster and one user, whole: no name in it leads to another file but a token's, which is renewed there.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// The context, or the server where there is none.
    pub(super) context: String,
    /// The kubeconfig's name of the cluster, or the server where it has none.
    pub(super) cluster_name: String,
    /// The kubeconfig's name of the user; empty where it has none.
    pub(super) user_name: String,
    /// The context's namespace.
    pub(super) namespace: String,
    /// The cluster, with its certificate authority in it.
    pub(super) cluster: Cluster,
    /// The user, with its certificate and key in it.
    pub(super) user: AuthInfo,
    /// Where the certificate authority is renewed, which only a pod knows.
    authority_file: Option<PathBuf>,
}

/// The name of a cluster that no kubeconfig names.
const IN_CLUSTER: &str = "in-cluster";

impl Resolved {
    /// The entries of the kubeconfig that a context names, or the current one, with the flags put over them.
    ///
    /// # Errors
    /// A sentence, when they do not say where to connect, or name what is not there.
    pub(super) fn new(args: &ConnectionArgs, environment: &Environment, context: Option<&str>) -> Result<Resolved, String> {
        let loaded = load(args.kubeconfig.as_deref(), environment)?;
        let has_loaded = loaded.is_some();
        let kubeconfig = loaded.unwrap_or_default();
        let name = given(context).map(str::to_owned).or_else(|| kubeconfig.current_context.clone());
        let (cluster_name, user_name) = (given(args.cluster.as_deref()), given(args.user.as_deref()));
        let server = given(args.server.as_deref());
        if !has_loaded && server.is_none() {
            return in_cluster(args, context);
        }
        if name.is_none() && server.is_none() && cluster_name.is_none() {
            // A kubeconfig that says nothing is none for a pod of a cluster.
            return in_cluster(args, context).map_err(|_| "the kubeconfig has no current context".to_owned());
        }
        let contexts = kubeconfig.contexts.into_iter().map(|entry| (entry.name, entry.context));
        let context: Context = find("context", name.as_deref(), contexts)?;
        let cluster_name = cluster_name.map_or_else(|| context.cluster.clone(), str::to_owned);
        let clusters = kubeconfig.clusters.into_iter().map(|entry| (entry.name, entry.cluster));
        let cluster = find("cluster", Some(&cluster_name), clusters)?;
        let users = kubeconfig.auth_infos.into_iter().map(|entry| (entry.name, entry.auth_info));
        // kubectl takes a user that does not exist as nobody, and would go on without any credentials.
        let user_name = user_name.or(context.user.as_deref()).unwrap_or_default().to_owned();
        let user = find("user", Some(&user_name), users)?;
        let namespace = context.namespace.filter(|namespace| !namespace.is_empty());
        let mut resolved = Resolved {
            context: String::new(),
            cluster_name,
            user_name,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            cluster,
            user,
            authority_file: None,
        };
        resolved.put_over(args)?;
        resolved.check_and_embed()?;
        let server = resolved.server()?.to_owned();
        if resolved.cluster_name.is_empty() {
            resolved.cluster_name.clone_from(&server);
        }
        resolved.context = name.unwrap_or(server);
        Ok(resolved)
    }

    fn put_over(&mut self, args: &ConnectionArgs) -> Result<(), String> {
        put_over_cluster(args, &mut self.cluster)?;
        put_over_user(args, &mut self.user)
    }

    /// The address of the API server, without a slash at its end.
    pub(super) fn server(&self) -> Result<&str, String> {
        let server = self.cluster.server.as_deref().unwrap_or_default();
        if server.is_empty() {
            Err(format!("cluster {:?} has no server", self.cluster_name))
        } else {
            Ok(server.trim_end_matches('/'))
        }
    }

    fn check_and_embed(&mut self) -> Result<(), String> {
        let server = with_scheme(self.server()?, &self.cluster, &self.user);
        check_cluster(&self.cluster, &self.cluster_name, &server)?;
        self.cluster.server = Some(server);
        check_user(&self.user)?;
        let authority = &mut self.cluster;
        embed("the certificate authority", &mut authority.certificate_authority, &mut authority.certificate_authority_data)?;
        embed("the client certificate", &mut self.user.client_certificate, &mut self.user.client_certificate_data)?;
        let mut key = None;
        embed("the client key", &mut self.user.client_key, &mut key)?;
        if let Some(key) = key {
            self.user.client_key_data = Some(key.into());
        }
        Ok(())
    }

    /// The client library's configuration, without credentials but for a client certificate. The library's own loader is not used,
    /// because that compares `NO_PROXY` with the proxy's host, and fails when there is an empty element in it.
    pub(super) fn config(&self, environment: &Environment) -> Result<Config, String> {
        let server = self.server()?;
        let url = server.parse::<http::Uri>().map_err(|error| format!("the server {server:?} is no address: {error}"))?;
        if url.host().is_none_or(str::is_empty) || !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(format!("the server {server:?} is no address: http:// or https:// and a host are expected"));
        }
        let mut config = Config::new(url);
        config.default_namespace.clone_from(&self.namespace);
        config.accept_invalid_certs = self.cluster.insecure_skip_tls_verify.unwrap_or(false);
        config.disable_compression = self.cluster.disable_compression.unwrap_or(false);
        config.tls_server_name.clone_from(&self.cluster.tls_server_name);
        config.root_cert = authorities(&self.cluster)?;
        config.root_cert_file.clone_from(&self.authority_file);
        config.proxy_url = environment.proxies.choose(&config.cluster_url, self.cluster.proxy_url.as_deref())?;
        let certificate = self.user.client_certificate_data.clone();
        config.auth_info = AuthInfo {
            // A key without a certificate says nothing.
            client_key_data: self.user.client_key_data.clone().filter(|_| certificate.is_some()),
            client_certificate_data: certificate,
            impersonate: self.user.impersonate.clone(),
            impersonate_uid: self.user.impersonate_uid.clone(),
            impersonate_groups: self.user.impersonate_groups.clone(),
            impersonate_user_extra: self.user.impersonate_user_extra.clone(),
            ..AuthInfo::default()
        };
        Ok(config)
    }
}

/// What was typed; an empty text is nothing, as in kubectl.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The cluster that this process is a pod of. Names of a kubeconfig cannot be meant: there is none.
fn in_cluster(args: &ConnectionArgs, context: Option<&str>) -> Result<Resolved, String> {
    let named = [("context", context), ("cluster", args.cluster.as_deref()), ("user", args.user.as_deref())];
    if let Some((kind, Some(name))) = named.into_iter().find(|(_, name)| given(*name).is_some()) {
        return Err(format!("{kind} {name:?} does not exist: there is no kubeconfig"));
    }
    let config = Config::incluster().map_err(|_| "there is no kubeconfig, and this is no pod of a cluster".to_owned())?;
    let authority_file = config.root_cert_file.filter(|_| args.certificate_authority.is_none());
    let cluster = Cluster {
        server: Some(config.cluster_url.to_string()),
        certificate_authority: authority_file.as_ref().map(|file| file.display().to_string()),
        ..Cluster::default()
    };
    let mut resolved = Resolved {
        context: IN_CLUSTER.to_owned(),
        cluster_name: IN_CLUSTER.to_owned(),
        user_name: IN_CLUSTER.to_owned(),
        namespace: config.default_namespace,
        cluster,
        user: config.auth_info,
        authority_file,
    };
    resolved.put_over(args)?;
    resolved.check_and_embed()?;
    Ok(resolved)
}

/// The named entry of a part of the kubeconfig; an empty one when none is named.
fn find<T: Default>(kind: &str, wanted: Option<&str>, entries: impl Iterator<Item = (String, Option<T>)>) -> Result<T, String> {
    let Some(wanted) = given(wanted) else { return Ok(T::default()) };
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

fn put_over_cluster(args: &ConnectionArgs, cluster: &mut Cluster) -> Result<(), String> {
    let authority = args.certificate_authority.as_deref().filter(|file| !file.as_os_str().is_empty());
    if args.insecure_skip_tls_verify == Some(true) && authority.is_some() {
        return Err("--certificate-authority and --insecure-skip-tls-verify exclude each other".to_owned());
    }
    let (server, tls_server_name) = (given(args.server.as_deref()), given(args.tls_server_name.as_deref()));
    if server.is_some() || tls_server_name.is_some() {
        // The file's name is that of the file's server.
        cluster.tls_server_name = tls_server_name.map(str::to_owned);
    }
    if let Some(server) = server {
        cluster.server = Some(server.to_owned());
    }
    cluster.disable_compression = args.disable_compression.or(cluster.disable_compression);
    if let Some(file) = authority {
        cluster.certificate_authority = Some(absolute(file)?);
        cluster.certificate_authority_data = None;
        // Whoever names an authority wants the server's certificate verified.
        cluster.insecure_skip_tls_verify = None;
    }
    cluster.insecure_skip_tls_verify = args.insecure_skip_tls_verify.or(cluster.insecure_skip_tls_verify);
    if args.insecure_skip_tls_verify == Some(true) {
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    Ok(())
}

fn put_over_user(args: &ConnectionArgs, user: &mut AuthInfo) -> Result<(), String> {
    if let Some(token) = given(args.token.as_deref()) {
        user.auth_provider = None;
        user.exec = None;
        user.username = None;
        user.password = None;
        user.token_file = None;
        user.token = Some(token.to_owned().into());
    }
    if let Some(file) = args.client_certificate.as_deref().filter(|file| !file.as_os_str().is_empty()) {
        user.client_certificate = Some(absolute(file)?);
        user.client_certificate_data = None;
    }
    if let Some(file) = args.client_key.as_deref().filter(|file| !file.as_os_str().is_empty()) {
        user.client_key = Some(absolute(file)?);
        user.client_key_data = None;
    }
    put_over_impersonation(args, user)
}

/// Who to act as. client-go refuses attributes without a user too (`NewImpersonatingRoundTripper`'s caller,
/// k8s.io/client-go/rest/transport.go): the server would take them as the caller's own and ignore them.
fn put_over_impersonation(args: &ConnectionArgs, user: &mut AuthInfo) -> Result<(), String> {
    user.impersonate = args.impersonate.clone().or_else(|| user.impersonate.take());
    user.impersonate_uid = args.impersonate_uid.clone().or_else(|| user.impersonate_uid.take());
    if !args.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(args.impersonate_groups.clone());
    }
    if !args.impersonate_user_extra.is_empty() {
        let extra = user.impersonate_user_extra.insert(Default::default());
        for (key, value) in &args.impersonate_user_extra {
            extra.entry(key.clone()).or_default().push(value.clone());
        }
    }
    user.impersonate = user.impersonate.take().filter(|name| !name.is_empty());
    user.impersonate_uid = user.impersonate_uid.take().filter(|uid| !uid.is_empty());
    user.impersonate_groups = user.impersonate_groups.take().filter(|groups| !groups.is_empty());
    user.impersonate_user_extra = user.impersonate_user_extra.take().filter(|extra| !extra.is_empty());
    let has_attributes =
        user.impersonate_uid.is_some() || user.impersonate_groups.is_some() || user.impersonate_user_extra.is_some();
    if user.impersonate.is_none() && has_attributes {
        return Err("requesting uid, groups or user-extra without impersonating a user: --as is missing".to_owned());
    }
    Ok(())
}

/// A flag's file, which is named relative to where the command was typed.
fn absolute(file: &Path) -> Result<String, String> {
    let absolute = std::path::absolute(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    absolute.to_str().map(str::to_owned).ok_or_else(|| format!("the path {} is no UTF-8", file.display()))
}

/// `validateClusterInfo`, and what client-go refuses when it connects (`TLSConfigFor`, k8s.io/client-go/transport/transport.go).
fn check_cluster(cluster: &Cluster, name: &str, server: &str) -> Result<(), String> {
    let (file, data) = (&cluster.certificate_authority, &cluster.certificate_authority_data);
    if file.is_some() && data.is_some() {
        return Err(format!(
            "cluster {name:?} has certificate-authority-data and certificate-authority: one of them is too many"
        ));
    }
    let is_insecure = cluster.insecure_skip_tls_verify == Some(true) && server.starts_with("https:");
    if is_insecure && (file.is_some() || data.is_some()) {
        return Err(format!(
            "cluster {name:?} has a certificate authority and insecure-skip-tls-verify: they exclude each other"
        ));
    }
    match cluster.proxy_url.as_deref() {
        Some(proxy) if !["http://", "https://", "socks5://"].iter().any(|scheme| proxy.starts_with(scheme)) => {
            Err(format!("the proxy-url of cluster {name:?} must begin with http://, https:// or socks5://"))
        }
        _ => Ok(()),
    }
}

/// `validateAuthInfo`, but for an exec plugin, which is checked where it is run.
fn check_user(user: &AuthInfo) -> Result<(), String> {
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let has_key = user.client_key.is_some() || user.client_key_data.is_some();
    if user.client_certificate.is_some() && user.client_certificate_data.is_some() {
        return Err("the user has client-certificate-data and client-certificate: one of them is too many".to_owned());
    }
    if has_certificate && user.client_key.is_some() && user.client_key_data.is_some() {
        return Err("the user has client-key-data and client-key: one of them is too many".to_owned());
    }
    if has_certificate && !has_key {
        return Err("the user has a client certificate and no client key".to_owned());
    }
    if user.token.is_some() && (user.username.is_some() || user.password.is_some()) {
        return Err("the user has a token and a name with a password: one of them is too many".to_owned());
    }
    if user.exec.is_some() && user.auth_provider.is_some() {
        return Err("the user has exec and auth-provider: one of them is too many".to_owned());
    }
    Ok(())
}

/// Takes a file's content into the entry, so that everybody who is given the entry has the same.
fn embed(what: &str, file: &mut Option<String>, data: &mut Option<String>) -> Result<(), String> {
    if let Some(file) = file.take() {
        let bytes = std::fs::read(&file).map_err(|error| format!("cannot read {what} {file}: {error}"))?;
        *data = Some(BASE64.encode(bytes));
    }
    Ok(())
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
    let Some(data) = &cluster.certificate_authority_data else { return Ok(None) };
    let text = BASE64.decode(data).map_err(|error| format!("certificate-authority-data is no base64: {error}"))?;
    let blocks = pem::parse_many(text).map_err(|error| format!("the certificate authority is no PEM: {error}"))?;
    let certificates: Vec<_> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect();
    if certificates.is_empty() {
        return Err("the certificate authority holds no certificate".to_owned());
    }
    Ok(Some(certificates))
}
