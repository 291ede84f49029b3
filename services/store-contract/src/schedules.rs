//! Instances with a schedule: nowhere until their time, found when it has come, begun once.

use tokio::task::JoinSet;
use wherry_model::lifecycle::{due, intend, postpone, run};
use wherry_model::{Instance, InstanceState, Schedule, Timestamp};
use wherry_store::{Applied, CreateOutcome, Placed};

use crate::Subject;
use crate::invariants;
use crate::world::{self, World};

/// Seconds at the beginning of a minute.
const MINUTE: i64 = 20;

/// The moment `seconds` after a whole minute.
const fn at(seconds: i64) -> Timestamp {
    world::at(MINUTE + seconds)
}

/// Begins each whole minute.
async fn minutely(world: &World, name: &str, second: i64) -> Instance {
    world.created(&scheduled(world, name, second)).await
}

fn scheduled(world: &World, name: &str, second: i64) -> Placed {
    world.create_waiting(name, MINUTE + second, |spec| spec.schedule = Some(Schedule::new("* * * * *", "UTC")))
}

/// It has no place, so it needs none: also when every node is full, or there is none at all.
pub async fn an_instance_that_waits_for_its_time_is_nowhere(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(1).await;
    let full = world.instance("full", node, 1).await;
    let revision = world.node(node).await.desired_revision;
    let made = minutely(&world, "job", 2).await;
    assert_eq!((made.node, made.holds_resources, made.state), (None, false, InstanceState::Stopped));
    assert_eq!(world.node(node).await.desired_revision, revision, "no node is told");
    let outcome = world.store.place_and_create(&scheduled(&world, "job", 3)).await.unwrap();
    assert_eq!(outcome, CreateOutcome::NameTaken);
    let keyed = |name: &str| Placed { idempotency: Some(("key".to_owned(), [7; 32])), ..scheduled(&world, name, 4) };
    let first = world.created(&keyed("keyed")).await;
    let again = world.store.place_and_create(&keyed("keyed")).await.unwrap();
    assert_eq!(again, CreateOutcome::Replayed(Box::new(first)));
    subject.reopen().await;
    let world = world.on(subject);
    assert_eq!(world.read(made.id).await, made);
    assert_eq!(world.read(full.id).await.node, Some(node));
    invariants::check(&world.store).await.unwrap();
}

/// By the time at which the schedule asks for something, whichever tenant's it is.
pub async fn what_is_due_is_found(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let (node, other) = (world.node_for(10).await, world.with_tenant("umbrella").await);
    let late = minutely(&world, "late", 61).await;
    let early = minutely(&other, "early", 1).await;
    let gone = minutely(&world, "gone", 2).await;
    world.applied(intend(&gone, wherry_model::lifecycle::Ask::Delete, "key:test", at(3)).unwrap().unwrap()).await;
    world.instance("ever", node, 1).await;
    subject.reopen().await;
    let world = world.on(subject);
    let ids = async |second, limit| -> Vec<_> {
        world.store.due(at(second), limit).await.unwrap().into_iter().map(|one| one.id).collect()
    };
    assert_eq!(ids(59, 10).await, []);
    assert_eq!(ids(60, 10).await, [early.id]);
    assert_eq!(ids(120, 10).await, [early.id, late.id]);
    assert_eq!(ids(120, 1).await, [early.id]);
    assert_eq!(world.store.due(at(60), 10).await.unwrap(), std::slice::from_ref(&early));
    // One that cannot be begun is looked at again later, behind who came after it.
    let waits = world.applied(postpone(&early, "no machine has room", at(120)).unwrap()).await;
    assert_eq!(ids(120, 10).await, [late.id]);
    assert_eq!(ids(121, 10).await, [late.id, waits.id]);
    let runs = world.applied(run(&waits, node, at(121)).unwrap()).await;
    assert_eq!((runs.state, runs.node), (InstanceState::Scheduled, Some(node)));
    assert_eq!(ids(179, 10).await, [late.id]);
    invariants::check(&world.store).await.unwrap();
}

/// However many replicas find it.
pub async fn racing_runs_begin_once(subject: &mut impl Subject) {
    let world = World::new(subject).await;
    let node = world.node_for(5).await;
    let made = minutely(&world, "job", 2).await;
    let used = world.used(node).await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, change) = (world.store.clone(), run(&made, node, at(60)).unwrap());
        tasks.spawn(async move { store.apply(&change).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Applied::Yes).count(), 1);
    let runs = world.read(made.id).await;
    assert_eq!((runs.state, runs.generation.0), (InstanceState::Scheduled, 2));
    assert_eq!(world.used(node).await, used + 1);
    assert_eq!(due(&runs, at(60)), wherry_model::lifecycle::Due::Nothing);
    invariants::check(&world.store).await.unwrap();
}
