//! Words for numbers, lists and times.

use jiff::SignedDuration;

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

/// A time in kubectl's short form for ages, such as `119s`, `9m59s` or `2y325d` (`HumanDuration`,
/// k8s.io/apimachinery/pkg/util/duration/duration.go). A clock that is a second behind is forgiven.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    if seconds < -1 {
        "<invalid>".to_owned()
    } else if seconds < 0 {
        "0s".to_owned()
    } else if seconds < 2 * 60 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two_units(minutes, "m", seconds % 60, "s")
    } else if minutes < 3 * 60 {
        format!("{minutes}m")
    } else if hours < 8 {
        two_units(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 8 * 24 {
        two_units(days, "d", hours % 24, "h")
    } else if hours < 2 * 365 * 24 {
        format!("{days}d")
    } else if hours < 8 * 365 * 24 {
        two_units(years, "y", days % 365, "d")
    } else {
        format!("{years}y")
    }
}

/// The smaller unit is left out when there is none of it.
fn two_units(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

/// The name that was probably meant, else all that there are: `; did you mean prod?`. Empty where there is none.
pub fn nearest(typed: &str, names: &[&str]) -> String {
    let similar = names.iter().map(|name| (strsim::jaro_winkler(typed, name), name)).filter(|(similarity, _)| *similarity > 0.8);
    let best = similar.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name);
    match (best, names) {
        (Some(best), _) => format!("; did you mean {best}?"),
        (None, []) => String::new(),
        (None, names) => format!("; there are {}", names.join(", ")),
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

    #[test]
    fn times_are_shortened_as_kubectl_shortens_them() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        const YEAR: i64 = 365 * DAY;
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (119, "119s"),
            (2 * MINUTE, "2m"),
            (2 * MINUTE + 1, "2m1s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + MINUTE, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR, "8y"),
            (100 * YEAR, "100y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
    }
}
