//! The processes of a Kubernetes, with the flags that make them do on loopback what they do in a data centre.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Api;
use crate::address::Range;
use crate::cluster::DEADLINE;
use crate::kubeconfig::Kubeconfig;
use crate::process::Process;
use crate::program::{Program, module_dir};

/// A cluster on its way up.
pub(crate) struct Start<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) range: &'a Range,
    pub(crate) processes: Vec<Process>,
}

impl Start<'_> {
    pub(crate) fn control_plane(&mut self) -> Result<Kubeconfig> {
        let etcd = self.etcd()?;
        let kubeconfig = self.apiserver(&etcd)?;
        kubeconfig.write(&self.folder.join(KUBECONFIG))?;
        self.controller_manager()?;
        self.scheduler()?;
        self.kwok()?;
        Ok(kubeconfig)
    }

    fn etcd(&mut self) -> Result<String> {
        let clients = format!("http://{}:{}", self.range.host(), self.range.free_port()?);
        let peers = format!("http://{}:{}", self.range.host(), self.range.free_port()?);
        let mut command = Command::new(Program::Etcd.path()?);
        command
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            // Nothing of it outlives the test.
            .args(["--unsafe-no-fsync", "--quota-backend-bytes", "8000000000", "--log-level", "warn"]);
        let process = self.process("etcd", command)?;
        let healthy = || ureq::get(format!("{clients}/health")).config().proxy(None).build().call().is_ok();
        process.wait_until("it is healthy", DEADLINE, healthy)?;
        Ok(clients)
    }

    fn apiserver(&mut self, etcd: &str) -> Result<Kubeconfig> {
        let (host, port) = (self.range.host(), self.range.free_port()?);
        let token = random_token()?;
        let tokens = self.folder.join("tokens.csv");
        fs::write(&tokens, format!("{token},admin,admin,system:masters\n")).context("writing the token of the administrator")?;
        let certificates = self.folder.join("certificates");
        // The API server makes its own certificate and key before it reads the keys for ServiceAccounts, so one key does both.
        let key = certificates.join("apiserver.key");
        let mut command = Command::new(Program::KubeApiserver.path()?);
        command
            .args(["--etcd-servers", etcd])
            .args(["--bind-address", &host.to_string(), "--advertise-address", &host.to_string()])
            .args(["--secure-port", &port.to_string()])
            .arg("--cert-dir")
            .arg(&certificates)
            // ClusterIPs that are local addresses: so the API server reaches a webhook's Service with no network at all.
            .args(["--service-cluster-ip-range", &self.range.services()])
            .args(["--authorization-mode", "RBAC", "--token-auth-file"])
            .arg(&tokens)
            .args(["--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file"])
            .arg(&key)
            .arg("--service-account-signing-key-file")
            .arg(&key)
            // For policies that rewrite images; the API server has them and is not asked for them yet.
            .args(["--feature-gates", "MutatingAdmissionPolicy=true"])
            .args(["--runtime-config", "admissionregistration.k8s.io/v1beta1=true"])
            // kwok does not remove the taint that this one sets.
            .args(["--disable-admission-plugins", "TaintNodesByCondition"])
            // A shared cluster gets the bursts of many tests at once.
            .args(["--max-requests-inflight", "2000", "--max-mutating-requests-inflight", "1000"]);
        let process = self.process("kube-apiserver", command)?;
        let certificate = certificates.join("apiserver.crt");
        process.wait_until("it has a certificate", DEADLINE, || key.exists() && certificate.exists())?;
        let server = format!("https://{host}:{port}");
        let kubeconfig = Kubeconfig { context: "test".to_owned(), server, authority: certificate, token, namespace: None };
        let api = Api::new(&kubeconfig)?;
        let ready =
            || api.send(ureq::http::Method::GET, "/readyz", "text/plain", &Value::Null).is_ok_and(|answer| answer.status == 200);
        process.wait_until("it is ready", DEADLINE, ready)?;
        Ok(kubeconfig)
    }

    pub(crate) fn controller_manager(&mut self) -> Result<()> {
        let certificates = self.folder.join("certificates");
        let mut command = Command::new(Program::KubeControllerManager.path()?);
        command
            .arg("--kubeconfig")
            .arg(self.folder.join(KUBECONFIG))
            .arg("--service-account-private-key-file")
            .arg(certificates.join("apiserver.key"))
            .arg("--root-ca-file")
            .arg(certificates.join("apiserver.crt"))
            .args(["--controllers", "*,-nodeipam,-nodelifecycle,-attachdetach"])
            .args(["--leader-elect=false", "--use-service-account-credentials=false"])
            .args(["--bind-address", &self.range.host().to_string(), "--secure-port", &self.range.free_port()?.to_string()])
            .args(["--kube-api-qps", "500", "--kube-api-burst", "1000"])
            .args(["--concurrent-deployment-syncs", "20", "--concurrent-replicaset-syncs", "20"]);
        self.process(CONTROLLER_MANAGER, command).map(|_| ())
    }

    fn scheduler(&mut self) -> Result<()> {
        let mut command = Command::new(Program::KubeScheduler.path()?);
        command
            .arg("--kubeconfig")
            .arg(self.folder.join(KUBECONFIG))
            .arg("--leader-elect=false")
            .args(["--bind-address", &self.range.host().to_string(), "--secure-port", &self.range.free_port()?.to_string()])
            .args(["--kube-api-qps", "500", "--kube-api-burst", "1000"]);
        self.process("kube-scheduler", command).map(|_| ())
    }

    pub(crate) fn kwok(&mut self) -> Result<()> {
        let stages = self.folder.join("stages.yaml");
        fs::write(&stages, kwok_stages()?).with_context(|| format!("writing {}", stages.display()))?;
        let mut command = Command::new(Program::Kwok.path()?);
        command
            .arg("--kubeconfig")
            .arg(self.folder.join(KUBECONFIG))
            .args(["--manage-all-nodes=true", "--cidr", "10.0.0.1/16", "--node-ip", "10.0.0.1"])
            .args(["--server-address", &format!("{}:{}", self.range.host(), self.range.free_port()?)])
            .arg("--config")
            .arg(&stages);
        self.process(KWOK, command).map(|_| ())
    }

    fn process(&mut self, name: &str, mut command: Command) -> Result<&mut Process> {
        command.current_dir(self.folder).env_clear().env("HOME", self.folder);
        let process = Process::start(name, command, &self.folder.join(format!("{name}.log")))?;
        self.processes.push(process);
        Ok(self.processes.last_mut().expect("one was pushed on the line above"))
    }
}

/// The administrator's kubeconfig, in the folder of the cluster.
pub(crate) const KUBECONFIG: &str = "kubeconfig.json";

/// Names of processes that a cluster ends and starts again.
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(crate) const KWOK: &str = "kwok";

/// A pod with this annotation is scheduled but never gets ready.
pub(crate) const NEVER_READY: &str = "mesh-tests/never-ready";

/// A pod with this annotation is scheduled, and gets ready unless its proxy is of the revision that the annotation names: as if the new
/// proxy were broken.
pub(crate) const NEVER_READY_ON: &str = "mesh-tests/never-ready-on";

/// What kwok does with nodes and pods, read from its module.
fn kwok_stages() -> Result<String> {
    let folder = module_dir("kwok", "sigs.k8s.io/kwok")?.join("kustomize/stage");
    let files = [
        "node/fast/node-initialize.yaml",
        "node/heartbeat/node-heartbeat.yaml",
        "pod/fast/pod-ready.yaml",
        // The slow one: a Job's pod can say by annotation how long it runs.
        "pod/general/pod-complete.yaml",
        "pod/fast/pod-delete.yaml",
    ];
    // It marks four pods at a time unless told otherwise, which is slow for thousands.
    let configuration = json!({
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": {"podPlayStageParallelism": 16, "nodePlayStageParallelism": 4},
    });
    let mut stages = vec![configuration.to_string()];
    for file in files {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading kwok's stage {}", path.display()))?;
        if file == "pod/fast/pod-ready.yaml" {
            let first = "    matchExpressions:\n";
            ensure!(text.contains(first), "kwok's stage {} has no matchExpressions to add to", path.display());
            let is_broken = format!(
                "select((.metadata.annotations[\"{NEVER_READY_ON}\"] // \"\") as $broken | ($broken != \"\" and .metadata.annotations[\"istio.io/rev\"] == $broken)) | .metadata.name"
            );
            let keys = [format!(".metadata.annotations[\"{NEVER_READY}\"]"), is_broken];
            let exceptions: String =
                keys.iter().map(|key| format!("    - key: '{key}'\n      operator: 'DoesNotExist'\n")).collect();
            let exception = format!("{first}{exceptions}");
            stages.push(text.replacen(first, &exception, 1));
        } else {
            stages.push(text);
        }
    }
    Ok(stages.join("\n---\n"))
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
