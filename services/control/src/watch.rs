//! What this replica sees of the nodes: whose heartbeats still arrive, at whichever replica.
//!
//! A proof of life counts the node's row up. A replica looks at the rows every second and judges by its own monotonic
//! clock how long that number has stood still: no wall clock takes part, and a replica that has just started has heard
//! everybody "now". Two times are kept, because they answer two questions. `heard` is the best guess and decides what is
//! `Unknown`. `grown` is when the present count was first *seen in the row*, so no heartbeat of it can be later: fencing,
//! which must never be early, counts from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wherry_agent_api::Peer;
use wherry_model::{NodeId, NodeRecord, Timestamp};

use crate::stable_hash;

/// The nodes as this replica saw them last.
#[derive(Default)]
pub(crate) struct Watch {
    seen: BTreeMap<NodeId, Seen>,
    /// Made when it is asked for; none after it has changed.
    ways: Option<Arc<Ways>>,
}

/// How nodes reach each other. Each of them asks at every news, so what is the same for all is made once.
#[derive(Debug)]
pub(crate) struct Ways {
    /// Of all of it.
    pub(crate) hash: u64,
    /// The nodes that have an underlay address, in order of id.
    pub(crate) peers: Vec<Peer>,
}

struct Seen {
    record: NodeRecord,
    heard: Instant,
    grown: Instant,
    /// Proofs of life that this replica has stored since it saw the row.
    own: u64,
    /// While it is being emptied: the most instances that were seen on it since.
    most_drained: Option<(Timestamp, u32)>,
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
            let most_drained = most_drained(None, record);
            let fresh = Seen { record: record.clone(), heard: now, grown: now, own: 0, most_drained };
            self.seen.insert(record.id, fresh);
            self.ways = None;
            return Seeing { before: None, after };
        };
        // Any difference counts: after a fail-over the number may have fallen, and who is heard is heard.
        if record.heartbeats != seen.record.heartbeats {
            seen.grown = now;
        }
        if record.heartbeats != seen.record.heartbeats.saturating_add(seen.own) {
            seen.heard = now;
        }
        seen.own = 0;
        seen.most_drained = most_drained(seen.most_drained, record);
        let before = std::mem::replace(&mut seen.record, record.clone());
        if way(&before) != way(record) {
            self.ways = None;
        }
        Seeing { before: Some(before), after }
    }

    /// Whether the row says something else than what was seen, beside that the node lives: that is judged by looks at all rows.
    pub(crate) fn is_news(&self, record: &NodeRecord) -> bool {
        self.record(record.id).is_none_or(|seen| {
            let (heartbeats, proof_at) = (seen.heartbeats, seen.proof_at);
            NodeRecord { heartbeats, proof_at, ..record.clone() } != *seen
        })
    }

    /// Takes in all rows: nodes that are not among them are gone.
    pub(crate) fn look_at_all(&mut self, records: &[NodeRecord]) -> Vec<Seeing> {
        let mut seeings: Vec<Seeing> = records.iter().map(|record| self.look(record)).collect();
        let present: BTreeSet<NodeId> = records.iter().map(|record| record.id).collect();
        let gone: Vec<NodeId> = self.seen.keys().filter(|id| !present.contains(id)).copied().collect();
        for id in gone {
            seeings.push(Seeing { before: self.forget(id), after: None });
        }
        seeings
    }

    /// The node is not there any more.
    pub(crate) fn forget(&mut self, node: NodeId) -> Option<NodeRecord> {
        self.ways = None;
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

    /// The most instances that were seen on the node since it is being emptied.
    pub(crate) fn most_drained(&self, node: NodeId) -> u32 {
        self.seen.get(&node).and_then(|seen| seen.most_drained).map_or(0, |(_, most)| most)
    }

    /// All nodes, by id.
    pub(crate) fn records(&self) -> impl Iterator<Item = &NodeRecord> {
        self.seen.values().map(|seen| &seen.record)
    }

    /// How many nodes there are.
    pub(crate) fn count(&self) -> usize {
        self.seen.len()
    }

    /// How all nodes reach each other.
    pub(crate) fn ways(&mut self) -> Arc<Ways> {
        let seen = &self.seen;
        let make = || {
            let peers: Vec<Peer> = seen.values().filter_map(|seen| way(&seen.record)).collect();
            Arc::new(Ways { hash: stable_hash(&peers), peers })
        };
        Arc::clone(self.ways.get_or_insert_with(make))
    }

    /// One node.
    pub(crate) fn record(&self, node: NodeId) -> Option<&NodeRecord> {
        self.seen.get(&node).map(|seen| &seen.record)
    }
}

fn way(record: &NodeRecord) -> Option<Peer> {
    record.underlay.map(|underlay| Peer { node: record.id, range: record.range, underlay })
}

fn most_drained(before: Option<(Timestamp, u32)>, record: &NodeRecord) -> Option<(Timestamp, u32)> {
    let asked_at = record.drain?.asked_at;
    let so_far = before.filter(|(of, _)| *of == asked_at).map_or(0, |(_, most)| most);
    Some((asked_at, so_far.max(record.used.instances)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use wherry_model::{Architecture, BootId, Capacity, NodeState};

    use super::*;

    fn row(heartbeats: u64, epoch: u64) -> NodeRecord {
        NodeRecord {
            id: node(),
            name: "node-0".to_owned(),
            architecture: Architecture::Amd64,
            state: NodeState::Ready,
            capacity: Capacity::default(),
            used: Capacity::default(),
            boot: BootId::from_uuid(uuid::Uuid::nil()),
            range: (Ipv4Addr::new(10, 0, 0, 0), 24),
            proof_at: Timestamp::default(),
            desired_revision: 0,
            epoch,
            heartbeats,
            fenced: false,
            protocol: NodeRecord::PROTOCOL_OF_LEASES,
            isolation: wherry_model::IsolationSet::default(),
            offer: wherry_model::NodeOffer::default(),
            fences: true,
            underlay: None,
            drain: None,
        }
    }

    fn node() -> NodeId {
        NodeId::from_uuid(uuid::Uuid::nil())
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn silent(watch: &Watch) -> u64 {
        watch.silent_for(node()).as_secs()
    }

    fn unproved(watch: &Watch) -> (u64, u64) {
        watch.unproved_for(node()).map(|(time, count)| (time.as_secs(), count)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_stands_still_is_silence_whoever_would_have_heard() {
        let mut watch = Watch::default();
        assert_eq!(watch.silent_for(node()), Duration::ZERO, "who was never seen is not silent");
        watch.look(&row(7, 0));
        pass(5).await;
        watch.look(&row(7, 0));
        assert_eq!((silent(&watch), unproved(&watch)), (5, (5, 7)));
        watch.look(&row(8, 0));
        assert_eq!((silent(&watch), unproved(&watch)), (0, (0, 8)), "heard by another replica");
    }

    #[tokio::test(start_paused = true)]
    async fn an_own_proof_counts_from_when_it_came_for_the_guess_and_from_when_it_was_seen_for_fencing() {
        let mut watch = Watch::default();
        watch.look(&row(0, 0));
        pass(10).await;
        watch.note(node(), true);
        pass(16).await;
        watch.look(&row(1, 0));
        assert_eq!(silent(&watch), 16);
        assert_eq!(unproved(&watch), (0, 1), "the row may hold a later one than the own");
        pass(4).await;
        watch.look(&row(1, 0));
        assert_eq!((silent(&watch), unproved(&watch)), (20, (4, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_the_own_was_heard_elsewhere_just_now() {
        let mut watch = Watch::default();
        watch.look(&row(0, 0));
        watch.note(node(), true);
        pass(20).await;
        watch.look(&row(2, 0));
        assert_eq!(silent(&watch), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_that_could_not_be_stored_is_heard_and_renews_nothing() {
        let mut watch = Watch::default();
        watch.look(&row(3, 0));
        pass(100).await;
        watch.note(node(), false);
        watch.look(&row(3, 0));
        assert_eq!(silent(&watch), 0);
        assert_eq!(unproved(&watch), (0, 3), "fencing waits for who is alive");
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_fell_is_news_too() {
        let mut watch = Watch::default();
        watch.look(&row(100, 0));
        pass(60).await;
        // The database was put back to an older state; from there it counts up again.
        watch.look(&row(40, 0));
        assert_eq!(silent(&watch), 0);
        pass(2).await;
        watch.look(&row(41, 0));
        assert_eq!(unproved(&watch), (0, 41));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_blind_judges_nobody_by_that_time() {
        let mut watch = Watch::default();
        watch.look(&row(1, 0));
        pass(500).await;
        watch.was_blind();
        watch.look(&row(1, 0));
        assert_eq!((silent(&watch), unproved(&watch)), (0, (0, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_any_more_is_gone() {
        let mut watch = Watch::default();
        assert_eq!(watch.look_at_all(&[row(1, 0)]), [Seeing { before: None, after: Some(row(1, 0)) }]);
        assert_eq!(watch.look_at_all(&[]), [Seeing { before: Some(row(1, 0)), after: None }]);
        assert_eq!(watch.records().count(), 0);
    }
    #[test]
    fn ways_are_made_anew_when_and_only_when_one_has_changed() {
        let mut watch = Watch::default();
        assert!(watch.ways().peers.is_empty());
        watch.look(&row(1, 0));
        let none = watch.ways();
        assert!(none.peers.is_empty(), "nobody reaches a machine without an address");
        let with =
            |heartbeats, last| NodeRecord { underlay: Some(Ipv4Addr::new(192, 0, 2, last)), ..row(heartbeats, 0) };
        watch.look(&with(1, 1));
        let first = watch.ways();
        assert_eq!(first.peers.iter().map(|peer| peer.underlay.octets()[3]).collect::<Vec<_>>(), [1]);
        watch.look(&with(2, 1));
        assert!(Arc::ptr_eq(&first, &watch.ways()), "a heartbeat changes no way");
        watch.look(&with(2, 2));
        let second = watch.ways();
        watch.forget(node());
        let hashes = [none.hash, first.hash, second.hash, watch.ways().hash];
        assert_eq!(hashes, [none.hash, first.hash, second.hash, none.hash]);
        assert!(none.hash != first.hash && first.hash != second.hash);
    }
}
