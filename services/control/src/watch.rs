//! What this replica sees of the nodes: whose heartbeats still arrive, at whichever replica.
//!
//! A proof of life counts the node's row up. A replica looks at the rows every second and judges by its own monotonic
//! clock how long that number has stood still: no wall clock takes part, and a replica that has just started has heard
//! everybody "now". Two times are kept, because they answer two questions. `heard` is the best guess and decides what is
//! `Unknown`. `grown` is when the present count was first *seen in the row*, so no heartbeat of it can be later: fencing,
//! which must never be early, counts from there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wherry_model::{NodeId, NodeRecord};

/// The nodes as this replica saw them last.
#[derive(Default)]
pub(crate) struct Watch {
    seen: BTreeMap<NodeId, Seen>,
}

struct Seen {
    record: NodeRecord,
    heard: Instant,
    grown: Instant,
    /// Proofs of life that this replica has stored since it saw the row.
    own: u64,
    /// Its epoch grew since it was heard last: what it may run elsewhere has left it.
    fenced: bool,
}

/// What a look has shown of one node. The order is that of telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeing {
    /// As it was seen before; none when it is new.
    pub(crate) before: Option<NodeRecord>,
    /// As it is now; none when it is gone.
    pub(crate) after: Option<NodeRecord>,
}

impl Watch {
    /// Takes in one row; gives what it was before.
    pub(crate) fn look(&mut self, record: &NodeRecord) -> Seeing {
        let now = Instant::now();
        let after = Some(record.clone());
        let Some(seen) = self.seen.get_mut(&record.id) else {
            let fresh = Seen { record: record.clone(), heard: now, grown: now, own: 0, fenced: false };
            self.seen.insert(record.id, fresh);
            return Seeing { before: None, after };
        };
        // Any difference counts: after a fail-over the number may have fallen, and who is heard is heard.
        if record.heartbeats != seen.record.heartbeats {
            seen.grown = now;
            seen.fenced = false;
        } else if record.epoch > seen.record.epoch {
            seen.fenced = true;
        }
        if record.heartbeats != seen.record.heartbeats.saturating_add(seen.own) {
            seen.heard = now;
        }
        seen.own = 0;
        let before = std::mem::replace(&mut seen.record, record.clone());
        Seeing { before: Some(before), after }
    }

    /// Takes in all rows: nodes that are not among them are gone.
    pub(crate) fn look_at_all(&mut self, records: &[NodeRecord]) -> Vec<Seeing> {
        let mut seeings: Vec<Seeing> = records.iter().map(|record| self.look(record)).collect();
        let gone: Vec<NodeId> =
            self.seen.keys().filter(|id| records.iter().all(|record| record.id != **id)).copied().collect();
        for id in gone {
            seeings.push(Seeing { before: self.forget(id), after: None });
        }
        seeings
    }

    /// The node is not there any more.
    pub(crate) fn forget(&mut self, node: NodeId) -> Option<NodeRecord> {
        self.seen.remove(&node).map(|seen| seen.record)
    }

    /// A proof of life arrived here; `stored` says whether the row counted it.
    pub(crate) fn note(&mut self, node: NodeId, stored: bool) {
        if let Some(seen) = self.seen.get_mut(&node) {
            seen.heard = Instant::now();
            seen.own += u64::from(stored);
        }
    }

    /// This replica could not see the rows, or could not have judged them: the time in which nobody could be heard does not
    /// count against anybody.
    pub(crate) fn was_blind(&mut self) {
        let now = Instant::now();
        for seen in self.seen.values_mut() {
            seen.heard = now;
            seen.grown = now;
        }
    }

    /// For how long nothing was heard of the node; no time at all if it was never seen.
    pub(crate) fn silent_for(&self, node: NodeId) -> Duration {
        self.seen.get(&node).map_or(Duration::ZERO, |seen| seen.heard.elapsed())
    }

    /// For how long its count of heartbeats has certainly not grown, and that count.
    pub(crate) fn unproved_for(&self, node: NodeId) -> Option<(Duration, u64)> {
        let seen = self.seen.get(&node)?;
        Some((seen.grown.elapsed().min(seen.heard.elapsed()), seen.record.heartbeats))
    }

    /// Whether it was fenced since it was heard last, as far as this replica has seen.
    pub(crate) fn is_fenced(&self, node: NodeId) -> bool {
        self.seen.get(&node).is_some_and(|seen| seen.fenced)
    }

    /// All nodes, by id.
    pub(crate) fn records(&self) -> impl Iterator<Item = &NodeRecord> {
        self.seen.values().map(|seen| &seen.record)
    }

    /// One node.
    pub(crate) fn record(&self, node: NodeId) -> Option<&NodeRecord> {
        self.seen.get(&node).map(|seen| &seen.record)
    }
}
