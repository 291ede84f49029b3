//! Taking nodes out of the fleet: only empty ones, with their enrolment, for good.

use wherry_model::lifecycle::{self, Ask};
use wherry_model::{Capacity, DrainThen, Fact, NodeId, NodeState};
use wherry_store::{CreateOutcome, EnrolOutcome, FenceOutcome, LifeOutcome, NodeRegistration, RemoveOutcome};

use crate::enrolments::{enrolment, stored_token};
use crate::world::{asked, at, seen};
use crate::{Subject, World, invariants};

const CAPACITY: Capacity = Capacity { cpu_millis: 4_000, memory_mib: 8_192, instances: 50 };

/// What is placed there keeps it; what has ended there does not.
pub async fn only_an_empty_node_is_removed(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let (first, second) = (world.instance("a", node, 1).await, world.instance("b", node, 1).await);
    let stopping = world.applied(asked(&first, Ask::Stop, 2)).await;
    assert_eq!(world.store.remove_node(node, at(3)).await.unwrap(), RemoveOutcome::NotEmpty { instances: 2 });
    world.applied(seen(&stopping, 3, Fact::SandboxStopped)).await;
    let deleting = world.applied(asked(&second, Ask::Delete, 3)).await;
    assert_eq!(world.store.remove_node(node, at(4)).await.unwrap(), RemoveOutcome::NotEmpty { instances: 1 });
    assert!(world.store.nodes().await.unwrap().iter().any(|record| record.id == node));
    world.applied(seen(&deleting, 4, Fact::Removed)).await;
    assert_eq!(world.store.remove_node(node, at(5)).await.unwrap(), RemoveOutcome::Removed);
    invariants::check(&world.store).await.unwrap();
}

/// Whatever is asked of it, as if it had never been; and it cannot come back.
pub async fn a_removed_node_is_no_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let node = world.registered(&registration, 0).await.id;
    let other = world.node_for(1).await;
    assert_eq!(world.store.remove_node(node, at(5)).await.unwrap(), RemoveOutcome::Removed);
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.store.register_node(&registration, at(6)).await.unwrap(), None);
    assert_eq!(world.store.node(node).await.unwrap(), None);
    let listed: Vec<NodeId> = world.store.nodes().await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(listed, [other]);
    assert_eq!(world.store.instances_on(node).await.unwrap(), None);
    assert_eq!(world.store.prove_life(node, at(7), 0).await.unwrap(), LifeOutcome::Unknown);
    assert_eq!(world.store.fence(node, 0, &[]).await.unwrap(), FenceOutcome::Heard);
    assert!(!world.store.raise_doubt(node).await.unwrap());
    assert!(!world.store.resolve_doubt(node, 1).await.unwrap());
    assert!(!world.store.set_node_state(node, NodeState::Ready).await.unwrap());
    let drain = wherry_model::Drain { asked_at: at(7), grace_until: at(8), then: DrainThen::Stop };
    assert!(!world.store.set_drain(node, Some(&drain)).await.unwrap());
    let created = world.store.place_and_create(&world.create("web", node, 7)).await.unwrap();
    assert_eq!(created, CreateOutcome::NodeRefused);
    assert_eq!(world.store.remove_node(node, at(8)).await.unwrap(), RemoveOutcome::Unknown);
    let unknown = NodeId::from_uuid(world.uuid());
    assert_eq!(world.store.remove_node(unknown, at(8)).await.unwrap(), RemoveOutcome::Unknown);
}

/// It is started elsewhere or deleted without its node, and its bill names the node for ever.
pub async fn what_ended_on_a_removed_node_goes_on_without_it(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(5).await, world.node_for(5).await);
    let mut ended = Vec::new();
    for name in ["again", "gone"] {
        let running = world.running(&world.instance(name, node, 1).await, 2).await;
        let stopping = world.applied(asked(&running, Ask::Stop, 5)).await;
        ended.push(world.applied(seen(&stopping, 6, Fact::SandboxStopped)).await);
    }
    let intervals = world.intervals(ended[0].id).await;
    assert_eq!(world.store.remove_node(node, at(7)).await.unwrap(), RemoveOutcome::Removed);
    assert_eq!(world.read(ended[0].id).await, ended[0]);
    assert_eq!(world.intervals(ended[0].id).await, intervals);
    let moved = world.applied(asked(&ended[0], Ask::Start(other), 8)).await;
    assert_eq!((moved.node, world.used(other).await), (Some(other), 1));
    let mut deleted = world.applied(asked(&ended[1], Ask::Delete, 8)).await;
    if deleted.deleted_at.is_none() {
        deleted = world.applied(lifecycle::lose(&deleted, at(6), true, at(9)).expect("its node is gone")).await;
    }
    assert!(deleted.deleted_at.is_some());
    invariants::check(&world.store).await.unwrap();
}

/// In the same write; name and range are free for another machine, the token is not.
pub async fn an_enrolment_ends_with_its_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let token = stored_token(&world, 100).await;
    let made = enrolment(&world, "n1", 1);
    assert_eq!(world.store.enrol(token, [1; 32], &made).await.unwrap(), EnrolOutcome::Enrolled(made.clone()));
    let registration = NodeRegistration { id: made.node, ..world.registration(CAPACITY) };
    world.registered(&registration, 1).await;
    let instance = world.instance("web", made.node, 2).await;
    assert_eq!(world.store.remove_node(made.node, at(3)).await.unwrap(), RemoveOutcome::NotEmpty { instances: 1 });
    assert_eq!(world.store.enrolment(made.node).await.unwrap(), Some(made.clone()));
    world.deleted(&instance, 4).await;
    assert_eq!(world.store.remove_node(made.node, at(5)).await.unwrap(), RemoveOutcome::Removed);
    subject.reopen().await;
    let world = world.on(subject);
    let ended = wherry_store::EnrolmentRecord { removed_at: Some(at(5)), ..made.clone() };
    assert_eq!(world.store.enrolment(made.node).await.unwrap(), Some(ended));
    assert_eq!(world.store.enrolments().await.unwrap(), []);
    assert_eq!(world.store.enrol(token, [1; 32], &made).await.unwrap(), EnrolOutcome::TokenRefused);
    let successor = enrolment(&world, "n1", 1);
    let token = stored_token(&world, 100).await;
    let outcome = world.store.enrol(token, [2; 32], &successor).await.unwrap();
    assert_eq!(outcome, EnrolOutcome::Enrolled(successor));
}

/// Its certificate must not let it in later.
pub async fn an_enrolled_node_that_never_came_is_removed(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let token = stored_token(&world, 100).await;
    let made = enrolment(&world, "n1", 1);
    world.store.enrol(token, [1; 32], &made).await.unwrap();
    assert_eq!(world.store.remove_node(made.node, at(5)).await.unwrap(), RemoveOutcome::Removed);
    assert_eq!(world.store.remove_node(made.node, at(6)).await.unwrap(), RemoveOutcome::Unknown);
    assert_eq!(world.store.enrolment(made.node).await.unwrap().unwrap().removed_at, Some(at(5)));
    let registration = NodeRegistration { id: made.node, ..world.registration(CAPACITY) };
    assert_eq!(world.store.register_node(&registration, at(7)).await.unwrap(), None);
    assert_eq!(world.store.nodes().await.unwrap(), []);
}

/// Nothing is ever placed on a node that is gone.
pub async fn of_a_removal_and_a_create_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    for round in 0..16 {
        let node = world.node_for(3).await;
        let creator = tokio::spawn({
            let (store, placed) = (world.store.clone(), world.create(&format!("web-{round}"), node, 1));
            async move { store.place_and_create(&placed).await.unwrap() }
        });
        let remover = tokio::spawn({
            let store = world.store.clone();
            async move { store.remove_node(node, at(2)).await.unwrap() }
        });
        match (creator.await.unwrap(), remover.await.unwrap()) {
            (CreateOutcome::Created(_), RemoveOutcome::NotEmpty { instances: 1 })
            | (CreateOutcome::NodeRefused, RemoveOutcome::Removed) => {}
            both => panic!("round {round}: {both:?}"),
        }
    }
    invariants::check(&world.store).await.unwrap();
}
