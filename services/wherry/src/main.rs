//! The binary: composition root and subcommands.

mod backup;
mod base;
mod cli;
mod client;
mod completions;
mod control_role;
mod data;
mod doctor;
mod down;
mod forwarding;
mod keys;
mod metrics;
mod migrate;
mod node_role;
mod open_files;
mod settings;
mod store;
mod system;
mod telemetry;
mod up;
mod webhooks;
mod zone;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use data::DataFolder;

fn main() -> ExitCode {
    if let Some(ended) = completions::names(std::env::args_os()) {
        return ended;
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Client(command) => return client::run(&cli.data, command),
        Command::Completions(args) => return completions::print(args.shell),
        Command::Doctor(args) => return doctor::run(&cli.data, &args),
        Command::Up(args) => {
            telemetry::start(args.log_format);
            open_files::raise();
            with_runtime(async { up::run(DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Control(args) => {
            telemetry::start(args.log_format);
            open_files::raise();
            with_runtime(async { control_role::run(DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Node(args) => {
            telemetry::start(args.log_format);
            open_files::raise();
            with_runtime(async { node_role::run(DataFolder::new(&cli.data)?, &args).await })
        }
        Command::NodeGuard(args) => {
            telemetry::start(None);
            with_runtime(async { node_role::run_guard(DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Migrate(args) => {
            telemetry::start(None);
            with_runtime(async { migrate::run(&DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Backup(args) => {
            telemetry::start(None);
            with_runtime(async { backup::save(&DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Restore(args) => {
            telemetry::start(None);
            with_runtime(async { backup::restore(&DataFolder::new(&cli.data)?, &args).await })
        }
        Command::Down(args) => {
            telemetry::start(None);
            with_runtime(async { down::run(&DataFolder::new(&cli.data)?, args.purge).await })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wherry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
