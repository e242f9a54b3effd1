//! `mesh-upgrade plan`: the waves of a restart, as a file that can be reviewed, and that `restart --plan` does exactly.

mod document;

use clap::{Args, ValueEnum};
use mesh::advice::Command;
use mesh::change::Subject;
use mesh::cluster::Scope;
use mesh::cluster::connection::Connection;
use mesh::cluster::raw::read_object;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::session::Session;
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;

pub use document::Plan;

use crate::downgrade::{Older, tell_unknown};
use crate::output::{write_json, write_yaml};
use crate::selection::SelectionArgs;

/// Arguments of `plan`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::PLAN)]
pub struct PlanArgs {
    /// Which workloads, in which waves.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Yaml, ignore_case = true)]
    pub output: Output,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One YAML document
    Yaml,
    /// One JSON document
    Json,
}

/// What it may ask for.
pub fn needs(args: &PlanArgs, typed: &Scope) -> Needs {
    args.selection.needs(typed).and(cluster_id_needs())
}

/// Runs it.
pub async fn run(session: &mut Session, args: &PlanArgs) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let cluster = cluster_id(&connection).await?;
    let selection = args.selection.select(session, &connection).await?;
    let unread = selection.snapshot.unread_findings().map(|finding| (None, finding));
    findings::write(unread, session.flags.v, &mut session.terminal)?;
    args.selection.tell_others(&selection.others, &mut session.terminal)?;
    if let Some(downgrades) = &selection.downgrades {
        let older = Older::from(&args.selection.downgrade);
        if older == Older::Refused {
            let others = selection.waves.iter().map(|wave| wave.items.len()).sum();
            let again = args.selection.command("plan");
            return Err(downgrades.refusal(&selection.snapshot, others, &again, "no plan was made").into());
        }
        downgrades.tell(older, &mut session.terminal)?;
    }
    tell_unknown(&selection.waves, &mut session.terminal)?;
    let document = Plan::new(cluster, &selection.waves, &selection.others).document();
    match args.output {
        Output::Yaml => write_yaml(&document, &mut session.terminal.out)?,
        Output::Json => write_json(&document, &mut session.terminal.out)?,
    }
    session.terminal.flush()?;
    let count: usize = selection.waves.iter().map(|wave| wave.items.len()).sum();
    let waves = plural(selection.waves.len() as u64, "wave", "waves");
    writeln!(session.terminal.err, "{} in {waves}.", plural(count as u64, "workload", "workloads"))?;
    selection.tell_waves(&mut session.terminal)?;
    if let Some(undecided) = selection.undecided("restart --plan refuses this plan") {
        return Err(undecided.into());
    }
    if count > 0 {
        let next = Command::mesh_upgrade("restart --plan FILE");
        session.tell_next(next)?;
    }
    Ok(Exit::Done)
}

/// What tells this cluster from every other: the uid of its namespace `kube-system`, which lives as long as the cluster.
///
/// # Errors
/// When it cannot be read: then nobody knows for which cluster a plan is.
pub async fn cluster_id(connection: &Connection) -> Result<String, Stop> {
    let subject = Subject::new(Resource::Namespaces, None, "kube-system");
    let namespace = read_object(connection, &subject).await?;
    let uid = namespace.as_ref().and_then(|namespace| namespace["metadata"]["uid"].as_str());
    uid.map(str::to_owned)
        .ok_or_else(|| Stop::Message("namespaces/kube-system is not there: nothing else names a cluster".to_owned()))
}

/// What [`cluster_id`] may ask for.
pub fn cluster_id_needs() -> Needs {
    Needs::default().require(None, [Resource::Namespaces], &["get"])
}
