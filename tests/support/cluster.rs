//! A whole Kubernetes: etcd, API server, controllers, scheduler, and kwok in the place of the kubelets.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::Api;
use crate::address::Range;
use crate::kubeconfig::Kubeconfig;
use crate::process::{Process, end_of};
use crate::program::{KUBERNETES_VERSION, Program, module_dir};
use crate::start::{CONTROLLER_MANAGER, KUBECONFIG, KWOK, Start};

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes it has.
    pub nodes: usize,
    /// The version that the kubelets say they have: Istio decides by it whether sidecars are native.
    pub kubelet_version: String,
    /// Whether the Gateway API is installed.
    pub gateway_api: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 1, kubelet_version: format!("v{KUBERNETES_VERSION}"), gateway_api: true }
    }
}

/// A running cluster. It ends when it is dropped, and leaves nothing behind.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: Kubeconfig,
    api: Api,
    folder: PathBuf,
    /// In the order of their start; they end in reverse.
    processes: Mutex<Vec<Process>>,
    range: Range,
}

impl Cluster {
    /// Starts a cluster and waits until it takes workloads: three to four seconds, once the programs are built.
    pub fn start(options: &Options) -> Result<Self> {
        // All of them before the first is started: a build takes minutes, and a cluster should not idle so long.
        for program in Program::KUBERNETES {
            program.path()?;
        }
        let range = Range::take(|range| empty(&folder_of(range)).is_ok())?;
        let folder = folder_of(&range);
        let mut start = Start { folder: &folder, range: &range, processes: Vec::new() };
        let started = start.control_plane();
        let processes = Mutex::new(start.processes);
        let kubeconfig = match started {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => {
                stop_all(&processes);
                let _ = fs::remove_dir_all(&folder);
                return Err(error.context("starting a test cluster"));
            }
        };
        let cluster = Self { api: Api::new(&kubeconfig)?, kubeconfig, folder, processes, range };
        cluster.make_ready(options).context("starting a test cluster")?;
        Ok(cluster)
    }

    /// The administrator's kubeconfig, as a file.
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.folder.join(KUBECONFIG)
    }

    /// The administrator's kubeconfig: a start for others. See also [`Cluster::kubeconfig_for`].
    pub fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// A kubeconfig with the rights that the RBAC `rules` give, and no others: a ServiceAccount `name` in `default`, bound
    /// to a ClusterRole of that name.
    pub fn kubeconfig_for(&self, name: &str, rules: Value) -> Result<Kubeconfig> {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let account = format!("/api/v1/namespaces/default/serviceaccounts/{name}");
        self.api.apply(&account, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}))?;
        self.api.apply(
            &format!("{rbac}/clusterroles/{name}"),
            &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
        )?;
        self.api.apply(
            &format!("{rbac}/clusterrolebindings/{name}"),
            &json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
            }),
        )?;
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.api.create(&format!("{account}/token"), &request)?;
        let token = answer["status"]["token"].as_str().context("the answer to a TokenRequest has no token")?.to_owned();
        Ok(Kubeconfig { token, ..self.kubeconfig.clone() })
    }

    /// The API server, with all rights.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// A folder of the cluster's own, gone when it ends.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The addresses of the cluster.
    pub fn range(&self) -> &Range {
        &self.range
    }

    /// The ids and names of its processes.
    pub fn processes(&self) -> Vec<(u32, String)> {
        self.lock_processes().iter().map(|process| (process.id(), process.name().to_owned())).collect()
    }

    /// Runs kubectl as administrator and returns what it writes to stdout.
    pub fn kubectl<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<String> {
        self.run(Program::Kubectl, arguments)
    }

    /// Runs a client program as administrator and returns what it writes to stdout.
    pub fn run<I: AsRef<OsStr>>(&self, program: Program, arguments: impl IntoIterator<Item = I>) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments);
        let line = command_line(&command);
        let output = command.output().with_context(|| format!("running {line}"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let ended = || self.first_ended().unwrap_or_default();
        ensure!(output.status.success(), "{line} ended with {}: {stdout}{stderr}{}", output.status, ended());
        Ok(stdout.into_owned())
    }

    /// A client program as administrator, in an environment that holds nothing of the user's.
    pub fn command(&self, program: Program) -> Result<Command> {
        let mut command = Command::new(program.path()?);
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.join("home"))
            .env("KUBECONFIG", self.kubeconfig_file())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Waits until `ready` gives a value. Fails at the deadline, with the last thing that stood in the way.
    pub fn wait<T>(&self, what: &str, deadline: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        loop {
            let last = match ready() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let ended = self.first_ended();
            if ended.is_some() || start.elapsed() > deadline {
                let waited = format!("waited {:.1} s for {what}{}", start.elapsed().as_secs_f32(), ended.unwrap_or_default());
                return Err(match last {
                    Some(error) => error.context(waited),
                    None => anyhow!(waited),
                });
            }
            // What takes longer is looked at less often.
            thread::sleep((start.elapsed() / 10).clamp(Duration::from_millis(20), Duration::from_secs(1)));
        }
    }

    /// Ends all processes, the newest first, and removes the folder. The second time there is nothing to do.
    pub fn stop(&self) {
        stop_all(&self.processes);
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Does something while nothing but the API server runs: neither controllers nor kubelets.
    pub fn while_it_stands_still(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.end(CONTROLLER_MANAGER);
        self.end(KWOK);
        let done = work();
        let mut start = Start { folder: &self.folder, range: &self.range, processes: Vec::new() };
        let started = start.controller_manager().and_then(|()| start.kwok());
        start.processes.into_iter().for_each(|process| self.keep(process));
        done.and(started)
    }

    pub(crate) fn keep(&self, process: Process) {
        self.lock_processes().push(process);
    }

    /// Ends the process of this name; whether there was one.
    pub(crate) fn end(&self, name: &str) -> bool {
        let mut processes = self.lock_processes();
        let found = processes.iter().position(|process| process.name() == name).map(|at| processes.remove(at));
        drop(processes);
        found.is_some()
    }

    /// What to say of a process that ended by itself: nothing comes of waiting then.
    fn first_ended(&self) -> Option<String> {
        self.lock_processes().iter_mut().find_map(|process| {
            let status = process.ended()?;
            Some(format!(", but {} ended ({status}); the end of its log:\n{}", process.name(), end_of(process.log())))
        })
    }

    fn lock_processes(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        // A test that panics must not keep the next one from ending the cluster.
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_ready(&self, options: &Options) -> Result<()> {
        fs::create_dir_all(self.folder.join("home")).context("creating a home folder")?;
        for number in 0..options.nodes {
            self.api.create("/api/v1/nodes", &node(&format!("node-{number}"), &options.kubelet_version))?;
        }
        if options.gateway_api {
            let definitions = module_dir("gateway-api", "sigs.k8s.io/gateway-api")?.join("config/crd/standard");
            self.kubectl([OsStr::new("apply"), OsStr::new("--server-side"), OsStr::new("-f"), definitions.as_os_str()])?;
        }
        // Pods are refused until their namespace has its account.
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        self.wait("the default ServiceAccount, from the controller manager", DEADLINE, || self.api.find(account))?;
        self.wait("the nodes to be ready, from kwok", DEADLINE, || {
            let nodes = self.api.get("/api/v1/nodes")?;
            let ready = nodes["items"].as_array().is_some_and(|nodes| nodes.iter().all(is_ready));
            Ok(ready.then_some(()))
        })?;
        // Nobody has waited for the scheduler so far.
        match self.first_ended() {
            Some(ended) => bail!("all is ready{ended}"),
            None => Ok(()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Long, because the machine of a test run may be busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Whether the object's `Ready` condition is true.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

fn node(name: &str, kubelet_version: &str) -> Value {
    let resources = json!({"cpu": "100000", "memory": "100000Gi", "pods": "1000000"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {
            "allocatable": resources, "capacity": resources,
            "nodeInfo": {
                "kubeletVersion": kubelet_version, "architecture": "amd64", "operatingSystem": "linux", "bootID": "",
                "containerRuntimeVersion": "kwok", "kernelVersion": "kwok", "kubeProxyVersion": "", "machineID": "", "osImage": "", "systemUUID": "",
            },
        },
    })
}

fn folder_of(range: &Range) -> PathBuf {
    env::temp_dir().join(format!("kubectl-mesh-127.{}", range.second()))
}

/// Makes the folder new. Who holds the range knows that nobody uses the folder: what is in it was left by a run that was killed.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing what a killed run left"),
        _ => fs::create_dir(folder).with_context(|| format!("creating {}", folder.display())),
    }
}

/// Clients end before what they call: an API server that outlives its etcd takes long to end.
fn stop_all(processes: &Mutex<Vec<Process>>) {
    let mut processes = processes.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(mut process) = processes.pop() {
        process.stop();
    }
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
