//! Programs that a command runs: each in a process group of its own, which ends with the command and with the program.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::interruption::Interruption;

/// How long a program that is to end may take before it is killed.
pub const GRACE: Duration = Duration::from_secs(3);

/// How long the system may take to end what was killed.
#[cfg(unix)]
const KILLED: Duration = Duration::from_millis(500);

/// How long output is read after the program has ended: what it has started may hold its streams open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// Runs a program to its end, and gives what it wrote to those of its streams that are piped. It reads nothing.
///
/// Everything that it starts is in its process group. When the future is dropped, which is how a command is interrupted and
/// how a time limit is kept, the group is asked to end (SIGTERM), and killed a little later; when the program ends by itself,
/// whatever it has left behind ends too.
///
/// # Errors
/// When it cannot be started.
pub async fn run(mut command: Command, interruption: &Interruption) -> io::Result<Output> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut running = Running::start(command, interruption)?;
    let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let reading = async { futures::join!(read(out, &mut stdout), read(err, &mut stderr)) };
        tokio::pin!(reading);
        let mut has_read = false;
        let status = loop {
            tokio::select! {
                status = running.child.wait() => break status?,
                _ = &mut reading, if !has_read => has_read = true,
            }
        };
        if !has_read {
            // What comes later is of those that it has left behind.
            let _ = tokio::time::timeout(DRAIN, &mut reading).await;
        }
        status
    };
    Ok(Output { status, stdout, stderr })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        // A stream that breaks off has said what it had to say.
        let _ = stream.read_to_end(into).await;
    }
}

/// A program and its group.
struct Running<'a> {
    child: Child,
    group: Option<Group>,
    interruption: &'a Interruption,
}

impl<'a> Running<'a> {
    fn start(mut command: Command, interruption: &'a Interruption) -> io::Result<Running<'a>> {
        let child = command.spawn()?;
        let group = child.id().map(Group);
        if let Some(group) = group {
            interruption.started(group);
        }
        Ok(Running { child, group, interruption })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // The program itself is waited for, so that it does not count as one that is left.
            group.end(GRACE, || drop(self.child.try_wait()));
            self.interruption.ended(group);
        }
    }
}

/// The process group that a program leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group(u32);

#[cfg(unix)]
impl Group {
    /// Asks all of it to end, and kills what is left after `grace`. `reap` is called between two looks.
    pub(crate) fn end(self, grace: Duration, mut reap: impl FnMut()) {
        use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
        const PAUSE: Duration = Duration::from_millis(10);
        let Some(group) = i32::try_from(self.0).ok().and_then(Pid::from_raw) else { return };
        let mut wait = |limit: Duration| {
            let begun = Instant::now();
            reap();
            while begun.elapsed() < limit && test_kill_process_group(group).is_ok() {
                std::thread::sleep(PAUSE);
                reap();
            }
        };
        // Nobody is left where these fail. One that is stopped hears nothing before it goes on.
        let _ = kill_process_group(group, Signal::TERM);
        let _ = kill_process_group(group, Signal::CONT);
        wait(grace);
        if kill_process_group(group, Signal::KILL).is_ok() {
            wait(KILLED);
        }
    }
}

#[cfg(not(unix))]
impl Group {
    /// There are no groups here: the program itself is killed with the value that runs it.
    pub(crate) fn end(self, _grace: Duration, _reap: impl FnMut()) {}
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Whether a process is gone, as soon as whoever inherits it has taken note of its end.
    fn is_gone(pid: &str) -> bool {
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let begun = Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        rustix::process::test_kill_process(pid).is_err()
    }

    #[test]
    fn a_program_gives_its_output_and_leaves_nobody_behind() {
        let interruption = Interruption::default();
        // The grandchild holds the stream open.
        let output = block_on(run(shell("sleep 600 & echo $!; echo oops >&2; exit 3"), &interruption)).unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(3), "oops\n"));
        assert!(is_gone(&String::from_utf8_lossy(&output.stdout)));
    }

    #[test]
    fn one_that_is_given_up_ends_with_its_children_however_stubborn() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!(
            "trap '' TERM; (trap '' TERM; echo $$ > {0}.own; while :; do sleep 0.05; done) & echo $! > {0}; wait",
            file.display()
        );
        block_on(async {
            let interruption = Interruption::default();
            let limit = Duration::from_millis(500);
            assert!(tokio::time::timeout(limit, run(shell(&script), &interruption)).await.is_err());
        });
        assert!(is_gone(&std::fs::read_to_string(&file).unwrap()));
    }
}
