//! The command line's examples, which stand behind its help.

/// The flow of a whole upgrade, and the exit codes.
pub const EXAMPLES: &str = "\
Examples:
  # Which revisions are here, which may come next, and is it safe to begin
  {name} targets
  {name} precheck --to 1-28-2

  # The new control plane, beside the old one
  istioctl manifest generate --set revision=1-28-2 --set profile=minimal | {name} start --revision 1-28-2 -f - --yes

  # Restart what is stale in one namespace, verified
  {name} restart -n shop

  # Everywhere: a tenth first, then the rest, with a smoke test in between
  {name} restart -A --percent 10,100 --gate './smoke-test'

  # Exactly what was found
  kubectl mesh-proxyver -A --stale -o refs | {name} restart -f - --yes

  # How far is it
  {name} status -w

  # Remove the old revision once nothing uses it; or go back, any time before that
  {name} complete --remove 1-26-0
  {name} rollback --to 1-26-0

Exit codes:
  0  done, or nothing to report        4  refused: unsafe, or not known to be safe
  1  error                             5  partly done; the same command continues
  2  wrong usage                       130  interrupted; as 5
  3  found something, with --exit-code";

/// Examples of `targets`.
pub const TARGETS: &str = "\
Examples:
  # Which revisions are here, and which releases may follow each
  {name} targets

  # The same for a program
  {name} targets -o json";

/// Examples of `precheck`.
pub const PRECHECK: &str = "\
Examples:
  # Before the new revision is here, and again once it is
  {name} precheck --to 1-28-2

  # A revision whose name says no version
  {name} precheck --to canary --target-version 1.28.2

  # A revision that is here and gets a patch in place
  {name} precheck --to prod --target-version 1.28.3

  # What to do about each finding, and what is only good to know
  {name} precheck --to 1-28-2 -o wide -v

Exit codes:
  0  nothing blocks; warnings may be told
  4  a finding blocks, or something could not be read";

/// Examples of `plan`.
pub const PLAN: &str = "\
Examples:
  # Look through it, move workloads between waves or leave some out, and do exactly that
  {name} plan -A > plan.yaml
  {name} restart --plan plan.yaml

  # A wave for each value of the label ring, on pods or their namespace
  {name} plan -A --by-label ring";

/// Examples of `start`.
pub const START: &str = "\
Examples:
  # What would be written, and in which keys the mesh configurations differ
  istioctl manifest generate --set revision=1-28-2 --set profile=minimal | {name} start --revision 1-28-2 -f - --dry-run

  # Install it, with the edits of the running revision's mesh configuration
  {name} start --revision 1-28-2 -f manifests.yaml --carry-mesh-config

  # What istioctl would install, and what it would do besides
  {name} start --revision 1-28-2 --with istioctl --dry-run -- install --set revision=1-28-2 --set profile=minimal

Exit codes:
  0  the new control plane is ready, and proved to inject
  4  refused: something is in the way; nothing was changed
  5  begun, and not ready; the same command continues";

/// Examples of `status`.
pub const STATUS: &str = "\
Examples:
  # How far is it, what is left and why
  {name} status

  # Go on, and show each change
  {name} status -w

  # One namespace, every workload that is left
  {name} status -n shop -o wide

  # Fail a pipeline while anything is left
  {name} status --exit-code

Exit codes:
  0  shown                             3  something is left, with --exit-code";

/// Examples of `complete`.
pub const COMPLETE: &str = "\
Examples:
  # What uses the old revision still, and what would be deleted
  {name} complete --remove 1-26-0 --dry-run

  # Remove it, once nothing uses it
  {name} complete --remove 1-26-0

Values in Secrets are not looked at: a pod that has the address of the revision's Service from a Secret is not seen.

Exit codes:
  0  it is removed                      5  partly done; the same command continues
  4  refused: something uses it, or nobody can say that nothing does";

/// Examples of `rollback`.
pub const ROLLBACK: &str = "\
Examples:
  # What would go back
  {name} rollback --to 1-26-0 --dry-run

  # Tags, labels and workloads back to the revision before, which is still here
  {name} rollback --to 1-26-0

  # Only one namespace, or some of its workloads: everybody else stays on the newer revision
  {name} rollback --to 1-26-0 -n shop
  {name} rollback --to 1-26-0 -n shop deployment/cart

Exit codes:
  0  everything is back                 5  partly done; the same command continues
  4  refused: nothing was changed       130  interrupted; as 5";
