//! What to do next about one instance: a pure function of what is desired, what was said and what the engine shows.
//!
//! Each step makes progress or rests, so taking steps until it rests converges, from any state that a crash can leave.
//! The order of the rules is the design:
//! 1. what is of another generation goes first, so two generations never run at once;
//! 2. what happened is said before anything is done about it, and evidence is removed only after that;
//! 3. then the sandbox is brought to what is desired.

use std::time::Duration;

use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, ContainerName, Generation, Timestamp};
use wherry_runtime::{ContainerId, ContainerState, SandboxId};

use crate::backoff::LONGEST_WAIT;
use crate::journal::{Memory, RunMemory};
use crate::status::Phase;

/// How soon an instance that waits for the lease is looked at again.
const FORBIDDEN_LOOK: Duration = Duration::from_secs(1);

/// A sandbox of the instance, as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenSandbox {
    pub(crate) id: SandboxId,
    pub(crate) generation: Generation,
    pub(crate) ready: bool,
}

/// A container of the instance, as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenContainer {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: SandboxId,
    pub(crate) generation: Generation,
    pub(crate) name: ContainerName,
    pub(crate) run: u32,
    pub(crate) state: ContainerState,
}

/// All that the engine shows of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) sandboxes: Vec<SeenSandbox>,
    pub(crate) containers: Vec<SeenContainer>,
}

impl Seen {
    /// The sandbox of a generation.
    pub(crate) fn sandbox_of(&self, generation: Generation) -> Option<&SeenSandbox> {
        self.sandboxes.iter().find(|sandbox| sandbox.generation == generation)
    }

    fn running_in(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        let inside = self.containers.iter().filter(|container| &container.sandbox == sandbox);
        inside.filter(|container| container.state == ContainerState::Running).map(|c| c.id.clone()).collect()
    }
}

/// What is desired of an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// It is listed.
    Listed(&'a DesiredInstance),
    /// It is listed, and the node's lease does not cover it: it must not run until the lease is renewed.
    Forbidden(&'a DesiredInstance),
    /// It is not listed. Believed only after the control plane has said so in this life of the agent.
    Unlisted { confirmed: bool },
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until woken, or until then.
    Rest { phase: Phase, until: Option<Timestamp> },
    /// A sandbox of another generation, or of nobody: stop what runs in it and remove it.
    Discard { sandbox: SandboxId, running: Vec<ContainerId> },
    /// A run was started and nobody was told.
    TellStart(SeenContainer),
    /// A run is over and nobody was told.
    TellEnd(SeenContainer),
    /// A run that was said to have started is not there any more.
    TellLost { name: ContainerName, run: u32, started_at: Timestamp },
    /// A container whose end was told.
    RemoveContainer(ContainerId),
    /// Containers that must not run.
    StopContainers(Vec<ContainerId>),
    /// Containers that may run elsewhere by now.
    Fence(Vec<ContainerId>),
    /// A broken sandbox in which something still runs: kill it, so that its end can be told.
    StopSandbox(SandboxId),
    /// A sandbox that is not needed, in which nothing is left to tell.
    RemoveSandbox(SandboxId),
    /// Pull, make and start what should run and does not.
    Bring,
    /// Something runs and its address was not said: the agent died between start and write.
    Admit(SandboxId),
    /// Say that the sandbox is gone.
    TellSandboxStopped,
    /// Remove the logs and say that nothing is left.
    RemoveTraces,
    /// Remove the logs of an instance that is nobody's, forget it, and be done.
    Forget,
}

/// The next step.
pub(crate) fn next_step(target: Target<'_>, memory: &Memory, seen: &Seen, now: Timestamp) -> Step {
    let desired = match target {
        Target::Unlisted { confirmed: false } => return Step::Rest { phase: Phase::Unconfirmed, until: None },
        Target::Unlisted { confirmed: true } => {
            return seen.sandboxes.first().map_or(Step::Forget, |sandbox| discard(sandbox, seen));
        }
        Target::Listed(desired) | Target::Forbidden(desired) => desired,
    };
    let forbidden = matches!(target, Target::Forbidden(_));
    if forbidden && let Some(step) = fence(desired, seen) {
        return step;
    }
    if seen.sandboxes.iter().any(|sandbox| sandbox.generation > desired.generation) {
        return Step::Rest { phase: Phase::Unconfirmed, until: None };
    }
    if let Some(old) = seen.sandboxes.iter().find(|sandbox| sandbox.generation < desired.generation) {
        return discard(old, seen);
    }
    if let Some(step) = tell(desired, memory, seen) {
        return step;
    }
    match desired.action {
        Action::Run if forbidden && !memory.ended(desired) => {
            Step::Rest { phase: Phase::WaitingToRestart, until: Some(now.plus(FORBIDDEN_LOOK)) }
        }
        Action::Run if !memory.ended(desired) => keep_running(desired, memory, seen, now),
        Action::Run => take_down(desired, memory, seen)
            .unwrap_or(Step::Rest { phase: if memory.failed { Phase::Failed } else { Phase::Ended }, until: None }),
        Action::Stop => take_down(desired, memory, seen).unwrap_or(Step::Rest { phase: Phase::Ended, until: None }),
        Action::Remove => take_down(desired, memory, seen).unwrap_or(if memory.removed {
            Step::Rest { phase: Phase::Ended, until: None }
        } else {
            Step::RemoveTraces
        }),
    }
}

/// Ends what runs, before anything else is done or said.
fn fence(desired: &DesiredInstance, seen: &Seen) -> Option<Step> {
    let of_it = seen.containers.iter().filter(|container| container.generation <= desired.generation);
    let running: Vec<ContainerId> =
        of_it.filter(|container| container.state == ContainerState::Running).map(|c| c.id.clone()).collect();
    (!running.is_empty()).then_some(Step::Fence(running))
}

fn discard(sandbox: &SeenSandbox, seen: &Seen) -> Step {
    Step::Discard { sandbox: sandbox.id.clone(), running: seen.running_in(&sandbox.id) }
}

/// What happened and was not said, and evidence that is not needed any more.
fn tell(desired: &DesiredInstance, memory: &Memory, seen: &Seen) -> Option<Step> {
    for container in seen.containers.iter().filter(|container| container.generation == desired.generation) {
        let said = memory.container(&container.name);
        let start_is_said = said.run >= container.run;
        let end_is_said =
            said.run > container.run || (said.run == container.run && !matches!(said.state, RunMemory::Running { .. }));
        match container.state {
            ContainerState::Created => {}
            ContainerState::Running if start_is_said => {}
            ContainerState::Running => return Some(Step::TellStart(container.clone())),
            ContainerState::Exited | ContainerState::Unknown if end_is_said || memory.failed => {
                return Some(Step::RemoveContainer(container.id.clone()));
            }
            ContainerState::Exited | ContainerState::Unknown => return Some(Step::TellEnd(container.clone())),
        }
    }
    desired.containers.iter().find_map(|container| {
        let name = &container.spec.name;
        let said = memory.container(name);
        let RunMemory::Running { started_at } = said.state else { return None };
        let is_there = seen.containers.iter().any(|seen| &seen.name == name && seen.run == said.run);
        (!is_there).then(|| Step::TellLost { name: name.clone(), run: said.run, started_at })
    })
}

fn keep_running(desired: &DesiredInstance, memory: &Memory, seen: &Seen, now: Timestamp) -> Step {
    if let Some(sandbox) = seen.sandbox_of(desired.generation).filter(|sandbox| !sandbox.ready) {
        let something_runs = !seen.running_in(&sandbox.id).is_empty();
        let id = sandbox.id.clone();
        return if something_runs { Step::StopSandbox(id) } else { Step::RemoveSandbox(id) };
    }
    if let (Some(sandbox), None) = (seen.sandbox_of(desired.generation), memory.address)
        && !seen.running_in(&sandbox.id).is_empty()
    {
        return Step::Admit(sandbox.id.clone());
    }
    let mut wake: Option<Timestamp> = None;
    let (mut any_runs, mut any_retries_pull) = (false, false);
    for container in &desired.containers {
        let said = memory.container(&container.spec.name);
        let not_before = match said.state {
            RunMemory::Running { .. } => {
                any_runs = true;
                continue;
            }
            RunMemory::Over => continue,
            RunMemory::Waiting { restart_at } => said.pull_retry_at.map_or(restart_at, |retry| retry.max(restart_at)),
            RunMemory::NotStarted => match said.pull_retry_at {
                None => return Step::Bring,
                Some(retry_at) => retry_at,
            },
        };
        any_retries_pull |= said.pull_retry_at.is_some();
        if not_before <= now || not_before > now.plus(LONGEST_WAIT) {
            return Step::Bring;
        }
        wake = Some(wake.map_or(not_before, |wake| wake.min(not_before)));
    }
    let phase = match (any_runs, any_retries_pull) {
        (true, _) => Phase::Running,
        (false, true) => Phase::Pulling,
        (false, false) => Phase::WaitingToRestart,
    };
    Step::Rest { phase, until: wake }
}

/// Towards no sandbox; none when there is none and it was said.
fn take_down(desired: &DesiredInstance, memory: &Memory, seen: &Seen) -> Option<Step> {
    if let Some(sandbox) = seen.sandbox_of(desired.generation) {
        let running = seen.running_in(&sandbox.id);
        return Some(match (running.is_empty(), sandbox.ready) {
            (true, _) => Step::RemoveSandbox(sandbox.id.clone()),
            (false, true) => Step::StopContainers(running),
            (false, false) => Step::StopSandbox(sandbox.id.clone()),
        });
    }
    (!memory.sandbox_stopped).then_some(Step::TellSandboxStopped)
}

#[cfg(test)]
mod tests;
