//! The command as it was typed.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Command, CommandFactory, FromArgMatches};

/// Parses the process's arguments; wrong usage, `--help` and `--version` end the process.
///
/// Gives the arguments and the command's name as it was typed, or as `otherwise` where the process has no name. Wherever
/// the help says `{name}`, it shows that name.
pub fn parse<A: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = OsString>,
    otherwise: &str,
    examples: &str,
) -> (A, String) {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = arguments.first().map_or_else(|| otherwise.to_owned(), |argument| command_name(argument));
    let mut command = command::<A>(&name, examples);
    let matches = command.clone().get_matches_from(arguments);
    let args = A::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    (args, name)
}

/// The command under the name by which it was called, with its examples behind its help.
pub fn command<A: CommandFactory>(name: &str, examples: &str) -> Command {
    // clap wants the names for as long as the process lives, and there is one command a process.
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let command = A::command().name(leaked).bin_name(leaked).styles(clap::builder::Styles::plain());
    named(command.after_help(examples.to_owned()), name)
}

/// Fills the name into the help of a command and of its verbs.
fn named(mut command: Command, name: &str) -> Command {
    if let Some(help) = command.get_after_help().map(|help| help.to_string().replace("{name}", name)) {
        command = command.after_help(help);
    }
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command, |command, verb| command.mut_subcommand(verb, |verb| named(verb, name)))
}

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
