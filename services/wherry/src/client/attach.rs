//! `wherry attach`: the main program of a container, as if it had been started here.

use super::failure::Failure;
use super::logs::only_container;
use super::session::Session;
use super::talk::{Wires, ended, talk};
use super::terminal::{self, Raw};
use crate::cli::AttachArgs;

pub(super) async fn run(session: &Session, args: &AttachArgs) -> Result<(), Failure> {
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(session, &args.name).await?,
    };
    let lent = if args.tty { Some(Raw::lend()?) } else { None };
    let both = session.attach(&args.name, &container, args.stdin, args.tty.then(terminal::size)).await?;
    let code = talk(both, Wires { stdin: args.stdin, tty: args.tty, may_leave: args.tty }).await;
    drop(lent);
    match code {
        Err(Failure::Ended(0)) => Ok(()),
        code => ended(code?),
    }
}
