//! Nodes of the fleet.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use wherry_model::{Architecture, BootId, Capacity, NodeId, NodeRecord, NodeState, Timestamp};

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
}

/// Nodes.
#[async_trait]
pub trait NodeStore: Send + Sync {
    /// Stores the node, or renews what it says of itself; keeps what is placed on it. A new or silent node becomes
    /// ready, a cordoned one stays cordoned. `now` becomes its first proof of life if it has none.
    async fn register_node(&self, node: &NodeRegistration, now: Timestamp) -> Result<NodeRecord, StoreError>;

    /// All nodes, by id.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// One node.
    async fn node(&self, id: NodeId) -> Result<Option<NodeRecord>, StoreError>;

    /// Moves the node's last proof of life forward, never back. False when there is no such node.
    async fn prove_life(&self, id: NodeId, at: Timestamp) -> Result<bool, StoreError>;

    /// Sets whether the node takes new instances. False when there is no such node.
    async fn set_node_state(&self, id: NodeId, state: NodeState) -> Result<bool, StoreError>;
}
