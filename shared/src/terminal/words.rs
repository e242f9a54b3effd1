//! Words for numbers and lists.

/// `1 proxy`, `2 proxies`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `a`, `a and b`, `a, b and c`.
pub fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_sentences_do() {
        let words = |words: &[&str]| join(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!([words(&[]), words(&["a"]), words(&["a", "b"]), words(&["a", "b", "c"])], ["", "a", "a and b", "a, b and c"]);
        assert_eq!([plural(1, "proxy", "proxies"), plural(0, "proxy", "proxies")], ["1 proxy", "0 proxies"]);
    }
}
