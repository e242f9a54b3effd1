//! What `complete` prints: who uses the revision, what goes, and why it does not.

use mesh::advice::{Advice, Command};
use mesh::refusal::Refusal;
use mesh::session::Session;
use mesh::terminal::Terminal;
use mesh::terminal::advisor::Advisor;
use mesh::terminal::stop::Stop;
use mesh::terminal::uses::lines as lines_of_use;
use mesh::terminal::words::plural;
use mesh::uses::{Use, UseKind, Uses};
use serde_json::{Value, json};

use super::CompleteArgs;
use super::removal::Removal;
use super::sight::Sight;
use crate::output::write_json;

/// Anything that uses it, or may, forbids its removal.
///
/// # Errors
/// A [`Refusal`] that names all of it.
pub fn check_uses(uses: &Uses, args: &CompleteArgs, advisor: &Advisor) -> Result<(), Refusal> {
    let revision = &args.remove;
    let unknown = uses.unknown.iter().map(|why| format!("unknown: {why}"));
    let (proxies, others): (Vec<&Use>, Vec<&Use>) =
        uses.found.iter().partition(|found| matches!(found.kind, UseKind::Proxies(_)));
    let is_abandoned = args.abandon == Some(uses.proxies()) && uses.proxies() > 0;
    if others.is_empty() && uses.unknown.is_empty() && (proxies.is_empty() || is_abandoned) {
        return match args.abandon {
            Some(number) if proxies.is_empty() && number > 0 => Err(Refusal::new(
                format!("no proxy runs revision {revision}, so {number} cannot be abandoned"),
                Command::mesh_upgrade("complete").flag("--remove", revision),
            )),
            _ => Ok(()),
        };
    }
    let counted = proxies.iter().filter(|_| !is_abandoned);
    let mut details: Vec<String> = counted.chain(&others).flat_map(|found| lines_of_use(found, advisor)).collect();
    details.extend(unknown);
    let reason = match (args.abandon, uses.proxies()) {
        (Some(number), count) if !proxies.is_empty() && !is_abandoned => {
            let workloads = plural(proxies.len() as u64, "workload", "workloads");
            let count = plural(u64::from(count), "proxy runs", "proxies run");
            format!("--abandon {number} does not match: {count} revision {revision} ({workloads})")
        }
        _ if uses.found.is_empty() => format!("whether revision {revision} is used is not known"),
        _ => {
            format!("revision {revision} is used by {}", uses.summary())
        }
    };
    let advice = if others.is_empty() && uses.unknown.is_empty() {
        Advice::run(Command::mesh_upgrade("restart -A")).and_say(format!(", or cut them off with --abandon {}", uses.proxies()))
    } else {
        "fix each, then the same command".into()
    };
    Err(Refusal::new(reason, advice).with(details))
}

/// What goes, a line each.
pub fn lines(removal: &Removal, advisor: &Advisor) -> Vec<String> {
    match removal {
        Removal::Helm { release, namespace, .. } => {
            let uninstall = Command::helm("uninstall").value(release).flag("--namespace", namespace);
            vec![advisor.command(&uninstall)]
        }
        Removal::Objects(changes) => changes.iter().map(|change| format!("delete {}", change.subject)).collect(),
    }
}

/// Shows what goes, a line each.
///
/// # Errors
/// When it cannot be written.
pub fn announce(args: &CompleteArgs, removal: &Removal, terminal: &mut Terminal) -> Result<(), Stop> {
    if args.output.is_some() {
        return Ok(());
    }
    for line in lines(removal, &terminal.advisor) {
        writeln!(terminal.out, "{line}{}", args.dry_run.suffix())?;
    }
    terminal.flush()?;
    Ok(())
}

/// Prints everything as one document, where that was asked for.
///
/// # Errors
/// When it cannot be written.
pub fn print(session: &mut Session, args: &CompleteArgs, sight: &Sight, removal: &Removal) -> Result<(), Stop> {
    if args.output.is_none() {
        return Ok(());
    }
    let advisor = &session.terminal.advisor;
    let found = sight.users.uses.found.iter().map(|found| {
        let advice = advisor.text(&found.advice);
        json!({"kind": found.kind.as_str(), "subject": found.subject, "message": found.message, "advice": advice})
    });
    let items: Vec<Value> = match removal {
        Removal::Helm { release, namespace, .. } => vec![json!({"release": release, "namespace": namespace})],
        Removal::Objects(changes) => changes
            .iter()
            .map(|change| {
                let subject = &change.subject;
                json!({"apiVersion": subject.api_version, "kind": subject.kind, "namespace": subject.namespace, "name": subject.name})
            })
            .collect(),
    };
    let document = json!({
        "apiVersion": "kubectl-mesh/v1", "kind": "RemovalPlan", "revision": args.remove, "proxies": sight.users.uses.proxies(),
        "uses": found.collect::<Vec<_>>(), "unknown": sight.users.uses.unknown, "unseenClients": sight.users.uses.unseen.signs,
        "notes": [], "items": items,
    });
    write_json(&document, &mut session.terminal.out)?;
    session.terminal.flush()?;
    Ok(())
}
