//! An agent that keeps the contract of `agent-api` by hand: it journals, reports until acknowledged, proves life, and
//! serves output, but runs nothing.
//!
//! Two ways to use it. [`ScriptedAgent::obey`] does all that an honest agent would do about the present desired state.
//! [`ScriptedAgent::say`] with [`ScriptedAgent::report`] lets a test say any fact at any time, also wrong ones. All
//! moments come from the manual clock.

mod machine;
mod obey;
mod output;
mod session;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wherry_agent_api::{
    Ack, ControlError, ControlPlane, Desired, Heartbeat, NodeHello, PullProgress, Report, RunningContainer,
    Surroundings, Welcome,
};
use wherry_model::{Clock, Fact, Generation, InstanceId, JournalId, NodeId, Observation, Timestamp};

use self::machine::Machine;
use crate::{Line, ManualClock, SeededEntropy, main_container};

pub use machine::Ran;
pub use obey::Obedience;

/// A node's agent, played. Clones are the same agent.
#[derive(Debug, Clone)]
pub struct ScriptedAgent {
    line: Arc<Line>,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    hello: NodeHello,
    machine: Arc<Mutex<Machine>>,
}

impl ScriptedAgent {
    pub(crate) fn new(line: Arc<Line>, clock: Arc<ManualClock>, entropy: Arc<SeededEntropy>, hello: NodeHello) -> Self {
        let machine = Machine::new(hello.journal, hello.range.0);
        Self { line, clock, entropy, hello, machine: Arc::new(Mutex::new(machine)) }
    }

    /// Its node.
    pub const fn node(&self) -> NodeId {
        self.hello.node
    }

    /// The moment on the manual clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Introduces the node.
    pub async fn hello(&self) -> Result<Welcome, ControlError> {
        let journal = self.machine().journal;
        self.line.hello(NodeHello { journal, ..self.hello.clone() }).await
    }

    /// Introduces the node as somebody else would.
    pub async fn hello_as(&self, hello: NodeHello) -> Result<Welcome, ControlError> {
        self.line.hello(hello).await
    }

    /// What it says of itself.
    pub const fn introduction(&self) -> &NodeHello {
        &self.hello
    }

    /// The whole desired state, now.
    pub async fn desired(&self) -> Result<Desired, ControlError> {
        let desired = self.line.desired(self.node(), None).await?;
        Ok(desired.expect("asked without a revision, the control plane answers at once"))
    }

    /// What is around the node, now.
    pub async fn surroundings(&self) -> Result<Surroundings, ControlError> {
        let surroundings = self.line.surroundings(self.node(), None).await?;
        Ok(surroundings.expect("asked without a tag, the control plane answers at once"))
    }

    /// The agent ends by itself what its lease does not cover any more: every instance whose desired state, as it is known on
    /// the machine, says after how long.
    pub fn fence(&self) {
        let now = self.now();
        self.machine().fence(now);
    }

    /// Proves life with what runs: at this moment, or as far as no end is left that is not acknowledged yet.
    pub async fn heartbeat(&self) -> Result<(), ControlError> {
        self.heartbeat_with(self.running(), Vec::new()).await
    }

    /// Proves life to another replica than the one at the end of the line.
    pub async fn heartbeat_to(&self, control: &dyn ControlPlane) -> Result<(), ControlError> {
        control.heartbeat(self.life(self.running(), Vec::new())).await
    }

    /// Proves life with a list of the test's own.
    pub async fn heartbeat_with(
        &self,
        running: Vec<RunningContainer>,
        pulls: Vec<PullProgress>,
    ) -> Result<(), ControlError> {
        self.line.heartbeat(self.life(running, pulls)).await
    }

    fn life(&self, running: Vec<RunningContainer>, pulls: Vec<PullProgress>) -> Heartbeat {
        let (at, epoch) = {
            let machine = self.machine();
            (machine.proved_until().map_or(self.now(), |end| end.min(self.now())), machine.epoch)
        };
        Heartbeat { node: self.node(), boot: self.hello.boot, epoch, at, running, pulls }
    }

    /// Writes a fact into the journal; [`Self::report`] sends it.
    pub fn say(&self, instance: InstanceId, generation: Generation, fact: Fact) -> Observation {
        self.machine().say(instance, generation, self.now(), fact)
    }

    /// Sends what is not acknowledged, oldest first, until all of it is.
    pub async fn report(&self) -> Result<(), ControlError> {
        loop {
            let observations = self.unacknowledged(Report::MAX_OBSERVATIONS);
            if observations.is_empty() {
                return Ok(());
            }
            let ack = self.deliver(observations).await?;
            self.machine().forget_through(ack.through);
        }
    }

    /// Sends exactly these, and forgets nothing.
    pub async fn deliver(&self, observations: Vec<Observation>) -> Result<Ack, ControlError> {
        let journal = self.machine().journal;
        self.line.report(Report { node: self.node(), journal, observations }).await
    }

    /// The oldest facts that are not acknowledged.
    pub fn unacknowledged(&self, limit: usize) -> Vec<Observation> {
        self.machine().unacknowledged.iter().take(limit).cloned().collect()
    }

    /// Everything that was ever written into the present journal.
    pub fn said(&self) -> Vec<Observation> {
        self.machine().said.clone()
    }

    /// Every run that there ever was on the machine: what an observer beside the agent would have seen.
    pub fn history(&self) -> Vec<Ran> {
        self.machine().history.clone()
    }

    /// Loses the journal with all that was not acknowledged, and begins another.
    pub fn lose_journal(&self) {
        let journal = JournalId::generate(self.clock.as_ref(), self.entropy.as_ref());
        self.machine().begin_journal(journal);
    }

    /// What runs on the machine, as a heartbeat lists it.
    pub fn running(&self) -> Vec<RunningContainer> {
        let machine = self.machine();
        let running = machine.instances.iter().filter_map(|(id, local)| {
            local.running_since?;
            let (instance, generation, run) = (*id, local.generation, local.run);
            Some(RunningContainer { instance, generation, container: main_container(), run })
        });
        running.collect()
    }

    /// Whether a container of the instance runs on the machine.
    pub fn runs(&self, instance: InstanceId) -> bool {
        self.machine().instances.get(&instance).is_some_and(|local| local.running_since.is_some())
    }

    /// Ends the container by itself with this code, and journals it; started again at `restart_at` if that is given.
    pub fn exit(&self, instance: InstanceId, exit_code: i32, restart_at: Option<Timestamp>) {
        let now = self.now();
        self.machine().exit(instance, exit_code, None, restart_at, now);
    }

    /// Whether the container has ended and waits for its restart.
    pub fn waits_for_restart(&self, instance: InstanceId) -> bool {
        self.machine().instances.get(&instance).is_some_and(machine::Local::waits_for_restart)
    }

    /// The next instance that comes to this machine cannot be started: its image does not exist.
    pub fn break_next_start(&self) {
        self.machine().breaks_next_start = true;
    }

    /// Starts the next run of a container that has ended, and journals it.
    pub fn start_again(&self, instance: InstanceId) {
        let now = self.now();
        self.machine().start(instance, now);
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
