//! One run of a command, as the operating system accounts for it.
//!
//! A process begins with the peak of the one that started it. So each run is started by a small process of its own: this
//! program again, as `bench measure COMMAND …`, which writes the figures down.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of user and system time, of it and all that it waited for.
    pub cpu: f64,
    /// The largest resident size of one of its processes, in MB.
    pub memory: f64,
}

/// Runs a command to its end; what it writes is thrown away.
pub fn measure(command: &Command) -> Result<Figures> {
    let mut starter = Command::new(env::current_exe().context("finding this program")?);
    starter.arg("measure").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        starter.env(name, value.unwrap_or_default());
    }
    let output = starter.stderr(Stdio::inherit()).output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?} could not be measured");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("three numbers")?;
    let [wall, cpu, memory] = numbers[..] else { anyhow::bail!("three numbers are expected, not {text:?}") };
    Ok(Figures { wall, cpu, memory })
}

/// `bench measure COMMAND …`: starts the command, waits, and writes the figures to stdout.
pub fn start_and_tell(mut words: impl Iterator<Item = OsString>) -> Result<()> {
    let mut command = Command::new(words.next().context("bench measure wants a command")?);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let pid = libc::pid_t::try_from(child.id()).context("a process id that fits")?;
    let mut status = 0;
    #[expect(unsafe_code, reason = "std waits, but does not tell what was used")]
    // SAFETY: both pointers are to values that live until the call returns, and `rusage` is plain numbers.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    let wall = start.elapsed().as_secs_f64();
    ensure!(waited == pid, "waiting for {command:?} failed");
    ensure!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{command:?} failed with status {status}");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    writeln!(io::stdout(), "{wall} {cpu} {}", usage.ru_maxrss as f64 * 1024.0 / 1e6).context("writing the figures")
}

/// The middle one of a figure.
pub fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
