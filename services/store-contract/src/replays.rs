//! Idempotency keys: the same key with the same request gets the same instance, for as long as it is remembered.

use wherry_model::NodeState;
use wherry_store::{CreateOutcome, Placed};

use crate::creates::race;
use crate::{Subject, World, invariants};

fn with_key(mut placed: Placed, key: &str, fingerprint: u8) -> Placed {
    placed.idempotency = Some((key.to_owned(), [fingerprint; 32]));
    placed
}

/// The second request makes nothing and gets the instance as it is now.
pub async fn a_key_replays_what_it_made(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    let now = world.running(&made, 2).await;
    let again = with_key(world.create("web", node, 3), "k", 1);
    assert_eq!(world.store.place_and_create(&again).await.unwrap(), CreateOutcome::Replayed(Box::new(now)));
    assert_eq!(world.used(node).await, 1);
    assert_eq!(world.store.instance(world.tenant, again.change.after.id).await.unwrap(), None);
}

/// A client that lost the answer may ask the restarted service.
pub async fn a_key_replays_after_reopening(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    subject.reopen().await;
    let world = world.on(subject);
    let again = with_key(world.create("web", node, 2), "k", 1);
    assert_eq!(world.store.place_and_create(&again).await.unwrap(), CreateOutcome::Replayed(Box::new(made)));
    assert_eq!(world.used(node).await, 1);
}

/// Another fingerprint under the same key is a mistake of the client, and makes nothing.
pub async fn a_key_for_another_request_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    let other = with_key(world.create("db", node, 2), "k", 2);
    assert_eq!(world.store.place_and_create(&other).await.unwrap(), CreateOutcome::KeyReused);
    assert_eq!((world.used(node).await, world.events().await.len()), (1, 1));
    assert_eq!(world.store.idempotency(world.tenant, "k").await.unwrap().unwrap().instance, made.id);
}

/// The repeated request must not make a new one behind the back of who deleted it.
pub async fn a_key_replays_a_deleted_instance(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    let gone = world.deleted(&made, 2).await;
    let again = with_key(world.create("web", node, 3), "k", 1);
    assert_eq!(world.store.place_and_create(&again).await.unwrap(), CreateOutcome::Replayed(Box::new(gone)));
    assert_eq!(world.used(node).await, 0);
}

/// Before the name and before the node: a repeat succeeds although both would refuse it.
pub async fn a_key_is_looked_at_first(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let made = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    world.store.set_node_state(node, NodeState::Cordoned).await.unwrap();
    let again = with_key(world.create("web", node, 2), "k", 1);
    assert_eq!(world.store.place_and_create(&again).await.unwrap(), CreateOutcome::Replayed(Box::new(made)));
    let other = with_key(world.create("web", node, 3), "k", 2);
    assert_eq!(world.store.place_and_create(&other).await.unwrap(), CreateOutcome::KeyReused);
}

/// Two tenants may use the same key; neither learns of the other's.
pub async fn a_key_belongs_to_its_tenant(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let node = world.node_for(5).await;
    let mine = world.created(&with_key(world.create("web", node, 1), "k", 1)).await;
    assert_eq!(other.store.idempotency(other.tenant, "k").await.unwrap(), None);
    let theirs = other.created(&with_key(other.create("web", node, 2), "k", 2)).await;
    assert_eq!(world.store.idempotency(world.tenant, "k").await.unwrap().unwrap().instance, mine.id);
    assert_eq!(other.store.idempotency(other.tenant, "k").await.unwrap().unwrap().instance, theirs.id);
}

/// A client that sends twice at once gets one instance.
pub async fn of_racing_creates_with_a_key_one_is_made(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    let creates = (0..16).map(|number| with_key(world.create(&format!("web-{number}"), node, 1), "k", 1)).collect();
    let outcomes = race(&world, creates).await;
    let made = outcomes.iter().find_map(|outcome| match outcome {
        CreateOutcome::Created(instance) => Some(instance.clone()),
        _ => None,
    });
    let made = made.expect("one was made");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == CreateOutcome::Created(made.clone())).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == CreateOutcome::Replayed(made.clone())).count(), 15);
    assert_eq!(world.used(node).await, 1);
    invariants::check(&world.store).await.unwrap();
}

/// A refused create can be repeated with its key once there is room, or another name.
pub async fn a_failed_create_does_not_use_its_key(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (small, node) = (world.node_for(0).await, world.node_for(5).await);
    world.instance("taken", node, 1).await;
    for (name, place, wanted) in [("web", small, CreateOutcome::NodeRefused), ("taken", node, CreateOutcome::NameTaken)]
    {
        let outcome = world.store.place_and_create(&with_key(world.create(name, place, 2), "k", 1)).await.unwrap();
        assert_eq!(outcome, wanted);
        assert_eq!(world.store.idempotency(world.tenant, "k").await.unwrap(), None);
    }
    world.created(&with_key(world.create("web", node, 3), "k", 1)).await;
}
