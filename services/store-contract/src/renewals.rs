//! What changes about an instance in place: restarts, another spec, the end of its time.

use tokio::task::JoinSet;
use wherry_model::lifecycle::{Ask, expire, restart, update};
use wherry_model::{CpuMillis, InstanceState};
use wherry_store::Applied;

use crate::world::{asked, at, exited, seen};
use crate::{Subject, World, invariants};

/// The row, the record and the meter say the same, before and after; each interval keeps the amounts of its time.
pub async fn another_amount_is_taken_from_the_same_node(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    world.instance("neighbour", node, 1).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let before = world.node(node).await.used;
    let mut spec = running.spec.clone();
    let more = spec.containers[0].cpu.get() * 2;
    spec.containers[0].cpu = CpuMillis::new(more);
    let updated = world.applied(update(&running, &spec, "key:test", at(7)).unwrap().unwrap()).await;
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.read(running.id).await, updated);
    let after = world.node(node).await.used;
    assert_eq!((after.cpu_millis - before.cpu_millis, after.instances), (u64::from(more / 2), before.instances));
    let intervals = world.intervals(running.id).await;
    let seen: Vec<_> = intervals.iter().map(|one| (one.cpu.get(), one.start_second, one.end_second)).collect();
    let [begin, change] = [at(2), at(7)].map(wherry_model::Timestamp::grid_second);
    assert_eq!(seen, [(more / 2, begin, Some(change)), (more, change, None)]);
    world.deleted(&updated, 9).await;
    assert_eq!(world.node(node).await.used.cpu_millis, before.cpu_millis - u64::from(more / 2));
    invariants::check(&world.store).await.unwrap();
}

/// Its machine is the referee, and nothing of the change is stored when that has no room.
pub async fn an_amount_that_does_not_fit_changes_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(2).await;
    world.instance("neighbour", node, 1).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let (row, intervals) = (world.node(node).await, world.intervals(running.id).await);
    let mut spec = running.spec.clone();
    spec.containers[0].cpu = CpuMillis::new(spec.containers[0].cpu.get() + 1);
    let change = update(&running, &spec, "key:test", at(7)).unwrap().unwrap();
    assert_eq!(world.store.apply(&change).await.unwrap(), Applied::NodeRefused);
    assert_eq!(world.read(running.id).await, running);
    assert_eq!((world.node(node).await.used, world.intervals(running.id).await), (row.used, intervals));
    // Less always fits.
    spec.containers[0].cpu = CpuMillis::new(running.spec.containers[0].cpu.get() - 1);
    world.applied(update(&running, &spec, "key:test", at(8)).unwrap().unwrap()).await;
    invariants::check(&world.store).await.unwrap();
}

/// Neither changes generation, action or digest, and both are the node's to do.
pub async fn nodes_are_told_of_restarts_and_updates(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let revision = world.node(node).await.desired_revision;
    let restarted = world.applied(restart(&running, None, false, "key:test", at(3)).unwrap().unwrap()).await;
    let after_restart = world.node(node).await.desired_revision;
    assert!(after_restart > revision);
    let mut spec = restarted.spec.clone();
    spec.deadline_seconds = Some(60);
    world.applied(update(&restarted, &spec, "key:test", at(4)).unwrap().unwrap()).await;
    assert!(world.node(node).await.desired_revision > after_restart);
}

/// Of every tenant, the earliest first, no more than asked for; not before its time, not what was started again.
pub async fn whose_time_is_over_is_found(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(10).await, world.with_tenant("umbrella").await);
    let mut ended = Vec::new();
    for (world, name, kept, end) in [(&world, "late", 100, 10), (&other, "early", 5, 12), (&world, "again", 1, 11)] {
        let running = world.running(&world.instance(name, node, 1).await, 2).await;
        let mut spec = running.spec.clone();
        spec.ttl_seconds = Some(kept);
        let running = world.applied(update(&running, &spec, "key:test", at(3)).unwrap().unwrap()).await;
        ended.push(world.applied(seen(&running, end, exited(1, 2, end, 0))).await);
    }
    let [late, early, again] = [&ended[0], &ended[1], &ended[2]];
    let gone = world.applied(seen(again, 12, wherry_model::Fact::SandboxStopped)).await;
    world.applied(asked(&gone, Ask::Start(node), 12)).await;
    world.instance("for ever".replace(' ', "-").as_str(), node, 1).await;
    subject.reopen().await;
    let world = world.on(subject);
    let ids = async |second, limit| -> Vec<_> {
        world.store.expired(at(second), limit).await.unwrap().into_iter().map(|one| one.id).collect()
    };
    assert_eq!(ids(16, 10).await, []);
    assert_eq!(ids(17, 10).await, [early.id]);
    assert_eq!(ids(110, 10).await, [early.id, late.id]);
    assert_eq!(ids(110, 1).await, [early.id]);
    assert_eq!(world.store.expired(at(17), 10).await.unwrap(), std::slice::from_ref(early));
    world.applied(expire(early, at(17)).unwrap()).await;
    assert_eq!(ids(110, 10).await, [late.id]);
}

/// However many replicas find it.
pub async fn racing_expiries_delete_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let mut spec = running.spec.clone();
    spec.ttl_seconds = Some(1);
    let running = world.applied(update(&running, &spec, "key:test", at(3)).unwrap().unwrap()).await;
    let ended = world.applied(seen(&running, 4, exited(1, 2, 4, 0))).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, change) = (world.store.clone(), expire(&ended, at(5)).unwrap());
        tasks.spawn(async move { store.apply(&change).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Applied::Yes).count(), 1);
    assert_eq!(world.read(ended.id).await.state, InstanceState::Deleting);
    invariants::check(&world.store).await.unwrap();
}
