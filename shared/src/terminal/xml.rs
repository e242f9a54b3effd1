//! Texts in XML.

use super::shown::is_hidden;

/// A text for an attribute or an element: only characters that XML 1.0 has (section 2.2), and those that could not be seen by their
/// numbers.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            hidden if is_hidden(hidden) => escaped.push_str(&format!("&#{};", hidden as u32)),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_valid_and_visible() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!(escaped("a\n\r\tb\0\x1b[2J\u{fffe}"), "a&#10;&#13;&#9;b\u{fffd}\u{fffd}[2J\u{fffd}");
        assert_eq!(escaped("x\u{202e}\u{9b}"), "x&#8238;&#155;");
    }
}
