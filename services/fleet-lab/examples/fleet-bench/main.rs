//! The fleet in figures: `cargo xtask bench fleet` builds and runs it and keeps what it prints.
//!
//! Usage: `fleet-bench BINARY [quick] [creates|unknown|failover|storm]…`; `quick` is to see that it works. The report goes to standard output, what is going on to standard
//! error. The control plane is real: processes of BINARY on loopback, over a PostgreSQL that flushes every commit. The machines are
//! not: they are agents in this process that speak the agents' protocol and run nothing. Who asks is in this process too, so
//! all of it shares one machine, and a figure says what a control plane does with the part that it gets.
//!
//! Rejected: replicas in namespaces of the fleet lab (its gates copy every byte once more, also those to the database).

mod agents;
mod api;
mod creates;
mod failover;
mod figures;
mod plane;
mod storm;
mod system;
mod unknown;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new().context("cannot start the async runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = interrupted() => outcome.and_then(|()| bail!("interrupted; everything that was started is ended")),
                outcome = run() => outcome,
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let mut asked = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).context("cannot listen for signals"));
    let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut asked else { bail!("cannot listen for signals") };
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}

async fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let binary =
        PathBuf::from(words.next().context("usage: fleet-bench BINARY [quick] [creates|unknown|failover|storm]…")?);
    let mut wanted: Vec<String> = words.collect();
    let quick = wanted.first().is_some_and(|word| word == "quick");
    if quick {
        wanted.remove(0);
    }
    if wanted.is_empty() {
        wanted = ["creates", "unknown", "failover", "storm"].map(str::to_owned).to_vec();
    }
    for section in &wanted {
        eprintln!("== {section}");
        let load = figures::load();
        let lines = match section.as_str() {
            "creates" => creates::measure(&binary, quick).await,
            "unknown" => unknown::measure(&binary, quick).await,
            "failover" => failover::measure(&binary, quick).await,
            "storm" => storm::measure(&binary, quick).await,
            other => bail!("there is no measurement {other}"),
        };
        let lines = lines.with_context(|| format!("the measurement {section}"))?;
        // Each for itself: what was measured is not lost to what comes after it.
        println!("{}\n- load before {load}, after {}\n", lines.join("\n"), figures::load());
    }
    Ok(())
}
