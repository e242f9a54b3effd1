//! Versions: of the control planes, the proxies and Kubernetes.

use mesh::advice::{Advice, Command};
use mesh::finding::{Code, Finding};
use mesh::labels;
use mesh::skew::{MINORS_AT_ONCE, TooFar, step};

use crate::precheck::facts::{Facts, error, info, warning};
use crate::revisions::Revision;
use crate::support::Releases;

/// The target has to be another revision, of a version that is known.
pub fn target(facts: &Facts) -> Vec<Finding> {
    let target = &facts.target;
    let subject = target.description();
    if target.version.is_none() {
        let message = "no image names its version, so nothing can be compared";
        return vec![error(Code::TargetVersionUnknown, subject, message, "say it: --target-version VERSION")];
    }
    if facts.survey.revisions.is_empty() {
        let message = "there is no mesh here: no control plane and no proxy";
        return vec![error(
            Code::NoMesh,
            subject,
            message,
            Advice::run(Command::istioctl("install")).and_say(", for a first one"),
        )];
    }
    if target.from.is_none() {
        let message = "there is no other revision, so there is nothing to upgrade from";
        return vec![error(
            Code::NoUpgrade,
            subject,
            message,
            Advice::run(Command::mesh_upgrade("targets")).and_say(" says what may come next"),
        )];
    }
    Vec::new()
}

/// How far a control plane may go at once.
///
/// istio.io, "Canary Upgrades": upgrading across two minor versions is supported by revisions; going back is rollback's.
pub fn minors(facts: &Facts) -> Vec<Finding> {
    let (Some(from), Some(to)) = (facts.from(), &facts.target.version) else { return Vec::new() };
    let Some(version) = from.version() else {
        let subject = format!("revision {}", from.name);
        return match from.control_plane {
            Some(_) => {
                let message = "no image names its version: how far the upgrade goes is unknown";
                vec![error(Code::VersionUnreadable, subject, message, "give its istiod an image with a version as its tag")]
            }
            None => Vec::new(),
        };
    };
    let subject = facts.target.description();
    let at_once = from.control_plane.as_ref().map_or(MINORS_AT_ONCE, |plane| plane.platform.minors_at_once());
    let Err(TooFar { code, message }) = step(version, to, at_once) else {
        if to.minors_ahead_of(version) != Some(2) {
            return Vec::new();
        }
        let message = format!("two minor versions above {version}: the proxies are two behind until they are restarted");
        return vec![warning(Code::SkewTwo, subject, message, "restart soon after each namespace or tag has moved")];
    };
    let advice = match code {
        // Only what is here can be gone back to.
        Code::Downgrade if facts.target.is_installed => {
            Command::mesh_upgrade("rollback").flag("--to", facts.target.revision_name()).into()
        }
        Code::Downgrade => {
            Advice::run(Command::mesh_upgrade("targets")).and_say(" shows what may come next: an older version is none of it")
        }
        Code::SkewTooFar => {
            let (major, minor) = version.line();
            Command::mesh_upgrade("precheck").flag("--to", format!("{major}.{}", minor + at_once)).into()
        }
        _ => Advice::none(),
    };
    vec![error(code, subject, message, advice)]
}

/// What an upgrade in place costs that a revision of its own does not.
///
/// The injector's ConfigMap is replaced before its istiod is. Seen with 1.26.0 and 1.28.2: until the new istiod answers, the old
/// one refuses every pod, since it cannot render the new template (`can't evaluate field NativeSidecars`).
pub fn in_place(facts: &Facts) -> Vec<Finding> {
    let target = &facts.target;
    let (Some(version), true) = (&target.version, target.is_in_place()) else { return Vec::new() };
    let subject = target.description();
    let is_same_minor = facts.from().and_then(Revision::version).is_some_and(|from| from.line() == version.line());
    if is_same_minor {
        let message = "its istiod is replaced for all its proxies at once, and no other is there to go back to";
        return vec![info(
            Code::InPlace,
            subject,
            message,
            "install the old patch again to go back; restart brings either to the proxies",
        )];
    }
    let message = "in place, the old istiod gets the new injector template before the new istiod answers: until then it may refuse \
                   every new pod of the revision";
    let name = version.to_string().replace('.', "-");
    let advice = Command::mesh_upgrade("start").flag("--revision", name).words("-f MANIFESTS");
    vec![warning(Code::InPlaceMinor, subject, message, advice)]
}

/// How old or new the proxies are, beside the target.
///
/// istio.io, "Supported Releases", control plane and data plane skew: a data plane is never ahead of its control plane. More than
/// two minor versions behind is supported by nobody.
pub fn data_plane(facts: &Facts) -> Vec<Finding> {
    let Some(to) = &facts.target.version else { return Vec::new() };
    let mut findings = Vec::new();
    // Proxies of a third revision stay with its control plane.
    let is_third = |revision: &&Revision| {
        let names = [facts.target.from.as_deref(), facts.target.revision.as_deref()];
        revision.control_plane.is_some() && !names.contains(&Some(revision.name.as_str()))
    };
    for revision in facts.survey.revisions.iter().filter(|revision| !is_third(revision)) {
        let subject = format!("proxies of revision {}", revision.name);
        let place = || Command::mesh_proxyver("-A --by version");
        for (version, count) in &revision.proxy_versions {
            match version.minors_ahead_of(to) {
                Some(ahead) if ahead > 0 => findings.push(error(
                    Code::DataPlaneAhead,
                    subject.clone(),
                    format!("{count} of them are {version}: a data plane is never ahead of its control plane, {to}"),
                    place(),
                )),
                Some(behind) if behind < -2 => findings.push(error(
                    Code::DataPlaneBehind,
                    subject.clone(),
                    format!("{count} of them are {version}, {} minor versions behind {to}", -behind),
                    Advice::run(Command::mesh_upgrade("restart -A")).and_say(", so that they get what their own revision brings"),
                )),
                _ => {}
            }
        }
        if revision.has_unreadable_versions {
            let message = "some have images that name no version: how far they are behind is unknown";
            findings.push(warning(Code::ProxyVersionUnreadable, subject, message, place()));
        }
    }
    findings
}

/// Whether the target runs on this Kubernetes.
///
/// The table of istio.io, "Supported Releases", and `MinK8SVersion` of istioctl/pkg/install/k8sversion, below which
/// `istioctl x precheck` fails with IST0142.
pub fn kubernetes(facts: &Facts) -> Vec<Finding> {
    let Some(version) = &facts.target.version else { return Vec::new() };
    let Some(release) = Releases::known().of(version) else { return Vec::new() };
    let subject = facts.target.description();
    let Some(kubernetes) = facts.kubernetes else {
        let message = format!("the version of Kubernetes is unknown; it needs {}", release.kubernetes_range());
        return vec![error(Code::KubernetesUnknown, subject, message, Command::kubectl("version"))];
    };
    let (major, minor) = kubernetes;
    let range = release.kubernetes_range();
    if kubernetes < release.oldest_kubernetes {
        let message = format!("Kubernetes {major}.{minor} is too old: it supports {range}");
        vec![error(Code::KubernetesTooOld, subject, message, "upgrade Kubernetes first")]
    } else if kubernetes > release.newest_kubernetes {
        let message = format!("Kubernetes {major}.{minor} is newer than what it was released for: it supports {range}");
        vec![warning(
            Code::KubernetesUntested,
            subject,
            message,
            "prefer a newer Istio, or try it on a cluster like this one first",
        )]
    } else {
        Vec::new()
    }
}

/// Whether anybody patches the target.
///
/// The table of istio.io, "Supported Releases": see `support/releases.tsv`.
pub fn support(facts: &Facts) -> Vec<Finding> {
    let Some(version) = &facts.target.version else { return Vec::new() };
    let subject = facts.target.description();
    let releases = Releases::known();
    let Some(release) = releases.of(version) else {
        let message = format!(
            "this build knows releases up to {}.{}, as of {}: what this one needs is not checked",
            releases.newest_line().0,
            releases.newest_line().1,
            releases.as_of
        );
        let advice = "https://istio.io/latest/docs/releases/supported-releases/";
        return vec![warning(Code::ReleaseUnknown, subject, message, advice)];
    };
    if release.is_supported(facts.today) {
        return Vec::new();
    }
    let word = if release.end_is_expected { ", as far as was announced" } else { "" };
    let message = format!("its support ended on {}{word}: nobody mends what is found in it", release.end);
    vec![warning(
        Code::SupportEnded,
        subject,
        message,
        Advice::run(Command::mesh_upgrade("targets")).and_say(" shows what is supported"),
    )]
}

/// Whether the control planes answer: the target has to, and without the old one there is no way back.
pub fn readiness(facts: &Facts) -> Vec<Finding> {
    let advice = |revision: &str| {
        Command::kubectl("get deployments,services,endpointslices -A").flag("-l", format!("{}={revision}", labels::REVISION))
    };
    let mut findings = Vec::new();
    if let Some(to) = facts.to().filter(|to| !to.is_ready()) {
        let message = "its control plane has no ready pod: whoever moves to it gets no proxy";
        findings.push(error(Code::ControlPlaneNotReady, format!("revision {}", to.name), message, advice(&to.name)));
    }
    if let Some(from) = facts.from().filter(|from| !from.is_ready()) {
        let message = "its control plane does not answer: there is no way back to it";
        findings.push(warning(Code::ControlPlaneNotReady, format!("revision {}", from.name), message, advice(&from.name)));
    }
    if let Some(from) = facts.from()
        && from.proxies == 0
        && !facts.survey.revisions.is_empty()
    {
        let message = "no proxy runs it: there is nothing to move";
        findings.push(info(Code::NothingToMove, format!("revision {}", from.name), message, Command::mesh_proxyver("-A")));
    }
    findings
}

/// Sidecars become native ones, init containers that go on running, with Istio 1.27 on nodes of Kubernetes 1.33 or newer:
/// `ENABLE_NATIVE_SIDECARS` is `auto` then (pilot/pkg/features/pilot.go). Who looks for `istio-proxy` among the containers misses it.
pub fn native_sidecars(facts: &Facts) -> Vec<Finding> {
    let (Some(from), Some(to), Some(kubernetes)) =
        (facts.from().and_then(Revision::version), &facts.target.version, facts.kubernetes)
    else {
        return Vec::new();
    };
    if from.line() >= (1, 27) || to.line() < (1, 27) || kubernetes < (1, 33) {
        return Vec::new();
    }
    let message = "on nodes of Kubernetes 1.33 or newer, sidecars become native ones, unless istiod's ENABLE_NATIVE_SIDECARS or a pod's annotation says otherwise: they \
                   start before, and end after, all other containers";
    let advice = "look for istio-proxy among the init containers too: in policies, dashboards and scripts";
    vec![info(Code::NativeSidecars, facts.target.description(), message, advice)]
}

#[cfg(test)]
mod tests {
    use mesh::control_plane::Readiness;
    use mesh::finding::Severity::{Error, Info, Warning};

    use super::*;
    use crate::precheck::facts::{brief, sample};
    use crate::revisions::sample as sample_revision;

    /// From a revision of `from` with proxies of `proxies` to one of `to`.
    fn facts(from: &str, proxies: &str, to: &str) -> Facts {
        let mut facts = sample([]);
        let mut revision = sample_revision("1-26-0", from, 0);
        revision.proxies = 3;
        revision.proxy_versions = [(proxies.parse().unwrap(), 3)].into();
        facts.survey.revisions = vec![revision, sample_revision("1-28-2", to, 0)];
        facts.target.version = to.parse().ok();
        facts
    }

    #[test]
    fn one_minor_upward_is_fine_two_are_to_be_minded_three_are_too_many() {
        let found = |from, to| brief(&minors(&facts(from, from, to)));
        assert_eq!(found("1.27.1", "1.28.2"), []);
        assert_eq!(found("1.28.0", "1.28.2"), []);
        assert_eq!(found("1.26.0", "1.28.2"), [("skew-two", Warning)]);
        assert_eq!(found("1.25.0", "1.28.2"), [("skew-too-far", Error)]);
        assert_eq!(found("1.28.2", "2.0.0"), [("skew-major", Error)]);
        let mut unreadable = facts("1.26.0", "1.26.0", "1.28.2");
        unreadable.survey.revisions[0].control_plane.as_mut().unwrap().version = None;
        assert_eq!(brief(&minors(&unreadable)), [("version-unreadable", Error)]);
        let far = minors(&facts("1.25.0", "1.25.0", "1.28.2"));
        assert_eq!(far[0].advice, Command::mesh_upgrade("precheck").flag("--to", "1.27").into());
    }

    #[test]
    fn going_back_is_no_upgrade() {
        for (from, to) in [("1.28.2", "1.26.0"), ("1.28.2", "1.28.0")] {
            assert_eq!(brief(&minors(&facts(from, from, to))), [("downgrade", Error)], "{from} {to}");
        }
    }

    #[test]
    fn in_place_a_new_minor_is_a_danger_and_a_patch_is_none() {
        let found = |to: &str| {
            let mut facts = facts("1.26.0", "1.26.0", to);
            facts.target.revision = facts.target.from.clone();
            facts.target.is_installed = true;
            brief(&in_place(&facts))
        };
        assert_eq!(found("1.26.3"), [("in-place", Info)]);
        assert_eq!(found("1.28.2"), [("in-place-minor", Warning)]);
        assert_eq!(brief(&in_place(&facts("1.26.0", "1.26.0", "1.28.2"))), []);
    }

    #[test]
    fn a_data_plane_is_neither_ahead_nor_far_behind() {
        let found = |proxies, to| brief(&data_plane(&facts("1.26.0", proxies, to)));
        assert_eq!(found("1.26.0", "1.28.2"), []);
        assert_eq!(found("1.28.9", "1.28.2"), []);
        assert_eq!(found("1.29.0", "1.28.2"), [("data-plane-ahead", Error)]);
        assert_eq!(found("1.25.0", "1.28.2"), [("data-plane-behind", Error)]);
        let mut unreadable = facts("1.26.0", "1.26.0", "1.28.2");
        unreadable.survey.revisions[0].has_unreadable_versions = true;
        assert_eq!(brief(&data_plane(&unreadable)), [("proxy-version-unreadable", Warning)]);
        let mut third = facts("1.26.0", "1.26.0", "1.28.2");
        third.survey.revisions.push(sample_revision("1-29-1", "1.29.1", 4));
        assert_eq!(brief(&data_plane(&third)), []);
        third.survey.revisions[2].control_plane = None;
        assert_eq!(brief(&data_plane(&third)), [("data-plane-ahead", Error)]);
    }

    #[test]
    fn kubernetes_is_neither_too_old_nor_unheard_of() {
        let found = |version| {
            let mut facts = sample([]);
            facts.kubernetes = version;
            brief(&kubernetes(&facts))
        };
        assert_eq!(found(Some((1, 30))), []);
        assert_eq!(found(Some((1, 29))), [("kubernetes-too-old", Error)]);
        assert_eq!(found(Some((1, 35))), [("kubernetes-untested", Warning)]);
        assert_eq!(found(None), [("kubernetes-unknown", Error)]);
    }

    #[test]
    fn support_that_has_ended_is_told() {
        let mut facts = sample([]);
        assert_eq!(brief(&support(&facts)), [("support-ended", Warning)]);
        facts.today = jiff::civil::date(2026, 6, 1);
        assert_eq!(brief(&support(&facts)), []);
        facts.target.version = "1.99.0".parse().ok();
        assert_eq!(brief(&support(&facts)), [("release-unknown", Warning)]);
    }

    #[test]
    fn the_target_has_to_answer_and_the_old_one_should() {
        let mut facts = sample([]);
        assert_eq!(brief(&readiness(&facts)), []);
        let not_ready = |facts: &mut Facts, place: usize| {
            facts.survey.revisions[place].control_plane.as_mut().unwrap().readiness = Readiness::NotReady;
        };
        not_ready(&mut facts, 0);
        assert_eq!(brief(&readiness(&facts)), [("control-plane-not-ready", Warning)]);
        not_ready(&mut facts, 1);
        assert_eq!(readiness(&facts)[0].severity, Error);
        let mut idle = sample([]);
        idle.survey.revisions[0].proxies = 0;
        assert_eq!(brief(&readiness(&idle)), [("nothing-to-move", Info)]);
    }

    #[test]
    fn sidecars_that_become_native_are_told() {
        let found = |from, to, kubernetes| {
            let mut facts = facts(from, from, to);
            facts.kubernetes = kubernetes;
            brief(&native_sidecars(&facts))
        };
        assert_eq!(found("1.26.0", "1.28.2", Some((1, 33))), [("native-sidecars", Info)]);
        assert_eq!(found("1.26.0", "1.28.2", Some((1, 32))), []);
        assert_eq!(found("1.27.0", "1.28.2", Some((1, 33))), []);
        assert_eq!(found("1.25.0", "1.26.0", Some((1, 33))), []);
    }

    #[test]
    fn there_has_to_be_something_to_upgrade_and_a_version_to_compare() {
        let mut facts = sample([]);
        assert_eq!(brief(&target(&facts)), []);
        facts.target.from = None;
        assert_eq!(brief(&target(&facts)), [("no-upgrade", Error)]);
        facts.survey.revisions.clear();
        assert_eq!(brief(&target(&facts)), [("no-mesh", Error)]);
        facts.target.version = None;
        assert_eq!(brief(&target(&facts)), [("target-version-unknown", Error)]);
    }
}
