//! Istio in a test cluster: revisions are installed by Istio's own tools, and their istiods are real processes that listen
//! on the ClusterIPs of their Services.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::address::check_https_port;
use crate::cluster::{Cluster, DEADLINE};
use crate::process::Process;
use crate::program::{IstioVersion, Program};

/// A revision to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The value of `istio.io/rev`; `default` for the install without a revision.
    pub name: String,
    /// The Istio release.
    pub version: IstioVersion,
    /// The namespace of its control plane.
    pub namespace: String,
    /// Istio's profile. The default, `minimal`, is the control plane and nothing else.
    pub profile: String,
    /// More `--set`s: `NAME=VALUE` as istioctl takes them, or the chart where Helm installs.
    pub set: Vec<String>,
    /// What installs it.
    pub installer: Installer,
}

/// What installs a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    /// `istioctl install`.
    Istioctl,
    /// `helm install` of Istio's own chart, as release `istiod-REVISION`.
    Helm,
    /// `kubectl apply` of what `istioctl manifest generate` renders.
    Manifests,
}

impl Revision {
    /// The revision `name`, by istioctl, in `istio-system`.
    pub fn new(name: &str, version: IstioVersion) -> Self {
        Self {
            name: name.to_owned(),
            version,
            namespace: "istio-system".to_owned(),
            profile: "minimal".to_owned(),
            set: Vec::new(),
            installer: Installer::Istioctl,
        }
    }

    /// The revision named as its version: `1-28-2`.
    pub fn of(version: IstioVersion) -> Self {
        Self::new(&version.revision(), version)
    }

    /// The install without a revision, which also makes the `default` tag.
    pub fn unrevisioned(version: IstioVersion) -> Self {
        Self::new(UNREVISIONED, version)
    }

    /// One more `--set`.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.set.push(setting.to_owned());
        self
    }

    /// Another profile.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        profile.clone_into(&mut self.profile);
        self
    }

    /// Another namespace for the control plane, as AKS has.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// The Helm way.
    #[must_use]
    pub fn by_helm(mut self) -> Self {
        self.installer = Installer::Helm;
        self
    }

    /// By its manifests, so that no installer makes a tag.
    #[must_use]
    pub fn by_manifests(mut self) -> Self {
        self.installer = Installer::Manifests;
        self
    }

    /// The name of its Deployment and its Service.
    pub fn istiod(&self) -> String {
        if self.is_unrevisioned() { "istiod".to_owned() } else { format!("istiod-{}", self.name) }
    }

    /// Its objects as `istioctl manifest generate` renders them.
    pub fn manifests(&self, cluster: &Cluster) -> Result<String> {
        let arguments: Vec<String> =
            ["manifest", "generate"].map(str::to_owned).into_iter().chain(self.istioctl_settings()).collect();
        cluster.istioctl(self.version, arguments.iter().map(String::as_str))
    }

    fn istioctl_settings(&self) -> Vec<String> {
        let mut settings = vec![format!("values.global.istioNamespace={}", self.namespace), format!("profile={}", self.profile)];
        if !self.is_unrevisioned() {
            settings.push(format!("revision={}", self.name));
        }
        settings.extend(self.set.iter().cloned());
        let settings = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        ["--istioNamespace".to_owned(), self.namespace.clone()].into_iter().chain(settings).collect()
    }

    /// What follows `helm install`, `upgrade` or `template`: release, chart, namespace and settings.
    pub fn helm_arguments(&self) -> Result<Vec<String>> {
        let chart = self.version.source()?.join("manifests/charts/istio-control/istio-discovery");
        let name = if self.is_unrevisioned() { "" } else { self.name.as_str() };
        let settings = [
            format!("revision={name}"),
            "profile=".to_owned(),
            format!("global.tag={}", self.version.as_str()),
            "global.hub=docker.io/istio".to_owned(),
            format!("global.istioNamespace={}", self.namespace),
        ];
        let settings = settings.iter().chain(&self.set).flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        let fixed = [self.istiod(), chart.to_string_lossy().into_owned()];
        let namespace = ["-n".to_owned(), self.namespace.clone(), "--create-namespace".to_owned()];
        Ok(fixed.into_iter().chain(namespace).chain(settings).collect())
    }

    fn is_unrevisioned(&self) -> bool {
        self.name == UNREVISIONED
    }

    fn process_name(&self) -> String {
        process_name(&self.istiod(), &self.namespace)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Istio {})", self.name, self.version.as_str())
    }
}

impl Cluster {
    /// Installs `revision` and waits until its istiod serves and its webhooks trust it. Installed again with another
    /// version, the same revision is upgraded in place.
    pub fn install(&self, revision: &Revision) -> Result<()> {
        self.install_objects(revision)?;
        self.start_istiod(revision)
    }

    /// Installs the objects of `revision` and starts no istiod: its webhooks refuse every pod that they select.
    pub fn install_objects(&self, revision: &Revision) -> Result<()> {
        check_https_port(self.range())?;
        match revision.installer {
            Installer::Istioctl => self.istioctl_install(revision),
            Installer::Helm => self.helm_install(revision),
            Installer::Manifests => self.apply_manifests(revision),
        }
        .with_context(|| format!("installing revision {revision}"))
    }

    /// Starts the istiod of an installed revision, in place of one that runs.
    pub fn start_istiod(&self, revision: &Revision) -> Result<()> {
        self.end(&revision.process_name());
        // Once in some hundred starts the list of a kind that was defined just now never comes; a new process asks anew.
        let process = self.istiod_process(revision, DEADLINE / 2).or_else(|_| self.istiod_process(revision, DEADLINE));
        let process = process.with_context(|| format!("starting the istiod of revision {revision}"))?;
        self.keep(process);
        self.wait_for_certificates(revision)
    }

    /// Starts the istiod of a revision that somebody else is installing, as soon as its objects are there: nothing runs in pods.
    pub fn start_istiod_when_installed(&self, revision: &Revision) -> Result<()> {
        let (namespace, name) = (&revision.namespace, revision.istiod());
        for collection in ["/apis/apps/v1/namespaces/{}/deployments", "/api/v1/namespaces/{}/services"] {
            let path = format!("{}/{name}", collection.replace("{}", namespace));
            self.wait(&format!("{path} to be there"), DEADLINE, || self.api().find(&path))?;
        }
        self.start_istiod(revision)
    }

    /// Ends the istiod of a revision; its objects stay, as when its pods crash.
    pub fn stop_istiod(&self, revision: &Revision) {
        self.end(&revision.process_name());
    }

    /// Removes a revision: the objects first, then the process.
    pub fn uninstall(&self, revision: &Revision) -> Result<()> {
        match revision.installer {
            Installer::Istioctl | Installer::Manifests => {
                let selection = ["--revision", &revision.name, "--istioNamespace", &revision.namespace];
                self.istioctl(revision.version, ["uninstall", "-y"].into_iter().chain(selection))?;
            }
            Installer::Helm => {
                self.run(Program::Helm, ["uninstall", &revision.istiod(), "-n", &revision.namespace])?;
            }
        }
        self.stop_istiod(revision);
        Ok(())
    }

    /// Runs the istioctl of `version` as administrator and returns what it writes to stdout.
    pub fn istioctl<'a>(&self, version: IstioVersion, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.run(Program::Istioctl(version), arguments)
    }

    /// Makes or moves a tag, as `istioctl tag set TAG --revision REVISION --overwrite` does.
    pub fn set_tag(&self, tag: &str, revision: &Revision) -> Result<()> {
        let selection = ["--revision", &revision.name, "--istioNamespace", &revision.namespace, "--overwrite", "-y"];
        self.istioctl(revision.version, ["tag", "set", tag].into_iter().chain(selection)).map(|_| ())
    }

    fn istioctl_install(&self, revision: &Revision) -> Result<()> {
        // Its own patience is five minutes, and here a Deployment rolls out in a second or never.
        let arguments = ["install", "-y", "--readiness-timeout", "60s"].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain(revision.istioctl_settings()).collect();
        self.istioctl(revision.version, arguments.iter().map(String::as_str)).map(|_| ())
    }

    fn apply_manifests(&self, revision: &Revision) -> Result<()> {
        let namespace = format!("/api/v1/namespaces/{}", revision.namespace);
        if self.api().find(&namespace)?.is_none() {
            self.kubectl(["create", "namespace", &revision.namespace])?;
        }
        let file = self.folder().join(format!("{}.yaml", revision.istiod()));
        fs::write(&file, revision.manifests(self)?)?;
        self.kubectl(["apply", "--server-side", "-f"].map(OsStr::new).into_iter().chain([file.as_os_str()])).map(|_| ())
    }

    fn helm_install(&self, revision: &Revision) -> Result<()> {
        if self.api().find("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.networking.istio.io")?.is_none() {
            let base = revision.version.source()?.join("manifests/charts/base").to_string_lossy().into_owned();
            let namespace = ["-n", &revision.namespace, "--create-namespace"];
            // The base chart holds the CRDs and the default validator, once for all revisions.
            let words = ["install", "istio-base", &base, "--set", "defaultRevision=", "--set", "profile="];
            self.run(Program::Helm, words.into_iter().chain(namespace))?;
        }
        let settings = revision.helm_arguments()?;
        let words = ["upgrade", "--install"].into_iter().chain(settings.iter().map(String::as_str));
        self.run(Program::Helm, words).map(|_| ())
    }

    fn istiod_process(&self, revision: &Revision, deadline: Duration) -> Result<Process> {
        let (name, namespace) = (revision.istiod(), revision.namespace.as_str());
        let service = self.api().get(&format!("/api/v1/namespaces/{namespace}/services/{name}"))?;
        let ip = service["spec"]["clusterIP"].as_str().with_context(|| format!("Service {namespace}/{name} has no ClusterIP"))?;
        let deployment = self.api().get(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"))?;
        let folder = self.folder().join(format!("{name}.{namespace}"));
        // Empty, or it would take the certificates of the istiod before it.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut command = Command::new(Program::Istiod(revision.version).path()?);
        command
            .arg("discovery")
            .arg("--kubeconfig")
            .arg(self.kubeconfig_file())
            .args(["--httpAddr", &format!("{ip}:8080"), "--httpsAddr", &format!("{ip}:443")])
            .args(["--grpcAddr", &format!("{ip}:15010"), "--secureGRPCAddr", &format!("{ip}:15012")])
            .args(["--monitoringAddr", &format!("{ip}:15014"), "--ctrlz_port", "0"])
            .args(["--registries", "Kubernetes", "-n", namespace])
            .current_dir(&folder)
            .env_clear()
            .env("HOME", &folder)
            .envs(plain_environment(&deployment))
            .env("REVISION", &revision.name)
            .env("POD_NAME", format!("{name}-0"))
            .env("POD_NAMESPACE", namespace)
            .env("CLUSTER_ID", "Kubernetes")
            .env("PILOT_CERT_PROVIDER", "istiod");
        let mut process = Process::start(&revision.process_name(), command, &folder.with_extension("log"))?;
        let ready = || ureq::get(format!("http://{ip}:8080/ready")).config().proxy(None).build().call().is_ok();
        process.wait_until("it is ready", deadline, ready)?;
        Ok(process)
    }

    /// Waits until every validator of an istiod that runs is closed: it leaves its validators open (`failurePolicy: Ignore`)
    /// until it has seen them refuse a bad object, a moment or some seconds after it is ready.
    pub fn wait_for_validators(&self) -> Result<()> {
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?labelSelector=istio.io/rev";
        let running: Vec<String> = self.processes().into_iter().map(|(_, name)| name).collect();
        self.wait("the validators to be closed", DEADLINE, || {
            let list = self.api().get(path)?;
            let configurations = list["items"].as_array().context("the list of validators has no items")?;
            let mut served = configurations.iter().flat_map(webhooks).filter(|entry| running.contains(&server(entry)));
            Ok(served.all(|entry| has_bundle(entry) && entry["failurePolicy"] == "Fail").then_some(()))
        })
    }

    /// istiod writes its own certificate into the webhooks a moment after it is ready; until then they answer nobody.
    fn wait_for_certificates(&self, revision: &Revision) -> Result<()> {
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        let wait = format!("the webhooks of revision {revision} to trust its istiod");
        self.wait(&wait, DEADLINE, || {
            let list = self.api().get(path)?;
            let configurations = list["items"].as_array().context("the list of webhooks has no items")?;
            let own: Vec<&Value> = configurations.iter().filter(|item| serves(item, revision)).flat_map(webhooks).collect();
            ensure!(!own.is_empty(), "revision {revision} has no webhook");
            Ok(own.iter().all(|entry| has_bundle(entry)).then_some(()))
        })
    }
}

/// What Istio calls the install without a revision.
const UNREVISIONED: &str = "default";

fn serves(configuration: &Value, revision: &Revision) -> bool {
    webhooks(configuration).any(|entry| server(entry) == revision.process_name())
}

fn webhooks(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration["webhooks"].as_array().into_iter().flatten()
}

fn process_name(istiod: &str, namespace: &str) -> String {
    format!("{istiod} of {namespace}")
}

/// The process that an entry of a webhook leads to.
fn server(entry: &Value) -> String {
    let service = &entry["clientConfig"]["service"];
    process_name(service["name"].as_str().unwrap_or_default(), service["namespace"].as_str().unwrap_or_default())
}

fn has_bundle(entry: &Value) -> bool {
    entry["clientConfig"]["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty())
}

/// The environment that the install gave its istiod, but for what only a pod has: so the process behaves as installed.
fn plain_environment(deployment: &Value) -> Vec<(String, String)> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let discovery = containers.and_then(|all| all.iter().find(|container| container["name"] == "discovery"));
    let variables = discovery.and_then(|container| container["env"].as_array()).into_iter().flatten();
    let plain = |variable: &Value| Some((variable["name"].as_str()?.to_owned(), variable["value"].as_str()?.to_owned()));
    variables.filter_map(plain).collect()
}
