//! What instances use now, next to what they may.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text;

/// What an instance uses now. Counters only grow within a run; rates are over `window_ms` before `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// Its name.
    #[schema(value_type = text::InstanceName)]
    pub instance: String,
    /// Its id.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Whether it could not be read now, because its machine does not answer. Nothing else is said then.
    pub stale: bool,
    /// When it was read; absent when nothing runs or it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub at: Option<String>,
    /// Over how many milliseconds the rates are; absent when there are none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub window_ms: Option<u64>,
    /// What passed its network since it was started; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = NetworkStats)]
    pub network: Option<NetworkStats>,
    /// Its containers that run, in order of their names.
    pub containers: Vec<ContainerStats>,
}

/// What passed the network of an instance. All its containers share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NetworkStats {
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Bytes that went out.
    pub sent_bytes: u64,
    /// Bytes each second that come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub received_bytes_per_second: Option<u64>,
    /// Bytes each second that go out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub sent_bytes_per_second: Option<u64>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerStats {
    /// Its name.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// Which run of it: with another one the counters begin at 0.
    #[schema(minimum = 1)]
    pub run: u32,
    /// Processor time since its start, in nanoseconds of one core.
    pub cpu_nanos: u64,
    /// Billionths of a core that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub cpu_nanocores: Option<u64>,
    /// How many it may use.
    pub cpu_limit_nanocores: u64,
    /// How long its threads were held back by that limit since its start, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64)]
    pub throttled_nanos: Option<u64>,
    /// Memory that it holds and that cannot be taken from it: its working set.
    pub memory_bytes: u64,
    /// How much it may hold.
    pub memory_limit_bytes: u64,
}

/// What the instances of a project use now, in order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStatsList {
    /// Those that run, at most 500.
    #[schema(max_items = 500)]
    pub items: Vec<InstanceStats>,
    /// Whether there are more than are shown.
    pub more: bool,
}
