//! The change feed and the counters.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use wherry_model::ReplicaId;
use wherry_store::ReplicaRecord;

use crate::world::at;
use crate::{Subject, World};

/// Rounds until a wake-up is seen to come from the commit and not from the look that a waiter takes each second. On a loaded
/// machine some rounds are too slow to tell; where nothing wakes, all are.
const ROUNDS: u32 = 30;

/// A waiter wakes up well before its second is over.
pub async fn a_commit_wakes_a_waiter(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100).await;
    for round in 0..ROUNDS {
        let seen = world.store.position();
        let waiter = tokio::spawn({
            let store = world.store.clone();
            async move { (store.changed(seen).await, Instant::now()) }
        });
        sleep(Duration::from_millis(100)).await;
        if waiter.is_finished() {
            continue;
        }
        let before = Instant::now();
        world.instance(&format!("web-{round}"), node, 1).await;
        let (position, woken) = waiter.await.unwrap();
        if position != seen && woken.saturating_duration_since(before) < Duration::from_millis(500) {
            return;
        }
    }
    panic!("in {ROUNDS} rounds no commit woke a waiter");
}

/// Whoever takes the position first and waits later still learns of what came in between.
pub async fn a_missed_commit_is_told_at_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(100).await;
    for round in 0..ROUNDS {
        let seen = world.store.position();
        world.instance(&format!("web-{round}"), node, 1).await;
        if let Ok(position) = timeout(Duration::from_millis(200), world.store.changed(seen)).await {
            assert_ne!(position, seen);
            assert_ne!(world.store.position(), seen);
            return;
        }
    }
    panic!("in {ROUNDS} rounds no missed commit was told");
}

/// What is written all the time wakes nobody: hundreds of agents would be answered for each other's proofs of life.
pub async fn proofs_of_life_and_leases_wake_nobody(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let replica = ReplicaRecord { id: ReplicaId::from_uuid(world.uuid()), agents_url: None, seen_at: at(5), form: 1 };
    for _ in 0..ROUNDS {
        // A connection that is made anew wakes everybody too, so not every round can tell; where such writes do, none can.
        let seen = world.store.position();
        world.store.prove_life(node, at(5), 0).await.unwrap();
        world.store.hold_lease("work", replica.id, at(5), Duration::from_secs(5)).await.unwrap();
        world.store.note_replica(&replica, at(1)).await.unwrap();
        world.store.reserve("zone", 1).await.unwrap();
        world.store.keep_learnt("lifetimes", "{}").await.unwrap();
        if world.store.position() == seen {
            return;
        }
    }
    panic!("in {ROUNDS} rounds these writes always woke somebody");
}

/// After at most about a second, with the same position: another process may have written.
pub async fn a_waiter_without_news_returns(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    for _ in 0..ROUNDS {
        let seen = world.store.position();
        let began = Instant::now();
        let position = timeout(Duration::from_secs(30), world.store.changed(seen)).await.expect("it returns");
        // A connection that is made anew wakes everybody, so not every round is one without news; where nothing is written, some are.
        if position == seen {
            assert!(began.elapsed() > Duration::from_millis(50), "it spins");
            return;
        }
    }
    panic!("in {ROUNDS} rounds there was always news");
}

/// Numbers are handed out once, over restarts too; counters do not touch each other.
pub async fn counters_only_grow(subject: &mut impl Subject) {
    let store = subject.store();
    let first = store.reserve("zone", 1).await.unwrap();
    assert_eq!(store.reserve("zone", 10).await.unwrap(), first + 1);
    assert_eq!(store.reserve("zone", 1).await.unwrap(), first + 11);
    let other = store.reserve("other", 1).await.unwrap();
    subject.reopen().await;
    assert_eq!(subject.store().reserve("zone", 1).await.unwrap(), first + 12);
    assert_eq!(subject.store().reserve("other", 1).await.unwrap(), other + 1);
}

/// No number is given to two callers.
pub async fn racing_reservations_are_apart(subject: &mut impl Subject) {
    let store = subject.store();
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.spawn(async move { store.reserve("zone", 3).await.unwrap() });
    }
    let numbers: BTreeSet<u64> = tasks.join_all().await.into_iter().flat_map(|first| first..first + 3).collect();
    assert_eq!(numbers.len(), 60);
}
