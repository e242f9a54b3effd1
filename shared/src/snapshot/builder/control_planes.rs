//! Control planes: istiods, the Services that they answer through, and the ConfigMaps that they read.

use std::collections::BTreeSet;

use super::{FoundConfig, Origin, SnapshotBuilder};
use crate::control_plane::{ControlPlane, Read, Readiness, UNREVISIONED, revision_suffix};
use crate::injector::Target;
use crate::injector_config::{InjectorConfig, MeshConfig};
use crate::labels;
use crate::object::{ConfigMap, EndpointSlice, Lookup, Resource, Service};
use crate::snapshot::ServiceFacts;

impl SnapshotBuilder {
    pub(super) fn add_endpoint_slice(&mut self, slice: &EndpointSlice) {
        if let Some(service) = slice.metadata.label(labels::SERVICE_NAME) {
            let is_ready = slice.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true));
            self.endpoint_slices.push((slice.metadata.namespace.clone(), service.to_owned(), is_ready));
        }
    }

    pub(super) fn add_config_map(&mut self, map: &ConfigMap) {
        let key = (map.metadata.namespace.clone(), map.metadata.name.clone());
        if map.data.contains_key("values") && map.data.contains_key("config")
            || map.metadata.name.starts_with("istio-sidecar-injector")
        {
            let revision = map.metadata.label(labels::REVISION).map(str::to_owned);
            self.injector_configs.insert(key, FoundConfig { revision, config: InjectorConfig::parse(map) });
        } else if map.data.contains_key("mesh") {
            self.mesh_configs.insert(key, MeshConfig::parse(map));
        }
    }

    pub(super) fn link_services(&mut self) {
        for service in std::mem::take(&mut self.services) {
            let metadata = &service.metadata;
            let key = (metadata.namespace.clone(), metadata.name.clone());
            let readiness = self.service_readiness(&key.0, &key.1);
            let facts = ServiceFacts {
                revision: service_revision(&service),
                readiness,
                tag: metadata.label(labels::TAG).map(str::to_owned),
                is_external: service.spec.r#type == "ExternalName",
            };
            self.snapshot.services.insert(key, facts);
        }
    }

    fn service_readiness(&self, namespace: &str, service: &str) -> Readiness {
        let is_of_service = |slice: &&(String, String, bool)| slice.0 == namespace && slice.1 == service;
        let is_unread = self.snapshot.unread(Resource::EndpointSlices, namespace).is_some();
        let lacks_slices = self.origin == Origin::Files && !self.resources_seen.contains(&Resource::EndpointSlices);
        if self.endpoint_slices.iter().filter(is_of_service).any(|(_, _, is_ready)| *is_ready) {
            Readiness::Ready
        } else if is_unread || lacks_slices {
            Readiness::Unknown
        } else {
            Readiness::NotReady
        }
    }

    /// A control plane is known by its Deployment, by its Service, or (when it is elsewhere) by its injector.
    pub(super) fn link_control_planes(&mut self) {
        let mut keys: BTreeSet<(String, String)> = self.istiods.keys().cloned().collect();
        for ((namespace, _), service) in &self.snapshot.services {
            if let (Some(revision), Readiness::Ready) = (&service.revision, service.readiness) {
                keys.insert((namespace.clone(), revision.clone()));
            }
        }
        for injector in self.injectors() {
            if let (Target::Url(_), Some(revision)) = (&injector.target, &injector.revision)
                && !keys.iter().any(|(_, known)| known == revision)
            {
                keys.insert((self.namespace_of_config(revision).unwrap_or_default(), revision.clone()));
            }
        }
        let control_planes = keys.into_iter().map(|(namespace, revision)| self.control_plane(namespace, revision)).collect();
        self.snapshot.control_planes = control_planes;
    }

    fn namespace_of_config(&self, revision: &str) -> Option<String> {
        let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
        self.injector_configs.keys().find(|(_, candidate)| *candidate == name).map(|(namespace, _)| namespace.clone())
    }

    fn control_plane(&self, namespace: String, revision: String) -> ControlPlane {
        let deployment = self.istiods.get(&(namespace.clone(), revision.clone())).cloned();
        let services = self.snapshot.services.iter().filter(|((in_namespace, _), service)| {
            *in_namespace == namespace && service.revision.as_deref() == Some(revision.as_str())
        });
        let readiness: Vec<_> = services.map(|(_, service)| service.readiness).collect();
        let by_deployment = match &deployment {
            Some(istiod) if istiod.ready_replicas > 0 => Readiness::Ready,
            Some(_) => Readiness::NotReady,
            None => Readiness::Unknown,
        };
        let is_external = self
            .injectors()
            .any(|injector| matches!(injector.target, Target::Url(_)) && injector.revision.as_deref() == Some(revision.as_str()));
        let readiness = if readiness.contains(&Readiness::Ready) || is_external {
            Readiness::Ready
        } else if readiness.is_empty() || readiness.contains(&Readiness::Unknown) {
            by_deployment
        } else {
            Readiness::NotReady
        };
        ControlPlane {
            injector_config: self.injector_config(&namespace, &revision),
            mesh_config: self.mesh_config(&namespace, &revision),
            revision,
            namespace,
            deployment,
            readiness,
        }
    }

    /// istiod reads its ConfigMap by name (pilot/pkg/bootstrap/sidecarinjector.go); installers that name it otherwise
    /// label it with the revision.
    fn injector_config(&self, namespace: &str, revision: &str) -> Read<InjectorConfig> {
        let name = format!("istio-sidecar-injector{}", revision_suffix(revision));
        let by_name = self.injector_configs.get(&(namespace.to_owned(), name));
        let found = by_name.or_else(|| {
            let mut here = self.injector_configs.iter().filter(|((in_namespace, _), _)| in_namespace == namespace);
            here.find(|(_, found)| found.revision.as_deref() == Some(revision)).map(|(_, found)| found)
        });
        match found.map(|found| &found.config) {
            Some(Ok(config)) => Read::Known(config.clone()),
            Some(Err(why)) => Read::Broken(why.clone()),
            None if self.snapshot.unread(Resource::ConfigMaps, namespace).is_some() => Read::Unread,
            None => Read::Absent,
        }
    }

    fn mesh_config(&self, namespace: &str, revision: &str) -> Read<MeshConfig> {
        let name = format!("istio{}", revision_suffix(revision));
        match self.mesh_configs.get(&(namespace.to_owned(), name)) {
            Some(Ok(config)) => Read::Known(config.clone()),
            Some(Err(why)) => Read::Broken(why.clone()),
            None if self.snapshot.unread(Resource::ConfigMaps, namespace).is_some() => Read::Unread,
            None => Read::Absent,
        }
    }
}

/// The revision whose istiod a Service selects: a named one selects `istio.io/rev`, the unrevisioned one `istio: pilot`
/// (D/service.yaml of the istiod chart). A Service of istiod without a selector, for a control plane elsewhere, has only
/// its label. Any other Service may carry that label too: those of gateways do.
fn service_revision(service: &Service) -> Option<String> {
    let selector = &service.spec.selector;
    let revision = match selector.value(labels::APP) {
        Some("istiod") => Some(selector.value(labels::REVISION).unwrap_or(UNREVISIONED)),
        _ if selector.value("istio") == Some("pilot") => Some(UNREVISIONED),
        _ if selector.is_empty() && service.metadata.label(labels::APP) == Some("istiod") => {
            service.metadata.label(labels::REVISION)
        }
        _ => None,
    };
    revision.map(str::to_owned)
}
