//! The whole command: look, decide, show.

use std::io;

use mesh::advice::Command;
use mesh::cluster::{Saved, Scope, probe, read, watch};
use mesh::following::{self, Followed};
use mesh::needs::Needs;
use mesh::session::Session;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::exit::Exit;
use mesh::terminal::progress::Progress;
use mesh::terminal::stop::Stop;
use mesh::terminal::table::{Header, Table};
use owo_colors::OwoColorize;

use crate::args::{Args, By, Output, Request};
use crate::look::{Place, Sight, connect, look, look_at_files};
use crate::render::{self, Columns, Invocation, Source};
use crate::report::{ClusterPart, Report, Rows, report};

/// What it may ask for.
///
/// # Errors
/// When the command line makes no sense.
pub fn needs(args: &Args, typed: &Scope) -> Result<Needs, Stop> {
    let request = args.request()?;
    if !args.filename.is_empty() {
        return Ok(Needs::default());
    }
    let namespace = request.scope.namespace.as_deref().or(typed.namespace.as_deref()).filter(|_| !request.is_everywhere);
    let scope = typed.within(namespace);
    let mut needs = read::needs(&scope);
    if request.probe.is_some() {
        needs = needs.and(probe::needs(namespace));
    }
    if args.watch {
        needs = needs.and(watch::needs(&scope));
    }
    Ok(needs)
}

/// Runs it.
pub async fn run(session: &mut Session, args: &Args) -> Result<Exit, Stop> {
    let request = args.request()?;
    let saved = args.save.as_ref().map(|_| Saved::default());
    if !args.filename.is_empty() {
        let progress = Progress::start(session.terminal.err_audience, "objects");
        let sight = look_at_files(args, &request, &progress, saved.as_ref())?;
        save(session, args, saved.as_ref())?;
        return show(session, args, &request, &[sight]);
    }
    let (places, has_failed) = places(session, &request).await?;
    if args.watch {
        return follow(session, args, &request, &places).await;
    }
    let (sights, is_incomplete) = look_everywhere(session, &places, &request, saved.as_ref()).await?;
    save(session, args, saved.as_ref())?;
    let exit = show(session, args, &request, &sights)?;
    Ok(if has_failed || is_incomplete { Exit::Error } else { exit })
}

/// Connects everywhere. Of several clusters some may fail: they are told, and the others are looked at.
async fn places(session: &mut Session, request: &Request) -> Result<(Vec<Place>, bool), Stop> {
    let mut places = Vec::new();
    let mut has_failed = false;
    let results = connect(session, request).await;
    let is_only_one = results.len() == 1;
    for result in results {
        match result {
            Ok(place) => places.push(place),
            Err((_, failure)) if is_only_one => return Err(failure.into()),
            Err((context, failure)) => {
                has_failed = true;
                writeln!(session.terminal.err, "{} {context}: {failure}", "error:".style(session.terminal.err_styles.error))?;
            }
        }
    }
    Ok((places, has_failed))
}

async fn look_everywhere(
    session: &mut Session,
    places: &[Place],
    request: &Request,
    saved: Option<&Saved>,
) -> Result<(Vec<Sight>, bool), Stop> {
    let progress = Progress::start(session.terminal.err_audience, "objects");
    let looks = futures::future::join_all(places.iter().map(|place| look(place, request, &progress, saved))).await;
    progress.clear();
    let mut sights = Vec::new();
    let mut has_failed = false;
    for (place, look) in places.iter().zip(looks) {
        for warning in place.connection.take_warnings() {
            writeln!(session.terminal.err, "{} {warning}", "Warning:".style(session.terminal.err_styles.warning))?;
        }
        match look {
            Ok(sight) => sights.push(sight),
            Err(failure) if places.len() == 1 => return Err(failure.into()),
            Err(failure) => {
                has_failed = true;
                let cluster = place.cluster.as_deref().unwrap_or_default();
                writeln!(session.terminal.err, "{} {cluster}: {failure}", "error:".style(session.terminal.err_styles.error))?;
            }
        }
    }
    Ok((sights, has_failed))
}

fn save(session: &mut Session, args: &Args, saved: Option<&Saved>) -> Result<(), Stop> {
    if let (Some(path), Some(saved)) = (&args.save, saved) {
        saved.write(path)?;
        writeln!(session.terminal.err, "Saved what was read to {}.", path.display())?;
    }
    Ok(())
}

/// Decides and shows, once.
fn show(session: &mut Session, args: &Args, request: &Request, sights: &[Sight]) -> Result<Exit, Stop> {
    check_names(request, sights)?;
    let parts: Vec<ClusterPart<'_>> = sights.iter().map(Sight::part).collect();
    let report = report(&parts, request);
    let advisor = session.advisor();
    print(session, args, &report, request, &advisor)?;
    session.terminal.flush()?;
    let invocation = invocation(args, request);
    say_when_empty(session, args, &report, request, sights)?;
    render::summary(&report, request, &invocation, args.common.v, &mut session.terminal)?;
    Ok(if args.exit_code && report.has_found(request) { Exit::Found } else { Exit::Done })
}

/// What was named and is nowhere is an error, as in kubectl.
fn check_names(request: &Request, sights: &[Sight]) -> Result<(), Stop> {
    check_places(request, sights)?;
    let missing = |sight: &Sight| request.selection.unknown_revision(&sight.snapshot);
    if !sights.is_empty()
        && let Some(messages) = sights.iter().map(missing).collect::<Option<Vec<_>>>()
        && let Some(message) = messages.into_iter().next()
    {
        return Err(Stop::Message(message));
    }
    let unknown_types = sights.iter().map(|sight| request.selection.unknown_type(&sight.snapshot));
    if let Some(message) = unknown_types.collect::<Option<Vec<_>>>().and_then(|messages| messages.into_iter().next()) {
        return Err(Stop::Message(message));
    }
    let not_found: Vec<Vec<String>> = sights.iter().map(|sight| request.selection.not_found(&sight.snapshot)).collect();
    let nowhere = not_found.first().map(|first| first.iter().find(|name| not_found.iter().all(|names| names.contains(name))));
    match nowhere.flatten() {
        Some(message) => Err(Stop::Message(message.clone())),
        None => Ok(()),
    }
}

/// Of several clusters one is enough that has what was named.
fn check_places(request: &Request, sights: &[Sight]) -> Result<(), Stop> {
    let namespace = request.scope.namespace.as_deref();
    let istio_namespace = request.scope.istio_namespace.as_deref();
    let check = |sight: &Sight| sight.snapshot.check_places(namespace, istio_namespace).err();
    match sights.iter().map(check).collect::<Option<Vec<_>>>().and_then(|refusals| refusals.into_iter().next()) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

fn print(session: &mut Session, args: &Args, report: &Report, request: &Request, advisor: &Advisor) -> Result<(), Stop> {
    let out = &mut session.terminal.out;
    match request.output {
        Output::Table | Output::Wide => {
            let styles = session.terminal.out_styles;
            let table = render::table(report, columns(args, request, report), advisor, &styles);
            table.write(args.common.header(), out)?;
        }
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &render::document(report, advisor)).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Output::Yaml => {
            let document = render::document(report, advisor);
            let text = mesh::yaml::text(&document).map_err(io::Error::other)?;
            out.write_all(text.as_bytes())?;
        }
        Output::Name => render::names(report, out)?,
        Output::Refs | Output::Args => {
            let (listed, others) = report.restartable(request);
            if request.output == Output::Refs {
                render::refs(&listed, out)?;
            } else {
                render::args(&listed, advisor, out)?;
            }
            say_how_to_connect(session, request.output)?;
            for row in others {
                let advice = advisor.advice(row.cluster.as_deref(), &row.verdict);
                let id = &row.verdict.workload;
                writeln!(
                    session.terminal.err,
                    "not listed: {} -n {} is {}: {advice}",
                    id.qualified_name(),
                    id.namespace,
                    row.verdict.state
                )?;
            }
        }
        Output::Prom => render::prom(report, out)?,
        Output::Junit => render::junit(report, advisor, out)?,
    }
    Ok(())
}

/// What the lines on stdout leave out of the connection that was typed.
fn say_how_to_connect(session: &mut Session, output: Output) -> Result<(), Stop> {
    let advisor = session.advisor();
    let reader = match output {
        Output::Refs if advisor.is_connected_by_flags() => {
            let restart = advisor.command(&Command::kubectl("rollout restart -f -"));
            format!("These lines name no cluster: what reads them needs the connection too, as in {restart}")
        }
        Output::Args if advisor.has_secret() => {
            format!("These lines leave out the token: {}", Advisor::XARGS_WITH_TOKEN)
        }
        _ => return Ok(()),
    };
    writeln!(session.terminal.err, "{reader}")?;
    Ok(())
}

/// An empty answer says what it means, and where else there may be something.
fn say_when_empty(session: &mut Session, args: &Args, report: &Report, request: &Request, sights: &[Sight]) -> Result<(), Stop> {
    let outside: Vec<String> = sights.iter().flat_map(|sight| request.selection.outside(&sight.snapshot)).collect();
    let err = &mut session.terminal.err;
    if !report.has_mesh {
        let place = if args.filename.is_empty() { "here" } else { "in the input" };
        writeln!(err, "No mesh {place}: there is no injector, no control plane and no proxy.")?;
        if !request.is_everywhere {
            writeln!(err, "-A looks in all namespaces.")?;
        }
        return Ok(());
    }
    if report.rows.len() > 0 {
        return Ok(());
    }
    for reason in &outside {
        writeln!(err, "{reason}")?;
    }
    if !outside.is_empty() {
        return Ok(());
    }
    let states: Vec<String> = request.selection.states.iter().map(|state| state.to_string()).collect();
    let what = if states.is_empty() { "part of the mesh".to_owned() } else { mesh::terminal::words::join(&states) };
    let place = if request.is_everywhere { "" } else { " in this namespace; -A looks in all namespaces" };
    writeln!(err, "No workload is {what}{place}.")?;
    Ok(())
}

/// Looks again whenever something has changed, and shows what is different.
async fn follow(session: &mut Session, args: &Args, request: &Request, places: &[Place]) -> Result<Exit, Stop> {
    let mut shown: Option<Shown> = None;
    let followed: Vec<Followed<'_>> =
        places.iter().map(|place| Followed { connection: &place.connection, scope: &place.scope }).collect();
    following::follow(session, &followed, async |session, _| {
        let (sights, _) = look_everywhere(session, places, request, None).await?;
        if shown.is_none() {
            check_names(request, &sights)?;
        }
        show_changes(session, args, request, &sights, &mut shown)
    })
    .await
}

/// What the last round of `--watch` showed.
enum Shown {
    Table(Table),
    Document(serde_json::Value),
}

fn show_changes(
    session: &mut Session,
    args: &Args,
    request: &Request,
    sights: &[Sight],
    shown: &mut Option<Shown>,
) -> Result<(), Stop> {
    let parts: Vec<ClusterPart<'_>> = sights.iter().map(Sight::part).collect();
    let report = report(&parts, request);
    let advisor = session.advisor();
    match request.output {
        Output::Table | Output::Wide => {
            let styles = session.terminal.out_styles;
            let table = render::table(&report, columns(args, request, &report), &advisor, &styles);
            let mut changes = table.clone();
            if let Some(Shown::Table(last)) = shown {
                changes.retain(|row| !last.rows().contains(row));
            } else {
                say_when_empty(session, args, &report, request, sights)?;
                let invocation = invocation(args, request);
                render::summary(&report, request, &invocation, args.common.v, &mut session.terminal)?;
            }
            let header = if shown.is_none() { args.common.header() } else { Header::Hidden };
            changes.write(header, &mut session.terminal.out)?;
            *shown = Some(Shown::Table(table));
        }
        Output::Json => {
            let document = render::document(&report, &advisor);
            if !matches!(shown, Some(Shown::Document(last)) if *last == document) {
                writeln!(session.terminal.out, "{document}")?;
            }
            *shown = Some(Shown::Document(document));
        }
        _ => return Err(Stop::Usage("--watch goes with tables and with -o json".to_owned())),
    }
    Ok(())
}

fn columns(args: &Args, request: &Request, report: &Report) -> Columns {
    let has_clusters = match &report.rows {
        Rows::Workloads(rows) => rows.iter().any(|row| row.cluster.is_some()),
        Rows::Pods(rows) => rows.iter().any(|row| row.cluster.is_some()),
        Rows::Namespaces(rows) => rows.iter().any(|row| row.cluster.is_some()),
        Rows::Versions(rows) => rows.iter().any(|row| row.cluster.is_some()),
    };
    Columns {
        with_namespace: request.is_everywhere,
        with_cluster: has_clusters || args.common.connection.context.len() > 1,
        wide: request.output == Output::Wide,
    }
}

fn invocation(args: &Args, request: &Request) -> Invocation {
    let again = Command::mesh_proxyver("");
    let again = match &args.namespace {
        _ if request.is_everywhere && args.filename.is_empty() => again.words("-A"),
        Some(namespace) => again.namespace(namespace),
        None => again,
    };
    let again = if request.by == By::Pod { again.words("--by pod") } else { again };
    let source = match args.common.connection.contexts().len() {
        _ if !args.filename.is_empty() => Source::Files,
        0 | 1 => Source::Cluster,
        _ => Source::Fleet,
    };
    Invocation { again, source }
}
