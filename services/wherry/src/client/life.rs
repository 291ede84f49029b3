//! `wherry stop`, `start`, `rm` and `wait`: what is asked, and waiting until it is so.
//!
//! Several names are asked for at once and then waited for, so ten stops take as long as the slowest. Every name is
//! tried, and the first failure decides the exit code.

use std::time::{Duration, Instant};

use wherry_api_types::{Instance, InstanceState, WaitState, Waited};

use super::failure::{Exit, Failure};
use super::output;
use super::session::Session;
use super::text::{clean, short_time};
use crate::cli::{NamesArgs, WaitArgs};

/// One request waits at most this long; longer waits are several requests.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// What is done to instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Stop,
    Start,
    Delete,
}

impl Change {
    /// The states that mean that it is done.
    const fn goal(self) -> &'static [InstanceState] {
        match self {
            // A program that ends by itself at the same moment has ended too.
            Self::Stop => &[InstanceState::Stopped, InstanceState::Succeeded, InstanceState::Failed],
            Self::Start => &[InstanceState::Running, InstanceState::Succeeded],
            Self::Delete => &[InstanceState::Deleted],
        }
    }

    /// The states after which it is decided. Of what has a schedule the next run is not waited for: the one that was asked for is.
    const fn end(self) -> &'static [InstanceState] {
        match self {
            Self::Start => {
                &[InstanceState::Running, InstanceState::Succeeded, InstanceState::Failed, InstanceState::Stopped]
            }
            Self::Stop | Self::Delete => self.goal(),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Stop => "stopped",
            Self::Start => "started",
            Self::Delete => "deleted",
        }
    }
}

pub(super) async fn run(session: &Session, args: &NamesArgs, change: Change) -> Result<(), Failure> {
    let asked = futures_util::future::join_all(args.names.iter().map(|name| ask(session, name, change))).await;
    let mut first_failure = None;
    for (name, answer) in args.names.iter().zip(asked) {
        let outcome = match answer {
            Ok(_) if args.no_wait => output::line(&format!("{name} is being {}", change.done())),
            Ok(instance) => finish(session, name, &instance, change, args.timeout).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => {}
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) if first_failure.is_none() => first_failure = Some(failure),
            Err(failure) => {
                super::complain(&failure);
            }
        }
    }
    first_failure.map_or(Ok(()), Err)
}

async fn ask(session: &Session, name: &str, change: Change) -> Result<Instance, Failure> {
    match change {
        Change::Stop => session.stop(name).await,
        Change::Start => session.start(name).await,
        Change::Delete => session.delete(name).await,
    }
}

async fn finish(
    session: &Session,
    name: &str,
    instance: &Instance,
    change: Change,
    timeout: Duration,
) -> Result<(), Failure> {
    // By its id: the name may belong to another instance as soon as this one is gone.
    let waited = wait_for(session, &instance.id, change.end(), timeout).await;
    let waited = match waited {
        Ok(waited) => waited,
        // Its record may be dropped while we wait.
        Err(Failure::Told { exit: Exit::NotFound, .. }) if change == Change::Delete => {
            return output::line(&format!("{name} is deleted"));
        }
        Err(failure) => return Err(failure),
    };
    if change.goal().contains(&waited.instance.state) {
        return output::line(&format!("{name} is {}", change.done()));
    }
    Err(Failure::failed(unreached(name, &waited.instance, timeout)))
}

/// Waits for one of `states`, in several requests if need be. It may be that none was reached.
async fn wait_for<W: Copy + Into<WaitState> + Sync>(
    session: &Session,
    id: &str,
    states: &[W],
    timeout: Duration,
) -> Result<Waited, Failure> {
    let deleted = |wanted: &W| matches!((*wanted).into(), WaitState::Deleting | WaitState::Deleted);
    // Somebody else may delete it at any time.
    let hopes = states.iter().any(deleted);
    let begun = Instant::now();
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        let waited = session.wait(id, states, left.min(LONGEST_WAIT)).await?;
        let stays = waited.instance.state.is_settled() && waited.instance.next_runs.is_empty() && !hopes;
        if waited.reached || stays || begun.elapsed() >= timeout {
            return Ok(waited);
        }
        // A server that answers at once although nothing was reached must not be asked in a tight loop.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn unreached(name: &str, now: &Instance, timeout: Duration) -> String {
    let message = now.message.as_deref().map(|message| format!(": {}", clean(message))).unwrap_or_default();
    match now.next_runs.first() {
        Some(next) if now.state.is_settled() => {
            format!("{name} is {}{message}; its schedule starts it at {} (UTC)", now.state, short_time(next))
        }
        None if now.state.is_settled() => format!("{name} is {} and stays so{message}", now.state),
        _ => format!("{name} is still {} after {} s{message}", now.state, timeout.as_secs()),
    }
}

/// `wherry wait`.
pub(super) async fn wait(session: &Session, args: &WaitArgs) -> Result<(), Failure> {
    // By its id from the first answer on: the name may belong to another instance as soon as this one is gone.
    let id = session.get(&args.name).await?.id;
    let waited = match wait_for(session, &id, &args.states, args.timeout).await {
        Ok(waited) => waited,
        // Its record may be dropped while we wait.
        Err(Failure::Told { exit: Exit::NotFound, .. }) if args.states.contains(&WaitState::Deleted) => {
            return output::line(&format!("{} is deleted", args.name));
        }
        Err(failure) => return Err(failure),
    };
    let (now, wants_ready) = (&waited.instance, args.states.contains(&WaitState::Ready));
    if !waited.reached {
        return Err(Failure::failed(unreached(&args.name, now, args.timeout)));
    }
    let what = if wants_ready && now.ready { "ready".to_owned() } else { now.state.to_string() };
    output::line(&format!("{} is {what}", args.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::instance;

    #[test]
    fn what_is_said_when_the_state_is_not_reached() {
        let mut now = instance("web");
        now.state = InstanceState::Failed;
        now.message = Some("no such program".into());
        assert_eq!(unreached("web", &now, Duration::from_secs(30)), "web is failed and stays so: no such program");
        now.next_runs = vec!["2026-03-02T00:00:00Z".into()];
        assert_eq!(
            unreached("web", &now, Duration::from_secs(30)),
            "web is failed: no such program; its schedule starts it at 2026-03-02 00:00:00 (UTC)"
        );
        now.state = InstanceState::Pulling;
        now.message = None;
        assert_eq!(unreached("web", &now, Duration::from_secs(30)), "web is still pulling after 30 s");
    }
}
