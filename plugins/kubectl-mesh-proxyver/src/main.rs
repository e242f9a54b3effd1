//! `kubectl mesh-proxyver`: which proxies are stale, and why.

mod args;
mod examples;
mod look;
mod render;
mod report;
mod run;
mod selection;

use std::process::ExitCode;

use mesh::session::{Plugin, entry};

fn main() -> ExitCode {
    entry(Plugin { name: "mesh-proxyver", examples: examples::EXAMPLES }, run::run)
}
