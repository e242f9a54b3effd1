//! Reads a cluster into a snapshot: all lists side by side, pods among them, and then the few objects that the first
//! answers ask for. A list that is denied costs only what depends on it.

use std::cell::RefCell;

use futures::future::join_all;

use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::list::{Begin, List, Observer, named};
use super::request::get;
use super::scope::{Scope, WORKLOADS};
use crate::advice::{Advice, Command};
use crate::finding::{Code, Finding, Severity};
use crate::labels;
use crate::needs::Needs;
use crate::object::{Encoded, Metadata, Object, Resource};
use crate::snapshot::{Detail, Origin, Snapshot, SnapshotBuilder, Unread, UnreadCause};

/// Sees nothing: for those who only want the result.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn object(&self, _object: &Object) {}
    fn restart(&self, _list: &List, _begin: Begin) {}
}

/// Selects the Deployments of control planes, wherever they are.
const ISTIOD: (&str, &str) = ("app", "istiod");

/// Reads everything that verdicts in this scope need.
///
/// # Errors
/// When pods cannot be listed, or when the API server cannot be reached or does not know the user at all. Everything
/// else that is denied or breaks off stands in the snapshot, as [`Unread`] and as a finding.
pub async fn read(connection: &Connection, scope: &Scope, detail: Detail, observer: &impl Observer) -> Result<Snapshot, Failure> {
    let reading = Reading::new(connection, scope, detail, observer);
    let namespaces_and_planes = async {
        let planes = reading.control_planes(reading.injectors());
        let (namespaces, configs, planes) = futures::join!(reading.namespaces(), reading.proxy_configs(), planes);
        namespaces.and(configs).and(planes)
    };
    let (workloads, others) = futures::join!(reading.workloads(), namespaces_and_planes);
    workloads?;
    others?;
    reading.besides(&[]).await?;
    Ok(reading.builder.into_inner().build())
}

/// What [`read`] may ask for.
pub fn needs(scope: &Scope) -> Needs {
    let namespace = scope.namespace.as_deref();
    // One namespace is read by its name.
    let read_namespaces = if namespace.is_some() { "get" } else { "list" };
    control_plane_needs(scope)
        .require(namespace, [Resource::Pods, Resource::ReplicaSets, Resource::Gateways], &["list"])
        .require(namespace, WORKLOADS, &["list"])
        .require(None, [Resource::ProxyConfigs, Resource::ValidatingWebhookConfigurations], &["list"])
        .require(None, [Resource::Namespaces], &[read_namespaces])
        // They only give a CronJob's name to what a Job runs.
        .prefer(namespace, [Resource::Jobs], &["list"])
        .note("Where a Gateway names a ConfigMap in infrastructure.parametersRef, that one is read in the Gateway's namespace.")
}

/// What [`super::read_installation`] may ask for, and [`super::look`] besides pods. The scope's namespace does not count: what is installed is
/// read everywhere.
pub fn installation_needs(scope: &Scope) -> Needs {
    let everywhere = [Resource::ValidatingWebhookConfigurations, Resource::Gateways, Resource::Namespaces];
    control_plane_needs(scope).require(None, everywhere, &["list"])
}

/// What [`super::look`] may ask for.
pub fn look_needs(scope: &Scope) -> Needs {
    installation_needs(scope).require(None, [Resource::Pods], &["list"])
}

/// Injectors, and what stands where control planes are.
fn control_plane_needs(scope: &Scope) -> Needs {
    let namespace = scope.control_plane_namespace();
    let more = format!(
        "Where control planes are in other namespaces, what is listed for them in namespace {namespace} is listed there too."
    );
    needs_in(namespace).require(None, [Resource::MutatingWebhookConfigurations, Resource::Deployments], &["list"]).note(&more)
}

/// What every look may ask for in each namespace that has a control plane: which ones have is seen only when it is looked at.
pub fn needs_in(namespace: &str) -> Needs {
    let namespace = Some(namespace);
    Needs::default()
        .require(namespace, [Resource::Services, Resource::EndpointSlices], &["list"])
        .require(namespace, [Resource::ConfigMaps], &["get"])
        // Only where a ConfigMap has another name than Istio's own.
        .prefer(namespace, [Resource::ConfigMaps], &["list"])
}

/// A snapshot in the making, list by list. Somebody sees every object on its way in.
pub(super) struct Reading<'a, O> {
    pub(super) connection: &'a Connection,
    scope: &'a Scope,
    observer: &'a O,
    pub(super) builder: RefCell<SnapshotBuilder>,
}

impl<'a, O: Observer> Reading<'a, O> {
    pub(super) fn new(connection: &'a Connection, scope: &'a Scope, detail: Detail, observer: &'a O) -> Reading<'a, O> {
        let builder = RefCell::new(SnapshotBuilder::new(Origin::Cluster, detail));
        Reading { connection, scope, observer, builder }
    }

    /// Pods, and what they are made from.
    pub(super) async fn workloads(&self) -> Result<(), Failure> {
        let (pods, templates) = futures::join!(self.pods(), self.templates());
        pods.and(templates)
    }

    async fn pods(&self) -> Result<(), Failure> {
        let mut list = List::of(Resource::Pods).within(self.scope.namespace.as_deref());
        if let Some(selector) = &self.scope.selector {
            list = list.selected_by(selector);
        }
        list.read(self.connection, self).await?;
        self.observer.complete(Resource::Pods);
        Ok(())
    }

    async fn templates(&self) -> Result<(), Failure> {
        let namespace = self.scope.namespace.as_deref();
        let workloads = WORKLOADS.into_iter().map(|resource| List::of(resource).within(namespace));
        // A ReplicaSet's metadata names its owner; of all the old ones nothing else is needed.
        let replica_sets = List::of(Resource::ReplicaSets).within(namespace).metadata_only();
        let lists = workloads.chain([replica_sets]);
        join_all(lists.map(|list| self.list(list))).await.into_iter().collect()
    }

    /// Which variant of the image a proxy gets.
    pub(super) async fn proxy_configs(&self) -> Result<(), Failure> {
        self.list(List::of(Resource::ProxyConfigs)).await
    }

    /// All namespaces, or the one in question.
    async fn namespaces(&self) -> Result<(), Failure> {
        let Some(name) = &self.scope.namespace else {
            return self.list(List::of(Resource::Namespaces)).await;
        };
        match get(self.connection, Resource::Namespaces, None, name).await {
            Ok(Some(namespace)) => self.object(&namespace),
            Ok(None) => {}
            Err(failure) => self.tolerate(Resource::Namespaces, Some(name), failure)?,
        }
        self.observer.complete(Resource::Namespaces);
        Ok(())
    }

    pub(super) async fn injectors(&self) -> Result<(), Failure> {
        self.list(List::of(Resource::MutatingWebhookConfigurations)).await
    }

    /// Injectors, then what stands in the namespaces that they and istiod's Deployments name.
    pub(super) async fn control_planes(&self, injectors: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        // Whole: their age, owner and conditions are looked at too.
        let deployments = List::of(Resource::Deployments).labelled(ISTIOD.0, ISTIOD.1).as_json();
        let (injectors, deployments) = futures::join!(injectors, deployments.read(self.connection, self));
        injectors?;
        let mut namespaces = self.builder.borrow().control_plane_namespaces();
        namespaces.extend(self.scope.istio_namespace.clone());
        if let Err(failure) = deployments {
            if !failure.cause.is_tolerable() {
                return Err(failure);
            }
            self.builder.borrow_mut().control_planes_incomplete();
            // Where a control plane is that nobody sees, its Service is not seen either.
            self.observer.incomplete(Resource::Services);
            let lists = namespaces
                .iter()
                .map(|namespace| List::of(Resource::Deployments).in_namespace(namespace).labelled(ISTIOD.0, ISTIOD.1).as_json());
            join_all(lists.map(|list| self.list(list))).await.into_iter().collect::<Result<(), _>>()?;
        }
        let in_namespaces = join_all(namespaces.iter().map(|namespace| self.control_plane_namespace(namespace))).await;
        in_namespaces.into_iter().collect::<Result<(), Failure>>()?;
        for resource in [Resource::Services, Resource::EndpointSlices, Resource::ConfigMaps] {
            self.observer.complete(resource);
        }
        Ok(())
    }

    async fn control_plane_namespace(&self, namespace: &str) -> Result<(), Failure> {
        let lists =
            [List::of(Resource::Services).in_namespace(namespace), List::of(Resource::EndpointSlices).in_namespace(namespace)];
        let lists = join_all(lists.map(|list| self.list(list)));
        let (lists, config_maps) = futures::join!(lists, self.config_maps(namespace));
        lists.into_iter().collect::<Result<(), _>>()?;
        config_maps
    }

    /// The ConfigMaps that istiods in this namespace read: by name, as istiod does, since no label finds them all.
    async fn config_maps(&self, namespace: &str) -> Result<(), Failure> {
        let names = self.builder.borrow().config_map_names(namespace);
        let reads = names.iter().map(|name| self.config_map(namespace, name));
        join_all(reads).await.into_iter().collect::<Result<(), Failure>>()?;
        if self.builder.borrow().lacks_config(namespace) {
            let labelled = List::of(Resource::ConfigMaps).in_namespace(namespace).with_label(labels::REVISION);
            self.list(labelled).await?;
        }
        Ok(())
    }

    /// What only some pods make necessary, and has not been read already.
    pub(super) async fn besides(&self, already_read: &[Resource]) -> Result<(), Failure> {
        let mut wanted = self.builder.borrow().wanted_besides();
        wanted.retain(|resource, _| !already_read.contains(resource));
        let lists = wanted.into_iter().flat_map(|(resource, namespaces)| {
            // Listing a few namespaces costs less than listing everything, many cost more.
            let everywhere = !resource.is_namespaced() || (namespaces.len() > 4 && self.scope.namespace.is_none());
            let lists: Vec<List> = if everywhere {
                vec![List::of(resource)]
            } else {
                namespaces.iter().map(|namespace| List::of(resource).in_namespace(namespace)).collect()
            };
            lists
        });
        join_all(lists.map(|list| self.list(list))).await.into_iter().collect::<Result<(), Failure>>()?;
        self.overlays().await
    }

    /// The ConfigMaps that are laid over Gateways: by name, and in the namespaces of control planes by their label.
    async fn overlays(&self) -> Result<(), Failure> {
        let (names, has_gateways) = {
            let builder = self.builder.borrow();
            (builder.overlay_names(), builder.has_gateways())
        };
        if !has_gateways {
            return Ok(());
        }
        let named = names.iter().map(|(namespace, name)| self.config_map(namespace, name));
        join_all(named).await.into_iter().collect::<Result<(), Failure>>()?;
        let namespaces = self.builder.borrow().control_plane_namespaces();
        let lists = namespaces
            .iter()
            .map(|namespace| List::of(Resource::ConfigMaps).in_namespace(namespace).with_label(labels::GATEWAY_CLASS_DEFAULTS));
        join_all(lists.map(|list| self.list(list))).await.into_iter().collect()
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        match get(self.connection, Resource::ConfigMaps, Some(namespace), name).await {
            Ok(Some(map)) => self.object(&map),
            Ok(None) => {}
            Err(failure) => self.tolerate(Resource::ConfigMaps, Some(namespace), failure)?,
        }
        Ok(())
    }

    pub(super) async fn list(&self, list: List) -> Result<(), Failure> {
        match (list.read(self.connection, self).await, list.resource()) {
            (Ok(()), resource) => {
                if let Some(resource) = resource.filter(|_| list.is_of_all()) {
                    self.observer.complete(resource);
                }
                Ok(())
            }
            (Err(failure), Some(resource)) => self.tolerate(resource, list.namespace(), failure),
            (Err(failure), None) => Err(failure),
        }
    }

    /// Notes a list that is not to be had; only when nothing at all can be had is it an error.
    fn tolerate(&self, resource: Resource, namespace: Option<&str>, failure: Failure) -> Result<(), Failure> {
        if failure.cause == Cause::NotFound && resource.is_custom() {
            self.observer.complete(resource);
            return Ok(());
        }
        if !failure.cause.is_tolerable() {
            return Err(failure);
        }
        self.observer.incomplete(resource);
        let mut builder = self.builder.borrow_mut();
        builder.unread(Unread {
            resource,
            namespace: namespace.map(str::to_owned),
            cause: match failure.cause {
                Cause::Forbidden => UnreadCause::Forbidden,
                _ => UnreadCause::Failed(failure.to_string()),
            },
        });
        builder.finding(super::access::finding(resource, namespace, &failure));
        Ok(())
    }
}

impl<O: Observer> Observer for Reading<'_, O> {
    fn encoded(&self, object: &Object, encoded: Encoded<'_>) {
        self.observer.encoded(object, encoded);
    }

    fn whole(&self, resource: Resource, json: &str) {
        self.observer.whole(resource, json);
    }

    fn object(&self, object: &Object) {
        self.observer.object(object);
        self.builder.borrow_mut().add(object);
    }

    fn undecodable(&self, list: &List, metadata: Option<&Metadata>, why: &str) {
        let Some(resource) = list.resource() else { return };
        let (unread, finding) = undecodable(resource, list.namespace(), metadata, why);
        self.observer.incomplete(resource);
        let mut builder = self.builder.borrow_mut();
        builder.unread(unread);
        builder.finding(finding);
    }

    fn restart(&self, list: &List, begin: Begin) {
        let Some(resource) = list.resource() else { return };
        let mut builder = self.builder.borrow_mut();
        if resource == Resource::Pods {
            builder.forget_pods();
        }
        self.observer.restart(list, begin);
        let message = match begin {
            Begin::Forgotten => "the API server forgot the moment of the list between two pages; it was read once more",
            Begin::BrokenOff => "the answer of the API server broke off in the middle of the list; it was read once more",
        };
        builder.finding(Finding {
            severity: Severity::Info,
            code: Code::ListRestarted,
            subject: resource.to_string(),
            message: message.to_owned(),
            advice: Advice::none(),
        });
    }
}

/// What follows from an object that cannot be decoded, in a list of this namespace or of all. What names it tells how far the doubt
/// goes; without that it goes as far as the list.
fn undecodable(resource: Resource, list: Option<&str>, metadata: Option<&Metadata>, why: &str) -> (Unread, Finding) {
    let metadata = metadata.filter(|metadata| !metadata.name.is_empty());
    let namespace = metadata.map(|metadata| metadata.namespace.as_str()).filter(|namespace| !namespace.is_empty()).or(list);
    let place = namespace.map_or_else(String::new, |namespace| format!(" -n {namespace}"));
    let unread = Unread {
        resource,
        namespace: namespace.map(str::to_owned),
        cause: UnreadCause::Failed(format!("{}an object could not be decoded: {why}", named(metadata))),
    };
    let object = metadata.map(|metadata| metadata.name.as_str());
    let get = Command::kubectl("get").value(resource.to_string());
    let get = match object {
        Some(name) => get.value(name).namespace(namespace.unwrap_or_default()),
        None => get.words("-A"),
    };
    let finding = Finding {
        severity: Severity::Error,
        code: Code::Undecodable,
        subject: object.map_or_else(|| resource.to_string(), |name| format!("{resource}/{name}{place}")),
        message: format!("an object could not be decoded: {why}"),
        advice: Advice::run(get.words("-o json")).and_say(", and report what is odd about it"),
    };
    (unread, finding)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::object::Pod;

    /// A pod in protobuf of which only the metadata makes sense.
    fn broken_pod() -> Vec<u8> {
        let metadata = Metadata { name: "web-1".to_owned(), namespace: "shop".to_owned(), ..Metadata::default() };
        let mut bytes = Pod { metadata: Some(metadata), ..Pod::default() }.encode_to_vec();
        // Field 2, the specification, with one byte that begins a field and ends before it.
        bytes.extend([0x12, 0x01, 0x0a]);
        bytes
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_named_and_puts_its_namespace_in_doubt() {
        let bytes = broken_pod();
        assert!(matches!(Object::from_protobuf(Resource::Pods, &bytes), Some(Err(_))));
        let metadata = Object::metadata_from_protobuf(&bytes);
        let (unread, finding) = undecodable(Resource::Pods, None, metadata.as_ref(), "why");
        assert_eq!(unread.namespace.as_deref(), Some("shop"));
        assert_eq!(finding.subject, "pods/web-1 -n shop");
        let advice = crate::terminal::advisor::Advisor::default().text(&finding.advice);
        assert!(advice.starts_with("kubectl get pods web-1 -n shop -o json"), "{advice}");
        let json = br#"{"metadata": {"name": "web-1", "namespace": "shop"}, "spec": 7}"#;
        assert!(Object::from_json(Resource::Pods, json).is_err());
        assert_eq!(Object::metadata_from_json(json), metadata);
    }

    #[test]
    fn without_a_name_the_whole_list_is_in_doubt() {
        assert_eq!(Object::metadata_from_protobuf(&[0x0a, 0x7f]), None);
        let (unread, finding) = undecodable(Resource::Pods, None, None, "why");
        assert_eq!((unread.namespace, finding.subject.as_str()), (None, "pods"));
        let (unread, _) = undecodable(Resource::Pods, Some("shop"), None, "why");
        assert_eq!(unread.namespace.as_deref(), Some("shop"));
    }
}
