//! The flow of the whole upgrade, for every way of installing and of following; and back, from every step.

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

/// What an upgrade takes once the new control plane is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The first namespace follows the new revision.
    MoveFirst,
    /// Its workloads are restarted.
    RestartFirst,
    /// All the others follow.
    MoveOthers,
    /// Everything that is stale is restarted.
    RestartOthers,
}

const STEPS: [Step; 4] = [Step::MoveFirst, Step::RestartFirst, Step::MoveOthers, Step::RestartOthers];

impl Step {
    fn take(self, world: &World, client: &Client) -> Result<()> {
        let (first, others) = world.namespaces.split_at(1);
        match self {
            Step::MoveFirst => client.moving(first, &world.old, NEW, || move_first(world)),
            Step::RestartFirst => {
                world.run(&["mesh-upgrade", "restart", "-n", &first[0], "--yes"])?;
                let found = world.revisions(&first[0])?;
                ensure!(found.iter().eq([NEW]), "the first namespace runs {found:?}");
                Ok(())
            }
            Step::MoveOthers => client.moving(others, &world.old, NEW, || move_others(world)),
            Step::RestartOthers => restart_others(world),
        }
    }
}

fn move_first(world: &World) -> Result<()> {
    let first = &world.namespaces[0];
    let target = if world.following == Following::Tag {
        world.run(&["mesh-tag", "set", "prod-canary", "--revision", NEW, "--overwrite", "--yes"])?;
        "prod-canary"
    } else {
        NEW
    };
    world.run(&["mesh-tag", "attach", target, first, "--overwrite"])?;
    Ok(())
}

fn move_others(world: &World) -> Result<()> {
    let tag = match world.following {
        Following::Tag => "prod-stable",
        Following::DefaultTag => "default",
        Following::Name | Following::Injection => {
            let others = world.namespaces.iter().skip(1).map(String::as_str);
            let words = ["mesh-tag", "attach", NEW, "--overwrite"].into_iter().chain(others);
            world.run(&words.collect::<Vec<_>>())?;
            return Ok(());
        }
    };
    world.run(&["mesh-tag", "set", tag, "--revision", NEW, "--from", &world.old, "--yes"])?;
    Ok(())
}

fn restart_others(world: &World) -> Result<()> {
    let before = world.generations()?;
    let piped = world.session.shell(
        "kubectl mesh-proxyver -A --stale -o refs | kubectl mesh-upgrade restart -f - --yes --percent 10,100 --max-parallel 20",
    )?;
    ensure!(piped.code == Some(0), "{}", piped.transcript());
    // What kubectl cannot restart is no reference; the plain command brings the rest.
    restart_all(world)?;
    let restarted = world.generations()?.iter().zip(&before).map(|(after, before)| after - before).max();
    ensure!(restarted == Some(1), "nothing is restarted twice");
    world.all_run(NEW)
}

fn restart_all(world: &World) -> Result<()> {
    world.run(&["mesh-upgrade", "restart", "-A", "--yes", "--max-parallel", "20"])?;
    Ok(())
}

/// Everything runs the new revision, and the old one goes without anybody noticing.
fn complete(world: &World) -> Result<()> {
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

/// Forty namespaces and three hundred workloads of all kinds go all the way.
fn there(old: &Revision, following: Following) -> Result<()> {
    let world = World::new(old, following, 40, 8)?;
    with_client(&world, |client| {
        world.start()?;
        STEPS.into_iter().try_for_each(|step| step.take(&world, client))?;
        complete(&world)
    })
}

/// A small mesh goes back from every step, and at last the new control plane goes.
fn and_back(old: &Revision, following: Following) -> Result<()> {
    let world = World::new(old, following, 2, 4)?;
    with_client(&world, |client| {
        world.start()?;
        for depth in 0..=STEPS.len() {
            if following == Following::Tag {
                // A roll-back moves the tag that the first namespace follows, not the namespace.
                world.run(&["mesh-tag", "attach", "prod-stable", &world.namespaces[0], "--overwrite"])?;
            }
            STEPS.into_iter().take(depth).try_for_each(|step| step.take(&world, client))?;
            client.allow(&world.namespaces, &[&world.old, NEW]);
            client.moving(&world.namespaces, NEW, &world.old, || {
                world.run(&["mesh-upgrade", "rollback", "--to", &world.old, "--yes"])
            })?;
            world.all_run(&world.old).with_context(|| format!("back after {depth} steps"))?;
        }
        world.run(&["mesh-upgrade", "rollback", "--to", &world.old, "--remove", "--yes"])?;
        let targets = world.run(&["mesh-upgrade", "targets", "-o", "json"])?.json()?;
        ensure!(targets["items"].as_array().is_some_and(|items| items.iter().all(|item| item["revision"] != NEW)), "{targets}");
        Ok(())
    })
}

fn named() -> Revision {
    Revision::of(IstioVersion::V1_26_0)
}

fn unrevisioned() -> Revision {
    Revision::unrevisioned(IstioVersion::V1_26_0)
}

#[test]
fn forty_namespaces_move_with_a_tag() -> Result<()> {
    there(&named(), Following::Tag)
}

#[test]
fn forty_namespaces_leave_a_named_revision_from_manifests() -> Result<()> {
    there(&named().by_manifests(), Following::Name)
}

#[test]
fn forty_namespaces_leave_the_unrevisioned_install_one_by_one() -> Result<()> {
    there(&unrevisioned(), Following::Injection)
}

#[test]
fn forty_namespaces_leave_the_unrevisioned_install_by_the_default_tag() -> Result<()> {
    there(&unrevisioned(), Following::DefaultTag)
}

#[test]
fn forty_namespaces_leave_what_helm_has_installed() -> Result<()> {
    there(&named().by_helm(), Following::Tag)
}

#[test]
fn a_tag_goes_back_from_every_step() -> Result<()> {
    and_back(&named(), Following::Tag)
}

#[test]
fn a_named_revision_from_manifests_is_gone_back_to_from_every_step() -> Result<()> {
    and_back(&named().by_manifests(), Following::Name)
}

#[test]
fn the_unrevisioned_install_is_gone_back_to_from_every_step() -> Result<()> {
    and_back(&unrevisioned(), Following::Injection)
}

#[test]
fn the_default_tag_goes_back_from_every_step() -> Result<()> {
    and_back(&unrevisioned(), Following::DefaultTag)
}

#[test]
fn what_helm_has_installed_is_gone_back_to_from_every_step() -> Result<()> {
    and_back(&named().by_helm(), Following::Tag)
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
