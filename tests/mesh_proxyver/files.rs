//! Files as input: whole, broken, and with only some of what a verdict needs.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Output, Session, plugin};

use crate::snapshots::check;

fn with_files(files: &[(&str, String)]) -> Result<Session> {
    let session = plugin("mesh-proxyver")?;
    for (name, content) in files {
        fs::write(session.home().join(name), content).with_context(|| format!("writing {name}"))?;
    }
    Ok(session)
}

/// A mesh as small as it can be: revision `r` with Istio 1.28.2, and namespace `shop` that follows it.
pub fn mesh() -> Vec<Value> {
    let webhook = json!({
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": {"namespace": "istio-system", "name": "istiod-r", "path": "/inject"}, "caBundle": "c2F2ZWQ="},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": ["r"]}]},
    });
    let config = "policy: enabled\ndefaultTemplates: [sidecar]\ntemplates:\n  sidecar: '{{ .ProxyImage }}'\n";
    vec![
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "istio-sidecar-injector-r", "labels": {"istio.io/rev": "r"}}, "webhooks": [webhook]}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/rev": "r"}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod-r", "namespace": "istio-system",
            "labels": {"istio.io/rev": "r"}}, "spec": {"selector": {"app": "istiod", "istio.io/rev": "r"}}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "istiod-r-1",
            "namespace": "istio-system", "labels": {"kubernetes.io/service-name": "istiod-r"}},
            "endpoints": [{"conditions": {"ready": true}}]}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector-r", "namespace": "istio-system"},
            "data": {"config": config, "values": r#"{"global":{"hub":"docker.io/istio","tag":"1.28.2"}}"#}}),
    ]
}

/// A running pod of a StatefulSet of the same name, with a proxy of this image and revision.
pub fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-0"), "namespace": "shop",
        "annotations": {"istio.io/rev": "r", "sidecar.istio.io/status": r#"{"containers":["istio-proxy"],"revision":"r"}"#},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": "u", "controller": true}]},
        "spec": {"containers": [{"name": "app", "image": "app:1"}, {"name": "istio-proxy", "image": image}]},
        "status": {"phase": "Running"}})
}

pub fn stateful_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {}}, "template": {"metadata": {}, "spec": {"containers": [{"name": "app"}]}}}})
}

pub fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

pub fn fails_saying(output: &Output, words: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{}", output.transcript());
    for word in words {
        assert!(output.stderr.contains(word), "{word:?} is missing:\n{}", output.transcript());
    }
}

/// Workload, state and reasons of each item of a report.
fn states(output: &Output) -> Result<Vec<(String, String, Vec<String>)>> {
    let report = output.json()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = report["items"].as_array().context("a report has items")?;
    Ok(items
        .iter()
        .map(|item| {
            let reasons = item["reasons"].as_array().into_iter().flatten().map(text).collect();
            (text(&item["workload"]["name"]), text(&item["state"]), reasons)
        })
        .collect())
}

#[test]
fn images_are_compared_for_what_they_say() -> Result<()> {
    let cases: [(&str, &str, &str, &[&str]); 10] = [
        ("same", "docker.io/istio/proxyv2:1.28.2", "current", &[]),
        ("mirror", "localhost:5000/mirror/proxyv2:1.28.2", "current", &[]),
        ("registry", "registry.istio.io/release/proxyv2:1.28.2", "current", &[]),
        ("digest-too", "docker.io/istio/proxyv2:1.28.2@sha256:abcd", "current", &[]),
        ("older", "docker.io/istio/proxyv2:1.28.1", "stale", &["image"]),
        ("vendor", "mcr.microsoft.com/oss/istio/proxyv2:1.28.2-1", "stale", &["image"]),
        ("variant", "docker.io/istio/proxyv2:1.28.2-distroless", "stale", &["variant"]),
        ("latest", "docker.io/istio/proxyv2:latest", "stale", &["image", "version-unreadable"]),
        ("newer", "docker.io/istio/proxyv2:1.29.0", "stale", &["image", "skew-ahead"]),
        ("digest", "docker.io/istio/proxyv2@sha256:abcd", "unknown", &["version-unreadable"]),
    ];
    let mut items = mesh();
    for (name, image, ..) in cases {
        items.extend([pod(name, image), stateful_set(name)]);
    }
    let session = with_files(&[("mesh.json", list(&items))])?;
    let mut seen = states(&session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?)?;
    seen.sort();
    let mut expected: Vec<_> = cases
        .iter()
        .map(|(name, _, state, reasons)| {
            ((*name).to_owned(), (*state).to_owned(), reasons.iter().map(|reason| (*reason).to_owned()).collect::<Vec<_>>())
        })
        .collect();
    expected.sort();
    assert_eq!(seen, expected);
    Ok(())
}

#[test]
fn finished_evicted_and_terminating_pods_are_no_proxies() -> Result<()> {
    let image = "docker.io/istio/proxyv2:1.28.1";
    let mut items = mesh();
    for (name, change) in [
        ("done", json!({"status": {"phase": "Succeeded"}})),
        ("evicted", json!({"status": {"phase": "Failed", "reason": "Evicted"}})),
        ("going", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
    ] {
        let mut pod = pod(name, image);
        for (section, fields) in change.as_object().context("changes are objects")? {
            for (field, value) in fields.as_object().context("changes are objects")? {
                pod[section][field] = value.clone();
            }
        }
        items.push(pod);
    }
    items.extend([pod("alive", image), stateful_set("alive")]);
    let session = with_files(&[("mesh.json", list(&items))])?;
    let seen = states(&session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?)?;
    assert_eq!(seen, [("alive".to_owned(), "stale".to_owned(), vec!["image".to_owned()])]);
    Ok(())
}

#[test]
fn an_empty_label_is_a_label() -> Result<()> {
    let mut items = mesh();
    items.retain(|item| item["kind"] != "Namespace");
    items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/rev": ""}}}));
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.2"), stateful_set("web")]);
    let session = with_files(&[("mesh.json", list(&items))])?;
    check("empty_label", &session.run(["mesh-proxyver", "-f", "mesh.json"])?);
    Ok(())
}

#[test]
fn lists_documents_folders_and_standard_input_are_the_same() -> Result<()> {
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    let one_a_line: Vec<String> = items.iter().map(Value::to_string).collect();
    // JSON is YAML, so documents of it make a YAML stream.
    let documents = format!("# a comment\n{}", one_a_line.join("\n---\n"));
    let session = with_files(&[("mesh.json", list(&items)), ("lines.json", one_a_line.join("\n")), ("mesh.yaml", documents)])?;
    fs::create_dir(session.home().join("folder"))?;
    for (number, line) in one_a_line.iter().enumerate() {
        fs::write(session.home().join(format!("folder/{number}.json")), line)?;
    }
    fs::write(session.home().join("folder/notes.txt"), "no object")?;
    let expected = session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?.json()?;
    assert_eq!(expected["items"][0]["state"], "stale");
    for file in ["lines.json", "mesh.yaml", "folder"] {
        assert_eq!(session.run(["mesh-proxyver", "-f", file, "-o", "json"])?.json()?, expected, "{file}");
    }
    let piped = session.shell("kubectl mesh-proxyver -f - -o json < mesh.json")?;
    assert_eq!(piped.json()?, expected);
    Ok(())
}

#[test]
fn lists_of_one_kind_may_leave_it_out_of_their_items() -> Result<()> {
    let mut pods = vec![pod("web", "docker.io/istio/proxyv2:1.28.1")];
    for pod in &mut pods {
        let pod = pod.as_object_mut().context("a pod is an object")?;
        pod.remove("kind");
        pod.remove("apiVersion");
    }
    // The API server writes the kind first.
    let raw = format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":{}}}"#, Value::Array(pods));
    let mut rest = mesh();
    rest.push(stateful_set("web"));
    let session = with_files(&[("pods.json", raw), ("rest.json", list(&rest))])?;
    let seen = states(&session.run(["mesh-proxyver", "-f", "pods.json", "-f", "rest.json", "-o", "json"])?)?;
    assert_eq!(seen, [("web".to_owned(), "stale".to_owned(), vec!["image".to_owned()])]);
    Ok(())
}

#[test]
fn what_a_file_lacks_is_unknown_and_told_with_the_command_that_adds_it() -> Result<()> {
    let web = [pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")];
    for missing in ["Namespace", "MutatingWebhookConfiguration", "ConfigMap", "Service", "StatefulSet"] {
        let mut items = mesh();
        items.extend(web.clone());
        items.retain(|item| item["kind"] != missing);
        let session = with_files(&[("some.json", list(&items))])?;
        let output = session.run(["mesh-proxyver", "-f", "some.json", "-o", "json"])?;
        let report = output.json()?;
        let findings = report["findings"].as_array().context("a report has findings")?;
        let told = findings.iter().find(|finding| finding["code"] == "not-in-file").with_context(|| output.transcript())?;
        let advice = told["advice"].as_str().unwrap_or_default();
        assert!(advice.starts_with(&format!("kubectl get {}", missing.to_lowercase())), "{missing}: {advice}");
        if missing != "Service" {
            assert_eq!(report["items"][0]["state"], "unknown", "{missing}: {}", output.transcript());
        }
    }
    Ok(())
}

#[test]
fn what_is_no_file_of_kubernetes_objects_is_an_error() -> Result<()> {
    let whole = list(&mesh());
    let session = with_files(&[
        ("empty.json", String::new()),
        ("text.txt", "just some text\n".to_owned()),
        ("array.json", "[1,2]".to_owned()),
        ("other.json", r#"{"a":1}"#.to_owned()),
        ("broken.yaml", "a: [b\n".to_owned()),
        ("cut.json", whole[..whole.len() - 40].to_owned()),
        ("garbage.json", "{\"kind\":\"Pod\" nonsense}".to_owned()),
    ])?;
    for (file, words) in [
        ("empty.json", "it is empty"),
        ("text.txt", "it holds no Kubernetes objects"),
        ("array.json", "not a List"),
        ("other.json", "an object in it has no kind"),
        ("broken.yaml", "it is no YAML"),
        ("cut.json", "it was cut short"),
        ("garbage.json", "neither JSON nor YAML"),
        ("nowhere.json", "No such file"),
    ] {
        fails_saying(&session.run(["mesh-proxyver", "-f", file])?, &[file, words]);
    }
    Ok(())
}

#[test]
fn broken_items_and_duplicates_are_told_and_the_rest_is_used() -> Result<()> {
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    items.push(
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/rev": "other"}}}),
    );
    items.push(json!({"no": "kind"}));
    items.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": 7}}));
    items.push(json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}));
    let session = with_files(&[("mesh.json", list(&items))])?;
    check("broken_items", &session.run(["mesh-proxyver", "-f", "mesh.json"])?);
    Ok(())
}

#[test]
fn conditions_in_cel_are_unknown_unless_they_are_literals() -> Result<()> {
    let web = [pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")];
    for (expression, state) in [("true", "stale"), ("false", "leaving"), ("object.metadata.name != 'x'", "unknown")] {
        let mut items = mesh();
        items[0]["webhooks"][0]["matchConditions"] = json!([{"name": "c", "expression": expression}]);
        items.extend(web.clone());
        let session = with_files(&[("mesh.json", list(&items))])?;
        let seen = states(&session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?)?;
        assert_eq!(seen[0].1, state, "{expression}");
    }
    Ok(())
}

#[test]
fn injectors_that_cannot_answer_are_told_and_block() -> Result<()> {
    let web = [pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")];
    let without = |kind: &str| -> Vec<Value> { mesh().into_iter().filter(|item| item["kind"] != kind).collect() };
    let mut no_certificate = mesh();
    no_certificate[0]["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
    let mut no_endpoints = mesh();
    no_endpoints[3]["endpoints"] = json!([]);
    let mut other_service = without("Service");
    other_service
        .push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": "istio-system"}}));
    let mut ignored = no_endpoints.clone();
    ignored[0]["webhooks"][0]["failurePolicy"] = json!("Ignore");
    for (code, state, mut items) in [
        ("no-ca-bundle", "blocked", no_certificate),
        ("no-endpoints", "blocked", no_endpoints),
        ("no-service", "blocked", other_service),
        ("no-endpoints", "leaving", ignored),
    ] {
        items.extend(web.clone());
        let session = with_files(&[("mesh.json", list(&items))])?;
        let output = session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?;
        let report = output.json()?;
        assert_eq!(report["findings"][0]["code"], code, "{}", output.transcript());
        assert_eq!(report["items"][0]["state"], state, "{code}: {}", output.transcript());
        let reasons = report["items"][0]["reasons"].as_array().cloned().unwrap_or_default();
        assert!(reasons.contains(&json!("no-control-plane")), "{code}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn a_label_and_a_service_that_name_two_revisions_are_split() -> Result<()> {
    let mut items = mesh();
    items[0]["metadata"]["labels"]["istio.io/rev"] = json!("other");
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    let session = with_files(&[("mesh.json", list(&items))])?;
    let output = session.run(["mesh-proxyver", "-f", "mesh.json", "-o", "json"])?;
    let report = output.json()?;
    assert_eq!(report["findings"][0]["code"], "split", "{}", output.transcript());
    // The Service is who answers.
    assert_eq!(report["items"][0]["wanted"]["revision"], "r", "{}", output.transcript());
    Ok(())
}

#[test]
fn the_exit_code_speaks_only_when_asked() -> Result<()> {
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    let stale = list(&items);
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.2"), stateful_set("web")]);
    let current = list(&items);
    items.push(pod("what", "docker.io/istio/proxyv2@sha256:abcd"));
    items.push(stateful_set("what"));
    let unknown = list(&items);
    let session = with_files(&[("stale.json", stale), ("current.json", current), ("unknown.json", unknown)])?;
    let code = |arguments: &[&str]| -> Result<Option<i32>> { Ok(session.run(["mesh-proxyver"].iter().chain(arguments))?.code) };
    assert_eq!(code(&["-f", "stale.json"])?, Some(0));
    assert_eq!(code(&["-f", "stale.json", "--exit-code"])?, Some(3));
    assert_eq!(code(&["-f", "stale.json", "--state", "pinned", "--exit-code"])?, Some(0));
    assert_eq!(code(&["-f", "current.json", "--exit-code"])?, Some(0));
    // Unknown never counts as safe, even when only the stale are asked for.
    assert_eq!(code(&["-f", "unknown.json", "--stale", "--exit-code"])?, Some(3));
    Ok(())
}

#[test]
fn contradictions_are_wrong_usage() -> Result<()> {
    let session = with_files(&[("mesh.json", list(&mesh()))])?;
    for arguments in [
        &["--stale", "--state", "pinned"][..],
        &["-f", "mesh.json", "-w"],
        &["-f", "mesh.json", "--probe"],
        &["-f", "mesh.json", "--context", "a"],
        &["--by", "namespace", "-o", "refs"],
        &["-l", "a in (1"],
        &["--state", "fresh"],
        &["--probe=x"],
        &["-o", "xml"],
        &["--nonsense"],
    ] {
        let output = session.run(["mesh-proxyver"].iter().chain(arguments))?;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{}", output.transcript());
    }
    Ok(())
}

#[test]
fn a_closed_stdout_ends_the_command_quietly() -> Result<()> {
    let mut items = mesh();
    for number in 0..2_000 {
        let name = format!("workload-with-a-long-name-{number}");
        items.extend([pod(&name, "docker.io/istio/proxyv2:1.28.1"), stateful_set(&name)]);
    }
    let session = with_files(&[("mesh.json", list(&items))])?;
    let output = session.shell("set +o pipefail; kubectl mesh-proxyver -f mesh.json 2>errors | head -n 1; cat errors >&2")?;
    assert_eq!((output.code, output.stdout.lines().count()), (Some(0), 1), "{}", output.transcript());
    assert!(!output.stderr.contains("panic") && !output.stderr.contains("error"), "{}", output.transcript());
    Ok(())
}

#[test]
fn colours_are_only_for_terminals() -> Result<()> {
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    let session = with_files(&[("mesh.json", list(&items))])?;
    let escape = '\x1b';
    let line = "kubectl mesh-proxyver -f mesh.json";
    assert!(!session.run(["mesh-proxyver", "-f", "mesh.json"])?.stdout.contains(escape));
    assert!(!session.terminal(line)?.stdout.contains(escape), "NO_COLOR is set");
    assert!(session.run(["mesh-proxyver", "-f", "mesh.json", "--color", "always"])?.stdout.contains(escape));
    let session = session.without_env("NO_COLOR");
    assert!(session.terminal(line)?.stdout.contains(escape));
    assert!(!session.terminal(&format!("{line} --color never"))?.stdout.contains(escape));
    Ok(())
}

#[test]
fn help_names_the_command_as_it_was_typed() -> Result<()> {
    let session = plugin("mesh-proxyver")?;
    let help = session.run(["mesh-proxyver", "--help"])?;
    check("help", &help);
    Ok(())
}
