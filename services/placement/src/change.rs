//! What the fleet learns.

use thiserror::Error;
use wherry_model::{
    Architecture, Capacity, Demand, IsolationSet, NodeId, NodeOffer, NodeRecord, NodeState, Overcommit,
};

/// One node as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSnapshot {
    /// Which node.
    pub id: NodeId,
    /// Its kind.
    pub architecture: Architecture,
    /// Whether it takes new instances.
    pub state: NodeState,
    /// What it can hand out.
    pub capacity: Capacity,
    /// What it has handed out. More than its capacity when the node came back smaller.
    pub used: Capacity,
    /// Whether its agent ends by itself what may run elsewhere.
    pub fences: bool,
    /// The version of the agents' contract that its agent speaks.
    pub protocol: u32,
    /// The isolation classes that it offers.
    pub isolation: IsolationSet,
    /// What else it offers.
    pub offer: NodeOffer,
}

impl NodeSnapshot {
    /// What it has left, of what its operator lets it hand out.
    pub const fn free(&self) -> Capacity {
        self.offered().minus(self.used)
    }

    /// What it hands out.
    pub const fn offered(&self) -> Capacity {
        let Overcommit { cpu_percent, memory_percent, .. } = self.offer.overcommit;
        Capacity {
            cpu_millis: Overcommit::of(self.capacity.cpu_millis, cpu_percent),
            memory_mib: Overcommit::of(self.capacity.memory_mib, memory_percent),
            instances: self.capacity.instances,
        }
    }

    /// How many more instances it has addresses for.
    pub const fn free_addresses(&self) -> u32 {
        match self.offer.addresses {
            Some(addresses) => addresses.saturating_sub(self.used.instances),
            None => u32::MAX,
        }
    }

    /// Disk that is left, in MiB; none where it is not counted.
    pub const fn free_disk_mib(&self) -> Option<u64> {
        match self.offer.disk {
            Some(disk) => {
                let offered = Overcommit::of(disk.total_mib, self.offer.overcommit.disk_percent);
                Some(offered.saturating_sub(disk.used_mib))
            }
            None => None,
        }
    }

    /// Whether nothing is placed on it.
    pub const fn is_empty(&self) -> bool {
        self.used.instances == 0 && self.used.cpu_millis == 0 && self.used.memory_mib == 0
    }
}

impl From<&NodeRecord> for NodeSnapshot {
    fn from(record: &NodeRecord) -> Self {
        Self {
            id: record.id,
            architecture: record.architecture,
            state: record.state,
            capacity: record.capacity,
            used: record.used,
            fences: record.fences,
            protocol: record.protocol,
            isolation: record.isolation,
            offer: record.offer,
        }
    }
}

/// A change of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetChange {
    /// The node is new or is now like this; replaces all that was known of it.
    Node(NodeSnapshot),
    /// There is no such node any more.
    Gone(NodeId),
    /// An instance was placed on the node. Taken even if it does not fit: the row has decided.
    Reserve {
        /// Which node.
        node: NodeId,
        /// What it takes.
        demand: Demand,
    },
    /// An instance left the node.
    Release {
        /// Which node.
        node: NodeId,
        /// What it gives back.
        demand: Demand,
    },
    /// When the node is expected to be empty.
    Expect {
        /// Which node.
        node: NodeId,
        /// The class of that moment; 0 is not known.
        departs: u8,
    },
}

/// A change that does not match what is known: the fleet's picture is older than the change. Read the node again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unapplied {
    /// Nothing was changed.
    #[error("node {0} is not known, read it from the store again")]
    NoSuchNode(NodeId),
    /// The node was given back as much as it had in use, which is less than was released.
    #[error("more was released on node {0} than was in use, read it from the store again")]
    MoreThanUsed(NodeId),
}
