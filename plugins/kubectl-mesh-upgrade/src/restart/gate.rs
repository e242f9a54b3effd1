//! A look at the gate before anything is restarted: a mistyped one must not be found out between two waves.

use std::path::Path;
use std::process::Stdio;

use mesh::child;
use mesh::interruption::Interruption;
use mesh::terminal::stop::Stop;
use tokio::process::Command;

/// Words of sh in front of a program.
const IN_FRONT: [&str; 10] = ["!", "{", "if", "then", "elif", "else", "while", "until", "do", "exec"];

/// Words of sh that may change what a later name means, or that begin what is not read here.
const OPAQUE: [&str; 8] = ["cd", ".", "source", "eval", "for", "case", "function", "alias"];

/// Checks that sh understands a gate, and finds the programs that it names.
///
/// # Errors
/// When it could not be run.
pub async fn check(gate: &str, interruption: &Interruption) -> Result<(), Stop> {
    if gate.trim().is_empty() {
        return Err(Stop::Usage("--gate is empty: it would agree to everything".to_owned()));
    }
    let refused = |why: String| Err(Stop::Message(format!("the gate {gate:?} cannot be run: {why}; nothing was restarted")));
    if let Err(why) = shell(&["-n", "-c", gate], interruption).await? {
        return refused(why);
    }
    for program in programs(gate) {
        let found = match program.contains('/') {
            true => executable(&program),
            false => named(&program, interruption).await?,
        };
        if let Err(why) = found {
            return refused(why);
        }
    }
    Ok(())
}

/// Whether sh ends well with these words, else what it says.
async fn shell(words: &[&str], interruption: &Interruption) -> Result<Result<(), String>, Stop> {
    let mut shell = Command::new("sh");
    shell.args(words).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = child::run(shell, interruption).await.map_err(|error| Stop::Message(format!("sh cannot be run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

/// Whether a name without a slash is a word of sh, or a program on the search path.
async fn named(name: &str, interruption: &Interruption) -> Result<Result<(), String>, Stop> {
    let found = shell(&["-c", "command -v \"$1\"", "sh", name], interruption).await?;
    Ok(found.map_err(|_| format!("there is no program {name:?} on the search path (PATH)")))
}

/// Whether there is a file that may be run.
fn executable(path: &str) -> Result<(), String> {
    match std::fs::metadata(Path::new(path)) {
        Ok(found) if found.is_dir() => Err(format!("{path} is a directory")),
        Ok(found) if !is_executable(&found) => Err(format!("{path} may not be executed: chmod +x {path}")),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

#[cfg(unix)]
fn is_executable(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    found.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    true
}

/// The programs that a command of sh names, up to where reading it would need a shell: what is expanded, such as `$HOME/ok`,
/// is not among them, nor is what comes after a `cd`.
fn programs(command: &str) -> Vec<String> {
    let mut programs = Vec::new();
    let mut is_expected = true;
    for word in (Words { rest: command.chars().peekable() }) {
        match word {
            Word::End => is_expected = true,
            Word::Opaque => break,
            Word::Expanded => is_expected = false,
            Word::Plain(_) if !is_expected => {}
            Word::Plain(word) if IN_FRONT.contains(&word.as_str()) => {}
            Word::Plain(word) if is_assignment(&word) => {
                // From here on names may mean something else.
                if word.starts_with("PATH=") {
                    break;
                }
            }
            Word::Plain(word) if OPAQUE.contains(&word.as_str()) => break,
            Word::Plain(word) => {
                programs.push(word);
                is_expected = false;
            }
        }
    }
    programs
}

fn is_assignment(word: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// A word of sh.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Without its quotes.
    Plain(String),
    /// One that only the shell can expand.
    Expanded,
    /// The end of a simple command.
    End,
    /// What is not read here: a here-document, a function.
    Opaque,
}

/// Splits a command of sh into words.
struct Words<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        loop {
            match *self.rest.peek()? {
                '\n' | ';' | '|' | '&' | '(' | ')' => {
                    self.rest.next();
                    return Some(Word::End);
                }
                '<' | '>' => {
                    self.rest.next();
                    while self.rest.next_if(|next| matches!(next, '>' | '&' | '|')).is_some() {}
                    if self.rest.peek() == Some(&'<') {
                        return Some(Word::Opaque);
                    }
                    // Where it leads to is no program.
                    while self.rest.next_if(|next| next.is_whitespace()).is_some() {}
                    self.word();
                }
                '#' => while self.rest.next_if(|next| *next != '\n').is_some() {},
                space if space.is_whitespace() => {
                    self.rest.next();
                }
                _ => {
                    let word = self.word();
                    let is_descriptor = matches!(&word, Word::Plain(word) if word.chars().all(|digit| digit.is_ascii_digit()));
                    match self.rest.peek() {
                        Some('<' | '>') if is_descriptor => {}
                        Some('(') => return Some(Word::Opaque),
                        _ => return Some(word),
                    }
                }
            }
        }
    }
}

impl Words<'_> {
    /// Reads up to the end of the word.
    fn word(&mut self) -> Word {
        let (mut word, mut is_plain) = (String::new(), true);
        while let Some(letter) =
            self.rest.next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '|' | '&' | '(' | ')' | '<' | '>'))
        {
            match letter {
                '\'' => word.extend(self.rest.by_ref().take_while(|next| *next != '\'')),
                '"' => is_plain &= self.double_quoted(&mut word),
                '\\' => word.extend(self.rest.next()),
                '$' | '`' => {
                    is_plain = false;
                    // What a substitution holds is skipped as far as its end, so that nothing in it is taken for a program.
                    self.substitution(letter);
                }
                '*' | '?' | '[' | '~' if !(letter == '[' && word.is_empty()) => is_plain = false,
                letter => word.push(letter),
            }
        }
        if is_plain { Word::Plain(word) } else { Word::Expanded }
    }

    /// Reads up to the closing quote, and says whether nothing in it is expanded.
    fn double_quoted(&mut self, word: &mut String) -> bool {
        let mut is_plain = true;
        while let Some(letter) = self.rest.next() {
            match letter {
                '"' => break,
                '\\' => word.extend(self.rest.next()),
                '$' | '`' => {
                    is_plain = false;
                    self.substitution(letter);
                }
                letter => word.push(letter),
            }
        }
        is_plain
    }

    /// Passes over what stands in `…`, $(…) or ${…}.
    fn substitution(&mut self, opening: char) {
        if opening == '`' {
            self.rest.by_ref().find(|next| *next == '`');
            return;
        }
        let (open, close) = match self.rest.peek() {
            Some('(') => ('(', ')'),
            Some('{') => ('{', '}'),
            _ => return,
        };
        let mut depth = 0_usize;
        for letter in self.rest.by_ref() {
            depth += usize::from(letter == open);
            depth -= usize::from(letter == close);
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_of_a_gate_are_those_that_it_names() {
        let check = |gate: &str, expected: &[&str]| assert_eq!(programs(gate), expected, "{gate}");
        check("./ok", &["./ok"]);
        check("  './smoke test' --fast 'a; b'", &["./smoke test"]);
        check("WAVE=1 ./ok && curl -fs http://a | grep -q ok", &["./ok", "curl", "grep"]);
        check("sleep 60; ./nonexistent", &["sleep", "./nonexistent"]);
        check("echo $MESH_WAVE_NAME >> gates; test $MESH_WAVE -lt 2", &["echo", "test"]);
        check("2>/dev/null ./ok 2>&1 >log", &["./ok"]);
        check("if ! ./ok; then exit 1; fi", &["./ok", "exit", "fi"]);
        check("[ -f done ]", &["["]);
        check("./ok # || ./other", &["./ok"]);
        // Only a shell knows what these are.
        for gate in
            ["$HOME/ok", "\"$GATE\" --fast", "$(./which one) a", "`a` b", "~/ok", "cd x && ./ok", "PATH=/x ok", "f() { ok; }; f"]
        {
            check(gate, &[]);
        }
    }

    #[test]
    fn a_file_has_to_be_there_and_executable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        let path = path.to_str().unwrap();
        assert!(executable(path).is_err_and(|why| why.contains("No such file")));
        std::fs::write(path, "").unwrap();
        assert!(executable(path).is_err_and(|why| why.contains("may not be executed")));
        assert!(executable(folder.path().to_str().unwrap()).is_err_and(|why| why.contains("is a directory")));
        assert_eq!(executable("/bin/sh"), Ok(()));
    }
}
