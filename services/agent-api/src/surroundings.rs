//! Down: what a node must know of the fleet around it, as far as its own instances need it: names, ways to the other
//! nodes, and which addresses elsewhere belong to the same project.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wherry_model::{InstanceId, NodeId, ProjectId, Revision, TenantId};

/// A name that DNS answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// Of which instance.
    pub instance: InstanceId,
    /// The revision of the record that it was read from. A reader never goes back from a higher one.
    pub revision: Revision,
    /// The full name without a dot at its end.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which one.
    pub node: NodeId,
    /// First address and prefix length of the range of its instances.
    pub range: (Ipv4Addr, u8),
    /// The address of the machine itself, to which that range is routed.
    pub underlay: Ipv4Addr,
}

/// Addresses on other nodes that belong to a project which has instances on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Whose.
    pub tenant: TenantId,
    /// Which project.
    pub project: ProjectId,
    /// In order.
    pub addresses: Vec<Ipv4Addr>,
}

/// All of it, as one replica of the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Names the contents: two answers with the same tag say the same.
    pub tag: u64,
    /// The apex of the zone, for example `local.wherry.internal`.
    pub apex: String,
    /// Serial of the zone at the replica.
    pub serial: u32,
    /// Every name of the zone, in order of instance.
    pub names: Vec<NameRecord>,
    /// The other nodes that have an underlay address, in order of id.
    pub peers: Vec<Peer>,
    /// In order of tenant and project.
    pub neighbours: Vec<Neighbours>,
}
