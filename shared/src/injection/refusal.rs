//! The pods that istiod refuses because of their annotations.
//!
//! Sources: `AnnotationValidation`, pkg/kube/inject/validate.go, of 1.26 to 1.30; `applyPrometheusMerge`, pkg/kube/inject/webhook.go, of
//! 1.31. What a version newly refuses is kept apart from what all do.

use super::Doubt;
use crate::control_plane::{ControlPlane, Read};
use crate::labels;
use crate::mesh_config::MeshConfig;
use crate::proxy_config::annotated;
use crate::state::Reason;
use crate::template::Template;
use crate::version::Version;

/// A minor version.
type Line = (u32, u32);

/// The first version that looks at interfaces, and the first that looks at metrics' ports.
const CHECKS_INTERFACES: Line = (1, 30);
const CHECKS_METRICS: Line = (1, 31);

/// The first version that checks quantities whatever template is used; before that only the sidecar's template fails on them.
const CHECKS_QUANTITIES: Line = (1, 29);

/// What checks an annotation's value; the error says what is wrong.
type Check = fn(&str) -> Result<(), String>;

/// The annotations that every version checks.
const CHECKED: [(&str, Check); 12] = [
    ("sidecar.istio.io/interceptionMode", interception_mode),
    ("status.sidecar.istio.io/port", port),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", number),
    ("readiness.status.sidecar.istio.io/periodSeconds", number),
    ("readiness.status.sidecar.istio.io/failureThreshold", number),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", any_or_ranges),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", ranges),
    ("traffic.sidecar.istio.io/includeInboundPorts", any_or_ports),
    ("traffic.sidecar.istio.io/excludeInboundPorts", ports),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ports),
    ("prometheus.istio.io/merge-metrics", truth),
    (labels::PROXY_CONFIG, proxy_config),
];

/// Those whose values are quantities.
const QUANTITIES: [&str; 4] = [
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemoryLimit",
];

/// Those whose values are names of network interfaces.
const INTERFACES: [&str; 3] = [
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/kubevirtInterfaces",
    "istio.io/reroute-virtual-interfaces",
];

const MERGES_METRICS: &str = "prometheus.istio.io/merge-metrics";
const SCRAPES: &str = "prometheus.io/scrape";
const METRICS_PORT: &str = "prometheus.io/port";
const SCRAPE_TARGETS: &str = "prometheus.istio.io/scrape-targets";

/// Ports of the proxy and its agent (`istioReservedPorts`, pilot/cmd/pilot-agent/status/server.go).
const RESERVED_PORTS: [i64; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// Whether some version looks at an annotation for a reason to refuse the pod.
pub(crate) fn is_checked(annotation: &str) -> bool {
    CHECKED.iter().any(|(checked, _)| *checked == annotation)
        || QUANTITIES.contains(&annotation)
        || INTERFACES.contains(&annotation)
        || [SCRAPES, METRICS_PORT, SCRAPE_TARGETS].contains(&annotation)
}

/// Why the istiod of a control plane refuses a pod with these annotations; nothing when it does not.
pub(super) fn of_annotations(control_plane: Option<&ControlPlane>, template: &Template) -> Result<Option<String>, Doubt> {
    let default = MeshConfig::default();
    let mesh = match control_plane.map(|control_plane| &control_plane.mesh_config) {
        Some(Read::Known(mesh)) => mesh,
        _ => &default,
    };
    if let Some(why) = always(template) {
        return Ok(Some(why));
    }
    let Some((since, why)) = newly(mesh, template) else { return Ok(None) };
    match control_plane.and_then(ControlPlane::version).map(|version| version.line()) {
        Some(line) if line >= since => Ok(Some(why)),
        Some(_) => Ok(None),
        None => {
            let (major, minor) = since;
            Err(Doubt::new(Reason::InjectorConfig, format!("from {major}.{minor} on istiod refuses it: {why}")))
        }
    }
}

/// What an istiod of this version refuses that an older one took: the reason, and since when.
pub fn newly_refused(mesh: &MeshConfig, template: &Template, from: &Version, to: &Version) -> Option<String> {
    let (since, why) = newly(mesh, template)?;
    (always(template).is_none() && from.line() < since && since <= to.line()).then_some(why)
}

/// What every version refuses.
fn always(template: &Template) -> Option<String> {
    let told = |annotation: &str, why: String| {
        Some(if annotation == labels::PROXY_CONFIG {
            format!("its annotation {annotation} is no ProxyConfig: {why}")
        } else {
            format!("its annotation {annotation} is refused: {why}")
        })
    };
    for (annotation, check) in CHECKED {
        if let Some(Err(why)) = template.annotation(annotation).map(check) {
            return told(annotation, why);
        }
    }
    let has_sidecar =
        template.annotation(labels::INJECT_TEMPLATES).is_none_or(|names| names.split(',').any(|name| name.trim() == "sidecar"));
    let bad = bad_quantity(template).filter(|_| has_sidecar);
    bad.and_then(|(annotation, why)| told(annotation, why))
}

fn bad_quantity(template: &Template) -> Option<(&'static str, String)> {
    QUANTITIES.into_iter().find_map(|key| {
        let value = template.annotation(key)?;
        (!is_quantity(value)).then(|| (key, format!("{value:?} is no quantity")))
    })
}

/// What only newer versions refuse, and since when: the first of all.
fn newly(mesh: &MeshConfig, template: &Template) -> Option<(Line, String)> {
    let quantity =
        bad_quantity(template).map(|(key, why)| (CHECKS_QUANTITIES, format!("its annotation {key} is refused: {why}")));
    let interfaces = INTERFACES.into_iter().find_map(|key| {
        let value = template.annotation(key)?;
        let bad = value.split(',').map(str::trim).find(|name| !value.is_empty() && !is_interface(name))?;
        Some((CHECKS_INTERFACES, format!("its annotation {key} is refused: {bad:?} is no name of an interface")))
    });
    let metrics = || metrics(mesh, template).map(|why| (CHECKS_METRICS, why));
    quantity.or(interfaces).or_else(metrics)
}

/// Why the ports from which metrics are merged are refused.
fn metrics(mesh: &MeshConfig, template: &Template) -> Option<String> {
    let says = |key: &str| template.annotation(key).and_then(go_bool);
    if says(SCRAPES) == Some(false) || !says(MERGES_METRICS).unwrap_or_else(|| mesh.merges_metrics()) {
        return None;
    }
    let agent = mesh.status_port();
    let port = template.annotation(METRICS_PORT);
    if port == Some(agent.to_string().as_str()) {
        return None;
    }
    let targets = template.annotation(SCRAPE_TARGETS).and_then(scrape_ports).unwrap_or_default();
    let (key, ports) = if targets.is_empty() {
        (METRICS_PORT, port.into_iter().filter(|port| !port.is_empty()).map(str::to_owned).collect())
    } else {
        (SCRAPE_TARGETS, targets)
    };
    ports.iter().find_map(|text: &String| {
        let why = match text.parse::<i64>() {
            Ok(port) if !(1..=65535).contains(&port) => "no port",
            Ok(port) if port == agent => "the port of the proxy's agent",
            Ok(port) if RESERVED_PORTS.contains(&port) => "a port of Istio's own",
            Ok(_) => return None,
            Err(_) => "no number",
        };
        Some(format!("its annotation {key} is refused: {text:?} is {why}"))
    })
}

/// The ports of `8080:/metrics, 9090`; nothing where one has none, which istiod passes over.
fn scrape_ports(targets: &str) -> Option<Vec<String>> {
    let targets = targets.split(',').map(str::trim).filter(|target| !target.is_empty());
    targets.map(|target| Some(target.split(':').next()?.trim().to_owned()).filter(|port| !port.is_empty())).collect()
}

fn interception_mode(value: &str) -> Result<(), String> {
    let is_mode = ["REDIRECT", "TPROXY", "NONE"].contains(&value);
    is_mode.then_some(()).ok_or_else(|| format!("{value:?} is none of REDIRECT, TPROXY, NONE"))
}

fn port(value: &str) -> Result<(), String> {
    value.trim().parse::<u16>().map(drop).map_err(|_| format!("{value:?} is no port"))
}

fn number(value: &str) -> Result<(), String> {
    let is_number = !value.starts_with('+') && value.parse::<u32>().is_ok();
    is_number.then_some(()).ok_or_else(|| format!("{value:?} is no number"))
}

fn truth(value: &str) -> Result<(), String> {
    go_bool(value).map(drop).ok_or_else(|| format!("{value:?} is neither true nor false"))
}

/// As Go's `strconv.ParseBool` reads it.
fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn ports(value: &str) -> Result<(), String> {
    if value.trim().is_empty() { Ok(()) } else { value.trim().split(',').try_for_each(port) }
}

fn any_or_ports(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ports(value) }
}

fn ranges(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    let is_range = |range: &str| -> bool {
        let Some((address, bits)) = range.split_once('/') else { return false };
        let most = match address.parse::<std::net::IpAddr>() {
            Ok(address) if address.is_ipv4() => 32,
            Ok(_) => 128,
            Err(_) => return false,
        };
        let is_plain = bits == "0" || !bits.starts_with(['0', '+']);
        is_plain && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    };
    value
        .split(',')
        .try_for_each(|range| is_range(range).then_some(()).ok_or_else(|| format!("{range:?} is no range of IP addresses")))
}

fn any_or_ranges(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ranges(value) }
}

fn proxy_config(value: &str) -> Result<(), String> {
    annotated(value).map(drop)
}

/// Whether it is a quantity of Kubernetes (`ParseQuantity`, k8s.io/apimachinery/pkg/api/resource/quantity.go).
fn is_quantity(value: &str) -> bool {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let end = unsigned.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let is_exponent = |suffix: &str| {
        suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    is_number && (suffixes.contains(&suffix) || is_exponent(suffix))
}

/// Whether it may be the name of an interface of Linux (`ValidateInterfaceNames`, pkg/util/net).
fn is_interface(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 15 && name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(annotations: &[(&str, &str)]) -> Template {
        let sorted: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        let annotations = sorted.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Template { annotations, ..Template::default() }
    }

    #[test]
    fn what_every_version_refuses_is_told_with_the_annotation() {
        let why = |key: &str, value: &str| always(&template(&[(key, value)]));
        for (key, good, bad) in [
            ("sidecar.istio.io/interceptionMode", vec!["REDIRECT", "NONE"], vec!["redirect", ""]),
            ("status.sidecar.istio.io/port", vec!["0", "15020", " 1 "], vec!["", "65536", "x", "-1"]),
            ("readiness.status.sidecar.istio.io/periodSeconds", vec!["0", "4294967295"], vec!["-1", "+1", "1s", "4294967296"]),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                vec!["*", "", "10.0.0.0/8,fd00::/8"],
                vec!["10.0.0.0", "10.0.0.0/33", "*,10.0.0.0/8", "10.0.0.0/8, 11.0.0.0/8"],
            ),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", vec!["", "10.0.0.0/8"], vec!["*"]),
            ("traffic.sidecar.istio.io/includeInboundPorts", vec!["*", "", "80, 443"], vec!["80,", "http"]),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", vec!["", "80,443"], vec!["*", "70000"]),
            ("prometheus.istio.io/merge-metrics", vec!["true", "0", "T"], vec!["yes", ""]),
            (
                "sidecar.istio.io/proxyCPU",
                vec!["100m", "1", "0.5", "1e3", "2Gi", ".5"],
                vec!["", "much", "100 m", "1K", "1.2.3", "e3"],
            ),
            (labels::PROXY_CONFIG, vec!["concurrency: '2'", ""], vec!["concurrency: many", "["]),
        ] {
            for value in good {
                assert_eq!(why(key, value), None, "{key}={value:?}");
            }
            for value in bad {
                assert!(why(key, value).is_some_and(|why| why.contains(key)), "{key}={value:?}");
            }
        }
    }

    #[test]
    fn newer_versions_refuse_more() {
        let refused = |annotations: &[(&str, &str)], from: &str, to: &str| {
            newly_refused(&MeshConfig::default(), &template(annotations), &from.parse().unwrap(), &to.parse().unwrap())
        };
        for port in ["15090", "15020x", "0", "http", "15000"] {
            assert!(refused(&[("prometheus.io/port", port)], "1.30.2", "1.31.0").is_some(), "{port}");
            assert_eq!(refused(&[("prometheus.io/port", port)], "1.29.0", "1.30.2"), None, "{port}");
            assert_eq!(refused(&[("prometheus.io/port", port)], "1.31.0", "1.32.0"), None, "{port}");
        }
        for fine in [
            &[("prometheus.io/port", "8080")][..],
            &[("prometheus.io/port", "15020")],
            &[("prometheus.io/port", "")],
            &[("prometheus.io/port", "15090"), ("prometheus.io/scrape", "false")],
            &[("prometheus.io/port", "15090"), ("prometheus.istio.io/merge-metrics", "false")],
            &[("prometheus.io/port", "15090"), ("prometheus.istio.io/scrape-targets", "8080:/metrics")],
        ] {
            assert_eq!(refused(fine, "1.30.0", "1.31.0"), None, "{fine:?}");
        }
        let targets = [("prometheus.istio.io/scrape-targets", "8080, 15006:/x")];
        assert!(refused(&targets, "1.30.0", "1.31.0").unwrap().contains("15006"));
        let interface = [("traffic.sidecar.istio.io/excludeInterfaces", "eth0,a/b")];
        assert!(refused(&interface, "1.29.0", "1.30.0").is_some());
        let gateway = [("sidecar.istio.io/proxyCPU", "much"), ("inject.istio.io/templates", "gateway")];
        assert!(refused(&gateway, "1.28.0", "1.29.0").is_some());
        assert_eq!(refused(&[("sidecar.istio.io/proxyCPU", "much")], "1.28.0", "1.29.0"), None, "refused before");
    }

    #[test]
    fn metrics_are_not_looked_at_where_the_mesh_does_not_merge_them() {
        let mesh = |mesh: &str| {
            let data = [("mesh".to_owned(), mesh.to_owned())].into_iter().collect();
            MeshConfig::parse(&crate::object::ConfigMap { data, ..Default::default() }).unwrap()
        };
        let pod = template(&[("prometheus.io/port", "15090")]);
        assert!(metrics(&mesh(""), &pod).is_some());
        assert_eq!(metrics(&mesh("enablePrometheusMerge: false"), &pod), None);
        assert_eq!(metrics(&mesh("defaultConfig: {statusPort: 15090}"), &pod), None);
    }
}
