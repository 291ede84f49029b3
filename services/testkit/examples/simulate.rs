//! Plays worlds of the simulation; `cargo xtask simulate` builds and starts this.
//!
//! `simulate SEED` tells the story of one. `simulate FIRST COUNT` plays many and names those with a violation. A few of
//! them are played twice: they must be the same to the last detail.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use wherry_testkit::simulation::{REPEATS, simulate};

/// One of so many worlds is played twice.
const TWICE_OF: u64 = 100;

/// How often it is said how far it is.
const TELL_EVERY: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => tell(seed),
        [first, count] => play(first, count),
        _ => {
            eprintln!("usage: simulate SEED, or simulate FIRST COUNT");
            ExitCode::from(2)
        }
    }
}

fn tell(seed: u64) -> ExitCode {
    let outcome = simulate(seed);
    for line in &outcome.story {
        println!("{line}");
    }
    println!("trace {:016x}", outcome.trace);
    for violation in &outcome.violations {
        println!("violation: {violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(first: u64, count: u64) -> ExitCode {
    let mut failed = 0_u64;
    let mut told = Instant::now();
    for seed in first..first.saturating_add(count) {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            println!("{} of {count} worlds from {first}, {failed} with a violation", seed - first);
        }
        let mut outcome = simulate(seed);
        if REPEATS && seed.is_multiple_of(TWICE_OF) && simulate(seed).trace != outcome.trace {
            outcome.violations.push("it is not the same world twice".to_owned());
        }
        if !outcome.violations.is_empty() {
            failed += 1;
            println!("seed {seed}: {}", outcome.violations.join("; "));
        }
    }
    println!("{count} worlds from {first}: {failed} with a violation");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
