//! `cargo xtask simulate`: plays worlds of the simulation in `services/testkit/src/simulation`.
//!
//! Built apart from everything else: optimised, because a world is nothing but CPU; and with `--cfg tokio_unstable`, because
//! only then tokio lets its own randomness be seeded, and a seed is the same world every time. Production is not built so.

mod mutations;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

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
    #[arg(long, default_value_t = 0)]
    from: u64,
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
    let player = build(&repository::root(), &repository::target().join("simulation"))?;
    if let Some(seed) = arguments.seed {
        return run_command(Command::new(player).arg(seed.to_string()));
    }
    let found = play(&player, arguments.from, arguments.seeds, arguments.jobs)?;
    ensure!(
        found.is_empty(),
        "{} of {} worlds have a violation; read one with `cargo xtask simulate --seed {}`",
        found.len(),
        arguments.seeds,
        found.first().map_or(arguments.from, |found| found.seed)
    );
    Ok(())
}

/// Builds the player of the sources in `root`.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    run_command(
        cargo()
            .current_dir(root)
            .args(["build", "--quiet", "--locked", "--profile", "simulation"])
            .args(["--package", "wherry-testkit", "--example", "simulate", "--target-dir"])
            .arg(target)
            .env("RUSTFLAGS", "--cfg tokio_unstable"),
    )?;
    Ok(target.join("simulation/examples/simulate"))
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

fn play_share(player: &Path, first: u64, count: u64) -> Result<Vec<Found>> {
    let output = Command::new(player)
        .args([first.to_string(), count.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", player.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let found: Vec<Found> = text
        .lines()
        .filter_map(|line| {
            let (seed, sentence) = line.strip_prefix("seed ")?.split_once(": ")?;
            Some(Found { seed: seed.parse().ok()?, sentence: sentence.to_owned() })
        })
        .collect();
    if !output.status.success() && found.is_empty() {
        bail!("the player of the worlds from {first} ended with {} and told nothing", output.status);
    }
    Ok(found)
}
