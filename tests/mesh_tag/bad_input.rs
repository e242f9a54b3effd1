//! What people type wrong, and clusters that are not as expected: each is told in words that help, and nothing is changed.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::{Cluster, Follows, IstioVersion, Options, Output, Session, plugin};

use crate::tags::{NEW, OLD, Saved};

fn run(session: &Session, words: &[&str]) -> Result<Output> {
    session.run(["mesh-tag"].iter().chain(words))
}

/// Ends with this code and says all of these on stderr.
fn says(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    ensure!(output.code == Some(code), "exit code {code} is expected: {}", output.transcript());
    ensure!(output.stdout.is_empty(), "nothing belongs on stdout: {}", output.transcript());
    for word in words {
        ensure!(output.stderr.contains(word), "{word:?} is missing: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn names_that_are_nowhere_bring_the_nearest_ones() -> Result<()> {
    let session = plugin("mesh-tag")?.on(Cluster::shared()?);
    for line in [
        &["set", "typo", "--revision", "1-28-3", "--yes"][..],
        &["set", "typo", "--revision", "1-28-3", "--yes", "--dry-run=server"],
        &["generate", "typo", "--revision", "1-28-3"],
    ] {
        says(&run(&session, line)?, 1, &["there is no revision 1-28-3", "did you mean 1-28-2?", "Next: "])?;
    }
    says(&run(&session, &["set", "nearest-tag", "--revision", NEW, "--yes"])?, 0, &[])?;
    for line in [&["undo", "nearest-tga", "--yes"][..], &["remove", "nearest-tga", "--yes"], &["describe", "nearest-tga"]] {
        says(&run(&session, line)?, 1, &["there is no tag nearest-tga", "nearest-tag"])?;
    }
    // A tag in the place of a revision: the revision is what was meant.
    says(&run(&session, &["set", "other", "--revision", "nearest-tag", "--yes"])?, 1, &["is a tag", "--revision 1-28-2"])?;
    says(&run(&session, &["remove", "nearest-tag", "--yes"])?, 0, &[])
}

#[test]
fn names_that_cannot_be_a_tags_are_wrong_usage() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let long = "a".repeat(64);
    for name in ["Prod", "prod_stable", "prod.stable", "prod stable", "-prod", "prod-", "pröd", "", &long] {
        let output = run(&session, &["set", "--revision", NEW, "--yes", "--", name])?;
        ensure!(matches!(output.code, Some(2 | 4)), "{name:?}: {}", output.transcript());
        ensure!(!output.stderr.contains("created"), "{name:?}: {}", output.transcript());
        ensure!(output.stderr.lines().any(|line| line.contains("tag")), "{name:?}: {}", output.transcript());
    }
    Ok(())
}

#[test]
fn names_that_look_like_numbers_and_truths_stay_text() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    for name in ["128", "true", "null", "1e3", "0x10", "no"] {
        let generated = run(&session, &["generate", name, "--revision", NEW])?;
        ensure!(generated.code == Some(0), "{}", generated.transcript());
        // kubectl refuses labels that are no text, so its own reading is the proof.
        let file = session.home().join("generated.yaml");
        std::fs::write(&file, &generated.stdout)?;
        let read = session.run(["apply", "--dry-run=client", "-o", "json", "-f", "generated.yaml"])?;
        ensure!(read.code == Some(0), "{}", read.transcript());
        let list = read.json()?;
        let objects = list["items"].as_array().context("a list has items")?;
        ensure!(
            objects.len() == 2 && objects.iter().all(|object| object["metadata"]["labels"]["istio.io/tag"] == *name),
            "{list}"
        );
        let set = run(&session, &["set", name, "--revision", NEW, "--yes"])?;
        ensure!(set.code == Some(0), "{}", set.transcript());
        let listed = run(&session, &["list", "-o", "name"])?;
        ensure!(listed.stdout.lines().any(|line| line == name), "{}", listed.transcript());
        let removed = run(&session, &["remove", name, "--yes"])?;
        ensure!(removed.code == Some(0), "{}", removed.transcript());
    }
    Ok(())
}

#[test]
fn a_name_that_is_a_revisions_is_refused_whatever_is_given() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    for more in [&[][..], &["--overwrite"], &["--from", OLD]] {
        let line: Vec<&str> = ["set", OLD, "--revision", NEW, "--yes"].iter().chain(more).copied().collect();
        let output = run(&session, &line)?;
        says(&output, 4, &["refused", OLD, "revision"])?;
        ensure!(Saved::of_tag(cluster, OLD)?.objects.is_empty(), "{}", output.transcript());
    }
    let generated = run(&session, &["generate", OLD, "--revision", NEW])?;
    says(&generated, 4, &["refused", OLD, "revision"])
}

#[test]
fn without_a_mesh_there_is_nothing_to_point_to() -> Result<()> {
    let cluster = Cluster::start(&Options { gateway_api: false, ..Options::default() })?;
    cluster.namespace("shop", Follows::Nothing)?;
    let session = plugin("mesh-tag")?.on(&cluster);
    says(&run(&session, &["set", "prod", "--revision", NEW, "--yes"])?, 1, &["there is no mesh here"])?;
    for line in [&["undo", "prod", "--yes"][..], &["remove", "prod", "--yes"], &["describe", "prod"]] {
        says(&run(&session, line)?, 1, &["there is no tag prod"])?;
    }
    let attached = run(&session, &["attach", "prod", "shop"])?;
    ensure!(matches!(attached.code, Some(1 | 4)) && attached.stderr.contains("prod"), "{}", attached.transcript());
    let labels = &cluster.api().get("/api/v1/namespaces/shop")?["metadata"]["labels"];
    ensure!(labels["istio.io/rev"].is_null(), "{labels}");
    // The labels of namespaces can go without a mesh.
    ensure!(run(&session, &["detach", "shop"])?.code == Some(0));
    let listed = run(&session, &["list"])?;
    ensure!(listed.code == Some(0) && listed.stderr.contains("No mesh here"), "{}", listed.transcript());
    Ok(())
}

#[test]
fn entries_that_nobody_knows_are_told_and_kept() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    says(&run(&session, &["set", "strange", "--revision", OLD, "--yes"])?, 0, &[])?;
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-revision-tag-strange";
    let mut webhook = cluster.api().get(path)?;
    let mut entry = webhook["webhooks"][0].clone();
    entry["name"] = json!("company.policy.example.com");
    entry["namespaceSelector"] = json!({"matchLabels": {"never": "there"}});
    entry["clientConfig"] = json!({"service": {"name": "policy", "namespace": "default", "path": "/", "port": 443}});
    webhook["webhooks"].as_array_mut().context("a configuration has entries")?.push(entry);
    cluster.api().replace(path, &webhook)?;
    let moved = run(&session, &["set", "strange", "--revision", NEW, "--overwrite", "--yes"])?;
    says(&moved, 0, &["company.policy.example.com"])?;
    let after = cluster.api().get(path)?;
    let kept = after["webhooks"].as_array().into_iter().flatten().find(|entry| entry["name"] == "company.policy.example.com");
    ensure!(kept.is_some_and(|entry| entry["clientConfig"]["service"]["name"] == "policy"), "{after}");
    says(&run(&session, &["remove", "strange", "--yes"])?, 0, &[])
}

#[test]
fn of_ten_namespaces_one_that_is_nowhere_keeps_all_as_they_are() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let names: Vec<String> = (0..10).map(|number| format!("ten-{number}")).collect();
    for name in &names {
        cluster.namespace(name, Follows::Nothing)?;
    }
    let mut line = vec!["attach", NEW];
    line.extend(names[..5].iter().map(String::as_str));
    line.push("ten-nowhere");
    line.extend(names[5..].iter().map(String::as_str));
    says(&run(&session, &line)?, 1, &["namespaces/ten-nowhere", "none was changed"])?;
    let input = names.iter().chain([&"ten-nowhere".to_owned()]).map(|name| format!("namespace/{name}\n")).collect::<String>();
    let piped = plugin("mesh-tag")?.on(cluster).stdin(input);
    says(&run(&piped, &["attach", NEW, "-"])?, 1, &["namespaces/ten-nowhere", "none was changed"])?;
    for name in &names {
        let labels = &cluster.api().get(&format!("/api/v1/namespaces/{name}"))?["metadata"]["labels"];
        ensure!(labels["istio.io/rev"].is_null(), "{name} was changed: {labels}");
    }
    Ok(())
}

#[test]
fn nothing_to_label_is_told() -> Result<()> {
    let cluster = Cluster::shared()?;
    for input in ["", "\n", "  \n\t\n"] {
        let session = plugin("mesh-tag")?.on(cluster).stdin(input);
        for line in [&["attach", NEW, "-"][..], &["detach", "-"]] {
            says(&run(&session, line)?, 1, &["standard input names no namespace", "nothing was changed"])?;
        }
    }
    let session = plugin("mesh-tag")?.on(cluster);
    says(&run(&session, &["attach", NEW])?, 2, &["which namespaces"])?;
    says(&run(&session, &["detach", "-l", "nobody=has"])?, 1, &["no namespace has these labels"])?;
    says(&run(&session, &["attach", NEW, "default", "-l", "a=b"])?, 2, &["not both"])?;
    says(&run(&session, &["attach", NEW, "-l", "a in (b"])?, 2, &[])
}

#[test]
fn contradictions_are_wrong_usage() -> Result<()> {
    let session = plugin("mesh-tag")?.on(Cluster::shared()?);
    says(&run(&session, &["set", "prod"])?, 2, &["--revision"])?;
    says(&run(&session, &["set", "--revision", NEW])?, 2, &["<TAG>"])?;
    says(&run(&session, &["-o", "json", "set", "prod", "--revision", NEW])?, 2, &["behind the verb"])?;
    says(&run(&session, &["set", "prod", "--revision", NEW, "--dry-run=maybe"])?, 2, &["client", "server"])?;
    says(&run(&session, &["move", "prod"])?, 2, &["move"])
}

#[test]
fn istioctl_takes_what_we_refuse() -> Result<()> {
    // Side by side: a name in capitals makes a webhook that no API server takes, and istioctl says so only then.
    let cluster = Cluster::shared()?;
    let refused = cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", "Capital", "--revision", NEW, "-y"]).unwrap_err();
    ensure!(format!("{refused:#}").contains("Invalid value"), "{refused:#}");
    // A name with a dot is taken for the webhook and refused for the Service: half a tag is left.
    let halved = cluster.istioctl(IstioVersion::V1_28_2, ["tag", "set", "half.tag", "--revision", NEW, "-y"]).unwrap_err();
    let left = Saved::of_tag(cluster, "half.tag")?;
    ensure!(left.objects.len() == 1, "{halved:#}: {} objects", left.objects.len());
    Saved::nothing_of_tag("half.tag").restore(cluster)?;
    let session = plugin("mesh-tag")?.on(cluster);
    let ours = run(&session, &["set", "half.tag", "--revision", NEW, "--yes"])?;
    ensure!(matches!(ours.code, Some(2 | 4)), "{}", ours.transcript());
    ensure!(Saved::of_tag(cluster, "half.tag")?.objects.is_empty(), "{}", ours.transcript());
    Ok(())
}
