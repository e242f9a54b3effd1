//! The one rule by which proxies are compared: what runs, what a dry run shows, what a new pod got, and what is wanted.
//!
//! A mirror of the same image is the same image, and a digest that a policy writes behind the tag changes nothing. Where a
//! reference has lost its tag, nobody can tell its version from the reference: that is unknown, never the same.

use crate::image::{Image, ImageDifference};
use crate::injection::Injected;
use crate::proxy::Proxy;
use crate::state::Reason;
use crate::verdict::Wanted;

/// What a proxy is compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The revision that injected it, where one is named.
    pub revision: Option<&'a str>,
    /// Its image as declared, where one is known.
    pub image: Option<&'a str>,
}

impl<'a> Identity<'a> {
    fn new(revision: Option<&'a str>, image: Option<&'a str>) -> Identity<'a> {
        Identity { revision: revision.filter(|revision| !revision.is_empty()), image: image.filter(|image| !image.is_empty()) }
    }
}

impl<'a> From<&'a Proxy> for Identity<'a> {
    fn from(proxy: &'a Proxy) -> Identity<'a> {
        Identity::new(proxy.revision.as_deref(), Some(&proxy.image))
    }
}

impl<'a> From<&'a Wanted> for Identity<'a> {
    fn from(wanted: &'a Wanted) -> Identity<'a> {
        Identity::new(wanted.revision.as_deref(), wanted.image.as_deref())
    }
}

impl<'a> From<&'a Injected> for Identity<'a> {
    fn from(injected: &'a Injected) -> Identity<'a> {
        Identity::new(Some(&injected.revision), injected.image.as_ref().ok().map(String::as_str))
    }
}

/// How one part of two proxies stands to the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They are the same.
    Same,
    /// They differ, and this is the reason.
    Different(Reason),
    /// One of the two does not say it, or says it in a way that cannot be compared.
    Unknown,
}

/// How a proxy stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Their revisions.
    pub revision: Agreement,
    /// Their images.
    pub image: Agreement,
}

impl Comparison {
    /// Compares a proxy with the one that is wanted.
    pub fn of<'a>(running: impl Into<Identity<'a>>, wanted: impl Into<Identity<'a>>) -> Comparison {
        let (running, wanted) = (running.into(), wanted.into());
        let revision = match (running.revision, wanted.revision) {
            (Some(running), Some(wanted)) if running == wanted => Agreement::Same,
            (Some(_), Some(_)) => Agreement::Different(Reason::Revision),
            _ => Agreement::Unknown,
        };
        let image = match (running.image, wanted.image) {
            (Some(running), Some(wanted)) => match Image::parse(running).difference(&Image::parse(wanted)) {
                ImageDifference::Same => Agreement::Same,
                ImageDifference::Variant => Agreement::Different(Reason::Variant),
                ImageDifference::Other => Agreement::Different(Reason::Image),
                ImageDifference::Unreadable => Agreement::Unknown,
            },
            _ => Agreement::Unknown,
        };
        Comparison { revision, image }
    }

    /// The reasons for which they differ; none when they do not, or when that is not known.
    pub fn differences(self) -> impl Iterator<Item = Reason> {
        [self.revision, self.image].into_iter().filter_map(|agreement| match agreement {
            Agreement::Different(reason) => Some(reason),
            Agreement::Same | Agreement::Unknown => None,
        })
    }

    /// Whether they surely differ.
    pub fn is_different(self) -> bool {
        self.differences().next().is_some()
    }

    /// Whether they are the same, as far as the two tell: all that both of them say agrees, and the image does for sure.
    pub fn is_same(self) -> bool {
        !self.is_different() && self.image == Agreement::Same
    }

    /// Whether the revision agrees, and the images cannot be compared: the revision alone speaks for them.
    pub fn is_by_revision_alone(self) -> bool {
        self.revision == Agreement::Same && self.image == Agreement::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_and_a_digest_behind_the_tag_are_the_same_and_another_image_is_not() {
        use Agreement::{Different, Same, Unknown};
        let check = |running: &str, wanted: &str, expected: Agreement| {
            let [running, wanted] = [running, wanted].map(|image| Identity { revision: Some("1-28-2"), image: Some(image) });
            let comparison = Comparison::of(running, wanted);
            assert_eq!((comparison.revision, comparison.image), (Same, expected), "{running:?} / {wanted:?}");
            assert_eq!(comparison.is_different(), matches!(expected, Different(_)), "{running:?} / {wanted:?}");
        };
        let wanted = "docker.io/istio/proxyv2:1.28.2";
        for same in [
            wanted,
            "mirror.example.org/istio/proxyv2:1.28.2",
            "localhost:5000/proxyv2:1.28.2",
            "mirror.example.org/dockerhub/istio/proxyv2:1.28.2@sha256:ab",
        ] {
            check(same, wanted, Same);
            check(wanted, same, Same);
        }
        for other in ["docker.io/istio/proxyv2:1.26.0", "mirror/proxyv2:1.28.2-1", "mirror/proxyv2:latest"] {
            check(other, wanted, Different(Reason::Image));
        }
        check("docker.io/istio/agentgateway:1.28.2", wanted, Different(Reason::Image));
        check("mirror/proxyv2:1.28.2-distroless", wanted, Different(Reason::Variant));
        check("mirror/proxyv2:1.28.2-debug", "docker.io/istio/proxyv2:1.28.2-distroless", Different(Reason::Variant));
        // Without a tag there is no version to compare; two digests are compared all the same.
        check("mirror/proxyv2@sha256:ab", wanted, Unknown);
        check("mirror/proxyv2@sha256:ab", "docker.io/istio/proxyv2@sha256:ab", Same);
        check("mirror/istio-proxy@sha256:ab", "docker.io/istio/proxyv2@sha256:ab", Same);
        check("mirror/proxyv2@sha256:ab", "mirror/proxyv2@sha256:cd", Different(Reason::Image));
    }

    #[test]
    fn what_one_of_them_does_not_say_is_unknown() {
        let of = |running: (&'static str, &'static str), wanted: (&'static str, &'static str)| {
            let [running, wanted] = [running, wanted].map(|(revision, image)| Identity::new(Some(revision), Some(image)));
            Comparison::of(running, wanted)
        };
        let by_revision = of(("a", ""), ("a", "proxyv2:1"));
        assert!(by_revision.is_by_revision_alone() && !by_revision.is_same() && !by_revision.is_different());
        let by_image = of(("", "proxyv2:1"), ("a", "proxyv2:1"));
        assert!(by_image.is_same() && !by_image.is_by_revision_alone());
        let nothing = of(("", ""), ("a", "proxyv2:1"));
        assert!(!nothing.is_same() && !nothing.is_by_revision_alone() && !nothing.is_different());
        assert!(of(("b", ""), ("a", "")).is_different());
        assert!(of(("b", "proxyv2:1"), ("a", "proxyv2:1")).is_different());
    }
}
