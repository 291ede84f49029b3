//! The commands that talk to a running Wherry, each in its file.
//!
//! They know `/v1` only through `session`, print only through `output`, and end in one place, here: a sentence on
//! standard error and an exit code that scripts can rely on.

mod admin;
mod apply;
mod attach;
pub(crate) mod connection;
mod copy;
mod cost;
mod describe;
mod documents;
mod drain;
mod events;
mod exec;
mod explain;
mod failure;
mod fleet;
mod inspect;
mod life;
mod list;
mod logs;
mod names;
mod output;
mod port_forward;
mod progress;
mod restart;
mod room;
mod run;
mod session;
mod spec;
mod talk;
mod tenancy;
mod terminal;
#[cfg(test)]
mod testing;
pub(crate) mod text;
mod top;
mod update;
mod webhooks;

use std::path::Path;
use std::process::ExitCode;

use connection::Environment;
use failure::Failure;
use life::Change;
pub(crate) use names::beginning_with as names;
use session::Session;

use crate::cli::ClientCommand;

/// Runs one command to its end.
pub(crate) fn run(data: &Path, command: ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("wherry: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(data, command)) {
        // A reader that has seen enough, as `head` does, is no failure.
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

/// Says what went wrong.
fn complain(failure: &Failure) -> ExitCode {
    match failure {
        Failure::OutputClosed => ExitCode::SUCCESS,
        Failure::Ended(code) => ExitCode::from(*code),
        Failure::Told { exit, message } => {
            eprintln!("wherry: {message}");
            (*exit).into()
        }
    }
}

async fn dispatch(data: &Path, command: ClientCommand) -> Result<(), Failure> {
    let found = connection::resolve(command.connection(), Environment::read(), data)?;
    let session = Session::new(found)?;
    match command {
        ClientCommand::Run(args) => run::run(&session, &args).await,
        ClientCommand::Apply(args) => apply::run(&session, &args).await,
        ClientCommand::Ps(args) => list::run(&session, &args).await,
        ClientCommand::Logs(args) => logs::run(&session, &args).await,
        ClientCommand::Exec(args) => exec::run(&session, &args).await,
        ClientCommand::Attach(args) => attach::run(&session, &args).await,
        ClientCommand::PortForward(args) => port_forward::run(std::sync::Arc::new(session), &args).await,
        ClientCommand::Cp(args) => copy::run(&session, &args).await,
        ClientCommand::Cost(args) => cost::run(&session, &args).await,
        ClientCommand::Stop(args) => life::run(&session, &args, Change::Stop).await,
        ClientCommand::Start(args) => life::run(&session, &args, Change::Start).await,
        ClientCommand::Restart(args) => restart::run(&session, &args).await,
        ClientCommand::Update(args) => update::run(&session, &args).await,
        ClientCommand::Rm(args) => life::run(&session, &args, Change::Delete).await,
        ClientCommand::Top(args) => top::run(&session, &args).await,
        ClientCommand::Describe(args) => describe::run(&session, &args).await,
        ClientCommand::Inspect(args) => inspect::run(&session, &args).await,
        ClientCommand::Events(args) => events::run(&session, &args).await,
        ClientCommand::Wait(args) => life::wait(&session, &args).await,
        ClientCommand::Webhook { command } => webhooks::run(&session, &command).await,
        ClientCommand::Key { command } => tenancy::key(&session, &command).await,
        ClientCommand::Admin { command } => admin::run(&session, &command).await,
    }
}
