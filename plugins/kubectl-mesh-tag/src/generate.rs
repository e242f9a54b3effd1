//! `mesh-tag generate`: a tag's objects for Git, from a cluster or from files.

use mesh::change::without_server_fields;
use mesh::cluster::access::{installation_permissions, manifest};
use mesh::cluster::{read_installation, read_installation_files};
use mesh::tag::{SetRequest, generated};
use mesh::terminal::Terminal;
use mesh::terminal::document::write_objects;
use mesh::terminal::exit::Exit;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;
use serde_json::Value;

use crate::USER_AGENT;
use crate::args::GenerateArgs;
use crate::set::VERSION;

/// Prints the objects.
pub async fn run(common: &CommonArgs, args: &GenerateArgs, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if common.explain_rbac {
        let rules = manifest(&installation_permissions(common.istio_namespace.as_deref()), "mesh-tag-generate");
        terminal.out.write_all(rules.as_bytes())?;
        return Ok(Exit::Done);
    }
    let installation = if args.filename.is_empty() {
        let connection = common.connect(USER_AGENT).await?;
        read_installation(&connection, common.istio_namespace.as_deref()).await?
    } else {
        read_installation_files(&args.filename)?
    };
    let request = SetRequest {
        tag: &args.tag,
        revision: &args.revision,
        from: None,
        may_overwrite: true,
        may_restart_gateways: true,
        istio_namespace: common.istio_namespace.as_deref(),
        // No history in Git: the same input gives the same bytes.
        time: "",
        version: VERSION,
    };
    let tag = generated(&installation, &request)?;
    for note in &tag.notes {
        writeln!(terminal.err, "note: {note}")?;
    }
    let objects: Vec<Value> = tag.objects.iter().map(without_server_fields).collect();
    write_objects(&objects, args.output, &mut terminal.out)?;
    Ok(Exit::Done)
}
