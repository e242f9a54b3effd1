//! The command line's examples, which stand behind its help.

/// Examples and exit codes.
pub const EXAMPLES: &str = "\
Examples:
  # Every tag: where it points, who follows, what is wrong
  {name}

  # A stable name for a revision, and namespaces that follow it
  {name} set prod-stable --revision 1-26-0
  {name} attach prod-stable shop pay

  # What would a move do; then the move, if nobody was faster
  {name} describe prod-stable
  {name} set prod-stable --revision 1-28-2 --from 1-26-0

  # Back to where it was
  {name} undo prod-stable

  # The objects for Git, from the cluster or from a file
  {name} generate prod-stable --revision 1-28-2 > tag.yaml

  # All namespaces of a team, as kubectl prints them
  kubectl get namespaces -l team=shop -o name | {name} attach prod-stable -

Exit codes:
  0  done, or nothing to do            4  refused: unsafe, or not known to be safe
  1  error                             5  partly done; the same command continues
  2  wrong usage                       130  interrupted; as 5
  3  a tag has a fault, with list --exit-code";
