//! The one writer: callers that go away, neighbours that fail, strangers that hold the lock.

use std::time::{Duration, Instant};

use sqlx::ConnectOptions;
use tokio::task::JoinSet;
use wherry_model::lifecycle::Ask;
use wherry_store::{Applied, CreateOutcome, NodeStore, StoreError};
use wherry_store_contract::world::{asked, edges};
use wherry_store_contract::{World, invariants};

use crate::support::{SqliteSubject, raw};

/// A dropped call is done or not done, never half; and it holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_transaction() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(500).await;
    for round in 0..10_u32 {
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let placed = world.create(&format!("web-{round}-{number}"), node, 1);
            let store = world.store.clone();
            tasks.spawn(async move { store.place_and_create(&placed).await.unwrap() });
        }
        // Somewhere between not begun and all done, different in each round.
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 300)).await;
        tasks.shutdown().await;
        let name = format!("next-{round}");
        let next = world.instance(&name, node, 2);
        tokio::time::timeout(Duration::from_secs(2), next).await.expect("the writer goes on");
    }
    invariants::check(&world.store).await.unwrap();
    assert_eq!(world.events().await.len(), usize::try_from(world.used(node).await).unwrap());
}

/// Units that share a transaction share no failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_neighbour_harms_nobody() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(500).await;
    let victim = world.instance("victim", node, 1).await;
    let mut bug = edges(&victim, Vec::new());
    bug.takes = Some(node);
    let mut tasks = JoinSet::new();
    for number in 0..90 {
        let (world, bug) = (world.clone(), bug.clone());
        tasks.spawn(async move {
            if number % 3 == 0 {
                let refused = world.store.apply(&bug).await;
                assert!(matches!(refused, Err(StoreError::Violation { .. })), "{refused:?}");
            } else if number % 3 == 1 {
                let taken = world.store.place_and_create(&world.create("victim", node, 1)).await.unwrap();
                assert_eq!(taken, CreateOutcome::NameTaken);
            } else {
                world.instance(&format!("web-{number}"), node, 1).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!((world.used(node).await, world.events().await.len()), (31, 31));
    assert_eq!(world.read(victim.id).await, victim);
    invariants::check(&world.store).await.unwrap();
}

/// Another process in a long transaction: calls fail in time, say that trying again is right, and have done nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_is_unavailable_in_time() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let mut stranger = raw(&subject.path()).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.unwrap();
    let began = Instant::now();
    let stop = asked(&made, Ask::Stop, 2);
    let create = world.create("db", node, 2);
    let (stopped, created) = tokio::join!(world.store.apply(&stop), world.store.place_and_create(&create));
    let (stopped, created) = (stopped.unwrap_err(), created.unwrap_err());
    assert!(stopped.is_retryable() && created.is_retryable(), "{stopped:?} {created:?}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    // Reads go on meanwhile, and see nothing of it.
    assert_eq!(world.read(made.id).await, made);
    sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    assert_eq!(world.events().await.len(), 1);
    assert_eq!(world.store.apply(&stop).await.unwrap(), Applied::Yes);
    world.created(&create).await;
    invariants::check(&world.store).await.unwrap();
}

/// What was queued before is carried out, what comes later is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_refuses_and_loses_nothing() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(500).await;
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let placed = world.create(&format!("web-{number}"), node, 1);
        let store = world.store.clone();
        tasks.spawn(async move { store.place_and_create(&placed).await });
    }
    tokio::time::sleep(Duration::from_millis(3)).await;
    let (folder, path) = subject.closed().await;
    let outcomes = tasks.join_all().await;
    let made = outcomes.iter().filter(|outcome| matches!(outcome, Ok(CreateOutcome::Created(_)))).count();
    assert!(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(StoreError::is_retryable), "{outcomes:?}");
    let store = wherry_store_sqlite::SqliteStore::open(&path).await.unwrap();
    let node = store.node(node).await.unwrap().unwrap();
    assert_eq!(usize::try_from(node.used.instances).unwrap(), made);
    drop(folder);
}
