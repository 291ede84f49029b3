//! Agents of a protocol without leases, which end nothing by themselves, those that come before and after them, and those
//! that do not understand what is asked.

use wherry_model::{Capacity, NodeRecord, OnNodeLoss};
use wherry_store::{CreateOutcome, FenceOutcome, LifeOutcome, NodeRegistration};

use crate::world::at;
use crate::{Subject, World, invariants};

const CAPACITY: Capacity = Capacity { cpu_millis: 10_000, memory_mib: 10_000, instances: 100 };

/// Another agent of the machine introduces itself.
async fn introduced(world: &World, registration: &NodeRegistration, fences: bool) -> NodeRecord {
    world
        .registered(
            &NodeRegistration { protocol: NodeRecord::PROTOCOL_OF_LEASES - u32::from(!fences), ..registration.clone() },
            1,
        )
        .await
}

/// It knows no epochs, and nothing was taken from it because it was silent.
pub async fn an_agent_that_knows_no_leases_is_heard_in_any_epoch(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let node = registration.id;
    introduced(&world, &registration, true).await;
    world.store.fence(node, 0, &[]).await.unwrap();
    let fenced = LifeOutcome::Fenced { epoch: 1 };
    assert_eq!(world.store.prove_life(node, at(5), 0).await.unwrap(), fenced);
    let row = introduced(&world, &registration, false).await;
    assert_eq!((row.protocol, row.fences, row.fenced), (1, false, false));
    subject.reopen().await;
    let world = world.on(subject);
    assert!(!world.node(node).await.fences);
    for (epoch, second) in [(0, 6), (1, 7), (9, 8)] {
        let taken = LifeOutcome::Taken { doubt: None };
        assert_eq!(world.store.prove_life(node, at(second), epoch).await.unwrap(), taken);
        let after = world.node(node).await;
        assert_eq!((after.proof_at, after.epoch, after.fences), (at(second), 1, false));
    }
    // Said again it is nothing new.
    let before = world.node(node).await;
    assert_eq!(introduced(&world, &registration, false).await, before);
}

/// The row is the referee.
pub async fn what_must_be_fenced_is_not_placed_where_nobody_fences(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let replaceable =
        |name: &str| world.create_with(name, registration.id, 1, |spec| spec.on_node_loss = OnNodeLoss::Replace);
    introduced(&world, &registration, true).await;
    world.created(&replaceable("before")).await;
    introduced(&world, &registration, false).await;
    let refused = world.store.place_and_create(&replaceable("after")).await.unwrap();
    assert!(matches!(refused, CreateOutcome::NodeRefused), "{refused:?}");
    world.instance("kept", registration.id, 1).await;
    assert_eq!(world.used(registration.id).await, 2, "what was there stays");
    invariants::check(&world.store).await.unwrap();
}

/// The row is the referee of that too: a picture of the fleet from before an agent was rolled back says what is over.
pub async fn what_an_agent_does_not_understand_is_not_placed_there(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let newest = world.registration(CAPACITY);
    let node = newest.id;
    let former = NodeRegistration { protocol: NodeRecord::PROTOCOL_OF_LEASES, ..newest.clone() };
    let limited = |name: &str| world.create_with(name, node, 1, |spec| spec.deadline_seconds = Some(60));
    world.registered(&newest, 1).await;
    world.created(&limited("before")).await;
    world.registered(&former, 2).await;
    let refused = world.store.place_and_create(&limited("after")).await.unwrap();
    assert!(matches!(refused, CreateOutcome::NodeRefused), "{refused:?}");
    world.instance("plain", node, 1).await;
    subject.reopen().await;
    let world = world.on(subject);
    let limited = |name: &str| world.create_with(name, node, 1, |spec| spec.deadline_seconds = Some(60));
    let refused = world.store.place_and_create(&limited("after")).await.unwrap();
    assert!(matches!(refused, CreateOutcome::NodeRefused), "{refused:?}");
    assert_eq!(world.used(node).await, 2, "what was there stays, and what it understands comes");
    world.registered(&newest, 3).await;
    world.created(&limited("again")).await;
    invariants::check(&world.store).await.unwrap();
}

/// It must fetch its desired state first, which a heartbeat of the epoch that begins with it proves.
pub async fn one_that_fences_is_believed_when_it_knows_what(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let node = registration.id;
    let before = introduced(&world, &registration, false).await;
    assert!(!before.fences, "also one that was never seen");
    world.store.prove_life(node, at(5), 0).await.unwrap();
    let row = introduced(&world, &registration, true).await;
    assert_eq!((row.epoch, row.heartbeats, row.fences), (before.epoch + 1, 1, false));
    assert!(row.desired_revision > before.desired_revision, "it gets a desired state that says what to end");
    let replaceable = |name: &str| world.create_with(name, node, 1, |spec| spec.on_node_loss = OnNodeLoss::Replace);
    let refused = world.store.place_and_create(&replaceable("early")).await.unwrap();
    assert!(matches!(refused, CreateOutcome::NodeRefused), "{refused:?}");
    assert_eq!(world.store.prove_life(node, at(6), 0).await.unwrap(), LifeOutcome::Fenced { epoch: 1 });
    subject.reopen().await;
    let world = world.on(subject);
    assert!(!world.node(node).await.fences);
    assert_eq!(introduced(&world, &registration, true).await, row, "said again it is nothing new");
    assert_eq!(world.store.prove_life(node, at(7), 1).await.unwrap(), LifeOutcome::Taken { doubt: None });
    assert!(world.node(node).await.fences);
    let replaceable = world.create_with("late", node, 1, |spec| spec.on_node_loss = OnNodeLoss::Replace);
    world.created(&replaceable).await;
    invariants::check(&world.store).await.unwrap();
}

/// What was computed while the row said that its agent fences is not written any more.
pub async fn a_rollback_is_heard_before_a_fencing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let judged = introduced(&world, &registration, true).await.heartbeats;
    introduced(&world, &registration, false).await;
    assert_eq!(world.store.fence(registration.id, judged, &[]).await.unwrap(), FenceOutcome::Heard);
    assert_eq!(world.node(registration.id).await.epoch, 0);
}
