//! `mesh-tag describe`.

use mesh::advice::Command;
use mesh::cluster::read::look_needs;
use mesh::cluster::{Pods, Scope, Sight, look};
use mesh::finding::Finding;
use mesh::needs::Needs;
use mesh::object::Resource;
use mesh::refusal::Refusal;
use mesh::session::{Session, VERSION};
use mesh::tag::{Effect, Entry, EntryKind, Move, SetRequest, history, listing, plan_set};
use mesh::terminal::Terminal;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::document::{write_json, write_yaml};
use mesh::terminal::exit::Exit;
use mesh::terminal::findings;
use mesh::terminal::stop::Stop;
use mesh::terminal::words::plural;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use crate::args::{DescribeArgs, Output};
use crate::render::{self, Columns};

/// Everything that is known of one tag.
struct Description {
    entry: Entry,
    history: Vec<Move>,
    moves: Vec<PossibleMove>,
    /// Its faults, and what could not be read.
    findings: Vec<Finding>,
}

/// What a move to one revision would do.
struct PossibleMove {
    revision: String,
    version: Option<String>,
    /// The effect, and what would be written: or why it would be refused.
    outcome: Result<(Effect, Vec<String>), Refusal>,
}

/// What it may ask for.
pub fn needs(typed: &Scope) -> Needs {
    look_needs(typed)
}

/// Describes a tag or an untagged revision.
pub async fn run(session: &mut Session, args: &DescribeArgs) -> Result<Exit, Stop> {
    let connection = session.connect().await?;
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let description = describe(session, args, &sight)?;
    match args.output {
        Output::Json => write_json(&document(&description, &session.advisor()), &mut session.terminal.out)?,
        Output::Yaml => write_yaml(&document(&description, &session.advisor()), &mut session.terminal.out)?,
        Output::Name => writeln!(session.terminal.out, "{}", description.entry.name)?,
        Output::Table | Output::Wide => text(&description, &mut session.terminal)?,
    }
    session.terminal.flush()?;
    findings::write(description.findings.iter().map(|finding| (None, finding)), session.flags.v, &mut session.terminal)?;
    Ok(Exit::Done)
}

fn describe(session: &Session, args: &DescribeArgs, sight: &Sight) -> Result<Description, Stop> {
    let snapshot = &sight.installation.snapshot;
    if let Some(unread) = snapshot.unread(Resource::MutatingWebhookConfigurations, "") {
        let reason = format!("{} could not be read, so nothing is known of any tag", unread.resource);
        return Err(Refusal::new(reason, "--explain-rbac prints what this command needs").into());
    }
    let entries = listing(&sight.installation, &sight.census);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let Some(entry) = entries.iter().find(|entry| entry.name == args.tag) else {
        let reason = format!(
            "there is no tag {}; there are {}",
            args.tag,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        return Err(Refusal::not_found(reason, Command::mesh_tag("list")).into());
    };
    let webhook = sight.installation.tag_webhooks(&args.tag).next();
    let is_tag = entry.kind == EntryKind::Tag;
    let revisions = snapshot.revisions();
    let others = revisions.into_iter().filter(|revision| is_tag && entry.revision.as_deref() != Some(revision));
    Ok(Description {
        history: webhook.map(history).unwrap_or_default(),
        moves: others.map(|revision| possible_move(session, sight, &args.tag, revision)).collect(),
        findings: entry.faults.iter().map(|fault| fault.finding()).chain(snapshot.unread_findings().cloned()).collect(),
        entry: entry.clone(),
    })
}

/// Plans the move as `set` would, with nothing in its way but what is unsafe.
fn possible_move(session: &Session, sight: &Sight, tag: &str, revision: &str) -> PossibleMove {
    let request = SetRequest {
        tag,
        revision,
        from: None,
        may_overwrite: true,
        may_restart_gateways: true,
        istio_namespace: session.istio_namespace(),
        time: "1970-01-01T00:00:00Z",
        version: VERSION,
    };
    let outcome = plan_set(&sight.installation, &sight.census, &request).map(|plan| {
        let writes = plan.changes.iter().map(|change| format!("{} {}", change.action().as_str(), change.subject)).collect();
        (plan.effect, writes)
    });
    let mut control_planes = sight.installation.snapshot.control_planes_of(revision);
    let version = control_planes.find_map(|control_plane| control_plane.version()).map(|version| version.to_string());
    PossibleMove { revision: revision.to_owned(), version, outcome }
}

fn text(description: &Description, terminal: &mut Terminal) -> Result<(), Stop> {
    let Description { entry, history, moves, findings: _ } = description;
    let heading = terminal.out_styles.heading;
    let out = &mut terminal.out;
    let mut field =
        |name: &str, value: &str| writeln!(out, "{} {value}", format_args!("{:<12}", format!("{name}:")).style(heading));
    field("Name", &entry.name)?;
    field("Kind", if entry.kind == EntryKind::Tag { "tag" } else { "revision" })?;
    let version = entry.version.as_ref().map_or(String::new(), |version| format!(" (Istio {version})"));
    field("Revision", &format!("{}{version}", entry.revision.as_deref().unwrap_or("none")))?;
    field("Ready", render::readiness_text(entry.readiness))?;
    field("Webhook", &or_none(&entry.webhooks.join(", ")))?;
    field("Service", &or_none(&entry.services.join(", ")))?;
    field("Owner", &entry.owner.to_string())?;
    field("Followers", &render::followers_text(&entry.followers))?;
    for namespace in &entry.followers.namespaces {
        writeln!(terminal.out, "  namespaces/{namespace}{}", in_namespace(entry, namespace))?;
    }
    for (workload, pods) in &entry.followers.pods {
        let pods = plural(u64::from(*pods), "pod", "pods");
        writeln!(terminal.out, "  {} -n {} by label, {pods}", workload.qualified_name(), workload.namespace)?;
    }
    for (namespace, name) in entry.followers.gateways.iter().chain(&entry.followers.unnamed_gateways) {
        writeln!(terminal.out, "  gateways/{name} -n {namespace}")?;
    }
    writeln!(
        terminal.out,
        "{} {}/{}",
        format_args!("{:<12}", "Stale:").style(heading),
        entry.stale_count(),
        entry.followers.proxy_count()
    )?;
    if !history.is_empty() {
        writeln!(terminal.out, "{}", "History:".style(heading))?;
    }
    for one in history.iter().rev() {
        let from = one.from.as_deref().map_or("made".to_owned(), |from| format!("moved away from {from}"));
        writeln!(terminal.out, "  {} {from} (by version {})", one.time, one.version)?;
    }
    for possible in moves {
        let version = possible.version.as_ref().map_or(String::new(), |version| format!(" (Istio {version})"));
        writeln!(terminal.out, "{} {}{version}", "A move to revision".style(heading), possible.revision)?;
        match &possible.outcome {
            Ok((effect, writes)) => {
                let lines = effect.lines();
                let nobody = "nobody is affected".to_owned();
                for line in if lines.is_empty() { vec![nobody] } else { lines } {
                    writeln!(terminal.out, "  {line}")?;
                }
                for write in writes {
                    writeln!(terminal.out, "  would {write}")?;
                }
            }
            Err(refusal) => {
                writeln!(terminal.out, "  would be refused: {}", refusal.reason)?;
                for detail in &refusal.details {
                    writeln!(terminal.out, "    {detail}")?;
                }
            }
        }
    }
    Ok(())
}

/// How many workloads and proxies of a namespace follow.
fn in_namespace(entry: &Entry, namespace: &str) -> String {
    let here = || entry.followers.proxies.iter().filter(|proxies| &*proxies.workload.namespace == namespace);
    let mut workloads: Vec<_> = here().map(|proxies| &proxies.workload).collect();
    workloads.dedup();
    let proxies: u32 = here().map(|proxies| proxies.pods).sum();
    if proxies == 0 {
        return String::new();
    }
    let workloads = plural(workloads.len() as u64, "workload", "workloads");
    format!(": {workloads}, {}", plural(u64::from(proxies), "proxy", "proxies"))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

fn document(description: &Description, advisor: &Advisor) -> Value {
    let columns = Columns { with_cluster: false, with_stale: true, wide: true };
    let mut value = render::entry(&description.entry, columns);
    value["history"] = description.history.iter().map(|one| json!(one)).collect();
    value["moves"] = description.moves.iter().map(|possible| possible_document(possible, advisor)).collect();
    value["findings"] = description.findings.iter().map(|finding| findings::document(finding, advisor)).collect();
    let kind = value["kind"].take();
    value["of"] = kind;
    value["apiVersion"] = "kubectl-mesh/v1".into();
    value["kind"] = "TagDescription".into();
    value
}

fn possible_document(possible: &PossibleMove, advisor: &Advisor) -> Value {
    let mut value = json!({"revision": possible.revision, "version": possible.version});
    match &possible.outcome {
        Ok((effect, writes)) => {
            value["effect"] = json!({
                "namespaces": effect.namespaces, "workloads": effect.workloads, "proxies": effect.proxies,
                "staleAfter": effect.stale_after, "gatewaysReplaced": effect.gateways,
            });
            value["writes"] = json!(writes);
        }
        Err(refusal) => {
            value["refused"] =
                json!({"reason": refusal.reason, "details": refusal.details, "advice": advisor.text(&refusal.advice)})
        }
    }
    value
}
