//! What operators say of a node: cordons and drains. Nobody but an operator takes that back.

use wherry_model::{Drain, DrainThen, NodeId, NodeState};
use wherry_store::{CreateOutcome, StoreError};

use crate::world::at;
use crate::{Subject, World};

const fn drain(then: DrainThen) -> Drain {
    Drain { asked_at: at(10), grace_until: at(70), then }
}

/// Begun, changed, ended, and there after reopening.
pub async fn a_drain_is_kept_until_it_is_ended(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    assert_eq!(world.node(node).await.drain, None);
    for then in [DrainThen::Move, DrainThen::Stop] {
        assert!(world.store.set_drain(node, Some(&drain(then))).await.unwrap());
        let record = world.node(node).await;
        assert_eq!((record.state, record.drain), (NodeState::Draining, Some(drain(then))));
    }
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.node(node).await.drain, Some(drain(DrainThen::Stop)));
    assert!(world.store.set_drain(node, None).await.unwrap());
    let record = world.node(node).await;
    assert_eq!((record.state, record.drain), (NodeState::Cordoned, None));
}

/// A node that is made ready or cordoned is not being emptied any more.
pub async fn another_state_ends_a_drain(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    for state in [NodeState::Ready, NodeState::Cordoned] {
        world.store.set_drain(node, Some(&drain(DrainThen::Move))).await.unwrap();
        assert!(world.store.set_node_state(node, state).await.unwrap());
        let record = world.node(node).await;
        assert_eq!((record.state, record.drain), (state, None));
    }
}

/// Neither a create nor a start nor a move gets in.
pub async fn a_draining_node_takes_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(5).await, world.node_for(5).await);
    let waiting = world.waiting("waiting", other, 1).await;
    world.store.set_drain(node, Some(&drain(DrainThen::Move))).await.unwrap();
    let created = world.store.place_and_create(&world.create("web", node, 20)).await.unwrap();
    assert_eq!(created, CreateOutcome::NodeRefused);
    let place = wherry_model::lifecycle::place(&waiting, node, at(21)).unwrap();
    assert_eq!(world.store.apply(&place).await.unwrap(), wherry_store::Applied::NodeRefused);
    assert_eq!((world.used(node).await, world.read(waiting.id).await), (0, waiting));
    world.store.set_node_state(node, NodeState::Ready).await.unwrap();
    assert_eq!(world.store.apply(&place).await.unwrap(), wherry_store::Applied::Yes);
}

/// Silence, registering and hearing of the node leave a cordon and a drain as they are.
pub async fn an_operators_word_outlives_silence(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(wherry_model::Capacity { cpu_millis: 100, memory_mib: 100, instances: 1 });
    let node = world.registered(&registration, 0).await.id;
    for drain in [None, Some(drain(DrainThen::Move))] {
        world.store.set_drain(node, drain.as_ref()).await.unwrap();
        let told = world.node(node).await;
        assert!(world.store.set_node_state(node, NodeState::Silent).await.unwrap());
        assert_eq!(world.node(node).await, told);
        world.store.raise_doubt(node).await.unwrap();
        world.store.resolve_doubt(node, u64::from(u32::MAX)).await.unwrap();
        let again = world.registered(&registration, 5).await;
        assert_eq!((again.state, again.drain), (told.state, drain));
    }
}

/// A state that says "draining" without saying until when would never end.
pub async fn draining_without_a_drain_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let refused = world.store.set_node_state(node, NodeState::Draining).await;
    assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
    assert_eq!(world.node(node).await.state, NodeState::Ready);
    let unknown = NodeId::from_uuid(world.uuid());
    assert!(!world.store.set_drain(unknown, Some(&drain(DrainThen::Move))).await.unwrap());
    assert!(!world.store.set_drain(unknown, None).await.unwrap());
}
