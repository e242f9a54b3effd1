//! Whole output, compared with what it was when somebody last looked at it.

use support::Output;

/// Compares a command's transcript with `tests/snapshots/mesh_proxyver/NAME.snap`.
pub fn check(name: &str, output: &Output) {
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots/mesh_proxyver");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    };
    settings.bind(|| insta::assert_snapshot!(name, output.transcript()));
}
