//! `cargo xtask gen-cri`: the checked-in CRI client from its `.proto` files.
//!
//! The generator is a package outside the workspace, so that its protobuf compiler (pure Rust) is compiled by those who
//! change the protocol and by CI, not by users.

use anyhow::{Context, Result};

use crate::command::{self, cargo};
use crate::repository;

const MANIFEST: &str = "services/runtime-cri/codegen/Cargo.toml";

/// How to generate.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail if the checked-in code differs from what would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    generate(arguments.check)
}

/// Writes the client, or with `check` compares it.
pub(crate) fn generate(check: bool) -> Result<()> {
    let mut generator = cargo();
    generator
        .args(["run", "--quiet", "--locked", "--manifest-path", MANIFEST, "--target-dir"])
        .arg(repository::target().join("codegen"))
        .arg("--");
    if check {
        generator.arg("--check");
    }
    command::run(&mut generator)
        .context("the CRI client differs or cannot be generated: `cargo xtask gen-cri` writes it")
}
