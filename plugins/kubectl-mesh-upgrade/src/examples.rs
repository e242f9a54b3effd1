//! The command line's examples, which stand behind its help.

/// The flow of a whole upgrade, and the exit codes.
pub const EXAMPLES: &str = "\
Examples:
  # Which revisions are here, which may come next, and is it safe to begin
  {name} targets
  {name} precheck --to 1-28-2

  # The new control plane beside the old one
  istioctl manifest generate --set revision=1-28-2 | {name} start --revision 1-28-2 -f -

  # Restart what is stale in one namespace, in waves, verified
  {name} restart -n shop

  # How far is it
  {name} status -w

  # Remove the old revision once nothing uses it, or go back before that
  {name} complete --remove 1-26-0
  {name} rollback --to 1-26-0

Exit codes:
  0  done, or nothing to report        4  refused: unsafe, or not known to be safe
  1  error                             5  partly done; the same command continues
  2  wrong usage                       130  interrupted; as 5
  3  found something, with --exit-code";
