//! Istio's and Helm's own programs, run on the same cluster as we.

use std::path::PathBuf;
use std::process::Stdio;

use clap::ValueEnum;
use mesh::refusal::Refusal;
use mesh::session::Session;
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

    /// Whether it can be run at all; asked before anything is changed.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn check(self) -> Result<(), Stop> {
        let arguments: &[&str] = match self {
            Program::Istioctl => &["version", "--remote=false"],
            Program::Helm => &["version", "--short"],
        };
        let name = self.name();
        match tokio::process::Command::new(name).args(arguments).stdin(Stdio::null()).output().await {
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
    pub async fn read(self, session: &Session, arguments: &[String]) -> Result<String, Stop> {
        let mut command = tokio::process::Command::new(self.name());
        command.args(arguments).args(self.flags(session)).stdin(Stdio::null());
        let line = format!("{} {}", self.name(), arguments.join(" "));
        let output = command.output().await.map_err(|error| Stop::Message(format!("{line}: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Stop::Message(format!("{line} ended with {}; nothing was changed\n  {why}", output.status)))
    }

    /// Runs it to change something. What it prints goes to stderr.
    ///
    /// # Errors
    /// When it fails; the same command continues.
    pub async fn run(self, session: &mut Session, arguments: &[String]) -> Result<(), Stop> {
        let line = format!("{} {}", self.name(), arguments.join(" "));
        writeln!(session.terminal.err, "{line}")?;
        let mut command = tokio::process::Command::new(self.name());
        command.args(arguments).args(self.flags(session)).stdin(Stdio::null());
        let output = command.output().await.map_err(|error| Stop::Message(format!("{line}: {error}")))?;
        for line in String::from_utf8_lossy(&output.stdout).lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
            writeln!(session.terminal.err, "  {line}")?;
        }
        if output.status.success() {
            return Ok(());
        }
        let reason = format!("{line} ended with {}", output.status);
        Err(Stop::Partly(Refusal::new(reason, "mend what it says; the same command continues")))
    }

    /// Our connection flags in its words.
    fn flags(self, session: &Session) -> Vec<String> {
        let connection = &session.flags.connection;
        let path = |flag: &str, path: &Option<PathBuf>| path.as_ref().map(|path| format!("{flag}={}", path.display()));
        let text = |flag: &str, text: &Option<String>| text.as_ref().map(|text| format!("{flag}={text}"));
        let context = connection.context.first().cloned();
        if self == Program::Istioctl {
            let flags = [path("--kubeconfig", &connection.kubeconfig), text("--context", &context)];
            return flags.into_iter().flatten().collect();
        }
        let flags = [
            path("--kubeconfig", &connection.kubeconfig),
            text("--kube-context", &context),
            text("--kube-apiserver", &connection.server),
            text("--kube-token", &connection.token),
            text("--kube-tls-server-name", &connection.tls_server_name),
            text("--kube-as-user", &connection.impersonate),
            path("--kube-ca-file", &connection.certificate_authority),
        ];
        let mut flags: Vec<String> = flags.into_iter().flatten().collect();
        flags.extend(connection.impersonate_groups.iter().map(|group| format!("--kube-as-group={group}")));
        if connection.insecure_skip_tls_verify == Some(true) {
            flags.push("--kube-insecure-skip-tls-verify".to_owned());
        }
        flags
    }

    /// What renders the manifests that these arguments would install.
    ///
    /// # Errors
    /// When they install nothing.
    pub fn rendering(self, arguments: &[String]) -> Result<Vec<String>, String> {
        let (verbs, rendering, flags, valued): (&[&str], &[&str], &[&str], &[&str]) = match self {
            Program::Istioctl => {
                (&["install"], &["manifest", "generate"], &["-y", "--skip-confirmation", "--verify"], &["--readiness-timeout"])
            }
            Program::Helm => (
                &["install", "upgrade"],
                &["template"],
                &["-i", "--install", "--wait", "--atomic", "--wait-for-jobs", "--create-namespace", "--force"],
                &["--timeout"],
            ),
        };
        let name = self.name();
        match arguments.first() {
            Some(verb) if verbs.contains(&verb.as_str()) => {}
            _ => return Err(format!("behind --, the arguments of {name} {} are expected", verbs.join(" or "))),
        }
        let mut rendered: Vec<String> = rendering.iter().map(|word| (*word).to_owned()).collect();
        let mut rest = arguments[1..].iter();
        while let Some(argument) = rest.next() {
            let flag = argument.split('=').next().unwrap_or_default();
            if valued.contains(&flag) {
                if !argument.contains('=') {
                    rest.next();
                }
            } else if !flags.contains(&flag) {
                rendered.push(argument.clone());
            }
        }
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendering(program: Program, line: &str) -> Result<String, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        program.rendering(&words).map(|words| words.join(" "))
    }

    #[test]
    fn what_would_be_installed_is_rendered() {
        let istioctl =
            rendering(Program::Istioctl, "install -y --set revision=1-28-2 --readiness-timeout 60s --set profile=minimal");
        assert_eq!(istioctl.as_deref(), Ok("manifest generate --set revision=1-28-2 --set profile=minimal"));
        let helm = rendering(Program::Helm, "upgrade --install istiod-1-28-2 ./istiod -n istio-system --timeout=5m --wait");
        assert_eq!(helm.as_deref(), Ok("template istiod-1-28-2 ./istiod -n istio-system"));
        assert!(rendering(Program::Istioctl, "uninstall --purge").is_err());
        assert!(rendering(Program::Helm, "").is_err());
    }
}
