//! Writes what verdicts were made from to a file, with nothing in it that no verdict needs: no Secret, no environment
//! value, no image but the proxy's, no certificate.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::failure::{Cause, Failure};
use super::list::{Begin, List, Observer};
use super::replacement::replace;
use crate::control_plane::{CONFIGURATION_PATHS, DECIDING_VARIABLES};
use crate::injection::overlaid_image;
use crate::injector_config::InjectorConfig;
use crate::labels;
use crate::mesh_config::MeshConfig;
use crate::object::{
    ConfigMap, Container, DeploymentStatus, DeploymentTemplate, Metadata, Object, Pod, PodSpec, PodTemplateSpec, Resource,
    WebhookConfiguration,
};
use crate::proxy_config::annotated;
use crate::template::{PROXY_CONTAINER, may_be_proxy};

/// Stands for a certificate: only whether one is there decides anything. Base64 of `saved`.
const CERTIFICATE: &str = "c2F2ZWQ=";

/// Keeps objects on their way into a snapshot, and writes them.
#[derive(Default)]
pub struct Saved {
    /// By resource, namespace and name; each as one line of JSON.
    objects: RefCell<BTreeMap<(Resource, String, String), String>>,
    /// Namespace and name of the ReplicaSets that control a pod: of the others no verdict needs anything.
    replica_sets: RefCell<BTreeSet<(String, String)>>,
    /// The kinds of which all that is needed was read, and those of which something was not.
    complete: RefCell<BTreeSet<Resource>>,
    incomplete: RefCell<BTreeSet<Resource>>,
}

impl Observer for Saved {
    fn object(&self, object: &Object) {
        let metadata = object.metadata();
        let key = (object.resource(), metadata.namespace.clone(), metadata.name.clone());
        let controller = metadata.controller().filter(|owner| owner.kind == "ReplicaSet");
        if let (Object::Pod(_), Some(owner)) = (object, controller) {
            self.replica_sets.borrow_mut().insert((metadata.namespace.clone(), owner.name.clone()));
        }
        if let Some(reduced) = reduced(object) {
            self.objects.borrow_mut().insert(key, reduced.to_json().to_string());
        }
    }

    fn complete(&self, resource: Resource) {
        self.complete.borrow_mut().insert(resource);
    }

    fn incomplete(&self, resource: Resource) {
        self.incomplete.borrow_mut().insert(resource);
    }

    fn restart(&self, list: &List, _begin: Begin) {
        self.objects.borrow_mut().retain(|(resource, namespace, _), _| !list.covers(*resource, namespace));
    }
}

impl Saved {
    /// Writes all of it as a List, an object a line, sorted: and a list of a kind of which there is none, or not all.
    ///
    /// # Errors
    /// When it cannot be written; what was there before is there still.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let failure = |error: io::Error| Failure::new(format!("writing {}", path.display()), Cause::Other(error.to_string()));
        replace(path, |out| self.write_to(out)).map_err(failure)
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let (objects, replica_sets) = (self.objects.borrow(), self.replica_sets.borrow());
        let is_needed = |(resource, namespace, name): &(Resource, String, String)| {
            *resource != Resource::ReplicaSets || replica_sets.contains(&(namespace.clone(), name.clone()))
        };
        let needed = || objects.iter().filter(|(key, _)| is_needed(key));
        let seen: BTreeSet<Resource> = needed().map(|((resource, ..), _)| *resource).collect();
        let lists = Resource::ALL.into_iter().filter_map(|resource| self.list_of(resource, seen.contains(&resource)));
        out.write_all(b"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
        for (place, item) in needed().map(|(_, text)| text.clone()).chain(lists).enumerate() {
            out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
            out.write_all(item.as_bytes())?;
        }
        out.write_all(b"\n]}\n")
    }

    /// What has to be said of a kind besides its objects, as the API server says it: that there are more, or that there is none.
    fn list_of(&self, resource: Resource, has_objects: bool) -> Option<String> {
        let mut list = json!({"apiVersion": resource.api_version(), "kind": format!("{}List", resource.kind()), "items": []});
        if self.incomplete.borrow().contains(&resource) {
            list["metadata"] = json!({"continue": "not read"});
        } else if has_objects || !self.complete.borrow().contains(&resource) {
            return None;
        }
        Some(list.to_string())
    }
}

/// An object without what no verdict needs; nothing when no verdict needs it at all.
fn reduced(object: &Object) -> Option<Object> {
    let mut object = object.clone();
    match &mut object {
        Object::Pod(pod) => reduce_pod(pod),
        Object::Deployment(deployment) => {
            reduce_controller(&mut deployment.metadata);
            let spec = deployment.spec.as_mut()?;
            reduce_deployment_template(&mut spec.template);
            let ready_replicas = deployment.status.as_ref().map_or(0, |status| status.ready_replicas);
            deployment.status = Some(DeploymentStatus { ready_replicas, ..DeploymentStatus::default() });
        }
        Object::StatefulSet(object) => {
            reduce_controller(&mut object.metadata);
            reduce_template(&mut object.spec.as_mut()?.template);
        }
        Object::DaemonSet(object) => {
            reduce_controller(&mut object.metadata);
            reduce_template(&mut object.spec.as_mut()?.template);
        }
        Object::ReplicaSet(object) => {
            reduce_controller(&mut object.metadata);
            match &mut object.spec {
                Some(spec) => reduce_template(&mut spec.template),
                // Only its metadata was read, for its owner.
                None => object.metadata.iter_mut().for_each(|metadata| metadata.labels.clear()),
            }
        }
        Object::Job(object) => {
            reduce_controller(&mut object.metadata);
            reduce_template(&mut object.spec.as_mut()?.template);
        }
        Object::Rollout(object) => {
            reduce_controller(&mut object.metadata);
            reduce_template(&mut object.spec.as_mut()?.template);
        }
        Object::Namespace(namespace) => reduce_annotations(&mut namespace.metadata),
        Object::MutatingWebhookConfiguration(configuration) | Object::ValidatingWebhookConfiguration(configuration) => {
            reduce_configuration(configuration);
        }
        Object::Service(service) => reduce_annotations(&mut service.metadata),
        Object::EndpointSlice(slice) => reduce_annotations(&mut slice.metadata),
        Object::ConfigMap(map) => reduce_config_map(map)?,
        Object::ProxyConfig(config) => {
            // Of several the oldest counts.
            let created = config.metadata.creation_timestamp;
            reduce_annotations(&mut config.metadata);
            config.metadata.creation_timestamp = created;
        }
        Object::Gateway(gateway) => {
            let uid = std::mem::take(&mut gateway.metadata.uid);
            reduce_annotations(&mut gateway.metadata);
            gateway.metadata.uid = uid;
        }
    }
    Some(object)
}

fn reduce_pod(pod: &mut Pod) {
    reduce_metadata(&mut pod.metadata);
    if let Some(spec) = &mut pod.spec {
        reduce_spec(spec);
    }
}

fn reduce_template(template: &mut Option<PodTemplateSpec>) {
    if let Some(template) = template {
        reduce_metadata(&mut template.metadata);
        if let Some(spec) = &mut template.spec {
            reduce_spec(spec);
        }
    }
}

fn reduce_deployment_template(template: &mut Option<DeploymentTemplate>) {
    let Some(template) = template else { return };
    reduce_metadata(&mut template.metadata);
    let Some(spec) = &mut template.spec else { return };
    spec.containers.retain(|container| decides(&container.name));
    spec.init_containers.retain(|container| decides(&container.name));
    for container in &mut spec.containers {
        container.env.retain(|variable| container.name == ISTIOD && DECIDING_VARIABLES.contains(&variable.name.as_str()));
        container.volume_mounts.retain(|mount| CONFIGURATION_PATHS.contains(&mount.mount_path.trim_end_matches('/')));
    }
    let mounts = || spec.containers.iter().flat_map(|container| &container.volume_mounts);
    let mounted: Vec<String> = mounts().map(|mount| mount.name.clone()).collect();
    spec.volumes.retain(|volume| mounted.contains(&volume.name));
}

/// Istiod's own container: its image tells the control plane's version.
const ISTIOD: &str = "discovery";

fn decides(container: &str) -> bool {
    may_be_proxy(container) || container == ISTIOD
}

fn reduce_spec(spec: &mut PodSpec) {
    let decides = |container: &Container| decides(&container.name);
    spec.containers.retain(decides);
    spec.init_containers.retain(decides);
}

fn reduce_metadata(metadata: &mut Option<Metadata>) {
    if let Some(metadata) = metadata {
        reduce_annotations(metadata);
    }
}

/// Whose pods are whose is told by uids.
fn reduce_controller(metadata: &mut Option<Metadata>) {
    let uid = metadata.as_mut().map(|metadata| std::mem::take(&mut metadata.uid)).unwrap_or_default();
    reduce_metadata(metadata);
    metadata.iter_mut().for_each(|metadata| metadata.uid.clone_from(&uid));
}

fn reduce_annotations(metadata: &mut Metadata) {
    metadata.uid.clear();
    metadata.generation = 0;
    metadata.creation_timestamp = None;
    metadata.annotations.retain(|key, _| labels::decides(key));
    for (key, value) in &mut metadata.annotations {
        match key.as_str() {
            // These may hold environment values.
            labels::PROXY_CONFIG => {
                *value = match annotated(value).map(|config| config.image) {
                    Ok(Some(image)) => json!({ "image": image }).to_string(),
                    Ok(None) => json!({}).to_string(),
                    // What is no ProxyConfig stays so: istiod refuses the pod.
                    Err(_) => "[".to_owned(),
                };
            }
            labels::PROXY_OVERRIDES => *value = reduced_json(value, &["containers", "initContainers"], &["name", "image"]),
            labels::STATUS => *value = reduced_json(value, &["containers", "initContainers", "revision"], &[]),
            _ => {}
        }
    }
}

/// A JSON object with only some of its members, and of objects in lists only some of theirs.
fn reduced_json(text: &str, members: &[&str], inner: &[&str]) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(text) else { return String::new() };
    object.retain(|key, _| members.contains(&key.as_str()));
    for list in object.values_mut().filter_map(Value::as_array_mut) {
        for item in list.iter_mut().filter_map(Value::as_object_mut) {
            item.retain(|key, _| inner.contains(&key.as_str()));
        }
    }
    Value::Object(object).to_string()
}

fn reduce_configuration(configuration: &mut WebhookConfiguration) {
    reduce_annotations(&mut configuration.metadata);
    for webhook in &mut configuration.webhooks {
        let bundle = webhook.client_config.ca_bundle.take().filter(|bundle| !bundle.is_empty());
        webhook.client_config.ca_bundle = bundle.map(|_| CERTIFICATE.to_owned());
    }
}

/// A ConfigMap that cannot be parsed keeps only its name, and is as unreadable from the file.
fn reduce_config_map(map: &mut ConfigMap) -> Option<()> {
    // Of several that are laid over a Gateway the oldest counts.
    let created = map.metadata.creation_timestamp;
    reduce_annotations(&mut map.metadata);
    map.data = if map.data.contains_key("config") {
        InjectorConfig::parse(map).map(|config| config.to_data()).unwrap_or_default()
    } else if map.data.contains_key("mesh") {
        MeshConfig::parse(map).map(|config| config.to_data()).unwrap_or_default()
    } else if map.data.contains_key("deployment") {
        map.metadata.creation_timestamp = created;
        let image = overlaid_image(map).map(|image| {
            let container = json!({"name": PROXY_CONTAINER, "image": image});
            let containers = if container["image"].is_null() { json!([]) } else { json!([container]) };
            json!({"spec": {"template": {"spec": {"containers": containers}}}}).to_string()
        });
        // What cannot be read stays so.
        [("deployment".to_owned(), image.unwrap_or_else(|_| "[".to_owned()))].into()
    } else {
        return None;
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::file::read_bytes;
    use crate::object::{Namespace, ReplicaSet};
    use crate::snapshot::UnreadCause;

    fn text(saved: &Saved) -> String {
        let mut text = Vec::new();
        saved.write_to(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// The metadata of an object of a Deployment's, as a list of metadata gives it.
    fn metadata(name: &str, owner: &str) -> Metadata {
        serde_json::from_value(json!({
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": "web-1", "uid": "uid-web-1", "controller": true}],
        }))
        .unwrap()
    }

    #[test]
    fn whose_pods_are_whose_is_saved_and_of_replica_sets_no_more_than_that() {
        let saved = Saved::default();
        saved.object(&Object::Pod(Pod { metadata: Some(metadata("pod", "ReplicaSet")), ..Pod::default() }));
        for name in ["web-1", "web-0"] {
            saved.object(&Object::ReplicaSet(ReplicaSet { metadata: Some(metadata(name, "Deployment")), spec: None }));
        }
        let text = text(&saved);
        assert!(!text.contains("web-0"), "it has no pod: {text}");
        let replica_set = r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web-1","namespace":"shop","#
            .to_owned()
            + r#""ownerReferences":[{"apiVersion":"apps/v1","controller":true,"kind":"Deployment","name":"web-1","uid":"uid-web-1"}],"#
            + r#""uid":"uid-web-1"}}"#;
        assert!(text.contains(&replica_set), "{text}");
        assert!(!text.contains("uid-pod"), "a pod owns nothing: {text}");
    }

    #[test]
    fn a_kind_of_which_there_is_none_and_one_of_which_not_all_was_read_are_told_apart() {
        let saved = Saved::default();
        saved.object(&Object::Namespace(Namespace { metadata: Metadata { name: "shop".to_owned(), ..Metadata::default() } }));
        for resource in [Resource::Namespaces, Resource::Pods, Resource::ConfigMaps, Resource::MutatingWebhookConfigurations] {
            saved.complete(resource);
        }
        for resource in [Resource::ConfigMaps, Resource::ProxyConfigs] {
            saved.incomplete(resource);
        }
        let text = text(&saved);
        let snapshot = read_bytes("saved.json", text.as_bytes()).unwrap();
        let cause = |resource| snapshot.unread(resource, "shop").map(|unread| unread.cause.clone());
        let partly = UnreadCause::PartlyInFile("the list in saved.json is only a part".to_owned());
        for (resource, expected) in [
            (Resource::Namespaces, None),
            (Resource::Pods, None),
            (Resource::MutatingWebhookConfigurations, None),
            (Resource::Services, Some(UnreadCause::NotInFile)),
            (Resource::ConfigMaps, Some(partly.clone())),
            (Resource::ProxyConfigs, Some(partly)),
        ] {
            assert_eq!(cause(resource), expected, "{resource}: {text}");
        }
    }

    #[test]
    fn a_saved_pod_holds_nothing_but_what_decides() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"}, "annotations": {
                "secret.example/token": "hunter2",
                "proxy.istio.io/config": "proxyMetadata: {TOKEN: hunter2}\nimage: {imageType: debug}",
                "proxy.istio.io/overrides": "{\"containers\":[{\"name\":\"istio-proxy\",\"image\":\"mine:1\",\"env\":[{\"name\":\"A\",\"value\":\"hunter2\"}]}]}",
                "sidecar.istio.io/status": "{\"containers\":[\"istio-proxy\"],\"imagePullSecrets\":[\"hunter2\"],\"revision\":\"r\"}",
            }},
            "spec": {"containers": [
                {"name": "app", "image": "hunter2", "env": [{"name": "A", "value": "hunter2"}]},
                {"name": "istio-proxy", "image": "p:1"},
            ]},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        let saved = Saved::default();
        saved.object(&Object::Pod(pod));
        assert_eq!(
            text(&saved),
            "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n\
             {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"annotations\":{\
             \"proxy.istio.io/config\":\"{\\\"image\\\":{\\\"imageType\\\":\\\"debug\\\"}}\",\
             \"proxy.istio.io/overrides\":\"{\\\"containers\\\":[{\\\"image\\\":\\\"mine:1\\\",\\\"name\\\":\\\"istio-proxy\\\"}]}\",\
             \"sidecar.istio.io/status\":\"{\\\"containers\\\":[\\\"istio-proxy\\\"],\\\"revision\\\":\\\"r\\\"}\"},\
             \"labels\":{\"app\":\"web\"},\"name\":\"web\",\"namespace\":\"shop\"},\
             \"spec\":{\"containers\":[{\"image\":\"p:1\",\"name\":\"istio-proxy\"}]},\"status\":{\"phase\":\"Running\"}}\n]}\n"
        );
    }
}
