//! Commands are data: no module but the terminal and the examples holds the text of one, which would reach whatever cluster is
//! current.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            None if path.is_dir() => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// Whether a line holds a string with a program and a verb in it.
fn holds_a_command(line: &str) -> bool {
    let code = line.trim_start();
    let is_verb = |rest: &str| rest.starts_with(|character: char| character.is_ascii_lowercase() || "-{".contains(character));
    let programs = ["kubectl ", "istioctl ", "helm ", "az aks ", "gcloud "];
    let is_command = |place: usize, program: &str| {
        let before = code[..place].chars().next_back();
        let begins = before.is_none_or(|before| matches!(before, '"' | ' ' | '(')) && code[..place].contains('"');
        begins && is_verb(&code[place + program.len()..]) && !is_prose(&code[place + program.len()..])
    };
    !code.starts_with("//")
        && programs.iter().any(|program| code.match_indices(program).any(|(place, _)| is_command(place, program)))
}

/// Words that only tell of a program.
fn is_prose(rest: &str) -> bool {
    [
        "needs", "has", "removes", "holds", "ended", "and", "or", "is", "was", "would", "takes", "writes", "prints\"", "that",
        "to", "get;",
    ]
    .iter()
    .any(|word| rest.strip_prefix(word).is_some_and(|rest| word.ends_with(['"', ';']) || rest.starts_with([' ', ',', ';', ':'])))
}

#[test]
fn no_module_holds_the_text_of_a_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(&root.join("shared/src"), &mut files);
    for plugin in fs::read_dir(root.join("plugins")).unwrap() {
        sources(&plugin.unwrap().path().join("src"), &mut files);
    }
    let may = ["shared/src/terminal/", "shared/src/advice.rs", "shared/src/session.rs", "/examples.rs", "/args.rs", "/render/"];
    let mut found = Vec::new();
    for file in &files {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        if may.iter().any(|place| name.contains(place)) {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        found.extend(
            code.lines()
                .enumerate()
                .filter(|(_, line)| holds_a_command(line))
                .map(|(place, line)| format!("{name}:{}: {}", place + 1, line.trim())),
        );
    }
    assert!(files.len() > 100 && found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_text_of_a_command_is_found() {
    for line in [
        "advice: \"kubectl mesh-tag list\".to_owned(),",
        "format!(\"kubectl -n {} get\", x)",
        "\"helm upgrade {release}\"",
        "(\"see with kubectl get\")",
    ] {
        assert!(holds_a_command(line), "{line}");
    }
    for line in ["// kubectl get pods", "Command::kubectl(\"get pods\")", "\"helm removes a release\"", "\"as kubectl: none\""] {
        assert!(!holds_a_command(line), "{line}");
    }
}
