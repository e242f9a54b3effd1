//! Argo Rollouts in a test cluster: its CRDs, and its controller as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cluster::{Cluster, DEADLINE};
use crate::process::Process;
use crate::program::{Program, module_dir, module_folder};

impl Cluster {
    /// Installs Argo Rollouts, once.
    pub fn install_argo_rollouts(&self) -> Result<()> {
        if self.processes().iter().any(|(_, name)| name == NAME) {
            return Ok(());
        }
        let definitions = module_dir("argo-rollouts", MODULE)?.join("manifests/crds");
        let files = fs::read_dir(&definitions).with_context(|| format!("reading {}", definitions.display()))?;
        let mut words = vec!["apply".to_owned(), "--server-side".to_owned()];
        for file in files {
            let path = file.with_context(|| format!("reading {}", definitions.display()))?.path();
            // kustomization.yaml is no object.
            if path.to_string_lossy().ends_with("-crd.yaml") {
                words.extend(["-f".to_owned(), path.to_string_lossy().into_owned()]);
            }
        }
        self.kubectl(words)?;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argo-rollouts"}}))?;
        // On 127.0.0.1, which all clusters share: ports that no other cluster gives out either.
        let [metrics, health] = [0, 1].map(|number| 10_000 + 2 * u16::from(self.range().second()) + number);
        let mut command = Command::new(Program::ArgoRollouts.path()?);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig_file())
            .arg("--leader-elect=false")
            .args(["--metricsport", &metrics.to_string(), "--healthzPort", &health.to_string()])
            .current_dir(self.folder())
            .env_clear()
            .env("HOME", self.folder());
        let mut process = Process::start(NAME, command, &self.folder().join(format!("{NAME}.log")))?;
        let healthy = || ureq::get(format!("http://127.0.0.1:{health}/healthz")).config().proxy(None).build().call().is_ok();
        process.wait_until("it is healthy", DEADLINE, healthy)?;
        self.keep(process);
        Ok(())
    }
}

/// Where the controller is to listen. Its source says `0.0.0.0` in a constant that no flag changes, and nothing of a test
/// cluster is to be heard outside of this machine.
pub(crate) const ON_LOOPBACK: &str = "\"127.0.0.1:%d\"";

/// A copy of the controller's source that listens on loopback only, in `folder`, for the time of its build; the answer is the
/// go.mod to build it by.
pub(crate) fn source_for_loopback(folder: &Path) -> Result<PathBuf> {
    let (module, copy) = (module_dir("argo-rollouts", MODULE)?, folder.join(SOURCE));
    let _ = fs::remove_dir_all(&copy);
    let copied = Command::new("cp").args(["-r", "--no-preserve=mode"]).args([&module, &copy]).status().context("running cp")?;
    ensure!(copied.success(), "copying {} to {}: {copied}", module.display(), copy.display());
    let file = copy.join("controller/controller.go");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let everywhere = "\"0.0.0.0:%d\"";
    ensure!(
        text.contains(everywhere),
        "{} does not say {everywhere} any more; see where the controller listens now",
        file.display()
    );
    fs::write(&file, text.replace(everywhere, ON_LOOPBACK)).with_context(|| format!("writing {}", file.display()))?;

    let (pins, modfile) = (module_folder("argo-rollouts"), folder.join("go.mod"));
    fs::copy(pins.join("go.sum"), folder.join("go.sum")).context("copying go.sum")?;
    let text = fs::read_to_string(pins.join("go.mod")).context("reading go.mod")?;
    fs::write(&modfile, format!("{text}\nreplace {MODULE} => {}\n", copy.display())).context("writing go.mod")?;
    Ok(modfile)
}

/// The folder with the changed copy.
pub(crate) const SOURCE: &str = "source";

const MODULE: &str = "github.com/argoproj/argo-rollouts";
const NAME: &str = "rollouts-controller";
