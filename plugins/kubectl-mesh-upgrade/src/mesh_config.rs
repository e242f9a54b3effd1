//! Mesh configurations of revisions, compared key by key.

use std::collections::{BTreeMap, BTreeSet};

use mesh::yaml;
use serde_json::Value;

/// Keys by which proxies of both revisions know and trust each other: a difference breaks mutual TLS between them.
pub const IDENTITY: [&str; 5] = ["trustDomain", "trustDomainAliases", "caCertificates", "rootNamespace", "defaultConfig.meshId"];

/// Keys that name the revision's own addresses.
pub const OWN: [&str; 1] = ["defaultConfig.discoveryAddress"];

/// What a plain install of Istio writes (manifests/charts/istio-control/istio-discovery/templates/configmap.yaml): a new revision has
/// it anyway.
pub fn is_plain(key: &str, value: &Value) -> bool {
    match key {
        "defaultConfig.discoveryAddress" | "rootNamespace" => true,
        "defaultProviders.metrics" => *value == serde_json::json!(["prometheus"]),
        "enablePrometheusMerge" => value == true,
        "trustDomain" => value == "cluster.local",
        _ => false,
    }
}

/// Values of the injector's ConfigMap that are part of a proxy's identity or of the way to its control plane.
pub const INJECTOR_IDENTITY: [&str; 6] = [
    "global.meshID",
    "global.network",
    "global.multiCluster.clusterName",
    "global.caAddress",
    "global.caName",
    "global.pilotCertProvider",
];

/// Keys and values of a configuration, nested keys joined by dots. Lists are values.
pub type Flat = BTreeMap<String, Value>;

/// Takes a configuration apart.
pub fn flat(value: &Value) -> Flat {
    fn add(path: &str, value: &Value, flat: &mut Flat) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (key, value) in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    add(&path, value, flat);
                }
            }
            // Nothing, however it is written, is the same as not being there.
            Value::Null => {}
            Value::Object(_) => {}
            Value::Array(items) if items.is_empty() => {}
            Value::String(text) if text.is_empty() => {}
            value => drop(flat.insert(path.to_owned(), value.clone())),
        }
    }
    let mut all = Flat::new();
    add("", value, &mut all);
    all
}

/// A document of a mesh's ConfigMap; what is not there says nothing.
///
/// # Errors
/// Why it is no YAML.
pub fn parsed(text: &Value) -> Result<Flat, String> {
    let Some(text) = text.as_str().filter(|text| !text.trim().is_empty()) else { return Ok(Flat::new()) };
    yaml::value(text).map(|value| flat(&value)).map_err(|error| error.to_string())
}

/// Whether a key is one of these, or stands below one.
pub fn is_among(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|known| key == *known || key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')))
}

/// Keys that differ, with both values.
pub fn differences<'a>(old: &'a Flat, new: &'a Flat) -> impl Iterator<Item = (&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let keys: BTreeSet<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
    keys.into_iter().map(|key| (key, old.get(key), new.get(key))).filter(|(_, old, new)| old != new)
}

/// A value in a message.
pub fn shown(value: Option<&Value>) -> String {
    /// So much of a value is shown.
    const LONGEST: usize = 60;
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= LONGEST { text } else { format!("{}…", text.chars().take(LONGEST).collect::<String>()) }
}
