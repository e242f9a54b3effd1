//! What a dry-run pod shows of a restart: whether new pods get what is wanted, by the rule that compares all proxies.

use mesh::comparison::{Agreement, Comparison};
use mesh::injection::Injection;
use mesh::verdict::Wanted;

/// What a dry run has shown of a workload whose restart it does not speak against.
#[derive(Debug, PartialEq)]
pub struct Shown {
    /// What its new pods run, with the image of the dry-run pod.
    pub wanted: Option<Wanted>,
    /// What is worth knowing about it.
    pub note: Option<String>,
}

/// What there is to say where no dry run has answered.
///
/// # Errors
/// Always: nothing speaks for the restart.
pub fn not_asked() -> Result<Shown, String> {
    Err("no dry run has answered for it".to_owned())
}

/// What a dry run shows of the pod that is wanted.
///
/// # Errors
/// Why it speaks against a restart.
pub fn shown(answer: &Injection, wanted: Option<&Wanted>) -> Result<Shown, String> {
    let (injected, wanted) = match (answer, wanted) {
        (Injection::Injected(injected), Some(wanted)) => (injected, wanted),
        (Injection::Injected(injected), None) => return Err(format!("a new pod gets a proxy of revision {}", injected.revision)),
        (Injection::NoInjector | Injection::Declined(_), None) => return Ok(Shown { wanted: None, note: None }),
        (Injection::NoInjector | Injection::Declined(_), Some(_)) => return Err("a new pod gets no proxy".to_owned()),
        (Injection::Refused(refused), _) => return Err(format!("a new pod is refused: {}", refused.why)),
        (Injection::Unknown(doubt), _) => return Err(format!("what a new pod gets could not be found out: {}", doubt.why)),
    };
    let comparison = Comparison::of(injected, wanted);
    let image = injected.image.as_deref().unwrap_or("an image that is not known");
    let derived = wanted.image.as_deref().unwrap_or("an image that is not known");
    match comparison {
        Comparison { revision: Agreement::Different(_), .. } => {
            let revision = wanted.revision.as_deref().unwrap_or("unknown");
            return Err(format!("a new pod gets revision {}, not {revision}", injected.revision));
        }
        Comparison { image: Agreement::Different(_), .. } => return Err(format!("a new pod gets {image}, not {derived}")),
        same if same.is_same() || same.is_by_revision_alone() => {}
        _ => return Err(format!("a new pod gets {image}, and nothing tells whether that is what is wanted")),
    }
    let note = (comparison.is_by_revision_alone() && wanted.image.is_some()).then(|| {
        format!("new pods get {image} for {derived}: its version cannot be read off, so the revision and this dry run decide")
    });
    Ok(Shown { wanted: Some(Wanted { image: injected.image.as_ref().ok().cloned(), ..wanted.clone() }), note })
}

#[cfg(test)]
mod tests {
    use mesh::injection::{Doubt, Injected};
    use mesh::state::Reason;

    use super::*;

    fn injected(revision: &str, image: &str) -> Injection {
        Injection::Injected(Injected {
            revision: revision.to_owned(),
            tag: None,
            injector: String::new(),
            image: Ok(image.to_owned()),
            pin: None,
            native: None,
        })
    }

    fn wanted(image: &str) -> Wanted {
        Wanted { revision: Some("new".to_owned()), tag: None, injector: None, image: Some(image.to_owned()) }
    }

    #[test]
    fn a_dry_run_that_shows_another_image_speaks_against_a_restart() {
        let against =
            |revision: &str, image: &str| shown(&injected(revision, image), Some(&wanted("istio/proxyv2:1.28.2"))).err();
        assert_eq!(against("new", "istio/proxyv2:1.28.2"), None);
        assert_eq!(against("new", "mirror/proxyv2:1.28.2@sha256:ab"), None);
        assert_eq!(against("new", "mirror/proxyv2@sha256:ab"), None);
        for (revision, image, why) in [
            ("old", "istio/proxyv2:1.28.2", "a new pod gets revision old, not new"),
            ("new", "istio/proxyv2:1.26.0", "a new pod gets istio/proxyv2:1.26.0, not istio/proxyv2:1.28.2"),
            ("new", "istio/proxyv2:1.28.2-debug", "a new pod gets istio/proxyv2:1.28.2-debug, not istio/proxyv2:1.28.2"),
            ("new", "mirror/envoy:1.28.2", "a new pod gets mirror/envoy:1.28.2, not istio/proxyv2:1.28.2"),
            ("", "mirror/proxyv2@sha256:ab", "a new pod gets mirror/proxyv2@sha256:ab, and nothing tells"),
        ] {
            let found = against(revision, image).unwrap_or_default();
            assert!(found.starts_with(why), "{revision} {image}: {found}");
        }
    }

    #[test]
    fn new_pods_are_compared_with_the_image_that_the_dry_run_has_shown() {
        let Shown { wanted: found, note } =
            shown(&injected("new", "mirror/proxyv2@sha256:ab"), Some(&wanted("istio/proxyv2:1.28.2"))).unwrap();
        assert_eq!(found.and_then(|wanted| wanted.image).as_deref(), Some("mirror/proxyv2@sha256:ab"));
        assert!(note.unwrap().contains("its version cannot be read off"));
    }

    #[test]
    fn what_a_dry_run_does_not_tell_speaks_against_a_restart() {
        let unknown = Injection::Unknown(Doubt { reason: Reason::Probe, why: "no answer".to_owned() });
        assert!(shown(&unknown, Some(&wanted("a"))).is_err());
        assert!(not_asked().is_err());
        assert!(shown(&Injection::NoInjector, Some(&wanted("a"))).is_err());
        assert!(shown(&injected("new", "a"), None).is_err());
        assert_eq!(shown(&Injection::NoInjector, None), Ok(Shown { wanted: None, note: None }));
    }
}
