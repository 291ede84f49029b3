//! Agents of machines that do not exist: they join, prove life and, if told so, follow what they are asked to keep, as real ones
//! do, over the same protocol and with the same patience. They run nothing and report nothing.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wherry_agent_api::{
    ControlError, ControlPlane as _, ExecOutcome, ExecQuery, Heartbeat, LogQuery, LogStream, NodeError, NodeHello,
    NodeServices,
};
use wherry_agent_link::{Answerer, Identity, JoinOrder, LinkClient, LinkSettings};
use wherry_model::{Architecture, BootId, Capacity, Clock as _, JournalId};

use crate::api::Api;
use crate::system::{KernelEntropy, WallClock};

/// 172.16.0.1
const FIRST_UNDERLAY: u32 = 0xac10_0001;
/// As real agents do.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_secs(1);
const JOINS_AT_ONCE: usize = 8;
const HEARD_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What an agent does besides proving life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing: what is placed on it is never asked for.
    Nothing,
    /// It waits for desired state, surroundings and calls as real agents do.
    Follow,
}

/// One agent. Dead when dropped.
pub(crate) struct Agent {
    pub(crate) name: String,
    identity: Arc<Identity>,
    capacity: Capacity,
    boot: BootId,
    journal: JournalId,
    work: Work,
    /// Where the others would reach it: packets that nobody sends.
    underlay: Ipv4Addr,
    /// When its last heartbeat was answered.
    heard: watch::Sender<Option<Instant>>,
    life: Option<Life>,
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

/// Makes so many machines nodes and brings them to life.
pub(crate) async fn join(api: &Api, folder: &Path, count: usize, capacity: Capacity, work: Work) -> Result<Vec<Agent>> {
    let begun = Instant::now();
    // To life when all have joined: each that lives is told all its peers again at every further join.
    let mut agents: Vec<Agent> = stream::iter(0..count)
        .map(|number| join_one(api, folder.join(format!("fake-{number}")), number, capacity, work))
        .buffered(JOINS_AT_ONCE)
        .try_collect()
        .await?;
    let joined = begun.elapsed().as_secs_f64();
    for agent in &mut agents {
        agent.live()?;
    }
    until_heard(&agents, Instant::now()).await?;
    eprintln!(
        "{count} fake agents joined in {joined:.1} s and were heard {:.1} s later",
        begun.elapsed().as_secs_f64() - joined
    );
    Ok(agents)
}

async fn join_one(api: &Api, folder: PathBuf, number: usize, capacity: Capacity, work: Work) -> Result<Agent> {
    let begun = Instant::now();
    // A fleet that is busy with those who have joined says so, and an operator asks again.
    let token = loop {
        match api.join_token().await {
            Ok(token) => break token,
            Err(error) if begun.elapsed() > HEARD_WITHIN => return Err(error.context("no join token")),
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    };
    let name = format!("fake-{number}");
    let order = JoinOrder {
        endpoint: token.join_url,
        token: token.token,
        ca_fingerprint: token.ca_fingerprint.parse().context("the fingerprint is none")?,
        name: name.clone(),
    };
    let identity = Identity::join(&folder, order, Arc::new(WallClock), Arc::new(KernelEntropy)).await?;
    Ok(Agent {
        name,
        identity: Arc::new(identity),
        capacity,
        boot: BootId::generate(&WallClock, &KernelEntropy),
        journal: JournalId::generate(&WallClock, &KernelEntropy),
        work,
        underlay: Ipv4Addr::from(FIRST_UNDERLAY + u32::try_from(number)?),
        heard: watch::Sender::new(None),
        life: None,
    })
}

/// Waits until each has had a heartbeat answered after `since`; answers when the first, the middle and the last had.
pub(crate) async fn until_heard(agents: &[Agent], since: Instant) -> Result<[Duration; 3]> {
    let mut first_after: Vec<Option<Instant>> = vec![None; agents.len()];
    while first_after.iter().any(Option::is_none) {
        for (agent, at) in agents.iter().zip(&mut first_after) {
            let heard = *agent.heard.borrow();
            *at = at.or(heard.filter(|heard| *heard > since));
        }
        let missing = first_after.iter().filter(|at| at.is_none()).count();
        ensure!(
            since.elapsed() < HEARD_WITHIN,
            "{missing} of {} agents are not heard: {}",
            agents.len(),
            trouble(agents)
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut after: Vec<Duration> = first_after.iter().flatten().map(|at| at.saturating_duration_since(since)).collect();
    after.sort_unstable();
    let [first, half, last] = [0, after.len() / 2, after.len().saturating_sub(1)];
    Ok([first, half, last].map(|index| after.get(index).copied().unwrap_or_default()))
}

fn trouble(agents: &[Agent]) -> String {
    let silent = agents.iter().find(|agent| agent.heard.borrow().is_none());
    silent.map_or_else(|| "each was heard once".to_owned(), |agent| format!("{} never was", agent.name))
}

impl Agent {
    /// Connects and goes on where it was.
    fn live(&mut self) -> Result<()> {
        let link = self.identity.link(LinkSettings::default(), Arc::new(WallClock), Arc::new(KernelEntropy))?;
        let (stop, epoch) = (CancellationToken::new(), Arc::new(AtomicU64::new(1)));
        let mut tasks = JoinSet::new();
        tasks.spawn(prove_life(Arc::clone(&link), self.hello(), Arc::clone(&epoch), self.heard.clone()));
        if self.work == Work::Follow {
            tasks.spawn(follow_desired(Arc::clone(&link), self.hello(), epoch));
            tasks.spawn(follow_surroundings(Arc::clone(&link), self.hello()));
            drop(Answerer::start(link, Arc::new(Nobody), stop.clone()));
        }
        self.life = Some(Life { _tasks: tasks, stop });
        Ok(())
    }

    /// Ends without a word.
    pub(crate) fn die(&mut self) {
        self.life = None;
    }

    /// When it last was answered.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        *self.heard.borrow()
    }

    fn hello(&self) -> NodeHello {
        NodeHello {
            node: self.identity.node(),
            name: self.name.clone(),
            architecture: Architecture::Amd64,
            capacity: self.capacity,
            range: self.identity.range(),
            boot: self.boot,
            journal: self.journal,
            desired_revision: None,
            underlay: Some(self.underlay),
            isolation: wherry_model::IsolationSet::default(),
            zone: None,
            disk_mib: None,
            gpus: wherry_model::GpuOffer::default(),
            images: Vec::new(),
            protocol: wherry_agent_api::PROTOCOL,
        }
    }
}

/// Introduces the node, then beats.
async fn prove_life(
    link: Arc<LinkClient>,
    hello: NodeHello,
    epoch: Arc<AtomicU64>,
    heard: watch::Sender<Option<Instant>>,
) {
    while link.hello(hello.clone()).await.is_err() {
        tokio::time::sleep(RETRY_EVERY).await;
    }
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heartbeat = Heartbeat {
            node: hello.node,
            boot: hello.boot,
            epoch: epoch.load(Ordering::Relaxed),
            at: WallClock.now(),
            running: Vec::new(),
            pulls: Vec::new(),
        };
        match tokio::time::timeout(HEARTBEAT_EVERY, link.heartbeat(heartbeat)).await {
            Ok(Ok(())) => drop(heard.send_replace(Some(Instant::now()))),
            Ok(Err(ControlError::Fenced { epoch: present })) => epoch.store(present, Ordering::Relaxed),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn follow_desired(link: Arc<LinkClient>, hello: NodeHello, epoch: Arc<AtomicU64>) {
    let mut have = None;
    loop {
        match link.desired(hello.node, have).await {
            Ok(Some(desired)) => {
                have = Some(desired.revision);
                epoch.fetch_max(desired.epoch, Ordering::Relaxed);
            }
            Ok(None) => {}
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

async fn follow_surroundings(link: Arc<LinkClient>, hello: NodeHello) {
    let mut have = None;
    loop {
        match link.surroundings(hello.node, have).await {
            Ok(Some(surroundings)) => have = Some(surroundings.tag),
            Ok(None) => {}
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
    }
}

/// Nothing runs here.
struct Nobody;

#[async_trait]
impl NodeServices for Nobody {
    async fn logs(&self, _query: LogQuery) -> Result<LogStream, NodeError> {
        Err(NodeError::NotFound("nothing runs here".to_owned()))
    }

    async fn exec(&self, _query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        Err(NodeError::NotFound("nothing runs here".to_owned()))
    }
}
