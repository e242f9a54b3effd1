//! `mesh-upgrade status`.

use clap::Args;
use mesh::terminal::Terminal;
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;

use crate::args::Invocation;

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {}

/// Runs it.
pub async fn run(_invocation: &Invocation, _args: &StatusArgs, _terminal: &mut Terminal) -> Result<Exit, Stop> {
    Err(Stop::Message("not built yet".to_owned()))
}
