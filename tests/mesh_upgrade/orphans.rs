//! `complete` never orphans: each sort of user of a revision, alone and hidden, keeps it from being removed, and is named.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Revision, Session, Workload, plugin};

/// One user of revision 1-26-0.
struct User {
    what: &'static str,
    /// What the refusal names.
    named: &'static str,
    make: fn(&Cluster) -> Result<()>,
    end: fn(&Cluster) -> Result<()>,
}

const OLD: &str = "1-26-0";

fn follower(cluster: &Cluster, workload: &Workload) -> Result<()> {
    // It came while its namespace followed the old revision, and nobody has restarted it since.
    let namespace = cluster.namespace("moved", Follows::Revision(OLD))?;
    namespace.run(workload)?;
    cluster.namespace("moved", Follows::Revision("1-28-2")).map(|_| ())
}

fn end_of(cluster: &Cluster, workload: &Workload) -> Result<()> {
    let namespace = cluster.namespace_named("moved");
    namespace.delete(workload)?;
    cluster.wait("its pods to go", Duration::from_secs(60), || Ok(namespace.pods()?.is_empty().then_some(())))
}

fn labelled(workload: Workload) -> Workload {
    workload.pod_labels(json!({"istio.io/rev": OLD, "sidecar.istio.io/inject": "true"}))
}

fn put(cluster: &Cluster, object: Value) -> Result<()> {
    cluster.apply(&object).map(|_| ())
}

fn take(cluster: &Cluster, kind: &str, name: &str) -> Result<()> {
    cluster.kubectl(["delete", kind, name, "-n", "plain", "--ignore-not-found"]).map(|_| ())
}

fn job_template() -> Value {
    json!({
        "metadata": {"labels": {"istio.io/rev": OLD, "sidecar.istio.io/inject": "true"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "pause"}]},
    })
}

const USERS: &[User] = &[
    User {
        what: "a Deployment that nobody has restarted",
        named: "deployment.apps/web -n moved",
        make: |cluster| follower(cluster, &Workload::deployment("web")),
        end: |cluster| end_of(cluster, &Workload::deployment("web")),
    },
    User {
        what: "a pod of nobody",
        named: "pod/lonely -n moved",
        make: |cluster| follower(cluster, &Workload::pod("lonely")),
        end: |cluster| end_of(cluster, &Workload::pod("lonely")),
    },
    User {
        what: "a pod that goes and is not gone",
        named: "pods/going -n moved",
        make: |cluster| {
            follower(cluster, &Workload::pod("going"))?;
            let path = "/api/v1/namespaces/moved/pods/going";
            cluster.api().patch(path, &json!({"metadata": {"finalizers": ["example.org/hold"]}}))?;
            cluster.api().delete(path).map(|_| ())
        },
        end: |cluster| {
            let path = "/api/v1/namespaces/moved/pods/going";
            cluster.api().patch(path, &json!({"metadata": {"finalizers": null}}))?;
            cluster.wait("the pod to go", Duration::from_secs(60), || Ok(cluster.api().find(path)?.is_none().then_some(())))
        },
    },
    User {
        what: "a Deployment at zero replicas",
        named: "deployment.apps/asleep -n plain",
        make: |cluster| {
            cluster.namespace_named("plain").create(&labelled(Workload::deployment("asleep").replicas(0))).map(|_| ())
        },
        end: |cluster| take(cluster, "deployment", "asleep"),
    },
    User {
        what: "a StatefulSet at zero replicas",
        named: "statefulset.apps/asleep -n plain",
        make: |cluster| {
            cluster.namespace_named("plain").create(&labelled(Workload::stateful_set("asleep").replicas(0))).map(|_| ())
        },
        end: |cluster| take(cluster, "statefulset", "asleep"),
    },
    User {
        what: "a CronJob",
        named: "cronjobs/nightly -n plain",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "plain"},
                    "spec": {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": {"template": job_template()}}},
                }),
            )
        },
        end: |cluster| take(cluster, "cronjob", "nightly"),
    },
    User {
        what: "a suspended Job",
        named: "jobs/waiting -n plain",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "waiting", "namespace": "plain"},
                    "spec": {"suspend": true, "template": job_template()},
                }),
            )
        },
        end: |cluster| take(cluster, "job", "waiting"),
    },
    User {
        what: "an empty namespace",
        named: "namespaces/empty",
        make: |cluster| cluster.namespace("empty", Follows::Revision(OLD)).map(|_| ()),
        end: |cluster| cluster.namespace("empty", Follows::Revision("1-28-2")).map(|_| ()),
    },
    User {
        what: "a tag that nobody follows",
        named: "tag lonely",
        make: |cluster| cluster.set_tag("lonely", &Revision::of(IstioVersion::V1_26_0)),
        end: |cluster| cluster.istioctl(IstioVersion::V1_28_2, ["tag", "remove", "lonely", "-y"]).map(|_| ()),
    },
    User {
        what: "a tag's Service that was left behind",
        named: "tag halved",
        make: |cluster| {
            // The newer istioctl makes a Service for every tag.
            cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", "halved", "--revision", OLD, "-y"])?;
            cluster.kubectl(["delete", "mutatingwebhookconfiguration", "istio-revision-tag-halved"]).map(|_| ())
        },
        end: |cluster| cluster.kubectl(["delete", "service", "-n", "istio-system", "-l", "istio.io/tag=halved"]).map(|_| ()),
    },
    User {
        what: "the default validator",
        named: "validatingwebhookconfigurations/istiod-default-validator",
        make: |cluster| validator(cluster, "istiod-1-26-0"),
        end: |cluster| validator(cluster, "istiod-1-28-2"),
    },
    User {
        what: "a Gateway",
        named: "gateway/entry -n plain",
        make: |cluster| {
            // A class that nobody here makes a Deployment for.
            put(
                cluster,
                json!({
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                    "metadata": {"name": "entry", "namespace": "plain", "labels": {"istio.io/rev": OLD}},
                    "spec": {"gatewayClassName": "somebody-elses", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
                }),
            )
        },
        end: |cluster| take(cluster, "gateways.gateway.networking.k8s.io", "entry"),
    },
    User {
        what: "a route",
        named: "httproutes/way -n plain",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                    "metadata": {"name": "way", "namespace": "plain", "labels": {"istio.io/rev": OLD}},
                    "spec": {"hostnames": ["example.org"]},
                }),
            )
        },
        end: |cluster| take(cluster, "httproute", "way"),
    },
    User {
        what: "configuration for it alone",
        named: "virtualservices/only -n plain",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                    "metadata": {"name": "only", "namespace": "plain", "labels": {"istio.io/rev": OLD}},
                    "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]},
                }),
            )
        },
        end: |cluster| take(cluster, "virtualservice", "only"),
    },
    User {
        what: "ztunnel",
        named: "daemonset.apps/ztunnel -n plain",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ztunnel", "namespace": "plain", "labels": {"app": "ztunnel"}},
                    "spec": {"selector": {"matchLabels": {"app": "ztunnel"}}, "template": {
                        "metadata": {"labels": {"app": "ztunnel"}},
                        "spec": {
                            "nodeSelector": {"example.org/none": "here"},
                            "containers": [{"name": "istio-proxy", "image": "ztunnel:1.28.2", "env": [
                                {"name": "XDS_ADDRESS", "value": "istiod-1-26-0.istio-system.svc:15012"},
                            ]}],
                        },
                    }},
                }),
            )
        },
        end: |cluster| take(cluster, "daemonset", "ztunnel"),
    },
    User {
        what: "a webhook of somebody else",
        named: "validatingwebhookconfigurations/house-rules",
        make: |cluster| {
            put(
                cluster,
                json!({
                    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                    "metadata": {"name": "house-rules", "labels": {"istio.io/rev": "house"}},
                    "webhooks": [{
                        "name": "rules.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
                        "clientConfig": {"service": {"name": "istiod-1-26-0", "namespace": "istio-system", "path": "/validate"}},
                        "rules": [{"apiGroups": ["example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["rules"]}],
                    }],
                }),
            )
        },
        end: |cluster| cluster.kubectl(["delete", "validatingwebhookconfiguration", "house-rules"]).map(|_| ()),
    },
];

/// Points the default validator to another Service, and leaves its label.
fn validator(cluster: &Cluster, service: &str) -> Result<()> {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istiod-default-validator";
    let mut object = cluster.api().get(path)?;
    for entry in object["webhooks"].as_array_mut().context("it has entries")? {
        entry["clientConfig"]["service"]["name"] = service.into();
    }
    cluster.api().replace(path, &object).map(|_| ())
}

fn remove(session: &Session) -> Result<support::Output> {
    session.run(["mesh-upgrade", "complete", "--remove", OLD, "--yes"])
}

#[test]
fn every_sort_of_user_keeps_a_revision() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    cluster.namespace("plain", Follows::Nothing)?;
    let steady = cluster.namespace("steady", Follows::Revision("1-28-2"))?;
    steady.run(&Workload::deployment("calm"))?;
    let session = plugin("mesh-upgrade")?.on(&cluster).time_limit(Duration::from_secs(120));
    let deployment = "/apis/apps/v1/namespaces/istio-system/deployments/istiod-1-26-0";
    let uid = cluster.api().get(deployment)?["metadata"]["uid"].clone();
    for user in USERS {
        (user.make)(&cluster).with_context(|| format!("making {}", user.what))?;
        let output = remove(&session)?;
        ensure!(output.code == Some(4), "{}: {}", user.what, output.transcript());
        ensure!(output.stderr.contains(user.named), "{} is not named: {}", user.what, output.transcript());
        ensure!(!output.stderr.contains("steady"), "whoever does not use it is not named: {}", output.transcript());
        ensure!(cluster.api().get(deployment)?["metadata"]["uid"] == uid, "{}: it is still there", user.what);
        (user.end)(&cluster).with_context(|| format!("ending {}", user.what))?;
    }
    // Nobody is left: then it goes.
    let output = remove(&session)?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    Ok(())
}
