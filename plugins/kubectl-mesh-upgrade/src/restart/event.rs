//! What happens, as it happens: a line or a document an event.

use mesh::course::Stand;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::DryRun;
use mesh::workload::WorkloadId;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::Output;
use super::step::Notice;
use crate::waves::{Item, Wave};

/// What became of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its pods were replaced and run what is wanted; with what is worth knowing about that.
    Restarted(Option<String>),
    /// They ran it already, when its turn came.
    Current,
    /// It is not there any more, or paused now: why.
    Skipped(String),
    /// It did not come to run what is wanted: why.
    Failed(String),
}

impl Outcome {
    /// The word in every output.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Outcome::Restarted(_) => "restarted",
            Outcome::Current => "current",
            Outcome::Skipped(_) => "skipped",
            Outcome::Failed(_) => "failed",
        }
    }

    fn why(&self) -> &str {
        match self {
            Outcome::Skipped(why) | Outcome::Failed(why) => why,
            Outcome::Restarted(note) => note.as_deref().unwrap_or_default(),
            Outcome::Current => "",
        }
    }
}

/// Writes events.
pub struct Events {
    output: Output,
    dry_run: DryRun,
}

impl Events {
    /// In this format.
    pub const fn new(output: Output) -> Events {
        Events { output, dry_run: DryRun::None }
    }

    /// Of a run that only shows what would be done.
    #[must_use]
    pub const fn of_dry_run(self, dry_run: DryRun) -> Events {
        Events { dry_run, ..self }
    }

    /// A wave that is going to come.
    pub fn planned(&self, wave: &Wave, total: usize, terminal: &mut Terminal) -> Result<(), Stop> {
        let count = plural(wave.items.len() as u64, "workload", "workloads");
        let suffix = self.dry_run.suffix();
        let text = format!("wave {} of {total}: {} ({count}){suffix}", wave.number, wave.name);
        let workloads: Vec<Value> = wave.items.iter().map(described).collect();
        self.write(
            "WavePlanned",
            &text,
            json!({"wave": wave.number, "waves": total, "name": wave.name, "workloads": workloads}),
            terminal,
        )?;
        if self.output == Output::Text {
            for item in &wave.items {
                writeln!(terminal.out, "  {}{suffix}", item.line())?;
            }
            terminal.flush()?;
        }
        Ok(())
    }

    /// A wave begins; all its workloads were asked for by dry runs.
    pub fn proved(&self, wave: &Wave, terminal: &mut Terminal) -> Result<(), Stop> {
        let text = format!("wave {}: dry-run pods show that a restart brings what is wanted", wave.number);
        self.write("WaveProved", &text, json!({"wave": wave.number}), terminal)
    }

    /// Something is being done with a workload.
    pub fn noticed(&self, item: &Item, notice: &Notice, terminal: &mut Terminal) -> Result<(), Stop> {
        let name = format!("{} -n {}", item.workload.qualified_name(), item.workload.namespace);
        match notice {
            Notice::Restarting => {
                let text = format!("{name}: restarting: {}", item.passage_text());
                self.write("Restarting", &text, json!({"workload": described(item)}), terminal)
            }
            Notice::Replacing(what) => {
                let document = json!({"workload": described(item), "message": what});
                self.write("Replacing", &format!("{name}: {what}"), document, terminal)
            }
        }
    }

    /// A workload is done with.
    pub fn ended(&self, item: &Item, outcome: &Outcome, terminal: &mut Terminal) -> Result<(), Stop> {
        let workload = &item.workload;
        let style = if matches!(outcome, Outcome::Failed(_)) { terminal.out_styles.error } else { terminal.out_styles.current };
        let why = if outcome.why().is_empty() { String::new() } else { format!(": {}", outcome.why()) };
        let what = format!("{}, {}{why}", outcome.as_str().style(style), item.passage_text());
        let text = format!("{} -n {}: {what}", workload.qualified_name(), workload.namespace);
        let mut document = json!({"workload": described(item), "outcome": outcome.as_str()});
        if !outcome.why().is_empty() {
            document["message"] = outcome.why().into();
        }
        self.write("Ended", &text, document, terminal)
    }

    fn write(&self, kind: &str, text: &str, mut document: Value, terminal: &mut Terminal) -> Result<(), Stop> {
        match self.output {
            Output::Text => writeln!(terminal.out, "{text}")?,
            Output::Json => {
                document["apiVersion"] = "kubectl-mesh/v1".into();
                document["kind"] = "RestartEvent".into();
                document["type"] = kind.into();
                writeln!(terminal.out, "{document}")?;
            }
        }
        terminal.flush()?;
        Ok(())
    }
}

/// A workload, with the versions that it comes from and goes to.
fn described(item: &Item) -> Value {
    let stand = |stand: &Option<Stand>| match stand {
        Some(Stand { revision, version }) => {
            json!({"revision": revision, "version": version.as_ref().map(ToString::to_string)})
        }
        None => Value::Null,
    };
    let mut workload = identity(&item.workload);
    workload["from"] = item.passage.from.iter().map(stand).collect();
    workload["to"] = stand(&item.passage.to);
    workload["change"] = item.passage.course.as_str().into();
    workload
}

fn identity(workload: &WorkloadId) -> Value {
    json!({"apiVersion": &*workload.api_version, "kind": &*workload.kind, "namespace": &*workload.namespace, "name": &*workload.name})
}
