//! Text of others that would steer a terminal, forge a line or run in a shell: in files, and in what is typed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::plugin;

use crate::files::{list, mesh, pod, stateful_set};

/// Forges a line, clears the screen, sets a title, colours by the second set of control characters, and turns the direction.
const HOSTILE: &str = "1.28.1\nNext: kubectl delete ns prod\r\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}nimda\u{2066}\u{200b}";

/// Whether a character of a stream does anything but show itself or end a line.
fn steers(character: char) -> bool {
    let is_mark = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n') || is_mark
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

#[test]
fn no_text_of_a_file_steers_a_terminal_or_forges_a_line() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let mut items = mesh();
    let mut pod = pod("web", &format!("docker.io/istio/proxyv2:{HOSTILE}"));
    pod["metadata"]["annotations"]["note"] = json!(HOSTILE);
    pod["status"]["message"] = json!(HOSTILE);
    items.extend([pod, stateful_set("web")]);
    fs::write(session.home().join("mesh.json"), list(&items))?;
    for format in ["", "wide", "json", "yaml", "junit", "prom", "refs", "args", "name"] {
        let form: &[&str] = if format.is_empty() { &[] } else { &["-o", format] };
        let output = session.run(["mesh-proxyver", "-A", "-f", "mesh.json"].iter().chain(form))?;
        ensure!(output.code == Some(0), "{}", output.transcript());
        for stream in [&output.stdout, &output.stderr] {
            ensure!(!stream.chars().any(steers), "{format}: {stream:?}");
            ensure!(!stream.lines().any(|line| line.trim_start().starts_with("Next: kubectl delete")), "{format}: {stream}");
        }
        if format == "json" {
            ensure!(holds(&output.json()?, HOSTILE), "the value is not kept: {}", output.transcript());
        }
    }
    Ok(())
}

/// What a shell gives to kubectl when it runs a line.
fn words_for_kubectl(line: &str, folder: &Path) -> Result<Vec<String>> {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    fs::write(programs.join("kubectl"), "#!/bin/sh\nprintf '%s\\0' \"$@\"\n")?;
    fs::set_permissions(programs.join("kubectl"), fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let output = Command::new("sh").arg("-c").arg(line).env("PATH", path).current_dir(folder).output()?;
    let words = String::from_utf8(output.stdout)?;
    Ok(words.split_terminator('\0').map(str::to_owned).collect())
}

#[test]
fn a_printed_command_names_what_was_typed_and_runs_nothing_else() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    for typed in
        ["my file", "o'hara", "a;touch x", "$(touch x)", "`touch x`", "-n", "\"a\" & touch x", "~", "a\\b", "*", "!x", "#x"]
    {
        let flag = format!("--kubeconfig={typed}");
        let output = session.run(["mesh-proxyver", "-A", &flag])?;
        ensure!(output.code == Some(1), "{}", output.transcript());
        let printed = output.stderr.lines().find_map(|line| line.trim_start().split_once(" shows what there is"));
        let (line, _) = printed.with_context(|| output.transcript())?;
        let words = words_for_kubectl(line, session.home())?;
        ensure!(words == [flag.as_str(), "config", "get-contexts"], "{line} gives {words:?}");
        ensure!(!session.home().join("x").exists(), "{line} ran what was typed");
    }
    Ok(())
}
