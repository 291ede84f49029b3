//! What to do next about one instance: a pure function of what is desired, what was said and what the engine shows.
//!
//! Each step makes progress or rests, so taking steps until it rests converges, from any state that a crash can leave.
//! The order of the rules is the design:
//! 1. what is of another generation goes first, so two generations never run at once;
//! 2. what happened is said before anything is done about it, and evidence is removed only after that;
//! 3. then the sandbox is brought to what is desired: what must end is ended, and what has its turn ([`sequence`]) is started.
//!    What is to be followed by another run goes on until the image of that is here ([`renewal`]).
//!
//! A beginning is over where its containers have succeeded in the present sandbox. That they did is seen by the engine's
//! record of them, which is kept as long as the sandbox: one that was lost, by a restart of the machine for example, has not
//! been prepared, and the next one begins from the beginning. A main container that was waited for to complete is not run
//! again.

mod renewal;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wherry_agent_api::{DesiredContainer, DesiredInstance};
use wherry_model::sequence::{self, Obstacle, Progress, Standing, Turn};
use wherry_model::{Action, Condition, ContainerKind, ContainerName, ContainerSpec, EndReason, Generation, Timestamp};
use wherry_runtime::{ContainerId, ContainerState, SandboxId};

use crate::backoff::LONGEST_WAIT;
use crate::journal::{ContainerMemory, Memory, RunMemory};
use crate::status::Phase;
use crate::verdict::Verdict;

pub(crate) use self::renewal::{is_due, is_spared};

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
    /// The revision that it was started for.
    pub(crate) revision: u32,
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
        self.runs_in(sandbox).map(|container| container.id.clone()).collect()
    }

    fn runs_in<'a>(&'a self, sandbox: &'a SandboxId) -> impl Iterator<Item = &'a SeenContainer> {
        let inside = self.containers.iter().filter(move |container| &container.sandbox == sandbox);
        inside.filter(|container| container.state == ContainerState::Running)
    }

    /// The run of a container that goes on in the sandbox of this generation, whether its start was said or not.
    pub(crate) fn run_of(&self, generation: Generation, name: &ContainerName) -> Option<&SeenContainer> {
        let sandbox = self.sandbox_of(generation)?;
        self.runs_in(&sandbox.id).find(|container| &container.name == name)
    }

    /// Whether the engine still has the record of this run in the sandbox of this generation.
    fn shows(&self, generation: Generation, name: &ContainerName, run: u32) -> bool {
        let Some(sandbox) = self.sandbox_of(generation) else { return false };
        self.containers.iter().any(|seen| seen.sandbox == sandbox.id && &seen.name == name && seen.run == run)
    }
}

/// What the worker is at, and what was found out, beside what was said. It is lost with the agent, whose successor does it
/// again, or finds it out again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AtWork {
    /// Containers that are being ended.
    pub(crate) ending: BTreeSet<ContainerId>,
    /// Containers for which what is to be done after a start is being done.
    pub(crate) greeting: BTreeSet<ContainerId>,
    /// Containers for which it is done.
    pub(crate) greeted: BTreeSet<ContainerId>,
    /// Containers whose image is being fetched.
    pub(crate) pulling: BTreeSet<ContainerName>,
    /// Containers whose next image will not be had, which is said, and without which the instance may go on.
    pub(crate) given_up: BTreeSet<ContainerName>,
    /// Containers that must be ended.
    pub(crate) verdicts: BTreeMap<ContainerId, Verdict>,
    /// Why nothing of the instance will be started any more.
    pub(crate) doom: Option<Verdict>,
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
    /// A run was started, and what is to be done after that was not.
    Greet(SeenContainer),
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
    /// Make and start what should run and does not, and fetch images; those of `fetch` are for later.
    Bring { start: Vec<ContainerName>, fetch: Vec<ContainerName> },
    /// One container that must not go on as it is.
    End { id: ContainerId, verdict: Verdict },
    /// All of them: the instance has failed.
    EndAll { ids: Vec<ContainerId>, verdict: Verdict },
    /// Nothing runs: say that it has failed.
    Fail(Verdict),
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
pub(crate) fn next_step(target: Target<'_>, memory: &Memory, seen: &Seen, at_work: &AtWork, now: Timestamp) -> Step {
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
    if let Some(step) = tell(desired, memory, seen, at_work) {
        return step;
    }
    match desired.action {
        Action::Run if forbidden && !memory.ended(desired) => {
            Step::Rest { phase: Phase::WaitingToRestart, until: Some(now.plus(FORBIDDEN_LOOK)) }
        }
        Action::Run if !memory.ended(desired) => keep_running(desired, memory, seen, at_work, now),
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
fn tell(desired: &DesiredInstance, memory: &Memory, seen: &Seen, at_work: &AtWork) -> Option<Step> {
    for container in seen.containers.iter().filter(|container| container.generation == desired.generation) {
        let said = memory.container(&container.name);
        let start_is_said = said.run >= container.run;
        let end_is_said =
            said.run > container.run || (said.run == container.run && !matches!(said.state, RunMemory::Running { .. }));
        match container.state {
            // Made for what is not asked for any more, and never started.
            ContainerState::Created
                if desired.container(&container.name).is_some_and(|wanted| container.revision < wanted.revision) =>
            {
                return Some(Step::RemoveContainer(container.id.clone()));
            }
            ContainerState::Created => {}
            ContainerState::Running if start_is_said => {}
            ContainerState::Running => {
                if let Some(step) = welcome(desired, memory, container, at_work) {
                    return Some(step);
                }
            }
            ContainerState::Exited | ContainerState::Unknown
                if end_is_said && is_evidence(desired, &said, container, seen) => {}
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

/// What to do about a start that was not said; nothing while it is seen to, or will be told with its end.
fn welcome(desired: &DesiredInstance, memory: &Memory, started: &SeenContainer, at_work: &AtWork) -> Option<Step> {
    let spec = desired.container(&started.name).map(|container| &container.spec);
    let has_hook = spec.is_some_and(|spec| spec.hooks.post_start.is_some());
    if !has_hook || desired.action != Action::Run || at_work.greeted.contains(&started.id) {
        return Some(Step::TellStart(started.clone()));
    }
    let is_seen_to = at_work.greeting.contains(&started.id)
        || at_work.ending.contains(&started.id)
        || at_work.verdicts.contains_key(&started.id)
        || at_work.doom.is_some();
    match memory.address {
        _ if is_seen_to => None,
        None => Some(Step::Admit(started.sandbox.clone())),
        Some(_) => Some(Step::Greet(started.clone())),
    }
}

/// Whether the record of a run that is over is what shows that the sandbox's beginning is.
fn is_evidence(desired: &DesiredInstance, said: &ContainerMemory, over: &SeenContainer, seen: &Seen) -> bool {
    let spec = desired.container(&over.name).map(|container| &container.spec);
    spec.is_some_and(|spec| spec.kind == ContainerKind::Init)
        && said.succeeded
        && said.run == over.run
        && seen.shows(desired.generation, &over.name, over.run)
}

/// How each container stands, in the order of what is desired.
fn progress(desired: &DesiredInstance, memory: &Memory, seen: &Seen) -> Vec<Progress> {
    let of = |container: &DesiredContainer| {
        let spec = &container.spec;
        let said = memory.container(&spec.name);
        let is_main = spec.kind == ContainerKind::Main;
        let (standing, began) = match said.state {
            RunMemory::Running { .. } => {
                (Standing::Running { ready: said.ready.unwrap_or(!spec.probes.delay_readiness()) }, true)
            }
            RunMemory::Waiting { .. } => (Standing::Due, is_main),
            RunMemory::Over if said.is_outdated(container.revision) => (Standing::Due, is_main),
            RunMemory::Over if is_main || !said.succeeded => (Standing::Over { success: said.succeeded }, true),
            RunMemory::Over if seen.shows(desired.generation, &spec.name, said.run) => {
                (Standing::Over { success: true }, true)
            }
            RunMemory::NotStarted | RunMemory::Over => (Standing::Due, false),
        };
        // One whose start is not said yet, because what is to be done after it is under way, is there all the same.
        let is_unsaid = seen.run_of(desired.generation, &spec.name).is_some_and(|run| run.run > said.run);
        let standing = if is_unsaid { Standing::Running { ready: false } } else { standing };
        Progress { standing, began }
    };
    desired.containers.iter().map(of).collect()
}

/// When the time of the instance is over, if it has one and has begun.
pub(crate) fn deadline(desired: &DesiredInstance, memory: &Memory) -> Option<Timestamp> {
    let seconds = desired.more.deadline_seconds?;
    memory.first_started_at.map(|began| began.plus(Duration::from_secs(u64::from(seconds))))
}

/// Why nothing of an instance that is to run may go on, if so.
pub(crate) fn doom(
    desired: &DesiredInstance,
    memory: &Memory,
    seen: &Seen,
    at_work: &AtWork,
    now: Timestamp,
) -> Option<Verdict> {
    if at_work.doom.is_some() {
        return at_work.doom.clone();
    }
    if deadline(desired, memory).is_some_and(|deadline| deadline <= now) {
        return Some(past_deadline(desired));
    }
    let specs: Vec<&ContainerSpec> = desired.specs().collect();
    let turns = sequence::turns(&specs, &progress(desired, memory, seen));
    specs.iter().zip(turns).find_map(|(spec, turn)| match turn {
        Turn::Never(obstacle) => Some(in_vain(&spec.name, obstacle)),
        Turn::Had | Turn::Open | Turn::Waits(_) => None,
    })
}

pub(crate) fn past_deadline(desired: &DesiredInstance) -> Verdict {
    let seconds = desired.more.deadline_seconds.unwrap_or_default();
    Verdict::new(EndReason::DeadlineExceeded, format!("its deadline of {seconds} s was over"))
}

fn in_vain(waiting: &ContainerName, obstacle: Obstacle<'_>) -> Verdict {
    let other = obstacle.container;
    let message = match obstacle.condition {
        Condition::Started => format!("{waiting} waits for the start of {other}, which will not be started"),
        Condition::Healthy => format!("{waiting} waits until {other} is ready, and that will not be: it has ended"),
        Condition::Completed => {
            format!("{waiting} waits until {other} has ended with 0, and that will not be: it is not started again")
        }
    };
    Verdict::new(EndReason::DependencyFailed, message)
}

fn keep_running(desired: &DesiredInstance, memory: &Memory, seen: &Seen, at_work: &AtWork, now: Timestamp) -> Step {
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
    if let Some(verdict) = doom(desired, memory, seen, at_work, now) {
        return bring_down(desired, seen, at_work, verdict);
    }
    if let Some(step) = end_one(desired, memory, seen, at_work) {
        return step;
    }
    start(desired, memory, seen, at_work, now)
}

/// Towards nothing that runs, and saying why.
fn bring_down(desired: &DesiredInstance, seen: &Seen, at_work: &AtWork, verdict: Verdict) -> Step {
    let running = seen.sandbox_of(desired.generation).map(|sandbox| seen.running_in(&sandbox.id)).unwrap_or_default();
    if running.is_empty() {
        return Step::Fail(verdict);
    }
    let ids: Vec<ContainerId> = running.into_iter().filter(|id| !at_work.ending.contains(id)).collect();
    if ids.is_empty() {
        return Step::Rest { phase: Phase::Stopping, until: None };
    }
    Step::EndAll { ids, verdict }
}

/// A container that runs and must not go on as it is.
fn end_one(desired: &DesiredInstance, memory: &Memory, seen: &Seen, at_work: &AtWork) -> Option<Step> {
    let sandbox = seen.sandbox_of(desired.generation)?;
    seen.runs_in(&sandbox.id).filter(|container| !at_work.ending.contains(&container.id)).find_map(|container| {
        let wanted = desired.container(&container.name)?;
        let outdated = || {
            let is_due = container.revision < wanted.revision && is_due(desired, memory, seen, wanted);
            is_due.then_some(Verdict { reason: EndReason::Restarted, message: None })
        };
        let verdict = at_work.verdicts.get(&container.id).cloned().or_else(outdated)?;
        Some(Step::End { id: container.id.clone(), verdict })
    })
}

/// What has its turn is started when its wait is over; images of the others are fetched meanwhile.
fn start(desired: &DesiredInstance, memory: &Memory, seen: &Seen, at_work: &AtWork, now: Timestamp) -> Step {
    let specs: Vec<&ContainerSpec> = desired.specs().collect();
    let turns = sequence::turns(&specs, &progress(desired, memory, seen));
    let (mut start, mut fetch, mut wakes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut any_runs, mut any_starts, mut any_pulls) = (false, false, false);
    for (container, turn) in desired.containers.iter().zip(turns) {
        let name = &container.spec.name;
        let said = memory.container(name);
        let is_outdated = said.is_outdated(container.revision);
        let restart_at = match said.state {
            RunMemory::Waiting { restart_at } if !is_outdated => Some(restart_at),
            _ => None,
        };
        let pull_at = said.pull_of(container.revision).1;
        let is_said = matches!(said.state, RunMemory::Running { .. });
        any_runs |= turn == Turn::Had && is_said;
        any_starts |= !is_said && seen.run_of(desired.generation, name).is_some();
        if at_work.given_up.contains(name) && is_spared(desired, memory, seen, at_work, name) {
            continue;
        }
        let knows_image = renewal::knows_image(container, &said);
        let is_open = turn == Turn::Open && !renewal::is_too_early(desired, seen, container);
        // No wait is longer than that: the clock was set back.
        let lies_ahead = |moment: &Timestamp| *moment > now && *moment <= now.plus(LONGEST_WAIT);
        let not_before = match turn {
            Turn::Had if knows_image || renewal::outdated(desired, seen, container).is_none() => continue,
            Turn::Open if is_open => restart_at.max(pull_at),
            Turn::Open if knows_image => continue,
            Turn::Waits(_) if said.digest_of(container.revision).is_some() => continue,
            Turn::Had | Turn::Open | Turn::Waits(_) => pull_at,
            Turn::Never(_) => continue,
        };
        any_pulls |= pull_at.is_some() || at_work.pulling.contains(name);
        match not_before.filter(lies_ahead) {
            _ if at_work.pulling.contains(name) => {}
            Some(moment) => wakes.push(moment),
            None if is_open => start.push(name.clone()),
            None => fetch.push(name.clone()),
        }
    }
    if !(start.is_empty() && fetch.is_empty()) {
        return Step::Bring { start, fetch };
    }
    let phase = match (any_runs, any_starts, any_pulls) {
        (true, ..) => Phase::Running,
        (false, true, _) => Phase::Starting,
        (false, false, true) => Phase::Pulling,
        (false, false, false) => Phase::WaitingToRestart,
    };
    Step::Rest { phase, until: wakes.into_iter().chain(deadline(desired, memory)).min() }
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
