//! Words of a command as they are typed: quoted for a shell, and for `xargs`.

use std::borrow::Cow;

use super::shown;

/// A word for a POSIX shell: what is pasted becomes this word and does nothing else. A word with characters that could not be
/// seen is written by their numbers, with `printf`. `None` for what no command line can hold: a word with a NUL, and one
/// that ends with a line break, which a shell takes off.
pub fn shell(word: &[u8]) -> Option<String> {
    match std::str::from_utf8(word) {
        Ok(text) if is_bare(text) => Some(text.to_owned()),
        Ok(text) if shown::is_plain(text) => shlex::try_quote(text).ok().map(Cow::into_owned),
        _ if word.contains(&0) || word.ends_with(b"\n") => None,
        _ => Some(format!("\"$(printf '{}')\"", numbered(word))),
    }
}

/// A word as `xargs` reads it: between quotes everything stands for itself, a quote of the other kind too. `None` for what it
/// cannot hold on one line.
pub fn xargs(word: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(word).ok().filter(|text| shown::is_plain(text))?;
    if is_bare(text) {
        return Some(text.to_owned());
    }
    let quoted: Vec<String> = text
        .split_inclusive('\'')
        .map(|part| match part.strip_suffix('\'') {
            Some("") => "\"'\"".to_owned(),
            Some(before) => format!("'{before}'\"'\""),
            None => format!("'{part}'"),
        })
        .collect();
    Some(if quoted.is_empty() { "''".to_owned() } else { quoted.concat() })
}

/// Whether a word means itself to every shell. The library would quote `=` and `,` too, which mean something only in front or
/// between braces; a label is easier to read without.
fn is_bare(word: &str) -> bool {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=,+".contains(&byte);
    !word.is_empty() && !word.starts_with('=') && word.bytes().all(is_bare)
}

/// A word as the format of `printf`: letters and digits, and every other byte by its number in octal, as POSIX has it.
fn numbered(word: &[u8]) -> String {
    let one = |byte: &u8| {
        if byte.is_ascii_alphanumeric() { char::from(*byte).to_string() } else { format!("\\{byte:03o}") }
    };
    word.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 24] = [
        "",
        "my prod; touch /tmp/x",
        "$(touch x)",
        "`touch x`",
        "it's",
        "\"quoted\"",
        "a'b\"c`d$e\\f",
        "back\\slash\\",
        "#comment",
        "~root",
        "=ls",
        "*",
        "a|b&c",
        "!history",
        "^caret",
        "{a,b}",
        "-rf",
        "--context=x y",
        "a\nNext: rm -rf",
        "\r\x1b[2K",
        "\u{202e}drow",
        "100%",
        "tab\there",
        "Straße",
    ];

    /// The words that a real shell makes of a line.
    fn words(shell_line: &str) -> Vec<Vec<u8>> {
        let program = format!("for word in {shell_line}; do printf '%s\\0' \"$word\"; done");
        let output = std::process::Command::new("sh").args(["-c", &program]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
        output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn a_shell_reads_back_each_word() {
        let typed: Vec<&str> = HOSTILE.into_iter().filter(|word| !word.is_empty()).collect();
        let line: Vec<String> = typed.iter().map(|word| shell(word.as_bytes()).unwrap()).collect();
        assert!(line.iter().all(|word| shown::is_plain(word)), "{line:?}");
        let expected: Vec<Vec<u8>> = typed.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(words(&line.join(" ")), expected, "{line:?}");
        assert_eq!(words(&shell(b"/tmp/\xff\xfe").unwrap()), [b"/tmp/\xff\xfe"]);
        assert_eq!(shell(b"").as_deref(), Some("''"));
    }

    #[test]
    fn what_no_command_line_holds_is_none() {
        assert_eq!([shell(b"a\0b"), shell(b"a\n"), xargs(b"a\nb"), xargs(b"\x1b[m"), xargs(b"\xff")], [const { None }; 5]);
    }

    #[test]
    fn words_that_mean_themselves_stay_as_they_are() {
        for word in ["istio.io/rev=1-28-2", "deployment.apps/web", "a,b", "user@host:8080", "istio-injection-"] {
            assert_eq!((shell(word.as_bytes()).as_deref(), xargs(word.as_bytes()).as_deref()), (Some(word), Some(word)));
        }
        assert_eq!(shell(b"my prod; touch x").as_deref(), Some("'my prod; touch x'"));
    }

    #[test]
    fn xargs_reads_back_each_word() {
        use std::io::Write;
        let typed: Vec<&str> = HOSTILE.into_iter().filter(|word| xargs(word.as_bytes()).is_some()).collect();
        assert!(typed.len() > 18);
        let line: Vec<String> = typed.iter().map(|word| xargs(word.as_bytes()).unwrap()).collect();
        let mut xargs = std::process::Command::new("xargs")
            .args(["-L1", "sh", "-c", "for word; do printf '%s\\0' \"$word\"; done", "sh"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        xargs.stdin.take().unwrap().write_all(format!("{}\n", line.join(" ")).as_bytes()).unwrap();
        let output = xargs.wait_with_output().unwrap();
        let mut read: Vec<String> = String::from_utf8(output.stdout).unwrap().split('\0').map(str::to_owned).collect();
        assert_eq!(read.pop().as_deref(), Some(""));
        assert_eq!(read, typed, "{line:?}");
    }
}
