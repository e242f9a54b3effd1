//! The mesh configuration of a revision that is to come, beside that of the one that runs. Pure.

use mesh::advice::Advice;
use mesh::control_plane::revision_suffix;
use mesh::yaml;
use serde_json::{Map, Value};

use super::contents::{Contents, Obstacle};
use crate::mesh_config::{IDENTITY, INJECTOR_IDENTITY, OWN, differences, flat, is_among, is_plain, parsed, shown};

/// Whether edits of the running revision are carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrying {
    /// They are.
    Edits,
    /// The manifests say all.
    Nothing,
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Keys that differ, each with what is told of it.
    pub lines: Vec<(String, String)>,
    /// What must not differ and does.
    pub obstacles: Vec<Obstacle>,
}

/// Compares the mesh's ConfigMap of the running revision with the one in the manifests, and carries edits over to that when it is
/// to be done. `running` is the running ConfigMap, `injector` its injector's.
pub fn compare(
    contents: &mut Contents,
    revision: &str,
    running: &Value,
    injector: Option<&Value>,
    carrying: Carrying,
) -> Compared {
    let mut compared = Compared::default();
    let name = format!("istio{}", revision_suffix(revision));
    let old_name = running["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let is_it = |object: &&mut Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name.as_str();
    let Some(map) = contents.objects.iter_mut().find(is_it) else { return compared };
    for (data, prefix) in [("mesh", ""), ("meshNetworks", "meshNetworks.")] {
        let (old, new) = match (parsed(&running["data"][data]), parsed(&map["data"][data])) {
            (Ok(old), Ok(new)) => (old, new),
            (old, new) => {
                let (subject, why) = if let Err(why) = old { (&old_name, why) } else { (&name, new.err().unwrap_or_default()) };
                let reason = format!("its key {data} cannot be read: {}", why.lines().next().unwrap_or_default());
                compared.obstacles.push(Obstacle::new(format!("configmaps/{subject}"), reason, "fix it first"));
                continue;
            }
        };
        let mut document: Value = map["data"][data].as_str().and_then(|text| yaml::value(text).ok()).unwrap_or_default();
        let mut is_carried = false;
        for (key, before, after) in differences(&old, &new).filter(|(key, ..)| !is_among(key, &OWN)) {
            let told = format!("{prefix}{key}");
            let carried = before.filter(|value| carrying == Carrying::Edits && !is_plain(key, value));
            let differ = format!("is {}, in {old_name} it is {}", shown(after), shown(before));
            if let Some(value) = carried {
                set(&mut document, key, value.clone());
                is_carried = true;
                compared.lines.push((told, format!("{differ}: carried over")));
            } else if is_among(key, &IDENTITY) {
                let reason = format!("{told} {differ}: proxies of both would not trust each other");
                let advice = Advice::say(format!("render it with the same {key}, or carry it over with --carry-mesh-config"));
                compared.obstacles.push(Obstacle::new(format!("configmaps/{name}"), reason, advice));
            } else {
                compared.lines.push((told, differ));
            }
        }
        if is_carried {
            match yaml::text(&document) {
                Ok(text) => map["data"][data] = text.into(),
                Err(error) => compared.obstacles.push(Obstacle::new(format!("configmaps/{name}"), error, "")),
            }
        }
    }
    if let Some(injector) = injector {
        compared.obstacles.extend(injector_values(contents, revision, injector));
    }
    compared
}

/// Mesh id, network and certificate authority as the injectors hand them to proxies.
fn injector_values(contents: &Contents, revision: &str, injector: &Value) -> Vec<Obstacle> {
    let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
    let values = |map: &Value| map["data"]["values"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (Some(old), Some(new)) = (values(injector), contents.object("ConfigMap", &name).and_then(values)) else {
        return Vec::new();
    };
    let (old, new) = (flat(&old), flat(&new));
    differences(&old, &new)
        .filter(|(key, ..)| is_among(key, &INJECTOR_IDENTITY))
        .map(|(key, before, after)| {
            let reason = format!(
                "{key} is {}, of the running revision it is {}: proxies would not be of one mesh",
                shown(after),
                shown(before)
            );
            Obstacle::new(
                format!("configmaps/{name}"),
                reason,
                Advice::say(format!("render it with --set values.{key}=…, the same as before")),
            )
        })
        .collect()
}

/// Sets the value under a key whose parts are joined by dots.
fn set(document: &mut Value, key: &str, value: Value) {
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    match key.split_once('.') {
        Some((first, rest)) => set(&mut document[first], rest, value),
        None => document[key] = value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(name: &str, mesh: &str) -> Value {
        json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"mesh": mesh}})
    }

    fn run(old: &str, new: &str, carrying: Carrying) -> (Compared, Value) {
        let objects = vec![map("istio-1-28-2", new)];
        let mut contents = Contents { namespace: "istio-system".to_owned(), version: None, objects, left_out: Vec::new() };
        let compared = compare(&mut contents, "1-28-2", &map("istio-1-26-0", old), None, carrying);
        let text = contents.objects[0]["data"]["mesh"].as_str().unwrap_or_default();
        (compared, yaml::value(text).unwrap())
    }

    const OLD: &str =
        "defaultConfig:\n  discoveryAddress: old\n  concurrency: 3\ntrustDomain: cluster.local\naccessLogFile: /dev/stdout\n";
    const NEW: &str = "defaultConfig:\n  discoveryAddress: new\ntrustDomain: cluster.local\n";

    #[test]
    fn differences_are_told_key_by_key_and_carried_only_when_it_is_asked_for() {
        let (compared, mesh) = run(OLD, NEW, Carrying::Nothing);
        let keys: Vec<&str> = compared.lines.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((keys, compared.obstacles.len()), (vec!["accessLogFile", "defaultConfig.concurrency"], 0));
        assert_eq!(mesh.get("accessLogFile"), None);
        let (compared, mesh) = run(OLD, NEW, Carrying::Edits);
        assert!(compared.lines.iter().all(|(_, text)| text.ends_with("carried over")), "{compared:?}");
        let expected = json!({
            "defaultConfig": {"discoveryAddress": "new", "concurrency": 3}, "trustDomain": "cluster.local", "accessLogFile": "/dev/stdout",
        });
        assert_eq!(mesh, expected);
    }

    #[test]
    fn another_trust_domain_is_in_the_way_unless_it_is_carried() {
        let old = OLD.replace("cluster.local", "example.com");
        let (compared, _) = run(&old, NEW, Carrying::Nothing);
        assert_eq!(compared.obstacles.len(), 1);
        assert!(
            compared.obstacles[0].reason.starts_with("trustDomain is \"cluster.local\", in istio-1-26-0 it is \"example.com\"")
        );
        let (compared, mesh) = run(&old, NEW, Carrying::Edits);
        assert_eq!((compared.obstacles.len(), &mesh["trustDomain"]), (0, &json!("example.com")));
        assert!(run(OLD, NEW, Carrying::Nothing).0.obstacles.is_empty());
    }

    #[test]
    fn a_configuration_that_nobody_can_read_is_in_the_way() {
        assert_eq!(run("a: [", NEW, Carrying::Nothing).0.obstacles.len(), 1);
    }
}
