//! What `istioctl tag` does to people, side by side with what mesh-tag does. Each test is named for the flaw.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Follows, IstioVersion, Options, Output, Program, Revision, Session, Workload, plugin};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const NEW: IstioVersion = IstioVersion::V1_28_2;

/// Runs istioctl to whatever end, with `input` at its prompt.
fn istioctl(session: &Session, line: &str) -> Result<Output> {
    session.shell(line)
}

/// A session with both tools on PATH.
fn both(cluster: &Cluster) -> Result<Session> {
    plugin("mesh-tag")?.on(cluster).with_istioctl(NEW)
}

/// The revision that a new pod gets, `no proxy`, or `refused`.
fn new_pod(cluster: &Cluster, namespace: &str, labels: Value) -> Result<String> {
    let pod = Workload::pod("new").pod_labels(labels);
    match cluster.namespace_named(namespace).dry_run(&pod) {
        Ok(pod) => Ok(pod["metadata"]["annotations"]["istio.io/rev"].as_str().unwrap_or("no proxy").to_owned()),
        Err(error) if format!("{error:#}").contains("failed calling webhook") => Ok("refused".to_owned()),
        Err(error) => Err(error),
    }
}

/// Waits until a new pod gets this: API servers learn of a changed webhook a moment later.
fn wait_for(cluster: &Cluster, namespace: &str, wanted: &str) -> Result<()> {
    let what = format!("a new pod in {namespace} to get {wanted}");
    cluster.wait(&what, std::time::Duration::from_secs(30), || {
        let found = new_pod(cluster, namespace, json!({}))?;
        ensure!(found == wanted, "it gets {found}");
        Ok(Some(()))
    })
}

fn refused(output: &Output, words: &str) {
    assert_eq!(output.code, Some(4), "{}", output.transcript());
    assert!(output.stderr.contains(words), "{words:?} is missing:\n{}", output.transcript());
}

#[test]
fn the_list_overlooks_followers_without_a_revision_label() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = both(cluster)?;
    session.run(["mesh-tag", "set", "unseen", "--revision", "1-28-2", "--yes"])?;
    let alone = cluster.namespace("unseen-pods", Follows::Nothing)?;
    alone.run(&Workload::deployment("web").pod_labels(json!({"istio.io/rev": "unseen"})))?;
    let theirs = istioctl(&session, "istioctl tag list -o json")?.json()?;
    let rows = theirs.as_array().context("a list of tags")?;
    let row = rows.iter().find(|row| row["tag"] == "unseen").context("istioctl lists the tag")?;
    assert_eq!(row["namespaces"], json!([]), "istioctl sees nobody");
    let ours = session.run(["mesh-tag", "-o", "json"])?.json()?;
    let item =
        ours["items"].as_array().into_iter().flatten().find(|item| item["name"] == "unseen").context("the tag is listed")?;
    assert_eq!(item["followers"]["workloads"][0]["name"], "web", "{item}");
    // And so istioctl takes the tag away from them without a word, where mesh-tag refuses.
    refused(&session.run(["mesh-tag", "remove", "unseen", "--yes"])?, "deployment.apps/web -n unseen-pods");
    let removed = istioctl(&session, "echo n | istioctl tag remove unseen")?;
    assert!(
        removed.stdout.contains("Revision tag unseen removed") && !removed.stdout.contains("Caution"),
        "{}",
        removed.transcript()
    );
    Ok(())
}

#[test]
fn overwrite_gives_a_tag_the_name_of_a_revision_and_yes_hides_the_conflict() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, NEW] {
        cluster.install(&Revision::of(version))?;
    }
    let session = both(&cluster)?;
    let theirs = istioctl(&session, "istioctl tag set 1-26-0 --revision 1-28-2 --overwrite -y")?;
    assert!(
        theirs.stdout.contains("created") && !theirs.stdout.contains("conflict") && !theirs.stderr.contains("conflict"),
        "{}",
        theirs.transcript()
    );
    let listed = session.run(["mesh-tag"])?;
    assert!(listed.stdout.contains("name-collision,overlap"), "{}", listed.transcript());
    refused(
        &session.run(["mesh-tag", "set", "1-28-2", "--revision", "1-26-0", "--overwrite", "--yes"])?,
        "is the name of a revision",
    );
    let removed = session.run(["mesh-tag", "remove", "1-26-0", "--yes"])?;
    assert_eq!(removed.code, Some(0), "{}", removed.transcript());
    Ok(())
}

#[test]
fn names_are_not_checked_and_numbers_break() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = both(cluster)?;
    let number = istioctl(&session, "istioctl tag set 123 --revision 1-28-2 -y")?;
    assert_ne!(number.code, Some(0), "{}", number.transcript());
    let ours = session.run(["mesh-tag", "set", "123", "--revision", "1-28-2", "--yes"])?;
    assert_eq!(ours.code, Some(0), "{}", ours.transcript());
    let removed = session.run(["mesh-tag", "remove", "123", "--yes"])?;
    assert_eq!(removed.code, Some(0), "{}", removed.transcript());
    for name in ["Prod", "prod_stable", "-prod", "prod.stable"] {
        let ours = session.run(["mesh-tag", "set", "--revision", "1-28-2", "--yes", "--", name])?;
        refused(&ours, "is no name for a tag");
    }
    let long = "a".repeat(44);
    refused(&session.run(["mesh-tag", "set", &long, "--revision", "1-28-2", "--yes"])?, "too long for a tag");
    // istioctl notices the length of the Service's name when the webhook is written already.
    let half = istioctl(&session, &format!("istioctl tag set {long} --revision 1-28-2 -y"))?;
    let webhook = cluster.api().find(&format!("{WEBHOOKS}/istio-revision-tag-{long}"))?;
    assert!(half.code != Some(0) && webhook.is_some(), "{}", half.transcript());
    cluster.api().delete(&format!("{WEBHOOKS}/istio-revision-tag-{long}"))?;
    Ok(())
}

#[test]
fn a_tag_is_moved_to_a_revision_that_does_not_answer() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let (old, new) = (Revision::of(IstioVersion::V1_26_0), Revision::of(NEW));
    for revision in [&old, &new] {
        cluster.install(revision)?;
    }
    cluster.stop_istiod(&new);
    let session = both(&cluster)?;
    let made = session.run(["mesh-tag", "set", "prod", "--revision", "1-26-0", "--yes"])?;
    assert_eq!(made.code, Some(0), "{}", made.transcript());
    cluster.namespace("shop", Follows::Revision("prod"))?;
    refused(&session.run(["mesh-tag", "set", "prod", "--revision", "1-28-2", "--from", "1-26-0", "--yes"])?, "refuses pods");
    wait_for(&cluster, "shop", "1-26-0")?;
    let theirs = istioctl(&session, "istioctl tag set prod --revision 1-28-2 --overwrite -y")?;
    assert_eq!(theirs.code, Some(0), "{}", theirs.transcript());
    wait_for(&cluster, "shop", "refused")?;
    // And back: what istioctl did is undone by naming where it was.
    let back = session.run(["mesh-tag", "set", "prod", "--revision", "1-26-0", "--from", "1-28-2", "--yes"])?;
    assert_eq!(back.code, Some(0), "{}", back.transcript());
    wait_for(&cluster, "shop", "1-26-0")
}

#[test]
fn an_older_istioctl_leaves_the_service_behind() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    session.run(["mesh-tag", "set", "torn", "--revision", "1-28-2", "--yes"])?;
    cluster.istioctl(IstioVersion::V1_26_0, ["tag", "set", "torn", "--revision", "1-26-0", "--overwrite", "-y"])?;
    let service = "/api/v1/namespaces/istio-system/services/istiod-revision-tag-torn";
    assert_eq!(
        cluster.api().get(service)?["metadata"]["labels"]["istio.io/rev"],
        "1-28-2",
        "the webhook has moved, the Service has not"
    );
    let mended = session.run(["mesh-tag", "set", "torn", "--revision", "1-26-0", "--yes"])?;
    assert_eq!(mended.code, Some(0), "{}", mended.transcript());
    assert_eq!(cluster.api().get(service)?["metadata"]["labels"]["istio.io/rev"], "1-26-0");
    // Removed by the old istioctl, it would stay for ever.
    cluster.istioctl(IstioVersion::V1_26_0, ["tag", "remove", "torn", "-y"])?;
    ensure!(cluster.api().find(service)?.is_some(), "istioctl 1.26 knows no Services of tags");
    let removed = session.run(["mesh-tag", "remove", "torn", "--yes"])?;
    assert_eq!((removed.code, cluster.api().find(service)?), (Some(0), None), "{}", removed.transcript());
    Ok(())
}

#[test]
fn the_default_injector_is_switched_off_before_anything_is_certain() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    for revision in [Revision::unrevisioned(IstioVersion::V1_26_0), Revision::of(NEW)] {
        cluster.install(&revision)?;
    }
    cluster.namespace("legacy", Follows::Nothing)?;
    let session = both(&cluster)?;
    // istioctl's own removal leaves the namespaces that ask for the default without any injector …
    let ours = session.run(["mesh-tag", "remove", "default", "--yes"])?;
    assert_eq!(ours.code, Some(0), "{}", ours.transcript());
    cluster.namespace("legacy", Follows::Injection)?;
    wait_for(&cluster, "legacy", "default")?;

    // … and making the tag without the right to make it switches the injector off, and then fails.
    let rules = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
    ]);
    let file = session.home().join("limited");
    cluster.kubeconfig_for("limited", rules)?.write(&file)?;
    let limited = plugin("mesh-tag")?.kubeconfig(&file).with_istioctl(NEW)?;
    let ours = limited.run(["mesh-tag", "set", "default", "--revision", "1-28-2", "--yes"])?;
    assert_eq!(ours.code, Some(4), "{}", ours.transcript());
    wait_for(&cluster, "legacy", "default")?;
    let theirs = limited.shell("istioctl tag set default --revision 1-28-2 -y")?;
    assert_ne!(theirs.code, Some(0), "{}", theirs.transcript());
    wait_for(&cluster, "legacy", "no proxy")?;
    // mesh-tag says so, and how it is mended.
    let listed = session.run(["mesh-tag"])?;
    assert!(listed.stdout.contains("deactivated"), "{}", listed.transcript());
    let mended = session.run(["mesh-tag", "set", "default", "--revision", "default", "--yes"])?;
    assert_eq!(mended.code, Some(0), "{}", mended.transcript());
    wait_for(&cluster, "legacy", "default")?;

    // With followers istioctl only asks, and -y skips that; then nobody injects them, and the validator stays behind.
    refused(&session.run(["mesh-tag", "remove", "default", "--yes"])?, "namespaces/legacy");
    let theirs = istioctl(&session, "istioctl tag remove default -y")?;
    assert_eq!(theirs.code, Some(0), "{}", theirs.transcript());
    wait_for(&cluster, "legacy", "no proxy")?;
    let validator =
        cluster.api().get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istiod-default-validator")?;
    assert_eq!(validator["metadata"]["labels"]["istio.io/tag"], "default", "it still says that it is the tag's");

    // A Service without a webhook makes istioctl panic; mesh-tag says what is missing.
    cluster.run(Program::Istioctl(NEW), ["uninstall", "--revision", "1-28-2", "-y"])?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "istiod-half", "namespace": "istio-system", "labels": {"app": "istiod", "istio.io/rev": "half"}},
        "spec": {"selector": {"app": "istiod", "istio.io/rev": "half"}, "ports": [{"port": 443}]},
    });
    cluster.apply(&service)?;
    let theirs = istioctl(&session, "istioctl tag set prod --revision half -y")?;
    assert!(theirs.stderr.contains("panic"), "{}", theirs.transcript());
    let ours = session.run(["mesh-tag", "set", "prod", "--revision", "half", "--yes"])?;
    assert_eq!(ours.code, Some(1), "{}", ours.transcript());
    assert!(ours.stderr.contains("there is no revision half"), "{}", ours.transcript());
    Ok(())
}

#[test]
fn namespaces_that_were_injected_unasked_are_dropped() -> Result<()> {
    let cluster = Cluster::start(&Options::default())?;
    let unasked =
        Revision::unrevisioned(IstioVersion::V1_26_0).set("values.sidecarInjectorWebhook.enableNamespacesByDefault=true");
    cluster.install(&unasked)?;
    cluster.install(&Revision::of(NEW))?;
    cluster.namespace("silent", Follows::Nothing)?;
    let session = both(&cluster)?;
    let remove = || -> Result<()> {
        let removed = session.run(["mesh-tag", "remove", "default", "--yes"])?;
        assert_eq!(removed.code, Some(0), "{}", removed.transcript());
        wait_for(&cluster, "silent", "default")
    };
    remove()?;
    let theirs = istioctl(&session, "istioctl tag set default --revision 1-28-2 -y")?;
    assert_eq!(theirs.code, Some(0), "{}", theirs.transcript());
    wait_for(&cluster, "silent", "no proxy")?;
    remove()?;
    let ours = session.run(["mesh-tag", "set", "default", "--revision", "1-28-2", "--yes"])?;
    assert_eq!(ours.code, Some(0), "{}", ours.transcript());
    wait_for(&cluster, "silent", "1-28-2")
}
