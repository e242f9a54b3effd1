//! Everything that uses a revision, decided from what was read. What could not be read may use it too.

use mesh::advice::{Advice, Command};
use std::collections::{BTreeMap, BTreeSet};

use mesh::control_plane::revision_suffix;
use mesh::injection::{Injection, injection};
use mesh::injector::{Injector, Match, Target};
use mesh::installation::{DEFAULT_VALIDATOR, Installation, label, name, namespace};
use mesh::labels;
use mesh::object::{Interner, Lookup, PodTemplateSpec, StringMap};
use mesh::proxy::ProxyType;
use mesh::snapshot::Snapshot;
use mesh::state::State;
use mesh::template::Template;
use mesh::terminal::words::plural;
use mesh::verdict::Verdict;
use serde_json::Value;

use crate::lists::Found;
use crate::survey::Terminating;

/// What is decided from.
pub struct Facts<'a> {
    /// The mesh, with its workloads.
    pub snapshot: &'a Snapshot,
    /// What each workload runs and would get.
    pub verdicts: &'a [Verdict],
    /// Pods that are on their way out.
    pub terminating: &'a [Terminating],
    /// The control planes' objects, whole.
    pub installation: &'a Installation,
    /// CronJobs and suspended Jobs: nothing of them runs now.
    pub sleeping: &'a Found,
    /// Objects of Istio and of the Gateway API with a revision's label.
    pub labelled: &'a Found,
    /// The DaemonSets of ztunnel.
    pub ztunnels: &'a Found,
    /// Secrets by which istiods of this cluster reach other clusters.
    pub remote_secrets: &'a Found,
}

/// One thing that uses a revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// What sort of use.
    pub kind: UseKind,
    /// What uses it, as kubectl takes it.
    pub subject: String,
    /// How.
    pub message: String,
    /// What ends the use.
    pub advice: Advice,
}

/// Sorts of uses, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// Proxies that run; the number of them.
    Proxies(u32),
    /// New pods would get its proxy.
    Template,
    /// Pods of a namespace do.
    Namespace,
    /// A tag points to it.
    Tag,
    /// It validates configuration for everybody.
    Validator,
    /// A webhook of somebody else or ztunnel calls its Service.
    Caller,
    /// A Gateway belongs to it.
    Gateway,
    /// Configuration is for it alone.
    Configuration,
}

impl UseKind {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            UseKind::Proxies(_) => "proxies",
            UseKind::Template => "template",
            UseKind::Namespace => "namespace",
            UseKind::Tag => "tag",
            UseKind::Validator => "validator",
            UseKind::Caller => "caller",
            UseKind::Gateway => "gateway",
            UseKind::Configuration => "configuration",
        }
    }
}

/// All uses of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// What uses it for certain, sorted.
    pub found: Vec<Use>,
    /// What may, because it could not be read or decided: a line each, sorted.
    pub unknown: Vec<String>,
    /// What is only worth knowing.
    pub notes: Vec<String>,
}

impl Uses {
    /// How many proxies run it.
    pub fn proxies(&self) -> u32 {
        let count = |found: &Use| if let UseKind::Proxies(count) = found.kind { count } else { 0 };
        self.found.iter().map(count).sum()
    }
}

/// Finds all uses of a revision.
pub fn uses(facts: &Facts<'_>, revision: &str) -> Uses {
    let mut uses = Uses::default();
    of_workloads(facts, revision, &mut uses);
    of_sleeping(facts, revision, &mut uses);
    of_namespaces(facts, revision, &mut uses);
    of_tags(facts, revision, &mut uses);
    of_webhooks(facts, revision, &mut uses);
    of_ztunnels(facts, revision, &mut uses);
    of_labelled(facts, revision, &mut uses);
    of_remote_clusters(facts, &mut uses);
    let unread = facts.snapshot.unread.iter().chain(&facts.installation.snapshot.unread);
    uses.unknown.extend(unread.map(|unread| {
        let place = unread.namespace.as_ref().map_or(String::new(), |namespace| format!(" -n {namespace}"));
        format!("{}{place} could not be read", unread.resource)
    }));
    uses.found.sort();
    uses.unknown.sort();
    uses.unknown.dedup();
    uses
}

fn of_workloads(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    for verdict in facts.verdicts.iter().filter(|verdict| verdict.proxy_type != ProxyType::Ztunnel) {
        let id = &verdict.workload;
        let subject = format!("{} -n {}", id.qualified_name(), id.namespace);
        let of_revision = |found: Option<&str>| found == Some(revision);
        let proxies = || verdict.running.iter().filter_map(|running| Some((running.proxy.as_ref()?, running.count)));
        let count: u32 = proxies().filter(|(proxy, _)| of_revision(proxy.revision.as_deref())).map(|(_, count)| count).sum();
        if proxies().any(|(proxy, _)| proxy.revision.is_none()) {
            uses.unknown.push(format!("{subject}: a proxy of it names no revision"));
        }
        let would_get = verdict.wanted.as_ref().is_some_and(|wanted| of_revision(wanted.revision.as_deref()));
        if count > 0 {
            let advice = if would_get { Advice::none() } else { advice_for(verdict) };
            let message = format!("{} of it", plural(u64::from(count), "proxy runs", "proxies run"));
            uses.found.push(Use { kind: UseKind::Proxies(count), subject: subject.clone(), message, advice });
        }
        if would_get {
            let message = "its new pods would get a proxy of it".to_owned();
            let advice = "let its namespace, tag or template follow another revision".into();
            uses.found.push(Use { kind: UseKind::Template, subject, message, advice });
        } else if verdict.state == State::Unknown {
            uses.unknown.push(format!("{subject}: what its new pods get is not known: {}", verdict.why));
        }
    }
    for pod in facts.terminating.iter().filter(|pod| pod.revision.as_deref() == Some(revision)) {
        uses.found.push(Use {
            kind: UseKind::Proxies(1),
            subject: format!("pods/{} -n {}", pod.name, pod.namespace),
            message: "its proxy runs until the pod is gone".to_owned(),
            advice: "wait until it is gone".into(),
        });
    }
}

fn advice_for(verdict: &Verdict) -> Advice {
    let id = &verdict.workload;
    if verdict.state.is_stale() {
        let workload = format!("{}/{}", id.kind.to_lowercase(), id.name);
        Command::mesh_upgrade("restart").value(workload).namespace(&id.namespace).into()
    } else {
        verdict.advice()
    }
}

/// What runs nothing now and would ask for a proxy later.
fn of_sleeping(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let items = match facts.sleeping {
        Found::Items(items) => items,
        Found::Unread(why) => return uses.unknown.push(format!("CronJobs and Jobs: {why}")),
    };
    for object in items {
        let is_cron_job = object["kind"] == "CronJob";
        let pointer = if is_cron_job { "/spec/jobTemplate/spec/template" } else { "/spec/template" };
        let plural = if is_cron_job { "cronjobs" } else { "jobs" };
        let subject = format!("{plural}/{} -n {}", name(object), namespace(object));
        let template = object.pointer(pointer).cloned().unwrap_or_default();
        let Ok(template) = serde_json::from_value::<PodTemplateSpec>(template) else {
            uses.unknown.push(format!("{subject}: its template cannot be understood"));
            continue;
        };
        let template = Template::of_workload(&template, &mut Interner::default());
        match injection(facts.snapshot, namespace(object), &template) {
            Injection::Injected(injected) if injected.revision == revision => {}
            Injection::Refused(refused) if refused.revision.as_deref() == Some(revision) => {}
            Injection::Unknown(doubt) => {
                uses.unknown.push(format!("{subject}: what its pods get is not known: {}", doubt.why));
                continue;
            }
            _ => continue,
        }
        uses.found.push(Use {
            kind: UseKind::Template,
            subject,
            message: "its next pods would get a proxy of it".to_owned(),
            advice: "let its namespace, tag or template follow another revision".into(),
        });
    }
}

fn of_namespaces(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let snapshot = facts.snapshot;
    let own: Vec<&Injector> = snapshot
        .injectors
        .iter()
        .filter(|injector| injector.revision.as_deref() == Some(revision) && injector.tag.is_none() && !injector.is_deactivated())
        .collect();
    // A tag of the revision's name, such as `default`, answers for the label then.
    let is_tag = snapshot.revision_of_tag(revision).is_some();
    for (namespace, namespace_labels) in &snapshot.namespaces {
        let subject = format!("namespaces/{namespace}");
        let attach = Command::mesh_tag("attach REVISION").value(&**namespace).words("--overwrite");
        if namespace_labels.value(labels::REVISION) == Some(revision) && !is_tag {
            let message = format!("its label {}={revision} names it", labels::REVISION);
            uses.found.push(Use { kind: UseKind::Namespace, subject, message, advice: attach.into() });
            continue;
        }
        match own.iter().map(|injector| injector.matches(namespace_labels, &StringMap::new())).find(|found| *found != Match::No) {
            None | Some(Match::No) => {}
            Some(Match::Yes) => {
                let message = "its pods get proxies of it".to_owned();
                uses.found.push(Use { kind: UseKind::Namespace, subject, message, advice: attach.into() });
            }
            Some(_) => uses.unknown.push(format!("{subject}: whether its injector is asked for pods there is not known")),
        }
    }
}

fn of_tags(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let installation = facts.installation;
    let tags: BTreeSet<&str> = installation.snapshot.tags().into_iter().chain(facts.snapshot.tags()).collect();
    for tag in tags {
        let points = |object: &&Value| label(object, labels::REVISION) == Some(revision);
        let webhook =
            installation.tag_webhooks(tag).find(points).map(|found| format!("mutatingwebhookconfigurations/{}", name(found)));
        let service =
            installation.tag_services(tag).find(points).map(|found| format!("services/{} -n {}", name(found), namespace(found)));
        let points: Vec<String> = webhook.into_iter().chain(service).collect();
        if !points.is_empty() {
            uses.found.push(Use {
                kind: UseKind::Tag,
                subject: format!("tag {tag}"),
                message: format!("points to it by {}", points.join(" and ")),
                advice: Advice::run(Command::mesh_tag("set").value(tag).words("--revision REVISION").flag("--from", revision))
                    .and_say(", or ")
                    .and_run(Command::mesh_tag("remove").value(tag)),
            });
        }
    }
}

/// Webhooks of others that call the revision's Service, the default validator before all.
fn of_webhooks(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let Facts { installation, snapshot, .. } = facts;
    let services: BTreeSet<(&str, &str)> = own_services(installation, revision);
    let calls = |object: &Value| {
        let entries = object["webhooks"].as_array().into_iter().flatten();
        let mut services_of = entries.filter_map(|entry| {
            let service = &entry["clientConfig"]["service"];
            Some((service["namespace"].as_str()?, service["name"].as_str()?))
        });
        services_of.any(|service| services.contains(&service))
    };
    let is_default = |object: &Value| name(object) == DEFAULT_VALIDATOR;
    let validates = installation
        .default_validator()
        .is_some_and(|validator| calls(validator) || label(validator, labels::REVISION) == Some(revision));
    if validates || snapshot.default_validator.as_deref() == Some(revision) {
        uses.found.push(Use {
            kind: UseKind::Validator,
            subject: format!("validatingwebhookconfigurations/{DEFAULT_VALIDATOR}"),
            message: "asks it about all configuration that names no revision".to_owned(),
            advice: Advice::run(Command::mesh_tag("set default --revision REVISION")).and_say(" moves it"),
        });
    }
    let others = |objects: &'_ [Value], plural: &str| -> Vec<Use> {
        let foreign = objects.iter().filter(|object| {
            let is_own = label(object, labels::REVISION) == Some(revision) && label(object, labels::TAG).is_none();
            !is_own && !is_default(object) && label(object, labels::TAG).is_none() && calls(object)
        });
        let advice = Advice::say("point it to another revision, or delete it");
        foreign
            .map(|object| Use {
                kind: UseKind::Caller,
                subject: format!("{plural}/{}", name(object)),
                message: "calls its Service".to_owned(),
                advice: advice.clone(),
            })
            .collect()
    };
    uses.found.extend(others(&installation.injectors, "mutatingwebhookconfigurations"));
    uses.found.extend(others(&installation.validators, "validatingwebhookconfigurations"));
}

/// ztunnel asks one istiod for certificates and configuration, by the address in its environment (manifests/charts/ztunnel).
fn of_ztunnels(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let items = match facts.ztunnels {
        Found::Items(items) => items,
        Found::Unread(why) => return uses.unknown.push(format!("DaemonSets of ztunnel: {why}")),
    };
    let service = format!("istiod{}", revision_suffix(revision));
    for daemon_set in items {
        let containers = daemon_set.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let variables = containers.into_iter().flatten().filter_map(|container| container["env"].as_array()).flatten();
        let addresses = variables.filter(|variable| matches!(variable["name"].as_str(), Some("CA_ADDRESS" | "XDS_ADDRESS")));
        let host = |address: &str| address.rsplit("//").next().and_then(|rest| rest.split(['.', ':']).next()).map(str::to_owned);
        let mut hosts: BTreeSet<String> = addresses.filter_map(|variable| host(variable["value"].as_str()?)).collect();
        if hosts.is_empty() {
            // What the image falls back to.
            hosts.insert("istiod".to_owned());
        }
        if hosts.contains(&service) {
            uses.found.push(Use {
                kind: UseKind::Caller,
                subject: format!("daemonset.apps/{} -n {}", name(daemon_set), namespace(daemon_set)),
                message: format!("asks {service} for certificates and configuration"),
                advice: "install ztunnel for another revision first".into(),
            });
        }
    }
}

/// Namespace and name of the Services that are the revision's own.
fn own_services<'a>(installation: &'a Installation, revision: &'a str) -> BTreeSet<(&'a str, &'a str)> {
    let labelled = Installation::labelled(&installation.services, labels::REVISION, revision);
    let labelled =
        labelled.filter(|service| label(service, labels::TAG).is_none()).map(|service| (namespace(service), name(service)));
    let called = installation.snapshot.injectors.iter().filter_map(|injector| match &injector.target {
        Target::Service(service) if injector.revision.as_deref() == Some(revision) && injector.tag.is_none() => {
            Some((service.namespace.as_str(), service.name.as_str()))
        }
        _ => None,
    });
    labelled.chain(called).collect()
}

fn of_labelled(facts: &Facts<'_>, revision: &str, uses: &mut Uses) {
    let gateways = facts.installation.gateways.iter().filter(|gateway| label(gateway, labels::REVISION) == Some(revision));
    let is_tag = facts.snapshot.revision_of_tag(revision).is_some();
    for gateway in gateways.filter(|_| !is_tag) {
        let place = format!("gateway/{} -n {}", name(gateway), namespace(gateway));
        uses.found.push(Use {
            kind: UseKind::Gateway,
            subject: place.clone(),
            message: format!("its label {}={revision} names it", labels::REVISION),
            advice: Command::kubectl("label")
                .object(&place)
                .value(format!("{}=REVISION", labels::REVISION))
                .words("--overwrite")
                .into(),
        });
    }
    let items = match facts.labelled {
        Found::Items(items) => items,
        Found::Unread(why) => return uses.unknown.push(format!("objects with a revision's label: {why}")),
    };
    // Istio's own kinds compare with the revision alone: a tag of the same name does not count (pkg/config/model.go).
    for object in items.iter().filter(|object| label(object, labels::REVISION) == Some(revision)) {
        let plural = object["plural"].as_str().unwrap_or_default();
        let place = match namespace(object) {
            "" => format!("{plural}/{}", name(object)),
            namespace => format!("{plural}/{} -n {namespace}", name(object)),
        };
        uses.found.push(Use {
            kind: UseKind::Configuration,
            subject: place.clone(),
            message: format!("its label {}={revision} keeps it to that revision: no other one reads it", labels::REVISION),
            advice: Command::kubectl("label").object(&place).value(format!("{}-", labels::REVISION)).into(),
        });
    }
}

fn of_remote_clusters(facts: &Facts<'_>, uses: &mut Uses) {
    match facts.remote_secrets {
        Found::Items(secrets) if secrets.is_empty() => {}
        Found::Items(secrets) => uses.notes.push(format!(
            "{} of this mesh: proxies there may use this revision, and nothing here shows it; look there too",
            plural(secrets.len() as u64, "remote cluster is part", "remote clusters are part")
        )),
        Found::Unread(why) => uses.notes.push(format!("whether remote clusters use it could not be seen: {why}")),
    }
}

/// Uses by kind, for a summary.
pub fn by_kind(uses: &[Use]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for found in uses {
        *kinds.entry(found.kind.as_str()).or_insert(0) += 1;
    }
    kinds
}
