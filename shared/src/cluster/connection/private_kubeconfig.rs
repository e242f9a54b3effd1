//! The connection as a file that only this user can read, for programs that this one runs: whatever they are, they reach the cluster
//! that was looked at, as the same user, and no other.
//!
//! The file lies in a folder of its own, `kubectl-mesh-…` in `$XDG_RUNTIME_DIR`, which is in memory and the user's own, or else in
//! `$TMPDIR` or `/tmp`. It is removed with the connection, and after a signal; `kill -9` leaves it there.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kube::config::{Context, ExecInteractiveMode, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use tempfile::TempDir;

use super::resolved::{Environment, Resolved};
use super::{Connection, ConnectionArgs};
use crate::refusal::Refusal;

/// The file's name in its folder.
const NAME: &str = "config";

/// Folders that are there now.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what is left at once: for whoever ends the process without giving up what it holds.
pub fn remove_private_files() {
    if let Ok(folders) = FOLDERS.lock() {
        for folder in folders.iter() {
            // There is nobody left to tell, and nothing else to try.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A kubeconfig that holds one cluster, one user and one context. It is removed when this is dropped.
#[derive(Debug)]
pub struct PrivateKubeconfig {
    folder: TempDir,
    content: Vec<u8>,
}

impl Drop for PrivateKubeconfig {
    fn drop(&mut self) {
        if let Ok(mut folders) = FOLDERS.lock() {
            folders.retain(|folder| folder != self.folder.path());
        }
    }
}

impl PrivateKubeconfig {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// Makes a program reach this cluster: sets `KUBECONFIG`, and takes out of its surroundings what would lead it elsewhere.
    ///
    /// The names: pkg/cli/environment.go of helm.sh/helm; istioctl/cmd/root.go of istio.io/istio; clientcmd/client_config.go and
    /// rest/config.go (`InClusterConfig`) of k8s.io/client-go.
    ///
    /// # Errors
    /// A [`Refusal`] when an earlier program has changed the file, and it cannot be written again.
    pub fn lead(&self, command: &mut tokio::process::Command) -> Result<(), Refusal> {
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(leads_elsewhere) {
                command.env_remove(name);
            }
        }
        command.env("KUBECONFIG", self.path());
        if std::fs::read(self.path()).is_ok_and(|found| found == self.content) {
            return Ok(());
        }
        std::fs::remove_file(self.path()).or_else(is_gone).and_then(|()| self.write()).map_err(|error| unwritten(&error))
    }

    fn new(kubeconfig: &Kubeconfig) -> io::Result<PrivateKubeconfig> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("kubectl-mesh-");
        folders_for_this_user_only(&mut builder);
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let folder = match runtime.map(|runtime| builder.tempdir_in(runtime)) {
            Some(Ok(folder)) => folder,
            _ => builder.tempdir()?,
        };
        if let Ok(mut folders) = FOLDERS.lock() {
            folders.push(folder.path().to_owned());
        }
        // JSON is YAML that no two readers of YAML read differently.
        let private = PrivateKubeconfig { folder, content: serde_json::to_vec_pretty(kubeconfig)? };
        private.write()?;
        Ok(private)
    }

    fn write(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        files_for_this_user_only(&mut options);
        options.open(self.path())?.write_all(&self.content)
    }
}

fn is_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn unwritten(error: &io::Error) -> Refusal {
    let folder = std::env::temp_dir();
    let reason = format!("the connection cannot be written for other programs: {}: {error}", folder.display());
    Refusal::new(reason, "make room in that folder, or name another one in TMPDIR")
}

#[cfg(unix)]
fn folders_for_this_user_only(folder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    folder.permissions(std::fs::Permissions::from_mode(0o700));
}

#[cfg(unix)]
fn files_for_this_user_only(file: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    file.mode(0o600);
}

/// Folders below the user's own are the user's own there.
#[cfg(not(unix))]
fn folders_for_this_user_only(_: &mut tempfile::Builder<'_, '_>) {}

/// As the folder that they are in.
#[cfg(not(unix))]
fn files_for_this_user_only(_: &mut OpenOptions) {}

fn leads_elsewhere(name: &str) -> bool {
    const NAMES: [&str; 4] = ["HELM_NAMESPACE", "KUBERNETES_MASTER", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
    NAMES.contains(&name) || ["HELM_KUBE", "ISTIOCTL_"].iter().any(|prefix| name.starts_with(prefix))
}

impl Connection {
    /// The connection as a file for other programs; the same one whoever asks.
    ///
    /// # Errors
    /// A [`Refusal`] when a file cannot say it, or cannot be written.
    pub fn private_kubeconfig(&self) -> Result<&PrivateKubeconfig, Refusal> {
        if let Some(private) = self.private.get() {
            return Ok(private);
        }
        let kubeconfig = kubeconfig(&self.resolved).map_err(|why| {
            let reason = format!("other programs cannot be given this connection: {why}; nothing was changed");
            Refusal::new(reason, "choose another user with --user or --context")
        })?;
        let written = PrivateKubeconfig::new(&kubeconfig).map_err(|error| unwritten(&error))?;
        check_read_back(&self.resolved, &written.path()).map_err(|why| {
            let reason = format!("other programs cannot be given this connection: {why}; nothing was changed");
            Refusal::new(reason, "choose another user with --user or --context")
        })?;
        Ok(self.private.get_or_init(|| written))
    }
}

/// The one cluster, user and context.
///
/// # Errors
/// Why the programs would not do what we do with it.
fn kubeconfig(resolved: &Resolved) -> Result<Kubeconfig, String> {
    let user = &resolved.user;
    if user.exec.as_ref().is_some_and(|exec| exec.interactive_mode == Some(ExecInteractiveMode::Always)) {
        return Err("its credential plugin asks questions (interactiveMode: Always), and they have no terminal".to_owned());
    }
    let shows_something = user.token.is_some()
        || user.token_file.is_some()
        || user.username.is_some()
        || user.exec.is_some()
        || user.auth_provider.is_some();
    // `ClientConfig` of k8s.io/client-go/tools/clientcmd/client_config.go reads a user only for a server with TLS.
    if shows_something && resolved.cluster.server.as_deref().is_some_and(|server| server.starts_with("http:")) {
        return Err("its server has no TLS, and they show no credentials to such a server".to_owned());
    }
    let named = |name: &str, otherwise: &str| if name.is_empty() { otherwise.to_owned() } else { name.to_owned() };
    let context = named(&resolved.context, "context");
    let (cluster, user_name) = (named(&resolved.cluster_name, "cluster"), named(&resolved.user_name, "user"));
    Ok(Kubeconfig {
        kind: Some("Config".to_owned()),
        api_version: Some("v1".to_owned()),
        current_context: Some(context.clone()),
        clusters: vec![NamedCluster {
            name: cluster.clone(),
            cluster: Some(resolved.cluster.clone()),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo { name: user_name.clone(), auth_info: Some(user.clone()), ..NamedAuthInfo::default() }],
        contexts: vec![NamedContext {
            name: context,
            context: Some(Context {
                cluster,
                user: Some(user_name),
                namespace: Some(resolved.namespace.clone()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        ..Kubeconfig::default()
    })
}

/// Whether a reader of the file reaches the same server in the same way as the same user.
fn check_read_back(resolved: &Resolved, path: &Path) -> Result<(), String> {
    let args = ConnectionArgs { kubeconfig: Some(path.to_owned()), ..ConnectionArgs::default() };
    let read = Resolved::new(&args, &Environment::default(), None)?;
    let json = |resolved: &Resolved| {
        Ok::<_, serde_json::Error>((serde_json::to_value(&resolved.cluster)?, serde_json::to_value(&resolved.user)?))
    };
    let is_same = json(&read).and_then(|read| json(resolved).map(|ours| read == ours)).map_err(|error| error.to_string())?;
    if is_same && read.namespace == resolved.namespace { Ok(()) } else { Err("a kubeconfig cannot say all of it".to_owned()) }
}

#[cfg(all(test, unix))]
mod tests;
