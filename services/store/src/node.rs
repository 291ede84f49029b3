//! Nodes of the fleet.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use wherry_model::lifecycle::Change;
use wherry_model::{
    Architecture, BootId, Capacity, Drain, GpuOffer, IsolationSet, NodeId, NodeRecord, NodeState, Overcommit,
    Timestamp, ZoneName,
};

use crate::error::StoreError;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRegistration {
    /// Its id.
    pub id: NodeId,
    /// What operators call it.
    pub name: String,
    /// Its kind.
    pub architecture: Architecture,
    /// What it can hand out.
    pub capacity: Capacity,
    /// First address and prefix length of its instances' range.
    pub range: (Ipv4Addr, u8),
    /// This boot of it.
    pub boot: BootId,
    /// The desired revision that its agent holds; 0 for none. Higher than the stored one when the store was put back to
    /// an older state: the stored one is then raised above it, because an agent refuses what is older than what it holds.
    pub held_revision: u64,
    /// The address at which the other nodes reach it.
    pub underlay: Option<Ipv4Addr>,
    /// The version of the agents' contract that its agent speaks. From [`NodeRecord::PROTOCOL_OF_LEASES`] on it fences: it ends
    /// by itself what may run elsewhere.
    pub protocol: u32,
    /// The isolation classes that it offers.
    pub isolation: IsolationSet,
    /// The part of the fleet in which it stands.
    pub zone: Option<ZoneName>,
    /// Disk for what instances write, in MiB; not counted when absent.
    pub disk_mib: Option<u64>,
    /// The GPUs that it hands out.
    pub gpus: GpuOffer,
    /// How much more than it has it hands out.
    pub overcommit: Overcommit,
}

/// What became of a proof of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeOutcome {
    /// It is stored and counted; the doubt that the node is in, if any.
    Taken {
        /// The number of the latest doubt that is not resolved.
        doubt: Option<u64>,
    },
    /// The node was fenced: this is its epoch now. Nothing was stored.
    Fenced {
        /// The present epoch.
        epoch: u64,
    },
    /// There is no such node.
    Unknown,
}

/// What became of fencing a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceOutcome {
    /// All of it is stored; this is the epoch now.
    Fenced(u64),
    /// The node was heard meanwhile, or is not there: nothing was stored.
    Heard,
    /// A record is not at the revision that its change was computed from: nothing was stored.
    LostRace,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveOutcome {
    /// It is gone, and its certificate works no more. Its row is kept for the intervals that name it.
    Removed,
    /// Instances are still placed on it.
    NotEmpty {
        /// How many.
        instances: u64,
    },
    /// There is no such node.
    Unknown,
}

/// Nodes.
#[async_trait]
pub trait NodeStore: Send + Sync {
    /// Stores the node, or renews what it says of itself; keeps what is placed on it. A new or silent node becomes
    /// ready, a cordoned or draining one stays so. `now` becomes its first proof of life if it has none; it is not counted
    /// in `heartbeats`.
    ///
    /// An agent that fences after one that did not begins a new epoch and a new desired revision, and the row says that it
    /// fences once it was heard in that: until then nobody knows that it has learnt what to end. An agent that does not after
    /// one that did is heard by this, so that no fencing that was computed before is written any more.
    ///
    /// None when the node or its enrolment was removed: nothing was stored.
    async fn register_node(&self, node: &NodeRegistration, now: Timestamp) -> Result<Option<NodeRecord>, StoreError>;

    /// All nodes, by id. To this trait a removed node is no node.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// One node.
    async fn node(&self, id: NodeId) -> Result<Option<NodeRecord>, StoreError>;

    /// Moves the node's last proof of life forward, never back, and counts it in `heartbeats`, if `epoch` is the node's or its
    /// agent does not fence: that one knows no epochs.
    async fn prove_life(&self, id: NodeId, at: Timestamp, epoch: u64) -> Result<LifeOutcome, StoreError>;

    /// Notes that the node's instances are believed unknown, or are about to be, under a new number. Called before and
    /// after they are made so: who is heard in between resolves an earlier doubt only. False when there is no such node.
    async fn raise_doubt(&self, id: NodeId) -> Result<bool, StoreError>;

    /// Ends this doubt: the node's instances were taken out of it. A newer one stays; if there is none, a silent node becomes
    /// ready in the same write. False when there is no such node.
    async fn resolve_doubt(&self, id: NodeId, doubt: u64) -> Result<bool, StoreError>;

    /// Fences the node if its count of heartbeats is still `heartbeats`, and stores what that changes of its instances, in
    /// one transaction: its epoch and its desired revision grow, so no heartbeat of the epoch before renews its lease any
    /// more. Apart it would be wrong: an agent that came back in between would keep running what is about to be displaced.
    async fn fence(&self, id: NodeId, heartbeats: u64, changes: &[Change]) -> Result<FenceOutcome, StoreError>;

    /// Sets whether the node takes new instances, which ends its drain. `Silent` changes only a ready node, so that an
    /// operator's word is not lost; `Draining` is for [`set_drain`](Self::set_drain) and refused here. False when there is no such
    /// node.
    async fn set_node_state(&self, id: NodeId, state: NodeState) -> Result<bool, StoreError>;

    /// Begins, changes or ends the emptying of a node: its state becomes `Draining`, or `Cordoned` without a drain.
    /// False when there is no such node.
    async fn set_drain(&self, id: NodeId, drain: Option<&Drain>) -> Result<bool, StoreError>;

    /// Takes the node out of the fleet, in one transaction with its enrolment, if nothing is placed on it: what has ended
    /// there and holds no resources may stay behind, its record goes on naming the node. Removed nodes are not listed and
    /// cannot register again. One that was enrolled and never registered is removed likewise.
    async fn remove_node(&self, id: NodeId, now: Timestamp) -> Result<RemoveOutcome, StoreError>;
}
