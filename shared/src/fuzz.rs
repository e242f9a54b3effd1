//! Random inputs for everything that reads bytes of others: real lists, changed here and there, must never end in a panic, in
//! memory without bound or in an answer that another way of reading does not give.
//!
//! `cargo test` tries a few cases, always the same. `MESH_FUZZ_SECONDS=60 cargo test -p kubectl-mesh --lib fuzz::` goes on for a
//! minute a target, from a seed that it prints; `MESH_FUZZ_SEED=N` begins at that seed again.

mod files;
mod json;
mod mutation;
mod protobuf;
mod yaml;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner};

/// How long one case may take: by the clock, so that a machine on which others work does not fail it. Inputs are some
/// kilobytes, and what takes quadratic time or worse takes longer.
const SLOWEST: Duration = Duration::from_mins(2);

/// How many cases come from one seed.
const CASES: u32 = 16;

/// A real mesh in the middle of an upgrade, as `--save` wrote it.
const MESH: &str = include_str!("../../tests/snapshots/mid-upgrade.json");

/// Tries a property on random values of a strategy.
fn check<S: Strategy>(target: &str, strategy: S, property: impl Fn(S::Value) -> TestCaseResult)
where
    S::Value: std::fmt::Debug,
{
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let budget = number("MESH_FUZZ_SECONDS").map(Duration::from_secs);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let first = number("MESH_FUZZ_SEED").unwrap_or_else(|| budget.map_or(0, |_| now()));
    let begin = Instant::now();
    let timed = |value: S::Value| {
        let begin = Instant::now();
        property(value)?;
        let taken = begin.elapsed();
        if taken > SLOWEST { Err(TestCaseError::fail(format!("it took {taken:?}"))) } else { Ok(()) }
    };
    let mut seed = first;
    loop {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        if let Err(error) = TestRunner::new_with_rng(config, rng).run(&strategy, timed) {
            panic!("{target}, with MESH_FUZZ_SEED={seed}: {error}");
        }
        seed += 1;
        if budget.is_none_or(|budget| begin.elapsed() >= budget) {
            break;
        }
    }
    if budget.is_some() {
        let cases = (seed - first) * u64::from(CASES);
        std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("fuzz: {target}: {cases} cases, MESH_FUZZ_SEED={first} to {}\n", seed - 1).as_bytes(),
        )
        .expect("stderr takes a line");
    }
}
