//! `wherry exec`: what goes in and comes out as it is, and the exit code as it is.

use std::time::Duration;

use wherry_api_client::ExecOptions;

use super::failure::{Exit, Failure};
use super::logs::only_container;
use super::session::Session;
use super::talk::{Wires, ended, talk};
use super::terminal::{self, Raw};
use crate::cli::ExecArgs;

/// As `timeout(1)` says it.
const TIMED_OUT: u8 = 124;

pub(super) async fn run(session: &Session, args: &ExecArgs) -> Result<(), Failure> {
    run_program(session, args).await.map_err(|failure| match failure {
        // A script must be able to tell the program's own "1" from ours.
        Failure::Told { exit, message } if exit != Exit::Usage => Failure::new(Exit::NotRun, message),
        other => other,
    })
}

async fn run_program(session: &Session, args: &ExecArgs) -> Result<(), Failure> {
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(session, &args.name).await?,
    };
    // Lent before the program is begun, so that no key is shown twice; given back before anything is said.
    let lent = if args.tty { Some(Raw::lend()?) } else { None };
    let options = ExecOptions { command: args.command.clone(), stdin: args.stdin, tty: args.tty.then(terminal::size) };
    let both = session.exec_session(&args.name, &container, &options).await?;
    let wires = Wires { stdin: args.stdin, tty: args.tty, may_leave: false };
    let code = within(args.timeout, talk(both, wires)).await;
    drop(lent);
    ended(code?)
}

async fn within(timeout: Option<Duration>, talk: impl Future<Output = Result<i32, Failure>>) -> Result<i32, Failure> {
    let Some(timeout) = timeout else { return talk.await };
    if let Ok(ended) = tokio::time::timeout(timeout, talk).await {
        return ended;
    }
    eprintln!("wherry: the program was killed: it did not end within {timeout:?}");
    Err(Failure::Ended(TIMED_OUT))
}
