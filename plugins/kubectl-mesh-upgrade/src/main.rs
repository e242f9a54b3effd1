//! `kubectl mesh-upgrade`: the canary upgrade of an Istio mesh, from precheck to removal.

mod args;
mod complete;
mod definition;
mod disruption;
mod downgrade;
mod examples;
mod lists;
mod mesh_config;
mod output;
mod partly;
mod plan;
mod precheck;
mod program;
mod restart;
mod revisions;
mod rollback;
mod rolling_update;
mod selection;
mod start;
mod status;
mod support;
mod survey;
mod targets;
mod waves;

use std::process::ExitCode;

use mesh::session::{Plugin, Session, entry};
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;

use crate::args::{Args, Verb};

fn main() -> ExitCode {
    entry(Plugin { name: "mesh-upgrade", examples: examples::EXAMPLES }, run)
}

async fn run(session: &mut Session, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        Verb::Targets(args) => targets::run(session, args).await,
        Verb::Precheck(args) => precheck::run(session, args).await,
        Verb::Plan(args) => plan::run(session, args).await,
        Verb::Start(args) => start::run(session, args).await,
        Verb::Restart(args) => restart::run(session, args).await,
        Verb::Complete(args) => complete::run(session, args).await,
        Verb::Rollback(args) => rollback::run(session, args).await,
        Verb::Status(args) => status::run(session, args).await,
    }
}
