//! Worlds of the simulation: the same ones every time, and some that nobody has seen yet.
//!
//! `WHERRY_SEEDS` asks for more of the fixed ones, `WHERRY_SEED` for a single one. Many more, to the last detail the same at
//! each run and in less time, are played by `cargo xtask simulate`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use wherry_testkit::seeds;
use wherry_testkit::simulation::{REPEATS, simulate};

fn holds(seed: u64) {
    let outcome = simulate(seed);
    if !outcome.violations.is_empty() {
        let latest = outcome.story.len().saturating_sub(40);
        panic!(
            "seed {seed}: {:#?}\nread its whole story with `cargo xtask simulate --seed {seed}`; it ends so:\n{}",
            outcome.violations,
            outcome.story.get(latest..).unwrap_or_default().join("\n")
        );
    }
}

#[test]
fn even_worlds_hold() {
    seeds(150).filter(|seed| seed.is_multiple_of(2)).for_each(holds);
}

#[test]
fn odd_worlds_hold() {
    seeds(150).filter(|seed| !seed.is_multiple_of(2)).for_each(holds);
}

/// Nobody has seen these: what they find was there before the change that they are found with.
#[test]
fn fresh_worlds_hold() {
    let first = RandomState::new().hash_one(0) >> 1;
    println!("fresh worlds from {first}");
    (first..first + 50).for_each(holds);
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
