//! How an agent introduces its node.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wherry_model::{Architecture, BootId, Capacity, GpuOffer, ImageKey, IsolationSet, JournalId, NodeId, ZoneName};

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
    /// The address at which the other nodes reach this one; absent where there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<Ipv4Addr>,
    /// The isolation classes that its machine offers.
    #[serde(default, skip_serializing_if = "IsolationSet::is_usual")]
    pub isolation: IsolationSet,
    /// The part of the fleet in which its machine stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// The disk that it hands out for what instances write, in MiB; not counted when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u64>,
    /// The GPUs that it hands out.
    #[serde(default, skip_serializing_if = "GpuOffer::is_none")]
    pub gpus: GpuOffer,
    /// The images that lie on its machine, by their references; at most [`Self::MAX_IMAGES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageKey>,
    /// The version of this contract that the two speak. Not a part of the message: the transport knows it, and says this to the
    /// control plane. An agent of a version without leases ends nothing by itself
    /// ([`fence_after_seconds`](crate::DesiredInstance::fence_after_seconds)).
    #[serde(skip, default = "present")]
    pub protocol: u32,
}

impl NodeHello {
    /// The most images that are told, and known of a machine.
    pub const MAX_IMAGES: usize = 64;
}

const fn present() -> u32 {
    crate::PROTOCOL
}

/// What the control plane answers to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Where any replica of the control plane takes agents' calls, for example `https://10.0.0.1:7443`; best first. Empty
    /// where there is nothing to choose. An agent that loses one goes to the next.
    pub endpoints: Vec<String>,
}
