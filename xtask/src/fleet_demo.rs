//! `cargo xtask fleet-demo`: from nothing to a fleet that loses a replica and a machine, then to nothing again.
//!
//! The tour itself is an example of `services/fleet-lab`, so that everything else that xtask does need not compile the lab. What
//! it is given is in its usage; what happens here is what comes before: set-up and build.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{self, cargo};
use crate::demo::steps::Steps;
use crate::interrupt::Interrupt;
use crate::local::{self, Profile};
use crate::{repository, setup};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the tour ends.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the fleet running at the end until Ctrl-C, and say how to use it
    #[arg(long)]
    stay: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root makes network namespaces and containers: run this as root (sudo)"
    );
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let mut steps = Steps::default();
    steps.run("install what is missing", || setup::install(setup::Purpose::Demo))?;
    interrupt.check()?;
    let (binary, tour) = steps.run("build wherry and the tour (dev profile)", || {
        Ok((local::build(Profile::Dev)?, build_example("fleet-demo", Profile::Dev)?))
    })?;
    interrupt.check()?;
    let logs = repository::target().join("fleet-demo-logs");
    let mut tour = Command::new(tour);
    tour.arg(binary).arg((steps.count() + 1).to_string()).arg(logs);
    if arguments.stay {
        tour.arg("stay");
    }
    let status = runtime.block_on(run_example(tour, &interrupt))?;
    ensure!(status.success(), "the tour did not come to its end: see above");
    Ok(())
}

/// Builds an example of the lab and answers where it is.
pub(crate) fn build_example(name: &str, profile: Profile) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "wherry-fleet-lab", "--example", name]);
    if matches!(profile, Profile::Release) {
        build.arg("--release");
    }
    command::run(&mut build)?;
    Ok(repository::target().join(profile.folder()).join("examples").join(name))
}

/// Runs it to its end, which is also the end of all that it has started. A Ctrl-C on the terminal reaches it by itself, a signal that
/// came to us alone is handed on.
pub(crate) async fn run_example(mut command: Command, interrupt: &Interrupt) -> Result<ExitStatus> {
    let program = Path::new(command.get_program()).display().to_string();
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {program}"))?;
    tokio::select! {
        biased;
        status = ended(&mut child) => return status,
        () = interrupt.raised() => {}
    }
    // Fails only if it has ended already.
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    ended(&mut child).await
}

async fn ended(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot watch a process")? {
            return Ok(status);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
