//! What a release of helm holds. Helm changes and removes a release as a whole: what else is in it goes along.

use mesh::advice::{Advice, Command};
use std::collections::BTreeSet;
use std::process::ExitStatus;

use mesh::cluster::connection::Connection;
use mesh::control_plane::revision_suffix;
use mesh::installation::Installation;
use mesh::labels;
use mesh::manifest::manifests;
use mesh::owner::{Owner, owner_of};
use mesh::refusal::Refusal;
use mesh::terminal::stop::Stop;
use serde_json::Value;

use super::Program;
use crate::complete::removal::parts;

/// A release: its objects, as helm has noted them.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The objects of its manifest.
    objects: Vec<Value>,
    /// The objects of its hooks, which helm makes and deletes as it goes.
    hooks: Vec<Value>,
}

/// What identifies an object: its group, kind, namespace and name.
type Identity = (String, String, String, String);

impl Release {
    /// Reads the newest state of a release, or `None` when there is none of that name.
    ///
    /// # Errors
    /// When helm fails, or its answer cannot be understood: then nobody knows what the release holds.
    pub async fn read(connection: &Connection, name: &str, namespace: &str) -> Result<Option<Release>, Stop> {
        Release::of_revision(connection, name, namespace, None).await
    }

    /// Reads every state that an upgrade of a release would start from: the newest, and the one that helm counts as deployed.
    ///
    /// # Errors
    /// As [`Release::read`].
    pub async fn read_all(connection: &Connection, name: &str, namespace: &str) -> Result<Vec<Release>, Stop> {
        let Some(newest) = Release::read(connection, name, namespace).await? else { return Ok(Vec::new()) };
        let mut all = vec![newest];
        let words = ["history", name, "--namespace", namespace, "--output", "json"].map(str::to_owned);
        let text = Program::Helm.read(connection, &words).await?;
        let history: Vec<Value> = serde_json::from_str(&text)
            .map_err(|_| unreadable(name, namespace, "its history is not the JSON that helm prints"))?;
        for deployed in
            history.iter().filter(|entry| entry["status"] == "deployed").filter_map(|entry| entry["revision"].as_u64())
        {
            all.extend(Release::of_revision(connection, name, namespace, Some(deployed)).await?);
        }
        Ok(all)
    }

    async fn of_revision(
        connection: &Connection,
        name: &str,
        namespace: &str,
        number: Option<u64>,
    ) -> Result<Option<Release>, Stop> {
        let mut release = Release { name: name.to_owned(), namespace: namespace.to_owned(), ..Release::default() };
        for what in ["manifest", "hooks"] {
            let mut words = ["get", what, name, "--namespace", namespace].map(str::to_owned).to_vec();
            words.extend(number.map(|number| format!("--revision={number}")));
            let output = Program::Helm.output(connection, &words).await?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if number.is_none() && is_no_such_release(&output.status, &why) {
                    return Ok(None);
                }
                return Err(unreadable(name, namespace, &format!("{}: {why}", Program::Helm.line(&words))).into());
            }
            let text = String::from_utf8(output.stdout).map_err(|_| unreadable(name, namespace, "its manifest is no UTF-8"))?;
            let found = manifests(&text).map_err(|broken| unreadable(name, namespace, &broken.to_string()))?;
            let objects = found.into_iter().map(|manifest| manifest.object).collect();
            match what {
                "hooks" => release.hooks = objects,
                _ => release.objects = objects,
            }
        }
        Ok(Some(release))
    }

    /// The whole release goes with a revision: what in it is something else.
    ///
    /// # Errors
    /// A [`Refusal`] that names it, or says that the revision's istiod is not in it.
    pub fn check_removal(&self, revision: &str, control_plane: &str, live: &Installation) -> Result<(), Refusal> {
        let istiod = format!("istiod{}", revision_suffix(revision));
        let is_istiod = |object: &&Value| {
            object["kind"] == "Deployment" && object["metadata"]["name"] == *istiod && self.namespace_of(object) == control_plane
        };
        if !self.objects.iter().any(|object| is_istiod(&object)) {
            let reason = format!(
                "{self} does not hold Deployment {istiod} -n {control_plane}, which says that it does; nothing was changed"
            );
            let list = Command::helm("list --all").flag("--namespace", &self.namespace);
            return Err(Refusal::new(reason, Advice::run(list).and_say(" shows what it holds")));
        }
        let mut others: Vec<String> = Vec::new();
        let mut kept: Vec<String> = Vec::new();
        for object in self.objects.iter().filter(|object| !self.is_of(object, revision, control_plane)) {
            // Others live by what is here: taken out of the release, it would be deleted from under them.
            let described = self.described(object);
            let now = self.now(object, live);
            kept.extend(now.map(|now| kubectl_name(object, now)));
            others.push(
                now.and_then(|now| self.other_owner(now))
                    .map_or_else(|| described.clone(), |owner| format!("{described}: it belongs to {owner} now")),
            );
        }
        // A webhook that was the revision's when helm wrote it may be somebody else's now.
        for object in self.objects.iter().filter(|object| self.is_of(object, revision, control_plane)) {
            let Some(now) = self.now(object, live) else { continue };
            let other = label(now, labels::REVISION).filter(|other| *other != revision);
            let other = other.map(|other| format!("it is of revision {other} now"));
            let other = other.or_else(|| self.other_owner(now).map(|owner| format!("it belongs to {owner} now")));
            if let Some(other) = other {
                kept.push(kubectl_name(object, now));
                others.push(format!("{}: {other}", self.described(object)));
            }
        }
        others.extend(self.hooks.iter().map(|hook| format!("hook: {}", self.described(hook))));
        if others.is_empty() {
            return Ok(());
        }
        let reason =
            format!("{self} holds more than revision {revision}, and helm removes a release as a whole; nothing was changed");
        let advice = format!("take revision {revision} out of the values or the chart of that release, and upgrade it with helm");
        let advice = if kept.is_empty() {
            Advice::say(advice)
        } else {
            // An upgrade looks at the live object's annotation, a removal at that in the release (pkg/kube/client.go and
            // pkg/action/resource_policy.go of helm.sh/helm).
            let keep =
                kept.iter().fold(Advice::say("first mark what others use, so that Helm keeps those objects: "), |keep, name| {
                    keep.and_run(Command::kubectl("annotate").object(name).words("helm.sh/resource-policy=keep")).and_say("; ")
                });
            keep.and_say(format!("then {advice}"))
        };
        Err(Refusal::new(reason, advice).with(others))
    }

    /// A webhook configuration or Service of the release as it is now, where it is there.
    fn now<'a>(&self, object: &Value, live: &'a Installation) -> Option<&'a Value> {
        let (objects, is_placed) = match object["kind"].as_str()? {
            "MutatingWebhookConfiguration" => (&live.injectors, false),
            "ValidatingWebhookConfiguration" => (&live.validators, false),
            "Service" => (&live.services, true),
            _ => return None,
        };
        let is_here = |found: &&Value| !is_placed || found["metadata"]["namespace"] == *self.namespace_of(object);
        objects.iter().filter(is_here).find(|found| found["metadata"]["name"] == object["metadata"]["name"])
    }

    /// Who has taken a live object from the release.
    fn other_owner(&self, now: &Value) -> Option<Owner> {
        let owner = owner_of(now);
        let is_this =
            matches!(&owner, Owner::Helm { release, namespace } if *release == self.name && *namespace == self.namespace);
        (!is_this && !owner.is_ours_to_write()).then_some(owner)
    }

    /// What an upgrade of this release to these objects would change or delete that is not the new revision's own.
    pub fn hurt_by(&self, coming: &[Value], revision: &str, control_plane: &str) -> Vec<String> {
        let coming: BTreeSet<Identity> = coming.iter().map(|object| self.identity(object)).collect();
        let mut hurt = Vec::new();
        for object in &self.objects {
            let of_another = label(object, labels::REVISION)
                .filter(|other| *other != revision && object["kind"] != "CustomResourceDefinition");
            match (coming.contains(&self.identity(object)), of_another) {
                (true, None) => {}
                (true, Some(other)) => hurt.push(format!("{} of revision {other} would be changed", self.described(object))),
                (false, _) if self.is_of(object, revision, control_plane) => {}
                (false, Some(other)) => hurt.push(format!("{} of revision {other} would be deleted", self.described(object))),
                (false, None) => hurt.push(format!("{} would be deleted", self.described(object))),
            }
        }
        hurt
    }

    /// Whether an object is one of those that the chart istio-discovery makes for this revision
    /// (manifests/charts/istio-control/istio-discovery/templates of istio/istio, 1.26 to 1.29).
    fn is_of(&self, object: &Value, revision: &str, control_plane: &str) -> bool {
        let (_, kind, namespace, name) = self.identity(object);
        let suffix = revision_suffix(revision);
        if label(object, labels::REVISION).is_some_and(|other| other != revision) || label(object, labels::TAG).is_some() {
            return false;
        }
        let is_part = |subject: &mesh::change::Subject| {
            subject.kind == kind && subject.name == name && subject.namespace.as_deref().is_none_or(|place| place == namespace)
        };
        if parts(revision, control_plane).iter().any(|(_, subject)| is_part(subject)) {
            return true;
        }
        let is_here = namespace == control_plane;
        match kind.as_str() {
            "MutatingWebhookConfiguration" => {
                let base = format!("istio-sidecar-injector{suffix}");
                name == base || name == format!("{base}-{control_plane}")
            }
            "ValidatingWebhookConfiguration" => name == format!("istio-validator{suffix}-{control_plane}"),
            "ValidatingAdmissionPolicy" => name == format!("stable-channel-policy{suffix}-{control_plane}.istio.io"),
            "ValidatingAdmissionPolicyBinding" => {
                name == format!("stable-channel-policy-binding{suffix}-{control_plane}.istio.io")
            }
            "Service" | "EndpointSlice" | "Endpoints" => {
                is_here && (name == format!("istiod{suffix}") || name == format!("istiod{suffix}-remote"))
            }
            "ConfigMap" => is_here && name.starts_with(&format!("istio-{revision}-gatewayclass-")),
            _ => false,
        }
    }

    fn identity(&self, object: &Value) -> Identity {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&object["apiVersion"]);
        let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
        (group, text(&object["kind"]), self.namespace_of(object).to_owned(), text(&object["metadata"]["name"]))
    }

    /// Helm puts what names no namespace into the release's.
    fn namespace_of<'a>(&'a self, object: &'a Value) -> &'a str {
        object["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty()).unwrap_or(&self.namespace)
    }

    fn described(&self, object: &Value) -> String {
        let (_, kind, _, name) = self.identity(object);
        let namespace = object["metadata"]["namespace"].as_str().map_or(String::new(), |namespace| format!(" -n {namespace}"));
        format!("{kind} {name}{namespace}")
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "release {} -n {} of helm", self.name, self.namespace)
    }
}

/// Whether helm says that there is no release of that name. Its exit code is the same for every error, so the line that it ends with
/// has to tell (`ErrReleaseNotFound`, pkg/storage/driver/driver.go of helm/helm, 3.22 and 4.0).
fn is_no_such_release(status: &ExitStatus, said: &str) -> bool {
    status.code() == Some(1) && said.lines().next_back() == Some("Error: release: not found")
}

/// As kubectl takes it, with the namespace that it is in.
fn kubectl_name(object: &Value, now: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = now["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = now["metadata"]["namespace"].as_str().map_or(String::new(), |namespace| format!(" -n {namespace}"));
    format!("{kind}/{name}{namespace}")
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

fn unreadable(name: &str, namespace: &str, why: &str) -> Refusal {
    let reason = format!("what release {name} -n {namespace} of helm holds is not known; nothing was changed");
    let manifest = Command::helm("get manifest").value(name).flag("--namespace", namespace);
    Refusal::new(reason, Advice::run(manifest).and_say(" has to show it")).with(vec![why.to_owned()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, namespace: Option<&str>, labels: Value) -> Value {
        let version = match kind {
            "Deployment" => "apps/v1",
            "ClusterRole" => "rbac.authorization.k8s.io/v1",
            "CustomResourceDefinition" => "apiextensions.k8s.io/v1",
            kind if kind.ends_with("WebhookConfiguration") => "admissionregistration.k8s.io/v1",
            _ => "v1",
        };
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels}})
    }

    /// What the chart makes of a revision.
    fn chart(revision: &str) -> Vec<Value> {
        let (suffix, place) = (revision_suffix(revision), Some("istio-system"));
        let rev = json!({"istio.io/rev": revision});
        vec![
            object("Deployment", &format!("istiod{suffix}"), place, rev.clone()),
            object("Service", &format!("istiod{suffix}"), place, rev.clone()),
            object("ConfigMap", &format!("istio{suffix}"), None, rev.clone()),
            object("ConfigMap", &format!("istio-{revision}-gatewayclass-istio"), place, rev.clone()),
            object("ServiceAccount", &format!("istiod{suffix}"), place, json!({"app": "istiod"})),
            object("ClusterRole", &format!("istiod-clusterrole{suffix}-istio-system"), None, json!({"app": "istiod"})),
            object("MutatingWebhookConfiguration", &format!("istio-sidecar-injector{suffix}"), None, rev.clone()),
            object("ValidatingWebhookConfiguration", &format!("istio-validator{suffix}-istio-system"), None, rev),
        ]
    }

    fn release(objects: Vec<Value>) -> Release {
        Release { name: "istiod".to_owned(), namespace: "istio-system".to_owned(), objects, hooks: Vec::new() }
    }

    fn removal(objects: Vec<Value>, live: &Installation) -> Result<(), Vec<String>> {
        release(objects).check_removal("1-26-0", "istio-system", live).map_err(|refusal| {
            assert!(refusal.reason.ends_with("nothing was changed"), "{}", refusal.reason);
            refusal.details
        })
    }

    #[cfg(unix)]
    #[test]
    fn only_helms_own_sentence_says_that_a_release_is_not_there() {
        use std::os::unix::process::ExitStatusExt;
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        assert!(is_no_such_release(&ended(1), "Error: release: not found"));
        assert!(is_no_such_release(
            &ended(1),
            "WARNING: Kubernetes configuration file is group-readable.\nError: release: not found"
        ));
        for other in [
            "",
            "Error: Kubernetes cluster unreachable",
            "Error: chart of the release: not found",
            "Error: release: not found\nmore",
        ] {
            assert!(!is_no_such_release(&ended(1), other), "{other}");
        }
        assert!(!is_no_such_release(&ended(2), "Error: release: not found"));
        assert!(!is_no_such_release(&ExitStatus::from_raw(9), "Error: release: not found"), "killed");
    }

    #[test]
    fn a_release_of_one_revision_goes() {
        assert_eq!(removal(chart("1-26-0"), &Installation::default()), Ok(()));
    }

    #[test]
    fn a_release_that_holds_anything_else_does_not_go() {
        let with = |more: Vec<Value>| removal([chart("1-26-0"), more].concat(), &Installation::default()).unwrap_err();
        assert_eq!(with(chart("1-28-2")).len(), chart("1-28-2").len());
        let tag = object(
            "MutatingWebhookConfiguration",
            "istio-revision-tag-prod",
            None,
            json!({"istio.io/rev": "1-26-0", "istio.io/tag": "prod"}),
        );
        assert_eq!(with(vec![tag]), ["MutatingWebhookConfiguration istio-revision-tag-prod"]);
        let definition =
            object("CustomResourceDefinition", "gateways.networking.istio.io", None, json!({"istio.io/rev": "1-26-0"}));
        assert_eq!(with(vec![definition]), ["CustomResourceDefinition gateways.networking.istio.io"]);
        let gateway = object("Deployment", "istio-ingressgateway", Some("ingress"), json!({"istio.io/rev": "1-26-0"}));
        assert_eq!(with(vec![gateway]), ["Deployment istio-ingressgateway -n ingress"]);
        // The same name in another namespace is another object.
        let elsewhere = object("Deployment", "istiod-1-26-0", Some("mesh-b"), json!({"istio.io/rev": "1-26-0"}));
        assert_eq!(with(vec![elsewhere]), ["Deployment istiod-1-26-0 -n mesh-b"]);
    }

    #[test]
    fn a_release_that_does_not_hold_the_istiod_does_not_go() {
        assert_eq!(removal(chart("1-28-2"), &Installation::default()), Err(Vec::new()));
        assert_eq!(removal(Vec::new(), &Installation::default()), Err(Vec::new()));
    }

    #[test]
    fn what_has_become_of_a_webhook_since_counts() {
        let live =
            object("MutatingWebhookConfiguration", "istio-sidecar-injector-1-26-0", None, json!({"istio.io/rev": "1-28-2"}));
        let live = Installation { injectors: vec![live], ..Installation::default() };
        let told = removal(chart("1-26-0"), &live).unwrap_err();
        assert_eq!(told, ["MutatingWebhookConfiguration istio-sidecar-injector-1-26-0: it is of revision 1-28-2 now"]);
    }

    #[test]
    fn hooks_are_named() {
        let mut release = release(chart("1-26-0"));
        release.hooks = vec![object("Job", "cleanup", None, json!({}))];
        assert_eq!(
            release.check_removal("1-26-0", "istio-system", &Installation::default()).unwrap_err().details,
            ["hook: Job cleanup"]
        );
    }

    #[test]
    fn an_upgrade_hurts_what_it_deletes_or_changes() {
        let hurt = |present: Vec<Value>, coming: Vec<Value>| release(present).hurt_by(&coming, "1-28-2", "istio-system");
        let all = hurt(chart("1-26-0"), chart("1-28-2"));
        assert_eq!(all.len(), chart("1-26-0").len());
        assert!(
            all.contains(&"Deployment istiod-1-26-0 -n istio-system of revision 1-26-0 would be deleted".to_owned()),
            "{all:?}"
        );
        assert!(all.contains(&"ServiceAccount istiod-1-26-0 -n istio-system would be deleted".to_owned()), "{all:?}");
        // The same again, or with less of the revision itself, goes on.
        assert_eq!(hurt(chart("1-28-2"), chart("1-28-2")), Vec::<String>::new());
        assert_eq!(hurt(chart("1-28-2"), chart("1-28-2")[..2].to_vec()), Vec::<String>::new());
        // A definition that stays is shared; one that goes is not the revision's.
        let definition =
            object("CustomResourceDefinition", "gateways.networking.istio.io", None, json!({"istio.io/rev": "1-26-0"}));
        let umbrella = [chart("1-26-0"), vec![definition.clone()]].concat();
        assert_eq!(
            hurt(umbrella.clone(), [chart("1-28-2"), umbrella.clone()].concat()).len(),
            6,
            "those with a label would be changed"
        );
        assert_eq!(hurt(vec![definition], chart("1-28-2")).len(), 1);
        // Another chart's release of the same name.
        assert_eq!(
            hurt(vec![object("Deployment", "web", None, json!({}))], chart("1-28-2")),
            ["Deployment web would be deleted"]
        );
    }
}
