//! The graph on small worlds: each sort of user, alone.

use serde_json::{Value, json};

use super::callers::CallersBuilder;
use super::inventory::{Inventory, Listed};
use super::{Departing, Departure, Evidence, Uses, uses};
use crate::installation::{Installation, label};
use crate::labels;
use crate::object::{Encoded, Object, Resource};
use crate::snapshot::{Detail, Origin, Snapshot, SnapshotBuilder, Unread, UnreadCause};

const OLD: &str = "1-26-0";

/// Objects as a cluster serves them, and what of it could not be read.
#[derive(Default)]
struct World {
    objects: Vec<Value>,
    unread: Vec<String>,
    unread_lists: Vec<Unread>,
}

impl World {
    /// Two revisions in `istio-system`, and a tag of the old one.
    fn new() -> World {
        let mut world = World::default();
        for revision in [OLD, "1-28-2"] {
            world.objects.extend(control_plane("istio-system", revision));
        }
        let tag = json!({"istio.io/tag": "prod", "istio.io/rev": "1-28-2", "app": "istiod"});
        world.objects.push(webhook("istio-revision-tag-prod", "istio-system", "1-28-2", Some("prod")));
        world.objects.push(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "istiod-revision-tag-prod", "namespace": "istio-system", "labels": tag},
            "spec": {"selector": {"app": "istiod", "istio.io/rev": "1-28-2"}, "clusterIP": "127.96.0.30"}}));
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        world.with(namespace("istio-system")).with(namespace("shop")).with(namespace("mesh-b"))
    }

    fn with(mut self, object: Value) -> World {
        self.objects.push(object);
        self
    }

    fn uses(&self, what: Departing, name: &str, namespace: &str) -> Uses {
        let mut callers = CallersBuilder::default();
        let mut builder = SnapshotBuilder::new(Origin::Cluster, Detail::Workloads);
        let mut inventory = Inventory { objects: Vec::new(), unread: self.unread.clone() };
        for object in &self.objects {
            let (api_version, kind) = (text(object, "apiVersion"), text(object, "kind"));
            if let Some(resource) = Resource::of_kind(api_version, kind) {
                let json = object.to_string();
                let read = Object::from_json(resource, json.as_bytes()).unwrap();
                callers.add(&read, Encoded::Json(json.as_bytes()));
                builder.add(&read);
            }
            inventory.objects.extend(listed(object));
        }
        self.unread_lists.iter().for_each(|unread| builder.unread(unread.clone()));
        let of_kind = |kind: &str| self.objects.iter().filter(|object| object["kind"] == kind).cloned().collect::<Vec<_>>();
        let labelled =
            |objects: Vec<Value>| objects.into_iter().filter(|object| label(object, labels::REVISION).is_some()).collect();
        let snapshot = builder.build();
        let installation = Installation {
            snapshot: Snapshot {
                injectors: snapshot.injectors.clone(),
                services: snapshot.services.clone(),
                ..Snapshot::default()
            },
            injectors: labelled(of_kind("MutatingWebhookConfiguration")),
            validators: labelled(of_kind("ValidatingWebhookConfiguration")),
            services: of_kind("Service"),
            istiods: Vec::new(),
            gateways: of_kind("Gateway")
                .into_iter()
                .filter(|gateway| text(gateway, "apiVersion").starts_with("gateway."))
                .collect(),
        };
        let evidence =
            Evidence { snapshot: &snapshot, installation: &installation, callers: &callers.build(), inventory: &inventory };
        uses(&evidence, &Departure { what, name, namespace })
    }

    fn of_revision(&self) -> Uses {
        self.uses(Departing::Revision, OLD, "istio-system")
    }

    fn of_tag(&self) -> Uses {
        self.uses(Departing::Tag, "prod", "istio-system")
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// The list that an object comes from.
fn listed(object: &Value) -> Option<Listed> {
    let group = text(object, "apiVersion").split_once('/').map_or("", |(group, _)| group).to_owned();
    let kind = text(object, "kind").to_lowercase();
    let is_in_snapshot = matches!(kind.as_str(), "deployment" | "statefulset" | "daemonset" | "rollout" | "namespace");
    if is_in_snapshot || (kind == "pod" && label(object, labels::APP) != Some("istiod")) {
        return None;
    }
    let plural = match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("ay") => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    };
    Some(Listed { group, plural, object: object.clone() })
}

fn webhook(name: &str, namespace: &str, revision: &str, tag: Option<&str>) -> Value {
    let mut labels = json!({"istio.io/rev": revision, "app": "sidecar-injector"});
    if let Some(tag) = tag {
        labels["istio.io/tag"] = tag.into();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
    "metadata": {"name": name, "labels": labels},
    "webhooks": [
        {"name": "rev.namespace.sidecar-injector.istio.io",
            "clientConfig": {"caBundle": "Y2E=", "service": {"name": format!("istiod-{revision}"), "namespace": namespace}},
            "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": [tag.unwrap_or(revision)]}]},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        {"name": "rev.object.sidecar-injector.istio.io",
            "clientConfig": {"caBundle": "Y2E=", "service": {"name": format!("istiod-{revision}"), "namespace": namespace}},
            "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "DoesNotExist"}]},
            "objectSelector": {"matchExpressions": [
                {"key": "istio.io/rev", "operator": "In", "values": [tag.unwrap_or(revision)]},
                {"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}]},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
    ]})
}

fn control_plane(namespace: &str, revision: &str) -> Vec<Value> {
    let labels = json!({"app": "istiod", "istio.io/rev": revision});
    let pod_labels = json!({"app": "istiod", "istio.io/rev": revision, "sidecar.istio.io/inject": "false"});
    let suffix = format!("-{revision}");
    let cluster_ip = match (namespace, revision) {
        ("istio-system", OLD) => "127.96.0.26",
        ("istio-system", _) => "127.96.0.28",
        _ => "127.96.1.26",
    };
    let place = |name: String| json!({"name": name, "namespace": namespace, "labels": labels});
    let injector = if namespace == "istio-system" { String::new() } else { format!("-{namespace}") };
    vec![
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place(format!("istiod{suffix}")),
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": pod_labels},
                "spec": {"containers": [{"name": "discovery", "image": "pilot:1.26.0"}]}}},
            "status": {"readyReplicas": 1}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": place(format!("istiod{suffix}")),
            "spec": {"selector": labels, "clusterIP": cluster_ip}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("istiod{suffix}-x"), "namespace": namespace, "labels": {"kubernetes.io/service-name": format!("istiod{suffix}")}},
            "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": true}}]}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": place(format!("istio-sidecar-injector{suffix}")),
            "data": {"values": "{\"global\":{\"hub\":\"istio\",\"tag\":\"1.26.0\"}}",
                "config": "policy: enabled\ndefaultTemplates: [sidecar]\ntemplates:\n  sidecar: \"{{ .ProxyImage }}\"\n"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": place(format!("istio{suffix}")),
            "data": {"mesh": format!("defaultConfig:\n  discoveryAddress: istiod{suffix}.{namespace}.svc:15012\n")}}),
        webhook(&format!("istio-sidecar-injector{suffix}{injector}"), namespace, revision, None),
    ]
}

fn names(uses: &Uses) -> Vec<String> {
    uses.found.iter().map(|found| format!("{} {}", found.kind.as_str(), found.subject)).collect()
}

/// A pod with a proxy of this revision that calls this address.
fn proxied(name: &str, revision: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"istio.io/rev": revision,
            "sidecar.istio.io/status": json!({"containers": ["istio-proxy"], "revision": revision}).to_string()}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "proxyv2:1.28.2", "env": [{"name": "CA_ADDR", "value": address}]}]}})
}

fn labelled(api_version: &str, kind: &str, revision: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "shop", "labels": {"istio.io/rev": revision}}})
}

fn template(revision: &str) -> Value {
    json!({"metadata": {"labels": {"istio.io/rev": revision}}, "spec": {"containers": [{"name": "app", "image": "pause"}]}})
}

fn with_template(api_version: &str, kind: &str, template: Value) -> Value {
    let spec = match kind {
        "CronJob" => json!({"jobTemplate": {"spec": {"template": template}}}),
        "Job" => json!({"suspend": true, "template": template}),
        _ => json!({"replicas": 0, "template": template}),
    };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": spec})
}

#[test]
fn nobody_uses_a_revision_or_a_tag_of_a_mesh_without_users() {
    let world = World::new();
    assert_eq!(world.of_revision(), Uses::default());
    assert_eq!(world.of_tag(), Uses::default());
    // The tag points to the other one.
    assert_eq!(names(&world.uses(Departing::Revision, "1-28-2", "istio-system")), ["tag tag prod"]);
}

#[test]
fn templates_of_every_kind_keep_a_revision_and_a_tag() {
    let kinds = [
        ("apps/v1", "Deployment", "deployment.apps/x"),
        ("apps/v1", "StatefulSet", "statefulset.apps/x"),
        ("apps/v1", "DaemonSet", "daemonset.apps/x"),
        ("apps/v1", "ReplicaSet", "replicasets/x"),
        ("argoproj.io/v1alpha1", "Rollout", "rollout.argoproj.io/x"),
        ("v1", "ReplicationController", "replicationcontrollers/x"),
        ("apps.openshift.io/v1", "DeploymentConfig", "deploymentconfigs/x"),
        ("batch/v1", "CronJob", "cronjobs/x"),
        ("batch/v1", "Job", "jobs/x"),
    ];
    for (api_version, kind, subject) in kinds {
        let world = World::new().with(with_template(api_version, kind, template(OLD)));
        assert_eq!(names(&world.of_revision()), [format!("template {subject} -n shop")], "{kind}");
        let world = World::new().with(with_template(api_version, kind, template("prod")));
        assert_eq!(names(&world.of_tag()), [format!("template {subject} -n shop")], "{kind}");
        let mut calling = template("");
        calling["metadata"]["labels"] = json!({});
        calling["metadata"]["annotations"] =
            json!({"proxy.istio.io/config": "discoveryAddress: istiod-revision-tag-prod.istio-system:15012"});
        let world = World::new().with(with_template(api_version, kind, calling));
        assert_eq!(names(&world.of_tag()), [format!("caller {subject} -n shop")], "{kind}");
        assert_eq!(names(&world.of_revision()), [""; 0], "{kind}");
    }
}

#[test]
fn the_history_of_a_deployment_and_jobs_that_have_ended_are_no_uses() {
    let mut old = with_template("apps/v1", "ReplicaSet", template(OLD));
    old["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "name": "web", "controller": true}]);
    assert_eq!(World::new().with(old).of_revision(), Uses::default());
    let mut ended = with_template("batch/v1", "Job", template(OLD));
    ended["spec"]["suspend"] = false.into();
    let mut between = ended.clone();
    ended["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    assert_eq!(World::new().with(ended).of_revision(), Uses::default());
    between["status"] = json!({"failed": 1});
    assert_eq!(names(&World::new().with(between).of_revision()), ["template jobs/x -n shop"]);
}

#[test]
fn a_proxy_uses_the_istiod_that_it_calls_whoever_has_injected_it() {
    for address in
        ["istiod-1-26-0.istio-system.svc:15012", "127.96.0.26:15012", "istiod-1-26-0.istio-system.svc.corp.example:15012"]
    {
        let world = World::new().with(proxied("web", "1-28-2", address));
        assert_eq!(names(&world.of_revision()), ["caller pod/web -n shop"], "{address}");
    }
    let world = World::new().with(proxied("web", "1-28-2", "istiod-revision-tag-prod.istio-system.svc:15012"));
    assert_eq!(names(&world.of_tag()), ["caller pod/web -n shop"]);
    let world = World::new().with(proxied("web", OLD, "istiod-1-26-0.istio-system.svc:15012"));
    assert_eq!(names(&world.of_revision()), ["proxies pod/web -n shop"], "once, as a proxy");
}

#[test]
fn proxies_of_a_revision_of_the_same_name_elsewhere_do_not_count() {
    let mut world = World::new().with(proxied("theirs", OLD, "istiod-1-26-0.mesh-b.svc:15012"));
    assert_eq!(world.of_revision().proxies(), 1, "while no control plane is there");
    world.objects.extend(control_plane("mesh-b", OLD));
    assert_eq!(world.of_revision().proxies(), 0);
    assert_eq!(world.uses(Departing::Revision, OLD, "mesh-b").proxies(), 1);
    let world = world.with(proxied("ours", OLD, "istiod-1-26-0.istio-system.svc:15012"));
    assert_eq!(names(&world.of_revision()), ["proxies pod/ours -n shop"]);
}

#[test]
fn agentgateway_counts_as_a_proxy() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "agent", "namespace": "shop", "annotations": {"istio.io/rev": OLD},
            "labels": {"gateway.istio.io/managed": "istio.io-gateway-controller", "gateway.networking.k8s.io/gateway-name": "g"}},
        "spec": {"containers": [{"name": "agentgateway", "image": "agentgateway:1.30.0", "env": [{"name": "XDS_ADDRESS", "value": "http://istiod-1-26-0.istio-system.svc:15010"}]}]}});
    assert_eq!(names(&World::new().with(pod).of_revision()), ["proxies pod/agent -n shop"]);
}

#[test]
fn every_kind_of_the_meshs_groups_counts_by_its_label_known_or_not() {
    let kinds = [
        ("gateway.networking.k8s.io/v1", "TLSRoute"),
        ("gateway.networking.k8s.io/v1", "TCPRoute"),
        ("gateway.networking.k8s.io/v1", "ListenerSet"),
        ("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet"),
        ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
        ("extensions.istio.io/v1alpha1", "TrafficExtension"),
        ("networking.istio.io/v1", "Gateway"),
        ("novelty.istio.io/v9", "Novelty"),
    ];
    for (api_version, kind) in kinds {
        let found = World::new().with(labelled(api_version, kind, OLD)).of_revision();
        assert_eq!(found.found.len(), 1, "{kind}: {found:?}");
        assert_eq!(found.found[0].kind.as_str(), "configuration", "{kind}");
        assert_eq!(World::new().with(labelled(api_version, kind, "prod")).of_tag().found.len(), 1, "{kind} with a tag");
        assert_eq!(World::new().with(labelled(api_version, kind, "1-28-2")).of_revision(), Uses::default(), "{kind} of another");
    }
    assert_eq!(World::new().with(labelled("apps.example.org/v1", "Thing", OLD)).of_revision(), Uses::default());
}

#[test]
fn what_names_the_service_keeps_it() {
    let host = "istiod-1-26-0.istio-system.svc.cluster.local";
    let objects = [
        json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "spec": {"tls": [{"route": [{"destination": {"host": host}}]}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TLSRoute", "spec": {"rules": [{"backendRefs": [{"name": "istiod-1-26-0", "namespace": "istio-system"}]}]}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": {"hosts": ["a.example"], "endpoints": [{"address": host}]}}),
        json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig", "spec": {"environmentVariables": {"CA_ADDR": format!("{host}:15012")}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "istio-system"}, "spec": {"rules": [{"http": {"paths": [{"backend": {"service": {"name": "istiod-1-26-0"}}}]}}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ExternalName", "externalName": host}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-other", "namespace": "istio-system"}, "data": {"mesh": "defaultConfig: {discoveryAddress: 'istiod-1-26-0:15012'}"}}),
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "spec": {"service": {"name": "istiod-1-26-0", "namespace": "istio-system"}}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "webhooks": [{"clientConfig": {"service": {"name": "istiod-1-26-0", "namespace": "istio-system"}}}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "endpoints": [{"addresses": ["127.96.0.26"]}]}),
    ];
    for mut object in objects {
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = "x".into();
        }
        let found = World::new().with(object.clone()).of_revision();
        assert_eq!(found.found.len(), 1, "{object}: {found:?}");
        assert_eq!(found.found[0].kind.as_str(), "caller", "{object}");
        assert_eq!(World::new().with(object.clone()).of_tag().found, [], "{object} is no use of the tag");
    }
}

#[test]
fn webhooks_of_a_control_plane_of_the_same_name_are_none_of_its_uses() {
    let mut world = World::new();
    world.objects.extend(control_plane("mesh-b", OLD));
    assert_eq!(names(&world.of_revision()), [""; 0]);
    assert_eq!(names(&world.uses(Departing::Revision, OLD, "mesh-b")), [""; 0]);
}

#[test]
fn clients_elsewhere_leave_signs() {
    let signs = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "remote", "namespace": "istio-system", "labels": {"istio/multiCluster": "true"}}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup"}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry"}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "spec": {"servers": [{"port": {"number": 15012}}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"gatewayClassName": "istio-east-west"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {"istio": "eastwestgateway"}}}),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 15017}]}}),
    ];
    for mut object in signs {
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = "x".into();
        }
        let world = World::new().with(object.clone());
        assert_eq!(world.of_revision().unseen.signs.len(), 1, "{object}");
        assert_eq!(world.of_tag().unseen.signs.len(), 1, "{object}: the tag has a Service");
        let without_service = world.uses(Departing::Tag, "webhook-only", "istio-system");
        assert_eq!(without_service.unseen.signs.len(), 0, "{object}");
    }
    for spec in [json!({"type": "LoadBalancer"}), json!({"type": "NodePort"}), json!({"externalIPs": ["192.0.2.1"]})] {
        let mut world = World::new();
        let service =
            world.objects.iter_mut().find(|object| object["kind"] == "Service" && object["metadata"]["name"] == "istiod-1-26-0");
        service.unwrap()["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        assert_eq!(world.of_revision().unseen.signs.len(), 1, "{spec}");
    }
}

#[test]
fn a_machine_that_is_connected_says_to_which_istiod() {
    let entry = |istiod: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": "vm", "namespace": "shop",
            "annotations": {"istio.io/workloadController": istiod, "istio.io/connectedAt": "2026-01-01T00:00:00Z"}}})
    };
    let found = World::new().with(entry("istiod-1-26-0-7d9f5-abcde")).of_revision();
    assert_eq!(names(&found), ["virtual-machine workloadentries/vm -n shop"]);
    let other = World::new().with(entry("istiod-1-28-2-7d9f5-abcde")).of_revision();
    assert_eq!((names(&other), other.unseen.signs), (Vec::new(), Vec::new()));
    let nobodys = World::new().with(entry("who-knows")).of_revision();
    assert_eq!(names(&nobodys).len(), 1, "an istiod that nobody knows may be one of it");
}

#[test]
fn what_was_not_read_is_unknown() {
    let mut world = World::new();
    world.unread.push("workloadgroups.networking.istio.io: denied".to_owned());
    world.unread_lists.push(Unread { resource: Resource::Deployments, namespace: None, cause: UnreadCause::Forbidden });
    assert_eq!(world.of_revision().unknown.len(), 2);
    assert_eq!(world.of_tag().unknown.len(), 2);
}
