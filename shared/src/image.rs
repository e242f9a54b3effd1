//! Image references, and which of their differences matter.

use std::fmt;

use crate::version::Version;

/// The suffixes that Istio puts on a tag for the variants that it publishes
/// (`KnownImageTypes`, pkg/kube/inject/inject.go).
const VARIANTS: [&str; 2] = ["distroless", "debug"];

/// A parsed image reference: `registry/path/name[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Everything before tag and digest.
    pub repository: &'a str,
    /// The tag, without its colon.
    pub tag: Option<&'a str>,
    /// The digest, for example `sha256:…`.
    pub digest: Option<&'a str>,
}

/// How what runs differs from what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageDifference {
    /// Nothing that matters; a mirror of the same tag in another registry is the same image.
    Same,
    /// The same version in another variant.
    Variant,
    /// Another version, name or digest.
    Other,
    /// One of them names no version (only a digest): nobody can tell from the references.
    Unreadable,
}

impl<'a> Image<'a> {
    /// Takes a reference apart. Never fails: a reference that the container runtime would refuse has no tag.
    pub fn parse(reference: &'a str) -> Image<'a> {
        let (named, digest) = match reference.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (reference, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let name_start = named.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match named[name_start..].split_once(':') {
            Some((name, tag)) => (&named[..name_start + name.len()], Some(tag)),
            None => (named, None),
        };
        Image { repository, tag: tag.filter(|tag| !tag.is_empty()), digest }
    }

    /// The last part of the repository, for example `proxyv2`.
    pub fn name(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or(self.repository)
    }

    /// The tag without the variant's suffix, and without what admission has written behind it.
    pub fn plain_tag(&self) -> Option<&'a str> {
        self.declared_tag().map(|tag| split_variant(tag).0)
    }

    /// The variant that the tag's suffix names.
    pub fn variant(&self) -> Option<&'a str> {
        self.declared_tag().and_then(|tag| split_variant(tag).1)
    }

    /// The tag as somebody declared it: Zarf's webhook writes `-zarf-` and a checksum of the reference behind it
    /// (`ImageTransformHost`, src/pkg/transform/image.go of zarf-dev/zarf).
    fn declared_tag(&self) -> Option<&'a str> {
        let tag = self.tag?;
        let checksum = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        Some(match tag.rsplit_once("-zarf-") {
            Some((declared, rest)) if checksum(rest) && !declared.is_empty() => declared,
            _ => tag,
        })
    }

    /// Whether both names mean one image. A mirror that has no folders writes them into the name: `docker.io-istio-proxyv2`,
    /// `istio_proxyv2`. What stands before the name must be of the other's path, or it is a name of its own.
    fn has_name_of(&self, other: &Image<'_>) -> bool {
        let is_flat_of = |flat: &Image<'_>, plain: &Image<'_>| {
            let words = |text: &'_ str| -> Vec<String> {
                text.split(['/', '.', '-', '_', ':']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let Some(prefix) = flat.name().strip_suffix(plain.name()).and_then(|prefix| prefix.strip_suffix(['-', '_', '.']))
            else {
                return false;
            };
            let folders = plain.repository.strip_suffix(plain.name()).unwrap_or_default();
            let (folders, prefix) = (words(folders), words(prefix));
            !prefix.is_empty() && (prefix.last() == folders.last() || prefix.iter().all(|word| folders.contains(word)))
        };
        self.name() == other.name() || is_flat_of(self, other) || is_flat_of(other, self)
    }

    /// The version that the tag names, if it names one.
    pub fn version(&self) -> Option<Version> {
        self.plain_tag().and_then(|tag| tag.parse().ok())
    }

    /// Compares what runs (`self`) with what is `wanted`.
    pub fn difference(&self, wanted: &Image<'_>) -> ImageDifference {
        // A digest is the content itself, whatever a mirror calls it.
        match (self.digest, wanted.digest) {
            (Some(mine), Some(other)) if mine == other => return ImageDifference::Same,
            (Some(_), Some(_)) => return ImageDifference::Other,
            _ => {}
        }
        if !self.has_name_of(wanted) {
            return ImageDifference::Other;
        }
        match (self.declared_tag(), wanted.declared_tag()) {
            (Some(mine), Some(other)) if mine == other => ImageDifference::Same,
            (Some(_), Some(_)) if self.plain_tag() == wanted.plain_tag() => ImageDifference::Variant,
            (Some(_), Some(_)) => ImageDifference::Other,
            (None, None) if self.digest.is_none() && wanted.digest.is_none() => ImageDifference::Same,
            _ => ImageDifference::Unreadable,
        }
    }
}

impl fmt::Display for Image<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.repository)?;
        if let Some(tag) = self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

/// Composes a tag and a variant as the injector does: a known variant already on the tag is replaced, `default` means
/// none. Source: `updateImageTypeIfPresent`, pkg/kube/inject/inject.go.
pub fn tag_with_variant(tag: &str, variant: &str) -> String {
    if variant.is_empty() {
        return tag.to_owned();
    }
    let plain = split_variant(tag).0;
    if variant == "default" { plain.to_owned() } else { format!("{plain}-{variant}") }
}

fn split_variant(tag: &str) -> (&str, Option<&str>) {
    for variant in VARIANTS {
        if let Some(plain) = tag.strip_suffix(variant).and_then(|rest| rest.strip_suffix('-')) {
            return (plain, Some(&tag[plain.len() + 1..]));
        }
    }
    (tag, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_with_ports_tags_and_digests_are_taken_apart() {
        let check = |text: &str, repository: &str, tag: Option<&str>, digest: Option<&str>| {
            let image = Image::parse(text);
            assert_eq!((image.repository, image.tag, image.digest), (repository, tag, digest), "{text}");
            assert_eq!(image.to_string(), text);
        };
        check("proxyv2", "proxyv2", None, None);
        check("docker.io/istio/proxyv2:1.28.2", "docker.io/istio/proxyv2", Some("1.28.2"), None);
        check("localhost:5000/proxyv2", "localhost:5000/proxyv2", None, None);
        check("localhost:5000/istio/proxyv2:1.28.2-debug", "localhost:5000/istio/proxyv2", Some("1.28.2-debug"), None);
        check("a/proxyv2@sha256:ab", "a/proxyv2", None, Some("sha256:ab"));
        check("a:1/proxyv2:1.2.3@sha256:ab", "a:1/proxyv2", Some("1.2.3"), Some("sha256:ab"));
    }

    #[test]
    fn differences_are_those_that_matter() {
        use ImageDifference::*;
        let check = |running: &str, wanted: &str, expected: ImageDifference| {
            assert_eq!(Image::parse(running).difference(&Image::parse(wanted)), expected, "{running} / {wanted}");
        };
        check("docker.io/istio/proxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Same);
        check("docker.io/istio/proxyv2:1.28.2", "registry.istio.io/release/proxyv2:1.28.2", Same);
        check("docker.io/istio/proxyv2:1.28.2", "localhost:5000/proxyv2:1.28.2", Same);
        check("a/proxyv2:1.28.2", "a/proxyv2:1.28.3", Other);
        check("a/proxyv2:1.28.9-2", "a/proxyv2:1.28.9-3", Other);
        check("a/proxyv2:1.28.2", "a/proxyv2:1.28.2-distroless", Variant);
        check("a/proxyv2:1.28.2-debug", "a/proxyv2:1.28.2-distroless", Variant);
        check("a/proxyv2:1.28.2", "a/agentgateway:1.28.2", Other);
        check("a/proxyv2@sha256:1", "a/proxyv2@sha256:1", Same);
        check("a/proxyv2@sha256:1", "a/proxyv2@sha256:2", Other);
        check("a/proxyv2:1.28.2@sha256:1", "a/proxyv2:1.28.2", Same);
        check("a/proxyv2@sha256:1", "a/proxyv2:1.28.2", Unreadable);
        check("a/proxyv2:latest", "a/proxyv2:latest", Same);
        // Zarf's webhook changes the tag too; a checksum is digits.
        check("127.0.0.1:31999/istio/proxyv2:1.28.2-zarf-3487612384", "docker.io/istio/proxyv2:1.28.2", Same);
        check("127.0.0.1:31999/proxyv2:1.28.2-distroless-zarf-34", "docker.io/istio/proxyv2:1.28.2-distroless", Same);
        check("127.0.0.1:31999/proxyv2:1.28.2-distroless-zarf-34", "docker.io/istio/proxyv2:1.28.2", Variant);
        check("127.0.0.1:31999/proxyv2:1.27.0-zarf-34", "docker.io/istio/proxyv2:1.28.2", Other);
        check("a/proxyv2:1.28.2-zarf-x", "a/proxyv2:1.28.2", Other);
        // Mirrors without folders, and names that only end alike.
        check("mirror/docker.io-istio-proxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Same);
        check("mirror/istio_proxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Same);
        check("mirror/dockerhub-istio-proxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Same);
        check("mirror/istio-proxyv2:1.27.0", "docker.io/istio/proxyv2:1.28.2", Other);
        check("mirror/our-proxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Other);
        check("mirror/otherproxyv2:1.28.2", "docker.io/istio/proxyv2:1.28.2", Other);
        check("a/proxyv2:latest", "a/proxyv2:1.28.2", Other);
    }

    #[test]
    fn variants_are_composed_as_the_injector_does() {
        let check = |tag, variant, expected| assert_eq!(tag_with_variant(tag, variant), expected);
        check("1.28.2", "", "1.28.2");
        check("1.28.2-distroless", "", "1.28.2-distroless");
        check("1.28.2", "distroless", "1.28.2-distroless");
        check("1.28.2-distroless", "distroless", "1.28.2-distroless");
        check("1.28.2-distroless", "debug", "1.28.2-debug");
        check("1.28.2-debug", "default", "1.28.2");
        check("1.28.9-2-distroless", "default", "1.28.9-2");
    }

    #[test]
    fn tags_that_are_no_versions_have_none() {
        assert_eq!(Image::parse("a/proxyv2:latest").version(), None);
        assert_eq!(Image::parse("a/proxyv2@sha256:1").version(), None);
        assert_eq!(Image::parse("a/proxyv2:1.28.2-distroless").version(), "1.28.2".parse().ok());
        assert_eq!(Image::parse("a/proxyv2:1.28.2-zarf-34").version(), "1.28.2".parse().ok());
    }
}
