//! `cargo xtask fuzz-api`: schemathesis against a whole Wherry, driven by the document that the service itself serves.
//!
//! The seed is fixed unless another is asked for, so a red run is red again for the next person.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;

use crate::command;
use crate::interrupt::Interrupt;
use crate::local::{self, LocalService, Profile};
use crate::repository;
use crate::setup;

/// Hundreds of instances are asked for, none of which gets an image. "No capacity" is a right answer to that, but then
/// every other answer would hide behind it.
const ROOMY_NODE: &str = "[node]\ncpu_millis = 1000000\nmemory_mib = 100000000\ninstances = 100000\n";

/// Operations that act on nodes.
const NODES: &str = "^/v1/admin/nodes/";

/// How long and how varied.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Arguments {
    /// Start of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Most cases for each operation
    #[arg(long, default_value_t = 30)]
    examples: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install(setup::Purpose::Test)?;
    attack(*arguments)
}

/// The attack as one of the tests: everything is installed.
pub(crate) fn attack_briefly() -> Result<()> {
    attack(Arguments { seed: 1, examples: 30 })
}

fn attack(arguments: Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root may start Wherry: run this as root (sudo)");
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let mut service = LocalService::prepare("wherry-fuzz-", local::build(Profile::Dev)?)?;
    let outcome = start_and_attack(&runtime, &mut service, &interrupt, arguments);
    if outcome.is_err() {
        eprintln!("the last lines of `wherry up`:\n{}", service.last_log_lines());
    }
    let ended = runtime.block_on(service.end());
    match (outcome, ended) {
        (Err(found), Err(left)) => Err(found.context(format!("the clean-up failed too ({left:#}), after this"))),
        (outcome, ended) => outcome.and(ended),
    }
}

fn start_and_attack(
    runtime: &Runtime,
    service: &mut LocalService,
    interrupt: &Interrupt,
    arguments: Arguments,
) -> Result<()> {
    service.configure(ROOMY_NODE)?;
    let token = runtime.block_on(async {
        service.start().await?;
        anyhow::Ok(service.connect().await?.token().access_token.clone())
    })?;
    interrupt.check()?;
    // Nodes last: once this one is drained, "no capacity" is the right answer to every create.
    for (which, pattern) in [("--exclude-path-regex", NODES), ("--include-path-regex", NODES)] {
        let mut schemathesis = Command::new(repository::tools().join("schemathesis/bin/st"));
        schemathesis
            .current_dir(repository::root())
            .args(["--config-file", "xtask/schemathesis.toml", "--no-color", "run"])
            .arg(format!("http://{}/openapi.json", service.addresses().api))
            .args(["--checks", "all", which, pattern])
            .args(["--seed", &arguments.seed.to_string(), "--max-examples", &arguments.examples.to_string()])
            .env("WHERRY_TOKEN", &token)
            .env("NO_PROXY", "*");
        command::run(&mut schemathesis)
            .context("schemathesis found something: each failure above ends with a curl line")?;
        interrupt.check()?;
    }
    ensure!(service.is_alive()?, "`wherry up` did not survive");
    Ok(())
}
