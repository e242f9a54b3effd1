//! Users that no list of well-known kinds shows: each alone keeps a revision, or a tag, from being removed, and is named.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Output, Revision, Workload, plugin};

const OLD: &str = "1-26-0";
const NEW: &str = "1-28-2";
const TAG: &str = "prod";

/// Where a user is looked for: what it depends on, by its Service's name and by the value of `istio.io/rev`.
#[derive(Clone, Copy)]
struct Needed {
    service: &'static str,
    label: &'static str,
    /// The command that would take it away.
    command: &'static [&'static str],
}

const REVISION: Needed =
    Needed { service: "istiod-1-26-0", label: OLD, command: &["mesh-upgrade", "complete", "--remove", OLD, "--yes"] };

const OF_TAG: Needed = Needed { service: "istiod-revision-tag-prod", label: TAG, command: &["mesh-tag", "remove", TAG, "--yes"] };

/// A user: what the refusal names, and the object.
struct User {
    named: &'static str,
    object: fn(Needed) -> Value,
}

fn host(needed: Needed) -> String {
    format!("{}.istio-system.svc.cluster.local", needed.service)
}

fn object(api_version: &str, kind: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = "user".into();
    if object["metadata"]["namespace"].is_null() && !kind.ends_with("WebhookConfiguration") {
        object["metadata"]["namespace"] = "plain".into();
    }
    object
}

fn labelled(api_version: &str, kind: &str, needed: Needed) -> Value {
    object(api_version, kind, json!({"metadata": {"labels": {"istio.io/rev": needed.label}}}))
}

fn template(needed: Needed) -> Value {
    json!({
        "metadata": {"labels": {"app": "user", "istio.io/rev": needed.label, "sidecar.istio.io/inject": "true"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "pause"}]},
    })
}

/// A template that no injector touches, and that calls an istiod.
fn calling(needed: Needed, restart: &str) -> Value {
    let address = format!("https://{}.istio-system:15012", needed.service);
    json!({
        "metadata": {"labels": {"app": "user"}},
        "spec": {"restartPolicy": restart, "nodeSelector": {"example.org/none": "here"}, "containers": [
            {"name": "agent", "image": "agentgateway:1.30.0", "env": [{"name": "XDS_ADDRESS", "value": address}]},
        ]},
    })
}

/// A Deployment without pods that no injector touches, with this in its container and these volumes.
fn started(container: Value, volumes: Value) -> Value {
    let mut container = container;
    container["name"] = "client".into();
    container["image"] = "client:1".into();
    let template = json!({"metadata": {"labels": {"app": "user"}}, "spec": {"containers": [container], "volumes": volumes}});
    let selector = json!({"matchLabels": {"app": "user"}});
    object("apps/v1", "Deployment", json!({"spec": {"replicas": 0, "selector": selector, "template": template}}))
}

const USERS: &[User] = &[
    User {
        named: "deployment.apps/user -n plain",
        object: |needed| {
            let mut template = calling(needed, "Always");
            template["metadata"]["annotations"] =
                json!({"proxy.istio.io/config": format!("discoveryAddress: {}:15012", host(needed))});
            template["spec"]["containers"][0]["env"] = json!([]);
            let selector = json!({"matchLabels": {"app": "user"}});
            object("apps/v1", "Deployment", json!({"spec": {"replicas": 0, "selector": selector, "template": template}}))
        },
    },
    User {
        named: "daemonset.apps/user -n plain",
        object: |needed| {
            let spec = json!({"selector": {"matchLabels": {"app": "user"}}, "template": calling(needed, "Always")});
            object("apps/v1", "DaemonSet", json!({"spec": spec}))
        },
    },
    User { named: "pod/user -n plain", object: |needed| object("v1", "Pod", json!({"spec": calling(needed, "Always")["spec"]})) },
    User {
        named: "deployment.apps/user -n plain",
        object: |needed| {
            // Composed as Kubernetes does it.
            let (base, rest) = needed.service.split_at(7);
            let env =
                json!([{"name": "REST", "value": rest}, {"name": "D", "value": format!("{base}$(REST).istio-system.svc:15012")}]);
            started(json!({"env": env}), json!([]))
        },
    },
    User {
        named: "deployment.apps/user -n plain",
        object: |needed| {
            let get = json!({"host": host(needed), "port": 15014, "path": "/ready"});
            started(json!({"lifecycle": {"preStop": {"httpGet": get}}}), json!([]))
        },
    },
    User {
        named: "podtemplates/user -n plain",
        object: |needed| {
            let mut template = template(needed);
            template["spec"]["restartPolicy"] = "Always".into();
            object("v1", "PodTemplate", json!({"template": template}))
        },
    },
    User {
        named: "replicasets/user -n plain",
        object: |needed| {
            let mut template = template(needed);
            template["spec"]["restartPolicy"] = "Always".into();
            let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "user"}}, "template": template});
            object("apps/v1", "ReplicaSet", json!({"spec": spec}))
        },
    },
    User {
        named: "replicationcontrollers/user -n plain",
        object: |needed| {
            let mut template = template(needed);
            template["spec"]["restartPolicy"] = "Always".into();
            object("v1", "ReplicationController", json!({"spec": {"replicas": 0, "template": template}}))
        },
    },
    User {
        named: "cronjobs/user -n plain",
        object: |needed| {
            let spec = json!({"schedule": "0 3 1 1 *", "jobTemplate": {"spec": {"template": template(needed)}}});
            object("batch/v1", "CronJob", json!({"spec": spec}))
        },
    },
    User {
        named: "jobs/user -n plain",
        object: |needed| object("batch/v1", "Job", json!({"spec": {"suspend": true, "template": template(needed)}})),
    },
    User {
        named: "virtualservices/user -n plain",
        object: |needed| {
            let route = json!({"match": [{"port": 15012, "sniHosts": ["istiod.example.org"]}],
                "route": [{"destination": {"host": host(needed), "port": {"number": 15012}}}]});
            object(
                "networking.istio.io/v1beta1",
                "VirtualService",
                json!({"spec": {"hosts": ["istiod.example.org"], "tls": [route]}}),
            )
        },
    },
    User {
        named: "serviceentries/user -n plain",
        object: |needed| {
            let spec = json!({"hosts": ["istiod.example.org"], "ports": [{"number": 15012, "name": "tls", "protocol": "TLS"}],
                "resolution": "DNS", "endpoints": [{"address": host(needed)}]});
            object("networking.istio.io/v1", "ServiceEntry", json!({"spec": spec}))
        },
    },
    User {
        named: "proxyconfigs/user -n plain",
        object: |needed| {
            let spec = json!({"environmentVariables": {"CA_ADDR": format!("{}:15012", host(needed))}});
            object("networking.istio.io/v1beta1", "ProxyConfig", json!({"spec": spec}))
        },
    },
    User {
        named: "ingresses/user -n istio-system",
        object: |needed| {
            let backend = json!({"service": {"name": needed.service, "port": {"number": 15012}}});
            let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
            let metadata = json!({"namespace": "istio-system"});
            object(
                "networking.k8s.io/v1",
                "Ingress",
                json!({"metadata": metadata, "spec": {"rules": [{"http": {"paths": paths}}]}}),
            )
        },
    },
    User {
        named: "services/user -n plain",
        object: |needed| object("v1", "Service", json!({"spec": {"type": "ExternalName", "externalName": host(needed)}})),
    },
    User {
        named: "configmaps/user -n istio-system",
        object: |needed| {
            let mesh = format!("defaultConfig:\n  discoveryAddress: {}:15012\n", needed.service);
            object("v1", "ConfigMap", json!({"metadata": {"namespace": "istio-system"}, "data": {"mesh": mesh}}))
        },
    },
    User {
        named: "configmaps/user -n istio-system",
        object: |needed| {
            let labels = json!({"gateway.istio.io/defaults-for-class": "istio", "istio.io/rev": needed.label});
            let metadata = json!({"namespace": "istio-system", "labels": labels});
            object("v1", "ConfigMap", json!({"metadata": metadata, "data": {"deployment": "spec: {replicas: 2}"}}))
        },
    },
    User {
        named: "validatingwebhookconfigurations/user",
        object: |needed| {
            // No label says that it has anything to do with a mesh.
            let service = json!({"name": needed.service, "namespace": "istio-system", "path": "/validate"});
            let rules =
                json!([{"apiGroups": ["example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["rules"]}]);
            let webhook = json!({"name": "rules.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "failurePolicy": "Ignore", "clientConfig": {"service": service}, "rules": rules});
            object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", json!({"webhooks": [webhook]}))
        },
    },
    User {
        named: "customresourcedefinitions/users.hidden.example",
        object: |needed| {
            let service = json!({"name": needed.service, "namespace": "istio-system", "path": "/convert"});
            let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}});
            let mut definition = crate::operators::definition("hidden.example", "users", "User");
            definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": webhook});
            definition
        },
    },
    // Kinds that these plugins have never heard of, or only at another version.
    User { named: "tlsroutes/user -n plain", object: |needed| labelled("gateway.networking.k8s.io/v1", "TLSRoute", needed) },
    User {
        named: "listenersets/user -n plain",
        object: |needed| labelled("gateway.networking.k8s.io/v1", "ListenerSet", needed),
    },
    User {
        named: "referencegrants/user -n istio-system",
        object: |needed| {
            let from = json!([{"group": "gateway.networking.k8s.io", "kind": "TLSRoute", "namespace": "plain"}]);
            let to = json!([{"group": "", "kind": "Service", "name": needed.service}]);
            let metadata = json!({"namespace": "istio-system"});
            object(
                "gateway.networking.k8s.io/v1beta1",
                "ReferenceGrant",
                json!({"metadata": metadata, "spec": {"from": from, "to": to}}),
            )
        },
    },
    User {
        named: "backendtlspolicies/user -n plain",
        object: |needed| {
            let target = json!([{"group": "", "kind": "Service", "name": "reviews"}]);
            let validation = json!({"hostname": "example.org", "wellKnownCACertificates": "System"});
            let labels = json!({"labels": {"istio.io/rev": needed.label}});
            object(
                "gateway.networking.k8s.io/v1",
                "BackendTLSPolicy",
                json!({"metadata": labels, "spec": {"targetRefs": target, "validation": validation}}),
            )
        },
    },
    User { named: "novelties/user -n plain", object: |needed| labelled("novelty.istio.io/v7", "Novelty", needed) },
    User {
        named: "novelties/user -n plain",
        object: |needed| object("novelty.istio.io/v7", "Novelty", json!({"spec": {"anything": [{"goes": host(needed)}]}})),
    },
];

/// Signs of clients that this cluster does not show.
const SIGNS: &[User] = &[
    User {
        named: "workloadgroups/user -n plain",
        object: |_| object("networking.istio.io/v1", "WorkloadGroup", json!({"spec": {"template": {"serviceAccount": "vm"}}})),
    },
    User {
        named: "workloadentries/user -n plain",
        object: |_| object("networking.istio.io/v1", "WorkloadEntry", json!({"spec": {"address": "192.0.2.7"}})),
    },
    User {
        named: "secrets/user -n istio-system",
        object: |_| {
            let metadata = json!({"namespace": "istio-system", "labels": {"istio/multiCluster": "true"}});
            object("v1", "Secret", json!({"metadata": metadata, "stringData": {"other": "a kubeconfig"}}))
        },
    },
    User {
        named: "services/user -n plain",
        object: |_| {
            let labels = json!({"labels": {"istio": "eastwestgateway", "topology.istio.io/network": "one"}});
            object("v1", "Service", json!({"metadata": labels, "spec": {"ports": [{"port": 15443}]}}))
        },
    },
    User {
        named: "gateways.networking.istio.io/user -n plain",
        object: |_| {
            let server = json!({"port": {"number": 15012, "name": "tls-istiod", "protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}, "hosts": ["*"]});
            object(
                "networking.istio.io/v1",
                "Gateway",
                json!({"spec": {"selector": {"istio": "eastwestgateway"}, "servers": [server]}}),
            )
        },
    },
];

/// Definitions of kinds that are newer than these plugins.
fn definitions(cluster: &Cluster) -> Result<()> {
    let kinds = [
        ("gateway.networking.k8s.io", "v1", "tlsroutes", "TLSRoute"),
        ("gateway.networking.k8s.io", "v1", "listenersets", "ListenerSet"),
        ("novelty.istio.io", "v7", "novelties", "Novelty"),
    ];
    for (group, version, plural, kind) in kinds {
        let name = format!("{plural}.{group}");
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        cluster.apply(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase()},
                "versions": [{"name": version, "served": true, "storage": true, "schema": schema}]},
        }))?;
        cluster.wait(&format!("{name} to be served"), Duration::from_secs(30), || {
            Ok(cluster.api().find(&format!("/apis/{group}/{version}/{plural}"))?.map(|_| ()))
        })?;
    }
    Ok(())
}

fn run(cluster: &Cluster, needed: Needed, more: &[&str]) -> Result<Output> {
    let session = plugin(needed.command[0])?.on(cluster).time_limit(Duration::from_secs(120));
    session.run(needed.command.iter().chain(more).copied())
}

fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    cluster.namespace("plain", Follows::Nothing)?;
    cluster.namespace("steady", Follows::Revision(NEW))?.run(&Workload::deployment("calm"))?;
    // Since 1.28 a tag has a Service of its own.
    let output = plugin("mesh-tag")?.on(&cluster).run(["mesh-tag", "set", TAG, "--revision", NEW, "--yes"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(cluster)
}

#[test]
fn every_hidden_user_keeps_a_revision_and_a_tag() -> Result<()> {
    let cluster = cluster()?;
    definitions(&cluster)?;
    for needed in [REVISION, OF_TAG] {
        for user in USERS {
            let object = (user.object)(needed);
            cluster.apply(&object).with_context(|| format!("making {object}"))?;
            let output = run(&cluster, needed, &[])?;
            ensure!(output.code == Some(4), "{object}: {}", output.transcript());
            ensure!(output.stderr.contains(user.named), "{} is not named: {}", user.named, output.transcript());
            ensure!(!output.stderr.contains("steady"), "whoever does not use it is not named: {}", output.transcript());
            cluster.delete(&object).with_context(|| format!("ending {object}"))?;
        }
    }
    addresses_elsewhere_count(&cluster)?;
    // A proxy of the newer revision that is told to call the older one.
    let config = json!({"proxy.istio.io/config": "discoveryAddress: istiod-1-26-0.istio-system.svc:15012"});
    let moved = Workload::deployment("moved").pod_annotations(config);
    let steady = cluster.namespace_named("steady");
    steady.run(&moved)?;
    let output = run(&cluster, REVISION, &[])?;
    ensure!(output.code == Some(4) && output.stderr.contains("1 pod calls its Service"), "{}", output.transcript());
    steady.delete(&moved)?;
    cluster.wait("its pod to go", Duration::from_secs(60), || Ok((steady.pods()?.len() == 1).then_some(())))?;
    // Nobody is left: then they go, the tag first.
    for needed in [OF_TAG, REVISION] {
        let output = run(&cluster, needed, &[])?;
        ensure!(output.code == Some(0), "{}", output.transcript());
    }
    Ok(())
}

/// An IP address, and what stands in ConfigMaps that pods have variables and files from; a ConfigMap that nobody reads does not count.
fn addresses_elsewhere_count(cluster: &Cluster) -> Result<()> {
    for needed in [REVISION, OF_TAG] {
        let service = cluster.api().get(&format!("/api/v1/namespaces/istio-system/services/{}", needed.service))?;
        let ip = service["spec"]["clusterIP"].as_str().context("a Service has an address")?;
        let bootstrap = format!(r#"{{"xds_servers": [{{"server_uri": "{}:15010"}}]}}"#, host(needed));
        let data = json!({"data": {"XDS": format!("{}:15012", host(needed)), "bootstrap.json": bootstrap}});
        let map = object("v1", "ConfigMap", data);
        cluster.apply(&map)?;
        let file = json!({"name": "GRPC_XDS_BOOTSTRAP", "value": "/etc/xds/bootstrap.json"});
        let mounted = json!({"env": [file], "volumeMounts": [{"name": "xds", "mountPath": "/etc/xds"}]});
        let key = json!({"configMapKeyRef": {"name": "user", "key": "XDS"}});
        let by_map = "configmaps/user -n plain";
        for (named, container, volume) in [
            ("deployment.apps/user -n plain", json!({"env": [{"name": "D", "value": format!("{ip}:15012")}]}), Value::Null),
            (by_map, json!({"envFrom": [{"configMapRef": {"name": "user"}}]}), Value::Null),
            (by_map, json!({"env": [{"name": "D", "valueFrom": key}]}), Value::Null),
            (by_map, mounted.clone(), json!({"configMap": {"name": "user"}})),
            (by_map, mounted.clone(), json!({"projected": {"sources": [{"configMap": {"name": "user"}}]}})),
            ("stands in a Secret", mounted, json!({"secret": {"secretName": "user"}})),
        ] {
            let mut volume = volume;
            let volumes = if volume.is_null() {
                json!([])
            } else {
                volume["name"] = "xds".into();
                json!([volume])
            };
            let deployment = started(container, volumes);
            cluster.apply(&deployment)?;
            let output = run(cluster, needed, &[])?;
            ensure!(output.code == Some(4) && output.stderr.contains(named), "{deployment}: {}", output.transcript());
            ensure!(named != by_map || !output.stderr.contains("could not be read"), "{}", output.transcript());
            cluster.delete(&deployment)?;
        }
    }
    Ok(())
}

#[test]
fn clients_elsewhere_keep_both_unless_they_are_accepted_or_their_istiods_know_of_none() -> Result<()> {
    let cluster = cluster()?;
    for needed in [REVISION, OF_TAG] {
        for sign in SIGNS {
            let object = (sign.object)(needed);
            cluster.apply(&object).with_context(|| format!("making {object}"))?;
            // Nothing answers at the address of a pod here, so what its istiods would say is unknown.
            let output = run(&cluster, needed, &[])?;
            ensure!(output.code == Some(4), "{object}: {}", output.transcript());
            ensure!(output.stderr.contains(sign.named), "{} is not named: {}", sign.named, output.transcript());
            ensure!(output.stderr.contains("--accept-unseen-clients"), "{}", output.transcript());
            cluster.delete(&object).with_context(|| format!("ending {object}"))?;
        }
    }
    let service = "/api/v1/namespaces/istio-system/services/istiod-1-26-0";
    cluster.api().patch(service, &json!({"spec": {"type": "NodePort"}}))?;
    let output = run(&cluster, REVISION, &[])?;
    ensure!(output.code == Some(4) && output.stderr.contains("by the ports of nodes"), "{}", output.transcript());
    for needed in [OF_TAG, REVISION] {
        let output = run(&cluster, needed, &["--accept-unseen-clients"])?;
        ensure!(output.code == Some(0), "{}", output.transcript());
    }
    Ok(())
}
