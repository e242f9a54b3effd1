//! `mesh-tag set`, `undo` and `remove`.

use mesh::cluster::{Pods, Scope, look};
use mesh::execution::{self, Execution};
use mesh::needs::Needs;
use mesh::session::{Session, VERSION};
use mesh::tag::{RemoveRequest, SetRequest, plan_remove, plan_set, plan_undo};
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;
use mesh::terminal::writing::WritingArgs;

use crate::args::{RemoveArgs, SetArgs, UndoArgs};

/// What each of them may ask for.
pub fn needs(writing: &WritingArgs, typed: &Scope) -> Needs {
    execution::needs(typed, writing.dry_run)
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
    let request = SetRequest {
        tag: &args.tag,
        revision: "",
        from: None,
        may_overwrite: true,
        may_restart_gateways: args.writing.accept_gateway_restart,
        istio_namespace: session.istio_namespace(),
        time: &time,
        version: VERSION,
    };
    let plan = plan_undo(&sight.installation, &sight.census, &request)?;
    let execution = Execution { writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, session).await
}

/// Removes a tag.
pub async fn remove(session: &mut Session, args: &RemoveArgs) -> Result<Exit, Stop> {
    let connection = session.connect_for(args.writing.dry_run.into()).await?;
    let sight = look(&connection, session.istio_namespace(), Pods::All).await?;
    let request = RemoveRequest { tag: &args.tag, istio_namespace: session.istio_namespace() };
    let plan = plan_remove(&sight.installation, &sight.census, request)?;
    let execution = Execution { writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, session).await
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}
