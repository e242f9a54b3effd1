//! `mesh-tag set`, `undo` and `remove`.

use mesh::cluster::connection::Connection;
use mesh::cluster::users::{self, Leaving, Users};
use mesh::cluster::{Pods, Scope, Unobserved, look};
use mesh::execution::{self, Execution};
use mesh::finding::Code;
use mesh::installation::Installation;
use mesh::needs::Needs;
use mesh::session::{Session, VERSION};
use mesh::skew::{MINORS_AT_ONCE, TooFar, step};
use mesh::snapshot::Snapshot;
use mesh::tag::{RemoveRequest, SetRequest, plan_remove, plan_set, plan_undo, removed_tag, undo_removes};
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::writing::WritingArgs;
use mesh::uses::Departing;
use mesh::uses::clients::check_attendance;
use owo_colors::OwoColorize;

use crate::args::{RemoveArgs, SetArgs, UndoArgs};

/// The findings of precheck that a tag or a label asks about.
pub const ASKED: [Code; 2] = [Code::SkewMajor, Code::SkewTooFar];

/// Why whoever follows one revision is not to follow another at once. A way back is the user's own: it names its revision.
pub fn too_far(snapshot: &Snapshot, from: &str, to: &str) -> Option<TooFar> {
    let version = |revision: &str| snapshot.control_planes_of(revision).find_map(|control_plane| control_plane.version());
    step(&version(from)?, &version(to)?, MINORS_AT_ONCE).err().filter(|why| why.code != Code::Downgrade)
}

/// What `set` may ask for.
pub fn needs(writing: &WritingArgs, typed: &Scope) -> Needs {
    execution::needs(typed, writing.dry_run)
}

/// What `undo` may ask for. Where it takes back the move that made the tag, it removes it.
pub fn undo_needs(writing: &WritingArgs, typed: &Scope) -> Needs {
    needs(writing, typed).and(users::needs(typed))
}

/// What `remove` may ask for: everybody who uses the tag is looked for.
pub fn remove_needs(writing: &WritingArgs, typed: &Scope) -> Needs {
    execution::removal_needs(typed, writing.dry_run).and(users::needs(typed))
}

/// Makes or moves a tag.
pub async fn set(session: &mut Session, args: &SetArgs) -> Result<Exit, Stop> {
    let ignored = args.ignored.of(&ASKED)?;
    let connection = session.connect_for(args.writing.dry_run.into()).await?;
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let time = now();
    let request = SetRequest {
        tag: &args.tag,
        revision: &args.revision,
        from: args.from.as_deref(),
        may_overwrite: args.overwrite,
        may_restart_gateways: args.writing.accept_gateway_restart,
        istio_namespace: session.istio_namespace(),
        time: &time,
        version: VERSION,
    };
    let plan = plan_set(&sight.installation, &sight.census, &request)?;
    let snapshot = &sight.installation.snapshot;
    let far = plan.previous.as_deref().and_then(|from| too_far(snapshot, from, &args.revision));
    ignored.check("nothing was changed", far.map(|why| (format!("tag {}", args.tag), why)).into_iter().collect())?;
    let execution = Execution { writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, session).await
}

/// Takes the last move of a tag back.
pub async fn undo(session: &mut Session, args: &UndoArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(args.writing.dry_run.into()).await?;
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let time = now();
    let namespace = session.flags.istio_namespace.clone();
    let request = SetRequest {
        tag: &args.tag,
        revision: "",
        from: None,
        may_overwrite: true,
        may_restart_gateways: args.writing.accept_gateway_restart,
        istio_namespace: namespace.as_deref(),
        time: &time,
        version: VERSION,
    };
    let removal = RemoveRequest { tag: &args.tag, istio_namespace: namespace.as_deref() };
    if undo_removes(&sight.installation, &args.tag) {
        let users = users_of(&connection, removal).await?;
        let plan = plan_undo(&users.installation, &users.census, &request, Some(&users.uses))?;
        check_clients(session, &users, args.accept_unseen_clients).await?;
        return Execution { writing: &args.writing, installation: &users.installation }.run(&plan, session).await;
    }
    let plan = plan_undo(&sight.installation, &sight.census, &request, None)?;
    Execution { writing: &args.writing, installation: &sight.installation }.run(&plan, session).await
}

/// Removes a tag.
pub async fn remove(session: &mut Session, args: &RemoveArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(args.writing.dry_run.into()).await?;
    let namespace = session.flags.istio_namespace.clone();
    let request = RemoveRequest { tag: &args.tag, istio_namespace: namespace.as_deref() };
    let users = users_of(&connection, request).await?;
    let plan = plan_remove(&users.installation, &users.census, request, &users.uses)?;
    check_clients(session, &users, args.accept_unseen_clients).await?;
    Execution { writing: &args.writing, installation: &users.installation }.run(&plan, session).await
}

/// Who uses a tag that is to go.
async fn users_of(connection: &Connection, request: RemoveRequest<'_>) -> Result<Users, Stop> {
    let leaving = Leaving { what: Departing::Tag, name: request.tag };
    let namespace_of = |installation: &Installation| removed_tag(installation, request);
    Ok(Users::read(connection, request.istio_namespace, leaving, &Unobserved, namespace_of).await??)
}

/// Clients elsewhere may know the tag by its Service, and nothing here shows them.
async fn check_clients(session: &mut Session, users: &Users, is_accepted: bool) -> Result<(), Stop> {
    let signs = &users.uses.unseen.signs;
    if signs.is_empty() || is_accepted {
        return Ok(());
    }
    let connection = session.connect().await?;
    let note = check_attendance(&users.departure(), signs, users.ask_istiods(&connection).await)?;
    writeln!(session.terminal.err, "{} {note}", "note:".style(session.terminal.err_styles.warning))?;
    Ok(())
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}
