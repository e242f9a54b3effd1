//! The command line's examples, which stand behind its help.

/// Examples, states and exit codes.
pub const EXAMPLES: &str = "\
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        mesh::terminal::invocation::command::<crate::args::Args>("kubectl mesh-proxyver", EXAMPLES).debug_assert();
    }
}
