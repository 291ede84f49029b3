//! `wherry logs`.

use futures_util::StreamExt as _;
use wherry_api_client::LogOptions;

use super::failure::{Exit, Failure};
use super::output;
use super::session::Session;
use crate::cli::LogsArgs;

pub(super) async fn run(session: &Session, args: &LogsArgs) -> Result<(), Failure> {
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(session, &args.name).await?,
    };
    let options = LogOptions { run: args.run, tail: args.tail, follow: args.follow, timestamps: args.timestamps };
    let mut lines = session.logs(&args.name, &container, &options).await?;
    // What a program prints goes through as it is: its colours are its own.
    while let Some(piece) = lines.next().await {
        output::raw(&piece?)?;
    }
    Ok(())
}

pub(super) async fn only_container(session: &Session, name: &str) -> Result<String, Failure> {
    let instance = session.get(name).await?;
    match instance.containers.as_slice() {
        [only] => Ok(only.name.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|container| container.name.as_str()).collect();
            Err(Failure::new(
                Exit::Usage,
                format!("{name} has several containers, name one with -c: {}", names.join(", ")),
            ))
        }
    }
}
