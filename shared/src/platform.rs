//! Platforms: who owns a revision's control plane, and how each step of an upgrade is done there.
//!
//! Each platform is one small type with pure decisions. Istio as its own tools install it is upgraded by these plugins;
//! where somebody else owns the control plane, its steps are that owner's, and a command says which.

use std::fmt;

use crate::advice::{Advice, Command, Program};
use crate::owner::Owner;

/// A step of an upgrade that changes a control plane. Labels, tags and restarts are the user's own on every platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new control plane beside the old one.
    Start,
    /// The old one is removed.
    Complete,
    /// The new one is removed.
    Rollback,
}

/// How a step is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By these plugins.
    Ours,
    /// By `helm`, for exactly this release.
    Helm {
        /// Its name.
        release: String,
        /// Its namespace.
        namespace: String,
    },
    /// By the owner, and only there: the command, or what to do.
    Elsewhere(Advice),
}

/// A platform.
pub trait Platform: fmt::Debug {
    /// What it is called in output: one word, stable.
    fn name(&self) -> &'static str;

    /// How a step is done for a revision.
    fn way(&self, step: Step, revision: &str) -> Way;

    /// How many minor versions a control plane may go upward at once, by a canary.
    ///
    /// istio.io, "Canary Upgrades": jumping across two minor versions is supported by revisions, while an upgrade in
    /// place goes one at a time.
    fn minors_at_once(&self) -> u32 {
        crate::skew::MINORS_AT_ONCE
    }
}

/// What a control plane shows of its platform.
#[derive(Clone, Copy, Debug)]
pub struct Signs<'a> {
    /// Its revision.
    pub revision: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Who owns its Deployment, where that could be read.
    pub owner: Option<&'a Owner>,
    /// Whether its injector answers at an address outside the cluster.
    pub is_external: bool,
}

/// The platform of a control plane.
pub fn platform_of(signs: Signs<'_>) -> Box<dyn Platform> {
    let Signs { revision, namespace, owner, is_external } = signs;
    match owner {
        Some(Owner::Sail { kind, name }) => return Box::new(Sail { kind: kind.clone(), name: name.clone() }),
        Some(Owner::Aks) => return Box::new(Aks),
        Some(Owner::Controller { api_version, kind, name }) => {
            let is_cisco = ["servicemesh.cisco.com/", "istio.banzaicloud.io/"].iter().any(|group| api_version.starts_with(group));
            if is_cisco {
                return Box::new(Cisco { kind: kind.clone(), name: name.clone() });
            }
            return Box::new(Foreign { owner: format!("{kind} {name} ({api_version})") });
        }
        _ => {}
    }
    if namespace == Aks::NAMESPACE && Aks::is_revision(revision) {
        return Box::new(Aks);
    }
    if let Some((name, _)) = revision.rsplit_once('.').filter(|(_, place)| *place == namespace) {
        return Box::new(Cisco { kind: "IstioControlPlane".to_owned(), name: name.to_owned() });
    }
    if Gke::is_revision(revision) {
        return Box::new(Gke);
    }
    if is_external {
        return Box::new(Foreign { owner: "an external control plane".to_owned() });
    }
    match owner {
        Some(Owner::Helm { release, namespace }) => {
            Box::new(Istio { installer: Installer::Helm { release: release.clone(), namespace: namespace.clone() } })
        }
        Some(Owner::Istioctl) => Box::new(Istio { installer: Installer::Istioctl }),
        Some(owner @ (Owner::ArgoCd { .. } | Owner::Flux { .. })) => Box::new(GitOps { owner: owner.to_string() }),
        _ => Box::new(Istio { installer: Installer::Manifests }),
    }
}

/// Istio as its own tools install it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Istio {
    /// Which tool.
    pub installer: Installer,
}

/// What installed a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installer {
    /// `istioctl install`.
    Istioctl,
    /// A Helm release.
    Helm {
        /// Its name.
        release: String,
        /// Its namespace.
        namespace: String,
    },
    /// Rendered manifests, by whatever hand.
    Manifests,
}

impl Platform for Istio {
    fn name(&self) -> &'static str {
        "istio"
    }

    /// A new control plane is applied beside the old one whoever installed that; one that Helm installed is also removed by
    /// Helm, or its release would stay behind.
    fn way(&self, step: Step, _revision: &str) -> Way {
        match (step, &self.installer) {
            (Step::Complete | Step::Rollback, Installer::Helm { release, namespace }) => {
                Way::Helm { release: release.clone(), namespace: namespace.clone() }
            }
            _ => Way::Ours,
        }
    }
}

/// The Istio add-on of Azure Kubernetes Service: its control planes are changed by `az` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aks;

impl Aks {
    /// Where it keeps its control planes.
    pub(crate) const NAMESPACE: &str = "aks-istio-system";

    /// `asm-1-28`: the add-on names a revision by its minor version.
    fn is_revision(revision: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let numbers: Option<Vec<&str>> = revision.strip_prefix("asm-").map(|rest| rest.split('-').collect());
        numbers.is_some_and(|numbers| numbers.len() == 2 && numbers.iter().all(|number| is_number(number)))
    }
}

impl Platform for Aks {
    fn name(&self) -> &'static str {
        "aks"
    }

    fn way(&self, step: Step, revision: &str) -> Way {
        let az = |words| Command::new(Program::Other("az"), words).words("--resource-group GROUP --name CLUSTER");
        Way::Elsewhere(match step {
            Step::Start => Advice::run(az("aks mesh get-upgrades"))
                .and_say(format!(", which lists the revisions that may follow {revision}, then "))
                .and_run(az("aks mesh upgrade start").words("--revision REVISION")),
            Step::Complete => Advice::run(az("aks mesh upgrade complete")).and_say(format!(", once nothing uses {revision}")),
            Step::Rollback => Advice::run(az("aks mesh upgrade rollback")).and_say(format!(", once nothing uses {revision}")),
        })
    }
}

/// The Sail operator, and OpenShift Service Mesh 3 that is built on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sail {
    /// Kind of the object that owns the control plane.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Platform for Sail {
    fn name(&self) -> &'static str {
        "sail"
    }

    fn way(&self, step: Step, revision: &str) -> Way {
        Way::Elsewhere(match step {
            Step::Start => Advice::run(Command::kubectl("edit istio NAME"))
                .and_say(": set spec.updateStrategy.type to RevisionBased, then spec.version"),
            Step::Complete => {
                let (kind, name) = (&self.kind, &self.name);
                Advice::say(format!("nothing to do: the operator removes {kind} {name} once nothing uses revision {revision}"))
            }
            Step::Rollback => Advice::run(Command::kubectl("edit istio NAME")).and_say(": set spec.version back"),
        })
    }
}

/// Cisco Service Mesh Manager, and the operator of banzaicloud that it is built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cisco {
    /// Kind of the object that owns the control plane.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Platform for Cisco {
    fn name(&self) -> &'static str {
        "cisco"
    }

    fn way(&self, step: Step, revision: &str) -> Way {
        let namespace = revision.rsplit_once('.').map_or("NAMESPACE", |(_, namespace)| namespace);
        let kubectl = || Command::kubectl("").namespace(namespace);
        Way::Elsewhere(match step {
            Step::Start => Advice::run(kubectl().words("get istiocontrolplanes.servicemesh.cisco.com -o yaml"))
                .and_say(", and apply one of a newer version beside it"),
            Step::Complete | Step::Rollback => {
                Advice::run(kubectl().words("delete istiocontrolplanes.servicemesh.cisco.com").value(&self.name))
                    .and_say(format!(", once nothing uses {revision}"))
            }
        })
    }
}

/// Google's managed control planes: nothing of them is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gke;

impl Gke {
    /// `asm-managed`, `asm-managed-rapid`, `asm-managed-stable`: the release channels.
    pub(crate) fn is_revision(revision: &str) -> bool {
        revision == "asm-managed" || revision.starts_with("asm-managed-")
    }
}

impl Platform for Gke {
    fn name(&self) -> &'static str {
        "gke"
    }

    fn way(&self, _step: Step, revision: &str) -> Way {
        let describe = Command::new(Program::Other("gcloud"), "container fleet mesh describe");
        Way::Elsewhere(
            Advice::say(format!("Google moves {revision} by its release channel: "))
                .and_run(describe)
                .and_say(" says where it is"),
        )
    }
}

/// A control plane whose manifests are kept in a repository, from which Argo CD or Flux would put back what we change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitOps {
    /// Who, in words.
    pub owner: String,
}

impl Platform for GitOps {
    fn name(&self) -> &'static str {
        "gitops"
    }

    fn way(&self, step: Step, revision: &str) -> Way {
        Way::Elsewhere(match step {
            Step::Start => Advice::say(format!("add the new revision's manifests to the repository of {}", self.owner)),
            Step::Complete | Step::Rollback => {
                Advice::say(format!("take revision {revision} out of the repository of {}, once nothing uses it", self.owner))
            }
        })
    }
}

/// An owner whose ways nobody here knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Who, in words.
    pub owner: String,
}

impl Platform for Foreign {
    fn name(&self) -> &'static str {
        "other"
    }

    fn way(&self, _step: Step, revision: &str) -> Way {
        let owner = &self.owner;
        Way::Elsewhere(Advice::say(format!("{owner} owns the control plane of revision {revision}: change it there")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(revision: &str, namespace: &str, owner: &Owner) -> Box<dyn Platform> {
        platform_of(Signs { revision, namespace, owner: Some(owner), is_external: false })
    }

    fn helm() -> Owner {
        Owner::Helm { release: "istiod-1-28-2".to_owned(), namespace: "istio-system".to_owned() }
    }

    #[test]
    fn each_platform_is_known_by_its_marks() {
        let name = |revision, namespace, owner: &Owner| platform(revision, namespace, owner).name();
        assert_eq!(name("1-28-2", "istio-system", &Owner::Istioctl), "istio");
        assert_eq!(name("1-28-2", "istio-system", &helm()), "istio");
        assert_eq!(name("asm-1-28", "aks-istio-system", &Owner::Nobody), "aks");
        assert_eq!(name("asm-1-28", "istio-system", &Owner::Aks), "aks");
        assert_eq!(name("cp-v115x.istio-system", "istio-system", &Owner::Nobody), "cisco");
        assert_eq!(name("asm-managed-rapid", "istio-system", &Owner::Nobody), "gke");
        let sail = Owner::Sail { kind: "IstioRevision".to_owned(), name: "default-v1-24-1".to_owned() };
        assert_eq!(name("default-v1-24-1", "istio-system", &sail), "sail");
        let argo = Owner::ArgoCd { application: "mesh".to_owned() };
        assert_eq!(name("1-28-2", "istio-system", &argo), "gitops");
        let controller = |api_version: &str| Owner::Controller {
            api_version: api_version.to_owned(),
            kind: "IstioControlPlane".to_owned(),
            name: "cp".to_owned(),
        };
        assert_eq!(name("cp.istio-system", "istio-system", &controller("servicemesh.cisco.com/v1alpha1")), "cisco");
        assert_eq!(name("cp", "istio-system", &controller("maistra.io/v2")), "other");
    }

    #[test]
    fn names_that_only_look_alike_are_plain_istio() {
        let name = |revision, namespace| platform(revision, namespace, &Owner::Nobody).name();
        // A revision with a dot whose end is another namespace; the add-on's names elsewhere; another revision there.
        assert_eq!(name("1.28", "istio-system"), "istio");
        assert_eq!(name("asm-1-28", "istio-system"), "istio");
        assert_eq!([name("asm-1-28-x", "aks-istio-system"), name("asm--1", "aks-istio-system")], ["istio", "istio"]);
    }

    #[test]
    fn only_plain_istio_is_changed_by_us() {
        let ours = platform("1-28-2", "istio-system", &Owner::Istioctl);
        assert!([Step::Start, Step::Complete, Step::Rollback].iter().all(|step| ours.way(*step, "1-28-2") == Way::Ours));
        let by_helm = platform("1-28-2", "istio-system", &helm());
        let release = Way::Helm { release: "istiod-1-28-2".to_owned(), namespace: "istio-system".to_owned() };
        assert_eq!((by_helm.way(Step::Start, "1-29"), by_helm.way(Step::Complete, "1-28-2")), (Way::Ours, release));
        let sail = Sail { kind: "IstioRevision".to_owned(), name: "x".to_owned() };
        let cisco = Cisco { kind: "IstioControlPlane".to_owned(), name: "cp-v115x".to_owned() };
        let git_ops = GitOps { owner: "Argo CD application mesh".to_owned() };
        let foreign = Foreign { owner: "somebody".to_owned() };
        let others: [&dyn Platform; 6] = [&Aks, &sail, &cisco, &Gke, &git_ops, &foreign];
        for other in others {
            for step in [Step::Start, Step::Complete, Step::Rollback] {
                assert!(matches!(other.way(step, "r.ns"), Way::Elsewhere(how) if !how.is_empty()), "{other:?} {step:?}");
            }
        }
    }

    #[test]
    fn an_external_control_plane_is_somebody_elses() {
        let signs = Signs { revision: "1-28-2", namespace: "istio-system", owner: None, is_external: true };
        assert_eq!(platform_of(signs).name(), "other");
    }
}
