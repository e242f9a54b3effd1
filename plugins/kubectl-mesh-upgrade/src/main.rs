//! `kubectl mesh-upgrade`: the canary upgrade of an Istio mesh, from precheck to removal.

mod args;
mod complete;
mod definition;
mod examples;
mod invocation;
mod lists;
mod mesh_config;
mod output;
mod plan;
mod precheck;
mod program;
mod restart;
mod revisions;
mod rollback;
mod selection;
mod start;
mod status;
mod support;
mod survey;
mod targets;
mod waves;

use std::process::ExitCode;

use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::invocation::parse;
use mesh::terminal::stop::{Stop, end};

use crate::args::{Args, Verb};
use crate::invocation::Invocation;

fn main() -> ExitCode {
    let (args, command): (Args, String) = parse(std::env::args_os(), "kubectl mesh-upgrade", examples::EXAMPLES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(args, command)).into(),
        Err(_) => Exit::Error.into(),
    }
}

async fn run(args: Args, command: String) -> Exit {
    let mut terminal = Terminal::from_environment(args.common.color);
    let invocation = Invocation { command: command.clone(), common: args.common };
    let result = dispatch(&invocation, args.verb, &mut terminal).await;
    end(result, &command, &mut terminal)
}

async fn dispatch(invocation: &Invocation, verb: Verb, terminal: &mut Terminal) -> Result<Exit, Stop> {
    match verb {
        Verb::Targets(args) => targets::run(invocation, &args, terminal).await,
        Verb::Precheck(args) => precheck::run(invocation, &args, terminal).await,
        Verb::Plan(args) => plan::run(invocation, &args, terminal).await,
        Verb::Start(args) => start::run(invocation, &args, terminal).await,
        Verb::Restart(args) => restart::run(invocation, &args, terminal).await,
        Verb::Complete(args) => complete::run(invocation, &args, terminal).await,
        Verb::Rollback(args) => rollback::run(invocation, &args, terminal).await,
        Verb::Status(args) => status::run(invocation, &args, terminal).await,
    }
}
