//! What is between two waves: a pause, and a command that may end the restarts.

use std::process::Stdio;

use mesh::child;
use mesh::refusal::Refusal;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;

use super::engine::Engine;
use crate::waves::Wave;

impl Engine<'_> {
    /// The pause and the gate before the next wave.
    pub(super) async fn between(&self, before: &Wave, terminal: &mut Terminal) -> Result<(), Stop> {
        tokio::time::sleep(self.limits.pause).await;
        let Some(command) = &self.limits.gate else { return Ok(()) };
        writeln!(terminal.err, "gate after wave {}: {command}", before.number)?;
        let mut gate = tokio::process::Command::new("sh");
        // What it says is told with ours, and never mixed into data.
        gate.arg("-c").arg(command).stdout(Stdio::null()).stderr(Stdio::piped());
        // It asks the cluster that is restarted, whatever its own kubeconfig says by now.
        let private = self.connection.private_kubeconfig();
        private.and_then(|private| private.lead(&mut gate)).map_err(Stop::Partly)?;
        gate.env("MESH_WAVE", before.number.to_string()).env("MESH_WAVE_NAME", &before.name);
        let mut written = Ok(());
        let show = |line: &str| {
            if written.is_ok() {
                written = writeln!(terminal.err, "{line}");
            }
        };
        let running = child::run_shown(gate, &self.connection.interruption, show);
        let ended = tokio::time::timeout(self.limits.gate_timeout, running).await;
        written?;
        let outcome = match ended {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => format!("the gate ended with {status}"),
            Ok(Err(error)) => format!("the gate could not be run: {error}"),
            Err(_) => format!("the gate did not end within {} s", self.limits.gate_timeout.as_secs()),
        };
        let reason = format!("{outcome} after wave {}; nothing more was restarted", before.number);
        Err(Stop::Partly(Refusal::new(reason, "the same command continues once the gate is content")))
    }
}
