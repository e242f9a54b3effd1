//! Programs that a command runs: each in a process group of its own, which ends with the command and with the program.

use std::io;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

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
pub async fn run(command: Command, interruption: &Interruption) -> io::Result<Output> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = follow(command, interruption, |source, bytes| match source {
        Source::Out => stdout.extend_from_slice(bytes),
        Source::Err => stderr.extend_from_slice(bytes),
    });
    let status = status.await?;
    Ok(Output { status, stdout, stderr })
}

/// As [`run`], but what it writes to those of its streams that are piped is shown while it runs, a line at a time.
///
/// # Errors
/// As [`run`].
pub async fn run_shown(command: Command, interruption: &Interruption, mut show: impl FnMut(&str)) -> io::Result<ExitStatus> {
    let (mut out, mut err) = (Lines::default(), Lines::default());
    let status = follow(command, interruption, |source, bytes| match source {
        Source::Out => out.add(bytes, &mut show),
        Source::Err => err.add(bytes, &mut show),
    });
    let status = status.await;
    out.end(&mut show);
    err.end(&mut show);
    status
}

/// Where output comes from.
#[derive(Clone, Copy)]
enum Source {
    Out,
    Err,
}

/// Runs a program to its end, and hands on what it writes as it comes.
async fn follow(
    mut command: Command,
    interruption: &Interruption,
    mut take: impl FnMut(Source, &[u8]),
) -> io::Result<ExitStatus> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut running = Running::start(command, interruption)?;
    let mut pipes = Pipes { out: running.child.stdout.take(), err: running.child.stderr.take() };
    let status = loop {
        tokio::select! {
            status = running.child.wait() => break status?,
            () = pipes.next(&mut take), if pipes.are_open() => {}
        }
    };
    let rest = async {
        while pipes.are_open() {
            pipes.next(&mut take).await;
        }
    };
    // What comes later is of those that it has left behind.
    let _ = tokio::time::timeout(DRAIN, rest).await;
    Ok(status)
}

/// The streams of a program, as long as they are open.
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Pipes {
    const fn are_open(&self) -> bool {
        self.out.is_some() || self.err.is_some()
    }

    /// Hands on what comes next. Nothing of it is lost when this is given up.
    async fn next(&mut self, take: &mut impl FnMut(Source, &[u8])) {
        let (mut from_out, mut from_err) = ([0; 4096], [0; 4096]);
        tokio::select! {
            length = read(&mut self.out, &mut from_out) => take(Source::Out, &from_out[..length]),
            length = read(&mut self.err, &mut from_err) => take(Source::Err, &from_err[..length]),
        }
    }
}

/// Reads what is there; a stream that ends or breaks off has said what it had to say. Of one that is closed nothing comes.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, into: &mut [u8]) -> usize {
    let Some(open) = stream else { return std::future::pending().await };
    let length = open.read(into).await.unwrap_or(0);
    if length == 0 {
        *stream = None;
    }
    length
}

/// Takes what a program writes apart into lines.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// A line without end is shown in pieces of this many bytes.
    const LONGEST: usize = 16 * 1024;

    fn add(&mut self, bytes: &[u8], show: &mut impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") || self.begun.len() >= Self::LONGEST {
                self.end(show);
            }
        }
    }

    fn end(&mut self, show: &mut impl FnMut(&str)) {
        if !self.begun.is_empty() {
            let line = String::from_utf8_lossy(&self.begun);
            let line = line.strip_suffix('\n').unwrap_or(&line);
            show(line.strip_suffix('\r').unwrap_or(line));
            self.begun.clear();
        }
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
    fn lines_are_shown_while_it_runs_and_nobody_who_is_left_behind_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let seen = directory.path().join("seen");
        // It goes on only when its first line was shown, and leaves somebody behind who holds its streams open.
        let script = format!(
            "echo one >&2; while [ ! -e {0} ]; do sleep 0.02; done; echo two; printf 'three\\r\\nfour' >&2; sleep 600 & exit 3",
            seen.display()
        );
        let mut lines = Vec::new();
        let begun = Instant::now();
        let status = block_on(run_shown(shell(&script), &Interruption::default(), |line| {
            if line == "one" {
                std::fs::write(&seen, "").unwrap();
            }
            lines.push(line.to_owned());
        }));
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for the one that is left behind");
        assert_eq!(lines[0], "one");
        lines.sort();
        assert_eq!(lines, ["four", "one", "three", "two"]);
    }

    #[test]
    fn a_line_without_end_is_shown_in_pieces() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        for _ in 0..5 {
            lines.add(&[b'x'; 8 * 1024], &mut |line: &str| shown.push(line.len()));
        }
        lines.end(&mut |line: &str| shown.push(line.len()));
        assert_eq!(shown, [16 * 1024, 16 * 1024, 8 * 1024]);
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
