//! The same sequence of tag commands, once by istioctl and once by mesh-tag, each on a cluster of its own: after every
//! step the API server must decide the same about pods, istioctl must see the same tags and find the same faults, and the
//! objects must be the same, but for what [`intended`] lists with its reason.

mod comparison;
mod grid;
mod intended;
mod objects;
mod worlds;

use std::thread;

use anyhow::{Context, Result, anyhow};
use support::IstioVersion;

use crate::comparison::Comparison;
use crate::worlds::{Side, Step, World};

/// Runs a world's steps on both sides and compares after each.
fn run(world: &World, istioctl: IstioVersion) -> Result<()> {
    let sides = thread::scope(|scope| {
        let sides = [Side::Istioctl(istioctl), Side::MeshTag].map(|side| scope.spawn(move || world.start(side)));
        sides.map(|side| side.join().map_err(|_| anyhow!("a side panicked")).and_then(|result| result))
    });
    let [theirs, ours] = sides;
    let (theirs, ours) = (theirs?, ours?);
    let mut comparison = Comparison::new(world.name, istioctl);
    comparison.compare("installed", &theirs, &ours)?;
    for step in world.steps {
        theirs.take(step).with_context(|| format!("{step:?} by istioctl"))?;
        ours.take(step).with_context(|| format!("{step:?} by mesh-tag"))?;
        comparison.compare(&format!("{step:?}"), &theirs, &ours)?;
    }
    comparison.finish()
}

const NAMED: World = World {
    name: "named",
    steps: &[
        Step::Set("prod", "1-26-0"),
        Step::Set("canary", "1-28-2"),
        Step::Move("prod", "1-28-2"),
        Step::Move("prod", "1-26-0"),
        Step::Remove("canary"),
        Step::Remove("prod"),
    ],
    ..World::PLAIN
};

#[test]
fn named_tags_as_by_istioctl_1_28() -> Result<()> {
    run(&NAMED, IstioVersion::V1_28_2)
}

#[test]
fn named_tags_as_by_istioctl_1_26() -> Result<()> {
    run(&NAMED, IstioVersion::V1_26_0)
}

#[test]
fn the_default_tag_as_by_istioctl_1_28() -> Result<()> {
    let world = World {
        name: "default",
        unrevisioned: true,
        steps: &[
            Step::Move("default", "1-28-2"),
            Step::Set("prod", "default"),
            Step::Move("default", "default"),
            Step::Remove("prod"),
        ],
        ..World::PLAIN
    };
    run(&world, IstioVersion::V1_28_2)
}

#[test]
fn the_first_default_tag_as_by_istioctl_1_26() -> Result<()> {
    // Without an install that makes the tag itself: it is made, moved and removed.
    let world = World {
        name: "first default",
        steps: &[
            Step::Remove("default"),
            Step::Set("default", "1-26-0"),
            Step::Move("default", "1-28-2"),
            Step::Remove("default"),
        ],
        ..World::PLAIN
    };
    run(&world, IstioVersion::V1_26_0)
}

#[test]
fn tags_in_the_layout_of_aks() -> Result<()> {
    let world = World {
        name: "aks",
        namespace: "aks-istio-system",
        has_platform_terms: true,
        steps: &[Step::Set("prod", "1-26-0"), Step::Move("prod", "1-28-2"), Step::Remove("prod")],
        ..World::PLAIN
    };
    run(&world, IstioVersion::V1_28_2)
}

#[test]
fn tags_of_revisions_that_helm_installed() -> Result<()> {
    let world = World {
        name: "helm",
        by_helm: true,
        steps: &[Step::Set("prod", "1-26-0"), Step::Move("prod", "1-28-2"), Step::Set("blue", "1-26-0"), Step::Remove("prod")],
        ..World::PLAIN
    };
    run(&world, IstioVersion::V1_28_2)
}
