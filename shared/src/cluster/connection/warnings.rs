//! The warnings that an API server sends with its answers.

/// What an API server warned of.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    pub(super) seen: Vec<String>,
    pub(super) untold: Vec<String>,
}

/// The texts of a header `299 - "text" "date", 299 - …`, as `ParseWarningHeaders` of k8s.io/apimachinery/pkg/util/net
/// takes it; other codes are not for users. Control characters are left out: the texts go to a terminal.
pub(super) fn warning_texts(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once('"') {
        let (text, length) = unquoted(after);
        // The date that may follow a text has no code in front of it.
        if before.trim_start_matches([',', ' ']).starts_with("299 ") {
            texts.push(text);
        }
        rest = &after[length..];
    }
    texts
}

/// The text up to the closing quote, and its length with that quote.
fn unquoted(quoted: &str) -> (String, usize) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (text, position + 1),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            character if character.is_control() => {}
            character => text.push(character),
        }
    }
    (text, quoted.len())
}
