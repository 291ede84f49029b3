//! Load on a running Wherry: `wherry-loadtest run` brings simulated nodes to life, asks for instances through the public API in an open
//! loop, and lets an auditor hold what was promised against what happened. See `loadtest/README.md`.
//!
//! The nodes are **simulated**: agents as state machines that speak the real protocol over real sockets from this process; nothing
//! runs on them. What Wherry itself does is real, and what it uses is read apart from what this process uses.

mod arguments;
mod arrivals;
mod audit;
mod drive;
mod ledger;
mod nodes;
mod plane;
mod process;
mod report;
mod run;
mod samples;
mod system;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use wherry_trace::synthetic;

use arguments::{Cli, Command, Trace};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Trace(trace) => write_trace(&trace).map(|()| true),
        Command::Run(arguments) => {
            tokio::runtime::Runtime::new().context("cannot start the async runtime").and_then(|runtime| {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        outcome = interrupted() => {
                            outcome.and_then(|()| bail!("interrupted; everything that was started is ended"))
                        }
                        outcome = run::run(&arguments) => outcome,
                    }
                })
            })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

fn write_trace(trace: &Trace) -> Result<()> {
    let rows = synthetic::draw(trace.count, trace.days, trace.seed);
    std::fs::write(&trace.out, synthetic::csv(&rows))
        .with_context(|| format!("{} cannot be written", trace.out.display()))?;
    println!("{}: {} synthetic arrivals over {} days", trace.out.display(), rows.len(), trace.days);
    Ok(())
}
