//! Hearing of nodes, doubting what they run, fencing them: of what races, one side learns that it came second.

use tokio::task::JoinSet;
use wherry_model::lifecycle::{self, Ask, Change};
use wherry_model::{Instance, InstanceState, NodeId, NodeState, OnNodeLoss};
use wherry_store::{FenceOutcome, LifeOutcome};

use crate::world::{asked, at};
use crate::{Subject, World, invariants};

async fn prove(world: &World, node: NodeId, second: i64, epoch: u64) -> LifeOutcome {
    world.store.prove_life(node, at(second), epoch).await.unwrap()
}

/// The doubt that the node's next proof of life is told of.
async fn doubt(world: &World, node: NodeId) -> Option<u64> {
    match prove(world, node, 1, world.node(node).await.epoch).await {
        LifeOutcome::Taken { doubt } => doubt,
        other => panic!("a proof of life of the present epoch ended as {other:?}"),
    }
}

/// A running instance that may be replaced.
async fn replaceable(world: &World, name: &str, node: NodeId) -> Instance {
    let placed = world.create_with(name, node, 1, |spec| spec.on_node_loss = OnNodeLoss::Replace);
    world.running(&world.created(&placed).await, 2).await
}

fn lost(instance: &Instance) -> Change {
    lifecycle::lose(instance, at(20), false, at(400)).expect("it may be replaced")
}

/// Each is counted, also one that comes late and those that race; a counted one changes nothing else.
pub async fn every_proof_of_life_is_counted(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    assert_eq!((world.node(node).await.heartbeats, world.node(node).await.epoch), (0, 0));
    for (second, count) in [(10, 1), (7, 2), (11, 3)] {
        assert_eq!(prove(&world, node, second, 0).await, LifeOutcome::Taken { doubt: None });
        assert_eq!(world.node(node).await.heartbeats, count);
    }
    let before = world.node(node).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let world = world.clone();
        tasks.spawn(async move { prove(&world, node, 11, 0).await });
    }
    tasks.join_all().await;
    subject.reopen().await;
    let after = world.on(subject).node(node).await;
    assert_eq!(after, wherry_model::NodeRecord { heartbeats: 23, ..before });
}

/// Neither of an epoch before nor of one to come: it is told the present one, and nothing is stored.
pub async fn a_proof_of_life_of_another_epoch_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    prove(&world, node, 5, 0).await;
    assert_eq!(world.store.fence(node, 1, &[]).await.unwrap(), FenceOutcome::Fenced(1));
    subject.reopen().await;
    let world = world.on(subject);
    let fenced = world.node(node).await;
    assert!(fenced.fenced, "whoever reads the row sees that it was dealt with");
    for epoch in [0, 2, u64::MAX] {
        assert_eq!(prove(&world, node, 9, epoch).await, LifeOutcome::Fenced { epoch: 1 }, "{epoch}");
    }
    assert_eq!(world.node(node).await, fenced);
    assert_eq!(prove(&world, node, 9, 1).await, LifeOutcome::Taken { doubt: None });
    let after = world.node(node).await;
    assert_eq!((after.proof_at, after.heartbeats, after.epoch, after.fenced), (at(9), 2, 1, false));
}

/// By whoever hears the node next, over restarts, until that very one or a later one is resolved.
pub async fn a_doubt_is_told_until_it_is_resolved(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    assert_eq!(doubt(&world, node).await, None);
    // What was never raised is not resolved ahead.
    assert!(world.store.resolve_doubt(node, 99).await.unwrap());
    assert!(world.store.raise_doubt(node).await.unwrap());
    let first = doubt(&world, node).await.expect("a doubt was raised");
    assert!(world.store.raise_doubt(node).await.unwrap());
    let second = doubt(&world, node).await.expect("another doubt was raised");
    assert!(second > first, "{first} {second}");
    assert!(world.store.resolve_doubt(node, first).await.unwrap());
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(doubt(&world, node).await, Some(second));
    assert!(world.store.resolve_doubt(node, second).await.unwrap());
    assert!(world.store.resolve_doubt(node, first).await.unwrap());
    assert_eq!(doubt(&world, node).await, None);
    let unknown = NodeId::from_uuid(world.uuid());
    assert!(!world.store.raise_doubt(unknown).await.unwrap());
    assert!(!world.store.resolve_doubt(unknown, 1).await.unwrap());
}

/// Who resolves one doubt never takes another along that was raised meanwhile.
pub async fn a_doubt_outlives_the_end_of_an_earlier_one(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        let store = world.store.clone();
        tasks.spawn(async move { store.raise_doubt(node).await.unwrap() });
    }
    assert!(tasks.join_all().await.into_iter().all(|found| found));
    let mut known = doubt(&world, node).await.expect("twelve were raised");
    assert!(known >= 12, "doubts share numbers: {known} after twelve");
    for round in 0..12 {
        let (resolve, raise) = (world.store.resolve_doubt(node, known), world.store.raise_doubt(node));
        let (one, other) = if round % 2 == 0 { tokio::join!(resolve, raise) } else { tokio::join!(raise, resolve) };
        assert!(one.unwrap() && other.unwrap());
        let newer = doubt(&world, node).await;
        assert!(newer > Some(known), "round {round}: {newer:?} after {known}");
        known = newer.expect("it was compared");
    }
}

/// A ready node that went silent is ready again when nothing of it is in doubt; an operator's word stays.
pub async fn the_last_resolved_doubt_wakes_a_silent_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    world.store.raise_doubt(node).await.unwrap();
    let first = doubt(&world, node).await.unwrap();
    world.store.set_node_state(node, NodeState::Silent).await.unwrap();
    world.store.raise_doubt(node).await.unwrap();
    world.store.resolve_doubt(node, first).await.unwrap();
    assert_eq!(world.node(node).await.state, NodeState::Silent);
    let second = doubt(&world, node).await.unwrap();
    world.store.resolve_doubt(node, second).await.unwrap();
    assert_eq!(world.node(node).await.state, NodeState::Ready);
    world.store.raise_doubt(node).await.unwrap();
    world.store.set_node_state(node, NodeState::Cordoned).await.unwrap();
    let third = doubt(&world, node).await.unwrap();
    world.store.resolve_doubt(node, third).await.unwrap();
    assert_eq!(world.node(node).await.state, NodeState::Cordoned);
}

/// Epoch, revision and all that is displaced: together, and there after reopening.
pub async fn fencing_stores_all_of_it(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let (first, second) = (replaceable(&world, "a", node).await, replaceable(&world, "b", node).await);
    let kept = world.instance("kept", node, 3).await;
    prove(&world, node, 20, 0).await;
    let before = world.node(node).await;
    let changes = [lost(&first), lost(&second)];
    let outcome = world.store.fence(node, before.heartbeats, &changes).await.unwrap();
    assert_eq!(outcome, FenceOutcome::Fenced(before.epoch + 1));
    subject.reopen().await;
    let world = world.on(subject);
    let after = world.node(node).await;
    assert_eq!((after.epoch, after.heartbeats, after.proof_at), (before.epoch + 1, before.heartbeats, before.proof_at));
    assert!(after.desired_revision > before.desired_revision);
    for change in &changes {
        assert_eq!(change.after.state, InstanceState::Pending);
        assert_eq!(world.read(change.after.id).await, change.after);
        assert_eq!(world.intervals(change.after.id).await[0].end_second, Some(at(20).grid_second()));
    }
    assert_eq!(
        (world.used(node).await, world.store.instances_on(node).await.unwrap().unwrap().instances),
        (1, vec![kept])
    );
    invariants::check(&world.store).await.unwrap();
}

/// Also when nothing there can be replaced: whoever comes back must learn that its lease is over.
pub async fn fencing_without_changes_raises_epoch_and_revision(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    for epoch in 1..4 {
        let before = world.node(node).await;
        assert_eq!(world.store.fence(node, 0, &[]).await.unwrap(), FenceOutcome::Fenced(epoch));
        let after = world.node(node).await;
        assert!(after.desired_revision > before.desired_revision);
        assert_eq!(after.epoch, epoch);
    }
}

/// One proof of life more than was seen, and nothing is stored. A node that is not there is not fenced either.
pub async fn a_node_that_was_heard_is_not_fenced(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let instance = replaceable(&world, "a", node).await;
    let watched = world.node(node).await.heartbeats;
    prove(&world, node, 5, 0).await;
    let (before, events) = (world.node(node).await, world.events().await);
    for heartbeats in [watched, watched + 2] {
        let outcome = world.store.fence(node, heartbeats, &[lost(&instance)]).await.unwrap();
        assert_eq!(outcome, FenceOutcome::Heard, "{heartbeats}");
    }
    assert_eq!((world.node(node).await, world.read(instance.id).await), (before, instance));
    assert_eq!(world.events().await, events);
    let unknown = NodeId::from_uuid(world.uuid());
    assert_eq!(world.store.fence(unknown, 0, &[]).await.unwrap(), FenceOutcome::Heard);
    invariants::check(&world.store).await.unwrap();
}

/// One record that has moved on keeps the others and the epoch where they are.
pub async fn a_fencing_that_loses_a_race_stores_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let (first, second) = (replaceable(&world, "a", node).await, replaceable(&world, "b", node).await);
    let changes = [lost(&first), lost(&second)];
    let stopping = world.applied(asked(&second, Ask::Stop, 30)).await;
    let (before, events) = (world.node(node).await, world.events().await);
    assert_eq!(world.store.fence(node, before.heartbeats, &changes).await.unwrap(), FenceOutcome::LostRace);
    assert_eq!((world.node(node).await, world.events().await), (before.clone(), events));
    assert_eq!((world.read(first.id).await, world.read(second.id).await), (first.clone(), stopping.clone()));
    assert_eq!(prove(&world, node, 40, before.epoch).await, LifeOutcome::Taken { doubt: None });
    // Computed again from what is there now, it is stored.
    let again = [lost(&first), lost(&stopping)];
    let outcome = world.store.fence(node, before.heartbeats + 1, &again).await.unwrap();
    assert_eq!(outcome, FenceOutcome::Fenced(before.epoch + 1));
    invariants::check(&world.store).await.unwrap();
}

/// Either the agent was heard and nothing is displaced, or it was fenced and is told so. Never both, never neither.
pub async fn of_a_proof_of_life_and_a_fencing_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(50).await;
    for round in 0..24 {
        let instance = replaceable(&world, &format!("web-{round}"), node).await;
        let before = world.node(node).await;
        let prover = tokio::spawn({
            let world = world.clone();
            async move { prove(&world, node, 10, before.epoch).await }
        });
        let fencer = tokio::spawn({
            let (store, change) = (world.store.clone(), lost(&instance));
            async move { store.fence(node, before.heartbeats, &[change]).await.unwrap() }
        });
        let (proved, fenced) = (prover.await.unwrap(), fencer.await.unwrap());
        let state = world.read(instance.id).await.state;
        match (proved, fenced) {
            (LifeOutcome::Taken { .. }, FenceOutcome::Heard) => assert_eq!(state, instance.state),
            (LifeOutcome::Fenced { epoch }, FenceOutcome::Fenced(now)) => {
                assert_eq!((epoch, now, state), (before.epoch + 1, epoch, InstanceState::Pending));
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
    invariants::check(&world.store).await.unwrap();
}

/// Replicas that judge the same silence displace once.
pub async fn of_racing_fencings_one_displaces(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let changes = [lost(&replaceable(&world, "a", node).await), lost(&replaceable(&world, "b", node).await)];
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (store, changes) = (world.store.clone(), changes.clone());
        tasks.spawn(async move { store.fence(node, 0, &changes).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == FenceOutcome::Fenced(1)).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == FenceOutcome::LostRace).count(), 9, "{outcomes:?}");
    assert_eq!((world.node(node).await.epoch, world.used(node).await), (1, 0));
    invariants::check(&world.store).await.unwrap();
}

/// In batches: with the same count of heartbeats the next one is stored, in another epoch. Who was heard in between keeps the rest.
pub async fn a_fencing_goes_on_in_epochs_of_its_own(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        instances.push(replaceable(&world, name, node).await);
    }
    assert_eq!(world.store.fence(node, 0, &[lost(&instances[0])]).await.unwrap(), FenceOutcome::Fenced(1));
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.used(node).await, 2, "whoever dies here leaves what was not taken");
    assert_eq!(world.store.fence(node, 0, &[lost(&instances[1])]).await.unwrap(), FenceOutcome::Fenced(2));
    assert_eq!(prove(&world, node, 30, 1).await, LifeOutcome::Fenced { epoch: 2 }, "it may still hold the second");
    assert_eq!(prove(&world, node, 30, 2).await, LifeOutcome::Taken { doubt: None });
    assert_eq!(world.store.fence(node, 0, &[lost(&instances[2])]).await.unwrap(), FenceOutcome::Heard);
    assert_eq!(world.store.instances_on(node).await.unwrap().unwrap().instances, [instances[2].clone()]);
    invariants::check(&world.store).await.unwrap();
}
