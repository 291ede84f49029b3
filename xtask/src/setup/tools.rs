//! Developer tools from the language registries, installed under the target folder and nowhere else.
//!
//! Versions are pinned: a new release must not break an old commit. Debug builds of the Cargo tools: they compile in a
//! third of the time, and what they do here is over in seconds either way.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{self, cargo};
use crate::repository;
use crate::setup::Purpose;

struct CargoTool {
    name: &'static str,
    version: &'static str,
    why: &'static str,
    purpose: Purpose,
}

const CARGO_TOOLS: &[CargoTool] = &[
    CargoTool {
        name: "nextest",
        version: "0.9.151",
        why: "runs each test in its own process, with time limits",
        purpose: Purpose::Test,
    },
    CargoTool {
        name: "deny",
        version: "0.20.2",
        why: "holds heavy dependencies in their one crate, and checks licences and sources",
        purpose: Purpose::Ci,
    },
];

const SCHEMATHESIS_VERSION: &str = "4.32.5";

/// Installs what is missing and returns how many that were.
pub(super) fn install(purpose: Purpose) -> Result<usize> {
    let mut installed = 0;
    for tool in CARGO_TOOLS.iter().filter(|tool| tool.purpose <= purpose) {
        if !command::succeeds(cargo().args([tool.name, "--version"])) {
            install_cargo_tool(tool)?;
            installed += 1;
        }
    }
    if purpose >= Purpose::Ci {
        for component in ["fmt", "clippy"] {
            ensure!(
                command::succeeds(cargo().args([component, "--version"])),
                "cargo {component} is missing: run `rustup component add rustfmt clippy`"
            );
        }
    }
    if purpose >= Purpose::Test && install_schemathesis()? {
        installed += 1;
    }
    Ok(installed)
}

fn install_cargo_tool(tool: &CargoTool) -> Result<()> {
    let CargoTool { name, version, why, .. } = tool;
    println!("compiling cargo-{name} {version} (a few minutes, once): {why}");
    let crate_name = format!("cargo-{name}");
    let mut install = cargo();
    install
        .args(["install", "--locked", "--debug", "--quiet", "--version", version, "--root"])
        .arg(repository::tools())
        .arg(&crate_name);
    command::run(&mut install).with_context(|| {
        format!("cannot install {crate_name}: check the network, or install it by hand: cargo install {crate_name}")
    })
}

/// True if it had to be installed. A stamp file tells a whole environment from one that was interrupted.
fn install_schemathesis() -> Result<bool> {
    let environment = repository::tools().join("schemathesis");
    let stamp = environment.join(format!("installed-{SCHEMATHESIS_VERSION}"));
    if stamp.exists() {
        return Ok(false);
    }
    println!("installing schemathesis {SCHEMATHESIS_VERSION}: attacks the API from its own OpenAPI document");
    if environment.exists() {
        fs::remove_dir_all(&environment).with_context(|| format!("cannot remove {}", environment.display()))?;
    }
    let requirement = format!("schemathesis=={SCHEMATHESIS_VERSION}");
    command::capture(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .context("cannot create a Python environment: install python3 and python3-venv")?;
    command::capture(Command::new(environment.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        &requirement,
    ]))
    .context("pip cannot install schemathesis: check the network and pip's configuration")?;
    fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(true)
}
