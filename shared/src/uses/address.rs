//! The addresses of a Service, in every spelling in which a client may name it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::installation::{name, namespace};

/// The addresses of some Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Namespace and name of each Service, in lower case.
    services: BTreeSet<(String, String)>,
    /// Host names that lead to them besides, such as those of their load balancers.
    hosts: BTreeSet<String>,
    /// IP addresses of theirs.
    ips: BTreeSet<IpAddr>,
}

impl Addresses {
    /// Adds a Service by its place.
    pub fn add(&mut self, namespace: &str, name: &str) {
        self.services.insert((namespace.to_ascii_lowercase(), name.to_ascii_lowercase()));
    }

    /// Adds a Service that is there, with the IP addresses and host names that lead to it (`ServiceSpec` and
    /// `ServiceStatus`, k8s.io/api/core/v1/types.go).
    pub fn add_service(&mut self, service: &Value) {
        self.add(namespace(service), name(service));
        let spec = &service["spec"];
        let listed = ["clusterIPs", "externalIPs"].into_iter().filter_map(|key| spec[key].as_array()).flatten();
        let single = ["clusterIP", "loadBalancerIP"].into_iter().map(|key| &spec[key]);
        let ingresses = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).into_iter().flatten();
        let ingresses: Vec<&Value> = ingresses.collect();
        let balanced = ingresses.iter().map(|ingress| &ingress["ip"]);
        self.ips.extend(listed.chain(single).chain(balanced).filter_map(|ip| ip.as_str()?.parse::<IpAddr>().ok()));
        let hosts = ingresses.iter().filter_map(|ingress| ingress["hostname"].as_str());
        self.hosts.extend(hosts.map(str::to_ascii_lowercase));
    }

    /// Adds an IP address that leads to them, such as that of a pod.
    pub fn add_ip(&mut self, ip: &str) {
        self.ips.extend(ip.parse::<IpAddr>().ok());
    }

    /// Whether one of the Services stands there.
    pub fn has_service(&self, namespace: &str, name: &str) -> bool {
        self.services.contains(&(namespace.to_ascii_lowercase(), name.to_ascii_lowercase()))
    }

    /// Whether a text names one of them with its namespace, or by an address of its own: `NAME.NAMESPACE`, with `.svc` and any
    /// domain behind it, with a scheme, a port or a path around it, alone or among other text. Case does not matter in DNS.
    pub fn are_in(&self, text: &str) -> bool {
        let mut words = text.split(|character: char| !is_part_of_host(character)).filter(|word| !word.is_empty());
        words.any(|word| self.is_qualified(word)) || self.has_ip_in(text)
    }

    /// Whether an address that a client in `in_namespace` resolves leads to one of them. Such a client may leave the namespace
    /// out, as the search domains of its DNS do the rest.
    pub fn are_reached_by(&self, address: &str, in_namespace: &str) -> bool {
        self.are_in(address) || self.has_service(in_namespace, host(address))
    }

    /// The Services' names, each once: a text that has none of them and none of the hosts and IP addresses names nobody.
    pub fn needles(&self) -> BTreeSet<String> {
        let names = self.services.iter().map(|(_, name)| name.clone());
        names.chain(self.hosts.iter().cloned()).chain(self.ips.iter().map(IpAddr::to_string)).collect()
    }

    fn is_qualified(&self, word: &str) -> bool {
        let word = word.trim_matches('.').to_ascii_lowercase();
        if self.hosts.contains(&word) {
            return true;
        }
        self.services.iter().any(|(namespace, name)| {
            let rest = word.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('.'));
            let rest = rest.and_then(|rest| rest.strip_prefix(namespace.as_str()));
            rest.is_some_and(|rest| rest.is_empty() || rest == ".svc" || rest.starts_with(".svc."))
        })
    }

    fn has_ip_in(&self, text: &str) -> bool {
        if self.ips.is_empty() {
            return false;
        }
        let is_part = |character: char| character.is_ascii_hexdigit() || matches!(character, '.' | ':');
        let words = || text.split(move |character: char| !is_part(character)).filter(|word| word.len() > 2);
        let parse = |word: &str| word.trim_matches('.').parse::<IpAddr>().ok();
        words().any(|word| {
            let without_port = word.rsplit_once(':').and_then(|(ip, _)| parse(ip));
            parse(word).or(without_port).is_some_and(|ip| self.ips.contains(&ip))
        })
    }
}

fn is_part_of_host(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

/// The host of `SCHEME://USER@HOST:PORT/PATH`, of which all but the host may be missing.
fn host(address: &str) -> &str {
    let address = address.trim();
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    rest.split(':').next().unwrap_or_default().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn istiod() -> Addresses {
        let mut addresses = Addresses::default();
        addresses.add_service(&json!({
            "metadata": {"name": "istiod-1-26-0", "namespace": "istio-system"},
            "spec": {"clusterIP": "127.96.7.9", "clusterIPs": ["127.96.7.9", "fd00::7"], "externalIPs": ["192.0.2.7"]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "LB.example.com"}, {"ip": "192.0.2.8"}]}},
        }));
        addresses
    }

    #[test]
    fn every_spelling_of_the_service_is_known() {
        for text in [
            "istiod-1-26-0.istio-system",
            "istiod-1-26-0.istio-system.",
            "istiod-1-26-0.istio-system:15012",
            "istiod-1-26-0.istio-system.svc:15012",
            "istiod-1-26-0.istio-system.svc.cluster.local:15012",
            "istiod-1-26-0.istio-system.svc.corp.example.",
            "ISTIOD-1-26-0.Istio-System.svc",
            "https://istiod-1-26-0.istio-system.svc:15012/inject?x=1",
            "tls://user@istiod-1-26-0.istio-system.svc:15012",
            "xds://istiod-1-26-0.istio-system.svc.cluster.local:15010",
            "outbound|15012||istiod-1-26-0.istio-system.svc.cluster.local",
            "istio-system/istiod-1-26-0.istio-system.svc.cluster.local",
            "{\"discoveryAddress\":\"istiod-1-26-0.istio-system.svc:15012\"}",
            "discoveryAddress: istiod-1-26-0.istio-system.svc:15012\nconcurrency: 2",
            "127.96.7.9:15012",
            "https://127.96.7.9:15012",
            "[fd00:0:0::7]:15012",
            "fd00::7",
            "192.0.2.7:15012",
            "192.0.2.8",
            "lb.EXAMPLE.com:15012",
        ] {
            assert!(istiod().are_in(text), "{text}");
        }
    }

    #[test]
    fn other_services_are_not_taken_for_it() {
        for text in [
            "",
            "istiod-1-26-0",
            "istiod.istio-system.svc:15012",
            "istiod-1-26-01.istio-system.svc:15012",
            "istiod-1-26-0.istio-system2.svc:15012",
            "istiod-1-26-0.istio-system.example.com",
            "istiod-1-26-0.mesh-b.svc:15012",
            "my-istiod-1-26-0.istio-system.svc:15012",
            "127.96.7.90:15012",
            "1127.96.7.9",
            "istiod-1-26-0-7b9f4.istio-system",
        ] {
            assert!(!istiod().are_in(text), "{text}");
        }
    }

    #[test]
    fn a_short_name_means_the_service_of_the_clients_own_namespace() {
        for address in ["istiod-1-26-0", "istiod-1-26-0:15012", "https://istiod-1-26-0:15012/x", "Istiod-1-26-0."] {
            assert!(istiod().are_reached_by(address, "istio-system"), "{address}");
            assert!(!istiod().are_reached_by(address, "shop"), "{address}");
        }
        assert!(istiod().are_reached_by("istiod-1-26-0.istio-system.svc:15012", "shop"));
    }
}
