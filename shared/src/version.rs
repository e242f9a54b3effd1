//! Istio versions, compared as versions.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version such as `1.28.2`, `1.28.9-2` (AKS), `1.17.8-asm.4`, `1.31-alpha.0a1b` or, with a fourth number,
/// `1.22.6.114-g8e-aliyun` (Alibaba Cloud Service Mesh).
///
/// Ordered by major, minor, patch and fourth number, then by what follows: a pre-release (`alpha`, `beta`, `rc`, `dev`) comes before
/// the release, a vendor's build after it. Numbers in the rest compare as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Patch number; development builds have none.
    pub patch: Option<u32>,
    /// The fourth number, which some vendors count their builds by.
    build: Option<u32>,
    /// What follows, without its separator.
    rest: String,
}

/// Text that names no version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoVersion;

impl fmt::Display for NoVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no version: expected MAJOR.MINOR[.PATCH[.BUILD]][-REST]")
    }
}

impl std::error::Error for NoVersion {}

impl Version {
    /// How many minor versions `self` is ahead of `other` (negative: behind). `None` across major versions.
    pub fn minors_ahead_of(&self, other: &Version) -> Option<i64> {
        (self.major == other.major).then(|| i64::from(self.minor) - i64::from(other.minor))
    }

    /// Which of the two is newer; `None` where their texts do not tell. Builds of one number that are told apart by a hash, and a
    /// line such as `1.28` beside one of its own patches, have an order for sorting and none in time.
    pub fn order(&self, other: &Version) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        if self.line() != other.line() {
            return Some(self.line().cmp(&other.line()));
        }
        match (self.patch, other.patch) {
            (Some(one), Some(another)) if one != another => return Some(one.cmp(&another)),
            (Some(_), Some(_)) => {}
            _ => return None,
        }
        if self.is_prerelease() != other.is_prerelease() {
            return Some(other.is_prerelease().cmp(&self.is_prerelease()));
        }
        let of =
            |version: &Version| pieces(&version.rest).filter(|piece| !piece.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let (one, another) = (of(self), of(other));
        let (mut one, mut another) = (one.iter(), another.iter());
        loop {
            match (one.next(), another.next()) {
                (Some(one), Some(another)) if one == another => {}
                (Some(one), Some(another)) => return Some(number(one)?.cmp(&number(another)?)),
                // The first of a vendor's builds may have no number, or the release itself is meant.
                (None, Some(piece)) | (Some(piece), None) if number(piece).is_none() => return None,
                (one, another) => return Some(one.is_some().cmp(&another.is_some())),
            }
        }
    }

    /// The same release line, for example 1.28.
    pub fn line(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    fn is_prerelease(&self) -> bool {
        ["alpha", "beta", "rc", "dev"].iter().any(|word| self.rest.starts_with(word))
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbers, rest) = match text.find(['-', '+']) {
            Some(position) => (&text[..position], &text[position + 1..]),
            None => (text, ""),
        };
        let mut numbers = numbers.split('.').map(number);
        let major = numbers.next().flatten().ok_or(NoVersion)?;
        let minor = numbers.next().flatten().ok_or(NoVersion)?;
        let patch = match numbers.next() {
            Some(patch) => Some(patch.ok_or(NoVersion)?),
            None => None,
        };
        let build = match numbers.next() {
            Some(build) => Some(build.ok_or(NoVersion)?),
            None => None,
        };
        if numbers.next().is_some() {
            return Err(NoVersion);
        }
        Ok(Version { major, minor, patch, build, rest: rest.to_owned() })
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)?;
        if let Some(patch) = self.patch {
            write!(formatter, ".{patch}")?;
        }
        if let Some(build) = self.build {
            write!(formatter, ".{build}")?;
        }
        if !self.rest.is_empty() {
            write!(formatter, "-{}", self.rest)?;
        }
        Ok(())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = |version: &Version| (version.major, version.minor, version.patch, version.build);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| other.is_prerelease().cmp(&self.is_prerelease()))
            .then_with(|| natural(&self.rest, &other.rest))
    }
}

/// Compares piece by piece, runs of digits as numbers.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (pieces(left), pieces(right));
    loop {
        return match (left.next(), right.next()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(other)) => {
                let order = match (one.parse::<u64>(), other.parse::<u64>()) {
                    (Ok(one), Ok(other)) => one.cmp(&other),
                    _ => one.cmp(other),
                };
                if order == Ordering::Equal {
                    continue;
                }
                order
            }
        };
    }
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '-', '_', '+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_released() {
        let ordered = [
            "1.9.9",
            "1.10.0",
            "1.17.8-asm.4",
            "1.17.8-asm.10",
            "1.28.0-alpha.1",
            "1.28.0-beta.0",
            "1.28.0-rc.1",
            "1.28.0",
            "1.28.2",
            "1.28.9",
            "1.28.9-2",
            "1.28.9-10",
            "1.28.9.9-g1-aliyun",
            "1.28.9.114-g0-aliyun",
            "1.29.0",
        ];
        for pair in ordered.windows(2) {
            let versions: Vec<Version> = pair.iter().map(|text| text.parse().unwrap()).collect();
            assert!(versions[0] < versions[1], "{pair:?}");
        }
    }

    #[test]
    fn what_is_displayed_parses_to_the_same() {
        for text in ["1.28.2", "1.28", "1.31-alpha.0a1b", "1.28.9-2", "1.17.8-asm.4", "1.22.6.114-g8e-aliyun", "1.22.6.114"] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
        }
        assert_eq!("v1.28.2".parse::<Version>().unwrap().to_string(), "1.28.2");
    }

    #[test]
    fn text_that_names_no_version_is_refused() {
        for text in
            ["", "latest", "1", "1.x", "1.2.3.4.5", "1.2.3.", "a.b.c", "1..2", "-1.2", "1.-2", "sha256:12", "1.99999999999.1"]
        {
            assert_eq!(text.parse::<Version>(), Err(NoVersion), "{text:?}");
        }
    }

    #[test]
    fn what_no_text_tells_has_no_order() {
        let order = |one: &str, other: &str| {
            let version = |text: &str| text.parse::<Version>().unwrap();
            let found = version(one).order(&version(other));
            assert_eq!(version(other).order(&version(one)), found.map(Ordering::reverse), "{one} {other}");
            found
        };
        for (older, newer) in [
            ("1.26.0", "1.28.2"),
            ("1.28.0", "1.28.2"),
            ("1.9.9", "1.10.0"),
            ("1.28.0-rc.1", "1.28.0"),
            ("1.28.9-2", "1.28.9-10"),
            ("1.28.9", "1.28.9-2"),
            ("1.17.8-asm.4", "1.17.8-asm.10"),
            ("1.28", "1.29.1"),
            ("1.31-alpha.0a1b", "2.0.0"),
        ] {
            assert_eq!(order(older, newer), Some(Ordering::Less), "{older} {newer}");
        }
        assert_eq!(order("1.28.2", "1.28.2"), Some(Ordering::Equal));
        for (one, other) in [
            ("1.31-alpha.0a1b", "1.31-alpha.ffff"),
            ("1.28", "1.28.2"),
            ("1.28.2-solo", "1.28.2"),
            ("1.28.2-fips", "1.28.2-solo"),
        ] {
            assert_eq!(order(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn skew_counts_minor_versions() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(version("1.28.2").minors_ahead_of(&version("1.26.0")), Some(2));
        assert_eq!(version("1.26.0").minors_ahead_of(&version("1.28.2")), Some(-2));
        assert_eq!(version("2.0.0").minors_ahead_of(&version("1.28.2")), None);
    }
}
