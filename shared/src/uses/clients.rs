//! Clients that this cluster does not show: proxies of other clusters and of virtual machines ask an istiod here, and no object
//! here says so. Only signs of them can be seen; whether there are any, the istiods themselves know.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::inventory::Listed;
use super::{Departing, Departure, Evidence, Graph, Use, UseKind};
use crate::advice::Advice;
use crate::installation::{annotation, label, name, namespace};
use crate::labels;
use crate::refusal::Refusal;
use crate::terminal::words::plural;

/// Ports by which clients reach an istiod from outside: certificates and configuration, and the injector.
const PORTS: [i64; 2] = [15012, 15017];

/// Signs of clients that nobody sees here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnseenClients {
    /// Each sign: an object, and what it means. Sorted.
    pub signs: Vec<String>,
}

/// What an istiod says about its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each by its identity, as far as it has one: `NAME.NAMESPACE` of the pod.
    Named(Vec<String>),
    /// Only how many.
    Counted(u64),
    /// It could not be asked, or not understood: why.
    Unknown(String),
}

/// What is known of the clients of all istiods of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// Nobody is connected but pods that are known here.
    NobodyElse,
    /// Somebody else is: who, as far as the istiods say it.
    Others(Vec<String>),
    /// Nobody knows: why, a line each.
    Unknown(Vec<String>),
}

/// The connections of `/debug/connections` (`AdsClients`, pilot/pkg/xds/debug.go): the id is that of the proxy's node and a number.
#[derive(Deserialize)]
struct ConnectedClients {
    #[serde(rename = "totalClients")]
    total: u64,
    #[serde(default)]
    clients: Option<Vec<ConnectedClient>>,
}

#[derive(Deserialize)]
struct ConnectedClient {
    #[serde(rename = "connectionId")]
    id: String,
}

impl Connections {
    /// Reads the answer of `/debug/connections`.
    pub fn from_debug(body: &[u8]) -> Connections {
        match serde_json::from_slice::<ConnectedClients>(body) {
            Ok(ConnectedClients { total, clients }) => {
                let clients = clients.unwrap_or_default();
                if clients.len() as u64 == total {
                    let identity = |client: ConnectedClient| match client.id.rsplit_once('-') {
                        Some((identity, number)) if number.parse::<u64>().is_ok() => identity.to_owned(),
                        _ => client.id,
                    };
                    Connections::Named(clients.into_iter().map(identity).collect())
                } else {
                    Connections::Counted(total)
                }
            }
            Err(error) => Connections::Unknown(format!("its list of connections cannot be understood: {error}")),
        }
    }

    /// Reads the gauge `pilot_xds` of `/metrics` (pilot/pkg/xds/monitoring.go): one line for each version of clients. An istiod
    /// that nobody has ever been connected to has no such line, so what it says counts only when it is an istiod that speaks.
    pub fn from_metrics(text: &str) -> Connections {
        if !text.lines().any(|line| line.starts_with("istio_build") || line.starts_with("pilot_info")) {
            return Connections::Unknown("its metrics are not those of an istiod".to_owned());
        }
        let lines = text.lines().filter(|line| line.starts_with("pilot_xds{") || line.starts_with("pilot_xds "));
        let mut sum = 0.0;
        for line in lines {
            // NAME{LABELS} VALUE [TIMESTAMP]
            let rest = line.rsplit_once('}').map_or_else(|| line.strip_prefix("pilot_xds").unwrap_or_default(), |(_, rest)| rest);
            let value = rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
            match value.filter(|value| value.is_finite() && *value >= 0.0) {
                Some(value) => sum += value,
                None => return Connections::Unknown(format!("its metric cannot be understood: {line}")),
            }
        }
        Connections::Counted(sum.ceil() as u64)
    }
}

/// Adds up what the istiods of a revision say. `known` are pods here that have a proxy: `NAME.NAMESPACE`.
pub fn attendance(answers: &BTreeMap<String, Connections>, known: &HashSet<String>) -> Attendance {
    let (mut others, mut unknown) = (Vec::new(), Vec::new());
    for (istiod, answer) in answers {
        match answer {
            Connections::Named(clients) => {
                let strangers = clients.iter().filter(|client| !known.contains(*client));
                others.extend(strangers.map(|client| format!("{client} is connected to {istiod}")));
            }
            Connections::Counted(0) => {}
            Connections::Counted(count) => {
                others.push(format!(
                    "{} to {istiod}, which does not say who",
                    plural(*count, "client is connected", "clients are connected")
                ));
            }
            Connections::Unknown(why) => unknown.push(format!("{istiod}: {why}")),
        }
    }
    others.sort();
    others.dedup();
    match (others.is_empty(), unknown.is_empty()) {
        (false, _) => Attendance::Others(others),
        (true, false) => Attendance::Unknown(unknown),
        (true, true) => Attendance::NobodyElse,
    }
}

/// Signs of clients that this cluster does not show.
pub(super) fn unseen(graph: &Graph<'_>) -> UnseenClients {
    // Clients elsewhere know a tag only by its Service.
    let has_service = || graph.evidence.installation.tag_services(graph.departure.name).next().is_some();
    if !graph.is_revision() && !has_service() {
        return UnseenClients::default();
    }
    let mut signs: Vec<String> = graph.evidence.inventory.objects.iter().filter_map(|listed| sign(graph, listed)).collect();
    let services = graph.evidence.installation.services.iter();
    let own = services.filter(|service| graph.addresses.has_service(namespace(service), name(service)));
    signs.extend(
        own.filter_map(|service| Some(format!("services/{} -n {} {}", name(service), namespace(service), way_in(service)?))),
    );
    signs.sort();
    signs.dedup();
    UnseenClients { signs }
}

/// The pods of the istiods that may have clients, of a revision or of that which a tag points to; `None` where it is not known which
/// there are, as of a control plane elsewhere.
pub fn istiods<'a>(evidence: &Evidence<'a>, departure: &Departure<'_>) -> Option<Vec<&'a str>> {
    let revision = match departure.what {
        Departing::Revision => departure.name,
        Departing::Tag => evidence.installation.snapshot.revision_of_tag(departure.name)?,
    };
    let of_revision = Departure { what: Departing::Revision, name: revision, namespace: departure.namespace };
    let graph = Graph::new(evidence, &of_revision);
    let has_ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let pods = evidence.inventory.objects.iter().filter(|listed| listed.is("", "pods") && graph.is_its_istiod(&listed.object));
    let names: Vec<&str> = pods.filter(|pod| !has_ended(&pod.object)).map(|pod| name(&pod.object)).collect();
    let mut planes = evidence.snapshot.control_planes_of(revision).filter(|plane| plane.namespace == departure.namespace);
    let is_elsewhere = planes.any(|plane| plane.deployment.as_ref().is_none_or(|istiod| istiod.ready_replicas > 0));
    (!names.is_empty() || !is_elsewhere).then_some(names)
}

/// Whether signs of clients elsewhere forbid that something goes, when its istiods have said who is connected to them: a note for
/// the user where they do not.
///
/// # Errors
/// A refusal that names every sign, and whom the istiods know.
pub fn check_attendance(departure: &Departure<'_>, signs: &[String], attendance: Attendance) -> Result<&'static str, Refusal> {
    let what = match departure.what {
        Departing::Revision => format!("revision {}", departure.name),
        Departing::Tag => format!("tag {}", departure.name),
    };
    let (reason, more) = match attendance {
        Attendance::NobodyElse => return Ok("the istiods say that nobody is connected whom this cluster does not show"),
        Attendance::Others(others) => (format!("{what} has clients that this cluster does not show, or may have"), others),
        Attendance::Unknown(why) => {
            let reason = format!("{what} may have clients that this cluster does not show");
            (reason, why.into_iter().map(|why| format!("unknown: {why}")).collect())
        }
    };
    let advice = "look there too, and move them first; if nobody there uses it, the same command with --accept-unseen-clients";
    Err(Refusal::new(reason, advice).with(signs.iter().cloned().chain(more).collect()))
}

/// How a Service can be reached from outside of the cluster.
fn way_in(service: &Value) -> Option<&'static str> {
    let spec = &service["spec"];
    match spec["type"].as_str() {
        Some("LoadBalancer") => Some("is reached from outside, by its load balancer"),
        Some("NodePort") => Some("is reached from outside, by the ports of nodes"),
        _ => {
            let has_addresses = spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
            has_addresses.then_some("is reached from outside, by its externalIPs")
        }
    }
}

fn sign(graph: &Graph<'_>, listed: &Listed) -> Option<String> {
    let object = &listed.object;
    let what = match (listed.group.as_str(), listed.plural.as_str()) {
        ("", "secrets") if label(object, labels::MULTI_CLUSTER) == Some("true") => {
            "lets istiod reach another cluster of this mesh"
        }
        ("networking.istio.io", "workloadgroups") => "stands for virtual machines",
        ("networking.istio.io", "workloadentries") if !is_known_machine(graph, object) => {
            "stands for a virtual machine, or for any other host"
        }
        ("networking.istio.io", "gateways") if opens_ports(&object["spec"]["servers"], "/port/number") => {
            "lets clients outside reach an istiod by its ports"
        }
        ("gateway.networking.k8s.io", "gateways") if opens_ports(&object["spec"]["listeners"], "/port") => {
            "lets clients outside reach an istiod by its ports"
        }
        ("gateway.networking.k8s.io", "gateways") if is_east_west(object) => "leads into this cluster from another network",
        ("", "services") if is_east_west(object) || (is_no_istiods(object) && opens_ports(&object["spec"]["ports"], "/port")) => {
            "leads into this cluster from another network"
        }
        _ => return None,
    };
    Some(format!("{} {what}", listed.subject()))
}

fn opens_ports(entries: &Value, pointer: &str) -> bool {
    let ports = entries.as_array().into_iter().flatten().filter_map(|entry| entry.pointer(pointer)?.as_i64());
    ports.into_iter().any(|port| PORTS.contains(&port))
}

/// Services of istiods and of tags open these ports too.
fn is_no_istiods(service: &Value) -> bool {
    label(service, labels::APP) != Some("istiod") && service["spec"]["selector"]["app"] != "istiod"
}

/// Marks of a gateway between networks (samples/multicluster/gen-eastwest-gateway.sh, and GatewayClass `istio-east-west`).
fn is_east_west(object: &Value) -> bool {
    label(object, labels::NETWORK).is_some()
        || label(object, "istio") == Some("eastwestgateway")
        || object["spec"]["selector"]["istio"] == "eastwestgateway"
        || object["spec"]["gatewayClassName"] == "istio-east-west"
}

/// Whether a WorkloadEntry says itself where its machine is connected.
fn is_known_machine(graph: &Graph<'_>, entry: &Value) -> bool {
    connected_istiod(entry).is_some_and(|istiod| !graph.is_name_of_its_istiod(istiod))
}

/// The istiod that a virtual machine is connected to now. The end of a connection takes the annotation away
/// (pilot/pkg/autoregistration/controller.go).
fn connected_istiod(entry: &Value) -> Option<&str> {
    annotation(entry, labels::CONNECTED_AT)?;
    annotation(entry, labels::WORKLOAD_CONTROLLER)
}

impl Graph<'_> {
    fn is_name_of_its_istiod(&self, istiod: &str) -> bool {
        let pods = self.evidence.inventory.objects.iter().filter(|listed| listed.is("", "pods"));
        let is_its_pod = pods.filter(|pod| self.is_its_istiod(&pod.object)).any(|pod| name(&pod.object) == istiod);
        let others = self.evidence.snapshot.control_planes.iter().filter(|plane| plane.revision != self.departure.name);
        let names = others.filter_map(|plane| Some(plane.deployment.as_ref()?.name.as_str()));
        let is_others = names.into_iter().any(|deployment| istiod_of(istiod) == Some(deployment));
        is_its_pod || !is_others
    }

    /// Virtual machines that are connected now.
    pub(super) fn machines(&self, uses: &mut super::Uses) {
        let entries = self.evidence.inventory.objects.iter().filter(|listed| listed.is("networking.istio.io", "workloadentries"));
        for entry in entries.filter(|_| self.is_revision()) {
            let Some(istiod) = connected_istiod(&entry.object).filter(|istiod| self.is_name_of_its_istiod(istiod)) else {
                continue;
            };
            uses.found.push(Use {
                kind: UseKind::VirtualMachine,
                subject: entry.subject(),
                message: format!("its virtual machine is connected to {istiod}"),
                advice: Advice::say("connect the virtual machine to another revision"),
            });
        }
    }
}

/// The Deployment of a pod by its name: `DEPLOYMENT-HASH-SUFFIX`.
fn istiod_of(pod: &str) -> Option<&str> {
    Some(pod.rsplit_once('-')?.0.rsplit_once('-')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBUG: &[u8] = br#"{"totalClients":2,"clients":[
        {"connectionId":"web-7d9f-abc.shop-12","connectedAt":"2026-01-01T00:00:00Z","address":"10.0.0.7:40123"},
        {"connectionId":"vm-1.machines-3","connectedAt":"2026-01-01T00:00:00Z","address":"192.0.2.9:40123"}]}"#;

    #[test]
    fn connections_are_read_as_istiod_writes_them() {
        let named = |names: &[&str]| Connections::Named(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(Connections::from_debug(DEBUG), named(&["web-7d9f-abc.shop", "vm-1.machines"]));
        assert_eq!(Connections::from_debug(br#"{"totalClients":0}"#), named(&[]));
        assert_eq!(Connections::from_debug(br#"{"totalClients":0,"clients":null}"#), named(&[]));
        assert_eq!(Connections::from_debug(br#"{"totalClients":3,"clients":[]}"#), Connections::Counted(3));
        for odd in ["", "{}", "[]", "<html>", "{\"totalClients\":-1}", "null"] {
            assert!(matches!(Connections::from_debug(odd.as_bytes()), Connections::Unknown(_)), "{odd}");
        }
    }

    #[test]
    fn metrics_count_clients_of_all_versions() {
        let text = "# TYPE istio_build gauge\nistio_build{component=\"pilot\",tag=\"1.26.0\"} 1\n# TYPE pilot_xds gauge\n\
            pilot_xds{version=\"1.26.0\"} 2\npilot_xds{version=\"1.24.0\"} 1\npilot_xds_pushes{type=\"cds\"} 9\n";
        assert_eq!(Connections::from_metrics(text), Connections::Counted(3));
        assert_eq!(Connections::from_metrics("istio_build{} 1\n"), Connections::Counted(0));
        assert_eq!(Connections::from_metrics("istio_build{} 1\npilot_xds 4 1700000000\n"), Connections::Counted(4));
        for odd in [
            "",
            "go_goroutines 7\n",
            "istio_build{} 1\npilot_xds{version=\"x\"} NaN\n",
            "istio_build{} 1\npilot_xds{version=\"x\"}\n",
        ] {
            assert!(matches!(Connections::from_metrics(odd), Connections::Unknown(_)), "{odd}");
        }
    }

    #[test]
    fn only_answers_of_all_istiods_clear_a_revision() {
        let known: HashSet<String> = ["web-7d9f-abc.shop".to_owned()].into();
        let said = |answers: &[(&str, Connections)]| {
            let answers = answers.iter().map(|(istiod, answer)| ((*istiod).to_owned(), answer.clone())).collect();
            attendance(&answers, &known)
        };
        let web = Connections::Named(vec!["web-7d9f-abc.shop".to_owned()]);
        let denied = Connections::Unknown("denied".to_owned());
        assert_eq!(said(&[("a", web.clone()), ("b", Connections::Counted(0))]), Attendance::NobodyElse);
        assert_eq!(said(&[("a", web), ("b", denied.clone())]), Attendance::Unknown(vec!["b: denied".to_owned()]));
        let others = said(&[("a", Connections::from_debug(DEBUG)), ("b", denied)]);
        assert_eq!(others, Attendance::Others(vec!["vm-1.machines is connected to a".to_owned()]));
        assert!(matches!(said(&[("a", Connections::Counted(2))]), Attendance::Others(_)));
    }
}
