//! Whole output, compared with what it was when somebody last looked at it.

use support::Output;

/// Compares a command's transcript with `tests/snapshots/mesh_proxyver/NAME.snap`.
pub fn check(name: &str, output: &Output) {
    support::transcript::check("mesh_proxyver", name, output);
}
