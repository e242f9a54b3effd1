//! The command as it was typed.

use std::ffi::OsStr;
use std::path::Path;

/// The command's name for help, usage and advice, from the first argument of the process.
///
/// kubectl finds `kubectl mesh-tag` in a file `kubectl-mesh_tag` and `kubectl mesh tag` in `kubectl-mesh-tag`
/// (`HandlePluginCommand`, k8s.io/kubectl pkg/cmd/plugin.go); this is the way back. Any other file is called by its name.
pub fn command_name(argument_zero: &OsStr) -> String {
    let file = Path::new(argument_zero).file_name().unwrap_or(argument_zero).to_string_lossy();
    let file = file.strip_suffix(".exe").unwrap_or(&file);
    match file.strip_prefix("kubectl-") {
        Some(words) => {
            let words: Vec<String> = words.split('-').map(|word| word.replace('_', "-")).collect();
            format!("kubectl {}", words.join(" "))
        }
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_was_typed() {
        let check = |argument: &str, expected: &str| assert_eq!(command_name(OsStr::new(argument)), expected);
        check("/home/me/.krew/bin/kubectl-mesh_proxyver", "kubectl mesh-proxyver");
        check("kubectl-mesh-proxyver", "kubectl mesh proxyver");
        check("kubectl-mesh_tag.exe", "kubectl mesh-tag");
        check("./mesh-proxyver", "mesh-proxyver");
    }
}
