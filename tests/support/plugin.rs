//! The real plugins, run as users run them: by the real kubectl, which finds them on PATH, in an environment that holds
//! nothing of the developer's.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::intercept::Interceptor;
use crate::process;
use crate::program::{IstioVersion, Program};
use crate::transcript;

/// A home folder and a PATH with kubectl and plugins on it. Run something with [`Session::run`].
#[derive(Debug)]
pub struct Session {
    folder: TempDir,
    environment: BTreeMap<OsString, OsString>,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command, as one would type it.
    pub command: String,
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A command that still runs.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    limit: Duration,
}

/// A session with the plugin `name`, such as `mesh-proxyver`, on PATH.
pub fn plugin(name: &str) -> Result<Session> {
    plugins(&[name])
}

/// A session with several plugins on PATH, for pipelines.
pub fn plugins(names: &[&str]) -> Result<Session> {
    let session = Session::new()?;
    for name in names {
        // kubectl looks for this file name when it is asked for `kubectl mesh-proxyver`.
        let file = format!("kubectl-{}", name.replace('-', "_"));
        let link = session.bin().join(&file);
        symlink(built(name, &file)?, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(session)
}

impl Session {
    /// A session with kubectl on PATH, and no cluster: what asks for one fails at once.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("mesh-tests-").context("creating a home folder")?;
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).context("creating a folder for PATH")?;
        let mut session = Self { folder, environment: BTreeMap::new(), input: None, limit: Duration::from_secs(120) };
        session.link(Program::Kubectl)?;
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        let home = session.home().to_owned();
        Ok(session
            .env("PATH", path)
            .env("HOME", &home)
            .env("KUBECONFIG", home.join("no-kubeconfig"))
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("TERM", "xterm-256color")
            .env("NO_COLOR", "1"))
    }

    /// As administrator of `cluster`.
    #[must_use]
    pub fn on(self, cluster: &Cluster) -> Self {
        self.kubeconfig(&cluster.kubeconfig_file())
    }

    /// With another kubeconfig.
    #[must_use]
    pub fn kubeconfig(self, file: &Path) -> Self {
        self.env("KUBECONFIG", file)
    }

    /// Through an interceptor, which answers for the cluster.
    pub fn through(self, interceptor: &Interceptor) -> Result<Self> {
        let file = self.home().join("intercepted");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "intercepted",
            "clusters": [{"name": "intercepted", "cluster": {"server": interceptor.address()}}],
            "contexts": [{"name": "intercepted", "context": {"cluster": "intercepted", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {}}],
        });
        fs::write(&file, config.to_string()).context("writing a kubeconfig")?;
        Ok(self.kubeconfig(&file))
    }

    /// With istioctl on PATH too.
    pub fn with_istioctl(mut self, version: IstioVersion) -> Result<Self> {
        self.link(Program::Istioctl(version))?;
        Ok(self)
    }

    /// With helm on PATH too.
    pub fn with_helm(mut self) -> Result<Self> {
        self.link(Program::Helm)?;
        Ok(self)
    }

    /// With another environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Without an environment variable.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(OsStr::new(name));
        self
    }

    /// With this on stdin, for every command that follows.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// With another time limit than two minutes.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The home folder, which is also where commands run. Gone with the session.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `kubectl ARGUMENTS`, so `["mesh-proxyver", "-A"]` is the plugin as users type it.
    pub fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<Output> {
        self.start(arguments)?.finish()
    }

    /// Starts `kubectl ARGUMENTS`, for what does not end by itself.
    pub fn start<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Result<Running> {
        self.spawn("kubectl", arguments)
    }

    /// Runs any file on the session's PATH, such as the bare `kubectl-mesh_proxyver`.
    pub fn run_file<I: AsRef<OsStr>>(&self, file: &str, arguments: impl IntoIterator<Item = I>) -> Result<Output> {
        self.spawn(file, arguments)?.finish()
    }

    /// Starts any file on the session's PATH.
    pub fn start_file<I: AsRef<OsStr>>(&self, file: &str, arguments: impl IntoIterator<Item = I>) -> Result<Running> {
        self.spawn(file, arguments)
    }

    /// Runs a shell pipeline. It fails when any of its commands does.
    pub fn shell(&self, script: &str) -> Result<Output> {
        let mut output = self.spawn("bash", ["-o", "pipefail", "-c", script])?.finish()?;
        script.clone_into(&mut output.command);
        Ok(output)
    }

    /// Runs a command line on a terminal of 120 columns; stdout holds what the terminal shows of both streams. For colours,
    /// take `NO_COLOR` out of the environment.
    pub fn terminal(&self, line: &str) -> Result<Output> {
        let sized = format!("stty cols 120 rows 40; {line}");
        let mut output = self.spawn("script", ["--quiet", "--return", "--command", &sized, "/dev/null"])?.finish()?;
        output.stdout = output.stdout.replace("\r\n", "\n");
        line.clone_into(&mut output.command);
        Ok(output)
    }

    fn spawn<I: AsRef<OsStr>>(&self, file: &str, arguments: impl IntoIterator<Item = I>) -> Result<Running> {
        // The search follows our own PATH, not that of the session.
        let in_session = self.bin().join(file);
        let program = if in_session.exists() { in_session } else { PathBuf::from(file) };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.home()).env_clear().envs(&self.environment).process_group(0);
        command
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process::ends_with_its_thread(&mut command);
        let words = std::iter::once(OsStr::new(file)).chain(command.get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let mut child = command.spawn().with_context(|| format!("running {line}"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input.clone()) {
            // A command that reads nothing closes the pipe, which is its right.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = Stream::read(child.stdout.take().context("stdout is piped")?);
        let stderr = Stream::read(child.stderr.take().context("stderr is piped")?);
        Ok(Running { command: line, child, stdout, stderr, limit: self.limit })
    }

    fn link(&mut self, program: Program) -> Result<()> {
        let link = self.bin().join(program.file_name());
        symlink(program.path()?, &link).with_context(|| format!("linking {}", link.display()))
    }

    fn bin(&self) -> PathBuf {
        self.home().join("bin")
    }
}

impl Running {
    /// Waits until stdout holds `text`.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let start = Instant::now();
        while !self.stdout.text().contains(text) {
            let ended = self.child.try_wait().context("waiting for a command")?.is_some();
            if ended || start.elapsed() > self.limit {
                let state = if ended { "ended" } else { "still runs" };
                bail!("{} {state} and has not written {text:?} but\n{}{}", self.command, self.stdout.text(), self.stderr.text());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Interrupts it and all that it started, as Ctrl-C does.
    pub fn interrupt(&mut self) -> Result<()> {
        self.signal(libc::SIGINT)
    }

    /// Kills it and all that it started, as nothing can refuse.
    pub fn kill_now(mut self) {
        self.kill();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("waiting for a command")?.is_some())
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it ends. Past the time limit it is killed, and that is an error.
    pub fn finish(mut self) -> Result<Output> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for a command")? {
                let (stdout, stderr) = (self.stdout.end(), self.stderr.end());
                return Ok(Output { command: self.command.clone(), code: status.code(), stdout, stderr });
            }
            if start.elapsed() > self.limit {
                self.kill();
                bail!(
                    "{} has not ended after {} s:\n{}{}",
                    self.command,
                    self.limit.as_secs(),
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn kill(&mut self) {
        let _ = self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    /// Sends a signal to it and to all that it started and that is in its process group.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let group = libc::pid_t::try_from(self.child.id()).context("a process id that fits")?;
        #[expect(unsafe_code, reason = "std has no signals")]
        // SAFETY: the child leads its own group and has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(-group, signal) };
        ensure!(sent == 0, "{} has ended already", self.command);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

impl Output {
    /// The command, its exit code and what it wrote, with everything replaced that differs from run to run.
    pub fn transcript(&self) -> String {
        transcript::of(self)
    }

    /// Stdout as one JSON document.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} did not write JSON but\n{}{}", self.command, self.stdout, self.stderr))
    }
}

/// One of the streams of a command, read as it comes, so that no command waits on a full pipe.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn read(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.text()
    }
}

/// Builds the plugin, once in the life of this process, and says where the file is.
fn built(name: &str, file: &str) -> Result<PathBuf> {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let path = build(name, file).with_context(|| format!("building the plugin {name}"))?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

fn build(name: &str, file: &str) -> Result<PathBuf> {
    let package = format!("kubectl-{name}");
    // cargo knows where its target folder is, by whatever rule, so it is asked for the path.
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", &package, "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("running cargo build")?;
    ensure!(output.status.success(), "cargo build --package {package}: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    let found = paths.into_iter().find(|path| path.file_name() == Some(OsStr::new(file)));
    found.with_context(|| format!("package {package} has no binary {file}"))
}
