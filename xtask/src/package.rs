//! `cargo xtask package`: a Debian package with the program, its units, its settings, its alert rules and its papers.
//!
//! `--check` installs it in a clean Debian, made for the purpose from nothing but the distribution's packages, and runs the
//! program there in namespaces of its own.
//!
//! Rejected: cargo-deb and debhelper (the package is one program and a dozen files; `dpkg-deb` is what both end in).

mod clean_root;
mod tree;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{capture, cargo, run as run_command};
use crate::repository;

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Put the development build in it: much faster to make, much slower and larger
    #[arg(long)]
    dev: bool,
    /// Install it in a clean Debian 12 and run it there
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let package = build(arguments.dev)?;
    println!("{}", package.display());
    if arguments.check {
        clean_root::check(&package)?;
    }
    Ok(())
}

fn build(dev: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "wherry", "--locked"]);
    if !dev {
        build.arg("--release");
    }
    run_command(&mut build)?;
    let program = repository::target().join(if dev { "debug/wherry" } else { "release/wherry" });
    let architecture = capture(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let folder = repository::target().join("package");
    std::fs::create_dir_all(&folder).context("cannot make the folder of the package")?;
    let staged = tempfile::tempdir_in(&folder).context("cannot make a scratch folder")?;
    tree::stage(staged.path(), &program, &architecture)?;
    let package = folder.join(format!("wherry_{}_{architecture}.deb", env!("CARGO_PKG_VERSION")));
    run_command(
        Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(staged.path()).arg(&package),
    )?;
    Ok(package)
}
