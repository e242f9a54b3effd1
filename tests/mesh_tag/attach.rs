//! Namespaces follow a tag or a revision, or nothing.

use anyhow::Result;
use serde_json::{Value, json};
use support::{Cluster, Follows, Output, Workload, plugin, transcript};

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

fn labels(cluster: &Cluster, namespace: &str) -> Result<[Value; 2]> {
    let namespace = cluster.api().get(&format!("/api/v1/namespaces/{namespace}"))?;
    let labels = &namespace["metadata"]["labels"];
    Ok([labels["istio.io/rev"].clone(), labels["istio-injection"].clone()])
}

#[test]
fn one_patch_sets_one_label_and_removes_the_other() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let run = |words: &[&str]| session.run(["mesh-tag"].iter().chain(words));
    let shop = cluster.namespace("attach-shop", Follows::Revision("1-26-0"))?;
    shop.run(&Workload::deployment("web"))?;
    cluster.namespace("attach-pay", Follows::Injection)?.run(&Workload::deployment("pay"))?;
    cluster.namespace("attach-not", Follows::Labels(json!({"istio-injection": "disabled"})))?;

    check("attach_existing", &run(&["attach", "1-28-2", "attach-shop", "attach-pay", "attach-not"])?);
    assert_eq!(labels(cluster, "attach-pay")?, [Value::Null, json!("enabled")], "one that is refused keeps all as they are");
    check("attach_dry_run", &run(&["attach", "1-28-2", "attach-pay", "--dry-run=server"])?);
    assert_eq!(labels(cluster, "attach-pay")?, [Value::Null, json!("enabled")]);
    check("attach", &run(&["attach", "1-28-2", "attach-pay"])?);
    assert_eq!(labels(cluster, "attach-pay")?, [json!("1-28-2"), Value::Null]);
    check("attach_overwrite", &run(&["attach", "1-28-2", "attach-shop", "--overwrite"])?);
    check("attach_again", &run(&["attach", "1-28-2", "attach-shop"])?);
    check("attach_no_namespace", &run(&["attach", "1-28-2", "attach-shop", "attach-nowhere", "attach-pay"])?);
    check("attach_no_target", &run(&["attach", "1-28-3", "attach-shop"])?);
    check("detach_two", &run(&["detach", "attach-shop", "attach-pay"])?);
    assert_eq!(labels(cluster, "attach-shop")?, [Value::Null, Value::Null]);
    Ok(())
}

#[test]
fn names_come_from_stdin_and_by_label_too() -> Result<()> {
    let cluster = Cluster::shared()?;
    for name in ["stdin-a", "stdin-b"] {
        cluster.namespace(name, Follows::Labels(json!({"team": "stdin"})))?;
    }
    let session = plugin("mesh-tag")?.on(cluster);
    let piped = session.shell("kubectl get namespaces -l team=stdin -o name | kubectl mesh-tag attach 1-26-0 -")?;
    check("attach_stdin", &piped);
    assert_eq!(labels(cluster, "stdin-b")?[0], "1-26-0");
    let empty = session.shell("kubectl get namespaces -l team=nobody -o name 2>/dev/null | kubectl mesh-tag attach 1-26-0 -")?;
    assert_eq!(empty.code, Some(1), "{}", empty.transcript());
    assert!(empty.stderr.contains("names no namespace"), "{}", empty.transcript());
    let selected = session.run(["mesh-tag", "detach", "-l", "team in (stdin)"])?;
    assert_eq!(selected.stdout.lines().count(), 2, "{}", selected.transcript());
    assert_eq!(labels(cluster, "stdin-a")?[0], Value::Null);
    Ok(())
}

#[test]
fn a_label_that_a_git_controller_applies_is_its_own() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    for (name, manager) in [("git-argo", "argocd-controller"), ("git-flux", "kustomize-controller")] {
        let file = session.home().join(name);
        let metadata = json!({"name": name, "labels": {"istio.io/rev": "1-26-0"}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        std::fs::write(&file, namespace.to_string())?;
        let manager = format!("--field-manager={manager}");
        cluster.kubectl(["apply", "--server-side", &manager, "-f", &file.to_string_lossy()])?;
        for words in [&["attach", "1-28-2", name, "--overwrite"][..], &["detach", name]] {
            let refused = session.run(["mesh-tag"].iter().chain(words))?;
            assert_eq!(refused.code, Some(4), "{}", refused.transcript());
            assert!(refused.stderr.contains(&format!("namespaces/{name} belongs to a")), "{}", refused.transcript());
        }
        assert_eq!(labels(cluster, name)?[0], "1-26-0");
    }
    Ok(())
}

#[test]
fn namespaces_of_the_system_and_of_control_planes_are_refused() -> Result<()> {
    let session = plugin("mesh-tag")?.on(Cluster::shared()?);
    for namespace in ["kube-system", "istio-system"] {
        for flags in [&["--dry-run"][..], &["--overwrite"]] {
            let output = session.run(["mesh-tag", "attach", "1-28-2", namespace].iter().chain(flags))?;
            assert_eq!(output.code, Some(4), "{}", output.transcript());
            assert!(output.stderr.contains(&format!("namespaces/{namespace} is ")), "{}", output.transcript());
        }
    }
    Ok(())
}
