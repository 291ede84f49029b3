//! One instance's worker: takes the next step, again and again, until there is nothing left to do or nothing left at all.
//!
//! It keeps no state between steps save what makes it polite (how long to wait after failures) and what it may forget
//! (which containers it stopped itself). The path of a start has no sleep and no wait for the disk.

mod behind;
mod bring;
mod fetch;
mod hosts;
mod image;
mod stop;
mod take_down;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;
use wherry_agent_api::DesiredInstance;
use wherry_model::{Action, Check, ContainerName, EndReason, Fact, Generation, InstanceId, Timestamp};
use wherry_runtime::{ContainerId, ContainerState, ContainerStatus, RuntimeError};

use crate::backoff::Backoff;
use crate::blocking::blocking;
use crate::check::{self, Finding};
use crate::exit::{self, Circumstances, Rule, run_key};
use crate::fence;
use crate::fenced_notes;
use crate::firewall::FirewallError;
use crate::journal::Memory;
use crate::node::Node;
use crate::plan::{self, Seen, SeenContainer, Step, Target, next_step};
use crate::status::Phase;
use crate::verdict::{self, Verdict};

use self::behind::{Behind, Done};
use self::image::Got;
use self::stop::Ending;

/// How long what is to be done after a start may take.
const GREETING_WITHIN: Duration = Duration::from_mins(1);
/// Between two tries of it while nobody listens yet.
const GREETING_AGAIN: Duration = Duration::from_millis(200);

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
    behind: Behind,
    /// What went wrong behind its back.
    trouble_behind: Option<Trouble>,
}

impl Worker {
    pub(crate) fn new(node: Arc<Node>, instance: InstanceId, wakeup: Arc<Notify>) -> Self {
        Self {
            node,
            instance,
            wakeup,
            acted_in_round: 0,
            failures: 0,
            failed_starts: 0,
            stopped_by_us: BTreeSet::new(),
            behind: Behind::default(),
            trouble_behind: None,
        }
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
                Next::Rest(limit) => {
                    if let Some(done) = self.rest(limit).await {
                        self.see_to(done);
                    }
                }
                Next::Done => {
                    self.node.board.set_phase(self.instance, None);
                    return;
                }
            }
        }
    }

    /// Until woken, or until something is done that was begun.
    async fn rest(&mut self, limit: Option<Duration>) -> Option<Done> {
        let deadline = Instant::now() + limit.map_or(LONGEST_SLEEP, |limit| limit.min(LONGEST_SLEEP));
        tokio::select! {
            biased;
            () = self.wakeup.notified() => None,
            done = self.behind.done() => Some(done),
            () = tokio::time::sleep_until(deadline) => None,
            () = self.node.stopping.cancelled() => None,
        }
    }

    /// Takes note of what was done meanwhile. What went wrong for the machine's sake is tried again by the plan, after a while.
    fn see_to(&mut self, done: Done) {
        let trouble = match done {
            Done::Pull { outcome: Ok(Got::Here(_) | Got::Later), .. } => None,
            Done::Pull { container, of, outcome: Ok(Got::Never { verdict, may_pass }) } => {
                self.do_without(&container, of, verdict, may_pass);
                None
            }
            Done::Pull { outcome: Err(trouble), .. } | Done::End { outcome: Err(trouble), .. } => Some(trouble),
            Done::End { outcome: Ok(()), .. } => {
                self.acted_in_round = self.node.observer.begun();
                None
            }
            Done::Greeting { container, finding } => {
                match finding {
                    Finding::Well => drop(self.behind.at_work.greeted.insert(container)),
                    Finding::Ill(message) => {
                        let verdict = Verdict::new(EndReason::HookFailed, message);
                        self.behind.at_work.verdicts.insert(container, verdict);
                    }
                    // The plan has it done again if the container still runs.
                    Finding::Nothing(_) => self.acted_in_round = self.node.observer.begun(),
                }
                None
            }
        };
        self.trouble_behind = trouble.or(self.trouble_behind.take());
    }

    fn desired(&self) -> (Option<Arc<DesiredInstance>>, bool) {
        let watch = self.node.desired.watch();
        let known = watch.borrow();
        (known.instances.get(&self.instance).cloned(), known.confirmed)
    }

    /// Waits until something else is desired than `desired`, or the agent stops.
    async fn desired_otherwise(&self, desired: &DesiredInstance) {
        let of = |one: &DesiredInstance| (one.generation, one.action, revisions(one));
        self.until_desired(|now| of(now) != of(desired)).await;
    }

    /// Waits until what is desired of the instance is so, or nothing is, or the agent stops.
    async fn until_desired(&self, holds: impl Fn(&DesiredInstance) -> bool) {
        let mut watch = self.node.desired.watch();
        let differs = watch.wait_for(|known| known.instances.get(&self.instance).is_none_or(|now| holds(now)));
        tokio::select! {
            biased;
            _ = differs => {}
            () = self.node.stopping.cancelled() => {}
        }
    }

    async fn take_step(&mut self) -> Result<Next, Trouble> {
        fence::passed(&self.node).await;
        while let Some(done) = self.behind.done_by_now() {
            self.see_to(done);
        }
        if let Some(trouble) = self.trouble_behind.take() {
            return Err(trouble);
        }
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
        let runs = matches!(target, Target::Listed(desired) if desired.action == Action::Run);
        self.behind.follow(desired.as_deref(), runs);
        self.learn(&seen);
        if let Some(desired) = desired.as_deref().filter(|_| runs)
            && let Some(verdict) = self.node.overfull.verdict(desired, crate::disk::limit(&self.node, desired))
        {
            self.behind.condemn(desired, verdict);
        }
        let step = next_step(target, &memory, &seen, &self.behind.at_work, now);
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
                self.stop_containers(desired.as_deref(), &seen, &running).await?;
                self.behind.greet_only(|id| !running.contains(id));
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
            Step::Greet(container) => Ok(self.greet(desired, &container)),
            Step::TellStart(container) => self.tell_start(desired, &container).await,
            Step::TellEnd(container) => self.tell_end(desired, memory, seen, &container).await,
            Step::TellLost { name, run, started_at } => {
                Ok(self.tell_lost(desired, memory, seen, &name, run, started_at))
            }
            Step::RemoveContainer(id) => self.remove_container(&id).await,
            Step::StopContainers(ids) => {
                self.node.board.set_phase(self.instance, Some(Phase::Stopping));
                self.stop_containers(Some(desired), seen, &ids).await?;
                Ok(Next::LookAgain)
            }
            Step::Fence(ids) => {
                self.node.fenced().extend(ids.iter().cloned());
                let grace = Duration::from_secs(u64::from(crate::fence::GRACE_SECONDS));
                let endings: Vec<Ending> = ids.into_iter().map(|id| Ending::plain(id, grace)).collect();
                self.end_all(&endings).await?;
                Ok(Next::LookAgain)
            }
            Step::StopSandbox(id) => {
                self.node.runtime.stop_sandbox(&id).await?;
                Ok(Next::LookAgain)
            }
            Step::RemoveSandbox(id) => self.remove_sandbox(&id).await,
            Step::Bring { start, fetch } => self.bring(desired, memory, seen, &start, &fetch).await,
            Step::End { id, verdict } => {
                // What the next run is a run of is on record first: whoever comes after this agent must not have to ask for it.
                if verdict.reason == EndReason::Restarted && !self.facts_are_on_disk().await {
                    return Ok(Next::Rest(None));
                }
                let (node, ending) = (self.node.clone(), self.ending(desired, seen, &id));
                let noted = id.clone();
                self.behind.end(&id, async move {
                    stop::note(&node, &[noted], &verdict).await?;
                    Ok(stop::end(&node, &ending).await?)
                });
                Ok(Next::GoOn)
            }
            Step::EndAll { ids, verdict } => {
                self.node.board.set_phase(self.instance, Some(Phase::Stopping));
                stop::note(&self.node, &ids, &verdict).await?;
                let endings: Vec<Ending> = ids.iter().map(|id| self.ending(desired, seen, id)).collect();
                self.end_all(&endings).await?;
                Ok(Next::LookAgain)
            }
            Step::Fail(Verdict { reason, message }) => {
                let message = message.unwrap_or_default();
                self.say(desired.generation, Fact::Failed { reason, message });
                self.failed_starts = 0;
                self.behind.follow(None, false);
                Ok(Next::LookAgain)
            }
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
                self.remove_volumes().await?;
                self.retire_logs().await?;
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
            let revision = container.revision;
            let (container, run) = run_key(container);
            let fact = Fact::ContainerStarted { container, run, started_at };
            self.node.journal.say_of(self.instance, desired.generation, revision, fact);
        }
    }

    async fn tell_end(
        &mut self,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
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
        let spec = desired.container(&container.name);
        let (noted_as_fenced, verdict) = self.notes_of(&container.id).await;
        let known = Circumstances {
            started_at,
            proof: self.node.proofs.of(self.instance, &key),
            stopped_by_us: self.stopped_by_us.remove(&container.id),
            memory_mib: spec.map_or(0, |spec| spec.spec.most_memory().get()),
            fenced: self.node.fenced().remove(&container.id) || noted_as_fenced,
            verdict,
            deadline: plan::deadline(desired, memory)
                .filter(|_| desired.action == Action::Run)
                .map(|deadline| (deadline, plan::past_deadline(desired))),
        };
        let (fenced, exit) = (known.fenced, exit::exit_of(&status, &known));
        self.say_ended(desired, memory, seen, (key, container.revision), started_at, (exit, fenced));
        Ok(Next::GoOn)
    }

    /// Whether it was noted to have been fenced, and why it was ended otherwise.
    async fn notes_of(&self, id: &ContainerId) -> (bool, Option<Verdict>) {
        let (folder, id) = (self.node.config.data_folder.clone(), id.clone());
        blocking(move || (fenced_notes::is_left(&folder, &id), verdict::of(&folder, &id))).await
    }

    fn tell_lost(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
        name: &ContainerName,
        run: u32,
        started_at: Timestamp,
    ) -> Next {
        let proof = self.node.proofs.of(self.instance, &(name.clone(), run));
        let (stopped_by_us, memory_mib, fenced) = (false, 0, false);
        let (verdict, deadline) = (None, None);
        let known = Circumstances { started_at, proof, stopped_by_us, memory_mib, fenced, verdict, deadline };
        let revision = memory.container(name).revision;
        self.say_ended(desired, memory, seen, ((name.clone(), run), revision), started_at, (exit::lost(&known), false));
        Next::GoOn
    }

    fn say_ended(
        &self,
        desired: &DesiredInstance,
        memory: &Memory,
        seen: &Seen,
        ((container, run), revision): (exit::RunKey, u32),
        started_at: Timestamp,
        (exit, fenced): (wherry_model::ContainerExit, bool),
    ) {
        let said = memory.container(&container);
        let now = self.node.clock.now();
        let goes_on = desired.action == Action::Run
            && !memory.ended(desired)
            && plan::doom(desired, memory, seen, &self.behind.at_work, now).is_none();
        let is_outdated = desired.container(&container).is_some_and(|container| revision < container.revision);
        let restart_at = if !goes_on {
            None
        } else if fenced || is_outdated {
            // Whatever its policy: it did not end by itself, or somebody has asked for another.
            Some(now)
        } else {
            exit::restart_at(Rule::of(desired, &container), &exit, started_at, &said, now)
        };
        let of_this = container.clone();
        let fact = Fact::ContainerExited { container, run, started_at, exit, restart_at };
        self.node.journal.say_of(self.instance, desired.generation, revision, fact);
        self.node.proofs.forget(self.instance, |(name, known)| *name == of_this && *known <= run);
    }

    /// Begins what is to be done after a start; the container counts as started when it is done.
    fn greet(&mut self, desired: &DesiredInstance, container: &SeenContainer) -> Next {
        let hook = desired.container(&container.name).and_then(|known| known.spec.hooks.post_start.clone());
        let (Some(hook), Some(place)) = (hook, self.place(desired, &container.id)) else {
            self.behind.at_work.greeted.insert(container.id.clone());
            return Next::GoOn;
        };
        let (node, instance) = (self.node.clone(), self.instance);
        self.behind.greet(&container.id, async move {
            let begun = Instant::now();
            loop {
                let known = node.journal.memory(instance).and_then(|memory| memory.address);
                if known != Some(place.address) {
                    return Finding::Nothing("its address is not its own any more".to_owned());
                }
                let left = GREETING_WITHIN.saturating_sub(begun.elapsed());
                match check::perform(&*node.runtime, &place, &hook, left.max(GREETING_AGAIN)).await {
                    // It may not listen yet.
                    Finding::Ill(_) if !matches!(hook, Check::Exec { .. }) && left > GREETING_AGAIN => {}
                    finding => return finding,
                }
                tokio::time::sleep(GREETING_AGAIN).await;
            }
        });
        Next::GoOn
    }

    /// Takes over what probes have found, and forgets what is about containers that do not run any more.
    fn learn(&mut self, seen: &Seen) {
        let running = seen.containers.iter().filter(|container| container.state == ContainerState::Running);
        let running: BTreeSet<&ContainerId> = running.map(|container| &container.id).collect();
        self.behind.greet_only(|id| running.contains(id));
        let at_work = &mut self.behind.at_work;
        at_work.greeted.retain(|id| running.contains(id));
        at_work.verdicts.retain(|id, _| running.contains(id));
        for id in running {
            if let Some(verdict) = self.node.findings.verdict(id) {
                at_work.verdicts.entry(id.clone()).or_insert(verdict);
            }
        }
    }
}

fn revisions(desired: &DesiredInstance) -> Vec<u32> {
    desired.containers.iter().map(|container| container.revision).collect()
}
