//! Where the names go that this node's instances may ask for.

use std::sync::{Mutex, PoisonError};

use wherry_agent_api::NameRecord;

/// All names of the zone, as far as this node believes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNames {
    /// The apex of the zone.
    pub apex: String,
    /// Grows with every change on this node, also over restarts of the agent and changes of the replica that it listens to.
    pub serial: u32,
    /// In order of instance.
    pub records: Vec<NameRecord>,
}

/// Answers names on this node.
pub trait NamesSink: Send + Sync {
    /// Answers these from now on, and no others of the zone. Must not block. Also called with what an earlier agent knew, before
    /// the control plane has answered.
    fn publish(&self, names: NodeNames);
}

/// Names in memory, for tests.
#[derive(Debug, Default)]
pub struct RecordingNames {
    latest: Mutex<Option<NodeNames>>,
}

impl RecordingNames {
    /// What was published last.
    pub fn latest(&self) -> Option<NodeNames> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NamesSink for RecordingNames {
    fn publish(&self, names: NodeNames) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
    }
}
