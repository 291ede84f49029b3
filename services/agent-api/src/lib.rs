//! The contract between control plane and node agent.
//!
//! Down goes the whole desired state of one node with a revision; up come facts from the agent's journal, numbered, at
//! least once. The agent calls [`ControlPlane`]; the control plane reaches a node only through [`NodeServices`], which
//! an agent that dials out answers. In one process both traits are called directly; between machines they are spoken
//! over the wire, with the same values.
//!
//! Rules that both sides keep:
//! - every message about an instance carries its generation, an older one loses;
//! - an empty desired state is a statement like any other, because it always comes as a whole with a revision;
//! - a fact is acknowledged when it is stored, never before; the agent forgets it only then.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wherry_model::{
    Action, Architecture, BootId, Capacity, ContainerName, ContainerSpec, Digest, Generation, InstanceId, InstanceName,
    JournalId, NodeId, Observation, Port, ProjectId, RestartPolicy, TenantId, Timestamp,
};

/// What an agent says of its machine when it comes up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHello {
    /// The node's id, kept by the agent for ever.
    pub node: NodeId,
    /// What operators call it.
    pub name: String,
    /// Its kind.
    pub architecture: Architecture,
    /// What it can hand out.
    pub capacity: Capacity,
    /// First address and prefix length of the range of its instances.
    pub range: (Ipv4Addr, u8),
    /// This boot of the machine.
    pub boot: BootId,
    /// Which journal its observations are numbered in; a lost journal means a new id.
    pub journal: JournalId,
    /// The revision of the desired state that the agent holds. A control plane whose own is lower, because its store was
    /// put back to an older state, goes above it: an agent refuses what is older than what it holds.
    pub desired_revision: Option<u64>,
}

/// One instance as its node must keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredInstance {
    /// Which instance.
    pub id: InstanceId,
    /// Which generation of it.
    pub generation: Generation,
    /// What to do with it.
    pub action: Action,
    /// Whose it is: the firewall lets instances of one tenant and project reach each other.
    pub tenant: TenantId,
    /// See [`Self::tenant`].
    pub project: ProjectId,
    /// Its name, which is also its host name.
    pub name: InstanceName,
    /// The domain in which its project's instances are found by their bare names.
    pub search_domain: String,
    /// What to run.
    pub containers: Vec<DesiredContainer>,
    /// What to do when a container ends.
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_grace_seconds: u32,
    /// The number of the first run of this generation.
    pub first_run: u32,
}

impl DesiredInstance {
    /// Ports that everybody who can route to the instance may reach.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.iter().flat_map(|container| &container.spec.ports)
    }
}

/// One container as its node must run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredContainer {
    /// What was asked.
    pub spec: ContainerSpec,
    /// What its image reference meant at the first pull; absent until then.
    pub digest: Option<Digest>,
}

/// Everything that one node must keep: instances that are not listed are not its any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Grows with every change; an agent refuses an older one.
    pub revision: u64,
    /// All of them.
    pub instances: Vec<DesiredInstance>,
}

/// A batch from the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub node: NodeId,
    /// In which journal the observations are numbered.
    pub journal: JournalId,
    /// At most [`Self::MAX_OBSERVATIONS`], in order of their numbers.
    pub observations: Vec<Observation>,
}

impl Report {
    /// The most observations of one report.
    pub const MAX_OBSERVATIONS: usize = 256;
}

/// Everything up to here is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The highest stored number of the journal.
    pub through: u64,
}

/// A container that was found running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    /// Of which instance.
    pub instance: InstanceId,
    /// In which generation.
    pub generation: Generation,
    /// Which container.
    pub container: ContainerName,
    /// Which run.
    pub run: u32,
}

/// How far a pull is. Not journaled: only the latest is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// For which instance.
    pub instance: InstanceId,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes that are known to be needed; grows while manifests are read.
    pub total_bytes: u64,
}

/// Proof of life: sent every few seconds, and only after the container engine was asked what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub node: NodeId,
    /// This boot of the machine.
    pub boot: BootId,
    /// When the engine was asked; not later than an end that the control plane has not acknowledged. What is believed to
    /// run is billed up to here, and a bill is not taken back.
    pub at: Timestamp,
    /// All containers that ran then.
    pub running: Vec<RunningContainer>,
    /// Pulls that are under way.
    pub pulls: Vec<PullProgress>,
}

/// Why the control plane did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum ControlError {
    /// The control plane or its store cannot answer now; the same message again later is right.
    #[error("the control plane is not available: {0}")]
    Unavailable(String),
    /// The node is not known (any more).
    #[error("the control plane does not know this node")]
    UnknownNode,
    /// The message breaks the contract; sending it again will not help.
    #[error("the control plane refused the message: {0}")]
    Refused(String),
}

/// What an agent asks of the control plane.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Introduces the node, or renews what is known of it. Idempotent.
    async fn hello(&self, hello: NodeHello) -> Result<(), ControlError>;

    /// The desired state when its revision is above `have` (at once if it is), or none after about 30 seconds.
    async fn desired(&self, node: NodeId, have: Option<u64>) -> Result<Option<Desired>, ControlError>;

    /// Stores observations; those stored before are skipped, so any batch may be sent again.
    async fn report(&self, report: Report) -> Result<Ack, ControlError>;

    /// Takes a proof of life.
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), ControlError>;
}

/// Which part of a container's output is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Of which instance.
    pub instance: InstanceId,
    /// Of which container.
    pub container: ContainerName,
    /// Which run; the latest when absent.
    pub run: Option<u32>,
    /// Only the last so many lines.
    pub tail: Option<u32>,
    /// Whether to go on as lines are written, until the instance has ended.
    pub follow: bool,
    /// Whether each line begins with its time.
    pub timestamps: bool,
}

/// A piece of a container's output: whole lines, in order.
pub type LogChunk = Result<Vec<u8>, NodeError>;

/// Why a node could not serve.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "message", rename_all = "snake_case")]
pub enum NodeError {
    /// The instance, container or run is not there.
    #[error("the node has no such thing: {0}")]
    NotFound(String),
    /// The node cannot be reached or cannot answer now.
    #[error("the node cannot answer: {0}")]
    Unavailable(String),
}

/// What the control plane asks of one node's agent.
#[async_trait]
pub trait NodeServices: Send + Sync {
    /// Streams output. Backpressure is the caller's: nothing is read ahead of it beyond one chunk.
    async fn logs(&self, query: LogQuery) -> Result<BoxStream<'static, LogChunk>, NodeError>;
}
