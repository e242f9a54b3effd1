//! Control planes: istiods, the Services that they answer through, and the ConfigMaps that they read.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundConfig, Origin, SnapshotBuilder};
use crate::control_plane::{ControlPlane, Istiod, Read, Readiness, UNREVISIONED, revision_suffix};
use crate::injection::overlaid_image;
use crate::injector::{Injector, Target};
use crate::injector_config::InjectorConfig;
use crate::labels;
use crate::mesh_config::MeshConfig;
use crate::object::{ConfigMap, EndpointSlice, Lookup, Resource, Service};
use crate::platform::Aks;
use crate::snapshot::{Overlay, ServiceFacts};

/// The names of istiod's ConfigMaps without a revision.
const INJECTOR_CONFIG: &str = "istio-sidecar-injector";
const MESH_CONFIG: &str = "istio";

impl SnapshotBuilder {
    pub(super) fn add_endpoint_slice(&mut self, slice: &EndpointSlice) {
        if let Some(service) = slice.metadata.label(labels::SERVICE_NAME) {
            let is_ready = slice.endpoints.iter().any(|endpoint| endpoint.conditions.ready.unwrap_or(true));
            self.endpoint_slices.push((slice.metadata.namespace.clone(), service.to_owned(), is_ready));
        }
    }

    pub(super) fn add_config_map(&mut self, map: &ConfigMap) {
        let key = (map.metadata.namespace.clone(), map.metadata.name.clone());
        let revision = map.metadata.label(labels::REVISION).map(str::to_owned);
        if map.data.contains_key("values") && map.data.contains_key("config") || map.metadata.name.starts_with(INJECTOR_CONFIG) {
            self.injector_configs.insert(key, FoundConfig { revision, config: InjectorConfig::parse(map) });
        } else if map.data.contains_key("mesh") {
            self.mesh_configs.insert(key, FoundConfig { revision, config: MeshConfig::parse(map) });
        } else if map.data.contains_key("deployment") {
            let class = map.metadata.label(labels::GATEWAY_CLASS_DEFAULTS).map(str::to_owned);
            let image = overlaid_image(map);
            self.snapshot.overlays.insert(key, Overlay { class, created: map.metadata.creation_timestamp, image });
        }
    }

    /// Whether an entry that has a name of somebody's own leads to an istiod: to a Service that selects one, that another injector leads
    /// to, or that is not known and has istiod's name.
    pub(super) fn leads_to_istiod(&self, injector: &Injector) -> bool {
        let Target::Service(target) = &injector.target else { return false };
        let is_target =
            |service: &&Service| service.metadata.namespace == target.namespace && service.metadata.name == target.name;
        let linked = self.snapshot.services.get(&(target.namespace.clone(), target.name.clone()));
        let is_istiods = linked.is_some_and(|facts| facts.revision.is_some())
            || self.services.iter().find(is_target).is_some_and(|service| service_revision(service).is_some());
        let is_shared = || {
            let mut recognised = self.configurations.values().flat_map(Injector::all_of).filter(Injector::is_recognised);
            recognised.any(|other| other.target.is_same_service(&injector.target))
        };
        let is_named_so = target.name == "istiod" || target.name.starts_with("istiod-");
        is_istiods || is_named_so || is_shared()
    }

    /// Whether an injector leads to a Service of a namespace where no istiod runs.
    pub(super) fn has_injector_without_istiod(&self) -> bool {
        self.injectors().any(|injector| match &injector.target {
            Target::Service(service) => !self.istiods.keys().any(|(namespace, _)| *namespace == service.namespace),
            Target::Url(_) => false,
        })
    }

    /// The revisions whose control planes are, or answer, in this namespace.
    fn revisions_in(&self, namespace: &str) -> BTreeSet<String> {
        let by_injector = self.injectors().filter_map(|injector| match injector.target {
            Target::Service(service) if service.namespace == namespace => {
                Some(injector.revision.unwrap_or_else(|| UNREVISIONED.to_owned()))
            }
            _ => None,
        });
        let by_deployment = self.istiods.keys().filter(|(candidate, _)| candidate == namespace);
        by_injector.chain(by_deployment.map(|(_, revision)| revision.clone())).collect()
    }

    /// The names of the ConfigMaps that control planes in this namespace may read.
    pub fn config_map_names(&self, namespace: &str) -> BTreeSet<String> {
        let by_name = self.revisions_in(namespace).into_iter().flat_map(|revision| {
            [INJECTOR_CONFIG, MESH_CONFIG].into_iter().flat_map(move |base| names(base, namespace, &revision))
        });
        let istiods = self.istiods.iter().filter(|((candidate, _), _)| candidate == namespace);
        let named = istiods.flat_map(|((namespace, revision), istiod)| {
            let shared = self.shared_config(namespace, revision, Some(istiod));
            [istiod.injector_config_map.clone(), istiod.mesh_config_map.clone(), shared].into_iter().flatten()
        });
        by_name.chain(named.collect::<Vec<_>>()).collect()
    }

    /// Whether a control plane here has none of its ConfigMaps under a name that is known.
    pub fn lacks_config(&self, namespace: &str) -> bool {
        let lacks = |revision: &String| {
            let has = |base: &str, has_map: &dyn Fn(&(String, String)) -> bool| {
                names(base, namespace, revision).into_iter().any(|name| has_map(&(namespace.to_owned(), name)))
            };
            let istiod = self.istiods.get(&(namespace.to_owned(), revision.clone()));
            let is_mounted =
                |config_map: fn(&Istiod) -> &Option<String>| istiod.is_some_and(|istiod| config_map(istiod).is_some());
            let has_injector = is_mounted(|istiod| &istiod.injector_config_map)
                || has(INJECTOR_CONFIG, &|key| self.injector_configs.contains_key(key));
            let has_mesh =
                is_mounted(|istiod| &istiod.mesh_config_map) || has(MESH_CONFIG, &|key| self.mesh_configs.contains_key(key));
            !has_injector || !has_mesh
        };
        let mut revisions = self.istiods.keys().filter(|(candidate, _)| candidate == namespace).map(|(_, revision)| revision);
        self.snapshot.unread(Resource::ConfigMaps, namespace).is_none() && revisions.any(lacks)
    }

    pub(super) fn link_services(&mut self) {
        let injectors: Vec<Injector> = self.injectors().collect();
        for service in std::mem::take(&mut self.services) {
            let metadata = &service.metadata;
            let key = (metadata.namespace.clone(), metadata.name.clone());
            let is_external = service.spec.r#type == "ExternalName";
            let readiness = if is_external { Readiness::Ready } else { self.service_readiness(&key.0, &key.1) };
            let facts = ServiceFacts {
                revision: service_revision(&service).or_else(|| revision_by_injectors(&service, &injectors)),
                readiness,
                tag: metadata.label(labels::TAG).map(str::to_owned),
                is_external,
                has_selector: !service.spec.selector.is_empty(),
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

    /// A control plane is known by its Deployment, by its Service, or by an injector: one that leads to a Service has a control plane
    /// behind it wherever that runs, and one that leads to an address elsewhere has it there.
    pub(super) fn link_control_planes(&mut self) {
        let mut keys: BTreeSet<(String, String)> = self.istiods.keys().cloned().collect();
        for ((namespace, _), service) in &self.snapshot.services {
            if let (Some(revision), Readiness::Ready) = (&service.revision, service.readiness) {
                keys.insert((namespace.clone(), revision.clone()));
            }
        }
        for injector in self.injectors() {
            let labelled = || injector.revision.clone().unwrap_or_else(|| UNREVISIONED.to_owned());
            match &injector.target {
                Target::Service(service) => {
                    let key = (service.namespace.clone(), service.name.clone());
                    let is_unread = self.snapshot.unread(Resource::Services, &service.namespace).is_some();
                    match self.snapshot.services.get(&key) {
                        Some(facts) => {
                            keys.extend(facts.revision.clone().map(|revision| (service.namespace.clone(), revision)));
                        }
                        None if is_unread => drop(keys.insert((service.namespace.clone(), labelled()))),
                        None => {}
                    }
                }
                // Whose configuration it reads cannot be seen: all that bear its name could be.
                Target::Url(_) => {
                    let revision = labelled();
                    let places: BTreeSet<String> = self.namespaces_of_config(&revision);
                    if places.is_empty() && !keys.iter().any(|(_, known)| *known == revision) {
                        keys.insert((String::new(), revision));
                    } else {
                        keys.extend(places.into_iter().map(|namespace| (namespace, revision.clone())));
                    }
                }
            }
        }
        let control_planes = keys.into_iter().map(|(namespace, revision)| self.control_plane(namespace, revision)).collect();
        self.snapshot.control_planes = control_planes;
    }

    fn namespaces_of_config(&self, revision: &str) -> BTreeSet<String> {
        let is_named = |namespace: &String, name: &String| names(INJECTOR_CONFIG, namespace, revision).contains(name);
        let of_revision = self.injector_configs.iter().filter(|((namespace, name), found)| {
            is_named(namespace, name) || (found.revision.as_deref() == Some(revision) && revision != UNREVISIONED)
        });
        of_revision.map(|((namespace, _), _)| namespace.clone()).collect()
    }

    fn control_plane(&self, namespace: String, revision: String) -> ControlPlane {
        let deployment = self.istiods.get(&(namespace.clone(), revision.clone())).cloned();
        let of_revision = self.snapshot.services.iter().filter(|((in_namespace, _), service)| {
            *in_namespace == namespace && service.revision.as_deref() == Some(revision.as_str())
        });
        let services: Vec<&ServiceFacts> = of_revision.map(|(_, service)| service).collect();
        let readiness: Vec<_> = services.iter().map(|service| service.readiness).collect();
        let by_deployment = match &deployment {
            Some(istiod) if istiod.ready_replicas > 0 => Readiness::Ready,
            Some(_) => Readiness::NotReady,
            None => Readiness::Unknown,
        };
        let has_address = self.injectors().any(|injector| {
            matches!(injector.target, Target::Url(_)) && injector.revision.as_deref().unwrap_or(UNREVISIONED) == revision
        });
        let readiness = if readiness.contains(&Readiness::Ready) || has_address {
            Readiness::Ready
        } else if readiness.is_empty() || readiness.contains(&Readiness::Unknown) {
            by_deployment
        } else {
            Readiness::NotReady
        };
        let is_elsewhere = deployment.is_none() && (has_address || services.iter().any(|service| !service.has_selector));
        ControlPlane {
            injector_config: self.injector_config(&namespace, &revision, deployment.as_ref()),
            mesh_config: self.mesh_config(&namespace, &revision, deployment.as_ref()),
            is_elsewhere,
            revision,
            namespace,
            deployment,
            readiness,
        }
    }

    fn injector_config(&self, namespace: &str, revision: &str, istiod: Option<&Istiod>) -> Read<InjectorConfig> {
        let mounted = istiod.and_then(|istiod| istiod.injector_config_map.as_deref());
        self.found(&self.injector_configs, Wanted { base: INJECTOR_CONFIG, namespace, revision, mounted, except: None })
    }

    fn mesh_config(&self, namespace: &str, revision: &str, istiod: Option<&Istiod>) -> Read<MeshConfig> {
        let mounted = istiod.and_then(|istiod| istiod.mesh_config_map.as_deref());
        let shared_name = self.shared_config(namespace, revision, istiod);
        let wanted = Wanted { base: MESH_CONFIG, namespace, revision, mounted, except: shared_name.as_deref() };
        let own = self.found(&self.mesh_configs, wanted);
        let shared = shared_name.and_then(|name| self.mesh_configs.get(&(namespace.to_owned(), name)));
        match (own, shared.map(|shared| &shared.config)) {
            (own, None) => own,
            (Read::Known(own), Some(Ok(shared))) => Read::Known(own.over(shared.clone())),
            (Read::Absent, Some(Ok(shared))) => Read::Known(shared.clone()),
            (Read::Known(_) | Read::Absent, Some(Err(why))) => Read::Broken(format!("the shared one: {why}")),
            (other, _) => other,
        }
    }

    /// The ConfigMap that an istiod merges below its mesh configuration: as its environment says, or where nothing says it, as the add-on
    /// of AKS names it (learn.microsoft.com, aks/istio-meshconfig).
    fn shared_config(&self, namespace: &str, revision: &str, istiod: Option<&Istiod>) -> Option<String> {
        let of_aks = || (namespace == Aks::NAMESPACE).then(|| format!("istio-shared-configmap-{revision}"));
        istiod.and_then(|istiod| istiod.shared_mesh_config.clone()).or_else(of_aks)
    }

    /// istiod reads the ConfigMap that is mounted, else the one of its name (pilot/pkg/bootstrap/mesh.go and sidecarinjector.go);
    /// installers that name it otherwise label it with the revision. Of several that are labelled so, any could be meant.
    fn found<T: Clone>(&self, maps: &BTreeMap<(String, String), FoundConfig<T>>, wanted: Wanted<'_>) -> Read<T> {
        let Wanted { base, namespace, revision, mounted, except } = wanted;
        let names = mounted.map_or_else(|| names(base, namespace, revision), |name| vec![name.to_owned()]);
        let by_name = names.into_iter().find_map(|name| maps.get(&(namespace.to_owned(), name)));
        let labelled = || {
            let is_here = |(in_namespace, name): &(String, String)| in_namespace == namespace && Some(name.as_str()) != except;
            maps.iter().filter(move |(key, found)| is_here(key) && found.revision.as_deref() == Some(revision))
        };
        let found = match (by_name, mounted) {
            (None, None) => {
                let all: Vec<_> = labelled().collect();
                if all.len() > 1 {
                    return Read::Several(all.into_iter().map(|((_, name), _)| name.clone()).collect());
                }
                all.into_iter().next().map(|(_, found)| found)
            }
            (by_name, _) => by_name,
        };
        match found.map(|found| &found.config) {
            Some(Ok(config)) => Read::Known(config.clone()),
            Some(Err(why)) => Read::Broken(why.clone()),
            None if self.snapshot.unread(Resource::ConfigMaps, namespace).is_some() => Read::Unread,
            None => Read::Absent,
        }
    }
}

/// Which ConfigMap is looked for.
struct Wanted<'a> {
    base: &'a str,
    namespace: &'a str,
    revision: &'a str,
    /// The name that its istiod has mounted.
    mounted: Option<&'a str>,
    /// The name of one that is something else.
    except: Option<&'a str>,
}

/// The names of a revision's ConfigMap: istiod's own, and that of the operator of Cisco and banzaicloud, whose revisions are called
/// `NAME.NAMESPACE` and whose ConfigMaps end in the name alone (istio-discovery/templates of banzaicloud/istio-operator).
fn names(base: &str, namespace: &str, revision: &str) -> Vec<String> {
    let own = format!("{base}{}", revision_suffix(revision));
    let of_operator =
        revision.strip_suffix(namespace).and_then(|name| name.strip_suffix('.')).map(|name| format!("{base}-{name}"));
    [own].into_iter().chain(of_operator).collect()
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

/// The revision of a Service that selects no istiod here, and that injectors lead to nevertheless: the control plane of another cluster
/// answers there (charts istiod-remote 1.20, remote-istiod-service.yaml 1.24 to 1.28). Its label or theirs name the revision.
fn revision_by_injectors(service: &Service, injectors: &[Injector]) -> Option<String> {
    let metadata = &service.metadata;
    let leads_here = |injector: &&Injector| match &injector.target {
        Target::Service(target) => target.namespace == metadata.namespace && target.name == metadata.name,
        Target::Url(_) => false,
    };
    let mut leading = injectors.iter().filter(leads_here).peekable();
    leading.peek()?;
    let by_label = metadata.label(labels::REVISION).map(str::to_owned);
    by_label.or_else(|| leading.find_map(|injector| injector.revision.clone())).or_else(|| Some(UNREVISIONED.to_owned()))
}
