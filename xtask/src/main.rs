//! `cargo xtask …`: everything one does to this repository besides editing it.
//!
//! One module per subcommand. Rejected: Makefiles and shell scripts (a third language, untested, with other tools to
//! install first); `.ci/run` is the one exception, because something has to call cargo.

mod bench;
mod check_deps;
mod check_operations;
mod command;
mod demo;
#[cfg(test)]
mod documents;
mod fleet_demo;
mod fuzz_api;
mod gen_cri;
mod interrupt;
mod local;
mod package;
mod previous_release;
mod repository;
mod setup;
mod simulate;
mod stages;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set-up, tests, checks and the demo of Wherry")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the whole thing: install, build, run containers by name, and clean up
    Demo(demo::Arguments),
    /// Show a fleet: PostgreSQL, two API replicas, three machines, a replica and a machine that die, the bill
    FleetDemo(fleet_demo::Arguments),
    /// Install what is missing for the demo, the tests or the whole CI run
    Setup(setup::Arguments),
    /// Install what the tests need and run them all, real containerd included
    Test(test::Arguments),
    /// Build the release that fleets run now, for the tests of upgrades, and say where it is
    PreviousRelease,
    /// Compare the arrows between our crates with the layers and with xtask/internal-deps.txt
    CheckDeps(check_deps::Arguments),
    /// Check alert rules, dashboard and systemd units against the program
    CheckOperations,
    /// Build the Debian package
    Package(package::Arguments),
    /// Measure, beside the engines that Wherry stands on
    Bench(bench::Arguments),
    /// Play worlds of the simulation: the whole fleet in one thread, from a seed
    Simulate(simulate::Arguments),
    /// Attack the API from its own OpenAPI document
    FuzzApi(fuzz_api::Arguments),
    /// Generate the CRI client again from its .proto files
    GenCri(gen_cri::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::FleetDemo(arguments) => fleet_demo::run(&arguments),
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::PreviousRelease => previous_release::run(),
        Task::CheckDeps(arguments) => check_deps::run(&arguments),
        Task::CheckOperations => check_operations::run(),
        Task::Package(arguments) => package::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Simulate(arguments) => simulate::run(&arguments),
        Task::FuzzApi(arguments) => fuzz_api::run(&arguments),
        Task::GenCri(arguments) => gen_cri::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
