//! `kubectl mesh-tag`: revision tags that cannot hurt, and namespaces that follow them.

mod args;
mod attach;
mod cluster_tags;
mod describe;
mod examples;
mod generate;
mod list;
mod render;
mod set;

use std::process::ExitCode;

use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::invocation::parse;
use mesh::terminal::stop::{Stop, end};

use crate::args::{Args, Verb};

/// For the API server's log.
const USER_AGENT: &str = concat!("kubectl-mesh_tag/", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    let (args, command): (Args, String) = parse(std::env::args_os(), "kubectl mesh-tag", examples::EXAMPLES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(args, command)).into(),
        Err(_) => Exit::Error.into(),
    }
}

async fn run(args: Args, command: String) -> Exit {
    let mut terminal = Terminal::from_environment(args.common.color);
    let result = dispatch(&args, &mut terminal).await;
    end(result, &command, &mut terminal)
}

async fn dispatch(args: &Args, terminal: &mut Terminal) -> Result<Exit, Stop> {
    let common = &args.common;
    match &args.verb {
        None => list::run(common, &args.list, terminal).await,
        Some(_) if !args.list.is_default() => {
            Err(Stop::Usage("-o and --no-stale before the verb belong to list: put them behind the verb".to_owned()))
        }
        Some(Verb::List(list)) => list::run(common, list, terminal).await,
        Some(Verb::Describe(describe)) => describe::run(common, describe, terminal).await,
        Some(Verb::Set(set)) => set::set(common, set, terminal).await,
        Some(Verb::Undo(undo)) => set::undo(common, undo, terminal).await,
        Some(Verb::Remove(remove)) => set::remove(common, remove, terminal).await,
        Some(Verb::Generate(generate)) => generate::run(common, generate, terminal).await,
        Some(Verb::Attach(attach)) => attach::attach(common, attach, terminal).await,
        Some(Verb::Detach(detach)) => attach::detach(common, detach, terminal).await,
    }
}
