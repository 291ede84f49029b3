//! An agent's process, and its way to everything that it waits for: its engine and the network. Here it is slowed down, and
//! here it dies.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::time::sleep;
use wherry_node_agent::Agent;
use wherry_runtime::fake::Interposed;

use super::dice::Dice;
use super::fate::Fate;
use super::oracle::Oracle;

/// Engine calls of a thousand that take their time, on a machine that is slow.
const SLOW_CALLS: u32 = 300;

pub(super) struct Grip {
    machine: usize,
    agent: Mutex<Option<Agent>>,
    fate: Fate,
    slow: AtomicBool,
    dice: Dice,
    oracle: Arc<Oracle>,
}

impl Grip {
    pub(super) fn new(machine: usize, slow: bool, dice: Dice, oracle: Arc<Oracle>) -> Self {
        let (agent, fate, slow) = (Mutex::default(), Fate::default(), AtomicBool::new(slow));
        Self { machine, agent, fate, slow, dice, oracle }
    }

    pub(super) fn holds_agent(&self) -> bool {
        self.agent().is_some()
    }

    pub(super) fn hold(&self, agent: Agent) {
        *self.agent() = Some(agent);
    }

    /// Takes the agent out, to end it.
    pub(super) fn let_go(&self) -> Option<Agent> {
        self.fate.spare();
        self.agent().take()
    }

    /// The agent dies at this await from now.
    pub(super) fn seal(&self, awaits: u32) {
        self.fate.seal(awaits);
    }

    /// Nothing goes wrong here any more.
    pub(super) fn heal(&self) {
        self.fate.spare();
        self.slow.store(false, Ordering::SeqCst);
    }

    /// The agent waits for something.
    pub(super) async fn waits(&self) {
        if self.fate.strikes() {
            self.oracle.note(format!("machine {}: its agent dies in the middle of something", self.machine));
            self.oracle.machine_is(self.machine, false);
            // It is one of the agent's own tasks that is here: it ends with all others.
            drop(self.let_go());
            pending::<()>().await;
        }
    }

    async fn takes_time(&self) {
        if self.slow.load(Ordering::SeqCst) && self.dice.happens(SLOW_CALLS) {
            let longest = if self.dice.happens(30) { 1_500 } else { 40 };
            sleep(self.dice.millis(0..longest)).await;
        }
    }

    fn agent(&self) -> MutexGuard<'_, Option<Agent>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Interposed for Grip {
    async fn before(&self) {
        self.waits().await;
        self.takes_time().await;
    }

    async fn after(&self) {
        self.takes_time().await;
        self.waits().await;
    }
}
