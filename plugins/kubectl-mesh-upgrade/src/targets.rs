//! `mesh-upgrade targets`: which revisions are here, and which may come next.

mod next;
mod render;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use mesh::advice::Command;
use mesh::cluster::Scope;
use mesh::cluster::connection::Connection;
use mesh::cluster::failure::Failure;
use mesh::cluster::raw::read_path;
use mesh::health;
use mesh::needs::Needs;
use mesh::session::Session;
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;

use crate::output::{write_json, write_yaml};
use crate::partly;
use crate::support::{Releases, line_of};
use crate::survey;
use crate::targets::next::{Target, Verdict, targets};

/// Arguments of `targets`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::TARGETS)]
pub struct TargetsArgs {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Two tables: what is here, and what may come next
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// What it may ask for. The version of Kubernetes may be read by everybody who is known to a cluster (`system:discovery`).
pub fn needs(typed: &Scope) -> Needs {
    survey::needs(&typed.within(None)).and(partly::needs(typed.control_plane_namespace()))
}

/// Runs it.
pub async fn run(session: &mut Session, args: &TargetsArgs) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let (survey, kubernetes) = {
        let kubernetes = kubernetes_version(&connection);
        let survey = partly::survey(session, None);
        let (survey, kubernetes) = futures::join!(survey, kubernetes);
        (survey?, kubernetes?)
    };
    let releases = Releases::known();
    let today = survey.now.to_zoned(TimeZone::UTC).date();
    let targets = targets(&survey.revisions, releases, kubernetes, today);
    let advisor = session.advisor();
    let page = render::Page { advisor: &advisor, survey: &survey, targets: &targets, releases, kubernetes, today };
    match args.output {
        Output::Table => {
            render::table(&page, session.flags.header(), &session.terminal.out_styles, &mut session.terminal.out)?;
        }
        Output::Json => write_json(&render::document(&page), &mut session.terminal.out)?,
        Output::Yaml => write_yaml(&render::document(&page), &mut session.terminal.out)?,
    }
    session.terminal.flush()?;
    let told = health::findings(&survey.snapshot);
    findings::write(told.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    if survey.revisions.is_empty() {
        writeln!(session.terminal.err, "No mesh here: there is no control plane and no proxy.")?;
        return Ok(Exit::Done);
    }
    if let Some(note) = end_of_knowledge(&targets, releases) {
        writeln!(session.terminal.err, "{note}")?;
    }
    if let Some(next) = next_command(&targets) {
        session.tell_next(next)?;
    }
    Ok(Exit::Done)
}

/// The version of Kubernetes: major and minor number, where the API server tells.
pub async fn kubernetes_version(connection: &Connection) -> Result<Option<(u32, u32)>, Failure> {
    match read_path(connection, "/version", "reading the version of Kubernetes").await {
        Ok(version) => Ok(version["gitVersion"].as_str().and_then(line_of)),
        Err(failure) if failure.cause.is_tolerable() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A list of releases ends somewhere: what lies behind is not known, rather than not possible.
fn end_of_knowledge(targets: &[Target], releases: &Releases) -> Option<String> {
    let newest = releases.newest_line();
    let reaches_it = targets.is_empty() || targets.iter().any(|target| target.line >= newest);
    reaches_it.then(|| {
        format!(
            "This build knows Istio's releases up to {}.{}, as of {}: https://istio.io/latest/docs/releases/supported-releases/ \
             has newer ones.",
            newest.0, newest.1, releases.as_of
        )
    })
}

/// From the oldest revision that proxies still run, to the best of what may come next: one that is here, one that is supported,
/// the newest.
fn next_command(targets: &[Target]) -> Option<Command> {
    let possible = || targets.iter().filter(|target| target.verdict != Verdict::No && target.serves_proxies);
    let from = &possible().next()?.from;
    let best = possible().filter(|target| target.from == *from).max_by_key(|target| {
        (!target.here.is_empty(), target.is_supported == Some(true), target.verdict == Verdict::Yes, target.line)
    })?;
    let to = best.here.last().cloned().unwrap_or_else(|| format!("{}.{}", best.line.0, best.line.1));
    Some(Command::mesh_upgrade("precheck").flag("--to", to))
}
