//! `cargo xtask demo`: from nothing to a container that answers by name and costs money, then to nothing again.
//!
//! The binary is built in the dev profile: a fresh machine has compiled most of it for xtask already, and a release
//! build would make a new user wait minutes longer for a tour of seconds.

mod bill;
pub(crate) mod steps;
mod tour;

use anyhow::{Context, Result, bail, ensure};

use crate::interrupt::Interrupt;
use crate::local::{self, LocalService, Profile};
use crate::setup;
use steps::Steps;

/// How the demo ends.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the service running at the end, with one instance, and say how to use it
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "only root may start containers: run this as root (sudo)");
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let interrupt = Interrupt::listen(runtime.handle())?;
    let mut steps = Steps::default();
    steps.run("install what is missing", || setup::install(setup::Purpose::Demo))?;
    interrupt.check()?;
    let binary = steps.run("build wherry (dev profile)", || local::build(Profile::Dev))?;
    interrupt.check()?;
    runtime.block_on(show(arguments, &interrupt, &mut steps, LocalService::prepare("wherry-demo-", binary)?))
}

/// Gives the tour and ends what it started, whatever came of it.
async fn show(
    arguments: &Arguments,
    interrupt: &Interrupt,
    steps: &mut Steps,
    mut service: LocalService,
) -> Result<()> {
    let outcome = tokio::select! {
        outcome = tour::give(steps, &mut service, arguments.keep) => outcome,
        () = interrupt.raised() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(()) if arguments.keep => {
            print_use(service);
            Ok(())
        }
        Ok(()) => {
            steps.step("clean up: processes, mounts, networks, folders", service.end()).await?;
            println!("\nNothing is left on this machine. `cargo xtask demo --keep` leaves it running for you.");
            Ok(())
        }
        Err(error) => {
            let interrupted = interrupt.check().is_err();
            if !interrupted {
                eprintln!("\nthe last lines of `wherry up`:\n{}", service.last_log_lines());
            }
            println!("\ncleaning up …");
            match service.end().await {
                Ok(()) if interrupted => bail!("interrupted; nothing is left on this machine"),
                Ok(()) => Err(error),
                Err(left) => Err(error.context(format!("and the clean-up failed too ({left:#}), after this"))),
            }
        }
    }
}

fn print_use(service: LocalService) {
    let wherry = format!("{} --data {}", service.binary().display(), service.data().display());
    println!("\nIt runs on. API: http://{}, documentation: /docs. Try:", service.addresses().api);
    if let Some(registry) = service.registry_address() {
        println!("  {wherry} run {registry}/demo/web:1 --name web --cpu 0.25 --memory 64Mi --port 80");
    }
    for line in ["ps", "logs -f nginx", "cost", "rm nginx"] {
        println!("  {wherry} {line}");
    }
    println!("To end it and remove every trace:");
    for line in service.leave_running() {
        println!("  {line}");
    }
}
