//! How long the certificates of orphaned proxies last.
//!
//! No object of the cluster holds a proxy's certificate, and its pod does not tell when it ends. What can be said follows from
//! when the control plane ceased to answer: a certificate lives for a day (`DEFAULT_WORKLOAD_CERT_TTL`,
//! pilot/pkg/bootstrap/istio_ca.go; `SECRET_TTL`, pilot/cmd/pilot-agent/options/options.go), and a proxy renews it when half of
//! that is over, give or take a hundredth (`SECRET_GRACE_PERIOD_RATIO` and its `_JITTER`, there too). So at that moment every
//! certificate had between 49 hundredths of a day and a whole day left.

use jiff::{SignedDuration, Timestamp};

use crate::revisions::Revision;

/// How long a certificate lives, where nobody has set it otherwise.
const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// How much of that is left at least, as long as it is renewed: 49 hundredths of a day.
const LEAST: SignedDuration = SignedDuration::from_secs(24 * 3600 / 100 * 49);

/// When the certificates of a revision's proxies end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// No certificate ends before.
    pub earliest: Timestamp,
    /// No certificate ends after.
    pub latest: Timestamp,
}

/// Whether certificates of a revision run out, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// They are renewed.
    Renewed,
    /// They run out between two moments, with Istio's default lifetimes.
    Ending(Expiry),
    /// They run out, and nothing in the cluster tells when.
    NoSource,
}

/// What is known of the certificates of a revision's proxies.
pub fn certificates(revision: &Revision) -> Certificates {
    use mesh::control_plane::Readiness;
    match &revision.control_plane {
        Some(plane) if plane.readiness != Readiness::NotReady => Certificates::Renewed,
        _ if revision.proxies == 0 => Certificates::Renewed,
        Some(plane) => plane.unavailable_since.map_or(Certificates::NoSource, |since| {
            match (since.checked_add(LEAST), since.checked_add(LIFE)) {
                (Ok(earliest), Ok(latest)) => Certificates::Ending(Expiry { earliest, latest }),
                _ => Certificates::NoSource,
            }
        }),
        None => Certificates::NoSource,
    }
}

#[cfg(test)]
mod tests {
    use mesh::control_plane::Readiness;

    use super::*;
    use crate::revisions::sample;

    fn revision(readiness: Readiness, proxies: u32, unavailable_since: Option<&str>) -> Revision {
        let mut revision = sample("1-26-0", "1.26.0", proxies);
        let plane = revision.control_plane.as_mut().unwrap();
        plane.readiness = readiness;
        plane.unavailable_since = unavailable_since.map(|time| time.parse().unwrap());
        revision
    }

    #[test]
    fn a_control_plane_that_answers_renews_them() {
        for readiness in [Readiness::Ready, Readiness::Unknown] {
            assert_eq!(certificates(&revision(readiness, 3, None)), Certificates::Renewed);
        }
        assert_eq!(certificates(&revision(Readiness::NotReady, 0, None)), Certificates::Renewed);
    }

    #[test]
    fn they_end_between_about_half_a_day_and_a_day_after_it_ceased_to_answer() {
        let found = certificates(&revision(Readiness::NotReady, 3, Some("2026-01-01T06:00:00Z")));
        let time = |text: &str| text.parse().unwrap();
        let expiry = Expiry { earliest: time("2026-01-01T17:45:36Z"), latest: time("2026-01-02T06:00:00Z") };
        assert_eq!(found, Certificates::Ending(expiry));
    }

    #[test]
    fn without_a_source_nothing_is_said() {
        assert_eq!(certificates(&revision(Readiness::NotReady, 3, None)), Certificates::NoSource);
        let gone = Revision { control_plane: None, ..revision(Readiness::NotReady, 3, None) };
        assert_eq!(certificates(&gone), Certificates::NoSource);
    }
}
