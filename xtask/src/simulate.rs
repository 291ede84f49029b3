//! `cargo xtask simulate`: plays worlds of the simulation in `services/testkit/src/simulation`.
//!
//! Built apart from everything else: optimised, because a world is nothing but CPU; and with `--cfg tokio_unstable`, because
//! only then tokio lets its own randomness be seeded, and a seed is the same world every time. Production is not built so.
//!
//! Always built from one copy of the sources (`sources.rs`), with or without a deliberate bug in it: cargo does not tell artifacts of
//! two copies apart, and would link the bugs of one into the player of the other.

mod mutations;
mod sources;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{cargo, run as run_command};
use crate::repository;

/// Which worlds.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many worlds are played
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, conflicts_with = "fresh")]
    from: u64,
    /// Worlds that nobody has played yet: from anywhere
    #[arg(long)]
    fresh: bool,
    /// Processes that play at the same time
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Tell the story of this one world instead
    #[arg(long)]
    seed: Option<u64>,
    /// Plant each of the deliberate bugs in a copy of the sources, and see that some world finds it
    #[arg(long)]
    mutations: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.jobs > 0, "at least one process must play: give --jobs 1 or more");
    if arguments.mutations {
        return mutations::run(arguments.seeds, arguments.jobs);
    }
    let player = build(None)?;
    if let Some(seed) = arguments.seed {
        return run_command(Command::new(player).arg(seed.to_string()));
    }
    let from = if arguments.fresh { RandomState::new().hash_one(0) >> 1 } else { arguments.from };
    let begun = Instant::now();
    println!("{} worlds from {from}", arguments.seeds);
    let found = play(&player, from, arguments.seeds, arguments.jobs)?;
    println!(
        "{} worlds from {from} in {} s: {} with a violation",
        arguments.seeds,
        begun.elapsed().as_secs(),
        found.len()
    );
    for found in &found {
        println!("{}", found.sentence);
        println!("    replay it with `cargo xtask simulate --seed {}`", found.seed);
    }
    ensure!(found.is_empty(), "{} of {} worlds have a violation", found.len(), arguments.seeds);
    Ok(())
}

/// Builds the player of the sources as they are now, or with a patch.
fn build(patch: Option<&Path>) -> Result<PathBuf> {
    let folder = repository::target().join("simulation");
    let copy = folder.join("sources");
    sources::renew(&copy, patch)?;
    run_command(
        cargo()
            .current_dir(&copy)
            .args(["build", "--quiet", "--locked", "--profile", "simulation"])
            .args(["--package", "wherry-testkit", "--example", "simulate", "--target-dir"])
            .arg(&folder)
            .env("RUSTFLAGS", "--cfg tokio_unstable"),
    )?;
    // Another build takes the place of this one.
    let name = patch.and_then(Path::file_stem).unwrap_or_else(|| "player".as_ref());
    let player = folder.join("players").join(name);
    fs::create_dir_all(folder.join("players")).context("cannot make the folder of the players")?;
    // What runs cannot be written to, but another file can take its name.
    let fresh = player.with_extension("new");
    fs::copy(folder.join("simulation/examples/simulate"), &fresh).context("cannot keep the player")?;
    fs::rename(&fresh, &player).context("cannot keep the player")?;
    Ok(player)
}

/// A world with a violation.
struct Found {
    seed: u64,
    sentence: String,
}

/// Plays `count` worlds in `jobs` processes and prints what they find.
fn play(player: &Path, from: u64, count: u64, jobs: u64) -> Result<Vec<Found>> {
    let share = count.div_ceil(jobs);
    let shares: Vec<(u64, u64)> = (0..jobs)
        .map(|job| (from.saturating_add(job * share), share.min(count.saturating_sub(job * share))))
        .filter(|(_, count)| *count > 0)
        .collect();
    thread::scope(|scope| {
        let playing: Vec<_> =
            shares.into_iter().map(|(first, count)| scope.spawn(move || play_share(player, first, count))).collect();
        let mut found = Vec::new();
        for share in playing {
            found.extend(share.join().map_err(|_| anyhow::anyhow!("a process could not be watched"))??);
        }
        found.sort_by_key(|found| found.seed);
        Ok(found)
    })
}

/// At the lowest priority: whoever works on this machine meanwhile shall not notice.
fn play_share(player: &Path, first: u64, count: u64) -> Result<Vec<Found>> {
    let mut playing = Command::new("nice")
        .args(["-n", "19"])
        .arg(player)
        .args([first.to_string(), count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", player.display()))?;
    let output = playing.stdout.take().context("the player has no output")?;
    let mut found: Vec<Found> = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the player says")?;
        println!("{line}");
        let seed = line.strip_prefix("seed ").and_then(|rest| rest.split_once(": "));
        if let Some(seed) = seed.and_then(|(seed, _)| seed.parse().ok()) {
            found.push(Found { seed, sentence: line });
        }
    }
    let status = playing.wait().context("cannot wait for the player")?;
    if !status.success() && found.is_empty() {
        bail!("the player of the worlds from {first} ended with {status} and told nothing");
    }
    Ok(found)
}
