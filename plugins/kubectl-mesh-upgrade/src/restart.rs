//! `mesh-upgrade restart`.

use clap::Args;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;

use crate::args::Invocation;

/// Arguments of `restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {}

/// Runs it.
pub async fn run(_invocation: &Invocation, _args: &RestartArgs, _terminal: &mut Terminal) -> Result<Exit, Stop> {
    Err(Stop::Message("not built yet".to_owned()))
}
