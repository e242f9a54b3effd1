//! `mesh-upgrade start`: the new control plane beside the old one, from rendered manifests.

mod configuration;
mod contents;
mod event;
mod install;
mod installer;
pub mod needs;
mod plan;
mod show;
mod way_back;
mod webhooks;

use mesh::advice::{Advice, Command};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use mesh::change::{Action, Change, Subject};
use mesh::cluster::connection::Connection;
use mesh::cluster::raw::read_object;
use mesh::cluster::{Scope, read_installation};
use mesh::control_plane::revision_suffix;
use mesh::finding::Code;
use mesh::injector::Injector;
use mesh::manifest::{Manifest, manifests};
use mesh::needs::Needs;
use mesh::object::{Resource, WebhookConfiguration};
use mesh::platform::{Step, Way};
use mesh::refusal::Refusal;
use mesh::session::{Intent, Session};
use mesh::skew::{Ignored, IgnoredArgs, TooFar, step};
use mesh::tag::{GatewayRevisions, unread_of_gateways};
use mesh::terminal::exit::Exit;
use mesh::terminal::question::Consent;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use mesh::terminal::writing::DryRun;
use mesh::version::Version;

use crate::definition::{leave_definitions_out, newer_than};
use crate::program::Program;
use crate::program::arguments::Arguments;
use crate::revisions::Revision;
use crate::selection::read_text;
use crate::start::configuration::{Carrying, compare};
use crate::start::contents::{Contents, Obstacle, contents, why_no_revision};
use crate::start::event::Events;
use crate::start::install::{Installation, Unfinished};
use crate::start::installer::{Installer, release_namespace};
use crate::start::needs::contents_needs;
use crate::start::plan::{Plan, plan, presence};
use crate::start::show::{Names, Planned, notes, show, summary};
use crate::start::way_back::{Shared, WayBack};
use crate::start::webhooks::{DefaultTag, Webhooks, note, note_needs, taking_back, told};
use crate::survey::{self, Survey, survey};

/// Arguments of `start`.
#[derive(Args, Clone, Debug)]
#[command(after_help = crate::examples::START)]
pub struct StartArgs {
    /// The new revision
    #[arg(long, value_name = "REVISION")]
    pub revision: String,

    /// Its rendered manifests, from istioctl manifest generate or helm template: a file, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required_unless_present = "with")]
    pub filename: Option<PathBuf>,

    /// Let this program install it, with the arguments behind --, on the cluster that is checked; what is refused and proved is the same
    #[arg(long, value_name = "PROGRAM", value_enum, conflicts_with_all = ["filename", "carry_mesh_config"], requires = "arguments")]
    pub with: Option<Program>,

    /// Arguments of that program, such as: install -y --set revision=1-28-2
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<String>,

    /// What of precheck does not count.
    #[command(flatten)]
    pub ignored: IgnoredArgs,

    /// Carry edits of the running revision's mesh configuration over
    #[arg(long)]
    pub carry_mesh_config: bool,

    /// Let the new istiod replace at once the Gateways that name its revision already
    #[arg(long)]
    pub accept_gateway_restart: bool,

    /// How long the new control plane may take to be ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,

    /// With --with istioctl: let it create the tag default where there is none, which injects for everybody who follows that
    #[arg(long, requires = "with")]
    pub accept_default_tag: bool,

    /// Only show what would be written: client or server; the API server is asked for each object either way
    #[arg(long, value_name = "client|server|none", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "client", default_value_t = DryRun::None, hide_default_value = true, hide_possible_values = true)]
    pub dry_run: DryRun,

    /// Answer questions with yes; refusals stay refusals
    #[arg(short, long)]
    pub yes: bool,

    /// How events are written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text, hide_default_value = true, ignore_case = true)]
    pub output: Output,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line an event
    Text,
    /// A JSON document an event
    Json,
}

/// What it may ask for.
///
/// # Errors
/// When the manifests cannot be read.
pub fn needs(args: &StartArgs, typed: &Scope) -> Result<Needs, Stop> {
    let intent = Intent::from(args.dry_run);
    let contents = match &args.filename {
        Some(path) => Some(contents_of(&documents_of(&read_text(path)?)?, &args.revision)?),
        None => None,
    };
    // Where the new control plane stands is the manifests' to say; where the mesh is, the user's.
    let namespace = contents.as_ref().map_or_else(|| typed.control_plane_namespace(), |contents| contents.namespace.as_str());
    let place = Scope { istio_namespace: Some(namespace.to_owned()), ..Scope::default() };
    let written = match args.with {
        Some(program) => {
            let arguments = Arguments::parse(program, &args.arguments).map_err(Stop::Usage)?;
            let namespace = match program {
                Program::Istioctl => namespace.to_owned(),
                Program::Helm => release_namespace(&arguments, typed.namespace.as_deref().unwrap_or_default()),
            };
            let installing = program.install_needs(&namespace, intent);
            // Whether it would take definitions back.
            let installing = installing.require(None, [("apiextensions.k8s.io", "customresourcedefinitions")], &["get"]);
            match intent {
                Intent::Read => installing.and(needs::rendered_needs(&namespace, &["get"])),
                Intent::Write if args.accept_default_tag => installing.and(needs::proof_needs(&namespace)).and(note_needs()),
                Intent::Write => installing.and(needs::proof_needs(&namespace)),
            }
        }
        None => needs::needs(&place, intent).and(contents.iter().map(contents_needs).collect()),
    };
    let configuration = Needs::default().require(Some(typed.control_plane_namespace()), [Resource::ConfigMaps], &["get"]);
    Ok(survey::needs(&typed.within(None)).and(configuration).and(written))
}

/// The documents of rendered manifests.
fn documents_of(text: &str) -> Result<Vec<Manifest>, Refusal> {
    manifests(text).map_err(|broken| {
        Refusal::new("the manifests cannot be read; nothing was changed", "render them anew").with(vec![broken.to_string()])
    })
}

/// The control plane that they hold.
fn contents_of(documents: &[Manifest], revision: &str) -> Result<Contents, Refusal> {
    contents(documents, revision).map_err(|obstacles| refusal(revision, &obstacles))
}

/// Runs it.
pub async fn run(session: &mut Session, args: &StartArgs) -> Result<Exit, Stop> {
    let revision = args.revision.as_str();
    if let Some(why) = why_no_revision(revision) {
        return Err(Stop::Usage(format!("{revision:?} cannot be the name of a new revision: {why}")));
    }
    let ignored = args.ignored.of(&ASKED)?;
    // A program that would be led elsewhere is refused before anything is asked for.
    let arguments = args.with.map(|program| Arguments::parse(program, &args.arguments)).transpose().map_err(Stop::Usage)?;
    let installer = match (args.with, arguments) {
        (Some(program), Some(arguments)) => Some(Installer::new(session, program, arguments).await?),
        _ => None,
    };
    let text = rendered(args, installer.as_ref()).await?;
    let documents = documents_of(&text)?;
    let mut contents = contents_of(&documents, revision)?;
    let connection = session.connect_for(Intent::from(args.dry_run)).await?;
    let survey = survey(session, None).await?;
    let mut obstacles = around(&survey, &contents, revision);
    let installed = read_installation(&connection, session.istio_namespace()).await?;
    if !args.accept_gateway_restart {
        obstacles.extend(gateways(&installed, &contents, revision));
    }
    let mut webhooks = Webhooks::default();
    let mut default_tag = None;
    if let Some(installer) = &installer {
        webhooks = Webhooks::read(&connection).await?;
        obstacles.extend(installer.obstacles(&documents, &contents, revision, &webhooks).await?);
        default_tag = installer.makes_default_tag(&webhooks, &survey.snapshot, revision);
        let refused = default_tag.as_ref().filter(|_| !args.accept_default_tag);
        obstacles.extend(refused.map(|tag| installer.default_tag(tag, revision)));
    }
    let running = running(&survey, revision);
    let events = Events::new(args.output, args.dry_run);
    let mut lines = Vec::new();
    if let Some((old, plane)) = running.and_then(|old| Some((old, old.control_plane.as_ref()?))) {
        let suffix = revision_suffix(&old.name);
        let map = |name: String| Subject::new(Resource::ConfigMaps, Some(&plane.namespace), &name);
        let injector = read_object(&connection, &map(format!("istio-sidecar-injector{suffix}"))).await?;
        if let Some(mesh) = read_object(&connection, &map(format!("istio{suffix}"))).await? {
            let carrying = if args.carry_mesh_config { Carrying::Edits } else { Carrying::Nothing };
            let compared = compare(&mut contents, revision, &mesh, injector.as_ref(), carrying);
            lines = compared.lines;
            obstacles.extend(compared.obstacles);
        }
    }
    let plan = match args.with {
        // The program writes what it renders, and tells of conflicts itself.
        Some(_) => Plan::default(),
        None => plan(&connection, &contents, revision).await?,
    };
    obstacles.extend(plan.obstacles.iter().cloned());
    let mut newer = plan.newer_definitions.clone();
    if args.with.is_some() {
        newer = newer_definitions(&connection, &contents).await?;
    }
    forbidden(running, &contents, &newer, args.with.is_some(), &ignored, &mut obstacles);
    for (key, line) in &lines {
        events.mesh_configuration(key, line, &mut session.terminal)?;
    }
    if !obstacles.is_empty() {
        return Err(refusal(revision, &obstacles).into());
    }
    let planned: Vec<Planned> = match &installer {
        Some(_) => presence(&connection, &contents, revision).await?.into_iter().map(Planned::of_program).collect(),
        None => Planned::of_plan(&plan),
    };
    show(&planned, &contents, &plan, &events, &mut session.terminal)?;
    if let (Some(installer), Some(tag)) = (&installer, &default_tag) {
        events.default_tag(installer.name(), &tag.effect, &mut session.terminal)?;
    }
    let version = contents.version.as_ref().map_or_else(|| revision.to_owned(), ToString::to_string);
    let old = running.map(|old| old.name.as_str());
    let names = Names { old, new: revision, version: &version, is_by_program: installer.is_some() };
    let mut notes = notes(&lines, &planned, &names);
    notes.extend(default_tag.iter().map(|tag| format!("tag default is created: {}", tag.effect)));
    summary(&planned, &notes, &mut session.terminal)?;
    if args.dry_run.is_dry() {
        session.conclude_dry_run(args.dry_run)?;
        return Ok(Exit::Done);
    }
    if let Some(question) = question(args, installer.as_ref(), &plan) {
        session.ask(&question, Consent::from_flag(args.yes)).await?;
    }
    let back = way_back(&contents, running, revision, installer.is_some());
    let mut unnamed = Vec::new();
    if let Some(installer) = &installer {
        session.if_interrupted(Refusal::new(format!("revision {revision} is not installed to its end"), back.advice()));
        let ended = installer.run(session).await;
        // Also one that failed may have made the tag.
        note(&connection, &webhooks).await?;
        let changed = webhooks.changed(&Webhooks::read(&connection).await?, revision, &contents.namespace);
        unnamed = changed.into_iter().filter(|change| default_tag.is_none() || !DefaultTag::is_named(change)).collect();
        ended.map_err(|stop| with_way_back(stop, &back, &unnamed))?;
    }
    let written = Cell::new(0);
    let installation = Installation {
        connection: &connection,
        revision,
        namespace: &contents.namespace,
        events: &events,
        deadline: Instant::now() + Duration::from_secs(args.timeout),
        back: &back,
        written: &written,
    };
    session.if_interrupted(installation.interrupted());
    let result = async {
        installation.run(&plan, &contents.own_injectors(revision), session).await?;
        if args.with.is_none() { installation.read_back(&contents).await } else { Ok(()) }
    };
    let result = result.await;
    match result {
        Ok(()) if !unnamed.is_empty() => {
            let program = installer.as_ref().map_or("a program", Installer::name);
            let reason = format!("revision {revision} is ready, and {program} has changed what is not of the revision");
            let advice = taking_back(&unnamed, back.command());
            Err(Stop::Partly(Refusal::new(reason, advice).with(unnamed.iter().map(told).collect())))
        }
        Ok(()) => {
            let tag = if default_tag.is_some() { "; the tag default points to it now" } else { "" };
            writeln!(session.terminal.err, "Revision {revision} is ready, beside what was here before{tag}.")?;
            session.tell_next(Command::mesh_tag("set TAG").flag("--revision", revision))?;
            Ok(Exit::Done)
        }
        Err(Unfinished { details }) => {
            let reason = format!(
                "revision {revision} is not ready ({} written in this run)",
                plural(written.get() as u64, "object was", "objects were")
            );
            Err(with_way_back(Stop::Partly(Refusal::new(reason, "").with(details)), &back, &unnamed))
        }
    }
}

/// How it goes on, or is taken back.
fn way_back(contents: &Contents, running: Option<&Revision>, revision: &str, is_by_program: bool) -> WayBack {
    let plane = running.and_then(|old| old.control_plane.as_ref());
    let elsewhere = plane.filter(|plane| plane.namespace != contents.namespace).map(|_| contents.namespace.clone());
    let definitions = contents.objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").count();
    WayBack {
        old: running.map(|old| old.name.clone()),
        new: revision.to_owned(),
        elsewhere,
        version: contents.version.as_ref().map_or_else(|| revision.to_owned(), ToString::to_string),
        shared: if is_by_program { Shared::Perhaps(definitions) } else { Shared::Written(Cell::new(0)) },
    }
}

/// What came to no end, with the way back and what was changed besides.
fn with_way_back(stop: Stop, back: &WayBack, unnamed: &[Change]) -> Stop {
    match stop {
        Stop::Partly(mut refusal) => {
            refusal.details.extend(unnamed.iter().map(told));
            refusal.advice = back.advice();
            Stop::Partly(refusal)
        }
        other => other,
    }
}

/// The findings of precheck that a start asks about.
const ASKED: [Code; 4] = [Code::CrdNewer, Code::Downgrade, Code::SkewMajor, Code::SkewTooFar];

/// The definitions among the manifests that are here of a newer release: a program would take them back.
async fn newer_definitions(connection: &Connection, contents: &Contents) -> Result<Vec<(String, Version)>, Stop> {
    let mut newer = Vec::new();
    for object in contents.objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let subject = Subject {
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        let here = read_object(connection, &subject).await?;
        let version = here.as_ref().and_then(|here| newer_than(here, contents.version.as_ref()));
        newer.extend(version.map(|version| (subject.to_string(), version)));
    }
    Ok(newer)
}

/// What precheck forbids of this step. What is ignored by name is no obstacle; but a program never takes definitions back.
fn forbidden(
    running: Option<&Revision>,
    contents: &Contents,
    newer: &[(String, Version)],
    by_program: bool,
    ignored: &Ignored,
    obstacles: &mut Vec<Obstacle>,
) {
    let ignoring = |code: Code| Advice::say(format!("the same command with --ignore-precheck {code} goes on all the same"));
    if let (Some(old), Some(to)) = (running, &contents.version)
        && let (Some(from), Some(plane)) = (old.version(), &old.control_plane)
        && let Err(TooFar { code, message }) = step(from, to, plane.platform.minors_at_once())
        && !ignored.contains(code)
    {
        obstacles.push(Obstacle::new(code.as_str(), format!("revision {} runs: {message}", old.name), ignoring(code)));
    }
    let Some(newest) = newer.iter().map(|(_, version)| version).max() else { return };
    if ignored.contains(Code::CrdNewer) && !by_program {
        return;
    }
    let count = plural(newer.len() as u64, "CustomResourceDefinition here is", "CustomResourceDefinitions here are");
    let reason = format!("{count} newer than these, the newest of Istio {newest}: they are shared, and never taken back");
    let advice = leave_definitions_out();
    let advice = if by_program {
        advice
    } else {
        advice
            .and_say("; ")
            .and(Advice::say(format!("or --ignore-precheck {} leaves those that are here as they are", Code::CrdNewer)))
    };
    obstacles.push(Obstacle::new(Code::CrdNewer.as_str(), reason, advice));
}

/// The manifests: those given, or those that the program would install.
async fn rendered(args: &StartArgs, installer: Option<&Installer>) -> Result<String, Stop> {
    match (&args.filename, installer) {
        (Some(path), _) => read_text(path),
        (None, Some(installer)) => installer.rendered().await,
        (None, None) => Err(Stop::Usage("give the manifests with -f, or a program with --with".to_owned())),
    }
}

fn refusal(revision: &str, obstacles: &[Obstacle]) -> Refusal {
    let reason = format!("revision {revision} is not started; nothing was changed");
    let obstacles = obstacles.iter().map(Obstacle::line).collect();
    Refusal::new(reason, "fix these, and render the manifests anew").with_obstacles(obstacles)
}

/// The revision that the mesh runs: the one with the most proxies, else the newest that is there.
fn running<'a>(survey: &'a Survey, revision: &str) -> Option<&'a Revision> {
    let others = survey.revisions.iter().filter(|other| other.name != revision && other.control_plane.is_some());
    others.max_by_key(|other| (other.proxies, other.version().cloned()))
}

/// What of the mesh itself is in the way.
fn around(survey: &Survey, contents: &Contents, revision: &str) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let deciding = [Resource::MutatingWebhookConfigurations, Resource::Namespaces, Resource::Services, Resource::Pods];
    for unread in survey.snapshot.unread.iter().filter(|unread| deciding.contains(&unread.resource)) {
        let reason = "they cannot be read, so whom the new revision would disturb is unknown";
        obstacles.push(Obstacle::new(unread.resource.plural(), reason, "--explain-rbac prints the rules that are needed"));
    }
    if let Some(why) = &survey.istiods_unread {
        obstacles.push(Obstacle::new("deployments of istiod", why.clone(), "--explain-rbac prints the rules that are needed"));
    }
    if survey.snapshot.tags().contains(&revision) {
        let reason = "a tag has this name: whoever follows it would follow two injectors";
        obstacles.push(Obstacle::new(
            format!("tag {revision}"),
            reason,
            "name the revision otherwise, such as by its version: 1-28-2",
        ));
    }
    for other in &survey.revisions {
        let Some(plane) = &other.control_plane else { continue };
        if let Way::Elsewhere(how) = plane.platform.way(Step::Start, &other.name) {
            let reason =
                format!("its control plane belongs to another owner ({}), who installs the next one too", plane.platform.name());
            obstacles.push(Obstacle::new(format!("revision {}", other.name), reason, how));
        }
    }
    if let Some(same) = survey.revisions.iter().find(|same| same.name == revision)
        && let Some(plane) = &same.control_plane
        && plane.version != contents.version
        && (same.proxies > 0 || same.is_ready())
    {
        let version = |version: &Option<Version>| version.as_ref().map_or("?".to_owned(), ToString::to_string);
        let reason = format!(
            "it runs here already, in version {}; {} would replace it in place",
            version(&plane.version),
            version(&contents.version)
        );
        obstacles.push(Obstacle::new(format!("revision {revision}"), reason, "give the new control plane a name of its own"));
    }
    obstacles.extend(another_version(contents, revision));
    obstacles.extend(overlaps(survey, contents, revision));
    obstacles
}

/// Gateways that name the revision already, as their namespaces, tags or the default validator do: its istiod makes them anew as soon
/// as it runs.
fn gateways(installed: &mesh::installation::Installation, contents: &Contents, revision: &str) -> Vec<Obstacle> {
    let unread = unread_of_gateways(installed, &[]);
    let unread = unread.into_iter().map(|line| {
        let reason = "which Gateways the new istiod would replace is not known";
        Obstacle::new(
            line,
            reason,
            "the same command with --accept-gateway-restart, or --explain-rbac prints the rules that are needed",
        )
    });
    let before = GatewayRevisions::of(installed);
    let after = before.clone().with_control_plane(revision, contents.version.clone());
    let replaced = before.handover(&after, &installed.gateways).check_consent().err();
    let replaced = replaced.map(|refusal| Obstacle::new(refusal.details.join(", "), refusal.reason, refusal.advice));
    unread.chain(replaced).collect()
}

/// A revision that is named by a version, as is usual, is not to hold another one.
fn another_version(contents: &Contents, revision: &str) -> Option<Obstacle> {
    let named: Version = revision.replace('-', ".").parse().ok()?;
    let found = contents
        .version
        .as_ref()
        .filter(|found| (found.major, found.minor, found.patch) != (named.major, named.minor, named.patch))?;
    let reason = format!("its name says {named}, and its istiod is {found}");
    Some(Obstacle::new(
        format!("revision {revision}"),
        reason,
        "render it with the program of that version, or name it otherwise",
    ))
}

/// Pods that two injectors would answer for. What an entry selects is read from its selectors.
fn overlaps(survey: &Survey, contents: &Contents, revision: &str) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let configurations = contents.objects.iter().filter(|object| object["kind"] == "MutatingWebhookConfiguration");
    for object in configurations {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let subject = format!("mutatingwebhookconfigurations/{name}");
        let configuration: WebhookConfiguration = match serde_json::from_value(object.clone()) {
            Ok(configuration) => configuration,
            Err(error) => {
                obstacles.push(Obstacle::new(subject, format!("it cannot be understood: {error}"), "render it anew"));
                continue;
            }
        };
        for injector in Injector::all_of(&configuration).iter().filter(|injector| !injector.is_deactivated()) {
            let others = survey.snapshot.injectors.iter().filter(|other| other.configuration != name && !other.is_deactivated());
            for other in others.filter(|other| injector.overlaps(other)) {
                let reason = format!(
                    "its entry {} would answer for pods that {} of {} answers for",
                    injector.entry, other.entry, other.configuration
                );
                let without = "without enableNamespacesByDefault or revisionTags";
                let advice = Advice::say(format!("render it with --set revision={revision} and {without}"));
                obstacles.push(Obstacle::new(subject.clone(), reason, advice));
            }
        }
    }
    obstacles
}

/// What is asked before anything is written; nothing when there is nothing to write.
fn question(args: &StartArgs, installer: Option<&Installer>, plan: &Plan) -> Option<String> {
    if let Some(installer) = installer {
        return Some(format!("Run {}?", installer.line()));
    }
    let count = plan.steps.iter().filter(|step| step.change.action() != Action::None).count();
    (count > 0).then(|| format!("Write {} of revision {}?", plural(count as u64, "object", "objects"), args.revision))
}
