//! What happens to the fleet, for operators: `wherry admin events -f`.
//!
//! Kept in memory, the latest [`KEPT`] of them, by every replica for itself and in its own numbers. What happens to nodes each
//! replica sees from their rows, whichever replica or agent did it, at latest a second later: what changes and changes back
//! in between it may miss. What stands in no row is told by one replica only: `Placed` by the one that places (the holder of
//! the lease), `Asked` by the one that was asked; the brake each tells as it sees it. So the whole story is that of all
//! replicas together. The numbers begin anew with the process. What must be kept for ever is elsewhere: instances' events and
//! intervals in the store, who asked for what in the log. Rejected: a table of them, which every heartbeat's change of
//! mind would write to.

use std::collections::VecDeque;
use std::sync::Mutex;

use wherry_model::{NodeId, NodeRecord, NodeState, Timestamp};

use crate::lock;
use crate::watch::Seeing;

/// Events that are kept.
const KEPT: usize = 2_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name says it; the message of an event tells the rest")]
pub enum FleetEventKind {
    NodeJoined,
    NodeChanged,
    NodeReady,
    NodeCordoned,
    NodeDraining,
    NodeDrained,
    NodeSilent,
    NodeFenced,
    NodeRemoved,
    BrakeOn,
    BrakeOff,
    Placed,
    Asked,
}

/// One thing that happened to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetEvent {
    /// Counts the events of this replica since it started, from 1.
    pub seq: u64,
    /// When this replica saw it.
    pub at: Timestamp,
    /// What happened.
    pub kind: FleetEventKind,
    /// To which node, if to one.
    pub node: Option<NodeId>,
    /// A sentence for an operator.
    pub message: String,
}

#[derive(Default)]
pub(crate) struct FleetEvents {
    ring: Mutex<Ring>,
    written: tokio::sync::watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    /// Nodes that are seen before this are no news.
    begun: bool,
    latest: u64,
    events: VecDeque<FleetEvent>,
}

impl FleetEvents {
    /// From now on, what is seen is news.
    pub(crate) fn begin(&self) {
        lock(&self.ring).begun = true;
    }

    /// Takes down what looks at the rows have shown.
    pub(crate) fn note(&self, seeings: &[Seeing], now: Timestamp) {
        if !lock(&self.ring).begun {
            return;
        }
        for seeing in seeings {
            let node = seeing.after.as_ref().or(seeing.before.as_ref()).map(|record| record.id);
            for (kind, message) in told(seeing) {
                self.say(kind, node, message, now);
            }
        }
    }

    /// Takes down one event.
    pub(crate) fn say(&self, kind: FleetEventKind, node: Option<NodeId>, message: String, at: Timestamp) {
        let seq = {
            let mut ring = lock(&self.ring);
            ring.latest += 1;
            let seq = ring.latest;
            if ring.events.len() >= KEPT {
                ring.events.pop_front();
            }
            ring.events.push_back(FleetEvent { seq, at, kind, node, message });
            seq
        };
        self.written.send_replace(seq);
    }

    /// Those after `after`, oldest first, at most `limit`.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<FleetEvent> {
        lock(&self.ring).events.iter().filter(|event| event.seq > after).take(limit).cloned().collect()
    }

    /// Is told of each new one.
    pub(crate) fn news(&self) -> tokio::sync::watch::Receiver<u64> {
        self.written.subscribe()
    }
}

fn told(seeing: &Seeing) -> Vec<(FleetEventKind, String)> {
    use FleetEventKind as K;
    let (before, after) = match (&seeing.before, &seeing.after) {
        (None, None) => return Vec::new(),
        (None, Some(after)) => {
            let old = (!after.fences).then(|| (K::NodeChanged, does_not_fence(after)));
            return std::iter::once((K::NodeJoined, joined(after))).chain(old).collect();
        }
        (Some(before), None) => return vec![(K::NodeRemoved, format!("{} was removed", before.name))],
        (Some(before), Some(after)) => (before, after),
    };
    let mut told = Vec::new();
    let name = &after.name;
    if after.epoch > before.epoch {
        told.push((K::NodeFenced, format!("{name} was fenced; its lease epoch is {}", after.epoch)));
    }
    if after.boot != before.boot {
        told.push((K::NodeChanged, format!("{name} was booted anew")));
    }
    if after.capacity != before.capacity || after.range != before.range || after.underlay != before.underlay {
        told.push((K::NodeChanged, format!("{name} has now {}", sizes(after))));
    }
    if after.fences != before.fences {
        let fences = || format!("the agent of {name} ends what may run elsewhere by itself again");
        told.push((K::NodeChanged, if after.fences { fences() } else { does_not_fence(after) }));
    }
    if after.state != before.state || after.drain != before.drain {
        told.push(match after.state {
            NodeState::Ready if before.state == NodeState::Silent => {
                (K::NodeReady, format!("{name} is heard again and takes new instances"))
            }
            NodeState::Ready => (K::NodeReady, format!("{name} takes new instances")),
            NodeState::Cordoned => (K::NodeCordoned, format!("{name} takes no new instances")),
            NodeState::Draining => (K::NodeDraining, format!("{name} is being emptied")),
            NodeState::Silent => (K::NodeSilent, format!("{name} is silent since {}", after.proof_at)),
        });
    }
    let emptied = after.used.instances == 0 && before.used.instances > 0;
    if after.state == NodeState::Draining && emptied {
        told.push((K::NodeDrained, format!("{name} is empty")));
    }
    told
}

fn does_not_fence(record: &NodeRecord) -> String {
    format!(
        "the agent of {} is too old to end instances of on_node_loss replace by itself: those that are there stay there as if \
         they said keep, and it gets no new ones; upgrade it",
        record.name
    )
}

fn joined(record: &NodeRecord) -> String {
    format!("{} joined with {}", record.name, sizes(record))
}

fn sizes(record: &NodeRecord) -> String {
    let (first, prefix) = record.range;
    let capacity = record.capacity;
    format!("{}m CPU, {} MiB, range {first}/{prefix}", capacity.cpu_millis, capacity.memory_mib)
}
