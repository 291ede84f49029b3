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
    /// It has as many instances as it may have.
    Instances,
    /// It has too little CPU left.
    Cpu,
    /// It has too little memory left.
    Memory,
    /// The caller left it out: its row refused.
    Excluded,
}

impl HardLimit {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::State,
        Self::Architecture,
        Self::Fencing,
        Self::Protocol,
        Self::Isolation,
        Self::Instances,
        Self::Cpu,
        Self::Memory,
        Self::Excluded,
    ];

    /// Whether this limit keeps `demand` off `node`. `excluded` says whether the caller left the node out.
    pub fn refuses(self, node: &NodeSnapshot, demand: &Demand, excluded: bool) -> bool {
        let free = node.free();
        match self {
            Self::State => node.state != NodeState::Ready,
            Self::Architecture => demand.architecture.is_some_and(|wanted| wanted != node.architecture),
            Self::Fencing => demand.fenced && !node.fences,
            Self::Protocol => demand.protocol > node.protocol,
            Self::Isolation => !node.isolation.has(demand.isolation),
            Self::Instances => free.instances == 0,
            Self::Cpu => free.cpu_millis < u64::from(demand.cpu.get()),
            Self::Memory => free.memory_mib < u64::from(demand.memory.get()),
            Self::Excluded => excluded,
        }
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
            Self::Instances => "at their number of instances",
            Self::Cpu => "with too little CPU left",
            Self::Memory => "with too little memory left",
            Self::Excluded => "changed meanwhile",
        })
    }
}
