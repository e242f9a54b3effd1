//! What a command did, as text that a snapshot can hold: the same from run to run and from machine to machine.

use std::fmt::Write;

use crate::plugin::Output;

pub(crate) fn of(output: &Output) -> String {
    let mut text = format!("$ {}\n", stable(&output.command));
    match output.code {
        Some(code) => writeln!(text, "exit code {code}"),
        None => writeln!(text, "ended by a signal"),
    }
    .expect("a String takes all text");
    for (name, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !stream.is_empty() {
            write!(text, "--- {name}\n{}", stable(stream)).expect("a String takes all text");
            if !stream.ends_with('\n') {
                text.push_str("\n(no newline at the end)\n");
            }
        }
    }
    text
}

/// Compares a command's transcript with `tests/snapshots/FOLDER/NAME.snap`: whole output, as it was when somebody last
/// looked at it.
pub fn check(folder: &str, name: &str, output: &Output) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, output.transcript()));
}

/// `text` with addresses of the cluster, home folders, ages and generated names replaced. The width of table columns
/// depends on these, so a gap behind one is always three spaces.
pub fn stable(text: &str) -> String {
    text.split_inclusive('\n').map(stable_line).collect()
}

fn stable_line(line: &str) -> String {
    let mut result = String::new();
    let mut rest = line;
    let mut replaced = false;
    while let Some(first) = rest.chars().next() {
        let in_word = |c: char| c.is_ascii_alphanumeric() || "-./:_".contains(c);
        let end = if in_word(first) { rest.find(|c| !in_word(c)) } else { rest.find(in_word) };
        let (token, tail) = rest.split_at(end.unwrap_or(rest.len()));
        if in_word(first) {
            let word = stable_word(token);
            replaced = word != token || word == "AGE";
            result.push_str(&word);
        } else if replaced && token.len() > 1 && token.trim_end_matches('\n').chars().all(|c| c == ' ') {
            result.push_str("   ");
            result.push_str(token.trim_start_matches(' '));
        } else {
            result.push_str(token);
        }
        rest = tail;
    }
    result
}

fn stable_word(word: &str) -> String {
    if let Some(rest) = word.split_once("/mesh-tests-").map(|(_, rest)| rest) {
        let below_home = rest.find('/').map_or("", |at| &rest[at..]);
        return format!("HOME{below_home}");
    }
    if is_age(word) {
        return "<age>".to_owned();
    }
    if is_time(word) {
        return "<time>".to_owned();
    }
    if let Some((before, after)) = split_cluster_address(word) {
        return format!("{before}ADDRESS{after}");
    }
    stable_name(word)
}

/// `5s`, `3m20s`, `2d4h`.
fn is_age(word: &str) -> bool {
    let parts = word.split_inclusive(|c: char| "dhmsy".contains(c));
    let mut any = false;
    for part in parts {
        any = true;
        let Some(number) = part.strip_suffix(|c: char| "dhmsy".contains(c)) else {
            return false;
        };
        if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit()) {
            return false;
        }
    }
    any
}

/// RFC 3339, to the second, in UTC.
fn is_time(word: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:ddZ";
    word.len() == pattern.len()
        && word.chars().zip(pattern.chars()).all(|(c, p)| if p == 'd' { c.is_ascii_digit() } else { c == p })
}

/// A 127.X.Y.Z of a test cluster, with its port.
fn split_cluster_address(word: &str) -> Option<(&str, &str)> {
    let at = word.find("127.").filter(|at| *at == 0 || word[..*at].ends_with('/'))?;
    let length = word[at..].find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(word.len() - at);
    let address = word[at..at + length].trim_end_matches(['.', ':']);
    (address.matches('.').count() == 3).then(|| (&word[..at], &word[at + address.len()..]))
}

/// `web-5d8f9c7b64-x2x4z` is `web-HASH-ID` and the ReplicaSet `web-5d8f9c7b64` is `web-HASH`. Kubernetes writes generated
/// parts with letters and digits that make no words.
fn stable_name(word: &str) -> String {
    let generated = |part: &str| part.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
    let has_digit = |part: &str| part.chars().any(|c| c.is_ascii_digit());
    let parts: Vec<&str> = word.split('-').collect();
    match parts.as_slice() {
        [name @ .., hash, id]
            if !name.is_empty() && (8..=10).contains(&hash.len()) && generated(hash) && id.len() == 5 && generated(id) =>
        {
            format!("{}-HASH-ID", name.join("-"))
        }
        [name @ .., hash] if !name.is_empty() && (8..=10).contains(&hash.len()) && generated(hash) && has_digit(hash) => {
            format!("{}-HASH", name.join("-"))
        }
        [name @ .., id] if !name.is_empty() && id.len() == 5 && generated(id) && has_digit(id) => {
            format!("{}-ID", name.join("-"))
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::stable;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let check = |text: &str, expected: &str| assert_eq!(stable(text), expected);
        check(
            "NAME   AGE     NODE\nweb    12s     a\napi    3m20s   a\n",
            "NAME   AGE   NODE\nweb    <age>   a\napi    <age>   a\n",
        );
        check("at 2026-11-23T13:06:46Z made", "at <time> made");
        check("dial tcp 127.64.255.1:34567: connect refused", "dial tcp ADDRESS: connect refused");
        check("https://127.64.255.1:34567/api/v1", "https://ADDRESS/api/v1");
        check("/tmp/mesh-tests-aB3dE/out.json missing", "HOME/out.json missing");
        check("pod/web-5d8f9c7b64-x2x4z ready", "pod/web-HASH-ID ready");
        check("pod/agent-x2x4z ready", "pod/agent-ID ready");
    }

    #[test]
    fn what_stays_the_same_is_kept() {
        for text in [
            "mesh-proxyver 1-28-2\n",
            "docker.io/istio/proxyv2:1.28.2\n",
            "NAME   STATE\nweb    stale\n",
            "127.0.0.1\n",
            "a-b-c\n",
        ] {
            let expected = text.replace("127.0.0.1", "ADDRESS");
            assert_eq!(stable(text), expected);
        }
    }
}
