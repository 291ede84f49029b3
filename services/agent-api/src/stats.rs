//! What instances use of their machine, as it is now: read from the engine when somebody asks, never stored.
//!
//! Counters are given beside rates: they only grow within one run of a container, so whoever keeps them computes rates of
//! any window.

use serde::{Deserialize, Serialize};
use wherry_model::{ContainerName, Generation, InstanceId, Timestamp};

/// Which instances of one node are asked about: one, and others with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsQuery {
    /// The first of them.
    pub instance: InstanceId,
    /// In which generation of it.
    pub generation: Generation,
    /// The others, at most [`Self::MAX_INSTANCES`] with the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(InstanceId, Generation)>,
}

impl StatsQuery {
    /// The most instances of one question.
    pub const MAX_INSTANCES: usize = 256;

    /// All that are asked about.
    pub fn all(&self) -> impl Iterator<Item = (InstanceId, Generation)> + '_ {
        std::iter::once((self.instance, self.generation)).chain(self.others.iter().copied())
    }
}

/// What one instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStats {
    /// Which one.
    pub instance: InstanceId,
    /// When it was read.
    pub at: Timestamp,
    /// Over how many milliseconds before that the rates are; none when it was not read before.
    pub window_ms: Option<u64>,
    /// What passed its network; absent where that cannot be read.
    pub network: Option<NetworkStats>,
    /// Its containers that run, in order of their names.
    pub containers: Vec<ContainerStats>,
}

impl InstanceStats {
    /// The most bytes of one answer on its way.
    pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
}

/// What passed the network of an instance since its sandbox was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkStats {
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Bytes each second that came in.
    pub received_bytes_per_second: Option<u64>,
    /// Bytes each second that went out.
    pub sent_bytes_per_second: Option<u64>,
}

/// What one run of a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// Which container.
    pub container: ContainerName,
    /// Which run of it.
    pub run: u32,
    /// Processor time since its start, in nanoseconds of one core.
    pub cpu_nanos: u64,
    /// Billionths of a core that it uses; none when it was not read before.
    pub cpu_nanocores: Option<u64>,
    /// How long it wanted to go on and was held back by its limit, since its start, in nanoseconds; absent where the kernel
    /// does not say.
    pub throttled_nanos: Option<u64>,
    /// Memory that the kernel cannot take back from it without swapping or ending something: the working set.
    pub memory_bytes: u64,
}
