//! Nodes.

use wherry_model::{BootId, Capacity, NodeId, NodeState};
use wherry_store::{LifeOutcome, NodeRegistration, OnNode};

use crate::world::at;
use crate::{Subject, World};

const CAPACITY: Capacity = Capacity { cpu_millis: 4_000, memory_mib: 8_192, instances: 50 };

/// All of its row comes back, also after reopening.
pub async fn a_new_node_is_ready_and_empty(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let node = world.registered(&registration, 5).await;
    assert_eq!(
        (node.id, &node.name, node.architecture),
        (registration.id, &registration.name, registration.architecture)
    );
    assert_eq!((node.capacity, node.used, node.state), (CAPACITY, Capacity::default(), NodeState::Ready));
    assert_eq!((node.boot, node.range, node.proof_at), (registration.boot, registration.range, at(5)));
    assert_eq!(world.store.node(node.id).await.unwrap(), Some(node.clone()));
    subject.reopen().await;
    assert_eq!(subject.store().nodes().await.unwrap(), [node]);
}

/// What it says of itself is renewed; what it has handed out, its revision and its last proof of life stay.
pub async fn registering_again_keeps_what_is_placed(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    world.registered(&registration, 5).await;
    world.instance("web", registration.id, 6).await;
    let before = world.node(registration.id).await;
    let smaller = Capacity { cpu_millis: 10, memory_mib: 10, instances: 1 };
    let again = NodeRegistration {
        name: "renamed".to_owned(),
        capacity: smaller,
        boot: BootId::from_uuid(world.uuid()),
        ..registration
    };
    let after = world.registered(&again, 9).await;
    assert_eq!((after.name.as_str(), after.capacity, after.boot), ("renamed", smaller, again.boot));
    assert_eq!((after.used, after.proof_at, after.desired_revision), (before.used, at(5), before.desired_revision));
    assert_eq!(after.used.instances, 1);
    assert_eq!(world.node(after.id).await, after);
}

/// An agent that holds a newer desired state than the store knows would refuse all that comes: the store goes above it.
pub async fn registering_goes_above_what_the_agent_holds(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    let first = world.registered(&registration, 0).await.desired_revision;
    let ahead = NodeRegistration { held_revision: first + 100, ..registration.clone() };
    assert_eq!(world.registered(&ahead, 1).await.desired_revision, first + 101);
    let behind = NodeRegistration { held_revision: first, ..registration.clone() };
    assert_eq!(world.registered(&behind, 2).await.desired_revision, first + 101);
    let id = NodeId::from_uuid(world.uuid());
    let unknown = NodeRegistration { id, held_revision: 7, ..registration };
    assert_eq!(world.registered(&unknown, 3).await.desired_revision, 8);
}

/// A cordon is an operator's word and outlives a restart of the node.
pub async fn registering_wakes_a_silent_node_and_leaves_a_cordoned_one(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let registration = world.registration(CAPACITY);
    world.registered(&registration, 0).await;
    for (state, wanted) in [(NodeState::Silent, NodeState::Ready), (NodeState::Cordoned, NodeState::Cordoned)] {
        assert!(world.store.set_node_state(registration.id, state).await.unwrap());
        assert_eq!(world.node(registration.id).await.state, state);
        assert_eq!(world.registered(&registration, 1).await.state, wanted);
    }
}

/// The latest proof counts, in whichever order they come.
pub async fn proof_of_life_never_goes_back(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    for (proof, wanted) in [(10, 10), (7, 10), (11, 11)] {
        assert_eq!(world.store.prove_life(node, at(proof), 0).await.unwrap(), LifeOutcome::Taken { doubt: None });
        assert_eq!(world.node(node).await.proof_at, at(wanted));
    }
}

/// None and false, never an error and never a new row.
pub async fn unknown_nodes_are_said_to_be_unknown(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let unknown = NodeId::from_uuid(world.uuid());
    assert_eq!(world.store.node(unknown).await.unwrap(), None);
    assert_eq!(world.store.prove_life(unknown, at(1), 0).await.unwrap(), LifeOutcome::Unknown);
    assert!(!world.store.set_node_state(unknown, NodeState::Ready).await.unwrap());
    assert_eq!(world.store.instances_on(unknown).await.unwrap(), None);
    assert_eq!(world.store.nodes().await.unwrap(), []);
}

/// All that are placed there and not deleted, of every tenant; the revision of the same moment.
pub async fn instances_of_a_node_come_with_its_revision(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let other = world.with_tenant("umbrella").await;
    let (here, elsewhere) = (world.node_for(5).await, world.node_for(5).await);
    assert_eq!(world.store.instances_on(here).await.unwrap(), Some(OnNode::default()));
    let first = world.instance("a", here, 1).await;
    let second = other.instance("a", here, 2).await;
    world.instance("b", elsewhere, 3).await;
    let gone = world.instance("c", here, 4).await;
    world.deleted(&gone, 5).await;
    let OnNode { revision, instances, .. } = world.store.instances_on(here).await.unwrap().unwrap();
    assert_eq!(revision, world.node(here).await.desired_revision);
    assert_eq!(instances, [first, second]);
}
