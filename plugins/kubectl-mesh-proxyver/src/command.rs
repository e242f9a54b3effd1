//! The command line: its name as typed, its help, its examples.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};
use mesh::terminal::invocation::command_name;

use crate::args::Args;

const EXAMPLES: &str = "\
Examples:
  # What runs and what is wanted, in the context's namespace
  {name}

  # What is stale anywhere, and restart it
  {name} -A --stale
  {name} -A --stale -o refs | kubectl rollout restart -f -

  # One workload, with images, injector and advice
  {name} deployment/web -n shop -o wide

  # How far an upgrade is, by version that runs
  {name} -A --by version

  # Let the API server itself say what the doubtful ones would get
  {name} -A --state unknown --probe

  # Fail a pipeline while anything is stale
  {name} -A --stale --exit-code

  # Keep what was seen, and look at it elsewhere
  {name} -A --save mesh.json
  {name} -f mesh.json

States, the most urgent first:
  orphaned  stale, and its own control plane is gone
  stale     runs something else than a new pod would
  blocked   would change, but nobody can bring a new pod safely
  unknown   cannot be decided; never counts as safe
  leaving   has a proxy and would get none
  missing   has no proxy and would get one
  pinned    fixed by its own annotation or template
  current   runs what it would get

Exit codes:
  0  done, or nothing to report        3  found something, with --exit-code
  1  error                             130  interrupted
  2  wrong usage";

/// Parses the process's arguments; wrong usage, `--help` and `--version` end the process.
///
/// Gives the arguments and the command's name as it was typed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> (Args, String) {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = arguments.first().map_or_else(|| "kubectl mesh-proxyver".to_owned(), |argument| command_name(argument));
    let mut command = command(&name);
    let matches = command.clone().get_matches_from(arguments);
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    (args, name)
}

/// The command under the name by which it was called.
fn command(name: &str) -> clap::Command {
    // clap wants the names for as long as the process lives, and there is one command a process.
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    Args::command().name(name).bin_name(name).styles(clap::builder::Styles::plain()).after_help(EXAMPLES.replace("{name}", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command("kubectl mesh-proxyver").debug_assert();
    }
}
