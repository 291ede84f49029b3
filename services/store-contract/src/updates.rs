//! Guarded changes: all of a change or nothing, and of two that race one is computed again.

use tokio::task::JoinSet;
use wherry_model::lifecycle::{Ask, Change};
use wherry_model::{Fact, Instance, NodeState};
use wherry_store::{Applied, StoreError};

use crate::world::{asked, edges, exited, seen, started};
use crate::{Subject, World, invariants};

async fn apply(world: &World, change: &Change) -> Applied {
    world.store.apply(change).await.unwrap()
}

/// An instance that has run and is stopped: it holds nothing, its address is gone.
async fn stopped(world: &World, instance: &Instance, second: i64) -> Instance {
    let stopping = world.applied(asked(instance, Ask::Stop, second)).await;
    world.applied(seen(&stopping, second + 1, Fact::SandboxStopped)).await
}

/// Record, resources, meter and events, also after reopening.
pub async fn a_change_stores_all_of_it(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    assert_eq!(world.read(running.id).await, running);
    let stopped = stopped(&world, &running, 5).await;
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.read(running.id).await, stopped);
    assert_eq!((world.used(node).await, world.intervals(running.id).await.len()), (0, 1));
    let kinds: Vec<_> = world.events().await.iter().map(|event| event.event.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "container_started", "stop_requested", "stopped"]);
    invariants::check(&world.store).await.unwrap();
}

/// A change that was computed from an older record stores nothing.
pub async fn a_late_change_loses(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let first = world.instance("web", node, 1).await;
    let late = seen(&first, 2, started(1, 2));
    let now = world.applied(asked(&first, Ask::Delete, 2)).await;
    let (events, revision) = (world.events().await, world.node(node).await.desired_revision);
    assert_eq!(apply(&world, &late).await, Applied::LostRace);
    assert_eq!(world.read(first.id).await, now);
    assert_eq!((world.events().await, world.node(node).await.desired_revision), (events, revision));
    assert_eq!(world.intervals(first.id).await, []);
    // A change from the future is as wrong.
    let mut early = asked(&first, Ask::Stop, 3);
    early.from.0 += 7;
    assert_eq!(apply(&world, &early).await, Applied::LostRace);
}

/// However many are computed from the same record.
pub async fn of_racing_changes_one_wins(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let instance = world.instance("web", node, 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let change = if number % 2 == 0 { asked(&instance, Ask::Stop, 2) } else { seen(&instance, 2, started(1, 2)) };
        let store = world.store.clone();
        tasks.spawn(async move { store.apply(&change).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Applied::Yes).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Applied::LostRace).count(), 15);
    assert_eq!(world.events().await.len(), 2);
    invariants::check(&world.store).await.unwrap();
}

/// One that was never created, or is purged, is a lost race.
pub async fn changes_of_unknown_instances_lose(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let never_created = world.create("web", node, 1).change.after;
    assert_eq!(apply(&world, &asked(&never_created, Ask::Stop, 2)).await, Applied::LostRace);
    assert_eq!(world.store.instance_of_any_tenant(never_created.id).await.unwrap(), None);
}

/// A repeated release changes nothing: neither the same change again nor another one from the same record.
pub async fn resources_are_given_back_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    world.instance("neighbour", node, 1).await;
    let running = world.running(&world.instance("web", node, 1).await, 2).await;
    let stopping = world.applied(asked(&running, Ask::Stop, 3)).await;
    assert_eq!(world.used(node).await, 2);
    let release = seen(&stopping, 4, Fact::SandboxStopped);
    assert_eq!(release.releases, Some(node));
    assert_eq!(apply(&world, &release).await, Applied::Yes);
    assert_eq!(world.used(node).await, 1);
    assert_eq!(apply(&world, &release).await, Applied::LostRace);
    // Deleted later: it holds nothing any more, so nothing is given back again.
    world.deleted(&release.after, 6).await;
    assert_eq!(world.used(node).await, 1);
    invariants::check(&world.store).await.unwrap();
}

/// A start on a node that has no room, or does not take new instances, leaves the record as it was.
pub async fn a_start_takes_again_or_changes_nothing(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let stopped = stopped(&world, &world.instance("web", node, 1).await, 2).await;
    let rival = world.instance("rival", node, 4).await;
    let (events, revision) = (world.events().await, world.node(node).await.desired_revision);
    let start = asked(&stopped, Ask::Start(node), 5);
    assert_eq!(apply(&world, &start).await, Applied::NodeRefused);
    assert_eq!(world.read(stopped.id).await, stopped);
    assert_eq!((world.events().await, world.node(node).await.desired_revision), (events, revision));
    world.deleted(&rival, 6).await;
    world.store.set_node_state(node, NodeState::Cordoned).await.unwrap();
    assert_eq!(apply(&world, &start).await, Applied::NodeRefused);
    world.store.set_node_state(node, NodeState::Ready).await.unwrap();
    assert_eq!(apply(&world, &start).await, Applied::Yes);
    assert_eq!(world.used(node).await, 1);
    invariants::check(&world.store).await.unwrap();
}

/// The old node learns that it is not its any more, the new one that it is.
pub async fn a_start_elsewhere_tells_both_nodes(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (old, new) = (world.node_for(5).await, world.node_for(5).await);
    let stopped = stopped(&world, &world.instance("web", old, 1).await, 2).await;
    let before = (world.node(old).await.desired_revision, world.node(new).await.desired_revision);
    let moved = world.applied(asked(&stopped, Ask::Start(new), 5)).await;
    let after = (world.node(old).await.desired_revision, world.node(new).await.desired_revision);
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    assert_eq!((world.used(old).await, world.used(new).await), (0, 1));
    assert_eq!(world.store.instances_on(old).await.unwrap().unwrap().instances, []);
    assert_eq!(world.store.instances_on(new).await.unwrap().unwrap().instances, [moved]);
}

/// Each change of what a node must do raises its revision: create, pinned digest, stop, start, an end, delete, removal.
pub async fn nodes_are_told_what_they_must_do(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let mut instance = world.instance("web", node, 1).await;
    let mut revision = world.node(node).await.desired_revision;
    let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
    let pulled = Fact::Pulled { container: crate::world::main_container(), digest, cached: false };
    type Step<'s> = &'s dyn Fn(&Instance) -> Change;
    let steps: [(&str, Step<'_>); 7] = [
        ("pulled", &|instance| seen(instance, 2, pulled.clone())),
        ("stop", &|instance| asked(instance, Ask::Stop, 3)),
        ("stopped", &|instance| seen(instance, 4, Fact::SandboxStopped)),
        ("start", &|instance| asked(instance, Ask::Start(node), 5)),
        ("ended", &|instance| seen(instance, 7, exited(instance.first_run, 6, 7, 0))),
        ("delete", &|instance| asked(instance, Ask::Delete, 8)),
        ("removed", &|instance| seen(instance, 9, Fact::Removed)),
    ];
    for (step, change) in steps {
        instance = world.applied(change(&instance)).await;
        let now = world.node(node).await.desired_revision;
        // A stop that is done leaves the node the same order as before: keep it stopped.
        assert!(now > revision || (step == "stopped" && now == revision), "{step}: {revision} to {now}");
        revision = now;
    }
}

/// A caller's bug is an error that stores nothing; it never takes from a neighbour's account.
pub async fn giving_back_what_is_not_held_is_refused(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    world.instance("neighbour", node, 1).await;
    let stopped = stopped(&world, &world.instance("web", node, 1).await, 2).await;
    let mut change = edges(&stopped, Vec::new());
    change.releases = Some(node);
    let refused = world.store.apply(&change).await;
    assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
    assert_eq!((world.used(node).await, world.read(stopped.id).await), (1, stopped));
}
