//! What containers use.

use wherry_model::Timestamp;

use crate::ContainerId;

/// What the containers of one sandbox use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Those that run, in order of their ids.
    pub containers: Vec<ContainerUsage>,
    /// What passed the sandbox's network; `None` when it has none (any more) or it cannot be read.
    pub network: Option<NetworkUsage>,
}

/// What one container uses. Counters begin at 0 with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Which container.
    pub id: ContainerId,
    /// When this was read.
    pub at: Timestamp,
    /// Processor time, in nanoseconds of one core.
    pub cpu_nanos: u64,
    /// How long its threads were held back by its processor limit, in nanoseconds; `None` where the kernel does not say.
    pub throttled_nanos: Option<u64>,
    /// Its working set: memory without what the kernel would take back first.
    pub memory_bytes: u64,
}

/// What passed a sandbox's network since it was made, loopback apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
}
