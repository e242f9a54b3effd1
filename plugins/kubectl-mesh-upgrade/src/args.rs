//! What was typed: the verb, and what every verb shares.

use clap::{Parser, Subcommand};
use mesh::cluster::Scope;
use mesh::needs::Needs;
use mesh::session::Arguments;
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

impl Arguments for Args {
    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn verb(&self) -> &'static str {
        match self.verb {
            Verb::Targets(_) => "targets",
            Verb::Precheck(_) => "precheck",
            Verb::Start(_) => "start",
            Verb::Plan(_) => "plan",
            Verb::Restart(_) => "restart",
            Verb::Status(_) => "status",
            Verb::Complete(_) => "complete",
            Verb::Rollback(_) => "rollback",
        }
    }

    fn needs(&self, typed: &Scope) -> Result<Needs, Stop> {
        Ok(match &self.verb {
            Verb::Targets(_) => targets::needs(typed),
            Verb::Precheck(_) => precheck::needs(typed),
            Verb::Start(args) => start::needs(args, typed)?,
            Verb::Plan(args) => plan::needs(args, typed),
            Verb::Restart(args) => restart::needs(args, typed)?,
            Verb::Status(args) => status::needs(args, typed),
            Verb::Complete(args) => complete::needs(args, typed),
            Verb::Rollback(args) => rollback::needs(args, typed),
        })
    }
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
    /// Write the waves of a restart into a file that can be reviewed
    Plan(plan::PlanArgs),
    /// Restart what is stale, in waves, and prove each result
    Restart(restart::RestartArgs),
    /// Show how far the upgrade is, and what is left
    Status(status::StatusArgs),
    /// Remove a revision once nothing uses it
    Complete(complete::CompleteArgs),
    /// Go back: tags, labels and workloads to a revision that is still here
    Rollback(rollback::RollbackArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        mesh::terminal::invocation::command::<Args>("kubectl mesh-upgrade", crate::examples::EXAMPLES).debug_assert();
    }
}
