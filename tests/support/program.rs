//! The programs that a test cluster consists of, and the client programs that tests compare with. Each is built from its
//! own Go module under `tests/programs`, once: the file lands in a cache folder outside `target/` that is named by a digest
//! of everything that goes into the build, so a second run builds nothing and a changed pin never meets an old file.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{argo, process, say};

/// A program of the test cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers that make pods from workloads.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The client that the plugins extend.
    Kubectl,
    /// The fake kubelet: its pods become ready, but run nothing.
    Kwok,
    /// Installs Istio the Helm way.
    Helm,
    /// Installs the plugins.
    Krew,
    /// The check that the krew index runs on every manifest.
    ValidateKrewManifest,
    /// Istio's own client, which installs it.
    Istioctl(IstioVersion),
    /// Istio's control plane, `pilot-discovery`.
    Istiod(IstioVersion),
    /// The controller of Argo Rollouts.
    ArgoRollouts,
}

/// An Istio release that the tests can build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IstioVersion {
    /// The old one of most tests.
    V1_26_0,
    /// The new one of most tests.
    V1_28_2,
    /// A third one: built only when a test asks for it.
    V1_29_1,
}

impl IstioVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_26_0, Self::V1_28_2, Self::V1_29_1];

    /// The version as Istio spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_26_0 => "1.26.0",
            Self::V1_28_2 => "1.28.2",
            Self::V1_29_1 => "1.29.1",
        }
    }

    /// The version that Istio spells so.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).with_context(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("Istio {text:?} has no folder under tests/programs; there are {known}")
        })
    }

    /// The name that revisions of this version get by custom: `1-28-2`.
    pub fn revision(self) -> String {
        self.as_str().replace('.', "-")
    }

    /// The folder of Istio's own source in the module cache, where its Helm charts are.
    pub fn source(self) -> Result<PathBuf> {
        module_dir(&self.folder(), "istio.io/istio")
    }

    fn folder(self) -> String {
        format!("istio-{}", self.as_str())
    }
}

impl Program {
    /// What a cluster without Istio needs.
    pub const KUBERNETES: [Self; 6] =
        [Self::Kubectl, Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kwok];

    /// The file to run: found, or built when it is not there yet. A first build of everything takes about 25 minutes on two
    /// cores, so what is built, and for how long already, is told on stderr.
    pub fn path(self) -> Result<PathBuf> {
        if let Some(found) = self.in_kubebuilder_assets() {
            return Ok(found);
        }
        let path = self.cache_folder()?.join(self.file_name());
        if !path.exists() {
            self.build(&path).with_context(|| format!("building {} from tests/programs/{}", self.file_name(), self.folder()))?;
        }
        Ok(path)
    }

    /// Whether [`Program::path`] would have nothing to build.
    pub fn is_built(self) -> Result<bool> {
        Ok(self.in_kubebuilder_assets().is_some() || self.cache_folder()?.join(self.file_name()).exists())
    }

    /// The name of the file, as one would type it.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kwok => "kwok",
            Self::Helm => "helm",
            Self::Krew => "krew",
            Self::ValidateKrewManifest => "validate-krew-manifest",
            Self::Istioctl(_) => "istioctl",
            Self::Istiod(_) => "pilot-discovery",
            Self::ArgoRollouts => "rollouts-controller",
        }
    }

    /// The folder under `tests/programs` whose go.mod pins it.
    fn folder(self) -> String {
        match self {
            Self::Etcd => "etcd".to_owned(),
            Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler | Self::Kubectl => "kubernetes".to_owned(),
            Self::Kwok => "kwok".to_owned(),
            Self::Helm => "helm".to_owned(),
            Self::Krew | Self::ValidateKrewManifest => "krew".to_owned(),
            Self::Istioctl(version) | Self::Istiod(version) => version.folder(),
            Self::ArgoRollouts => "argo-rollouts".to_owned(),
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::Krew => "sigs.k8s.io/krew/cmd/krew",
            Self::ValidateKrewManifest => "sigs.k8s.io/krew/cmd/validate-krew-manifest",
            Self::Istioctl(_) => "istio.io/istio/istioctl/cmd/istioctl",
            Self::Istiod(_) => "istio.io/istio/pilot/cmd/pilot-discovery",
            Self::ArgoRollouts => "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
        }
    }

    /// The linker's flags. The stamps matter: istioctl refuses a server without a version, istiod's version ends up in the
    /// image of the proxies that it injects, and a stamp touches linking only, so all the rest comes from Go's build cache.
    fn linker_flags(self) -> String {
        let stamps = match self {
            Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler | Self::Kubectl => vec![
                format!("k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION}"),
                "k8s.io/component-base/version.gitMajor=1".to_owned(),
                "k8s.io/component-base/version.gitMinor=35".to_owned(),
                "k8s.io/component-base/version.gitCommit=0000000000000000000000000000000000000000".to_owned(),
                "k8s.io/component-base/version.gitTreeState=clean".to_owned(),
            ],
            Self::Istioctl(version) | Self::Istiod(version) => vec![
                format!("istio.io/istio/pkg/version.buildVersion={}", version.as_str()),
                format!("istio.io/istio/pkg/version.buildTag={}", version.as_str()),
                "istio.io/istio/pkg/version.buildHub=docker.io/istio".to_owned(),
                "istio.io/istio/pkg/version.buildStatus=Clean".to_owned(),
            ],
            Self::Kwok => vec!["sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0".to_owned()],
            Self::Helm => vec!["helm.sh/helm/v3/internal/version.version=v3.22.0".to_owned()],
            Self::Krew | Self::ValidateKrewManifest => {
                vec!["sigs.k8s.io/krew/internal/version.gitTag=v0.4.4".to_owned()]
            }
            Self::Etcd | Self::ArgoRollouts => Vec::new(),
        };
        let stamps = stamps.iter().map(|stamp| format!(" -X {stamp}"));
        ["-s -w".to_owned()].into_iter().chain(stamps).collect()
    }

    /// `KUBEBUILDER_ASSETS` is where operator developers already have these three.
    fn in_kubebuilder_assets(self) -> Option<PathBuf> {
        if !matches!(self, Self::Etcd | Self::KubeApiserver | Self::Kubectl) {
            return None;
        }
        let path = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS")?).join(self.file_name());
        path.exists().then_some(path)
    }

    fn cache_folder(self) -> Result<PathBuf> {
        let module = module_folder(&self.folder());
        let mut digest = Digest::new();
        for file in ["go.mod", "go.sum"] {
            let path = module.join(file);
            digest.add(&fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        digest.add(self.linker_flags().as_bytes());
        digest.add(BUILD_FLAGS.join(" ").as_bytes());
        digest.add(go_environment()?.as_bytes());
        if self == Self::ArgoRollouts {
            digest.add(argo::ON_LOOPBACK.as_bytes());
        }
        Ok(cache_folder()?.join("programs").join(format!("{}-{:016x}", self.folder(), digest.0)))
    }

    fn build(self, path: &Path) -> Result<()> {
        let folder = path.parent().expect("a program is in its cache folder");
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let _lock = lock(&path.with_extension("lock"), self.file_name())?;
        if path.exists() {
            return Ok(());
        }
        // Under another name until it is whole, so that an interrupted build leaves nothing that looks finished. The lock is
        // ours, so nobody else writes under that name.
        let unfinished = path.with_extension("unfinished");
        let log = path.with_extension("log");
        say(format_args!("building {} (tests/programs/{}); it is kept in {}", self.file_name(), self.folder(), folder.display()));
        let mut command = Command::new("go");
        command
            .current_dir(module_folder(&self.folder()))
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS")
            .arg("build")
            .args(BUILD_FLAGS)
            .args(["-ldflags", &self.linker_flags(), "-o"])
            .arg(&unfinished);
        if self == Self::ArgoRollouts {
            command.arg("-modfile").arg(argo::source_for_loopback(folder)?);
        }
        command
            .arg(self.package())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).with_context(|| format!("creating {}", log.display()))?);
        process::ends_with_its_thread(&mut command);
        let built = wait_and_report(command, self.file_name());
        match built {
            Ok(true) => {
                fs::rename(&unfinished, path).with_context(|| format!("moving {} into place", path.display()))?;
                let _ = fs::remove_file(&log);
                let _ = fs::remove_dir_all(folder.join(argo::SOURCE));
                Ok(())
            }
            failed => {
                let _ = fs::remove_file(&unfinished);
                failed?;
                bail!("go build of {} ended with an error:\n{}", self.package(), process::end_of(&log))
            }
        }
    }
}

/// The Kubernetes release that the programs are built from.
pub const KUBERNETES_VERSION: &str = "1.35.4";

/// The folder of `module` in Go's module cache, as pinned by `tests/programs/FOLDER`; downloaded when it is not there.
/// Charts, CRDs and stages are read from there, so the repository holds no copy of them.
pub fn module_dir(folder: &str, module: &str) -> Result<PathBuf> {
    let list = || -> Result<String> { go(folder, &["list", "-m", "-f", "{{.Dir}}", module]) };
    let mut dir = list()?;
    if dir.is_empty() {
        go(folder, &["mod", "download", module])?;
        dir = list()?;
    }
    ensure!(
        !dir.is_empty(),
        "go does not know the folder of {module}; run `go mod download {module}` in tests/programs/{folder}"
    );
    Ok(PathBuf::from(dir))
}

/// The folder for what outlives a test run: `$XDG_CACHE_HOME/kubectl-mesh`, else `~/.cache/kubectl-mesh`.
pub fn cache_folder() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => {
            env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set; set one, for the built programs")?.join(".cache")
        }
    };
    Ok(base.join("kubectl-mesh"))
}

const BUILD_FLAGS: [&str; 3] = ["-trimpath", "-buildvcs=false", "-mod=readonly"];

/// FNV-1a. A name for the cache folder needs no cryptography, only the same answer from every build of the tests.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The folder with the go.mod that pins some programs.
pub(crate) fn module_folder(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(folder)
}

fn go_environment() -> Result<&'static str> {
    static ENVIRONMENT: OnceLock<Result<String, String>> = OnceLock::new();
    let environment = ENVIRONMENT
        .get_or_init(|| go("kubernetes", &["env", "GOVERSION", "GOOS", "GOARCH"]).map_err(|error| format!("{error:#}")));
    environment.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn go(folder: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new("go")
        .current_dir(module_folder(folder))
        .env("GOWORK", "off")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| anyhow::anyhow!("Go 1.26 or newer is needed to build the test cluster, and `go` cannot be run ({error}): install it from go.dev/dl or your package manager"))?;
    ensure!(
        output.status.success(),
        "`go {}` in tests/programs/{folder}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Taken for as long as the file is open, also from other processes; the system releases it when its holder dies.
fn lock(path: &Path, name: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        say(format_args!("waiting for another process that builds {name}"));
        file.lock().with_context(|| format!("waiting for {}", path.display()))?;
    }
    Ok(file)
}

/// A silent build of four minutes looks like one that hangs.
fn wait_and_report(mut command: Command, name: &str) -> Result<bool> {
    const REPORT_EVERY: Duration = Duration::from_secs(30);
    let start = Instant::now();
    let mut reports = 0;
    let mut child = command.spawn().context("starting go build")?;
    loop {
        if let Some(status) = child.try_wait().context("waiting for go build")? {
            return Ok(status.success());
        }
        let elapsed = start.elapsed();
        if elapsed >= REPORT_EVERY * (reports + 1) {
            reports += 1;
            say(format_args!("still building {name}, {} s", elapsed.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
