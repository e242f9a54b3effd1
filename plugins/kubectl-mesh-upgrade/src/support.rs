//! Istio's minor releases: how long each is supported, and on which versions of Kubernetes. The facts stand in
//! `support/releases.tsv`, with the day on which they were true and where each came from.

use std::sync::OnceLock;

use jiff::civil::Date;
use mesh::version::Version;

const DATA: &str = include_str!("support/releases.tsv");

/// What is known of one minor release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Major and minor number.
    pub line: (u32, u32),
    /// The day of its first version.
    pub released: Date,
    /// The last day with patches.
    pub end: Date,
    /// Whether that day is only announced.
    pub end_is_expected: bool,
    /// The oldest version of Kubernetes that it supports.
    pub oldest_kubernetes: (u32, u32),
    /// The newest version of Kubernetes that it supports.
    pub newest_kubernetes: (u32, u32),
    /// Where the dates come from.
    pub source: &'static str,
}

/// All releases that this build knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Releases {
    /// The day on which the facts were true.
    pub as_of: Date,
    releases: Vec<Release>,
}

impl Release {
    /// Whether it is still supported on a day.
    pub fn is_supported(&self, today: Date) -> bool {
        today <= self.end
    }

    /// Whether it supports a version of Kubernetes.
    pub fn supports_kubernetes(&self, kubernetes: (u32, u32)) -> bool {
        (self.oldest_kubernetes..=self.newest_kubernetes).contains(&kubernetes)
    }

    /// `1.29 - 1.33`.
    pub fn kubernetes_range(&self) -> String {
        let (oldest, newest) = (self.oldest_kubernetes, self.newest_kubernetes);
        format!("{}.{} - {}.{}", oldest.0, oldest.1, newest.0, newest.1)
    }

    /// `2025-12-22 (ended)`, `2026-11-30 (expected)`.
    pub fn end_in_words(&self, today: Date) -> String {
        let word = match (self.is_supported(today), self.end_is_expected) {
            (true, true) => " (expected)",
            (true, false) => "",
            (false, true) => " (expected, past)",
            (false, false) => " (ended)",
        };
        format!("{}{word}", self.end)
    }
}

impl Releases {
    /// Those of the data file.
    pub fn known() -> &'static Releases {
        static KNOWN: OnceLock<Releases> = OnceLock::new();
        KNOWN.get_or_init(|| parse(DATA).expect("a unit test parses the data file"))
    }

    /// The release of this line.
    pub fn of_line(&self, line: (u32, u32)) -> Option<&Release> {
        self.releases.iter().find(|release| release.line == line)
    }

    /// The release that a version belongs to.
    pub fn of(&self, version: &Version) -> Option<&Release> {
        self.of_line(version.line())
    }

    /// The newest line of all.
    pub fn newest_line(&self) -> (u32, u32) {
        self.releases.iter().map(|release| release.line).max().unwrap_or_default()
    }
}

/// Major and minor number: `1.29`.
pub fn line_of(text: &str) -> Option<(u32, u32)> {
    text.parse::<Version>().ok().map(|version| version.line())
}

fn parse(data: &'static str) -> Result<Releases, String> {
    let as_of = data.lines().find_map(|line| line.strip_prefix("# As of: ")).ok_or("no line says as of when it is")?;
    let lines = data.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    Ok(Releases { as_of: date(as_of)?, releases: lines.map(parse_release).collect::<Result<_, _>>()? })
}

fn parse_release(line: &'static str) -> Result<Release, String> {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [minor, released, end, certainty, oldest, newest, source] = columns[..] else {
        return Err(format!("{line:?} has not seven columns"));
    };
    let number = |text: &str| line_of(text).ok_or_else(|| format!("{text:?} is no MAJOR.MINOR"));
    Ok(Release {
        line: number(minor)?,
        released: date(released)?,
        end: date(end)?,
        end_is_expected: match certainty {
            "ended" => false,
            "expected" => true,
            other => return Err(format!("{other:?} is neither ended nor expected")),
        },
        oldest_kubernetes: number(oldest)?,
        newest_kubernetes: number(newest)?,
        source,
    })
}

fn date(text: &str) -> Result<Date, String> {
    text.parse().map_err(|error| format!("{text:?} is no date: {error}"))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_data_file_is_whole_and_without_gaps() {
        let known = parse(DATA).unwrap();
        let lines: Vec<(u32, u32)> = known.releases.iter().map(|release| release.line).collect();
        let without_gaps: Vec<(u32, u32)> = (lines[0].1..=known.newest_line().1).map(|minor| (1, minor)).collect();
        assert_eq!(lines, without_gaps);
        for pair in known.releases.windows(2) {
            assert!(pair[0].released < pair[1].released && pair[0].end < pair[1].end, "{pair:?}");
        }
        for release in &known.releases {
            assert!(release.released < release.end && release.released < known.as_of, "{release:?}");
            assert!(release.oldest_kubernetes < release.newest_kubernetes, "{release:?}");
            assert!(["support-status", "endoflife"].contains(&release.source), "{release:?}");
            // What had not ended on the day of the data cannot be known to have ended.
            assert_eq!(release.end_is_expected, release.end > known.as_of, "{release:?}");
        }
    }

    #[test]
    fn support_ends_after_its_last_day() {
        let release = Releases::known().of(&"1.26.8".parse().unwrap()).unwrap();
        assert!(release.is_supported(date(2025, 12, 22)) && !release.is_supported(date(2025, 12, 23)));
        assert_eq!(release.end_in_words(date(2026, 1, 1)), "2025-12-22 (ended)");
        let announced = Releases::known().of_line((1, 30)).unwrap();
        assert_eq!(announced.end_in_words(date(2026, 7, 15)), "2026-11-30 (expected)");
        assert_eq!(announced.end_in_words(date(2026, 12, 1)), "2026-11-30 (expected, past)");
    }

    #[test]
    fn a_release_supports_a_range_of_kubernetes() {
        let release = Releases::known().of_line((1, 28)).unwrap();
        assert_eq!(release.kubernetes_range(), "1.30 - 1.34");
        let supported = [(1, 29), (1, 30), (1, 34), (1, 35)].map(|version| release.supports_kubernetes(version));
        assert_eq!(supported, [false, true, true, false]);
    }

    #[test]
    fn a_data_file_that_is_wrong_is_told_apart() {
        for data in ["1.20\t2023-11-14", "# As of: 2026-01-01\n1.20\t2023-11-14", "# As of: soon\n"] {
            assert!(parse(data).is_err(), "{data:?}");
        }
    }
}
