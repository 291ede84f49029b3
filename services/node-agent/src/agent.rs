//! Puts the parts together and takes them apart in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wherry_agent_api::{
    ControlPlane, ExecOutcome, ExecQuery, InstanceStats, LogChunk, LogQuery, NodeError, NodeServices, Session,
    SessionQuery, StatsQuery,
};
use wherry_model::{Clock, Entropy};
use wherry_runtime::ContainerRuntime;

use crate::blocking::blocking;
use crate::config::AgentConfig;
use crate::desired::DesiredStore;
use crate::findings::Findings;
use crate::firewall::{Firewall, Gate};
use crate::journal::{Journal, JournalDisk};
use crate::lease::{BootClock, KernelBootClock, Lease};
use crate::node::Node;
use crate::observer::Observer;
use crate::permits::Permits;
use crate::proof::Proofs;
use crate::roster::Spawn;
use crate::routes::RouteTable;
use crate::status::{AgentStatus, Board};
use crate::surroundings::{Keeper, KeptFile, NamesSink};
use crate::{conversation, exec, fence, heartbeat, images, logs, probe, reporter, roster, routes, session, stats};

/// Why an agent could not begin.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Its data folder cannot be used.
    #[error(
        "the agent's data folder {folder} cannot be used; check its owner, its free space and that no other agent runs"
    )]
    DataFolder {
        /// Which folder.
        folder: String,
        /// What failed.
        source: io::Error,
    },
}

/// A running agent. Dropping it ends its tasks at once, as a crash would; containers run on either way.
pub struct Agent {
    node: Arc<Node>,
    /// Ends all tasks at once.
    kill: CancellationToken,
    /// Ends the tasks that others lean on.
    hush: CancellationToken,
    /// Tasks that bring something about: session, roster, workers, heartbeat, log files.
    actors: TaskTracker,
    /// Tasks that others lean on: observer, gate, journal, reporter.
    supports: TaskTracker,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

impl Agent {
    /// Reads what the last agent left in the data folder and begins. Needs neither engine nor control plane to answer.
    /// For a machine that is alone: it gives names to nobody and keeps no ways to other nodes.
    pub async fn start(
        config: AgentConfig,
        runtime: Arc<dyn ContainerRuntime>,
        firewall: Arc<dyn Firewall>,
        control: Arc<dyn ControlPlane>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, AgentError> {
        let boot_clock = Arc::new(KernelBootClock);
        let (routes, names) = (None, None);
        let parts = AgentParts { runtime, firewall, routes, names, control, clock, boot_clock, entropy };
        Self::start_with(config, parts).await
    }

    /// The same with all parts of the caller's.
    pub async fn start_with(config: AgentConfig, parts: AgentParts) -> Result<Self, AgentError> {
        Self::start_on_disk(config, parts, |disk| disk).await
    }

    /// Begins with a seam at the journal's disk, through which tests tear writes.
    pub(crate) async fn start_on_disk<D: JournalDisk + 'static>(
        config: AgentConfig,
        parts: AgentParts,
        disk: impl FnOnce(crate::journal::JournalFolder) -> D,
    ) -> Result<Self, AgentError> {
        let folder = config.data_folder.display().to_string();
        let config = Arc::new(config);
        let opening = config.clone();
        let (clock, entropy, boot_clock) = (parts.clock.clone(), parts.entropy.clone(), parts.boot_clock.clone());
        let secret_entropy = parts.entropy.clone();
        let opened = blocking(move || {
            std::fs::create_dir_all(opening.logs_folder())?;
            let folder = &opening.data_folder;
            let journal = Journal::open(folder, clock, &*entropy, opening.journal_max_bytes)?;
            let boot = opening.machine.boot;
            let kept = (
                DesiredStore::open(folder, secret_entropy),
                Proofs::open(folder, boot)?,
                Lease::open(folder, boot, boot_clock),
            );
            Ok::<_, io::Error>((journal, kept, KeptFile::open(folder)?))
        });
        let ((journal, file), kept, around) =
            opened.await.map_err(|source| AgentError::DataFolder { folder, source })?;
        let (routes, names) = (parts.routes.clone(), parts.names.clone());
        let agent = Self::assemble(config, parts, journal, kept);
        agent.begin(disk(file));
        agent.look_around(Keeper::new(agent.node.clone(), around, names), routes);
        Ok(agent)
    }

    fn assemble(
        config: Arc<AgentConfig>,
        parts: AgentParts,
        journal: Journal,
        (desired, proofs, lease): (DesiredStore, Proofs, Lease),
    ) -> Self {
        let AgentParts { runtime, firewall, control, clock, entropy, .. } = parts;
        let (board, proofs) = (Arc::new(Board::default()), Arc::new(proofs));
        let observer = Observer::new(
            runtime.clone(),
            clock.clone(),
            config.machine.node,
            proofs.clone(),
            board.clone(),
            config.poll_every,
        );
        let kill = CancellationToken::new();
        let node = Arc::new(Node {
            images_used: images::ImagesUsed::default(),
            pulls: Permits::new(config.pulls.at_once),
            look_ups: Permits::new(config.pulls.at_once),
            execs: Permits::new(config.at_once.programs),
            conversations: Permits::new(config.at_once.conversations),
            starts: Semaphore::new(config.starts_at_once.max(1)),
            closings: logs::Closings::default(),
            gate: Arc::new(Gate::new(firewall, board.clone())),
            observer: Arc::new(observer),
            journal: Arc::new(journal),
            desired: Arc::new(desired),
            stopping: kill.child_token(),
            pulling: std::sync::Mutex::default(),
            readings: stats::Readings::default(),
            overfull: crate::disk::Overfull::default(),
            findings: Findings::default(),
            lease: Arc::new(lease),
            fence: fence::Progress::default(),
            fenced_out: tokio::sync::Notify::new(),
            fenced: std::sync::Mutex::default(),
            config,
            runtime,
            control,
            clock,
            entropy,
            proofs,
            board,
        });
        let (actors, supports) = (TaskTracker::new(), TaskTracker::new());
        Self { node, hush: kill.child_token(), kill, actors, supports }
    }

    fn begin<D: JournalDisk + 'static>(&self, disk: D) {
        let node = &self.node;
        self.run(&self.supports, node.journal.clone().write_out(disk, self.hush.clone()));
        self.run(&self.supports, reporter::keep(node.clone(), self.hush.clone()));
        self.run(&self.supports, until(self.hush.clone(), node.observer.clone().observe()));
        self.run(&self.supports, until(self.hush.clone(), node.gate.clone().keep()));
        self.act(fence::keep(node.clone()));
        self.act(session::keep(node.clone()));
        self.act(heartbeat::keep(node.clone()));
        self.act(probe::keep(node.clone()));
        self.act(logs::keep(node.clone()));
        self.act(images::keep(node.clone()));
        self.act(crate::disk::keep(node.clone()));
        let kill = self.kill.clone();
        let spawn: Spawn = Arc::new(move |tasks, work| drop(tasks.spawn(until(kill.clone(), work))));
        self.act(roster::keep(node.clone(), self.actors.clone(), spawn));
    }

    /// Begins with what is known from disk, before anybody can ask for a name.
    fn look_around(&self, keeper: Keeper, routes: Option<Arc<dyn RouteTable>>) {
        keeper.announce();
        if let Some(routes) = routes {
            self.act(routes::keep(routes, self.node.board.clone(), keeper.peers()));
        }
        self.act(keeper.keep());
    }

    fn run(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        tasks.spawn(until(self.kill.clone(), work));
    }

    /// Begins a task that has nothing to finish when the agent stops.
    fn act(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.actors.spawn(until(self.node.stopping.clone(), work));
    }

    /// Stops in order: nothing new is begun, steps under way end, what happened is reported, the journal is closed.
    /// What has not ended after `grace` is ended. Containers run on.
    pub async fn shut_down(&self, grace: Duration) {
        self.node.stopping.cancel();
        self.actors.close();
        self.supports.close();
        let in_order = async {
            self.actors.wait().await;
            let proofs = self.node.proofs.clone();
            if let Err(error) = blocking(move || proofs.store()).await {
                tracing::warn!(%error, "the last proof of life cannot be kept on disk");
            }
            self.node.journal.settled().await;
            self.hush.cancel();
            self.supports.wait().await;
        };
        if tokio::time::timeout(grace, in_order).await.is_err() {
            tracing::warn!("the agent did not stop in time and is ended; the next one goes on where it was");
            self.kill.cancel();
            self.actors.wait().await;
            self.supports.wait().await;
        }
    }

    /// What the agent shows of itself, now and at every change.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.node.board.subscribe()
    }

    /// Ends all tasks at once, as a crash would.
    #[cfg(test)]
    pub(crate) fn kill_switch(&self) -> CancellationToken {
        self.kill.clone()
    }

    /// Waits until all tasks have ended.
    #[cfg(test)]
    pub(crate) async fn buried(self) {
        self.kill.cancel();
        self.actors.close();
        self.supports.close();
        self.actors.wait().await;
        self.supports.wait().await;
    }
}

/// What an agent works with.
pub struct AgentParts {
    /// The container engine.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// The packet filter.
    pub firewall: Arc<dyn Firewall>,
    /// The ways to the other nodes; none where there is no other.
    pub routes: Option<Arc<dyn RouteTable>>,
    /// Who answers names on this node; none where they come to it another way.
    pub names: Option<Arc<dyn NamesSink>>,
    /// The line to the control plane.
    pub control: Arc<dyn ControlPlane>,
    /// Wall clock, for what is said and billed.
    pub clock: Arc<dyn Clock>,
    /// The clock that leases are counted on.
    pub boot_clock: Arc<dyn BootClock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// The work, until it is ended.
async fn until(end: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = work => {}
    }
}

#[async_trait]
impl NodeServices for Agent {
    async fn logs(&self, query: LogQuery) -> Result<BoxStream<'static, LogChunk>, NodeError> {
        logs::stream(self.node.config.clone(), query, self.node.clone(), self.node.stopping.clone()).await
    }

    async fn exec(&self, query: ExecQuery) -> Result<ExecOutcome, NodeError> {
        exec::run(&self.node, query).await
    }

    async fn session(&self, query: SessionQuery) -> Result<Session, NodeError> {
        let (session, carrying) = conversation::begin(&self.node, query).await?;
        self.run(&self.actors, carrying);
        Ok(session)
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
        stats::read(&self.node, query).await
    }
}
