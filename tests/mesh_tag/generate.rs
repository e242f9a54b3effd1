//! A tag's objects for Git.

use anyhow::{Context, Result};
use support::{Cluster, plugin, transcript};

#[test]
fn the_objects_are_those_that_set_leaves() -> Result<()> {
    let cluster = Cluster::shared()?;
    let session = plugin("mesh-tag")?.on(cluster);
    let generated = session.run(["mesh-tag", "generate", "fromgit", "--revision", "1-28-2", "-o", "json"])?;
    let again = session.run(["mesh-tag", "generate", "fromgit", "--revision", "1-28-2", "-o", "json"])?;
    assert_eq!(generated.stdout, again.stdout, "equal input gives equal bytes");
    let objects = generated.json()?;
    session.run(["mesh-tag", "set", "fromgit", "--revision", "1-28-2", "--yes"])?;
    for object in objects["items"].as_array().context("a List has items")? {
        let path = support::api::path_of(object)?;
        let live = cluster.api().get(&path)?;
        let entries = |object: &serde_json::Value| object["webhooks"].clone();
        assert_eq!(entries(&live), entries(object), "{path}");
        assert_eq!(live["metadata"]["labels"], object["metadata"]["labels"], "{path}");
        assert_eq!(live["spec"]["selector"], object["spec"]["selector"], "{path}");
    }
    // With the objects from Git applied, set has nothing left to do.
    session.run(["mesh-tag", "remove", "fromgit", "--yes"])?;
    let applied = session.shell("kubectl mesh-tag generate fromgit --revision 1-28-2 | kubectl apply -f -")?;
    assert_eq!(applied.code, Some(0), "{}", applied.transcript());
    let listed = session.run(["mesh-tag", "list", "-o", "json"])?.json()?;
    let items = listed["items"].as_array().context("a TagList has items")?;
    let tag = items.iter().find(|item| item["name"] == "fromgit").context("the tag is listed")?;
    assert_eq!((&tag["revision"], tag["faults"].as_array().map(Vec::len)), (&"1-28-2".into(), Some(0)), "{tag}");
    session.run(["mesh-tag", "remove", "fromgit", "--yes"])?;
    Ok(())
}

#[test]
fn it_works_without_a_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    let online = plugin("mesh-tag")?.on(cluster);
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,namespaces,services,deployments,configmaps";
    let file = online.home().join("mesh.yaml");
    let saved = online.shell(&format!("kubectl get {kinds} -A -o yaml > mesh.yaml"))?;
    assert_eq!(saved.code, Some(0), "{}", saved.transcript());
    let offline = plugin("mesh-tag")?;
    let words = ["mesh-tag", "generate", "offline", "--revision", "1-28-2"];
    let here = online.run(words)?;
    let there = offline.run(words.iter().map(std::ffi::OsStr::new).chain(["-f".as_ref(), file.as_os_str()]))?;
    assert_eq!(there.code, Some(0), "{}", there.transcript());
    assert_eq!(here.stdout, there.stdout);
    transcript::check("mesh_tag", "generate_unknown", &online.run(["mesh-tag", "generate", "offline", "--revision", "1-28-3"])?);
    Ok(())
}
