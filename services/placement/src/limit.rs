//! What no decision may break.

use std::fmt;

use wherry_model::{Demand, NodeState};

use crate::change::NodeSnapshot;

/// A reason for which a node cannot take an instance, whatever its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HardLimit {
    /// It takes nothing new: cordoned, draining or silent.
    State,
    /// It is another kind of machine.
    Architecture,
    /// Its agent cannot end by itself what may run elsewhere.
    Fencing,
    /// Its agent is of an older release that would not do all that is asked for.
    Protocol,
    /// It does not offer the isolation class.
    Isolation,
    /// It is in another zone.
    Zone,
    /// Another tenant has it alone, or it is to be had alone and others are on it.
    SoleTenant,
    /// It has as many instances as it may have.
    Instances,
    /// It has no address left.
    Addresses,
    /// It has too little CPU left.
    Cpu,
    /// It has too little memory left.
    Memory,
    /// It has too little disk left.
    Disk,
    /// It has too little of GPUs left, or of another model.
    Gpu,
    /// A port that is asked for is taken there.
    Ports,
    /// What the instance must be near to is not there.
    Near,
    /// Something is there that the instance must be apart from, or that must be apart from it.
    Apart,
    /// There would be too many of the instance's group there.
    Spread,
    /// The caller left it out: its row refused.
    Excluded,
}

impl HardLimit {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::State,
        Self::Architecture,
        Self::Fencing,
        Self::Protocol,
        Self::Isolation,
        Self::Zone,
        Self::SoleTenant,
        Self::Instances,
        Self::Addresses,
        Self::Cpu,
        Self::Memory,
        Self::Disk,
        Self::Gpu,
        Self::Ports,
        Self::Near,
        Self::Apart,
        Self::Spread,
        Self::Excluded,
    ];

    /// Its name in answers for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Architecture => "architecture",
            Self::Fencing => "fencing",
            Self::Protocol => "protocol",
            Self::Isolation => "isolation",
            Self::Zone => "zone",
            Self::SoleTenant => "sole_tenant",
            Self::Instances => "instances",
            Self::Addresses => "addresses",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Gpu => "gpu",
            Self::Ports => "ports",
            Self::Near => "near",
            Self::Apart => "apart",
            Self::Spread => "spread",
            Self::Excluded => "excluded",
        }
    }

    /// Whether this limit keeps `demand` off `node`, as far as the node's row says: those about the other instances there refuse
    /// nothing here. `excluded` says whether the caller left the node out.
    pub fn refuses(self, node: &NodeSnapshot, demand: &Demand, excluded: bool) -> bool {
        let free = node.free();
        match self {
            Self::State => node.state != NodeState::Ready,
            Self::Architecture => demand.architecture.is_some_and(|wanted| wanted != node.architecture),
            Self::Fencing => demand.fenced && !node.fences,
            Self::Protocol => demand.protocol > node.protocol,
            Self::Isolation => !node.isolation.has(demand.isolation),
            Self::Zone => demand.zone.is_some() && demand.zone != node.offer.zone,
            Self::SoleTenant => {
                let others = node.offer.sole_tenant.is_some() && node.offer.sole_tenant != demand.tenant;
                others || (demand.dedicated && node.offer.sole_tenant.is_none() && !node.is_empty())
            }
            Self::Instances => free.instances == 0,
            Self::Addresses => node.free_addresses() == 0,
            Self::Cpu => free.cpu_millis < u64::from(demand.cpu.get()),
            Self::Memory => free.memory_mib < u64::from(demand.memory.get()),
            Self::Disk => node.free_disk_mib().is_some_and(|left| left < u64::from(demand.disk.get())),
            Self::Gpu => demand.gpu.is_some_and(|asked| node.offer.gpus.choose(&asked).is_none()),
            Self::Ports | Self::Near | Self::Apart | Self::Spread => false,
            Self::Excluded => excluded,
        }
    }

    /// Whether the limit is about an amount of which instances give back.
    pub(crate) const fn is_amount(self) -> bool {
        matches!(self, Self::Instances | Self::Addresses | Self::Cpu | Self::Memory | Self::Disk | Self::Gpu)
    }
}

impl fmt::Display for HardLimit {
    /// What the nodes that it refused have in common, after a number: "3 with too little memory left".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "cordoned, draining or silent",
            Self::Architecture => "of another architecture",
            Self::Fencing => "with an agent too old for on_node_loss replace",
            Self::Protocol => "with an agent too old for what is asked",
            Self::Isolation => "without that isolation class",
            Self::Zone => "in another zone",
            Self::SoleTenant => "that a tenant has alone, or that are not empty and were to be had alone",
            Self::Instances => "at their number of instances",
            Self::Addresses => "without an address left",
            Self::Cpu => "with too little CPU left",
            Self::Memory => "with too little memory left",
            Self::Disk => "with too little disk left",
            Self::Gpu => "with too little of such GPUs left",
            Self::Ports => "where a public port is taken",
            Self::Near => "without what it must be near to",
            Self::Apart => "with what it must be apart from",
            Self::Spread => "with too many of its group already",
            Self::Excluded => "changed meanwhile",
        })
    }
}
