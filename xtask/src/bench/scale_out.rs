//! `cargo xtask bench scale-out`: how often replicas that place at the same time propose what another one has just taken.
//!
//! The measurements are an example of `services/testkit` (its `examples/scale-out`): whole replicas on one store, and the same in virtual
//! time; here it is built in release, run, and kept with the machine that it is from.

use anyhow::Result;

use super::{document, machine};
use crate::command::{self, cargo};
use crate::repository;
use crate::setup;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Creates a second, over all four replicas; may be repeated
    #[arg(long = "rate", value_name = "COUNT", default_values_t = [2_000], value_parser = clap::value_parser!(u64).range(100..=20_000))]
    rates: Vec<u64>,
    /// Keep the result in docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    setup::install(setup::Purpose::Demo)?;
    println!("building the measurements (release profile)");
    command::run(cargo().args(["build", "--release", "--package", "wherry-testkit", "--example", "scale-out"]))?;
    let mut measurements = std::process::Command::new(repository::target().join("release/examples/scale-out"));
    measurements.args(arguments.rates.iter().map(ToString::to_string));
    let figures = command::capture(&mut measurements)?;
    let lines: Vec<String> = machine::describe_for_stores().iter().map(|line| format!("- {line}")).collect();
    let report = format!("{}\n\n{}", lines.join("\n"), figures.trim_end());
    println!("\n{report}");
    if arguments.write { document::replace_section("Scale-out", &report) } else { Ok(()) }
}
