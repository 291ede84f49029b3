//! The hidden fleet as values: what a node has, what an instance asks of it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{BootId, NodeId, TenantId};
use crate::isolation::{Isolation, IsolationSet};
use crate::quantity::{CpuMillis, MemoryMib};
use crate::terms::{GpuDemand, NodeOffer, ZoneName};
use crate::time::Timestamp;

/// Instruction set of a machine, in OCI's (Go's) names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64
    Amd64,
    /// AArch64
    Arm64,
}

impl Architecture {
    /// The OCI name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "amd64" | "x86_64" => Ok(Self::Amd64),
            "arm64" | "aarch64" => Ok(Self::Arm64),
            _ => Err("the architecture is \"amd64\" or \"arm64\""),
        }
    }
}

/// What an instance takes from a node while it is placed, and of which nodes: what the node's row decides on. What it asks
/// about the others there is in [`Terms`](crate::Terms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Demand {
    /// CPU of all its containers.
    pub cpu: CpuMillis,
    /// Memory of all its containers.
    pub memory: MemoryMib,
    /// Only this kind of machine; any when absent.
    pub architecture: Option<Architecture>,
    /// Only a machine whose agent ends it by itself when the lease is over ([`NodeRecord::fences`]).
    #[serde(default)]
    pub fenced: bool,
    /// Only a machine whose agent speaks this version of the agents' contract or a later one; 0 when any will do.
    #[serde(default)]
    pub protocol: u32,
    /// Only a machine that offers this class.
    #[serde(default, skip_serializing_if = "Isolation::is_shared")]
    pub isolation: Isolation,
    /// Disk for what it writes; 0 is not counted.
    #[serde(default = "no_memory", skip_serializing_if = "is_none")]
    pub disk: MemoryMib,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuDemand>,
    /// Only a machine of this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Whose it is. Without one it is of a tenant of its own: no machine that a tenant has alone takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Only an empty machine, or one that its tenant has alone; no other tenant's instance comes there until it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// It may be evicted when an instance that is not spot has no other place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
}

const fn no_memory() -> MemoryMib {
    MemoryMib::new(0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference to it")]
const fn is_none(memory: &MemoryMib) -> bool {
    memory.get() == 0
}

impl Demand {
    /// So much CPU and memory, on any machine.
    pub const fn new(cpu: CpuMillis, memory: MemoryMib) -> Self {
        Self {
            cpu,
            memory,
            architecture: None,
            fenced: false,
            protocol: 0,
            isolation: Isolation::Shared,
            disk: no_memory(),
            gpu: None,
            zone: None,
            tenant: None,
            dedicated: false,
            spot: false,
        }
    }
}

/// Amounts of what a node can hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Number of instances.
    pub instances: u32,
}

impl Capacity {
    /// What remains of `self` after `used`; zero where more is used than there is.
    #[must_use]
    pub const fn minus(self, used: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(used.cpu_millis),
            memory_mib: self.memory_mib.saturating_sub(used.memory_mib),
            instances: self.instances.saturating_sub(used.instances),
        }
    }

    /// Whether `demand` fits into `self`.
    pub const fn holds(self, demand: Demand) -> bool {
        self.cpu_millis >= demand.cpu.get() as u64
            && self.memory_mib >= demand.memory.get() as u64
            && self.instances >= 1
    }
}

/// Whether a node takes new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Takes new instances.
    Ready,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Is being emptied ([`Drain`]), takes nothing new.
    Draining,
    /// Silent for longer than the detection time.
    Silent,
}

/// What happens to instances that are still on a node when the grace of its drain is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainThen {
    /// They are stopped there and then placed elsewhere, never running twice.
    Move,
    /// They are stopped, with `evicted` as the reason; their owners may start them again.
    Stop,
}

impl DrainThen {
    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Stop => "stop",
        }
    }
}

/// The emptying of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Until then instances may end by themselves.
    pub grace_until: Timestamp,
    /// What happens to those that have not.
    pub then: DrainThen,
}

/// A node as the store keeps it. `used` is the sum of what is placed; the row is the referee of every placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id, for ever.
    pub id: NodeId,
    /// What operators call it.
    pub name: String,
    /// Its kind.
    pub architecture: Architecture,
    /// Whether it takes new instances.
    pub state: NodeState,
    /// What it can hand out.
    pub capacity: Capacity,
    /// What it has handed out.
    pub used: Capacity,
    /// The boot that registered last.
    pub boot: BootId,
    /// First address and prefix length of the range its instances get addresses from.
    pub range: (Ipv4Addr, u8),
    /// The last moment at which the agent proved which containers ran.
    pub proof_at: Timestamp,
    /// Counts changes of the node's desired instances.
    pub desired_revision: u64,
    /// The lease epoch: grows when the node is fenced.
    pub epoch: u64,
    /// Counts proofs of life. Who has seen no growth for the detection time has not heard the node, whatever the clocks say.
    pub heartbeats: u64,
    /// It was fenced and has not been heard since: what may run elsewhere has left it.
    pub fenced: bool,
    /// The version of the agents' contract that its agent and the control plane spoke when it introduced itself last.
    pub protocol: u32,
    /// The isolation classes that it offers.
    #[serde(default, skip_serializing_if = "IsolationSet::is_usual")]
    pub isolation: IsolationSet,
    /// What else it offers.
    #[serde(default)]
    pub offer: NodeOffer,
    /// Its agent ends what may run elsewhere by itself when its lease is over. One of a protocol without leases does not,
    /// and one that has taken its place does only from its first counted proof of life on, which it gives with the desired
    /// state that says what to end. While this is false silence proves nothing about what still runs there.
    pub fences: bool,
    /// The address at which the other nodes reach it.
    pub underlay: Option<Ipv4Addr>,
    /// While it is being emptied.
    pub drain: Option<Drain>,
}

impl NodeRecord {
    /// The first version of the agents' contract with leases.
    pub const PROTOCOL_OF_LEASES: u32 = 2;

    /// The first version in which a run is followed by another because the revision of its container has grown
    /// ([`crate::ContainerStatus::revision`]).
    pub const PROTOCOL_OF_REVISIONS: u32 = 3;
}
