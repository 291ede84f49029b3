//! Wakes those who wait for news of one node.
//!
//! The store's feed tells of a commit, not of whom it concerns, so every agent that waits would look at every commit: agents times
//! commits. Here each waits for its own bell, which is rung by this replica's own commits (`effects`), by what the follower
//! of the others' commits sees, and by the look at all rows each second. A bell says only "look": what is there is in
//! the row. In a small fleet agents look at every commit besides, which costs nothing there and needs nobody to have rung.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::watch;
use wherry_model::NodeId;

use crate::lock;

/// A fleet of no more nodes is small.
const SMALL: usize = 64;

/// Bells of nodes for which somebody has waited.
#[derive(Default)]
pub(crate) struct Bells(Mutex<BTreeMap<NodeId, watch::Sender<u64>>>);

impl Bells {
    /// The node's bell. Taken before its row is read, so that no news is missed.
    pub(crate) fn listen(&self, node: NodeId) -> watch::Receiver<u64> {
        lock(&self.0).entry(node).or_default().subscribe()
    }

    /// There may be news of the node.
    pub(crate) fn ring(&self, node: NodeId) {
        if let Some(bell) = lock(&self.0).get(&node) {
            bell.send_modify(|rung| *rung = rung.wrapping_add(1));
        }
    }

    /// The node is gone; who still waits is woken.
    pub(crate) fn forget(&self, node: NodeId) {
        lock(&self.0).remove(&node);
    }

    /// Whether so few listen that each may look at every commit.
    pub(crate) fn few(&self) -> bool {
        lock(&self.0).len() <= SMALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u128) -> NodeId {
        NodeId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_bell_is_heard_by_its_node_and_by_no_other() {
        let bells = Bells::default();
        let (mut one, mut other) = (bells.listen(node(1)), bells.listen(node(2)));
        one.borrow_and_update();
        other.borrow_and_update();
        bells.ring(node(1));
        bells.ring(node(3));
        assert!(one.has_changed().unwrap() && !other.has_changed().unwrap());
        bells.forget(node(2));
        assert!(other.has_changed().is_err(), "who waits for what is gone is woken");
    }
}
