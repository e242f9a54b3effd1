//! Tags are made, moved, moved back and removed.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Output, Revision, Workload, plugin, transcript};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

/// The revision that the API server's own answer for a new pod names.
fn injected_by(cluster: &Cluster, namespace: &str) -> Result<Option<String>> {
    let namespace = cluster.namespace_named(namespace);
    let pod = namespace.dry_run(&Workload::deployment("web"))?;
    Ok(pod["metadata"]["annotations"]["istio.io/rev"].as_str().map(str::to_owned))
}

#[test]
fn a_tag_is_made_moved_and_removed() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let run = |words: &[&str]| session.run(["mesh-tag"].iter().chain(words));
    check("set_without_yes", &run(&["set", "moves", "--revision", "1-26-0"])?);
    assert_eq!(
        cluster.api().find(&format!("{WEBHOOKS}/istio-revision-tag-moves"))?,
        None,
        "a question nobody answers is a refusal"
    );
    check("set_new", &run(&["set", "moves", "--revision", "1-26-0", "--yes"])?);
    let shop = cluster.namespace("moves-shop", Follows::Revision("moves"))?;
    shop.run(&Workload::deployment("web").replicas(2))?;
    assert_eq!(injected_by(cluster, "moves-shop")?.as_deref(), Some("1-26-0"));

    check("set_existing", &run(&["set", "moves", "--revision", "1-28-2", "--yes"])?);
    check("set_from_elsewhere", &run(&["set", "moves", "--revision", "1-28-2", "--from", "1-28-2-old", "--yes"])?);
    check("set_dry_run_client", &run(&["set", "moves", "--revision", "1-28-2", "--from", "1-26-0", "--dry-run"])?);
    check(
        "set_dry_run_server",
        &run(&["set", "moves", "--revision", "1-28-2", "--from", "1-26-0", "--dry-run=server", "-o", "name"])?,
    );
    assert_eq!(injected_by(cluster, "moves-shop")?.as_deref(), Some("1-26-0"), "a dry run changes nothing");

    check("set_move", &run(&["set", "moves", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?);
    assert_eq!(injected_by(cluster, "moves-shop")?.as_deref(), Some("1-28-2"));
    let before = cluster.api().get(&format!("{WEBHOOKS}/istio-revision-tag-moves"))?;
    check("set_again", &run(&["set", "moves", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?);
    let after = cluster.api().get(&format!("{WEBHOOKS}/istio-revision-tag-moves"))?;
    assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "a repeated command writes nothing");
    check("describe", &run(&["describe", "moves"])?);

    check("undo", &run(&["undo", "moves", "--yes"])?);
    assert_eq!(injected_by(cluster, "moves-shop")?.as_deref(), Some("1-26-0"));
    check("undo_of_the_making", &run(&["undo", "moves", "--yes"])?);
    check("remove_followed", &run(&["remove", "moves", "--yes"])?);
    check("detach", &run(&["detach", "moves-shop"])?);
    check("remove", &run(&["remove", "moves", "--yes"])?);
    assert_eq!(cluster.api().find(&format!("{WEBHOOKS}/istio-revision-tag-moves"))?, None);
    assert_eq!(cluster.api().find("/api/v1/namespaces/istio-system/services/istiod-revision-tag-moves")?, None);
    let again = run(&["remove", "moves", "--yes"])?;
    assert_eq!(again.code, Some(1), "{}", again.transcript());
    assert!(again.stderr.contains("there is no tag moves"), "{}", again.transcript());
    Ok(())
}

#[test]
fn a_server_side_dry_run_of_any_verb_leaves_everything_as_it_is() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let run = |words: &[&str]| session.run(["mesh-tag"].iter().chain(words));
    let namespace = "/api/v1/namespaces/rehearsed-shop";
    cluster.namespace("rehearsed-shop", Follows::Nothing)?;
    let objects = || -> Result<Vec<Option<Value>>> {
        let paths = [
            format!("{WEBHOOKS}/istio-revision-tag-rehearsed"),
            "/api/v1/namespaces/istio-system/services/istiod-revision-tag-rehearsed".to_owned(),
            namespace.to_owned(),
        ];
        paths.iter().map(|path| cluster.api().find(path)).collect()
    };
    let rehearse = |commands: &[&[&str]]| -> Result<()> {
        for words in commands {
            let before = objects()?;
            let output = run(&[*words, &["--dry-run=server"]].concat())?;
            assert_eq!((output.code, objects()?), (Some(0), before), "{}", output.transcript());
        }
        Ok(())
    };
    let new: &[&str] = &["set", "rehearsed", "--revision", "1-26-0"];
    let moved: &[&str] = &["set", "rehearsed", "--revision", "1-28-2", "--overwrite"];
    let yes: &[&str] = &["--yes"];
    rehearse(&[new])?;
    run(&[new, yes].concat())?;
    // The undoing of the making is a removal too.
    rehearse(&[moved, &["undo", "rehearsed"], &["remove", "rehearsed"], &["attach", "rehearsed", "rehearsed-shop"]])?;
    run(&[moved, yes].concat())?;
    rehearse(&[&["undo", "rehearsed"], &["remove", "rehearsed"]])?;
    run(&["attach", "rehearsed", "rehearsed-shop", "--yes"])?;
    rehearse(&[&["detach", "rehearsed-shop"]])?;
    run(&["detach", "rehearsed-shop", "--yes"])?;
    let removed = run(&["remove", "rehearsed", "--yes"])?;
    assert_eq!(removed.code, Some(0), "{}", removed.transcript());
    Ok(())
}

#[test]
fn a_revision_that_cannot_answer_is_not_pointed_to() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(IstioVersion::V1_28_2));
    cluster.install(&old)?;
    // Installed, and its istiod never comes up: no certificate in its webhooks.
    cluster.install_objects(&new)?;
    let session = plugin("mesh-tag")?.on(&cluster);
    let refused = session.run(["mesh-tag", "set", "prod", "--revision", "1-28-2", "--yes"])?;
    check("set_not_ready", &refused);
    assert_eq!(refused.code, Some(4));

    // Everything is there and says so, and yet nobody answers: only the dry-run pod tells.
    cluster.start_istiod(&new)?;
    cluster.stop_istiod(&new);
    let silent = session.run(["mesh-tag", "set", "prod", "--revision", "1-28-2", "--yes"])?;
    assert_eq!(silent.code, Some(4), "{}", silent.transcript());
    assert!(silent.stderr.contains("refuses pods"), "{}", silent.transcript());
    assert_eq!(cluster.api().find(&format!("{WEBHOOKS}/istio-revision-tag-prod"))?, None);
    Ok(())
}

#[test]
fn what_was_written_by_hand_is_told_and_kept() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let run = |words: &[&str]| session.run(["mesh-tag"].iter().chain(words));
    run(&["set", "byhand", "--revision", "1-26-0", "--yes"])?;
    let path = format!("{WEBHOOKS}/istio-revision-tag-byhand");
    let mut webhook = cluster.api().get(&path)?;
    let entries = webhook["webhooks"].as_array_mut().context("a webhook has entries")?;
    entries[0]["timeoutSeconds"] = json!(7);
    let vip = json!({"key": "example.com/vip", "operator": "Exists"});
    entries[0]["namespaceSelector"]["matchExpressions"].as_array_mut().context("a selector has terms")?.push(vip.clone());
    cluster.api().patch(&path, &json!({"webhooks": entries}))?;
    let moved = run(&["set", "byhand", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?;
    check("set_edited_by_hand", &moved);
    let webhook = cluster.api().get(&path)?;
    let entry = &webhook["webhooks"][0];
    assert_eq!(entry["timeoutSeconds"], 7);
    assert!(entry["namespaceSelector"]["matchExpressions"].as_array().is_some_and(|terms| terms.contains(&vip)), "{entry}");
    assert_eq!(entry["clientConfig"]["service"]["name"], "istiod-1-28-2");
    run(&["remove", "byhand", "--yes"])?;
    Ok(())
}

#[test]
fn a_tag_that_only_its_service_still_names_is_mended() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    session.run(["mesh-tag", "set", "mended", "--revision", "1-28-2", "--yes"])?;
    cluster.api().delete(&format!("{WEBHOOKS}/istio-revision-tag-mended"))?;
    let mended = session.run(["mesh-tag", "set", "mended", "--revision", "1-28-2", "--yes"])?;
    assert_eq!(mended.code, Some(0), "{}", mended.transcript());
    let webhook: Value = cluster.api().get(&format!("{WEBHOOKS}/istio-revision-tag-mended"))?;
    assert_eq!(webhook["metadata"]["labels"]["istio.io/rev"], "1-28-2");
    session.run(["mesh-tag", "remove", "mended", "--yes"])?;
    Ok(())
}
