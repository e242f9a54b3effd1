//! Files that are not what they seem: cut short, of another encoding, made to exhaust whoever reads them, or with words of a
//! shell where names belong.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Output, Session, plugin};

use crate::files::{fails_saying, list, mesh, pod, stateful_set};

fn with_bytes(files: &[(&str, Vec<u8>)]) -> Result<Session> {
    let session = plugin("mesh-proxyver")?;
    for (name, content) in files {
        fs::write(session.home().join(name), content).with_context(|| format!("writing {name}"))?;
    }
    Ok(session)
}

/// A mesh with one stale workload.
fn stale() -> Vec<Value> {
    let mut items = mesh();
    items.extend([pod("web", "docker.io/istio/proxyv2:1.28.1"), stateful_set("web")]);
    items
}

fn report(session: &Session, file: &str) -> Result<Value> {
    let output = session.run(["mesh-proxyver", "-A", "-f", file, "-o", "json"])?;
    ensure!(output.code == Some(0), "{}", output.transcript());
    output.json()
}

fn finding<'a>(report: &'a Value, code: &str) -> Result<&'a Value> {
    let findings = report["findings"].as_array().context("a report has findings")?;
    findings.iter().find(|finding| finding["code"] == code).with_context(|| format!("{code} is not among {findings:?}"))
}

/// As kubectl prints YAML: keys sorted, in blocks, and quoted only what would not be text.
fn kubectl_yaml(session: &Session, items: &[Value]) -> Result<Output> {
    fs::write(session.home().join("in.json"), list(items))?;
    // It sets a label that every object has already, and needs no server for that.
    session.run(["annotate", "--local", "-f", "in.json", "-o", "yaml", "printed=by-kubectl"])
}

#[test]
fn foreign_files_are_called_what_they_are() -> Result<()> {
    let text = list(&stale());
    let utf16 = |mark: bool, turn: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(text.encode_utf16()).flat_map(turn).collect()
    };
    let latin1 = format!("{}\n# caf", text.replace("sidecar-injector.istio.io\"", "x\""));
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("powershell.json", utf16(true, u16::to_le_bytes), &["UTF-16", "UTF-8"]),
        ("big-endian.json", utf16(true, u16::to_be_bytes), &["UTF-16"]),
        ("no-mark.json", utf16(false, u16::to_le_bytes), &["UTF-16"]),
        ("packed.json", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0], &["gzip", "gunzip"]),
        ("login.html", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>".to_vec(), &["HTML page"]),
        ("chart.yaml", b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}\n".to_vec(), &["line 4", "template"]),
        ("latin1.yaml", b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: caf\xe9\n".to_vec(), &["line 4", "not UTF-8", "0xe9"]),
        ("nul.yaml", b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\0b\n".to_vec(), &["line 4", "U+0000"]),
        ("mixed.json", latin1.into_bytes(), &["line 2", "between objects"]),
    ];
    let files: Vec<(&str, Vec<u8>)> = cases.iter().map(|(name, content, _)| (*name, content.clone())).collect();
    let session = with_bytes(&files)?;
    for (name, _, words) in &cases {
        let mut all = vec![*name];
        all.extend(*words);
        fails_saying(&session.run(["mesh-proxyver", "-f", name])?, &all);
    }
    Ok(())
}

#[test]
fn what_was_cut_short_is_named_with_its_place() -> Result<()> {
    let text = list(&stale()).replace("},{", "},\n{");
    let yaml = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: shop\n".to_owned();
    let session = with_bytes(&[("cut.json", text.as_bytes()[..text.len() / 2].to_vec()), ("cut.yaml", yaml.into_bytes())])?;
    fails_saying(&session.run(["mesh-proxyver", "-f", "cut.json"])?, &["cut.json", "it was cut short", "line ", "byte "]);
    fails_saying(&session.run(["mesh-proxyver", "-f", "cut.yaml"])?, &["cut.yaml", "no kind behind them", "it was cut short"]);
    Ok(())
}

#[test]
fn a_list_of_which_the_server_has_more_makes_unknown_what_depends_on_it() -> Result<()> {
    let pods = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": "more", "remainingItemCount": 7},
        "items": [pod("web", "docker.io/istio/proxyv2:1.28.2")]});
    let mut items = mesh();
    items.push(stateful_set("web"));
    let text = format!("{}\n{pods}\n", list(&items));
    let session = with_bytes(&[("page.json", text.into_bytes())])?;
    let report = report(&session, "page.json")?;
    ensure!(report["items"][0]["state"] == "unknown", "{report:#}");
    let partial = finding(&report, "partial-list")?;
    ensure!(partial["advice"].as_str().is_some_and(|advice| advice.contains("kubectl get pods -A -o json")), "{partial}");
    Ok(())
}

#[test]
fn objects_that_contradict_each_other_are_unknown_in_any_order() -> Result<()> {
    let mut items = stale();
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"istio.io/rev": "x"}}});
    items.push(other.clone());
    let mut turned = items.clone();
    turned.reverse();
    let same: Vec<Value> = stale().into_iter().chain(stale()).collect();
    let session = with_bytes(&[
        ("one.json", list(&items).into_bytes()),
        ("other.json", list(&turned).into_bytes()),
        ("same.json", list(&same).into_bytes()),
    ])?;
    for file in ["one.json", "other.json"] {
        let report = report(&session, file)?;
        ensure!(report["items"][0]["state"] == "unknown", "{report:#}");
        ensure!(finding(&report, "duplicate-object")?["severity"] == "error", "{report:#}");
    }
    let report = report(&session, "same.json")?;
    ensure!(report["items"][0]["state"] == "stale" && report["items"][0]["proxies"] == 1, "{report:#}");
    ensure!(finding(&report, "duplicate-object")?["severity"] == "info", "{report:#}");
    Ok(())
}

#[test]
fn no_name_of_a_file_gets_into_a_command_line() -> Result<()> {
    for hostile in ["web -A", "--all", "web\n-n kube-system deployment/coredns", "$(touch pwned)", "web;id", "a\u{1b}[2J", "Web"]
    {
        let mut items = stale();
        let mut set = stateful_set("web");
        set["metadata"]["name"] = hostile.into();
        items.push(set);
        let mut owned = pod("other", "docker.io/istio/proxyv2:1.28.1");
        owned["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": hostile, "uid": "h", "controller": true}]);
        items.push(owned);
        let session = with_bytes(&[("mesh.json", list(&items).into_bytes())])?;
        for format in ["args", "refs", "name"] {
            let output = session.run(["mesh-proxyver", "-A", "-f", "mesh.json", "-o", format])?;
            for word in [hostile, "kube-system", "--all", "touch", "\u{1b}"] {
                ensure!(!output.stdout.contains(word), "{hostile:?} in -o {format}: {}", output.transcript());
            }
        }
        let told = session.run(["mesh-proxyver", "-A", "-f", "mesh.json"])?;
        ensure!(told.stderr.contains("is none of Kubernetes"), "{hostile:?}: {}", told.transcript());
    }
    Ok(())
}

#[test]
fn files_that_would_exhaust_memory_end_at_once() -> Result<()> {
    let mut laughs = "a0: &a0 [xxxxxxxxxxxxxxxx]\n".to_owned();
    for level in 1..30 {
        laughs += &format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(9));
    }
    let session = with_bytes(&[
        ("laughs.yaml", laughs.into_bytes()),
        ("deep.yaml", [vec![b'['; 10_000], vec![b']'; 10_000]].concat()),
        ("deeper.yaml", format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes()),
        ("blocks.yaml", "- ".repeat(100_000).into_bytes()),
        (
            "deep.json",
            format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{}1{}}}",
                "{\"a\":".repeat(100_000),
                "}".repeat(100_000)
            )
            .into_bytes(),
        ),
    ])?;
    for (file, word) in [("laughs.yaml", "aliases"), ("deeper.yaml", "nested"), ("blocks.yaml", "nested")] {
        let begin = Instant::now();
        fails_saying(&session.run(["mesh-proxyver", "-f", file])?, &[file, word]);
        ensure!(begin.elapsed() < Duration::from_secs(30), "{file} took {:?}", begin.elapsed());
    }
    for file in ["deep.yaml", "deep.json"] {
        let output = session.run(["mesh-proxyver", "-f", file])?;
        ensure!(matches!(output.code, Some(0 | 1)) && !output.stderr.contains("panicked"), "{}", output.transcript());
    }
    Ok(())
}

#[test]
fn what_kubectl_prints_as_yaml_is_read_as_its_json() -> Result<()> {
    let odd = [
        "1234e567",
        "0o17",
        "1_000",
        "yes",
        "no",
        "~",
        "=",
        "<<",
        ".inf",
        "0x1F",
        "2024-01-01",
        "1:30",
        "a\tb",
        "a\r\nb",
        "---\nkind: Pod\n",
        "\n a\n",
        "{{ x }}",
        "\u{2028}x\ny",
        "x\u{2029}\ny",
        "# no comment",
        "- a",
        "'",
        "\"",
        "\u{1f600}",
        " ",
        "",
    ];
    let mut items = stale();
    for (number, text) in odd.iter().enumerate() {
        // Whatever stands in it, the workload behind it has to come out right.
        let mut pod = pod(&format!("odd-{number}"), "docker.io/istio/proxyv2:1.28.1");
        pod["metadata"]["annotations"]["odd"] = (*text).into();
        pod["metadata"]["ownerReferences"][0]["name"] = format!("odd-{number}").into();
        items.extend([pod, stateful_set(&format!("odd-{number}"))]);
    }
    items[1]["metadata"]["labels"]["odd"] = "1234e567".into();
    let session = with_bytes(&[("mesh.json", list(&items).into_bytes())])?;
    let yaml = kubectl_yaml(&session, &items)?;
    ensure!(yaml.code == Some(0) && yaml.stdout.contains("odd: 1234e567"), "{}", yaml.transcript());
    fs::write(session.home().join("mesh.yaml"), &yaml.stdout)?;
    let (json, yaml) = (report(&session, "mesh.json")?, report(&session, "mesh.yaml")?);
    ensure!(json["items"].as_array().map(Vec::len) == Some(odd.len() + 1), "{json:#}");
    ensure!(json == yaml, "{yaml:#}");
    Ok(())
}
