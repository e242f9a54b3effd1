//! `mesh-tag set`, `undo` and `remove`.

use mesh::cluster::access::{manifest, tag_permissions};
use mesh::cluster::{Pods, look};
use mesh::execution::Execution;
use mesh::tag::{RemoveRequest, SetRequest, plan_remove, plan_set, plan_undo};
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;

use crate::args::{RemoveArgs, SetArgs, UndoArgs};

use crate::USER_AGENT;

/// The plugin's version, which the history of a tag notes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes or moves a tag.
pub async fn set(common: &CommonArgs, args: &SetArgs, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if common.explain_rbac {
        return explain_rbac(common, "mesh-tag-set", terminal);
    }
    let connection = common.connect(USER_AGENT).await?;
    let sight = look(&connection, common.istio_namespace.as_deref(), Pods::All).await?;
    let time = now();
    let request = SetRequest {
        tag: &args.tag,
        revision: &args.revision,
        from: args.from.as_deref(),
        may_overwrite: args.overwrite,
        may_restart_gateways: args.writing.accept_gateway_restart,
        istio_namespace: common.istio_namespace.as_deref(),
        time: &time,
        version: VERSION,
    };
    let plan = plan_set(&sight.installation, &sight.census, &request)?;
    let execution = Execution { connection: &connection, common, writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, terminal).await
}

/// Takes the last move of a tag back.
pub async fn undo(common: &CommonArgs, args: &UndoArgs, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if common.explain_rbac {
        return explain_rbac(common, "mesh-tag-undo", terminal);
    }
    let connection = common.connect(USER_AGENT).await?;
    let sight = look(&connection, common.istio_namespace.as_deref(), Pods::All).await?;
    let time = now();
    let request = SetRequest {
        tag: &args.tag,
        revision: "",
        from: None,
        may_overwrite: true,
        may_restart_gateways: args.writing.accept_gateway_restart,
        istio_namespace: common.istio_namespace.as_deref(),
        time: &time,
        version: VERSION,
    };
    let plan = plan_undo(&sight.installation, &sight.census, &request)?;
    let execution = Execution { connection: &connection, common, writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, terminal).await
}

/// Removes a tag.
pub async fn remove(common: &CommonArgs, args: &RemoveArgs, terminal: &mut Terminal) -> Result<Exit, Stop> {
    if common.explain_rbac {
        return explain_rbac(common, "mesh-tag-remove", terminal);
    }
    let connection = common.connect(USER_AGENT).await?;
    let sight = look(&connection, common.istio_namespace.as_deref(), Pods::All).await?;
    let request = RemoveRequest { tag: &args.tag, istio_namespace: common.istio_namespace.as_deref() };
    let plan = plan_remove(&sight.installation, &sight.census, request)?;
    let execution = Execution { connection: &connection, common, writing: &args.writing, installation: &sight.installation };
    execution.run(&plan, terminal).await
}

fn explain_rbac(common: &CommonArgs, name: &str, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let rules = manifest(&tag_permissions(common.istio_namespace.as_deref()), name);
    terminal.out.write_all(rules.as_bytes())?;
    Ok(Exit::Done)
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}
