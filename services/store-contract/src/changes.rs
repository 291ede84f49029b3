//! Following changes: whoever reads on from a cursor misses no write, in whichever order transactions commit.
//!
//! Changes may come late (a database waits with them until no earlier transaction is open) and more than once, so the
//! cases read until they have seen what must come. Only a change that never comes fails them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wherry_model::lifecycle::Ask;
use wherry_model::{Instance, InstanceId, InstanceState, Revision};
use wherry_store::{ChangeCursor, Store};

use crate::world::{asked, at, edges, seen, started};
use crate::{Subject, World, invariants};

/// Longer than any database holds a change back on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One who follows, and what it knows.
struct Follower {
    store: Arc<dyn Store>,
    cursor: ChangeCursor,
    known: BTreeMap<InstanceId, Instance>,
    largest_page: usize,
}

impl Follower {
    async fn from_now(store: &Arc<dyn Store>) -> Self {
        let cursor = store.cursor().await.unwrap();
        Self { store: store.clone(), cursor, known: BTreeMap::new(), largest_page: 0 }
    }

    /// Reads one page; whether there is more at once.
    async fn read(&mut self, limit: u32) -> bool {
        let changes = self.store.changes(self.cursor, limit).await.unwrap();
        self.largest_page = self.largest_page.max(changes.instances.len());
        assert!(!changes.more || changes.next != self.cursor, "more is promised and the cursor stands still");
        self.cursor = changes.next;
        for instance in changes.instances {
            // It comes as it is now, so it never goes back.
            let known = self.known.get(&instance.id).map_or(Revision(0), |known| known.revision);
            assert!(instance.revision >= known, "{} came with {:?} after {known:?}", instance.id, instance.revision);
            self.known.insert(instance.id, instance);
        }
        changes.more
    }

    /// Reads on until everything in `wanted` was seen as it is there.
    async fn see(&mut self, wanted: &[Instance], limit: u32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let more = self.read(limit).await;
            let missing: Vec<&Instance> =
                wanted.iter().filter(|instance| self.known.get(&instance.id) != Some(*instance)).collect();
            if missing.is_empty() {
                return;
            }
            if !more {
                let names: Vec<_> =
                    missing.iter().map(|instance| (instance.name.as_str(), instance.revision)).collect();
                assert!(Instant::now() < deadline, "never seen: {names:?} after {:?}", self.cursor);
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Creates, changes, reports, fencings and deletions, each as the record is now.
pub async fn every_kind_of_write_is_found(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, journal) = (world.node_for(10).await, world.journal());
    let old = world.instance("old", node, 1).await;
    let mut follower = Follower::from_now(&world.store).await;
    let created = world.instance("created", node, 2).await;
    follower.see(std::slice::from_ref(&created), 10).await;
    let changed = world.applied(asked(&created, Ask::Stop, 3)).await;
    follower.see(std::slice::from_ref(&changed), 10).await;
    let report = [seen(&old, 4, started(1, 4))];
    world.store.apply_report(node, journal, 0, 1, &report, &[]).await.unwrap();
    follower.see(&[report[0].after.clone()], 10).await;
    let waiting = world.waiting("waiting", node, 5).await;
    follower.see(std::slice::from_ref(&waiting), 10).await;
    let placed = world.applied(wherry_model::lifecycle::place(&waiting, node, at(6)).unwrap()).await;
    follower.see(std::slice::from_ref(&placed), 10).await;
    let lost = wherry_model::lifecycle::lose(&placed, at(6), true, at(7)).unwrap();
    world.store.fence(node, 0, std::slice::from_ref(&lost)).await.unwrap();
    follower.see(&[lost.after], 10).await;
    let gone = world.deleted(&changed, 8).await;
    assert_eq!(gone.state, InstanceState::Deleted);
    follower.see(&[gone], 10).await;
}

/// A write that is not stored is not told.
pub async fn what_is_not_stored_is_not_found(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let first = world.instance("web", node, 1).await;
    let mut follower = Follower::from_now(&world.store).await;
    let refused = world.create("full", node, 2);
    world.store.place_and_create(&refused).await.unwrap();
    let late = seen(&first, 3, started(1, 3));
    let stopping = world.applied(asked(&first, Ask::Stop, 3)).await;
    world.store.apply(&late).await.unwrap();
    follower.see(&[stopping], 10).await;
    assert!(!follower.known.contains_key(&refused.change.after.id));
}

/// Once, and as it is now, however often it was written.
pub async fn a_record_comes_as_it_is_now(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let mut instance = world.instance("web", node, 1).await;
    let cursor = world.store.cursor().await.unwrap();
    for _ in 0..6 {
        instance = world.applied(edges(&instance, Vec::new())).await;
    }
    let mut follower = Follower { cursor, ..Follower::from_now(&world.store).await };
    follower.see(std::slice::from_ref(&instance), 100).await;
    let page = world.store.changes(cursor, 100).await.unwrap().instances;
    assert_eq!(page.iter().filter(|found| found.id == instance.id).count(), 1);
}

/// About as many at once as were asked for, and all of them before it is said that there are no more.
pub async fn changes_come_in_pages(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100).await;
    let mut follower = Follower::from_now(&world.store).await;
    let begin = follower.cursor;
    let mut made = Vec::new();
    for number in 0..30 {
        made.push(world.instance(&format!("web-{number}"), node, number).await);
    }
    follower.see(&made, 4).await;
    // Now that all of it can be read, it is read at once.
    let mut again = Follower { cursor: begin, known: BTreeMap::new(), ..follower };
    while again.read(4).await {}
    assert_eq!(again.known.len(), made.len());
    assert!(again.largest_page <= 8, "a page of about 4 has {}", again.largest_page);
}

/// The cursor goes on over a restart, and a purge of what it points at does not bring the past back into its way.
pub async fn a_cursor_survives_reopening_and_purging(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let mut follower = Follower::from_now(&world.store).await;
    let instance = world.instance("old", node, 1).await;
    let gone = world.deleted(&instance, 2).await;
    follower.see(std::slice::from_ref(&gone), 10).await;
    assert!(world.store.purge(at(1_000), 100).await.unwrap() >= 1);
    subject.reopen().await;
    let world = world.on(subject);
    follower.store = world.store.clone();
    let made = world.instance("new", node, 3).await;
    follower.see(&[made], 10).await;
}

/// Many writers in transactions of different length; readers that follow with small pages from the beginning.
pub async fn followers_miss_nothing_while_writers_write(subject: &mut impl Subject) {
    const WRITERS: i64 = 6;
    let world = World::new(subject).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut followers = JoinSet::new();
    for limit in [3, 50] {
        let (mut follower, done) = (Follower::from_now(&world.store).await, done.clone());
        followers.spawn(async move {
            while !done.load(Ordering::Acquire) {
                if !follower.read(limit).await {
                    tokio::task::yield_now().await;
                }
            }
            (follower, limit)
        });
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (world, node, journal) = (world.clone(), world.node_for(100).await, world.journal());
        writers.spawn(async move {
            let mut made = Vec::new();
            for round in 0..6 {
                // Written once and never again: if its one write is missed, nothing brings it back.
                made.push(world.instance(&format!("once-{writer}-{round}"), node, round).await);
                let mut changes = Vec::new();
                for number in 0..writer {
                    let instance = world.instance(&format!("web-{writer}-{round}-{number}"), node, round).await;
                    changes.push(seen(&instance, round, started(1, round)));
                }
                let through = u64::try_from(round).unwrap();
                world.store.apply_report(node, journal, through, through + 1, &changes, &[]).await.unwrap();
                made.extend(changes.into_iter().map(|change| change.after));
            }
            made
        });
    }
    let made: Vec<Instance> = writers.join_all().await.into_iter().flatten().collect();
    done.store(true, Ordering::Release);
    for (mut follower, limit) in followers.join_all().await {
        follower.see(&made, limit).await;
    }
    invariants::check(&world.store).await.unwrap();
}

/// Whoever takes a cursor while others write finds what is written after it: so state that is read after it, and what
/// is followed from it, leave no gap.
pub async fn a_cursor_taken_while_writers_write_leaves_no_gap(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, done) = (world.node_for(1_000).await, Arc::new(AtomicBool::new(false)));
    let mut noise = JoinSet::new();
    for writer in 0..4 {
        let (world, done) = (world.clone(), done.clone());
        noise.spawn(async move {
            let mut instance = world.instance(&format!("noise-{writer}"), node, 1).await;
            while !done.load(Ordering::Acquire) {
                instance = world.applied(edges(&instance, Vec::new())).await;
            }
        });
    }
    for round in 0..12 {
        let mut follower = Follower::from_now(&world.store).await;
        let written = world.instance(&format!("web-{round}"), node, round).await;
        follower.see(&[written], 20).await;
    }
    done.store(true, Ordering::Release);
    noise.join_all().await;
}
