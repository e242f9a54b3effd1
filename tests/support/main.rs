//! `tests/cluster up` and `down`: a test cluster that stays, for trying things by hand. It is the same code as in the tests.
//!
//! `up` starts this program again as `serve`, in the background; that process owns the cluster as a test would, so ending it
//! ends everything. What is written down about it is enough for `down` to end exactly that and nothing else.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use support::process::{end_of, ends_with_its_thread, outlive_parent};
use support::{Cluster, IstioVersion, Options, Program, Revision, say};

const USAGE: &str = "\
Usage: tests/cluster up [--istio VERSION,…] [--pods N] [--argo-rollouts]
       tests/cluster status
       tests/cluster down
       tests/cluster build

up      starts Kubernetes with an istiod for each VERSION (default: 1.26.0,1.28.2) and prints how to use it.
        --pods N adds N injected pods in Deployments; --argo-rollouts adds Argo Rollouts.
status  prints how to use the cluster that is up.
down    ends it, and only it.
build   builds the programs that the tests run, where they are not built yet.
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up", options @ ..] => Wanted::parse(options).and_then(|wanted| up(&wanted, options)),
        ["serve", options @ ..] => Wanted::parse(options).and_then(|wanted| serve(&wanted)),
        ["build"] => build(),
        ["status"] => status(),
        ["down"] => down(),
        ["-h" | "--help"] => print(USAGE),
        _ => {
            let _ = write!(io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What `up` was asked for.
struct Wanted {
    istio: Vec<IstioVersion>,
    pods: usize,
    argo_rollouts: bool,
}

impl Wanted {
    fn parse(options: &[&str]) -> Result<Self> {
        let mut wanted = Self { istio: vec![IstioVersion::V1_26_0, IstioVersion::V1_28_2], pods: 0, argo_rollouts: false };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || options.next().with_context(|| format!("{option} wants a value; see tests/cluster --help"));
            match *option {
                "--istio" => {
                    let versions = value()?.split(',').filter(|version| !version.is_empty());
                    wanted.istio = versions.map(IstioVersion::parse).collect::<Result<_>>()?;
                }
                "--pods" => wanted.pods = value()?.parse().context("--pods wants a number")?,
                "--argo-rollouts" => wanted.argo_rollouts = true,
                other => bail!("there is no option {other}; see tests/cluster --help"),
            }
        }
        ensure!(wanted.pods == 0 || !wanted.istio.is_empty(), "--pods needs an Istio that injects them; give --istio a version");
        Ok(wanted)
    }

    /// Here rather than in the background, so that a first build is seen on the terminal.
    fn build_programs(&self) -> Result<()> {
        for program in Program::KUBERNETES {
            program.path()?;
        }
        for version in &self.istio {
            Program::Istioctl(*version).path()?;
            Program::Istiod(*version).path()?;
        }
        if self.argo_rollouts {
            Program::ArgoRollouts.path()?;
        }
        Ok(())
    }
}

fn build() -> Result<()> {
    Wanted { argo_rollouts: true, ..Wanted::parse(&[])? }.build_programs()?;
    for program in [Program::Helm, Program::Krew, Program::ValidateKrewManifest] {
        program.path()?;
    }
    Ok(())
}

fn up(wanted: &Wanted, options: &[&str]) -> Result<()> {
    if let Some(state) = State::of_running()? {
        say(format_args!("a cluster is up already; `tests/cluster down` ends it"));
        return print(&state.how_to_use());
    }
    wanted.build_programs()?;
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let log = folder.join("log");
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut command = Command::new(env::current_exe().context("finding this program")?);
    command.arg("serve").args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    // A session of its own: closing the terminal does not end it.
    let detach = || {
        #[expect(unsafe_code, reason = "setsid has no safe form in std")]
        // SAFETY: a plain system call that may be made between fork and exec.
        let session = unsafe { libc::setsid() };
        if session < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    #[expect(unsafe_code, reason = "pre_exec is the only way to run code in the child")]
    // SAFETY: `detach` makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(detach);
    }
    // Until it is up, an interrupt here is to end it too.
    ends_with_its_thread(&mut command);
    let mut server = command.spawn().context("starting the cluster in the background")?;
    loop {
        if let Some(status) = server.try_wait().context("waiting for the cluster")? {
            bail!("the cluster did not start ({status}); its log ends with\n{}", end_of(&log));
        }
        if let Some(state) = State::of_running()? {
            return print(&state.how_to_use());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The process in the background.
fn serve(wanted: &Wanted) -> Result<()> {
    // Before any thread is started, for all of them inherit it.
    let signals = block_signals();
    let cluster = Cluster::start(&Options::default())?;
    for version in &wanted.istio {
        cluster.install(&Revision::of(*version))?;
    }
    if wanted.argo_rollouts {
        cluster.install_argo_rollouts()?;
    }
    if wanted.pods > 0 {
        let revisions: Vec<String> = wanted.istio.iter().map(|version| version.revision()).collect();
        cluster.fill(wanted.pods, &revisions.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let bin = cluster.folder().join("bin");
    fs::create_dir(&bin).context("creating a folder for PATH")?;
    symlink(Program::Kubectl.path()?, bin.join("kubectl")).context("linking kubectl")?;
    for version in &wanted.istio {
        let istioctl = Program::Istioctl(*version).path()?;
        // The newest is the plain `istioctl`, the others can be called by their version.
        symlink(&istioctl, bin.join(format!("istioctl-{}", version.as_str()))).context("linking istioctl")?;
        if Some(version) == wanted.istio.iter().max() {
            symlink(&istioctl, bin.join("istioctl")).context("linking istioctl")?;
        }
    }
    outlive_parent();
    State::write(&cluster, &bin)?;
    wait_for(&signals);
    cluster.stop();
    Ok(())
}

fn status() -> Result<()> {
    let state = State::of_running()?.context("no cluster is up; start one with `tests/cluster up`")?;
    print(&state.how_to_use())
}

fn down() -> Result<()> {
    let Some(state) = State::of_running()? else {
        say(format_args!("no cluster is up"));
        return Ok(());
    };
    let server = state.server()?;
    server.signal(libc::SIGTERM);
    let start = Instant::now();
    while server.runs() {
        // Its children end with it, whichever way it goes.
        if start.elapsed() > Duration::from_secs(60) {
            server.signal(libc::SIGKILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let folder = folder()?;
    fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    say(format_args!("the cluster is down"));
    Ok(())
}

/// What is written down about the cluster that is up.
struct State(Value);

impl State {
    fn write(cluster: &Cluster, bin: &Path) -> Result<()> {
        let server = ProcessId::own()?;
        let processes = cluster.processes();
        let state = json!({
            "id": server.id,
            "started": server.started,
            "kubeconfig": cluster.kubeconfig_file(),
            "bin": bin,
            "logs": cluster.folder(),
            "processes": processes.iter().map(|(id, name)| json!({"id": id, "name": name})).collect::<Vec<_>>(),
        });
        let (path, unfinished) = (path()?, path()?.with_extension("unfinished"));
        fs::write(&unfinished, format!("{state:#}\n")).with_context(|| format!("writing {}", unfinished.display()))?;
        fs::rename(&unfinished, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// The state, if the process that it tells of still runs.
    fn of_running() -> Result<Option<Self>> {
        let Ok(text) = fs::read_to_string(path()?) else {
            return Ok(None);
        };
        let state = Self(
            serde_json::from_str(&text)
                .with_context(|| format!("reading {}; remove it", path().unwrap_or_default().display()))?,
        );
        Ok(state.server()?.runs().then_some(state))
    }

    fn server(&self) -> Result<ProcessId> {
        let number = |name: &str| self.0[name].as_u64().with_context(|| format!("the state has no {name}"));
        Ok(ProcessId { id: number("id")?, started: number("started")? })
    }

    fn how_to_use(&self) -> String {
        let text = |name: &str| self.0[name].as_str().unwrap_or_default();
        format!(
            "export KUBECONFIG={}\nexport PATH={}:$PATH\n# logs: {}; to end it: tests/cluster down\n",
            text("kubeconfig"),
            text("bin"),
            text("logs")
        )
    }
}

/// A process that cannot be mistaken for a later one with the same number.
struct ProcessId {
    id: u64,
    started: u64,
}

impl ProcessId {
    fn own() -> Result<Self> {
        let id = u64::from(std::process::id());
        Ok(Self { id, started: started(id).context("reading the start time of this process")? })
    }

    fn runs(&self) -> bool {
        started(self.id) == Some(self.started)
    }

    fn signal(&self, signal: libc::c_int) {
        let Ok(id) = libc::pid_t::try_from(self.id) else {
            return;
        };
        if self.runs() {
            #[expect(unsafe_code, reason = "std has no signals")]
            // SAFETY: a plain system call.
            unsafe {
                libc::kill(id, signal);
            }
        }
    }
}

/// The start time of a process that runs, in ticks since boot: field 22 of its `stat`, counted from behind its name, which
/// may hold spaces.
fn started(id: u64) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // A zombie runs no more.
    if fields.first() == Some(&"Z") { None } else { fields.get(19)?.parse().ok() }
}

#[expect(unsafe_code, reason = "std has no signals")]
fn block_signals() -> libc::sigset_t {
    // SAFETY: the set is made by sigemptyset before it is read, and lives on our stack.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    }
}

#[expect(unsafe_code, reason = "std has no signals")]
fn wait_for(signals: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both live on the stack for the whole call.
    unsafe {
        libc::sigwait(signals, &raw mut signal);
    }
}

/// What must not be lost while the cluster is up: `$XDG_STATE_HOME/kubectl-mesh`, else `~/.local/state/kubectl-mesh`.
fn folder() -> Result<PathBuf> {
    let base = match env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => env::home_dir().context("neither XDG_STATE_HOME nor HOME is set; set one")?.join(".local/state"),
    };
    Ok(base.join("kubectl-mesh"))
}

fn path() -> Result<PathBuf> {
    Ok(folder()?.join("state.json"))
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("writing to stdout")
}
