//! Meshes as other people have them: each a small file, with what is right about it. What is right follows from Istio's source, and from
//! reports that people have filed.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Output, Session, plugin};

use crate::files::{list, mesh, pod, stateful_set};

/// What is expected of workload `web`, and of all that is printed.
struct Expected<'a> {
    /// The situation.
    what: &'a str,
    /// Its state; none where it is not listed.
    state: Option<&'a str>,
    /// All of its reasons.
    reasons: &'a [&'a str],
    /// Words of the output.
    told: &'a [&'a str],
}

fn seen(session: &Session, items: &[Value]) -> Result<(Output, Value)> {
    fs::write(session.home().join("mesh.json"), list(items))?;
    let output = session.run(["mesh-proxyver", "-f", "mesh.json", "-A", "-o", "json"])?;
    let report = output.json().with_context(|| output.transcript())?;
    Ok((output, report))
}

fn hold(session: &Session, cases: Vec<(Expected<'_>, Vec<Value>)>) -> Result<()> {
    for (number, (expected, items)) in cases.into_iter().enumerate() {
        let (output, report) = seen(session, &items)?;
        let none = Vec::new();
        let listed = report["items"].as_array().unwrap_or(&none);
        let web = listed.iter().find(|item| item["workload"]["name"] == "web");
        let state = web.and_then(|web| web["state"].as_str());
        let reasons: Vec<&str> =
            web.into_iter().flat_map(|web| web["reasons"].as_array()).flatten().filter_map(Value::as_str).collect();
        let what = expected.what;
        assert_eq!((state, reasons.as_slice()), (expected.state, expected.reasons), "{what}: {}", output.transcript());
        for word in expected.told {
            assert!(output.stdout.contains(word), "{what}: {word:?} is missing: {}", output.transcript());
        }
        // Whatever the order of the objects, the answer is one. One case of each table shows it.
        if number > 0 {
            continue;
        }
        let reversed: Vec<Value> = items.into_iter().rev().collect();
        assert_eq!(seen(session, &reversed)?.1, report, "{what}: in another order");
    }
    Ok(())
}

fn right<'a>(what: &'a str, state: &'a str, reasons: &'a [&'a str], told: &'a [&'a str]) -> Expected<'a> {
    Expected { what, state: Some(state), reasons, told }
}

/// The mesh, changed, with a running StatefulSet `web` of this image.
fn with(image: &str, change: impl FnOnce(&mut Vec<Value>)) -> Vec<Value> {
    let mut items = mesh();
    change(&mut items);
    items.extend([pod("web", image), stateful_set("web")]);
    items
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "istio-system"}, "data": data})
}

fn istiod(env: Value, volumes: Value, mounts: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "istiod-r", "namespace": "istio-system", "labels": {"app": "istiod", "istio.io/rev": "r"}},
        "spec": {"template": {"spec": {"volumes": volumes, "containers": [
            {"name": "discovery", "image": "docker.io/istio/pilot:1.28.2", "env": env, "volumeMounts": mounts}]}}},
        "status": {"readyReplicas": 1}})
}

/// The injector's ConfigMap with this template for the proxy and this one beside it.
fn templates(items: &mut [Value], sidecar: &str, more: &str) {
    let config =
        json!({"policy": "enabled", "defaultTemplates": ["sidecar", "more"], "templates": {"sidecar": sidecar, "more": more}});
    items[4]["data"]["config"] = config.to_string().into();
}

const SAME: &str = "docker.io/istio/proxyv2:1.28.2";
const OLDER: &str = "docker.io/istio/proxyv2:1.28.1";
const DEBUG: &str = "docker.io/istio/proxyv2:1.28.2-debug";

#[test]
fn the_mesh_configuration_is_the_one_that_istiod_uses() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let debug = || json!({"mesh": "defaultConfig: {image: {imageType: debug}}"});
    let mounted = |config_map: &str| {
        let volumes = json!([{"name": "c", "configMap": {"name": config_map}}, {"name": "t", "emptyDir": {}}]);
        istiod(json!([]), volumes, json!([{"name": "t", "mountPath": "/tmp"}, {"name": "c", "mountPath": "/etc/istio/config/"}]))
    };
    let shared = || istiod(json!([{"name": "SHARED_MESH_CONFIG", "value": "ours"}]), json!([]), json!([]));
    let cases = vec![
        (right("by its name", "current", &[], &[]), with(DEBUG, |items| items.push(config_map("istio-r", debug())))),
        (
            right("another revision's", "stale", &["variant"], &[]),
            with(DEBUG, |items| items.push(config_map("istio-q", debug()))),
        ),
        (
            right("mounted under another name", "current", &[], &[]),
            with(DEBUG, |items| {
                items.extend([mounted("ours"), config_map("ours", debug()), config_map("istio-r", json!({"mesh": ""}))])
            }),
        ),
        (right("shared", "current", &[], &[]), with(DEBUG, |items| items.extend([shared(), config_map("ours", debug())]))),
        (
            right("shared, and the own one is stronger", "stale", &["variant"], &[]),
            with(DEBUG, |items| {
                let own = json!({"mesh": "defaultConfig: {image: {imageType: distroless}}"});
                items.extend([shared(), config_map("ours", debug()), config_map("istio-r", own)]);
            }),
        ),
        (
            right("not named as shared", "stale", &["variant"], &[]),
            with(DEBUG, |items| items.extend([istiod(json!([]), json!([]), json!([])), config_map("ours", debug())])),
        ),
        (
            right("snake case, and a key twice", "current", &[], &[]),
            with(DEBUG, |items| {
                items.push(config_map("istio-r", json!({"mesh": "rootNamespace: a\nrootNamespace: b\ndefaultConfig: {image: {image_type: debug}, concurrency: '2'}"})));
            }),
        ),
        (
            right("of another type", "unknown", &["injector-config"], &["no mesh configuration"]),
            with(SAME, |items| items.push(config_map("istio-r", json!({"mesh": "rootNamespace: [a]"})))),
        ),
    ];
    hold(&session, cases)
}

#[test]
fn several_that_could_be_meant_are_a_doubt_that_names_them() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let labelled = |items: &mut Vec<Value>, names: &[&str]| {
        let map = items.remove(4);
        for (number, name) in names.iter().enumerate() {
            let mut copy = map.clone();
            copy["metadata"] = json!({"name": name, "namespace": "istio-system", "labels": {"istio.io/rev": "r"}});
            copy["data"]["values"] =
                json!({"global": {"hub": "docker.io/istio", "tag": format!("1.28.{}", 2 - number)}}).to_string().into();
            items.push(copy);
        }
    };
    let by_address = |items: &mut Vec<Value>| {
        items[0]["webhooks"][0]["clientConfig"] = json!({"url": "https://istiod.example.org/inject"});
        items.retain(|item| item["kind"] != "EndpointSlice" && item["kind"] != "Service");
        items.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "x"}}));
    };
    let elsewhere = |namespace: &str, tag: &str| {
        let mut copy = mesh().remove(4);
        copy["metadata"]["namespace"] = namespace.into();
        copy["data"]["values"] = json!({"global": {"hub": "docker.io/istio", "tag": tag}}).to_string().into();
        copy
    };
    let cases = vec![
        (right("one by its label", "current", &[], &[]), with(SAME, |items| labelled(items, &["ours"]))),
        (
            right("two by their label", "unknown", &["injector-config"], &["one, two"]),
            with(SAME, |items| labelled(items, &["one", "two"])),
        ),
        (
            right("a copy beside the one of its name", "current", &[], &[]),
            with(SAME, |items| labelled(items, &["istio-sidecar-injector-r", "istio-sidecar-injector-r-backup"])),
        ),
        (right("at an address", "current", &[], &[]), with(SAME, by_address)),
        (
            right(
                "at an address, and two namespaces have its configuration",
                "unknown",
                &["injector-config"],
                &["external", "istio-system"],
            ),
            with(SAME, |items| {
                by_address(items);
                items.push(elsewhere("external", "1.27.0"));
            }),
        ),
    ];
    hold(&session, cases)
}

#[test]
fn only_what_a_template_says_of_the_proxy_counts() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let proxy = "spec:\n  containers:\n  - name: istio-proxy\n    image: \"{{ .ProxyImage }}\"\n";
    let composed = "spec:\n  containers:\n  - name: istio-proxy\n    image: \"{{ .Values.global.hub }}/{{ .Values.global.proxy.image }}:{{ .Values.global.tag }}\"\n";
    let of = |sidecar: &str, more: &str, image: &str| {
        with(image, |items| {
            items[4]["data"]["values"] =
                json!({"global": {"hub": "docker.io/istio", "tag": "1.28.2", "proxy": {"image": "proxyv2"}}}).to_string().into();
            templates(items, sidecar, more);
        })
    };
    let cases = vec![
        (
            right("another container beside it", "current", &[], &[]),
            of(
                proxy,
                "spec:\n  initContainers:\n  - name: wait\n    image: busybox\n  containers:\n  - name: istio-proxy\n    env: []\n",
                SAME,
            ),
        ),
        (
            right("a comment with an image", "current", &[], &[]),
            of(
                proxy,
                "spec:\n  containers:\n  - name: istio-proxy # image: mine:1\n    {{/* image: mine:2 */}}\n    resources: {}\n",
                SAME,
            ),
        ),
        (
            right("an image of its own", "stale", &["image", "version-unreadable"], &["mine:1"]),
            of(proxy, "spec: {containers: [{name: istio-proxy, image: 'mine:latest'}]}", "docker.io/istio/mine:1"),
        ),
        (
            right("an image by a rule of its own", "unknown", &["injector-config"], &["template of the mesh's own"]),
            of(proxy, "spec: {containers: [{name: istio-proxy, image: 'mine:{{ .Values.global.tag }}'}]}", SAME),
        ),
        (right("composed from the values", "current", &[], &[]), of(composed, "", SAME)),
        (right("composed from the values, and older", "stale", &["image"], &[]), of(composed, "", OLDER)),
    ];
    hold(&session, cases)
}

#[test]
fn whoever_leads_to_an_istiod_injects() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let renamed = |items: &mut Vec<Value>| {
        items[0]["metadata"] = json!({"name": "mine"});
        items[0]["webhooks"][0]["name"] = json!("pods.example.org");
    };
    let twice = |items: &mut Vec<Value>, name: &str| {
        let mut copy = items[0].clone();
        copy["metadata"]["name"] = json!(name);
        items.push(copy);
    };
    let cases = vec![
        (right("by any name", "current", &[], &["mine"]), with(SAME, renamed)),
        (
            right("by any name, at a path with parameters", "stale", &["image"], &["mine"]),
            with(OLDER, |items| {
                renamed(items);
                items[0]["webhooks"][0]["clientConfig"]["service"]["path"] = json!("/inject/cluster/c/net/n");
            }),
        ),
        (
            right("somebody else's at istiod's path", "leaving", &["no-injector"], &[]),
            with(SAME, |items| {
                renamed(items);
                items[0]["webhooks"][0]["clientConfig"]["service"] =
                    json!({"namespace": "other", "name": "agent", "path": "/inject"});
            }),
        ),
        (
            right("two to one istiod", "current", &[], &["injectors-overlap", "zweite"]),
            with(SAME, |items| twice(items, "zweite")),
        ),
        (
            right("two, of which one has nobody to answer", "blocked", &["no-control-plane"], &["refused"]),
            with(SAME, |items| {
                twice(items, "zweite");
                let last = items.len() - 1;
                items[last]["webhooks"][0]["clientConfig"]["service"]["name"] = json!("gone");
            }),
        ),
        (
            right("without caBundle", "blocked", &["no-control-plane"], &["its istiod writes the caBundle"]),
            with(SAME, |items| items[0]["webhooks"][0]["clientConfig"]["caBundle"] = json!("")),
        ),
    ];
    hold(&session, cases)
}

#[test]
fn a_control_plane_of_another_cluster_is_there() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod-r", "namespace": "istio-system"}, "spec": spec});
    let remote = |items: &mut Vec<Value>, spec: Value| items[2] = service(spec);
    let cases = vec![
        (right("without a selector and labels", "current", &[], &[]), with(SAME, |items| remote(items, json!({})))),
        (
            right("an external name", "stale", &["image"], &[]),
            with(OLDER, |items| {
                remote(items, json!({"type": "ExternalName", "externalName": "istiod.example.org"}));
                items.remove(3);
            }),
        ),
        (
            right("no configuration of it here", "unknown", &["injector-config"], &["runs outside of this cluster"]),
            with(SAME, |items| {
                remote(items, json!({}));
                items[4] = config_map("other", json!({"a": "b"}));
            }),
        ),
        (right("a revision of which nothing is known is not gone", "stale", &["revision", "image"], &[]), {
            let mut items = with("docker.io/istio/proxyv2:1.27.0", |items| remote(items, json!({})));
            items[5]["metadata"]["annotations"]["istio.io/rev"] = json!("q");
            items
        }),
        (
            right(
                "endpoints are missing in the file",
                "current",
                &[],
                &["kubectl get endpointslices.discovery.k8s.io -A -o json"],
            ),
            with(SAME, |items| {
                remote(items, json!({}));
                items.remove(3);
            }),
        ),
    ];
    hold(&session, cases)
}

#[test]
fn what_istiod_refuses_is_refused_by_its_version() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let annotated = |tag: &str, key: &str, value: &str| {
        let mut items = with(&format!("docker.io/istio/proxyv2:{tag}"), |items| {
            items[4]["data"]["values"] = json!({"global": {"hub": "docker.io/istio", "tag": tag}}).to_string().into();
        });
        items[6]["spec"]["template"]["metadata"]["annotations"] = json!({key: value});
        items
    };
    const PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
    let cases = vec![
        (right("a port", "current", &[], &[]), annotated("1.28.2", PORTS, "80, 443")),
        (
            right("no port", "blocked", &["injector-config"], &[PORTS, "change in the pod template"]),
            annotated("1.28.2", PORTS, "http"),
        ),
        (
            right("no quantity", "blocked", &["injector-config"], &["proxyCPU"]),
            annotated("1.28.2", "sidecar.istio.io/proxyCPU", "much"),
        ),
        (
            right("a value of another type", "blocked", &["injector-config"], &["concurrency"]),
            annotated("1.28.2", "proxy.istio.io/config", "concurrency: many"),
        ),
        (
            right("a key twice", "current", &[], &[]),
            annotated("1.28.2", "proxy.istio.io/config", "concurrency: 1\nconcurrency: '2'"),
        ),
        (right("a port of Istio's own, then", "current", &[], &[]), annotated("1.30.0", "prometheus.io/port", "15090")),
        (
            right("a port of Istio's own, now", "blocked", &["injector-config"], &["prometheus.io/port"]),
            annotated("1.31.0", "prometheus.io/port", "15090"),
        ),
        (right("a port of the application's", "current", &[], &[]), annotated("1.31.0", "prometheus.io/port", "9090")),
    ];
    hold(&session, cases)
}

#[test]
fn namespaces_are_told_what_keeps_proxies_out_or_useless() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let excluding = |operator: &'static str| {
        move |items: &mut Vec<Value>| {
            let terms = &mut items[0]["webhooks"][0]["namespaceSelector"]["matchExpressions"];
            if let Some(terms) = terms.as_array_mut() {
                terms.push(json!({"key": "team", "operator": operator}));
            }
        }
    };
    let labelled = |items: &mut Vec<Value>, labels: Value| items[1]["metadata"]["labels"] = labels;
    let selectors = |items: &mut Vec<Value>| {
        items.push(config_map("istio-r", json!({"mesh": "discovery_selectors: [{match_labels: {mesh: 'on'}}]"})));
    };
    let cases = vec![
        (
            right(
                "by a label",
                "leaving",
                &["no-injector"],
                &["excludes the namespace by its label team=a", "label namespace shop team-"],
            ),
            with(SAME, |items| {
                excluding("DoesNotExist")(items);
                labelled(items, json!({"istio.io/rev": "r", "team": "a"}));
            }),
        ),
        (
            right("for want of a label", "leaving", &["no-injector"], &["for want of the label team"]),
            with(SAME, excluding("Exists")),
        ),
        (
            right("disabled", "leaving", &["no-injector"], &["label namespace shop istio.io/rev-"]),
            with(SAME, |items| {
                let terms = json!([{"key": "istio.io/rev", "operator": "In", "values": ["r"]}, {"key": "istio-injection", "operator": "DoesNotExist"}]);
                items[0]["webhooks"][0]["namespaceSelector"]["matchExpressions"] = terms;
                labelled(items, json!({"istio.io/rev": "r", "istio-injection": "disabled"}));
            }),
        ),
        (
            right("not discovered", "stale", &["image", "not-discovered"], &["not-discovered", "label namespace shop mesh=on"]),
            with(OLDER, selectors),
        ),
        (
            right("ambient and sidecars", "current", &[], &["ambient-and-injection"]),
            with(SAME, |items| labelled(items, json!({"istio.io/rev": "r", "istio.io/dataplane-mode": "ambient"}))),
        ),
    ];
    hold(&session, cases)?;
    let discovered = with(OLDER, |items| {
        selectors(items);
        labelled(items, json!({"istio.io/rev": "r", "mesh": "on"}));
    });
    let (output, _) = seen(&session, &discovered)?;
    assert!(!output.stdout.contains("not-discovered"), "{}", output.transcript());
    Ok(())
}

#[test]
fn pods_of_one_owner_that_differ_are_told_apart() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let of_workflow = |name: &str, image: Option<&str>, annotations: Value| {
        let mut pod = pod(name, image.unwrap_or_default());
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "web", "uid": "u", "controller": true}]);
        pod["metadata"]["annotations"] = annotations;
        if image.is_none() {
            pod["spec"]["containers"] = json!([{"name": "app", "image": "app:1"}]);
        }
        pod
    };
    let injected = json!({"istio.io/rev": "r", "sidecar.istio.io/status": "{\"containers\":[\"istio-proxy\"]}"});
    let mut items = mesh();
    items.extend([
        of_workflow("b", Some(OLDER), injected.clone()),
        of_workflow("a", None, json!({"sidecar.istio.io/inject": "false"})),
        of_workflow("c", Some(SAME), injected),
    ]);
    hold(&session, vec![(right("a Workflow", "blocked", &["image", "owner"], &["1.28.2"]), items.clone())])?;
    let (output, report) = seen(&session, &items)?;
    assert_eq!(report["items"][0]["proxies"], 2, "{}", output.transcript());
    let by_pod = session.run(["mesh-proxyver", "-f", "mesh.json", "-A", "--by", "pod", "-o", "json"])?;
    let pods: Vec<(String, String)> = by_pod.json()?["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| (item["pod"].as_str().unwrap_or_default().to_owned(), item["state"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let expected = [("b-0", "blocked"), ("c-0", "current")].map(|(pod, state)| (pod.to_owned(), state.to_owned()));
    assert_eq!(pods, expected, "{}", by_pod.transcript());
    Ok(())
}

#[test]
fn what_stands_on_nodes_has_verdicts_and_skew_of_its_own() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let node = |name: &str, label: (&str, &str), container: (&str, &str)| {
        let template = json!({"metadata": {"labels": {label.0: label.1}}, "spec": {"containers": [{"name": container.0, "image": container.1}]}});
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"}, "spec": template["spec"]});
        pod["metadata"] = json!({"name": format!("{name}-x"), "namespace": "nodes", "labels": {label.0: label.1},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": name, "controller": true}]});
        let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {"selector": {"matchLabels": {label.0: label.1}}, "template": template},
            "metadata": {"name": name, "namespace": "nodes", "labels": {"istio.io/rev": "r"}}});
        let mut items = mesh();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nodes"}});
        items.extend([namespace, pod, set]);
        items
    };
    let ztunnel = |tag: &str| node("web", ("app", "ztunnel"), ("istio-proxy", &format!("docker.io/istio/ztunnel:{tag}")));
    let cni =
        |tag: &str| node("web", ("k8s-app", "istio-cni-node"), ("install-cni", &format!("docker.io/istio/install-cni:{tag}")));
    let cases = vec![
        (right("ztunnel of its own minor version", "current", &[], &["\"ztunnel\""]), ztunnel("1.28.0")),
        (right("ztunnel behind", "current", &["skew-behind"], &[]), ztunnel("1.24.0")),
        (right("ztunnel ahead", "current", &["skew-ahead"], &[]), ztunnel("1.29.0")),
        (right("the CNI plugin one ahead", "current", &[], &["\"istio-cni\""]), cni("1.29.0")),
        (right("the CNI plugin two behind", "current", &["skew-behind"], &[]), cni("1.26.0")),
    ];
    hold(&session, cases)?;
    // Others install their plugins by a container of the same name.
    let (output, report) = seen(&session, &node("web", ("k8s-app", "calico-node"), ("install-cni", "calico/cni:v3")))?;
    assert_eq!(report["items"], json!([]), "{}", output.transcript());
    Ok(())
}

#[test]
fn gateways_that_older_versions_have_made_are_known_by_their_owner() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let made = |name_label: &str, image: &str, owner: Value| {
        let labels = json!({name_label: "g", "sidecar.istio.io/inject": "false"});
        let spec = json!({"containers": [{"name": "istio-proxy", "image": image}]});
        let mut pod_labels = labels.clone();
        pod_labels["pod-template-hash"] = json!("abc");
        let mut items = mesh();
        items.extend([
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "ownerReferences": owner},
                "spec": {"selector": {"matchLabels": {name_label: "g"}}, "template": {"metadata": {"labels": labels, "annotations": {"istio.io/rev": "r"}}, "spec": spec}}}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-abc-1", "namespace": "shop", "labels": pod_labels, "annotations": {"istio.io/rev": "r"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "controller": true}]}, "spec": spec, "status": {"phase": "Running"}}),
        ]);
        items
    };
    let by_gateway = || json!([{"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "Gateway", "name": "g"}]);
    let cases = vec![
        (right("of 1.20", "current", &[], &["gateway-api"]), made("istio.io/gateway-name", SAME, by_gateway())),
        (right("of 1.23", "current", &[], &["gateway-api"]), made("gateway.networking.k8s.io/gateway-name", SAME, by_gateway())),
        (
            right("older than its control plane", "blocked", &["image", "owner"], &["gateway-api"]),
            made("gateway.networking.k8s.io/gateway-name", OLDER, by_gateway()),
        ),
    ];
    hold(&session, cases)
}

#[test]
fn an_image_that_nobody_fills_in_and_kinds_of_other_groups_are_told() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let mut auto = mesh();
    let mut web = stateful_set("web");
    web["spec"]["template"]["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "auto"}]);
    auto.push(web);
    auto[1]["metadata"]["labels"] = json!({"istio-injection": "disabled"});
    let nobody = Expected {
        what: "image auto",
        state: None,
        reasons: &[],
        told: &["image-auto", "statefulset.apps/web -n shop", "istio-injection=disabled"],
    };
    let mut kruise = mesh();
    let mut of_kruise = pod("web", OLDER);
    of_kruise["metadata"]["ownerReferences"][0]["apiVersion"] = json!("apps.kruise.io/v1beta1");
    kruise.push(of_kruise);
    let mut config = mesh();
    let mut of_config = pod("web", OLDER);
    of_config["metadata"]["annotations"]["openshift.io/deployment-config.name"] = json!("web");
    of_config["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ReplicationController", "name": "web-1", "controller": true}]);
    config.push(of_config);
    let cases = vec![
        (nobody, auto),
        (right("of OpenKruise", "blocked", &["image", "owner"], &["statefulset.apps.kruise.io/web"]), kruise),
        (right("of a DeploymentConfig", "blocked", &["image", "owner"], &["oc rollout latest dc/web -n shop"]), config),
    ];
    hold(&session, cases)?;
    let table = session.run(["mesh-proxyver", "-f", "mesh.json", "-A"])?;
    assert!(table.stdout.contains("deploymentconfig/web"), "{}", table.transcript());
    Ok(())
}

#[test]
fn one_command_collects_all_that_a_file_lacks() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let (output, report) = seen(&session, &[pod("web", SAME)])?;
    let findings = report["findings"].as_array().context("a report has findings")?;
    let lacking: Vec<&Value> = findings.iter().filter(|finding| finding["code"] == "not-in-file").collect();
    assert!(lacking.len() > 3, "{}", output.transcript());
    for finding in &lacking {
        assert_eq!(finding["advice"], lacking[0]["advice"], "{}", output.transcript());
        let subject = finding["subject"].as_str().unwrap_or_default();
        assert!(finding["advice"].as_str().is_some_and(|advice| advice.contains(subject)), "{}", output.transcript());
    }
    Ok(())
}
