//! `cargo xtask bench placement`: the placement engine in figures.
//!
//! The measurements are an example of `services/placement` (its `examples/bench`), which sees what the engine's users see; here it is built
//! in release, run, and kept with the machine that it is from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{document, machine};
use crate::command::{self, cargo};
use crate::repository;

/// Where the trace lies for who has it, from the repository.
const TRACES: &str = "../shared/data";
/// Where plots are kept.
const PLOTS: &str = "docs/plots";

/// How to measure. Without `--density` or `--speed`: both, about five minutes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Replay this: a CSV with the columns arrive_s, batch, vcpu, mem_mib, life_s and cens, plain or gzipped, of one segment. Without it
    /// the one in ../shared/data, and if there is none a synthetic one, by which nothing is to be judged
    #[arg(long, value_name = "PATH")]
    trace: Option<PathBuf>,
    /// Measure how densely each policy packs
    #[arg(long)]
    density: bool,
    /// Measure how fast the engine decides
    #[arg(long)]
    speed: bool,
    /// Write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the result and its plots in docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["density", "speed"])]
    write: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    println!("building the measurements (release profile)");
    command::run(cargo().args(["build", "--release", "--package", "wherry-placement", "--example", "bench"]))?;
    let mut bench = Command::new(repository::target().join("release/examples/bench"));
    for line in machine::describe_for_computing() {
        bench.args(["--about", &line]);
    }
    if let Some(trace) = arguments.trace.clone().or_else(known_trace) {
        bench.arg("--trace").arg(trace);
    }
    bench.args(arguments.density.then_some("--density")).args(arguments.speed.then_some("--speed"));
    if let Some(file) = &arguments.json {
        bench.arg("--json").arg(file);
    }
    if !arguments.write {
        return command::run(&mut bench);
    }
    let plots = repository::root().join(PLOTS);
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {PLOTS}"))?;
    let scratch = tempfile::tempdir().context("no scratch folder")?;
    let markdown = scratch.path().join("placement.md");
    command::run(bench.arg("--plots").arg(plots).arg("--markdown").arg(&markdown))?;
    let text = fs::read_to_string(&markdown).context("cannot read what the measurements wrote")?;
    document::replace_section("Placement", &text)
}

/// The first in order of names.
fn known_trace() -> Option<PathBuf> {
    let is_trace = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.rsplit('.').find(|part| *part != "gz") == Some("csv")
    };
    let folder = repository::root().join(Path::new(TRACES));
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(is_trace).min()
}
