//! `kubectl mesh-proxyver`: which proxies are stale, and why.

mod args;
mod command;
mod look;
mod render;
mod report;
mod run;
mod selection;

use std::process::ExitCode;

use mesh::terminal::exit::Exit;

fn main() -> ExitCode {
    let (args, command) = command::parse(std::env::args_os());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run::run(args, command)).into(),
        Err(_) => Exit::Error.into(),
    }
}
