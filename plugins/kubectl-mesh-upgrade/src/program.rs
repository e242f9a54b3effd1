//! Istio's and Helm's own programs, run on the same cluster as we.

pub mod arguments;
pub mod needs;
pub mod release;

use std::process::{Output, Stdio};

use clap::ValueEnum;
use mesh::child;
use mesh::cluster::connection::Connection;
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::quoting::shell;
use mesh::terminal::stop::Stop;

/// A program that installs control planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// Istio's own
    Istioctl,
    /// Helm
    Helm,
}

impl Program {
    /// Its file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Program::Istioctl => "istioctl",
            Program::Helm => "helm",
        }
    }

    /// Whether it can be run at all, on this connection; asked before anything is changed.
    ///
    /// # Errors
    /// When it is not there, or cannot be given the connection.
    pub async fn check(self, connection: &Connection) -> Result<(), Stop> {
        let arguments: &[&str] = match self {
            Program::Istioctl => &["version", "--remote=false"],
            Program::Helm => &["version", "--short"],
        };
        let name = self.name();
        match child::run(self.command(connection, arguments)?, &connection.interruption).await {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(Stop::Message(format!("{name} version ended with {}", output.status))),
            Err(error) => Err(Stop::Message(format!(
                "{name} is needed here and cannot be run: {error}\n  put it on PATH, then the same command; nothing was changed"
            ))),
        }
    }

    /// Runs it and gives what it writes to stdout.
    ///
    /// # Errors
    /// When it fails: with what it says.
    pub async fn read(self, connection: &Connection, arguments: &[String]) -> Result<String, Stop> {
        let output = self.output(connection, arguments).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Stop::Message(format!("{} ended with {}; nothing was changed\n  {why}", self.line(arguments), output.status)))
    }

    /// Runs it to change something. What it prints goes to stderr.
    ///
    /// # Errors
    /// When it fails; the same command continues.
    pub async fn run(self, session: &mut Session, connection: &Connection, arguments: &[String]) -> Result<(), Stop> {
        let line = self.line(arguments);
        writeln!(session.terminal.err, "{line}")?;
        let writing = connection.interruption.writes().begin_program(&format!("running {line}")).await;
        let Some(writing) = writing else {
            return Err(Stop::Message(format!("this command only reads; {line} was not run")));
        };
        let command = match self.command(connection, arguments) {
            Ok(command) => command,
            Err(refusal) => {
                writing.undone();
                return Err(refusal.into());
            }
        };
        let mut written = Ok(());
        let show = |line: &str| {
            if written.is_ok() {
                written = writeln!(session.terminal.err, "  {line}");
            }
        };
        let status = match child::run_shown(command, &connection.interruption, show).await {
            Ok(status) => status,
            Err(error) => {
                // It could not be started.
                writing.undone();
                return Err(Stop::Message(format!("{line}: {error}")));
            }
        };
        // What one that failed has done is not known.
        if status.success() {
            writing.done();
        }
        written?;
        if status.success() {
            return Ok(());
        }
        let reason = format!("{line} ended with {status}");
        Err(Stop::Partly(Refusal::new(reason, "fix what it says; the same command continues")))
    }

    async fn output(self, connection: &Connection, arguments: &[String]) -> Result<Output, Stop> {
        let output = child::run(self.command(connection, arguments)?, &connection.interruption).await;
        output.map_err(|error| Stop::Message(format!("{}: {error}", self.line(arguments))))
    }

    /// It reaches the cluster of the connection, whatever its surroundings say. Nobody answers its questions.
    fn command(self, connection: &Connection, arguments: &[impl AsRef<str>]) -> Result<tokio::process::Command, Refusal> {
        let mut command = tokio::process::Command::new(self.name());
        command.args(arguments.iter().map(AsRef::as_ref)).stdout(Stdio::piped()).stderr(Stdio::piped());
        connection.private_kubeconfig()?.lead(&mut command)?;
        Ok(command)
    }

    /// As it would be typed.
    pub fn line(self, arguments: &[String]) -> String {
        let quoted = |word: &String| shell(word.as_bytes()).unwrap_or_else(|| "…".to_owned());
        std::iter::once(self.name().to_owned()).chain(arguments.iter().map(quoted)).collect::<Vec<_>>().join(" ")
    }
}
