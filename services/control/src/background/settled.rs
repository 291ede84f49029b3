//! Nodes at which there was nothing to do a moment ago: those that are silent for long are not read through every second.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{NodeId, NodeRecord};

use crate::lock;

/// For so long it is believed that there still is nothing, unless the node was heard.
const BELIEVED: Duration = Duration::from_secs(5);

/// Nodes and the count of heartbeats at which there was nothing to do.
#[derive(Default)]
pub(super) struct Settled(Mutex<BTreeMap<NodeId, (u64, Instant)>>);

impl Settled {
    pub(super) fn contains(&self, node: &NodeRecord) -> bool {
        lock(&self.0)
            .get(&node.id)
            .is_some_and(|(heartbeats, at)| *heartbeats == node.heartbeats && at.elapsed() < BELIEVED)
    }

    pub(super) fn add(&self, node: &NodeRecord) {
        lock(&self.0).insert(node.id, (node.heartbeats, Instant::now()));
    }

    /// Forgets nodes that are not there any more.
    pub(super) fn keep_only(&self, nodes: &[NodeRecord]) {
        lock(&self.0).retain(|id, _| nodes.iter().any(|node| node.id == *id));
    }
}
