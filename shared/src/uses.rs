//! Uses: everything that still needs a revision or a tag, decided from what was read. What could not be read may need it too.
//!
//! One graph answers `mesh-upgrade complete`, `mesh-tag remove` and `mesh-tag undo`: whoever would be left without proxies,
//! certificates, configuration or validation, by whichever way he has come to depend on it.

pub mod address;
pub mod callers;
pub mod clients;
mod configuration;
pub mod inventory;
mod namespaces;
pub mod own;
mod references;
#[cfg(test)]
mod tests;
mod variables;
pub(crate) mod workloads;

use std::collections::BTreeMap;

use crate::advice::Advice;
use crate::injector::{Injector, Target};
use crate::installation::Installation;
use crate::snapshot::Snapshot;
use crate::terminal::words::plural;
use crate::uses::address::Addresses;
use crate::uses::callers::Callers;
use crate::uses::clients::UnseenClients;
use crate::uses::inventory::Inventory;

/// What is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// A revision or a tag.
    pub what: Departing,
    /// Its name.
    pub name: &'a str,
    /// The namespace of its control plane: another one may have a revision or a tag of the same name elsewhere.
    pub namespace: &'a str,
}

/// What sort of thing is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departing {
    /// A revision, with its control plane.
    Revision,
    /// A tag: its webhook and its Service.
    Tag,
}

/// What is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The mesh, with all its workloads.
    pub snapshot: &'a Snapshot,
    /// The control planes' objects, whole.
    pub installation: &'a Installation,
    /// Whom pods and templates call.
    pub callers: &'a Callers,
    /// All other objects that may need a revision.
    pub inventory: &'a Inventory,
}

/// One thing that uses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// What sort of use.
    pub kind: UseKind,
    /// What uses it, as kubectl takes it.
    pub subject: String,
    /// How.
    pub message: String,
    /// What ends the use; may be none.
    pub advice: Advice,
}

/// Sorts of uses, in the order in which they are reported.
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
    /// Something calls its Service, or leads there.
    Caller,
    /// A Gateway belongs to it.
    Gateway,
    /// Configuration is for it alone.
    Configuration,
    /// A virtual machine is connected to it.
    VirtualMachine,
}

impl UseKind {
    /// Its place in a summary: what runs comes first.
    const fn rank(self) -> u8 {
        match self {
            UseKind::Proxies(_) => 0,
            UseKind::Template => 1,
            UseKind::Namespace => 2,
            UseKind::Tag => 3,
            UseKind::Validator => 4,
            UseKind::Caller => 5,
            UseKind::Gateway => 6,
            UseKind::Configuration => 7,
            UseKind::VirtualMachine => 8,
        }
    }

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
            UseKind::VirtualMachine => "virtual-machine",
        }
    }
}

/// All uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// What uses it for certain, sorted.
    pub found: Vec<Use>,
    /// What may, because it could not be read or decided: a line each, sorted.
    pub unknown: Vec<String>,
    /// Signs of clients that this cluster does not show.
    pub unseen: UnseenClients,
}

impl Uses {
    /// How many proxies run it.
    pub fn proxies(&self) -> u32 {
        let count = |found: &Use| if let UseKind::Proxies(count) = found.kind { count } else { 0 };
        self.found.iter().map(count).sum()
    }

    /// How much uses it, each called what it is: `4 proxies (3 workloads) and 1 namespace`.
    pub fn summary(&self) -> String {
        let mut kinds: BTreeMap<u8, (UseKind, u64)> = BTreeMap::new();
        for found in &self.found {
            kinds.entry(found.kind.rank()).or_insert((found.kind, 0)).1 += 1;
        }
        let part = |(kind, count): (UseKind, u64)| match kind {
            UseKind::Proxies(_) => {
                let workloads = plural(count, "workload", "workloads");
                format!("{} ({workloads})", plural(u64::from(self.proxies()), "proxy", "proxies"))
            }
            UseKind::Template => plural(count, "pod template", "pod templates"),
            UseKind::Namespace => plural(count, "namespace", "namespaces"),
            UseKind::Tag => plural(count, "tag", "tags"),
            UseKind::Validator => plural(count, "validator", "validators"),
            UseKind::Caller => plural(count, "caller of its Service", "callers of its Service"),
            UseKind::Gateway => plural(count, "Gateway", "Gateways"),
            UseKind::Configuration => plural(count, "configuration object", "configuration objects"),
            UseKind::VirtualMachine => plural(count, "virtual machine", "virtual machines"),
        };
        let mut parts: Vec<String> = kinds.into_values().map(part).collect();
        match parts.pop() {
            Some(last) if !parts.is_empty() => format!("{} and {last}", parts.join(", ")),
            last => last.unwrap_or_default(),
        }
    }
}

/// Finds all uses of what is to go.
pub fn uses(evidence: &Evidence<'_>, departure: &Departure<'_>) -> Uses {
    let graph = Graph::new(evidence, departure);
    let mut uses = Uses::default();
    graph.workloads(&mut uses);
    graph.callers(&mut uses);
    graph.namespaces(&mut uses);
    graph.tags(&mut uses);
    graph.gateways(&mut uses);
    graph.validator(&mut uses);
    graph.objects(&mut uses);
    graph.machines(&mut uses);
    uses.unseen = clients::unseen(&graph);
    let unread = evidence.snapshot.unread.iter().chain(&evidence.installation.snapshot.unread);
    uses.unknown.extend(unread.map(|unread| {
        let place = unread.namespace.as_ref().map_or(String::new(), |namespace| format!(" -n {namespace}"));
        format!("{}{place} could not be read", unread.resource)
    }));
    if evidence.snapshot.may_hide_control_planes {
        uses.unknown
            .push("deployments.apps could not be read everywhere, so there may be control planes that nobody sees".into());
    }
    uses.unknown.extend(evidence.inventory.unread.iter().chain(&evidence.callers.unread).cloned());
    uses.found.sort();
    uses.found.dedup();
    uses.unknown.sort();
    uses.unknown.dedup();
    uses
}

/// The addresses by which it is called: its Services, and what leads to them.
pub fn addresses_of(installation: &Installation, departure: &Departure<'_>) -> Addresses {
    own::addresses(installation, departure)
}

/// What each rule asks of.
struct Graph<'a> {
    evidence: &'a Evidence<'a>,
    departure: &'a Departure<'a>,
    addresses: Addresses,
}

impl<'a> Graph<'a> {
    fn new(evidence: &'a Evidence<'a>, departure: &'a Departure<'a>) -> Graph<'a> {
        let addresses = own::addresses(evidence.installation, departure);
        Graph { evidence, departure, addresses }
    }

    fn is_revision(&self) -> bool {
        self.departure.what == Departing::Revision
    }

    /// Whether this injector asks what is to go, by its own webhook.
    fn is_own_injector(&self, injector: &Injector) -> bool {
        let Departure { what, name, .. } = *self.departure;
        let is_named = match what {
            Departing::Revision => injector.tag.is_none() && injector.revision.as_deref() == Some(name),
            Departing::Tag => injector.tag.as_deref() == Some(name),
        };
        is_named && self.is_here(injector)
    }

    /// Whether an injector of that name asks a control plane in another namespace.
    fn is_of_namesake(&self, injector: &Injector) -> bool {
        let Departure { what, name, .. } = *self.departure;
        what == Departing::Revision
            && injector.tag.is_none()
            && injector.revision.as_deref() == Some(name)
            && !self.is_here(injector)
    }

    fn is_here(&self, injector: &Injector) -> bool {
        match &injector.target {
            Target::Service(service) => service.namespace == self.departure.namespace,
            Target::Url(_) => true,
        }
    }

    /// The injectors that are in use.
    fn injectors(&self) -> impl Iterator<Item = &'a Injector> {
        self.evidence.snapshot.injectors.iter().filter(|injector| !injector.is_deactivated())
    }

    /// Whether this webhook configuration holds an injector of what is to go.
    fn is_own_configuration(&self, configuration: &str) -> bool {
        self.injectors().any(|injector| injector.configuration == configuration && self.is_own_injector(injector))
    }

    /// Namespaces in which another control plane has a revision of the same name.
    fn namesakes(&self) -> impl Iterator<Item = &'a str> {
        let (name, namespace) = (self.departure.name, self.departure.namespace);
        let planes = self.evidence.snapshot.control_planes_of(name).map(|plane| plane.namespace.as_str());
        planes.filter(move |found| *found != namespace)
    }
}
