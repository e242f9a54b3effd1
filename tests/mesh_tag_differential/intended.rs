//! Where mesh-tag means to differ from istioctl, and why. Whatever is not here fails the test, and so does a line that
//! nothing comes of.

use support::IstioVersion;

use crate::comparison::Difference;

/// One intended difference.
pub struct Intended {
    /// What is different.
    pub what: &'static str,
    /// Why that is better.
    #[expect(dead_code, reason = "it is read by people")]
    pub why: &'static str,
    /// The worlds in which it comes; all when empty.
    pub worlds: &'static [&'static str],
    /// The istioctls beside which it comes.
    pub beside: &'static [IstioVersion],
    /// Which differences are meant.
    pub is_meant: fn(step: &str, difference: &Difference) -> bool,
}

impl Intended {
    /// Whether a difference is this one.
    pub fn covers(&self, world: &str, istioctl: IstioVersion, step: &str, difference: &Difference) -> bool {
        self.is_expected(world, istioctl) && (self.is_meant)(step, difference)
    }

    /// Whether it must come.
    pub fn is_expected(&self, world: &str, istioctl: IstioVersion) -> bool {
        (self.worlds.is_empty() || self.worlds.contains(&world)) && self.beside.contains(&istioctl)
    }
}

const BOTH: &[IstioVersion] = &[IstioVersion::V1_26_0, IstioVersion::V1_28_2];
const OLD: &[IstioVersion] = &[IstioVersion::V1_26_0];
const NEW: &[IstioVersion] = &[IstioVersion::V1_28_2];

/// The table.
pub const INTENDED: &[Intended] = &[
    Intended {
        what: "a note of the moves on the tag's webhook",
        why: "undo follows it",
        worlds: &[],
        beside: BOTH,
        is_meant: |_, difference| difference.path == "metadata.annotations.kubectl-mesh/history",
    },
    Intended {
        what: "no Service for a tag of an istiod before 1.28",
        why: "that istiod does not look at it; with the tag at an older revision it could only disagree",
        worlds: &["named", "helm", "aks", "default"],
        beside: NEW,
        is_meant: |_, difference| is_tag_service(difference) && difference.path.is_empty() && difference.ours == "(absent)",
    },
    Intended {
        what: "the Service of the default tag selects as the revision's own Service does",
        why: "the revision's own Service is what is known to work; both select the same pods",
        worlds: &["default"],
        beside: NEW,
        is_meant: |_, difference| {
            difference.subject == "service/istiod-revision-tag-default" && difference.path.starts_with("spec.selector.")
        },
    },
    Intended {
        what: "a Service for a tag of an istiod from 1.28 on, which goes with the tag",
        why: "istiod 1.28 knows its tags by it; istioctl 1.26 neither makes, moves nor removes it, and leaves it pointing elsewhere",
        worlds: &["named", "first default"],
        beside: OLD,
        is_meant: |_, difference| is_tag_service(difference),
    },
    Intended {
        what: "istioctl tag list tells no tag that is gone, and no tag twice",
        why: "it shows the Service that istioctl 1.26 left behind",
        worlds: &["first default"],
        beside: OLD,
        is_meant: |_, difference| difference.subject == "tag list",
    },
    Intended {
        what: "a note of what the default validator was before",
        why: "remove and undo go back to it",
        worlds: &["first default"],
        beside: OLD,
        is_meant: |_, difference| difference.path == "metadata.annotations.kubectl-mesh/previous",
    },
    Intended {
        what: "the default validator is no tag's once the tag is gone",
        why: "it goes on validating, and does not claim a tag that is not there",
        worlds: &["first default"],
        beside: OLD,
        is_meant: |step, difference| {
            step.starts_with("Remove")
                && difference.subject == "validator/istiod-default-validator"
                && difference.path == "metadata.labels.istio.io/tag"
        },
    },
    Intended {
        what: "no labels that name the release of the revision",
        why: "the tag outlives that release, and must not be taken for a part of it",
        worlds: &[],
        beside: BOTH,
        is_meant: |_, difference| {
            let keys = [
                "release",
                "helm.sh/chart",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/managed-by",
                "app.kubernetes.io/version",
            ];
            let label = difference.path.strip_prefix("metadata.labels.");
            label.is_some_and(|label| keys.contains(&label)) && difference.ours == "(absent)"
        },
    },
    Intended {
        what: "no annotations of Helm's",
        why: "istioctl copies those of the revision's webhook, by which Helm takes the tag for its own",
        worlds: &["helm"],
        beside: NEW,
        is_meant: |_, difference| {
            difference.path.starts_with("metadata.annotations.meta.helm.sh/") && difference.ours == "(absent)"
        },
    },
    Intended {
        what: "the platform's own terms in the tag's selectors",
        why: "istioctl renders its own chart, so that a tag injects where the platform forbids it",
        worlds: &["aks"],
        beside: NEW,
        is_meant: |_, difference| {
            difference.subject.starts_with("webhook/istio-revision-tag-")
                && difference.path.ends_with(".namespaceSelector.matchExpressions")
                && difference.ours.contains("kubernetes.azure.com/managedby")
        },
    },
    Intended {
        what: "no injection where the platform forbids it",
        why: "the same terms, as the API server applies them",
        worlds: &["aks"],
        beside: NEW,
        is_meant: |_, difference| difference.path.starts_with("grid-platform ") && difference.ours == "no proxy",
    },
];

fn is_tag_service(difference: &Difference) -> bool {
    difference.subject.starts_with("service/istiod-revision-tag-")
}
