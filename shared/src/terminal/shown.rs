//! Characters that would not show what they are: they steer a terminal, turn the direction of writing or cannot be seen. A
//! text of somebody else must not hide behind them, so a person gets to see each of them.

use super::styles::Coloring;

/// Whether a character has to be made visible: control characters, marks that turn the direction of writing, characters
/// without width, blanks that are no blank, and those that stand for nothing.
///
/// General categories Cc, Cf, Zl, Zp and the Zs other than U+0020 of Unicode 16, the letters that are drawn as nothing
/// (`Default_Ignorable_Code_Point` in DerivedCoreProperties.txt), the empty Braille pattern, and noncharacters.
pub const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{1680}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}'
        | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    ) || character as u32 & 0xfffe == 0xfffe
}

/// Whether a text can be shown as it is.
pub fn is_plain(text: &str) -> bool {
    // Nearly all texts are of visible ASCII characters.
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(is_hidden)
}

/// Adds a character that a terminal shows: a control character as `^` and the key that types it, as terminals and kubectl
/// show it (k8s.io/cli-runtime/pkg/printers/terminal.go), a line break as it is written in most languages, any other hidden one
/// by its number as JSON writes it, so that a text of JSON stays what it is.
pub fn push_visible(text: &mut String, character: char) {
    match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push(' '),
        '\0'..='\x1f' => text.extend(['^', char::from(character as u8 + b'@')]),
        hidden if is_hidden(hidden) => {
            let mut units = [0; 2];
            text.extend(hidden.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
        character => text.push(character),
    }
}

/// A text of a stream: its line breaks, its tabs and our own styles work, all else is visible.
pub fn stream(text: &str, styles: Coloring) -> String {
    let mut shown = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let style = if styles == Coloring::Colored { style_length(rest) } else { 0 };
        if style > 0 || matches!(character, '\n' | '\t') {
            let end = style.max(1);
            shown.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            push_visible(&mut shown, character);
            rest = &rest[character.len_utf8()..];
        }
    }
    shown
}

/// Length of a colour sequence (`ESC [ numbers m`) at the beginning of a text; 0 when there is none. Only what
/// [`super::styles::Styles`] uses counts: a cluster's text may be coloured by it, but neither hidden nor moved.
pub fn style_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    match parameters.find(|character: char| !character.is_ascii_digit() && character != ';') {
        Some(end) if parameters[end..].starts_with('m') && parameters[..end].split(';').all(is_harmless) => 2 + end + 1,
        _ => 0,
    }
}

/// Reset, bold, and the colours of ours on the default one: neither black nor white, which may be the colour of the ground.
fn is_harmless(number: &str) -> bool {
    matches!(number, "0" | "1" | "31" | "32" | "33" | "34" | "35" | "36" | "39")
}

/// A text with every character visible, on one line.
pub fn visible(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut visible = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        push_visible(&mut visible, character);
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_hides_is_shown() {
        let check = |text: &str, expected: &str| assert_eq!(visible(text), expected, "{text:?}");
        check("prod\nNext: kubectl delete ns prod", "prod\\nNext: kubectl delete ns prod");
        check("a\r\x1b[2Kb\x07", "a\\r^[[2Kb^G");
        check("\u{9b}31m\u{7f}", "\\u009b31m\\u007f");
        check("user\u{202e}nimda\u{2066}", "user\\u202enimda\\u2066");
        check("pro\u{200b}d\u{feff}\u{ad}\u{e0041}\u{3164}", "pro\\u200bd\\ufeff\\u00ad\\udb40\\udc41\\u3164");
        check("a\u{a0}b\u{2028}c\u{85}", "a\\u00a0b\\u2028c\\u0085");
        check("\u{fffe}\u{fdd0}", "\\ufffe\\ufdd0");
        check("Straße → 東京 … é", "Straße → 東京 … é");
    }

    #[test]
    fn a_stream_keeps_its_lines_and_our_styles() {
        let check = |text: &str, styles, expected: &str| assert_eq!(stream(text, styles), expected, "{text:?}");
        check("\x1b[1;31merror:\x1b[0m a\tb\n", Coloring::Colored, "\x1b[1;31merror:\x1b[0m a\tb\n");
        check("\x1b[1;31merror:\x1b[0m a\n", Coloring::Plain, "^[[1;31merror:^[[0m a\n");
        check("\x1b[2J\x1b[30m\x1b[8m\u{202e}", Coloring::Colored, "^[[2J^[[30m^[[8m\\u202e");
        let json = serde_json::json!({"a": "x\u{202e}\u{9b}\u{e0041}\n\x1b"}).to_string();
        let shown = stream(&json, Coloring::Plain);
        assert!(is_plain(&shown));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["a"], "x\u{202e}\u{9b}\u{e0041}\n\x1b");
    }

    #[test]
    fn every_mark_of_direction_is_hidden() {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter().chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        assert!(marks.into_iter().all(is_hidden));
        assert!((' '..='~').all(|character| !is_hidden(character)) && !is_hidden('\u{fffd}'));
    }
}
