//! What happens, as it happens: a line or a document an event.

use mesh::advice::Advice;
use mesh::change::Subject;
use mesh::terminal::Terminal;
use mesh::terminal::stop::Stop;
use mesh::terminal::writing::DryRun;
use serde_json::{Value, json};

use super::Output;

/// Writes events.
pub struct Events {
    output: Output,
    dry_run: DryRun,
}

impl Events {
    /// In this format.
    pub const fn new(output: Output, dry_run: DryRun) -> Events {
        Events { output, dry_run }
    }

    /// What is going to be done with an object.
    pub fn planned(&self, subject: &Subject, action: &str, differences: &[String], terminal: &mut Terminal) -> Result<(), Stop> {
        let text = format!("{action:<9} {subject}{}", self.dry_run.suffix());
        let document =
            json!({"object": identity(subject), "action": action, "differences": differences, "dryRun": self.dry_run.is_dry()});
        self.write("Planned", &text, document, terminal)?;
        if self.output == Output::Text {
            for line in differences {
                writeln!(terminal.out, "            {line}")?;
            }
        }
        Ok(())
    }

    /// An object of the manifests that is not written, and why.
    pub fn left_out(&self, object: &str, why: &Advice, terminal: &mut Terminal) -> Result<(), Stop> {
        let why = terminal.advisor.text(why);
        self.write("LeftOut", &format!("left out  {object}: {why}"), json!({"name": object, "message": why}), terminal)
    }

    /// The tag `default`, which the program makes besides its manifests.
    pub fn default_tag(&self, program: &str, effect: &str, terminal: &mut Terminal) -> Result<(), Stop> {
        let text = format!("create    tag default, by {program}: {effect}{}", self.dry_run.suffix());
        self.write("DefaultTag", &text, json!({"name": "default", "message": effect}), terminal)
    }

    /// A key in which the mesh configurations differ.
    pub fn mesh_configuration(&self, key: &str, text: &str, terminal: &mut Terminal) -> Result<(), Stop> {
        self.write("MeshConfiguration", &format!("mesh      {key} {text}"), json!({"key": key, "message": text}), terminal)
    }

    /// An object was written.
    pub fn done(&self, subject: &Subject, action: &str, terminal: &mut Terminal) -> Result<(), Stop> {
        self.write("Done", &format!("{action}d {subject}"), json!({"object": identity(subject), "action": action}), terminal)
    }

    /// What is waited for now.
    pub fn waiting(&self, what: &str, terminal: &mut Terminal) -> Result<(), Stop> {
        self.write("Waiting", &format!("waiting for {what}"), json!({"message": what}), terminal)
    }

    /// A dry-run pod got its proxy from the new revision.
    pub fn proved(&self, revision: &str, namespace: &str, terminal: &mut Terminal) -> Result<(), Stop> {
        let text = format!("proved: a dry-run pod in namespace {namespace} got its proxy from revision {revision}");
        self.write("Proved", &text, json!({"revision": revision, "namespace": namespace}), terminal)
    }

    fn write(&self, kind: &str, text: &str, mut document: Value, terminal: &mut Terminal) -> Result<(), Stop> {
        match self.output {
            Output::Text => writeln!(terminal.out, "{text}")?,
            Output::Json => {
                document["apiVersion"] = "kubectl-mesh/v1".into();
                document["kind"] = "StartEvent".into();
                document["type"] = kind.into();
                writeln!(terminal.out, "{document}")?;
            }
        }
        terminal.flush()?;
        Ok(())
    }
}

fn identity(subject: &Subject) -> Value {
    let mut identity = json!({"apiVersion": subject.api_version, "kind": subject.kind, "name": subject.name});
    if let Some(namespace) = &subject.namespace {
        identity["namespace"] = namespace.as_str().into();
    }
    identity
}
