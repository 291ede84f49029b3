//! `cargo xtask setup`: installs what is missing, and says what and why, a line each.
//!
//! Invariants: what is there is not upgraded, moved or restarted; a second run does nothing; services that packages
//! bring are neither started nor left to start at the next boot (Wherry wants their programs only).

mod apt;
mod packages;
mod service_guard;
mod tools;

use anyhow::Result;
use clap::ValueEnum;

/// What to set up for.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The larger purposes include the smaller ones
    #[arg(long = "for", value_enum, default_value_t = Purpose::Demo)]
    purpose: Purpose,
}

/// In order of inclusion: whoever sets up for tests can run the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// Run containers: `cargo xtask demo`, `wherry up`
    Demo,
    /// Also `cargo xtask test`
    Test,
    /// Also `.ci/run`
    Ci,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    install(arguments.purpose)
}

/// Installs what `purpose` needs.
pub(crate) fn install(purpose: Purpose) -> Result<()> {
    let missing: Vec<_> =
        packages::PACKAGES.iter().filter(|package| package.purpose <= purpose && !package.is_there()).collect();
    for package in &missing {
        println!("installing the Debian package {}: {}", package.name, package.why);
    }
    apt::install(&missing)?;
    let tools = tools::install(purpose)?;
    if missing.is_empty() && tools == 0 {
        println!("set-up: everything is there already");
    } else {
        println!("set-up: {} packages and {tools} tools installed", missing.len());
    }
    Ok(())
}
