//! `cargo xtask bench fleet`: a control plane of one and of two replicas in figures.
//!
//! The measurements are an example of `services/fleet-lab` (its `examples/fleet-bench`), so that xtask need not compile an
//! agent's TLS; here they are built, run, and kept with the machine that they are from.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tokio::io::AsyncReadExt as _;

use super::{document, machine};
use crate::fleet_demo::build_example;
use crate::interrupt::Interrupt;
use crate::local::{self, Profile};
use crate::setup;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these measurements
    #[arg(long, value_enum)]
    only: Vec<Measurement>,
    /// Measure less, to see that it works
    #[arg(long)]
    quick: bool,
    /// Keep the result in docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    write: bool,
    /// Measure a dev build, which is there sooner and several times slower
    #[arg(long)]
    dev: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Measurement {
    /// Creates a second on SQLite, PostgreSQL with one replica, with two
    Creates,
    /// From the death of a machine to `unknown`
    Unknown,
    /// From the death of a replica to the next create
    Failover,
    /// 500 agents that come back at once
    Storm,
}

impl Measurement {
    const fn word(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Unknown => "unknown",
            Self::Failover => "failover",
            Self::Storm => "storm",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    setup::install(setup::Purpose::Demo)?;
    let profile = if arguments.dev { Profile::Dev } else { Profile::Release };
    println!("building wherry and the measurements ({profile} profile)");
    let (binary, measurements) = (local::build(profile)?, build_example("fleet-bench", profile)?);
    interrupt.check()?;
    let mut command = Command::new(measurements);
    command
        .arg(binary)
        .args(arguments.quick.then_some("quick"))
        .args(arguments.only.iter().map(|measurement| measurement.word()));
    let figures = runtime.block_on(output_of(command, &interrupt))?;
    let mut lines: Vec<String> = machine::describe_for_stores().iter().map(|line| format!("- {line}")).collect();
    lines.push(format!("- profile: {profile}"));
    let report = format!("{}\n\n{}", lines.join("\n"), figures.trim_end());
    println!("\n{report}");
    if arguments.write { document::replace_section("Fleet", &report) } else { Ok(()) }
}

/// Runs it to its end, which is also the end of all that it has started. It tells on standard error what it does.
async fn output_of(command: Command, interrupt: &Interrupt) -> Result<String> {
    let mut command = tokio::process::Command::from(command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the measurements cannot be started")?;
    let mut output = child.stdout.take().context("the measurements have no output")?;
    let mut text = String::new();
    tokio::select! {
        biased;
        read = output.read_to_string(&mut text) => drop(read.context("the measurements cannot be read")?),
        () = interrupt.raised() => {
            // A Ctrl-C on the terminal has reached it by itself; a signal that came to us alone is handed on.
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
                // Fails only if it has ended already.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
        }
    }
    let status = child.wait().await.context("the measurements cannot be waited for")?;
    ensure!(status.success(), "the measurements did not come to their end: see above; until then they were\n{text}");
    Ok(text)
}
