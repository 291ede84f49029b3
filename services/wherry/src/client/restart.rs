//! `wherry restart`: what runs is ended and started again, and each container of it is waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wherry_api_types::{Container, Instance};

use super::failure::Failure;
use super::output;
use super::session::Session;
use super::text::clean;
use crate::cli::RestartArgs;

/// How often it is looked at.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(session: &Session, args: &RestartArgs) -> Result<(), Failure> {
    let mut first_failure = None;
    let all = futures_util::future::join_all(args.names.iter().map(|name| one(session, args, name))).await;
    for outcome in all {
        match outcome.and_then(|sentence| output::line(&sentence)) {
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

/// Restarts it; what to say then.
async fn one(session: &Session, args: &RestartArgs, name: &str) -> Result<String, Failure> {
    let container = args.container.as_deref();
    let before = latest_runs(&session.get(name).await?, container);
    let asked = session.restart(name, container, args.pull).await?;
    let what = container.map_or_else(|| clean(name), |container| format!("{} of {}", clean(container), clean(name)));
    if args.no_wait {
        return Ok(format!("{what} is being restarted"));
    }
    let begun = Instant::now();
    let mut now = asked;
    while !have_begun(&before, &latest_runs(&now, container)) {
        if now.state.is_settled() || begun.elapsed() >= args.timeout {
            let message = now.message.as_deref().map(|message| format!(": {}", clean(message))).unwrap_or_default();
            return Err(Failure::failed(format!("{what} was not started again, it is {}{message}", now.state)));
        }
        tokio::time::sleep(LOOKS_EVERY).await;
        now = session.get(&now.id).await?;
    }
    Ok(format!("{what} is restarted"))
}

/// The number of the latest run of each container, or of the one; 0 before the first.
fn latest_runs(instance: &Instance, container: Option<&str>) -> BTreeMap<String, u32> {
    let latest = |one: &Container| (one.name.clone(), one.runs.last().map_or(0, |run| run.number));
    let of_interest = instance.containers.iter().filter(|one| container.is_none_or(|name| name == one.name));
    of_interest.map(latest).collect()
}

fn have_begun(before: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) -> bool {
    before.iter().all(|(name, run)| now.get(name).is_none_or(|latest| latest > run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_must_have_begun_again() {
        let runs = |pairs: [(&str, u32); 2]| pairs.map(|(name, run)| (name.to_owned(), run)).into();
        let before = runs([("web", 3), ("side", 0)]);
        assert!(!have_begun(&before, &before));
        assert!(!have_begun(&before, &runs([("web", 4), ("side", 0)])));
        assert!(have_begun(&before, &runs([("web", 4), ("side", 1)])));
    }
}
