//! Taking back an object that turned out not to be known.

use super::SnapshotBuilder;
use crate::labels;
use crate::object::{Object, Resource};

impl SnapshotBuilder {
    /// Forgets what was taken in of the object with this name, which somebody says otherwise. The caller notes that it is
    /// unread. Pods stay counted: with pods unread, nothing is certain of the workloads there anyway.
    pub fn withdraw(&mut self, object: &Object) {
        let metadata = object.metadata();
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        let key = (namespace.to_owned(), name.to_owned());
        match object {
            Object::Pod(_) => {}
            Object::Namespace(_) => drop(self.snapshot.namespaces.remove(name)),
            Object::MutatingWebhookConfiguration(_) => drop(self.configurations.remove(name)),
            Object::ValidatingWebhookConfiguration(_) => self.snapshot.default_validator = None,
            Object::Deployment(_) => {
                self.forget_controller(Resource::Deployments, namespace, name);
                self.istiods.retain(|(in_namespace, _), istiod| in_namespace != namespace || istiod.name != name);
            }
            Object::StatefulSet(_) => self.forget_controller(Resource::StatefulSets, namespace, name),
            Object::DaemonSet(_) => self.forget_controller(Resource::DaemonSets, namespace, name),
            Object::ReplicaSet(_) => self.forget_controller(Resource::ReplicaSets, namespace, name),
            Object::Job(_) => self.forget_controller(Resource::Jobs, namespace, name),
            Object::Rollout(_) => self.forget_controller(Resource::Rollouts, namespace, name),
            Object::Service(_) => {
                self.services.retain(|service| service.metadata.namespace != namespace || service.metadata.name != name);
            }
            Object::EndpointSlice(slice) => {
                let service = slice.metadata.label(labels::SERVICE_NAME);
                self.endpoint_slices.retain(|(in_namespace, of, _)| in_namespace != namespace || Some(of.as_str()) != service);
            }
            Object::ConfigMap(_) => {
                self.injector_configs.remove(&key);
                self.mesh_configs.remove(&key);
                self.snapshot.overlays.remove(&key);
            }
            Object::ProxyConfig(_) => {
                self.snapshot
                    .proxy_configs
                    .retain(|config| config.metadata.namespace != namespace || config.metadata.name != name);
            }
            Object::Gateway(_) => drop(self.snapshot.gateways.remove(&key)),
        }
    }

    fn forget_controller(&mut self, resource: Resource, namespace: &str, name: &str) {
        self.controllers.remove(&(resource, namespace.into(), name.into()));
    }
}
