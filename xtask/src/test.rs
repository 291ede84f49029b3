//! `cargo xtask test`: set-up, then every check and test, the quick ones first.
//!
//! Everything is built in the dev profile with the features of the whole workspace, so nothing is compiled twice.

use anyhow::Result;

use crate::command::{cargo, run as run_command};
use crate::stages::Stages;
use crate::{check_deps, check_operations, fuzz_api, gen_cri, previous_release, setup};

/// Which tests.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Do not look for missing packages and tools
    #[arg(long)]
    skip_setup: bool,
    /// Leave out the tests that upgrade a fleet of the previous release: for a clone without its commit
    #[arg(long)]
    without_previous_release: bool,
    /// Passed on to `cargo nextest run`, such as `-E 'package(wherry-model)'`
    #[arg(last = true)]
    nextest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut stages = Stages::default();
    if !arguments.skip_setup {
        stages.run("set-up", || setup::install(setup::Purpose::Test))?;
    }
    stages.run("arrows between crates", || check_deps::check(false))?;
    // The end-to-end tests start the real binary; cargo does not build it for the tests of another package.
    stages.run("build", || run_command(cargo().args(["build", "--workspace", "--bins", "--locked"])))?;
    stages.run("alert rules, dashboard, units", check_operations::run)?;
    let mut nextest = cargo();
    nextest.args(["nextest", "run", "--workspace", "--locked"]);
    if arguments.without_previous_release {
        println!("\n=== NOT TESTED: upgrades from the previous release");
        nextest.args(["--profile", previous_release::WITHOUT]);
    } else {
        // After the build, whose third parties it uses.
        stages.run("previous release", || {
            nextest.env(previous_release::VARIABLE, previous_release::binary()?);
            Ok(())
        })?;
    }
    stages.run("tests", || run_command(nextest.args(&arguments.nextest)))?;
    stages.run("tests in documentation", || run_command(cargo().args(["test", "--doc", "--workspace", "--locked"])))?;
    stages.run("generated CRI client", || gen_cri::generate(true))?;
    stages.run("API against its own document", fuzz_api::attack_briefly)
}
