//! What was typed: the verb, and what every verb shares.

use clap::{Parser, Subcommand};
use mesh::cluster::connection::Connection;
use mesh::terminal::flags::CommonArgs;
use mesh::terminal::stop::Stop;

use crate::{complete, plan, precheck, restart, rollback, start, status, targets};

/// Upgrade an Istio mesh by canary, one safe step at a time
///
/// Each verb is one step. All state is in the cluster: any step can be interrupted and run again.
#[derive(Debug, Parser)]
#[command(disable_version_flag = false, version)]
pub struct Args {
    /// The step.
    #[command(subcommand)]
    pub verb: Verb,

    /// What every plugin has.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The steps.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show which revisions are here and which may come next
    Targets(targets::TargetsArgs),
    /// Find out whether it is safe to begin
    Precheck(precheck::PrecheckArgs),
    /// Install the new control plane beside the old one, and prove that it injects
    Start(start::StartArgs),
    /// Write the waves of a restart to a file for review
    Plan(plan::PlanArgs),
    /// Restart what is stale, in waves, and prove each result
    Restart(restart::RestartArgs),
    /// Show how far the upgrade is, and what is left
    Status(status::StatusArgs),
    /// Remove an old revision once nothing uses it
    Complete(complete::CompleteArgs),
    /// Go back to an older revision
    Rollback(rollback::RollbackArgs),
}

/// The command as it was called.
#[derive(Debug)]
pub struct Invocation {
    /// Its name as typed: `kubectl mesh-upgrade`.
    pub command: String,
    /// The flags of every verb.
    pub common: CommonArgs,
}

impl Invocation {
    /// Connects to the one cluster that a step is about.
    ///
    /// # Errors
    /// [`Stop::Usage`] when several contexts were given: a step changes one cluster at a time.
    pub async fn connect(&self) -> Result<Connection, Stop> {
        let contexts = self.common.connection.contexts();
        let [context] = &contexts[..] else {
            return Err(Stop::Usage("this step looks at one cluster at a time: give one --context".to_owned()));
        };
        let agent = concat!("kubectl-mesh_upgrade/", env!("CARGO_PKG_VERSION"));
        Ok(self.common.connection.connect(context.as_deref(), agent).await?)
    }
}
