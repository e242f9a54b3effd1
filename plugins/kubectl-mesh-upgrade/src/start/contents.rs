//! What rendered manifests hold: one control plane of one revision, or why not. Pure.

use mesh::advice::{Advice, Command};
use mesh::change::Subject;
use mesh::control_plane::{UNREVISIONED, revision_suffix};
use mesh::image::Image;
use mesh::labels;
use mesh::manifest::Manifest;
use mesh::object::Resource;
use mesh::version::Version;
use serde_json::Value;

/// Something that keeps a revision from being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The object, and where it stands.
    pub subject: String,
    /// Why it is in the way.
    pub reason: String,
    /// What to do.
    pub advice: Advice,
}

impl Obstacle {
    /// From its parts.
    pub fn new(subject: impl Into<String>, reason: impl Into<String>, advice: impl Into<Advice>) -> Obstacle {
        Obstacle { subject: subject.into(), reason: reason.into(), advice: advice.into() }
    }

    /// As a line of a refusal, with what to do.
    pub fn line(&self) -> (String, Advice) {
        (format!("{}: {}", self.subject, self.reason), self.advice.clone())
    }
}

/// One control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Its namespace.
    pub namespace: String,
    /// Its version, where the image of istiod names one.
    pub version: Option<Version>,
    /// What is to be applied.
    pub objects: Vec<Value>,
    /// What is not, with the reason: tags, which are moved by themselves.
    pub left_out: Vec<(String, Advice)>,
}

impl Contents {
    /// The object of this kind and name.
    pub fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// The injectors of the revision itself.
    pub fn own_injectors(&self, revision: &str) -> Vec<Subject> {
        let is_own = |object: &&Value| {
            object["kind"] == "MutatingWebhookConfiguration"
                && label(object, labels::REVISION) == Some(revision)
                && label(object, labels::TAG).is_none()
        };
        let subject = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            Subject::new(Resource::MutatingWebhookConfigurations, None, name)
        };
        self.objects.iter().filter(is_own).map(subject).collect()
    }
}

/// A label of an object.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

/// What an object is called where discovery has not told its plural: `ConfigMap istio -n istio-system`.
pub fn described(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = object["metadata"]["namespace"].as_str().map_or(String::new(), |namespace| format!(" -n {namespace}"));
    format!("{} {}{namespace}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn placed(manifest: &Manifest) -> String {
    format!("{} (document {}, line {})", described(&manifest.object), manifest.document, manifest.line)
}

/// Reads the manifests of `revision`; or everything that is wrong with them.
///
/// The names are those of the chart istio-discovery (manifests/charts/istio-control/istio-discovery/templates of istio/istio).
pub fn contents(manifests: &[Manifest], revision: &str) -> Result<Contents, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut kept: Vec<&Manifest> = Vec::new();
    let mut left_out = Vec::new();
    for manifest in manifests {
        let object = &manifest.object;
        if object["kind"] == "IstioOperator" {
            let generate = Command::istioctl("manifest generate -f FILE").flag("--set", format!("revision={revision}")).local();
            let advice = Advice::run(generate).and_say(" renders what it stands for");
            obstacles.push(Obstacle::new(placed(manifest), "it is an order for istioctl, no manifest", advice));
        } else if let Some(why) = why_left_out(object, revision) {
            left_out.push((described(object), why));
        } else if let Some(other) = label(object, labels::REVISION).filter(|other| *other != revision && is_of_revision(object)) {
            let advice = Advice::say(format!("render the manifests of one revision: --set revision={revision}"));
            obstacles.push(Obstacle::new(placed(manifest), format!("it belongs to revision {other}, not {revision}"), advice));
        } else {
            kept.push(manifest);
        }
    }
    for (place, manifest) in kept.iter().enumerate() {
        if let Some(first) = kept[..place].iter().find(|first| is_same(&first.object, &manifest.object)) {
            let reason = format!("the same object stands in document {} too", first.document);
            obstacles.push(Obstacle::new(placed(manifest), reason, "keep one of them"));
        }
    }
    let suffix = revision_suffix(revision);
    let istiod = format!("istiod{suffix}");
    let deployment = kept.iter().map(|manifest| &manifest.object).find(|object| is_istiod(object, &istiod));
    let Some(deployment) = deployment else {
        if obstacles.is_empty() {
            let reason = format!("no Deployment {istiod} is in them: they install no control plane of revision {revision}");
            let generate = Command::istioctl("manifest generate").flag("--set", format!("revision={revision}")).local();
            let advice = Advice::run(generate.words("--set profile=minimal"))
                .and_say(", or ")
                .and_run(Command::helm("template").local())
                .and_say(" of the chart istiod");
            obstacles.push(Obstacle::new("the manifests", reason, advice));
        }
        return Err(obstacles);
    };
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or("istio-system").to_owned();
    let version = discovery_image(deployment).and_then(|image| Image::parse(image).version());
    let objects: Vec<Value> = kept.iter().map(|manifest| manifest.object.clone()).collect();
    let contents = Contents { namespace, version, objects, left_out };
    let needed =
        [("Service", istiod), ("ConfigMap", format!("istio{suffix}")), ("ConfigMap", format!("istio-sidecar-injector{suffix}"))];
    for (kind, name) in needed {
        if contents.object(kind, &name).is_none() {
            let reason = format!("they have no {kind} {name}, without which its istiod serves nobody");
            obstacles.push(Obstacle::new("the manifests", reason, "render the whole chart, without -s"));
        }
    }
    if contents.injectors(revision).next().is_none() {
        let reason = "they have no MutatingWebhookConfiguration of the revision: nothing would be injected";
        obstacles.push(Obstacle::new("the manifests", reason, "render the whole chart, without -s"));
    }
    if obstacles.is_empty() { Ok(contents) } else { Err(obstacles) }
}

impl Contents {
    /// The webhook configurations that inject for the revision.
    pub fn injectors<'a>(&'a self, revision: &'a str) -> impl Iterator<Item = &'a Value> {
        let is_it = move |object: &&Value| {
            object["kind"] == "MutatingWebhookConfiguration" && label(object, labels::REVISION) == Some(revision)
        };
        self.objects.iter().filter(is_it)
    }
}

/// Tags, the default one and its validator among them, are the users' to move: an install that takes them along would move
/// everybody who follows them (operator/pkg/webhook/webhook.go does so for `istioctl install`).
fn why_left_out(object: &Value, revision: &str) -> Option<Advice> {
    if let Some(tag) = label(object, labels::TAG) {
        let set = Command::mesh_tag("set").value(tag).flag("--revision", revision);
        return Some(Advice::say(format!("tag {tag} is moved by ")).and_run(set));
    }
    let is_default_validator =
        object["kind"] == "ValidatingWebhookConfiguration" && object["metadata"]["name"] == "istiod-default-validator";
    is_default_validator.then(|| {
        let set = Command::mesh_tag("set default").flag("--revision", revision);
        Advice::say("the default validator moves with the default tag: ").and_run(set)
    })
}

/// Definitions carry the label of whoever installed last, and belong to all.
fn is_of_revision(object: &Value) -> bool {
    object["kind"] != "CustomResourceDefinition"
}

fn is_same(one: &Value, other: &Value) -> bool {
    let group = |object: &Value| {
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group.to_owned())
    };
    one["kind"] == other["kind"]
        && group(one) == group(other)
        && ["name", "namespace"].iter().all(|field| one["metadata"][field] == other["metadata"][field])
}

fn is_istiod(object: &Value, name: &str) -> bool {
    object["kind"] == "Deployment" && object["metadata"]["name"] == name && discovery_image(object).is_some()
}

/// The image of a Deployment's container `discovery`.
pub fn discovery_image(deployment: &Value) -> Option<&str> {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    containers.into_iter().flatten().find(|container| container["name"] == "discovery")?["image"].as_str()
}

/// Why this cannot be the name of a revision; `None` when it can.
pub fn why_no_revision(name: &str) -> Option<&'static str> {
    let is_label = !name.is_empty()
        && name.len() <= 56
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_label {
        return Some("it is no DNS label: lower-case letters, digits and -, at most 56 of them");
    }
    (name == UNREVISIONED)
        .then_some("it stands for the install without a revision, which cannot stand beside another of its kind")
}

#[cfg(test)]
mod tests {
    use mesh::terminal::advisor::Advisor;
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, labels: Value) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "istio-system", "labels": labels}})
    }

    fn complete() -> Vec<Value> {
        let own = || json!({"istio.io/rev": "1-28-2"});
        let mut deployment = object("Deployment", "istiod-1-28-2", own());
        deployment["spec"]["template"]["spec"]["containers"] =
            json!([{"name": "discovery", "image": "docker.io/istio/pilot:1.28.2"}]);
        vec![
            deployment,
            object("Service", "istiod-1-28-2", own()),
            object("ConfigMap", "istio-1-28-2", own()),
            object("ConfigMap", "istio-sidecar-injector-1-28-2", own()),
            object("MutatingWebhookConfiguration", "istio-sidecar-injector-1-28-2", own()),
            object("ServiceAccount", "istiod-1-28-2", json!({})),
        ]
    }

    fn read(objects: Vec<Value>) -> Result<Contents, Vec<Obstacle>> {
        let manifests: Vec<Manifest> = objects
            .into_iter()
            .enumerate()
            .map(|(place, object)| Manifest { object, document: place + 1, line: 10 * place + 1 })
            .collect();
        contents(&manifests, "1-28-2")
    }

    fn reasons(objects: Vec<Value>) -> Vec<String> {
        read(objects).unwrap_err().iter().map(|obstacle| format!("{}: {}", obstacle.subject, obstacle.reason)).collect()
    }

    #[test]
    fn a_whole_control_plane_is_read_with_its_version() {
        let contents = read(complete()).unwrap();
        assert_eq!((contents.namespace.as_str(), contents.objects.len(), contents.left_out.len()), ("istio-system", 6, 0));
        assert_eq!(contents.version.map(|version| version.to_string()).as_deref(), Some("1.28.2"));
    }

    #[test]
    fn objects_of_another_revision_are_named_with_their_lines() {
        let mut objects = complete();
        objects.push(object("ConfigMap", "istio", json!({"istio.io/rev": "default"})));
        let told = reasons(objects.clone());
        assert_eq!(told, ["ConfigMap istio -n istio-system (document 7, line 61): it belongs to revision default, not 1-28-2"]);
        // The label of a definition only says who installed last.
        objects[6] = object("CustomResourceDefinition", "sidecars.networking.istio.io", json!({"istio.io/rev": "default"}));
        assert!(read(objects).is_ok());
    }

    #[test]
    fn tags_and_the_default_validator_are_left_out() {
        let mut objects = complete();
        objects.push(object(
            "Service",
            "istiod-revision-tag-default",
            json!({"istio.io/tag": "default", "istio.io/rev": "1-28-2"}),
        ));
        objects.push(object("ValidatingWebhookConfiguration", "istiod-default-validator", json!({})));
        let contents = read(objects).unwrap();
        let names: Vec<&str> = contents.left_out.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "Service istiod-revision-tag-default -n istio-system",
            "ValidatingWebhookConfiguration istiod-default-validator -n istio-system",
        ];
        assert_eq!(names, expected);
        let told = Advisor::default().text(&contents.left_out[0].1);
        assert!(told.contains("kubectl mesh-tag set default --revision 1-28-2"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (place, word) in [
            (0, "Deployment istiod-1-28-2"),
            (1, "Service istiod-1-28-2"),
            (2, "ConfigMap istio-1-28-2"),
            (3, "istio-sidecar-injector"),
            (4, "MutatingWebhookConfiguration"),
        ] {
            let mut objects = complete();
            objects.remove(place);
            let told = reasons(objects);
            assert!(told.len() == 1 && told[0].contains(word), "{told:?}");
        }
        assert_eq!(reasons(Vec::new()).len(), 1);
    }

    #[test]
    fn an_order_for_istioctl_and_a_double_are_no_manifests() {
        let mut objects = complete();
        objects.push(object("IstioOperator", "mesh", json!({})));
        objects.push(objects[1].clone());
        let told = reasons(objects);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("order for istioctl") && told[1].contains("stands in document 2 too"), "{told:?}");
    }

    #[test]
    fn names_of_revisions_are_dns_labels() {
        assert_eq!(why_no_revision("1-28-2"), None);
        for name in ["", "1.28", "A", "-a", "a-", "default", "a/b"] {
            assert!(why_no_revision(name).is_some(), "{name}");
        }
    }
}
