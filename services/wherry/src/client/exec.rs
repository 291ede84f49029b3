//! `wherry exec`: both streams as they are, and the exit code as it is.

use std::io::Write as _;
use std::time::Duration;

use wherry_api_types::{ExecRequest, MAX_EXEC_TIMEOUT_SECONDS};

use super::failure::{Exit, Failure};
use super::logs::only_container;
use super::output;
use super::session::Session;
use crate::cli::ExecArgs;

pub(super) async fn run(session: &Session, args: &ExecArgs) -> Result<(), Failure> {
    run_program(session, args).await.map_err(|failure| match failure {
        // A script must be able to tell the program's own "1" from ours.
        Failure::Told { message, .. } => Failure::new(Exit::NotRun, message),
        other => other,
    })
}

async fn run_program(session: &Session, args: &ExecArgs) -> Result<(), Failure> {
    let timeout_seconds = Some(whole_seconds(args.timeout)?);
    let container = match &args.container {
        Some(container) => container.clone(),
        None => only_container(session, &args.name).await?,
    };
    let request = ExecRequest { command: args.command.clone(), timeout_seconds };
    let done = session.exec(&args.name, &container, &request).await?;
    // A reader that left early, as `head` does, does not change how the program ended.
    for written in [output::raw(&done.stdout), complain(&done.stderr)] {
        match written {
            Ok(()) | Err(Failure::OutputClosed) => {}
            Err(failure) => return Err(failure),
        }
    }
    if done.truncated {
        complain(b"wherry: it printed more than 1 MiB; the rest is left out\n").ok();
    }
    match exit_code(done.exit_code) {
        0 => Ok(()),
        code => Err(Failure::Ended(code)),
    }
}

fn complain(bytes: &[u8]) -> Result<(), Failure> {
    Ok(std::io::stderr().lock().write_all(bytes)?)
}

/// A process has 8 bits to say how it ended; what does not fit is a failure all the same.
fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn whole_seconds(timeout: Duration) -> Result<u32, Failure> {
    let seconds = u32::try_from(timeout.as_secs()).ok().filter(|_| timeout.subsec_nanos() == 0);
    let seconds = seconds.filter(|seconds| (1..=MAX_EXEC_TIMEOUT_SECONDS).contains(seconds));
    seconds.ok_or_else(|| Failure::new(Exit::Usage, "--timeout is 1s to 5m, in whole seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        for (code, told) in [(0, 0), (3, 3), (137, 137), (255, 255), (256, 255), (-1, 255)] {
            assert_eq!(exit_code(code), told);
        }
    }

    #[test]
    fn timeouts() {
        assert_eq!(whole_seconds(Duration::from_secs(30)), Ok(30));
        assert_eq!(whole_seconds(Duration::from_mins(5)), Ok(300));
        for wrong in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(301), Duration::MAX] {
            assert!(whole_seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
