//! Tags that somebody else owns are not written: their owner is named, and how it is told.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Output, plugin, transcript};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn check(name: &str, output: &Output) {
    transcript::check("mesh_tag", name, output);
}

/// A tag as its owner makes it: the objects of `generate`, with the owner's marks.
fn tag_of(cluster: &Cluster, tag: &str, marks: Value) -> Result<()> {
    let session = plugin("mesh-tag")?.on(cluster);
    let generated = session.run(["mesh-tag", "generate", tag, "--revision", "1-26-0", "-o", "json"])?.json()?;
    for object in generated["items"].as_array().context("a List has items")? {
        let mut object = object.clone();
        for (field, value) in marks.as_object().context("marks are fields of the metadata")? {
            match (object["metadata"][field].as_object_mut(), value.as_object()) {
                (Some(present), Some(marks)) => present.extend(marks.clone()),
                _ => object["metadata"][field] = value.clone(),
            }
        }
        cluster.apply(&object)?;
    }
    Ok(())
}

#[test]
fn each_owner_is_named_with_the_way_to_do_it_there() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let sail = json!([{"apiVersion": "sailoperator.io/v1", "kind": "IstioRevisionTag", "name": "owner-sail", "uid": "1", "controller": true}]);
    let tracking = "mesh:admissionregistration.k8s.io/MutatingWebhookConfiguration:/istio-revision-tag-owner-argo";
    let owners = [
        (
            "owner-helm",
            json!({"annotations": {"meta.helm.sh/release-name": "istiod-1-26-0", "meta.helm.sh/release-namespace": "istio-system"}}),
        ),
        ("owner-sail", json!({"ownerReferences": sail})),
        ("owner-argo", json!({"annotations": {"argocd.argoproj.io/tracking-id": tracking}})),
        (
            "owner-flux",
            json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "mesh", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
        ),
    ];
    for (tag, marks) in owners {
        tag_of(cluster, tag, marks)?;
        let path = format!("{WEBHOOKS}/istio-revision-tag-{tag}");
        let before = cluster.api().get(&path)?;
        let set = session.run(["mesh-tag", "set", tag, "--revision", "1-28-2", "--overwrite", "--yes"])?;
        check(&format!("set_{}", tag.replace('-', "_")), &set);
        let remove = session.run(["mesh-tag", "remove", tag, "--yes"])?;
        assert_eq!((set.code, remove.code), (Some(4), Some(4)), "{}", remove.transcript());
        let after = cluster.api().get(&path)?;
        assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "nothing was written");
        cluster.api().delete(&path)?;
    }
    Ok(())
}

#[test]
fn generate_prints_the_form_of_the_owner() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    tag_of(
        cluster,
        "form-helm",
        json!({"annotations": {"meta.helm.sh/release-name": "istiod-1-26-0", "meta.helm.sh/release-namespace": "istio-system"}}),
    )?;
    check("generate_for_helm", &session.run(["mesh-tag", "generate", "form-helm", "--revision", "1-28-2"])?);
    cluster.api().delete(&format!("{WEBHOOKS}/istio-revision-tag-form-helm"))?;
    Ok(())
}
