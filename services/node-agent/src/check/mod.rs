//! What is asked of a program from outside, or done in it: probes and hooks.
//!
//! Nothing but the instance itself is ever contacted: a check names a port and a path, never an address, and a redirect is an
//! answer like any other and not followed. What comes back is read up to a bound.

mod http;

use std::net::Ipv4Addr;
use std::time::Duration;

use wherry_model::{Check, InstanceName};
use wherry_runtime::{ContainerId, ContainerRuntime, ExecRequest, RuntimeError};

use crate::message;

/// Most of what a program prints that is kept: enough for a sentence.
const MOST_OUTPUT_BYTES: usize = 4096;
/// Most characters of that sentence.
const MOST_MESSAGE: usize = 256;

/// Where a check goes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) container: ContainerId,
    /// The instance's address.
    pub(crate) address: Ipv4Addr,
    /// Its name, which is the host that is asked for.
    pub(crate) host: InstanceName,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As it should be.
    Well,
    /// Not; what a person should know.
    Ill(String),
    /// Nothing was learnt about the program: the engine did not answer, or the container does not run.
    Nothing(String),
}

/// Does it once, within `timeout`.
pub(crate) async fn perform(
    runtime: &dyn ContainerRuntime,
    place: &Place,
    check: &Check,
    timeout: Duration,
) -> Finding {
    let asked = async {
        match check {
            Check::Exec { command } => exec(runtime, place, command.clone(), timeout).await,
            Check::Tcp { port } => match runtime.reach(place.address, *port).await {
                Ok(_) => Finding::Well,
                Err(error) => not_reached(&error),
            },
            Check::Http { port, path, tls, headers } => match runtime.reach(place.address, *port).await {
                Ok(connection) => http::ask(connection, place, (*port, *tls), path, headers).await,
                Err(error) => not_reached(&error),
            },
        }
    };
    // A program that runs inside is killed by the engine at its time; that takes a moment.
    let limit = if matches!(check, Check::Exec { .. }) { timeout + Duration::from_secs(10) } else { timeout };
    let late = || Finding::Ill(format!("no answer within {} s", timeout.as_secs()));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| late())
}

async fn exec(runtime: &dyn ContainerRuntime, place: &Place, command: Vec<String>, timeout: Duration) -> Finding {
    let request = ExecRequest { command, timeout, max_output_bytes: MOST_OUTPUT_BYTES };
    match runtime.exec(&place.container, &request).await {
        Ok(output) if output.exit_code == 0 => Finding::Well,
        Ok(output) => {
            let said = [&output.stderr, &output.stdout].into_iter().find_map(|stream| last_line(stream));
            let said = said.map(|line| format!(": {line}")).unwrap_or_default();
            Finding::Ill(format!("the program exited with code {}{said}", output.exit_code))
        }
        Err(
            error @ (RuntimeError::ProgramTimeout { .. }
            | RuntimeError::CannotStart { .. }
            | RuntimeError::InvalidArgument { .. }),
        ) => Finding::Ill(message::for_tenant(&error)),
        Err(error) => Finding::Nothing(error.to_string()),
    }
}

fn not_reached(error: &RuntimeError) -> Finding {
    match error {
        RuntimeError::NothingListens { port } => Finding::Ill(format!("nothing listens on port {port}")),
        error => Finding::Nothing(error.to_string()),
    }
}

/// The last line that is not empty, printable and short.
fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(MOST_MESSAGE).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_of_what_it_printed() {
        assert_eq!(last_line(b"one\ntwo\x1b[0m \n\n").unwrap(), "two[0m");
        assert_eq!(last_line(b" \n\n"), None);
        assert_eq!(last_line("é".repeat(1_000).as_bytes()).unwrap().chars().count(), MOST_MESSAGE);
    }
}
