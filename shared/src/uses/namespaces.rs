//! Uses by labels of namespaces and Gateways, by tags, and by the validator of everybody's configuration.

use std::collections::BTreeSet;

use super::own::{asks_namespace, is_of_control_plane};
use super::{Departing, Graph, Use, UseKind, Uses};
use crate::advice::{Advice, Command};
use crate::injector::Match;
use crate::installation::{DEFAULT_VALIDATOR, label, name, namespace};
use crate::labels;
use crate::object::{Labels, Lookup, StringMap};
use crate::tag::{DEFAULT, GatewayRevisions, gateway_subject, is_istios, label_gateway, named};

impl Graph<'_> {
    /// Whether a namespace follows a tag by its labels.
    pub(super) fn follows(&self, namespace: &str) -> bool {
        let Some(labels) = self.evidence.snapshot.namespaces.get(namespace) else { return false };
        self.is_named_by(labels)
    }

    fn is_named_by(&self, labels: &Labels) -> bool {
        let asks_for_default =
            !self.is_revision() && self.departure.name == DEFAULT && labels.value(labels::INJECTION) == Some("enabled");
        labels.value(labels::REVISION) == Some(self.departure.name) || asks_for_default
    }

    /// Namespaces that name it, and those that a revision's injectors select.
    pub(super) fn namespaces(&self, uses: &mut Uses) {
        let snapshot = self.evidence.snapshot;
        // A tag takes over namespaces that name nobody (`enableNamespacesByDefault`) and gives them back when it goes: only what
        // lives in them uses it, which its workloads say.
        let asked: Vec<_> = self.injectors().filter(|injector| self.is_revision() && self.is_own_injector(injector)).collect();
        let namesakes: Vec<_> = self.injectors().filter(|injector| self.is_of_namesake(injector)).collect();
        let no_pod = StringMap::new();
        // A tag of the revision's name, such as `default`, answers for the label then.
        let is_tag = self.is_revision() && snapshot.revision_of_tag(self.departure.name).is_some();
        for (namespace, namespace_labels) in &snapshot.namespaces {
            let subject = format!("namespaces/{namespace}");
            let advice: Advice = Command::mesh_tag("attach TAG|REVISION").value(&**namespace).words("--overwrite").into();
            let selected =
                asked.iter().map(|injector| injector.matches(namespace_labels, &no_pod)).find(|found| *found != Match::No);
            let is_namesakes =
                selected.is_none() && namesakes.iter().any(|injector| injector.matches(namespace_labels, &no_pod) == Match::Yes);
            if self.is_named_by(namespace_labels) && !is_tag && !is_namesakes {
                let key = if namespace_labels.value(labels::REVISION) == Some(self.departure.name) {
                    format!("{}={}", labels::REVISION, self.departure.name)
                } else {
                    format!("{}=enabled", labels::INJECTION)
                };
                let message = format!("its label {key} names it");
                uses.found.push(Use { kind: UseKind::Namespace, subject, message, advice });
                continue;
            }
            match selected {
                None | Some(Match::No) => {}
                Some(Match::Yes) => {
                    let message = "its injector is asked for pods there".to_owned();
                    uses.found.push(Use { kind: UseKind::Namespace, subject, message, advice });
                }
                Some(_) => uses.unknown.push(format!("{subject}: whether its injector is asked for pods there is not known")),
            }
        }
    }

    /// Tags that point to a revision of this control plane.
    pub(super) fn tags(&self, uses: &mut Uses) {
        if !self.is_revision() {
            return;
        }
        let (revision, in_namespace) = (self.departure.name, self.departure.namespace);
        let installation = self.evidence.installation;
        let tags: BTreeSet<&str> = installation.snapshot.tags().into_iter().chain(self.evidence.snapshot.tags()).collect();
        for tag in tags {
            let webhook = installation.tag_webhooks(tag).find(|found| {
                label(found, labels::REVISION) == Some(revision) && asks_namespace(found, in_namespace).unwrap_or(true)
            });
            let service = installation
                .tag_services(tag)
                .find(|found| label(found, labels::REVISION) == Some(revision) && namespace(found) == in_namespace);
            let webhook = webhook.map(|found| format!("mutatingwebhookconfigurations/{}", name(found)));
            let service = service.map(|found| format!("services/{} -n {}", name(found), namespace(found)));
            let points: Vec<String> = webhook.into_iter().chain(service).collect();
            if !points.is_empty() {
                uses.found.push(Use {
                    kind: UseKind::Tag,
                    subject: format!("tag {tag}"),
                    message: format!("points to it by {}", points.join(" and ")),
                    advice: Advice::run(
                        Command::mesh_tag("set").value(tag).words("--revision REVISION").flag("--from", revision),
                    )
                    .and_say(", or ")
                    .and_run(Command::mesh_tag("remove").value(tag)),
                });
            }
        }
    }

    /// Gateways of the Gateway API that name it; and, of a tag, those of Istio's whose namespace does. Those that name nothing belong
    /// to the default tag, and without one to the revision that is the default by itself.
    pub(super) fn gateways(&self, uses: &mut Uses) {
        let departing = self.departure.name;
        let snapshot = self.evidence.snapshot;
        // A tag of the revision's name, such as `default`, answers for the label then.
        if self.is_revision() && snapshot.revision_of_tag(departing).is_some() {
            return;
        }
        let is_default = self.is_default();
        let all = self.evidence.inventory.objects.iter().filter(|listed| listed.is("gateway.networking.k8s.io", "gateways"));
        for gateway in all.map(|listed| &listed.object) {
            let is_own_label = label(gateway, labels::REVISION) == Some(departing);
            let message = match named(gateway, &snapshot.namespaces) {
                Some(named) if named == departing && is_own_label => format!("its label {}={named} names it", labels::REVISION),
                Some(named) if named == departing && !self.is_revision() && is_istios(gateway) => {
                    "its namespace names it".to_owned()
                }
                None if is_default && is_istios(gateway) => "it names no revision, so it belongs to the default one".to_owned(),
                _ => continue,
            };
            let advice = label_gateway(gateway).into();
            uses.found.push(Use { kind: UseKind::Gateway, subject: gateway_subject(gateway), message, advice });
        }
    }

    /// Whether Gateways that name no revision belong to it. A revision that is the default by its tag is used by that tag.
    fn is_default(&self) -> bool {
        let installation = self.evidence.installation;
        match self.departure.what {
            Departing::Tag => self.departure.name == DEFAULT,
            Departing::Revision => {
                let has_tag = installation.snapshot.tags().contains(&DEFAULT);
                !has_tag && GatewayRevisions::of(installation).default_ones().contains(self.departure.name)
            }
        }
    }

    /// The validator of all configuration that names no revision.
    pub(super) fn validator(&self, uses: &mut Uses) {
        if !self.is_revision() {
            return;
        }
        let revision = self.departure.name;
        let calls = self.evidence.installation.default_validator().is_some_and(|validator| {
            let entries = validator["webhooks"].as_array().into_iter().flatten();
            let mut services = entries.filter_map(|entry| {
                let service = &entry["clientConfig"]["service"];
                Some((service["namespace"].as_str()?, service["name"].as_str()?))
            });
            let is_labelled = label(validator, labels::REVISION) == Some(revision)
                && asks_namespace(validator, self.departure.namespace).unwrap_or(true);
            services.any(|(namespace, name)| self.addresses.has_service(namespace, name)) || is_labelled
        });
        let is_told = self.evidence.installation.default_validator().is_none()
            && self.evidence.snapshot.default_validator.as_deref() == Some(revision);
        if calls || is_told {
            uses.found.push(Use {
                kind: UseKind::Validator,
                subject: format!("validatingwebhookconfigurations/{DEFAULT_VALIDATOR}"),
                message: "asks it about all configuration that names no revision".to_owned(),
                advice: Advice::run(Command::mesh_tag("set default --revision REVISION")).and_say(" moves it"),
            });
        }
    }

    /// Whether a webhook configuration with the label of a revision belongs to a control plane of that name elsewhere.
    pub(super) fn is_namesakes_webhook(&self, configuration: &serde_json::Value) -> bool {
        let name = self.departure.name;
        self.is_revision()
            && label(configuration, labels::REVISION) == Some(name)
            && label(configuration, labels::TAG).is_none()
            && self.namesakes().any(|namespace| is_of_control_plane(configuration, name, namespace))
    }
}
