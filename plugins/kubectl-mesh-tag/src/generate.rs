//! `mesh-tag generate`: a tag's objects for Git, from a cluster or from files.

use mesh::change::without_server_fields;
use mesh::cluster::read::installation_needs;
use mesh::cluster::{Scope, read_installation, read_installation_files};
use mesh::needs::Needs;
use mesh::session::{Session, VERSION};
use mesh::tag::{SetRequest, generated};
use mesh::terminal::document::write_objects;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use serde_json::Value;

use crate::args::GenerateArgs;

/// What it may ask for.
pub fn needs(args: &GenerateArgs, typed: &Scope) -> Needs {
    if args.filename.is_empty() { installation_needs(typed) } else { Needs::default() }
}

/// Prints the objects.
pub async fn run(session: &mut Session, args: &GenerateArgs) -> Result<Exit, Stop> {
    let installation = if args.filename.is_empty() {
        let connection = session.connect().await?;
        read_installation(&connection, session.istio_namespace()).await?
    } else {
        read_installation_files(&args.filename)?
    };
    let request = SetRequest {
        tag: &args.tag,
        revision: &args.revision,
        from: None,
        may_overwrite: true,
        may_restart_gateways: true,
        istio_namespace: session.istio_namespace(),
        // No history in Git: the same input gives the same bytes.
        time: "",
        version: VERSION,
    };
    let tag = generated(&installation, &request)?;
    for note in &tag.notes {
        writeln!(session.terminal.err, "note: {note}")?;
    }
    let objects: Vec<Value> = tag.objects.iter().map(without_server_fields).collect();
    write_objects(&objects, args.output, &mut session.terminal.out)?;
    Ok(Exit::Done)
}
