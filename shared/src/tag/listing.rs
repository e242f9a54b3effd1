//! All tags, and the revisions that no tag names: who answers, who follows, what is wrong.

use serde_json::Value;

use super::DEFAULT;
use super::followers::{Followers, followers};
use crate::advice::{Advice, Command};
use crate::census::Census;
use crate::control_plane::{ControlPlane, Readiness, UNREVISIONED};
use crate::finding::{Code, Finding, Severity};
use crate::health::{answers_for_another, fault_of, repoint};
use crate::injector::Injector;
use crate::installation::{DEFAULT_VALIDATOR, Installation, label, name};
use crate::labels;
use crate::object::Resource;
use crate::owner::{Owner, owner_of};
use crate::version::Version;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A tag.
    Tag,
    /// A revision, which namespaces may name too.
    Revision,
}

/// One tag or revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which of them.
    pub kind: EntryKind,
    /// The label value that followers name.
    pub name: String,
    /// The revision that answers; `None` when nothing says so.
    pub revision: Option<String>,
    /// Its istiod's version.
    pub version: Option<Version>,
    /// Whether its control plane answers.
    pub readiness: Readiness,
    /// The webhook configurations.
    pub webhooks: Vec<String>,
    /// The Services of a tag: `namespace/name`.
    pub services: Vec<String>,
    /// Who owns the webhook, else the Service.
    pub owner: Owner,
    /// Who follows.
    pub followers: Followers,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Something wrong with a tag or revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// What sort of fault it is.
    pub code: Code,
    /// The object.
    pub subject: String,
    /// In words.
    pub message: String,
    /// What to do.
    pub advice: Advice,
}

impl Fault {
    /// As a finding.
    pub fn finding(&self) -> Finding {
        Finding {
            severity: Severity::Error,
            code: self.code,
            subject: self.subject.clone(),
            message: self.message.clone(),
            advice: self.advice.clone(),
        }
    }
}

impl Entry {
    /// Proxies of followers that are not of its revision.
    pub fn stale_count(&self) -> u32 {
        self.revision.as_deref().map_or(0, |revision| self.followers.stale_count(revision))
    }
}

/// Every tag, then every revision that no tag names or that somebody follows by its own name.
pub fn listing(installation: &Installation, census: &Census) -> Vec<Entry> {
    let snapshot = &installation.snapshot;
    let mut entries: Vec<Entry> = snapshot.tags().into_iter().map(|tag| tag_entry(installation, census, tag)).collect();
    let mut revisions: Vec<&str> = snapshot.revisions();
    revisions.extend(
        installation
            .injectors
            .iter()
            .filter(|webhook| label(webhook, labels::TAG).is_none())
            .filter_map(|webhook| label(webhook, labels::REVISION)),
    );
    revisions.sort_unstable();
    revisions.dedup();
    for revision in revisions {
        let is_named = entries.iter().any(|entry| entry.kind == EntryKind::Tag && entry.revision.as_deref() == Some(revision));
        let entry = revision_entry(installation, census, revision);
        let hidden_by_tag = revision == DEFAULT && entries.iter().any(|entry| entry.name == DEFAULT);
        if !is_named || (!entry.followers.is_empty() && !hidden_by_tag) {
            entries.push(entry);
        }
    }
    entries
}

fn tag_entry(installation: &Installation, census: &Census, tag: &str) -> Entry {
    let webhooks: Vec<&Value> = installation.tag_webhooks(tag).collect();
    let services: Vec<&Value> = installation.tag_services(tag).collect();
    let revision = webhooks.first().or(services.first()).and_then(|object| label(object, labels::REVISION)).map(str::to_owned);
    let followers = followers(installation, census, tag, |injector| injector.tag.as_deref() == Some(tag));
    let mut faults = tag_faults(installation, tag, revision.as_deref(), &webhooks, &services, &followers);
    faults.sort();
    faults.dedup();
    entry(installation, EntryKind::Tag, tag, revision, (&webhooks, &services), followers, faults)
}

fn revision_entry(installation: &Installation, census: &Census, revision: &str) -> Entry {
    let webhooks: Vec<&Value> = installation.revision_webhooks(revision).collect();
    let is_own = |injector: &Injector| injector.tag.is_none() && injector.revision.as_deref() == Some(revision);
    let followers = followers(installation, census, revision, is_own);
    let mut faults: Vec<Fault> = webhooks.iter().flat_map(|webhook| webhook_faults(installation, webhook)).collect();
    let injectors = || installation.snapshot.injectors.iter().filter(|injector| is_own(injector));
    let is_deactivated = injectors().next().is_some() && injectors().all(Injector::is_deactivated);
    let has_default_tag = installation.tag_webhooks(DEFAULT).next().is_some();
    if revision == UNREVISIONED && is_deactivated && !has_default_tag {
        faults.push(Fault {
            code: Code::Deactivated,
            subject: webhooks.first().map_or_else(String::new, |webhook| subject(webhook)),
            message: "it was switched off for a default tag that is not there: istio-injection=enabled does nothing".to_owned(),
            advice: Command::mesh_tag("set default --revision REVISION").into(),
        });
    }
    faults.sort();
    faults.dedup();
    entry(installation, EntryKind::Revision, revision, Some(revision.to_owned()), (&webhooks, &[]), followers, faults)
}

fn entry(
    installation: &Installation,
    kind: EntryKind,
    entry_name: &str,
    revision: Option<String>,
    (webhooks, services): (&[&Value], &[&Value]),
    followers: Followers,
    faults: Vec<Fault>,
) -> Entry {
    let snapshot = &installation.snapshot;
    let version = revision.as_deref().and_then(|revision| snapshot.control_planes_of(revision).find_map(ControlPlane::version));
    Entry {
        kind,
        name: entry_name.to_owned(),
        readiness: revision.as_deref().map_or(Readiness::Unknown, |revision| snapshot.readiness(revision)),
        revision,
        version,
        webhooks: webhooks.iter().map(|webhook| name(webhook).to_owned()).collect(),
        services: services
            .iter()
            .map(|service| format!("{}/{}", crate::installation::namespace(service), name(service)))
            .collect(),
        owner: webhooks.first().or(services.first()).map_or(Owner::Nobody, |object| owner_of(object)),
        followers,
        faults,
    }
}

fn tag_faults(
    installation: &Installation,
    tag: &str,
    revision: Option<&str>,
    webhooks: &[&Value],
    services: &[&Value],
    followers: &Followers,
) -> Vec<Fault> {
    let snapshot = &installation.snapshot;
    let mut faults: Vec<Fault> = webhooks.iter().flat_map(|webhook| webhook_faults(installation, webhook)).collect();
    let fix = |revision: &str| Advice::run(repoint(tag, revision));
    let target = revision.unwrap_or("REVISION");
    for service in services {
        let points_to = label(service, labels::REVISION);
        if points_to != revision && !webhooks.is_empty() {
            let message = format!(
                "the tag's webhook points to revision {target}, its Service to {}: the istiods of both take its gateways for theirs",
                points_to.unwrap_or("none")
            );
            faults.push(Fault { code: Code::Split, subject: service_subject(service), message, advice: fix(target) });
        }
        let known = points_to.is_some_and(|revision| snapshot.control_planes_of(revision).next().is_some());
        if !known && snapshot.unread(Resource::Services, "").is_none() {
            let message = format!("it points to revision {}, which has no control plane", points_to.unwrap_or("none"));
            faults.push(Fault { code: Code::Dangling, subject: service_subject(service), message, advice: fix("REVISION") });
        }
    }
    let are_webhooks_known = snapshot.unread(Resource::MutatingWebhookConfigurations, "").is_none();
    if webhooks.is_empty() && are_webhooks_known && !followers.namespaces.is_empty() {
        let message = "the tag has a Service and no webhook: the namespaces that follow it get no proxies".to_owned();
        let subject = services.first().map_or_else(String::new, |service| service_subject(service));
        faults.push(Fault { code: Code::NoWebhook, subject, message, advice: fix(target) });
    }
    if webhooks.len() > 1 {
        let names: Vec<&str> = webhooks.iter().map(|webhook| name(webhook)).collect();
        let message = format!("the tag has several webhooks: {}", names.join(", "));
        faults.push(Fault {
            code: Code::SeveralWebhooks,
            subject: subject(webhooks[0]),
            message,
            advice: "delete those that nobody needs".into(),
        });
    }
    let is_revision = installation.revision_webhooks(tag).next().is_some() || snapshot.control_planes_of(tag).next().is_some();
    if is_revision && tag != DEFAULT {
        let message = format!("{tag} is the name of a revision too: its namespaces are injected by both");
        let subject = webhooks.first().map_or_else(String::new, |webhook| subject(webhook));
        faults.push(Fault { code: Code::NameCollision, subject, message, advice: Command::mesh_tag("remove").value(tag).into() });
    }
    if tag == DEFAULT {
        faults.extend(validator_faults(installation, revision));
    }
    faults
}

/// The validator must be answered by the revision of the `default` tag, or the other one decides what may be configured.
fn validator_faults(installation: &Installation, revision: Option<&str>) -> Option<Fault> {
    let validator = installation.default_validator()?;
    let points_to = label(validator, labels::REVISION);
    if points_to == revision {
        return None;
    }
    Some(Fault {
        code: Code::DefaultValidator,
        subject: format!("{}/{}", Resource::ValidatingWebhookConfigurations.plural(), name(validator)),
        message: format!(
            "configuration is validated by revision {}, not by that of the default tag",
            points_to.unwrap_or("none")
        ),
        advice: repoint(DEFAULT, revision.unwrap_or("REVISION")).into(),
    })
}

/// Validators whose Service nobody answers: with failurePolicy Fail nobody can write Istio's configuration then.
pub fn validator_findings(installation: &Installation) -> Vec<Finding> {
    let snapshot = &installation.snapshot;
    let mut findings = Vec::new();
    for validator in &installation.validators {
        let mut services: Vec<(&str, &str)> = validator["webhooks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let service = &entry["clientConfig"]["service"];
                Some((service["namespace"].as_str()?, service["name"].as_str()?))
            })
            .collect();
        services.sort_unstable();
        services.dedup();
        for (namespace, service) in
            services.into_iter().filter(|(namespace, _)| snapshot.unread(Resource::Services, namespace).is_none())
        {
            let facts = snapshot.services.get(&(namespace.to_owned(), service.to_owned()));
            let fault = match facts.map(|facts| (facts.readiness, facts.is_external)) {
                None => "does not exist",
                Some((Readiness::NotReady, false)) => "has no ready endpoints",
                Some(_) => continue,
            };
            findings.push(Finding {
                severity: Severity::Error,
                code: Code::DanglingValidator,
                subject: format!("{}/{}", Resource::ValidatingWebhookConfigurations.plural(), name(validator)),
                message: format!("service {service} -n {namespace} {fault}: Istio configuration that it validates is refused"),
                advice: match name(validator) {
                    DEFAULT_VALIDATOR => Advice::run(repoint(DEFAULT, "REVISION")).and_say(", to a revision that is ready"),
                    other => Command::kubectl("get validatingwebhookconfiguration").value(other).words("-o yaml").into(),
                },
            });
        }
    }
    findings
}

/// What is wrong with the way of a webhook to its istiod, and with whom it selects.
fn webhook_faults(installation: &Installation, webhook: &Value) -> Vec<Fault> {
    let snapshot = &installation.snapshot;
    let own: Vec<&Injector> = snapshot
        .injectors
        .iter()
        .filter(|injector| injector.configuration == name(webhook) && !injector.is_deactivated())
        .collect();
    let mut faults: Vec<Fault> = Vec::new();
    for injector in &own {
        faults.extend(fault_of(snapshot, injector).map(|finding| fault(finding, Code::Dangling)));
        faults.extend(answers_for_another(snapshot, injector).map(|finding| fault(finding, Code::LabelDiffers)));
    }
    let mut others: Vec<&str> = snapshot
        .injectors
        .iter()
        .filter(|other| other.configuration != name(webhook) && !other.is_deactivated())
        .filter(|other| own.iter().any(|injector| injector.overlaps(other)))
        .map(|other| other.configuration.as_str())
        .collect();
    others.dedup();
    if !others.is_empty() {
        faults.push(Fault {
            code: Code::Overlap,
            subject: subject(webhook),
            message: format!("it selects pods that {} selects too: they are injected twice", others.join(" and ")),
            advice: Command::kubectl("get mutatingwebhookconfigurations")
                .value(name(webhook))
                .values(others)
                .words("-o yaml")
                .into(),
        });
    }
    faults
}

/// A finding of [`crate::health`] as a fault of a tag; what has nobody to answer is dangling, whatever is missing.
fn fault(finding: Finding, code: Code) -> Fault {
    let code = if finding.code == Code::NoCaBundle { finding.code } else { code };
    Fault { code, subject: finding.subject, message: finding.message, advice: finding.advice }
}

fn subject(webhook: &Value) -> String {
    format!("{}/{}", Resource::MutatingWebhookConfigurations.plural(), name(webhook))
}

fn service_subject(service: &Value) -> String {
    format!("services/{} -n {}", name(service), crate::installation::namespace(service))
}
