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

use mesh::session::{Plugin, Session, entry};
use mesh::terminal::exit::Exit;
use mesh::terminal::stop::Stop;

use crate::args::{Args, Verb};

fn main() -> ExitCode {
    entry(Plugin { name: "mesh-tag", examples: examples::EXAMPLES }, run)
}

async fn run(session: &mut Session, args: &Args) -> Result<Exit, Stop> {
    args.check()?;
    match &args.verb {
        None => list::run(session, &args.list).await,
        Some(Verb::List(list)) => list::run(session, list).await,
        Some(Verb::Describe(describe)) => describe::run(session, describe).await,
        Some(Verb::Set(set)) => set::set(session, set).await,
        Some(Verb::Undo(undo)) => set::undo(session, undo).await,
        Some(Verb::Remove(remove)) => set::remove(session, remove).await,
        Some(Verb::Generate(generate)) => generate::run(session, generate).await,
        Some(Verb::Attach(attach)) => attach::attach(session, attach).await,
        Some(Verb::Detach(detach)) => attach::detach(session, detach).await,
    }
}
