//! Up: proof of life, which is also what renews the node's lease.

use serde::{Deserialize, Serialize};
use wherry_model::{BootId, ContainerName, Generation, InstanceId, NodeId, Timestamp};

/// A container that was found running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    /// Of which instance.
    pub instance: InstanceId,
    /// In which generation.
    pub generation: Generation,
    /// Which container.
    pub container: ContainerName,
    /// Which run.
    pub run: u32,
}

/// How far a pull is. Not journaled: only the latest is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// For which instance.
    pub instance: InstanceId,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes that are known to be needed; grows while manifests are read.
    pub total_bytes: u64,
    /// Layers that are here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done_layers: u32,
    /// Layers that are known to be needed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total_layers: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Proof of life: sent every few seconds, and only after the container engine was asked what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Whose.
    pub node: NodeId,
    /// This boot of the machine.
    pub boot: BootId,
    /// The lease epoch that the agent lives in ([`crate::Desired::epoch`]).
    #[serde(default)]
    pub epoch: u64,
    /// When the engine was asked; not later than an end that the control plane has not acknowledged. What is believed to
    /// run is billed up to here, and a bill is not taken back.
    pub at: Timestamp,
    /// All containers that ran then.
    pub running: Vec<RunningContainer>,
    /// Pulls that are under way.
    pub pulls: Vec<PullProgress>,
}
