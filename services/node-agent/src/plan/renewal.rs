//! Another run for what runs: what it is to be a run of is fetched first, and what runs is ended only when that is here.
//!
//! Invariants:
//! - a run that is out of date goes on until the images of its successor, and of the beginning that goes before it, are known to
//!   be here: it is down for as long as an end and a start take, not for a pull;
//! - nothing of a new beginning is started beside a run that it prepares the end of;
//! - an image that cannot be had ends nothing, as long as every container that ran before runs on, or was over, without it.
//!
//! Rejected: to go back to what was asked before by itself. Only who asked knows whether half of a change is better than none.

use std::collections::BTreeMap;

use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::sequence::{self, Progress, Standing, Turn};
use wherry_model::{ContainerKind, ContainerName, ContainerSpec, PullPolicy, RestartPolicy};

use super::{AtWork, Seen, SeenContainer, progress};
use crate::journal::{ContainerMemory, Memory, RunMemory};

/// The run of the container that goes on and is to be followed by another.
pub(super) fn outdated<'a>(
    desired: &DesiredInstance,
    seen: &'a Seen,
    container: &DesiredContainer,
) -> Option<&'a SeenContainer> {
    let run = seen.run_of(desired.generation, &container.spec.name);
    run.filter(|run| run.revision < container.revision)
}

/// Whether it is known what the next run is a run of, and it was here when that was learnt.
pub(super) fn knows_image(container: &DesiredContainer, said: &ContainerMemory) -> bool {
    let was_known = container.digest.is_some() && container.spec.pull != PullPolicy::Always;
    was_known || said.digest_of(container.revision).is_some()
}

/// Whether a run of the container that is out of date is to be ended now: its successor waits for nothing that has to be fetched.
/// With a beginning that comes first, all such runs are ended or none is.
pub(crate) fn is_due(desired: &DesiredInstance, memory: &Memory, seen: &Seen, container: &DesiredContainer) -> bool {
    let knows = |one: &DesiredContainer| knows_image(one, &memory.container(&one.spec.name));
    let progress = progress(desired, memory, seen);
    let begins = |(one, progress): (&DesiredContainer, &Progress)| {
        let is_to_run = progress.standing == Standing::Due || outdated(desired, seen, one).is_some();
        one.spec.kind == ContainerKind::Init && is_to_run
    };
    if !desired.containers.iter().zip(&progress).any(begins) {
        return knows(container);
    }
    let mut all = desired.containers.iter().zip(&progress);
    all.all(|(one, progress)| !(begins((one, progress)) || outdated(desired, seen, one).is_some()) || knows(one))
}

/// Whether a container of the beginning that has its turn must wait for ends that are to come before it.
pub(super) fn is_too_early(desired: &DesiredInstance, seen: &Seen, container: &DesiredContainer) -> bool {
    container.spec.kind == ContainerKind::Init
        && desired.containers.iter().any(|other| outdated(desired, seen, other).is_some())
}

/// Whether the container has ended and would not be started again if nobody had asked for another run of it.
fn is_over(desired: &DesiredInstance, container: &DesiredContainer, said: &ContainerMemory) -> bool {
    let by_policy = || match desired.restart_policy {
        RestartPolicy::Never => true,
        RestartPolicy::OnFailure => said.succeeded,
        RestartPolicy::Always => said.succeeded && sequence::runs_once(desired.specs(), &container.spec),
    };
    let has_ended = match said.state {
        RunMemory::Over => true,
        RunMemory::Waiting { .. } => by_policy(),
        RunMemory::NotStarted | RunMemory::Running { .. } => false,
    };
    has_ended && said.is_outdated(container.revision)
}

/// Whether the instance can do without what this container is asked to run now, so that an image which cannot be had for it
/// ends nothing: an older run of it goes on, or was over before while others run, and nobody waits for the next one.
pub(crate) fn is_spared(
    desired: &DesiredInstance,
    memory: &Memory,
    seen: &Seen,
    at_work: &AtWork,
    name: &ContainerName,
) -> bool {
    let specs: Vec<&ContainerSpec> = desired.specs().collect();
    let turns = sequence::turns(&specs, &progress(desired, memory, seen));
    let turns: BTreeMap<&ContainerName, Turn<'_>> = specs.iter().map(|spec| &spec.name).zip(turns).collect();
    let was_over = |one: &DesiredContainer| is_over(desired, one, &memory.container(&one.spec.name));
    let is_lacking = |one: &DesiredContainer| one.spec.name == *name || at_work.given_up.contains(&one.spec.name);
    let runs_on = |one: &DesiredContainer| outdated(desired, seen, one).is_some();
    let is_to_begin = |one: &DesiredContainer| turns.get(&one.spec.name).is_some_and(|turn| *turn != Turn::Had);
    // One of the beginning that is out of date is followed by another before anything else.
    let is_of_beginning =
        |one: &DesiredContainer| one.spec.kind == ContainerKind::Init && (is_to_begin(one) || runs_on(one));
    // All that is out of date is ended before a new beginning, or nothing is, and then that does not begin.
    let is_held_up = desired.containers.iter().any(runs_on)
        && desired.containers.iter().any(|one| is_lacking(one) && (runs_on(one) || is_of_beginning(one)));
    let will_not_come = |one: &DesiredContainer| {
        (is_lacking(one) && (is_to_begin(one) || is_of_beginning(one))) || (is_held_up && is_of_beginning(one))
    };
    for container in desired.containers.iter().filter(|container| !was_over(container)) {
        let mut turn = turns.get(&container.spec.name);
        // No circle passes the check of a spec.
        while let Some(Turn::Waits(obstacle)) = turn {
            if desired.container(obstacle.container).is_some_and(will_not_come) {
                return false;
            }
            turn = turns.get(obstacle.container);
        }
    }
    let something_runs = desired.containers.iter().any(|one| seen.run_of(desired.generation, &one.spec.name).is_some());
    desired.container(name).is_some_and(|container| runs_on(container) || (was_over(container) && something_runs))
}

#[cfg(test)]
mod tests;
