//! Purges: what is past its time is forgotten, what is billed never is.

use wherry_store::{CreateOutcome, StoreError};

use crate::world::{at, name};
use crate::{Subject, World, invariants};

/// Record, events and idempotency record of an instance that was deleted before; nothing of one deleted later.
pub async fn deleted_instances_are_forgotten_after_their_time(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let old = world.deleted(&world.instance("old", node, 1).await, 10).await;
    let recent = world.deleted(&world.instance("recent", node, 2).await, 20).await;
    let live = world.instance("live", node, 3).await;
    assert_eq!(world.store.purge(at(10), 100).await.unwrap(), 0);
    assert!(world.store.purge(at(15), 100).await.unwrap() >= 1);
    assert_eq!(world.store.instance(world.tenant, old.id).await.unwrap(), None);
    assert_eq!(world.store.instance_of_any_tenant(old.id).await.unwrap(), None);
    assert!(world.events().await.iter().all(|event| event.instance != old.id));
    assert_eq!((world.read(recent.id).await, world.read(live.id).await), (recent, live));
    assert_eq!(world.store.purge(at(15), 100).await.unwrap(), 0);
    invariants::check(&world.store).await.unwrap();
}

/// The bill of last month names instances that nobody remembers.
pub async fn intervals_outlive_their_instance(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    let running = world.running(&world.instance("old", node, 1).await, 2).await;
    let gone = world.deleted(&running, 9).await;
    let before = world.intervals(gone.id).await;
    assert_eq!(before.len(), 1);
    assert!(world.store.purge(at(1_000), 100).await.unwrap() >= 1);
    assert_eq!(world.store.instance(world.tenant, gone.id).await.unwrap(), None);
    assert_eq!(world.intervals(gone.id).await, before);
    assert_eq!(before[0].name, name("old"));
}

/// At most `limit` of each kind at once, so that a purge never holds the writer for long; it goes on where it was.
pub async fn a_purge_keeps_its_limit(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    for number in 0..5 {
        world.deleted(&world.instance(&format!("old-{number}"), node, number).await, 10 + number).await;
    }
    let mut gone = Vec::new();
    loop {
        let count = world.store.purge(at(1_000), 2).await.unwrap();
        if count == 0 {
            break;
        }
        gone.push(count);
    }
    assert_eq!(gone, [2, 2, 1]);
    assert_eq!(world.events().await, []);
}

/// A key works again once it is forgotten, also while its instance lives; a younger key stays.
pub async fn keys_are_forgotten_after_their_time(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(10).await;
    for (name, key, second) in [("a", "old", 1), ("b", "young", 50)] {
        let mut placed = world.create(name, node, second);
        placed.idempotency = Some((key.to_owned(), [1; 32]));
        world.created(&placed).await;
    }
    assert_eq!(world.store.purge(at(20), 100).await.unwrap(), 1);
    assert_eq!(world.store.idempotency(world.tenant, "old").await.unwrap(), None);
    assert!(world.store.idempotency(world.tenant, "young").await.unwrap().is_some());
    let mut again = world.create("c", node, 60);
    again.idempotency = Some(("old".to_owned(), [2; 32]));
    let outcome: Result<_, StoreError> = world.store.place_and_create(&again).await;
    assert!(matches!(outcome, Ok(CreateOutcome::Created(_))), "{outcome:?}");
}
