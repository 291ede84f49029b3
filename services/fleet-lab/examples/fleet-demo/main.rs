//! The tour of a fleet: `cargo xtask fleet-demo` builds and runs it.
//!
//! Usage: `fleet-demo BINARY FIRST_STEP LOGS [stay]`. Everything that it prints was checked a line earlier; what does not hold
//! ends it with an error that says what to do. Whatever comes of it, Ctrl-C included, nothing is left on the machine but, after
//! a failure, the logs in the folder LOGS.

mod bill;
mod clock;
mod ledger;
mod loss;
mod rest;
mod sight;
mod steps;
mod tour;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use wherry_fleet_lab::{Fleet, FleetOptions};

use steps::Steps;

fn main() -> ExitCode {
    let outcome = tokio::runtime::Runtime::new().context("cannot start the async runtime").and_then(|runtime| {
        // Dropped at the end of this closure, which waits for blocking work: a database that was just being made is removed.
        runtime.block_on(run())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    binary: PathBuf,
    first_step: usize,
    logs: PathBuf,
    stay: bool,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut words = std::env::args().skip(1);
        let mut next = || words.next().context("usage: fleet-demo BINARY FIRST_STEP LOGS [stay]");
        let (binary, first_step, logs) = (next()?.into(), next()?, next()?.into());
        let first_step = first_step.parse().context("FIRST_STEP is a number")?;
        Ok(Self { binary, first_step, logs, stay: words.next().is_some_and(|word| word == "stay") })
    }
}

async fn run() -> Result<()> {
    let arguments = Arguments::read()?;
    let interrupt = interrupt()?;
    let mut steps = Steps::beginning_at(arguments.first_step);
    let options = FleetOptions {
        control_settings: tour::CONTROL_SETTINGS.to_owned(),
        machine_settings: tour::MACHINE_SETTINGS.to_owned(),
        ..FleetOptions::new(arguments.binary.clone())
    };
    // Some seconds, and not cut short: what is half made cannot be looked for.
    let mut fleet = steps
        .step("make a network of namespaces, a PostgreSQL server and a registry of its own", Fleet::prepare(options))
        .await
        .context("run `cargo xtask setup`, which installs what may be missing")?;
    let outcome = tokio::select! {
        biased;
        () = raised(&interrupt) => Err(anyhow::anyhow!("interrupted")),
        outcome = tour::give(&mut steps, &mut fleet) => outcome,
    };
    let Err(error) = outcome else {
        println!("\nIt all held, after {:.0} s.", steps.elapsed().as_secs_f64());
        if arguments.stay {
            tour::print_use(&fleet, &arguments.binary);
            raised(&interrupt).await;
        }
        steps.step("clean up: processes, mounts, networks, folders", fleet.end()).await?;
        println!("\nNothing is left on this machine.");
        if !arguments.stay {
            println!("`cargo xtask fleet-demo --stay` waits for you before that.");
        }
        return Ok(());
    };
    let interrupted = *interrupt.borrow();
    if !interrupted {
        keep_logs(fleet.folder(), &arguments.logs);
    }
    println!("\ncleaning up …");
    match fleet.end().await {
        Ok(()) if interrupted => bail!("interrupted; nothing is left on this machine"),
        Ok(()) => Err(error.context(format!("the logs of all processes are in {}", arguments.logs.display()))),
        Err(left) => Err(error.context(format!("and the clean-up failed too ({left:#}), after this"))),
    }
}

/// From now on these signals no longer kill this process.
fn interrupt() -> Result<watch::Receiver<bool>> {
    let (sender, raised) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_replace(true);
            }
        });
    }
    Ok(raised)
}

async fn raised(interrupt: &watch::Receiver<bool>) {
    // Fails only when the listening tasks are gone, which is when this process ends.
    let _ = interrupt.clone().wait_for(|raised| *raised).await;
}

/// Best effort: the error that is being reported matters more.
fn keep_logs(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let _ = std::fs::create_dir_all(to);
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let engines = ["node-0", "node-1", "node-2"].map(|name| (name, from.join(name).join("containerd/containerd.log")));
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten().filter(|entry| is_log(&entry.path())) {
        let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
    }
    for (name, log) in engines {
        let _ = std::fs::copy(log, to.join(format!("{name}-containerd.log")));
    }
}
