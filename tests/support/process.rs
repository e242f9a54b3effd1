//! Child processes of a test cluster. Each has a log file, is waited for until it is ready, and ends with us: by
//! [`Process::stop`] in good times, by the kernel when this process dies before it can stop anything.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running child with a log.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` with stdout and stderr in the file `log`, in a process group of its own: an interrupt from the
    /// terminal is ours to handle, in the order that suits the cluster.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        ends_with_its_thread(&mut command);
        let child = spawn_from_keeper(command).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// Asks `ready` until it says yes. Fails at the deadline, or as soon as the process ends, with the end of its log.
    pub fn wait_until(&mut self, what: &str, deadline: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
                bail!("{} ended ({status}) before {what}; the end of its log:\n{}", self.name, end_of(&self.log));
            }
            if start.elapsed() > deadline {
                bail!(
                    "{} runs, but not {what} after {} s; the end of its log:\n{}",
                    self.name,
                    deadline.as_secs(),
                    end_of(&self.log)
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it is, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, waits for it, and kills it when it has not ended after a few seconds. Does nothing the second time.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        signal(&self.child, libc::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Asks the kernel to kill the child when the thread that starts it ends, however that comes.
pub fn ends_with_its_thread(command: &mut Command) {
    let parent = std::process::id();
    let tie = move || {
        #[expect(unsafe_code, reason = "prctl and getppid have no safe form in std")]
        // SAFETY: both are plain system calls that may be made between fork and exec.
        let (tied, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if tied != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the child asked.
        if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(io::Error::other("the parent is gone")) }
    };
    #[expect(unsafe_code, reason = "pre_exec is the only way to run code in the child")]
    // SAFETY: `tie` makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(tie);
    }
}

/// Takes back what [`ends_with_its_thread`] asked for; called by the child itself, once it stands on its own feet.
pub fn outlive_parent() {
    #[expect(unsafe_code, reason = "prctl has no safe form in std")]
    // SAFETY: a plain system call.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
    }
}

/// The last lines of a log.
pub fn end_of(log: &Path) -> String {
    const LINES: usize = 25;
    let text = match fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("(reading {}: {error})", log.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn signal(child: &Child, signal: libc::c_int) {
    let Ok(id) = libc::pid_t::try_from(child.id()) else {
        return;
    };
    #[expect(unsafe_code, reason = "std can send SIGKILL only")]
    // SAFETY: the child has not been waited for, so its id is still its own.
    unsafe {
        libc::kill(id, signal);
    }
}

/// Starts the child from a thread that lives as long as this process. The kernel ties a child to the *thread* that started
/// it, and the thread of a single test ends long before a cluster that many tests share.
fn spawn_from_keeper(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    keeper.send((command, reply)).context("the keeper of child processes is gone")?;
    Ok(child.recv().context("the keeper of child processes is gone")??)
}
