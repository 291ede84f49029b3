//! One instance's worker: takes the next step, again and again, until there is nothing left to do or nothing left at all.
//!
//! It keeps no state between steps save what makes it polite (how long to wait after failures) and what it may forget
//! (which containers it stopped itself). The path of a start has no sleep and no wait for the disk.

mod bring;
mod hosts;
mod image;
mod take_down;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, ContainerName, EndReason, Fact, Generation, InstanceId, Timestamp};
use wherry_runtime::{ContainerId, ContainerState, ContainerStatus, RuntimeError};

use crate::backoff::Backoff;
use crate::blocking::blocking;
use crate::exit::{self, Circumstances, run_key};
use crate::fence;
use crate::fenced_notes;
use crate::firewall::FirewallError;
use crate::journal::Memory;
use crate::node::Node;
use crate::plan::{Seen, SeenContainer, Step, Target, next_step};
use crate::status::Phase;

/// A wait for a moment of the wall clock is checked this often: the clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What keeps a worker from its step. It passes, or the next look shows something else.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("the files of the instance cannot be used: {0}")]
    Files(#[from] std::io::Error),
    #[error("{0}")]
    Journal(String),
}

/// Whether a worker goes on.
enum Next {
    /// The engine may show something else now.
    LookAgain,
    /// The engine shows what it showed.
    GoOn,
    /// Until woken, or for so long.
    Rest(Option<Duration>),
    /// Nothing is left of the instance.
    Done,
}

/// One instance's worker.
pub(crate) struct Worker {
    node: Arc<Node>,
    instance: InstanceId,
    wakeup: Arc<Notify>,
    /// Only what the engine showed after this round counts.
    acted_in_round: u64,
    /// Steps that failed in a row.
    failures: u32,
    /// Starts that failed in a row for a reason that may pass.
    failed_starts: u32,
    stopped_by_us: BTreeSet<ContainerId>,
}

impl Worker {
    pub(crate) fn new(node: Arc<Node>, instance: InstanceId, wakeup: Arc<Notify>) -> Self {
        let (acted_in_round, failures, failed_starts, stopped_by_us) = (0, 0, 0, BTreeSet::new());
        Self { node, instance, wakeup, acted_in_round, failures, failed_starts, stopped_by_us }
    }

    /// Works until nothing is left of the instance, or the agent stops.
    pub(crate) async fn work(mut self) {
        while !self.node.stopping.is_cancelled() {
            let next = match self.take_step().await {
                Ok(next) => {
                    self.failures = 0;
                    self.node.board.set_trouble(self.instance, None);
                    next
                }
                Err(trouble) => {
                    self.failures = self.failures.saturating_add(1);
                    self.node.board.set_trouble(self.instance, Some(&trouble.to_string()));
                    self.acted_in_round = self.node.observer.begun();
                    Next::Rest(Some(Backoff::MACHINE.delay(self.failures)))
                }
            };
            match next {
                Next::LookAgain => self.acted_in_round = self.node.observer.begun(),
                Next::GoOn => {}
                Next::Rest(limit) => self.rest(limit).await,
                Next::Done => {
                    self.node.board.set_phase(self.instance, None);
                    return;
                }
            }
        }
    }

    async fn rest(&self, limit: Option<Duration>) {
        let deadline = Instant::now() + limit.map_or(LONGEST_SLEEP, |limit| limit.min(LONGEST_SLEEP));
        tokio::select! {
            biased;
            () = self.wakeup.notified() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = self.node.stopping.cancelled() => {}
        }
    }

    fn desired(&self) -> (Option<Arc<DesiredInstance>>, bool) {
        let watch = self.node.desired.watch();
        let known = watch.borrow();
        (known.instances.get(&self.instance).cloned(), known.confirmed)
    }

    /// Waits until something else is desired than `desired`, or the agent stops.
    async fn desired_otherwise(&self, desired: &DesiredInstance) {
        let mut watch = self.node.desired.watch();
        let differs = watch.wait_for(|known| {
            known
                .instances
                .get(&self.instance)
                .is_none_or(|now| (now.generation, now.action) != (desired.generation, desired.action))
        });
        tokio::select! {
            biased;
            _ = differs => {}
            () = self.node.stopping.cancelled() => {}
        }
    }

    async fn take_step(&mut self) -> Result<Next, Trouble> {
        fence::passed(&self.node).await;
        self.node.journal.check().map_err(Trouble::Journal)?;
        let node = self.node.clone();
        let snapshot = tokio::select! {
            biased;
            snapshot = node.observer.seen_after(self.acted_in_round) => snapshot?,
            () = node.stopping.cancelled() => return Ok(Next::Rest(None)),
        };
        let seen = snapshot.instances.get(&self.instance).cloned().unwrap_or_default();
        let (desired, confirmed) = self.desired();
        let target = match desired.as_deref() {
            Some(desired) if self.node.lease.forbids(desired) => Target::Forbidden(desired),
            Some(desired) => Target::Listed(desired),
            None => Target::Unlisted { confirmed },
        };
        let generation = desired.as_ref().map(|desired| desired.generation);
        let memory = self.memory(generation);
        let now = self.node.clock.now();
        let step = next_step(target, &memory, &seen, now);
        if !matches!(step, Step::Rest { .. }) {
            tracing::debug!(instance = %self.instance, ?step, "step");
        }
        match (step, desired) {
            (Step::Rest { phase, until }, _) => {
                self.node.board.set_phase(self.instance, Some(phase));
                Ok(Next::Rest(until.map(|until| until.since(now))))
            }
            (Step::Discard { sandbox, running }, desired) => {
                self.node.board.set_phase(self.instance, Some(Phase::Stopping));
                let grace = desired.map_or(10, |desired| desired.stop_grace_seconds);
                self.stop_containers(&running, grace).await?;
                self.remove_sandbox(&sandbox).await
            }
            (Step::Forget, _) => self.forget().await,
            (step, Some(desired)) => self.converge(step, &desired, &memory, &seen).await,
            // Every other step is about something that is listed.
            (_, None) => Ok(Next::Rest(None)),
        }
    }

    async fn converge(
        &mut self,
        step: Step,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
    ) -> Result<Next, Trouble> {
        match step {
            Step::TellStart(container) => self.tell_start(desired, &container).await,
            Step::TellEnd(container) => self.tell_end(desired, memory, &container).await,
            Step::TellLost { name, run, started_at } => Ok(self.tell_lost(desired, memory, &name, run, started_at)),
            Step::RemoveContainer(id) => self.remove_container(&id).await,
            Step::StopContainers(ids) => {
                self.node.board.set_phase(self.instance, Some(Phase::Stopping));
                self.stop_containers(&ids, desired.stop_grace_seconds).await?;
                Ok(Next::LookAgain)
            }
            Step::Fence(ids) => {
                self.node.fenced().extend(ids.iter().cloned());
                self.stop_containers(&ids, crate::fence::GRACE_SECONDS).await?;
                Ok(Next::LookAgain)
            }
            Step::StopSandbox(id) => {
                self.node.runtime.stop_sandbox(&id).await?;
                Ok(Next::LookAgain)
            }
            Step::RemoveSandbox(id) => self.remove_sandbox(&id).await,
            Step::Bring => self.bring(desired, memory, seen).await,
            Step::Admit(id) => {
                let address = self.address_of(&id).await?;
                self.admit(desired, memory, address).await?;
                Ok(Next::GoOn)
            }
            Step::TellSandboxStopped => {
                self.node.gate.release(self.instance).await?;
                self.say(desired.generation, Fact::SandboxStopped);
                Ok(Next::GoOn)
            }
            Step::RemoveTraces => {
                self.remove_logs().await?;
                self.say(desired.generation, Fact::Removed);
                self.node.proofs.forget(self.instance, |_| true);
                Ok(Next::GoOn)
            }
            Step::Rest { .. } | Step::Discard { .. } | Step::Forget => Ok(Next::GoOn),
        }
    }

    /// What was said in this generation, or in the latest.
    fn memory(&self, generation: Option<Generation>) -> Memory {
        let known = self.node.journal.memory(self.instance);
        let generation = generation.or(known.as_ref().map(|known| known.generation)).unwrap_or(Generation::FIRST);
        known.filter(|known| known.generation >= generation).unwrap_or_else(|| Memory::new(generation))
    }

    fn say(&self, generation: Generation, fact: Fact) {
        self.node.journal.say(self.instance, generation, fact);
    }

    async fn tell_start(&self, desired: &DesiredInstance, container: &SeenContainer) -> Result<Next, Trouble> {
        if let Some(status) = self.node.runtime.container(&container.id).await? {
            self.say_started(desired, container, &status);
        }
        Ok(Next::LookAgain)
    }

    fn say_started(&self, desired: &DesiredInstance, container: &SeenContainer, status: &ContainerStatus) {
        if let Some(started_at) = status.started_at {
            let (container, run) = run_key(container);
            self.say(desired.generation, Fact::ContainerStarted { container, run, started_at });
        }
    }

    async fn tell_end(
        &mut self,
        desired: &DesiredInstance,
        memory: &Memory,
        container: &SeenContainer,
    ) -> Result<Next, Trouble> {
        let Some(status) = self.node.runtime.container(&container.id).await? else { return Ok(Next::LookAgain) };
        if matches!(status.state, ContainerState::Running | ContainerState::Created) {
            return Ok(Next::LookAgain);
        }
        let Some(started_at) = status.started_at else {
            // Its start failed. A container starts once, so trying again, or learning again why not, takes another.
            self.node.runtime.remove_container(&container.id).await?;
            return Ok(Next::LookAgain);
        };
        let key = run_key(container);
        let spec = desired.containers.iter().find(|c| c.spec.name == container.name);
        let known = Circumstances {
            started_at,
            proof: self.node.proofs.of(self.instance, &key),
            stopped_by_us: self.stopped_by_us.remove(&container.id),
            memory_mib: spec.map_or(0, |spec| spec.spec.memory.get()),
            fenced: self.node.fenced().remove(&container.id) || self.is_noted_as_fenced(&container.id).await,
        };
        let (fenced, exit) = (known.fenced, exit::exit_of(&status, known));
        self.say_ended(desired, memory, key, started_at, (exit, fenced));
        Ok(Next::GoOn)
    }

    async fn is_noted_as_fenced(&self, id: &ContainerId) -> bool {
        let (folder, id) = (self.node.config.data_folder.clone(), id.clone());
        blocking(move || fenced_notes::is_left(&folder, &id)).await
    }

    fn tell_lost(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        name: &ContainerName,
        run: u32,
        started_at: Timestamp,
    ) -> Next {
        let proof = self.node.proofs.of(self.instance, &(name.clone(), run));
        let exit = exit::lost(Circumstances { started_at, proof, stopped_by_us: false, memory_mib: 0, fenced: false });
        self.say_ended(desired, memory, (name.clone(), run), started_at, (exit, false));
        Next::GoOn
    }

    fn say_ended(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        (container, run): exit::RunKey,
        started_at: Timestamp,
        (exit, fenced): (wherry_model::ContainerExit, bool),
    ) {
        let said = memory.container(&container);
        let now = self.node.clock.now();
        let goes_on = desired.action == Action::Run && !memory.ended(desired);
        let restart_at = match (goes_on, fenced) {
            (false, _) => None,
            // Whatever its policy: it did not end by itself.
            (true, true) => Some(now),
            (true, false) => exit::restart_at(desired.restart_policy, &exit, started_at, &said, now),
        };
        let of_this = container.clone();
        self.say(desired.generation, Fact::ContainerExited { container, run, started_at, exit, restart_at });
        self.node.proofs.forget(self.instance, |(name, known)| *name == of_this && *known <= run);
    }

    /// Says that the instance cannot be started; what is left of it is then taken down.
    fn fail(&mut self, desired: &DesiredInstance, reason: EndReason, message: String) -> Next {
        self.say(desired.generation, Fact::Failed { reason, message });
        self.failed_starts = 0;
        Next::LookAgain
    }
}
