//! The flow of the whole upgrade, for every way of following and of installing; and back, from every step.

use std::thread;

use anyhow::{Context, Result, ensure};
use support::{IstioVersion, Revision};

use crate::client::Client;
use crate::world::{Following, NEW, World};

/// Runs `steps` while a client creates pods.
fn with_client(world: &World, steps: impl FnOnce(&Client) -> Result<()>) -> Result<()> {
    let client = Client::default();
    client.allow(&world.namespaces, &[&world.old]);
    thread::scope(|scope| {
        scope.spawn(|| client.run(&world.cluster));
        let done = steps(&client);
        client.end();
        done
    })?;
    client.check()
}

/// These namespaces follow the new revision by its name.
fn attach(world: &World, client: &Client, namespaces: &[String]) -> Result<()> {
    client.moving(namespaces, &world.old, NEW, || {
        let names = namespaces.iter().map(String::as_str);
        let words = ["mesh-tag", "attach", NEW, "--overwrite"];
        world.run(&words.into_iter().chain(names).collect::<Vec<_>>())
    })?;
    Ok(())
}

fn restart_all(world: &World) -> Result<()> {
    world.run(&["mesh-upgrade", "restart", "-A", "--yes", "--max-parallel", "20"])?;
    Ok(())
}

/// Everything runs the new revision, and the old one goes without anybody noticing.
fn complete(world: &World) -> Result<()> {
    world.all_run(NEW)?;
    let status = world.run(&["mesh-upgrade", "status", "-o", "json"])?.json()?;
    ensure!(status["left"].as_array().is_none_or(Vec::is_empty), "{status}");
    // The validator of all configuration moves last, by the tag `default`; where it has moved already this changes nothing.
    world.run(&["mesh-tag", "set", "default", "--revision", NEW, "--overwrite", "--yes"])?;
    let before = world.generations()?;
    world.run(&["mesh-upgrade", "complete", "--remove", &world.old, "--yes"])?;
    ensure!(world.generations()? == before, "nothing is restarted by a removal");
    let targets = world.run(&["mesh-upgrade", "targets", "-o", "json"])?.json()?;
    let revisions = targets["items"].as_array().context("items")?;
    ensure!(revisions.iter().all(|revision| revision["revision"] != world.old.as_str()), "{targets}");
    Ok(())
}

#[test]
fn forty_namespaces_and_three_hundred_workloads_by_a_tag() -> Result<()> {
    let world = World::new(&Revision::of(IstioVersion::V1_26_0), Following::Tag, 40, 8)?;
    with_client(&world, |client| {
        world.start()?;
        let (first, others) = world.namespaces.split_at(1);
        world.run(&["mesh-tag", "set", "prod-canary", "--revision", NEW, "--yes"])?;
        client.moving(first, &world.old, NEW, || world.run(&["mesh-tag", "attach", "prod-canary", &first[0], "--overwrite"]))?;
        world.run(&["mesh-upgrade", "restart", "-n", &first[0], "--yes"])?;
        ensure!(world.revisions(&first[0])?.iter().eq([NEW]), "the first namespace");
        client.moving(others, &world.old, NEW, || {
            world.run(&["mesh-tag", "set", "prod-stable", "--revision", NEW, "--from", &world.old, "--yes"])
        })?;
        let before = world.generations()?;
        let piped = world.session.shell(
            "kubectl mesh-proxyver -A --stale -o refs | kubectl mesh-upgrade restart -f - --yes --percent 10,100 --max-parallel 20",
        )?;
        ensure!(piped.code == Some(0), "{}", piped.transcript());
        // What kubectl cannot restart is no reference; the plain command brings the rest.
        restart_all(&world)?;
        let restarted = world.generations()?.iter().zip(&before).map(|(after, before)| after - before).max();
        ensure!(restarted == Some(1), "nothing is restarted twice");
        complete(&world)
    })
}

#[test]
fn a_named_revision_follows_another() -> Result<()> {
    let world = World::new(&Revision::of(IstioVersion::V1_26_0), Following::Name, 3, 4)?;
    with_client(&world, |client| {
        world.start()?;
        attach(&world, client, &world.namespaces)?;
        restart_all(&world)?;
        complete(&world)
    })
}

#[test]
fn the_unrevisioned_install_is_left_namespace_by_namespace() -> Result<()> {
    let world = World::new(&Revision::unrevisioned(IstioVersion::V1_26_0), Following::Injection, 3, 4)?;
    with_client(&world, |client| {
        world.start()?;
        attach(&world, client, &world.namespaces)?;
        restart_all(&world)?;
        complete(&world)
    })
}

#[test]
fn the_unrevisioned_install_is_left_by_the_default_tag() -> Result<()> {
    let world = World::new(&Revision::unrevisioned(IstioVersion::V1_26_0), Following::Injection, 3, 4)?;
    with_client(&world, |client| {
        world.start()?;
        client.moving(&world.namespaces, &world.old, NEW, || {
            world.run(&["mesh-tag", "set", "default", "--revision", NEW, "--overwrite", "--yes"])
        })?;
        restart_all(&world)?;
        complete(&world)
    })
}

#[test]
fn what_helm_has_installed_is_left_and_removed() -> Result<()> {
    let world = World::new(&Revision::of(IstioVersion::V1_26_0).by_helm(), Following::Tag, 3, 4)?;
    with_client(&world, |client| {
        world.cluster.install(&Revision::of(IstioVersion::V1_28_2).by_helm())?;
        client.moving(&world.namespaces, &world.old, NEW, || {
            world.run(&["mesh-tag", "set", "prod-stable", "--revision", NEW, "--from", &world.old, "--yes"])
        })?;
        restart_all(&world)?;
        complete(&world)
    })
}

#[test]
fn a_revision_that_was_upgraded_in_place_needs_restarts_only() -> Result<()> {
    let world = World::new(&Revision::new("prod", IstioVersion::V1_26_0), Following::Name, 2, 4)?;
    // Here its only istiod is replaced, so that for a moment nobody answers: a client would see that, and rightly.
    world.cluster.install(&Revision::new("prod", IstioVersion::V1_28_2))?;
    let stale = world.run(&["mesh-proxyver", "-A", "--stale", "-o", "name"])?;
    ensure!(stale.stdout.lines().count() == 8, "{}", stale.transcript());
    restart_all(&world)?;
    let stale = world.run(&["mesh-proxyver", "-A", "--stale", "-o", "name"])?;
    ensure!(stale.stdout.is_empty(), "{}", stale.transcript());
    world.all_run("prod")
}

#[test]
fn back_from_every_step() -> Result<()> {
    let world = World::new(&Revision::of(IstioVersion::V1_26_0), Following::Tag, 2, 4)?;
    let (first, others) = world.namespaces.split_at(1);
    with_client(&world, |client| {
        world.start()?;
        for depth in 0..=5 {
            // A roll-back moves the tag that the first namespace follows, not the namespace.
            world.run(&["mesh-tag", "attach", "prod-stable", &first[0], "--overwrite"])?;
            if depth > 0 {
                world.run(&["mesh-tag", "set", "prod-canary", "--revision", NEW, "--overwrite", "--yes"])?;
            }
            if depth > 1 {
                client.moving(first, &world.old, NEW, || {
                    world.run(&["mesh-tag", "attach", "prod-canary", &first[0], "--overwrite"])
                })?;
            }
            if depth > 2 {
                world.run(&["mesh-upgrade", "restart", "-n", &first[0], "--yes"])?;
            }
            if depth > 3 {
                client.moving(others, &world.old, NEW, || {
                    world.run(&["mesh-tag", "set", "prod-stable", "--revision", NEW, "--overwrite", "--yes"])
                })?;
            }
            if depth > 4 {
                restart_all(&world)?;
                world.all_run(NEW)?;
            }
            client.allow(&world.namespaces, &[&world.old, NEW]);
            client.moving(&world.namespaces, NEW, &world.old, || {
                world.run(&["mesh-upgrade", "rollback", "--to", &world.old, "--yes"])
            })?;
            world.all_run(&world.old).with_context(|| format!("after {depth} steps"))?;
        }
        // The new one was the mistake then: it goes.
        world.run(&["mesh-upgrade", "rollback", "--to", &world.old, "--remove", "--yes"])?;
        let targets = world.run(&["mesh-upgrade", "targets", "-o", "json"])?.json()?;
        ensure!(targets["items"].as_array().is_some_and(|items| items.iter().all(|item| item["revision"] != NEW)), "{targets}");
        Ok(())
    })
}
