//! `mesh-tag set`, `undo` and `remove`.

use mesh::cluster::connection::Connection;
use mesh::cluster::users::{self, Users, ask_istiods};
use mesh::cluster::{Pods, Scope, look};
use mesh::execution::{self, Execution};
use mesh::installation::Installation;
use mesh::needs::Needs;
use mesh::session::{Session, VERSION};
use mesh::tag::{RemoveRequest, SetRequest, plan_remove, plan_set, plan_undo, removed_tag, undo_removes};
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::writing::WritingArgs;
use mesh::uses::clients::check_attendance;
use mesh::uses::{Departing, Departure, Uses, uses};
use owo_colors::OwoColorize;

use crate::args::{RemoveArgs, SetArgs, UndoArgs};

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
    let users = match undo_removes(&sight.installation, &args.tag) {
        true => Some(users_of(&connection, &sight.installation, removal).await?),
        false => None,
    };
    let plan = plan_undo(&sight.installation, &sight.census, &request, users.as_ref().map(|users| &users.uses))?;
    if let Some(users) = &users {
        users.check_clients(session, &sight.installation, args.accept_unseen_clients).await?;
    }
    let execution = Execution { writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, session).await
}

/// Removes a tag.
pub async fn remove(session: &mut Session, args: &RemoveArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(args.writing.dry_run.into()).await?;
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let namespace = session.flags.istio_namespace.clone();
    let request = RemoveRequest { tag: &args.tag, istio_namespace: namespace.as_deref() };
    let users = users_of(&connection, &sight.installation, request).await?;
    let plan = plan_remove(&sight.installation, &sight.census, request, &users.uses)?;
    users.check_clients(session, &sight.installation, args.accept_unseen_clients).await?;
    let execution = Execution { writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, session).await
}

/// Who uses a tag that is to go.
struct TagUsers<'a> {
    read: Users,
    uses: Uses,
    tag: &'a str,
    namespace: String,
}

async fn users_of<'a>(
    connection: &Connection,
    installation: &Installation,
    request: RemoveRequest<'a>,
) -> Result<TagUsers<'a>, Stop> {
    let namespace = removed_tag(installation, request)?;
    let departure = Departure { what: Departing::Tag, name: request.tag, namespace: &namespace };
    let read = Users::read(connection, request.istio_namespace, installation, &departure).await?;
    let uses = uses(&read.evidence(installation), &departure);
    Ok(TagUsers { read, uses, tag: request.tag, namespace })
}

impl TagUsers<'_> {
    /// Clients elsewhere may know the tag by its Service, and nothing here shows them.
    async fn check_clients(&self, session: &mut Session, installation: &Installation, is_accepted: bool) -> Result<(), Stop> {
        let signs = &self.uses.unseen.signs;
        if signs.is_empty() || is_accepted {
            return Ok(());
        }
        let connection = session.connect().await?;
        let departure = Departure { what: Departing::Tag, name: self.tag, namespace: &self.namespace };
        let attendance = ask_istiods(&connection, &self.read.evidence(installation), &departure).await;
        let note = check_attendance(&departure, signs, attendance)?;
        writeln!(session.terminal.err, "{} {note}", "note:".style(session.terminal.err_styles.warning))?;
        Ok(())
    }
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}
