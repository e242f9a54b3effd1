//! `kubectl mesh-proxyver`: which proxies are stale, and why.

mod args;
mod examples;
mod look;
mod render;
mod report;
mod run;
mod selection;

use std::process::ExitCode;

use mesh::terminal::exit::Exit;
use mesh::terminal::invocation::parse;

fn main() -> ExitCode {
    let (args, command) = parse(std::env::args_os(), "kubectl mesh-proxyver", examples::EXAMPLES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run::run(args, command)).into(),
        Err(_) => Exit::Error.into(),
    }
}
