//! The change feed and the counters.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{Subject, World};

/// A waiter wakes up well before its second is over.
pub async fn a_commit_wakes_a_waiter(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let seen = world.store.position();
    let waiter = tokio::spawn({
        let store = world.store.clone();
        async move { (store.changed(seen).await, Instant::now()) }
    });
    sleep(Duration::from_millis(100)).await;
    assert!(!waiter.is_finished(), "woken by nothing");
    let before = Instant::now();
    world.instance("web", node, 1).await;
    let (position, woken) = waiter.await.unwrap();
    assert_ne!(position, seen);
    assert!(woken.duration_since(before) < Duration::from_millis(500), "woken after {:?}", woken - before);
}

/// Whoever takes the position first and waits later still learns of what came in between.
pub async fn a_missed_commit_is_told_at_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let seen = world.store.position();
    world.instance("web", node, 1).await;
    let position = timeout(Duration::from_millis(200), world.store.changed(seen)).await.expect("told at once");
    assert_ne!(position, seen);
    assert_eq!(position, world.store.position());
}

/// After at most about a second, with the same position: another process may have written.
pub async fn a_waiter_without_news_returns(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let seen = world.store.position();
    let began = Instant::now();
    let position = timeout(Duration::from_secs(3), world.store.changed(seen)).await.expect("it returns");
    assert_eq!(position, seen);
    assert!(began.elapsed() > Duration::from_millis(50), "it spins");
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
