//! Worlds of the simulation: the same ones every time, and some that nobody has seen yet.
//!
//! `WHERRY_SEEDS` asks for more of the fixed ones, `WHERRY_SEED` for a single one. Many more, to the last detail the same at
//! each run and in less time, are played by `cargo xtask simulate`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::time::{Duration, Instant};

use wherry_testkit::seeds;
use wherry_testkit::simulation::{REPEATS, simulate};

/// Fixed worlds, shared out among [`PARTS`] tests, so that they are played on as many cores.
const FIXED: u64 = 100;
const PARTS: u64 = 4;

/// Most fresh worlds, and the time after which no other one is begun: a machine that is slow plays fewer.
const FRESH: u64 = 50;
const FRESH_TIME: Duration = Duration::from_secs(20);

fn holds(seed: u64) {
    let outcome = simulate(seed);
    if !outcome.violations.is_empty() {
        let latest = outcome.story.len().saturating_sub(40);
        // Built for tests, tokio adds a little randomness of its own: only this is certain to be the story of this very run.
        let whole = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("world-{seed}.txt"));
        let kept = std::fs::write(&whole, outcome.story.join("\n")).map(|()| whole.display().to_string());
        panic!(
            "seed {seed}: {:#?}\nreplay it with `cargo xtask simulate --seed {seed}`; the whole story of this run is kept in \
             {kept:?} and ends so:\n{}",
            outcome.violations,
            outcome.story.get(latest..).unwrap_or_default().join("\n")
        );
    }
}

fn part_holds(part: u64) {
    seeds(FIXED).filter(|seed| seed % PARTS == part).for_each(holds);
}

#[test]
fn fixed_worlds_hold_0() {
    part_holds(0);
}

#[test]
fn fixed_worlds_hold_1() {
    part_holds(1);
}

#[test]
fn fixed_worlds_hold_2() {
    part_holds(2);
}

#[test]
fn fixed_worlds_hold_3() {
    part_holds(3);
}

/// Nobody has seen these: what they find was there before the change that they are found with.
#[test]
fn fresh_worlds_hold() {
    let first = RandomState::new().hash_one(0) >> 1;
    println!("fresh worlds from {first}");
    let begun = Instant::now();
    (first..first + FRESH).take_while(|_| begun.elapsed() < FRESH_TIME).for_each(holds);
}

/// The same seed is the same world, to the last commit and process.
#[test]
fn worlds_repeat() {
    for seed in seeds(10) {
        let (once, again) = (simulate(seed), simulate(seed));
        assert!(!once.story.is_empty());
        assert!(!REPEATS || once.story == again.story, "seed {seed} is not the same world twice");
    }
}
