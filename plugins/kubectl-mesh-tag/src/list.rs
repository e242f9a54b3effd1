//! `mesh-tag list`.

use futures::future::join_all;
use mesh::advice::Command;
use mesh::cluster::read::look_needs;
use mesh::cluster::{Pods, Scope, Sight, look};
use mesh::health;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::session::Session;
use mesh::tag::{listing, validator_findings};
use mesh::terminal::document::{write_json, write_yaml};
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;
use owo_colors::OwoColorize;

use crate::args::{ListArgs, Output};
use crate::cluster_tags::ClusterTags;
use crate::render::{self, Columns};

/// What it may ask for.
pub fn needs(typed: &Scope) -> Needs {
    look_needs(typed)
}

/// Shows all tags.
pub async fn run(session: &mut Session, args: &ListArgs) -> Result<Exit, Stop> {
    let contexts = session.flags.connection.contexts();
    let is_fleet = contexts.len() > 1;
    let pods = if args.no_stale { Pods::Labelled } else { Pods::All };
    let reading: &Session = session;
    let looks = contexts.iter().map(|context| async move {
        let connection = reading.connect_to(context.as_deref()).await?;
        let sight = look(&connection, reading.istio_namespace(), pods).await?;
        Ok((is_fleet.then(|| connection.context.clone()), sight))
    });
    let mut clusters = Vec::new();
    let mut has_failed = false;
    for (context, result) in contexts.iter().zip(join_all(looks).await) {
        match result {
            Ok((cluster, sight)) => clusters.push(tags_of(cluster, &sight)),
            Err(failure) if !is_fleet => return Err(Stop::Failure(failure)),
            Err(failure) => {
                has_failed = true;
                let context = context.as_deref().unwrap_or_default();
                writeln!(session.terminal.err, "{} {context}: {failure}", "error:".style(session.terminal.err_styles.error))?;
            }
        }
    }
    print(session, args, &clusters)?;
    let has_fault = clusters.iter().any(|tags| tags.entries.iter().any(|entry| !entry.faults.is_empty()));
    Ok(match (has_failed, args.exit_code && has_fault) {
        (true, _) => Exit::Error,
        (false, true) => Exit::Found,
        (false, false) => Exit::Done,
    })
}

fn tags_of(cluster: Option<String>, sight: &Sight) -> ClusterTags {
    let entries = listing(&sight.installation, &sight.census);
    // What is wrong with injectors stands in the rows of their tags; the rest is about namespaces and lists.
    let injectors = format!("{}/", Resource::MutatingWebhookConfigurations.plural());
    let mut findings = health::findings(&sight.installation.snapshot);
    findings.retain(|finding| !finding.subject.starts_with(&injectors));
    findings.extend(validator_findings(&sight.installation));
    let has_mesh = sight.installation.snapshot.has_mesh();
    let mut unread: Vec<Resource> = sight.installation.snapshot.unread.iter().map(|unread| unread.resource).collect();
    unread.sort_unstable();
    unread.dedup();
    ClusterTags { cluster, entries, findings, unread, has_mesh }
}

fn print(session: &mut Session, args: &ListArgs, clusters: &[ClusterTags]) -> Result<(), Stop> {
    let columns = Columns {
        with_cluster: clusters.iter().any(|tags| tags.cluster.is_some()),
        with_stale: !args.no_stale,
        wide: args.output == Output::Wide,
    };
    for tags in clusters.iter().filter(|tags| !tags.unread.is_empty()) {
        let resources: Vec<String> = tags.unread.iter().map(ToString::to_string).collect();
        let place = tags.cluster.as_ref().map_or_else(String::new, |cluster| format!("{cluster}: "));
        let word = "Incomplete:".style(session.terminal.err_styles.warning);
        let what = "what depends on them is unknown";
        writeln!(session.terminal.err, "{word} {place}{} could not be read, {what}.", resources.join(", "))?;
    }
    match args.output {
        Output::Table | Output::Wide => {
            let styles = session.terminal.out_styles;
            render::table(clusters, columns, &styles).write(session.flags.header(), &mut session.terminal.out)?;
        }
        Output::Json => write_json(&render::document(clusters, columns, &session.advisor()), &mut session.terminal.out)?,
        Output::Yaml => write_yaml(&render::document(clusters, columns, &session.advisor()), &mut session.terminal.out)?,
        Output::Name => {
            for entry in clusters.iter().flat_map(|tags| &tags.entries) {
                writeln!(session.terminal.out, "{}", entry.name)?;
            }
        }
    }
    session.terminal.flush()?;
    let faults: Vec<_> = clusters
        .iter()
        .flat_map(|tags| {
            tags.entries.iter().flat_map(|entry| &entry.faults).map(|fault| (tags.cluster.as_deref(), fault.finding()))
        })
        .chain(clusters.iter().flat_map(|tags| tags.findings.iter().map(|finding| (tags.cluster.as_deref(), finding.clone()))))
        .collect();
    findings::write(faults.iter().map(|(cluster, finding)| (*cluster, finding)), session.flags.v, &mut session.terminal)?;
    // What nobody could see is not missing.
    if clusters.iter().any(ClusterTags::may_hide_tags) {
        return Ok(());
    }
    if clusters.iter().all(|tags| !tags.has_mesh) {
        writeln!(session.terminal.err, "No mesh here: there is no injector and no control plane.")?;
    } else if clusters.iter().all(|tags| tags.entries.iter().all(|entry| entry.kind == mesh::tag::EntryKind::Revision)) {
        let example = clusters.iter().flat_map(|tags| &tags.entries).next().map_or("REVISION", |entry| entry.name.as_str());
        let set = Command::mesh_tag("set prod-stable").flag("--revision", example);
        writeln!(session.terminal.err, "No tags here. {}", session.terminal.advisor.command(&set))?;
    }
    Ok(())
}
