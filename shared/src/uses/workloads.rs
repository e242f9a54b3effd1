//! Uses by pods, and by templates that pods are made from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::address::Addresses;
use super::callers::{CallersBuilder, Role};
use super::inventory::{Inventory, Listed};
use super::{Departing, Graph, Use, UseKind, Uses};
use crate::advice::{Advice, Command};
use crate::control_plane::revision_suffix;
use crate::injection::{Injection, injection};
use crate::installation::{name, namespace};
use crate::labels;
use crate::object::{Environments, Interner, PodTemplateSpec};
use crate::state::State;
use crate::template::Template;
use crate::terminal::words::plural;
use crate::verdict::{Verdict, verdicts};
use crate::workload::WorkloadId;

/// Whether new pods of a template need what is to go.
enum Need {
    Yes,
    No,
    Unknown(String),
}

impl Graph<'_> {
    /// What runs, and what would run.
    pub(super) fn workloads(&self, uses: &mut Uses) {
        let verdicts = verdicts(self.evidence.snapshot, &HashMap::new());
        for verdict in verdicts.iter().filter(|verdict| !verdict.proxy_type.is_of_node()) {
            if self.is_revision() {
                self.workload_of_revision(verdict, uses);
            }
        }
        if !self.is_revision() {
            for workload in &self.evidence.snapshot.workloads {
                let id = &workload.id;
                // Whoever follows by his namespace is reported with it.
                let is_by_namespace = self.follows(&id.namespace) && workload.template.label(labels::REVISION).is_none();
                match self.need(&id.namespace, &workload.template) {
                    Need::Yes if !is_by_namespace => uses.found.push(self.template(subject(id))),
                    Need::Unknown(why) => uses.unknown.push(format!("{}: {why}", subject(id))),
                    Need::Yes | Need::No => {}
                }
            }
        }
        for listed in &self.evidence.inventory.objects {
            self.template_of(listed, uses);
        }
        self.terminating(uses);
    }

    fn workload_of_revision(&self, verdict: &Verdict, uses: &mut Uses) {
        let subject = subject(&verdict.workload);
        let of_revision = |found: Option<&str>| found == Some(self.departure.name);
        let proxies = || verdict.running.iter().filter_map(|running| Some((running.proxy.as_ref()?, running.count)));
        let count: u32 = proxies().filter(|(proxy, _)| of_revision(proxy.revision.as_deref())).map(|(_, count)| count).sum();
        let count = count.saturating_sub(self.proxies_of_namesakes(&verdict.workload));
        if proxies().any(|(proxy, _)| proxy.revision.is_none()) {
            uses.unknown.push(format!("{subject}: a proxy of it names no revision"));
        }
        let would_get = verdict.wanted.as_ref().is_some_and(|wanted| {
            let injectors = || self.injectors().filter(|injector| wanted.injector.as_deref() == Some(&injector.configuration));
            let is_namesakes = injectors().next().is_some() && injectors().all(|injector| self.is_of_namesake(injector));
            of_revision(wanted.revision.as_deref()) && !is_namesakes
        });
        if count > 0 {
            let advice = if would_get { Advice::none() } else { advice_for(verdict) };
            let message = format!("{} of it", plural(u64::from(count), "proxy runs", "proxies run"));
            uses.found.push(Use { kind: UseKind::Proxies(count), subject: subject.clone(), message, advice });
        }
        if would_get {
            uses.found.push(self.template(subject));
        } else if verdict.state == State::Unknown {
            uses.unknown.push(format!("{subject}: what its new pods get is not known: {}", verdict.why));
        }
    }

    /// Proxies of a revision of the same name in another control plane's namespace: all that they call stands there.
    fn proxies_of_namesakes(&self, workload: &WorkloadId) -> u32 {
        let suffix = revision_suffix(self.departure.name);
        let mut others = Addresses::default();
        self.namesakes().for_each(|namespace| others.add(namespace, &format!("istiod{suffix}")));
        let pods = self.evidence.callers.pods.iter().filter(|pods| pods.workload == *workload);
        let pods = pods.filter(|pods| pods.revision.as_deref() == Some(self.departure.name));
        let elsewhere = pods.filter(|pods| {
            let own = || pods.addresses.iter().any(|address| self.is_called(address, &workload.namespace));
            pods.addresses.iter().any(|address| others.are_reached_by(address, &workload.namespace)) && !own()
        });
        elsewhere.map(|pods| pods.pods).sum()
    }

    /// Whether new pods from a template would be injected through it, or refused for its sake.
    fn need(&self, namespace: &str, template: &Template) -> Need {
        let is_own = |configuration: &str| self.is_own_configuration(configuration);
        let is_named = |revision: Option<&str>| self.is_revision() && revision == Some(self.departure.name);
        let is_yes = match injection(self.evidence.snapshot, namespace, template) {
            Injection::Injected(injected) => {
                // Its proxy may come through a tag of the revision.
                let is_namesakes =
                    || self.injectors().any(|found| found.configuration == injected.injector && self.is_of_namesake(found));
                is_own(&injected.injector) || (is_named(Some(&injected.revision)) && !is_namesakes())
            }
            Injection::Refused(refused) => is_own(&refused.injector) || is_named(refused.revision.as_deref()),
            // Nobody answers now and that is ignored; when somebody does, it is he who is meant.
            Injection::Declined(declined) => declined.is_unreachable && is_own(&declined.injector),
            Injection::NoInjector => false,
            Injection::Unknown(doubt) => return Need::Unknown(format!("what its new pods get is not known: {}", doubt.why)),
        };
        if is_yes { Need::Yes } else { Need::No }
    }

    /// What runs nothing now and would ask for a proxy later: CronJobs, Jobs that are suspended or between two pods, and
    /// ReplicaSets and ReplicationControllers at zero that nobody controls. The ReplicaSets of a Deployment are its history:
    /// what it makes pods from is its own template.
    fn template_of(&self, listed: &Listed, uses: &mut Uses) {
        let Some(pointer) = template_pointer(listed) else { return };
        let subject = listed.subject();
        let template = listed.object.pointer(pointer).cloned().unwrap_or_default();
        let environments = Environments::of_template(template.clone());
        let (Ok(template), Ok(environments)) = (serde_json::from_value::<PodTemplateSpec>(template), environments) else {
            return uses.unknown.push(format!("{subject}: its template cannot be understood"));
        };
        let in_namespace = namespace(&listed.object);
        let read = Template::of_workload(&template, &mut Interner::default());
        let is_by_namespace = !self.is_revision() && self.follows(in_namespace) && read.label(labels::REVISION).is_none();
        match self.need(in_namespace, &read) {
            Need::Yes if !is_by_namespace => uses.found.push(self.template(subject.clone())),
            Need::Unknown(why) => uses.unknown.push(format!("{subject}: {why}")),
            Need::Yes | Need::No => {}
        }
        let mut callers = CallersBuilder::default();
        let text = |key: &str| listed.object[key].as_str().unwrap_or_default().into();
        let id = WorkloadId {
            namespace: in_namespace.into(),
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: name(&listed.object).into(),
        };
        callers.add_template(id, template.metadata.as_ref(), &environments);
        let callers = callers.build();
        uses.unknown.extend(callers.unread);
        let addresses = callers.templates.into_iter().flat_map(|template| template.addresses);
        if addresses.into_iter().any(|address| self.is_called(&address, in_namespace)) {
            uses.found.push(self.caller(subject, "its next pods call its Service".to_owned()));
        }
    }

    /// Whoever calls its Service, whichever revision has injected him.
    pub(super) fn callers(&self, uses: &mut Uses) {
        let mut running: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
        let mut gateways: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
        for pods in &self.evidence.callers.pods {
            let is_named = self.is_revision() && pods.revision.as_deref() == Some(self.departure.name);
            match pods.role {
                Role::Istiod => continue,
                // It has no proxy that could be counted among the others.
                Role::OtherGateway if is_named => *gateways.entry(&pods.workload).or_default() += pods.pods,
                // Proxies of the revision are counted as such.
                Role::Proxied if is_named => {}
                Role::Proxied | Role::OtherGateway | Role::Other => {
                    if pods.addresses.iter().any(|address| self.is_called(address, &pods.workload.namespace)) {
                        *running.entry(&pods.workload).or_default() += pods.pods;
                    }
                }
            }
        }
        for (workload, count) in gateways {
            let message = format!("{} of it", plural(u64::from(count), "proxy runs", "proxies run"));
            let advice = Advice::say("let its Gateway follow another revision");
            uses.found.push(Use { kind: UseKind::Proxies(count), subject: subject(workload), message, advice });
        }
        for (workload, count) in running {
            let message = format!("{} its Service", plural(u64::from(count), "pod calls", "pods call"));
            uses.found.push(self.caller(subject(workload), message));
        }
        let templates = self.evidence.callers.templates.iter();
        let calling = templates
            .filter(|template| template.addresses.iter().any(|address| self.is_called(address, &template.workload.namespace)));
        for template in calling {
            uses.found.push(self.caller(subject(&template.workload), "its template calls its Service".to_owned()));
        }
    }

    fn terminating(&self, uses: &mut Uses) {
        for pod in &self.evidence.callers.terminating {
            let is_named = self.is_revision() && pod.revision.as_deref() == Some(self.departure.name);
            let is_calling = pod.addresses.iter().any(|address| self.is_called(address, &pod.namespace));
            let (kind, message) = match (is_named, is_calling) {
                (true, _) => (UseKind::Proxies(1), "its proxy runs until the pod is gone"),
                (false, true) => (UseKind::Caller, "it calls its Service until it is gone"),
                (false, false) => continue,
            };
            uses.found.push(Use {
                kind,
                subject: format!("pods/{} -n {}", pod.name, pod.namespace),
                message: message.to_owned(),
                advice: Advice::say("wait until it is gone"),
            });
        }
    }

    fn is_called(&self, address: &str, from_namespace: &str) -> bool {
        self.addresses.are_reached_by(address, from_namespace)
    }

    fn template(&self, subject: String) -> Use {
        let message = match self.departure.what {
            Departing::Revision => "its new pods would get a proxy of it",
            Departing::Tag => "its new pods ask for it",
        };
        let advice = Advice::say("let its namespace, tag or template follow another revision");
        Use { kind: UseKind::Template, subject, message: message.to_owned(), advice }
    }

    fn caller(&self, subject: String, message: String) -> Use {
        let advice = Advice::say("let it call the Service of another revision, by its environment or by proxy.istio.io/config");
        Use { kind: UseKind::Caller, subject, message, advice }
    }
}

fn subject(id: &WorkloadId) -> String {
    format!("{} -n {}", id.qualified_name(), id.namespace)
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

/// The ConfigMaps that pods of these templates would read: namespace and name.
pub(crate) fn config_maps_of(inventory: &Inventory) -> BTreeSet<(String, String)> {
    let templates = inventory.objects.iter().filter_map(|listed| {
        let template = listed.object.pointer(template_pointer(listed)?)?;
        Some((namespace(&listed.object).to_owned(), Environments::of_template(template.clone()).ok()?))
    });
    let maps = templates.flat_map(|(namespace, environments)| {
        let names: Vec<String> = environments.config_maps().map(str::to_owned).collect();
        names.into_iter().map(move |name| (namespace.clone(), name))
    });
    maps.collect()
}

/// Where the template of pods stands in a kind that no snapshot has.
fn template_pointer(listed: &Listed) -> Option<&'static str> {
    // With pods they are seen by those.
    let is_empty = || listed.object["status"]["replicas"].as_i64().unwrap_or(0) == 0;
    let of_nobody = || {
        listed.object["metadata"]["ownerReferences"]
            .as_array()
            .is_none_or(|owners| owners.iter().all(|owner| owner["controller"] != true))
    };
    match (listed.group.as_str(), listed.plural.as_str()) {
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        ("batch", "jobs") => is_dormant(&listed.object).then_some("/spec/template"),
        ("apps", "replicasets") | ("", "replicationcontrollers") => (is_empty() && of_nobody()).then_some("/spec/template"),
        ("apps.openshift.io", "deploymentconfigs") => Some("/spec/template"),
        ("", "podtemplates") => Some("/template"),
        _ => None,
    }
}

/// Whether a Job has no pod and will have one: it is suspended, or has neither ended nor a pod at this moment. Pods of the
/// others are there already, or never come again.
fn is_dormant(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let true_conditions: BTreeSet<&str> =
        conditions.filter(|condition| condition["status"] == "True").filter_map(|condition| condition["type"].as_str()).collect();
    let has_ended = ["Complete", "Failed"].into_iter().any(|ended| true_conditions.contains(ended));
    !has_ended && (job["spec"]["suspend"] == true || job["status"]["active"].as_i64().unwrap_or(0) == 0)
}
