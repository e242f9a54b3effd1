//! What mesh-proxyver says a new pod would get, against what the API server and the real istiods make of that very pod.
//!
//! Every run makes up at least 500 cases, from a seed that it prints: `MESH_TRUTH_SEED=N tests/run truth` repeats one,
//! `tests/run --cases N` makes up more.

mod cases;
mod chance;
mod peers;
mod verdicts;
mod worlds;

use std::env;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use chance::Chance;
use support::say;
use verdicts::Tally;
use worlds::Try;

/// Cases in a run that is not told otherwise.
const CASES: usize = 540;

fn number(variable: &str) -> Result<Option<u64>> {
    let text = env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable} wants a number, not {text:?}"))).transpose()
}

#[test]
fn every_answer_is_the_clusters_own() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock after 1970")?;
    let seed = number("MESH_TRUTH_SEED")?.unwrap_or(u64::from(now.subsec_nanos()));
    let cases = usize::try_from(number("MESH_TRUTH_CASES")?.unwrap_or(0)).context("a number of cases that fits")?.max(CASES);
    say(format_args!("truth test: {cases} cases, MESH_TRUTH_SEED={seed}"));
    let per_world = cases.div_ceil(worlds::NUMBER);
    let tried_in = |worlds: fn(&mut Try<'_>) -> Result<()>, seed: u64| -> Result<Tally> {
        let (mut chance, mut tally) = (Chance::new(seed), Tally::default());
        worlds(&mut |world| tally.compare(world, per_world, &mut chance))?;
        Ok(tally)
    };
    // A cluster each, side by side.
    let mut tally = thread::scope(|scope| {
        let other = scope.spawn(|| tried_in(worlds::with_an_unrevisioned_install, !seed));
        let mut tally = tried_in(worlds::with_revisions, seed)?;
        tally.add(other.join().map_err(|_| anyhow!("the cluster with an unrevisioned install panicked"))??);
        Ok::<Tally, anyhow::Error>(tally)
    })?;
    tally.differences.sort();
    say(format_args!("{tally}"));
    assert!(tally.differences.is_empty(), "MESH_TRUTH_SEED={seed}: {tally}\n{}", tally.differences.join("\n"));
    assert!(tally.cases >= cases, "{tally}");
    // A generator that only made up pods outside the mesh would prove nothing.
    assert!(tally.injected * 4 > tally.cases && tally.none * 4 > tally.cases, "{tally}");
    assert!(tally.unreachable > 0 && tally.denied > 0 && !tally.unknown.is_empty(), "{tally}");
    Ok(())
}
