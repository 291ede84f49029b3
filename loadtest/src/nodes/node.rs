//! One simulated node with its connection: what a real agent does at the same times, over the same client of the wire.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{
    ControlError, ControlPlane as _, ExecOutcome, ExecQuery, Heartbeat, LogQuery, LogStream, NodeError, NodeHello,
    NodeServices, Report,
};
use wherry_agent_link::{Answerer, Identity, LinkClient, LinkSettings};
use wherry_model::{Architecture, BootId, Capacity, Clock as _, JournalId, NodeId, Timestamp};

use super::Habits;
use super::machine::{Machine, Run};
use crate::system::{KernelEntropy, Seeded, WallClock};

/// As real agents do.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Facts that come closer together than this go in one report, as those of a real journal do.
const GATHER: Duration = Duration::from_millis(5);
/// Of a thousand reports or heartbeats: sent twice, sent late, not sent.
const DUPLICATED: u64 = 5;
const LATE: u64 = 5;
const LOST: u64 = 5;
const LATE_BY: Duration = Duration::from_millis(700);

/// One simulated node. Alive until [`Node::fall_silent`] or [`Node::die`].
pub(crate) struct Node {
    identity: Arc<Identity>,
    habits: Habits,
    boot: BootId,
    journal: JournalId,
    machine: Mutex<Machine>,
    random: Mutex<Seeded>,
    work: Notify,
    /// The proof of life that was acknowledged last, in microseconds; 0 before the first.
    proved: AtomicU64,
    link: Mutex<Option<Arc<LinkClient>>>,
    life: Mutex<Option<Life>>,
    dead: AtomicBool,
}

struct Life {
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the auditor gets of a node.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) capacity: Capacity,
    /// When it died, if it did.
    pub(crate) died: bool,
    /// Its last proof of life that was acknowledged.
    pub(crate) proved: Option<Timestamp>,
    pub(crate) runs: Vec<Run>,
    /// Facts that nobody has acknowledged.
    pub(crate) unacknowledged: usize,
}

impl Node {
    pub(crate) fn new(identity: Arc<Identity>, habits: Habits, seed: u64) -> Self {
        let machine = Machine::new(seed, identity.range().0, habits.starts);
        Self {
            identity,
            habits,
            boot: BootId::generate(&WallClock, &KernelEntropy),
            journal: JournalId::generate(&WallClock, &KernelEntropy),
            machine: Mutex::new(machine),
            random: Mutex::new(Seeded::new(seed ^ 0x5eed)),
            work: Notify::new(),
            proved: AtomicU64::new(0),
            link: Mutex::default(),
            life: Mutex::default(),
            dead: AtomicBool::new(false),
        }
    }

    /// Connects and goes on where it was.
    pub(crate) fn live(self: &Arc<Self>) -> Result<()> {
        let link = self.identity.link(LinkSettings::default(), Arc::new(WallClock), Arc::new(KernelEntropy))?;
        *lock(&self.link) = Some(Arc::clone(&link));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(prove_life(Arc::clone(self), Arc::clone(&link)));
        tasks.spawn(follow(Arc::clone(self), Arc::clone(&link)));
        tasks.spawn(work(Arc::clone(self), Arc::clone(&link)));
        if self.habits.surroundings {
            tasks.spawn(follow_surroundings(Arc::clone(self), Arc::clone(&link)));
        }
        drop(Answerer::start(link, Arc::new(Nobody), stop.clone()));
        *lock(&self.life) = Some(Life { _tasks: tasks, stop });
        Ok(())
    }

    /// Says nothing until [`Self::live`]; what runs on it runs on.
    pub(crate) fn fall_silent(&self) {
        *lock(&self.life) = None;
        *lock(&self.link) = None;
    }

    /// Ends without a word, with all that runs on it.
    pub(crate) fn die(&self) {
        self.fall_silent();
        self.dead.store(true, Ordering::Relaxed);
        let now = WallClock.now();
        for run in lock(&self.machine).runs.iter_mut().filter(|run| run.to.is_none()) {
            run.to = Some(now);
        }
    }

    pub(crate) fn heard(&self) -> Option<Timestamp> {
        let micros = self.proved.load(Ordering::Relaxed);
        (micros > 0).then(|| Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)))
    }

    pub(crate) fn trouble(&self) -> String {
        let link = lock(&self.link).clone();
        let trouble = link.and_then(|link| link.trouble()).unwrap_or_else(|| "no heartbeat was answered".to_owned());
        format!("{}: {trouble}", self.identity.name())
    }

    pub(crate) fn record(&self) -> Record {
        let machine = lock(&self.machine);
        Record {
            node: self.identity.node(),
            name: self.identity.name().to_owned(),
            capacity: self.habits.capacity,
            died: self.dead.load(Ordering::Relaxed),
            proved: self.heard(),
            runs: machine.runs.clone(),
            unacknowledged: machine.unacknowledged.len(),
        }
    }

    /// How many instances run here now.
    pub(crate) fn running(&self) -> usize {
        lock(&self.machine).running().len()
    }

    fn hello(&self) -> NodeHello {
        NodeHello {
            node: self.identity.node(),
            name: self.identity.name().to_owned(),
            architecture: Architecture::Amd64,
            capacity: self.habits.capacity,
            range: self.identity.range(),
            boot: self.boot,
            journal: self.journal,
            desired_revision: None,
            underlay: None,
            isolation: wherry_model::IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: wherry_model::GpuOffer::default(),
            images: Vec::new(),
            protocol: wherry_agent_api::PROTOCOL,
        }
    }

    fn heartbeat(&self) -> Heartbeat {
        let machine = lock(&self.machine);
        let at = machine.proved_until(WallClock.now());
        let (node, boot, epoch, running) = (self.identity.node(), self.boot, machine.epoch, machine.running());
        Heartbeat { node, boot, epoch, at, running, pulls: Vec::new() }
    }

    fn chance(&self, permille: u64) -> bool {
        lock(&self.random).chance(permille)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Introduces the node, then beats.
async fn prove_life(node: Arc<Node>, link: Arc<LinkClient>) {
    while link.hello(node.hello()).await.is_err() {
        tokio::time::sleep(RETRY_EVERY).await;
    }
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if node.chance(LOST) {
            continue;
        }
        let heartbeat = node.heartbeat();
        let at = heartbeat.at;
        match tokio::time::timeout(HEARTBEAT_EVERY, link.heartbeat(heartbeat)).await {
            Ok(Ok(())) => {
                node.proved.fetch_max(u64::try_from(at.as_micros()).unwrap_or_default(), Ordering::Relaxed);
            }
            Ok(Err(ControlError::UnknownNode)) => drop(link.hello(node.hello()).await),
            // A higher epoch comes with the desired state.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn follow(node: Arc<Node>, link: Arc<LinkClient>) {
    let mut have = None;
    loop {
        match link.desired(node.identity.node(), have).await {
            Ok(Some(desired)) => {
                have = Some(desired.revision);
                lock(&node.machine).obey(&desired, WallClock.now());
                node.work.notify_one();
            }
            Ok(None) => {}
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

async fn follow_surroundings(node: Arc<Node>, link: Arc<LinkClient>) {
    let mut have = None;
    loop {
        match link.surroundings(node.identity.node(), have).await {
            Ok(Some(surroundings)) => have = Some(surroundings.tag),
            Ok(None) => {}
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

/// Starts and ends what is due, and reports.
async fn work(node: Arc<Node>, link: Arc<LinkClient>) {
    loop {
        let now = WallClock.now();
        let (next, has_facts) = {
            let mut machine = lock(&node.machine);
            machine.advance(now);
            (machine.next_due(), !machine.unacknowledged.is_empty())
        };
        if has_facts {
            report(&node, &link).await;
            continue;
        }
        match next {
            Some(at) => {
                let _ = tokio::time::timeout(at.since(now).max(GATHER), node.work.notified()).await;
            }
            None => node.work.notified().await,
        }
    }
}

async fn report(node: &Node, link: &LinkClient) {
    let observations: Vec<_> =
        lock(&node.machine).unacknowledged.iter().take(Report::MAX_OBSERVATIONS).cloned().collect();
    let report = Report { node: node.identity.node(), journal: node.journal, observations };
    if node.chance(LATE) {
        tokio::time::sleep(LATE_BY).await;
    }
    if node.chance(DUPLICATED) {
        // As after an answer that was lost: the same again.
        drop(link.report(report.clone()).await);
    }
    match link.report(report).await {
        Ok(ack) => lock(&node.machine).acknowledge(ack.through),
        Err(_) => tokio::time::sleep(RETRY_EVERY).await,
    }
}

/// Nothing runs here.
struct Nobody;

#[async_trait]
impl NodeServices for Nobody {
    async fn logs(&self, _query: LogQuery) -> Result<LogStream, NodeError> {
        Err(NodeError::NotFound("nothing runs on a simulated node".to_owned()))
    }

    async fn exec(&self, _query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        Err(NodeError::NotFound("nothing runs on a simulated node".to_owned()))
    }
}
