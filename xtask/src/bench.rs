//! `cargo xtask bench …`: numbers of this machine, made in one run, beside the engines and stores that Wherry stands on.

mod containerd;
mod document;
mod exec;
mod first_byte;
mod fleet;
mod machine;
mod placement;
mod runc;
mod samples;
mod scale_out;
mod start;
mod wherry;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// From the order to the first byte that the container's process writes, image present
    Start(start::Arguments),
    /// From the order of a program in a container to its exit code, over the API
    Exec(exec::Arguments),
    /// A fleet: creates, the deaths of a machine and of a replica, many agents at once
    Fleet(fleet::Arguments),
    /// How often replicas that place at the same time propose what another one has just taken
    ScaleOut(scale_out::Arguments),
    /// How densely the placement engine packs and how fast it decides, beside published policies
    Placement(placement::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.benchmark {
        Benchmark::Start(arguments) => start::run(arguments),
        Benchmark::Exec(arguments) => exec::run(arguments),
        Benchmark::Fleet(arguments) => fleet::run(arguments),
        Benchmark::ScaleOut(arguments) => scale_out::run(arguments),
        Benchmark::Placement(arguments) => placement::run(arguments),
    }
}
