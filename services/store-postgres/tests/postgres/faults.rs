//! A server that restarts (F07), freezes (F08), or ends sessions, under a store that is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wherry_model::lifecycle::Ask;
use wherry_pg_cluster::{Cluster, Settings, Stop};
use wherry_store::{Applied, CreateOutcome, Store, StoreError};
use wherry_store_contract::world::asked;
use wherry_store_contract::{World, invariants};
use wherry_store_postgres::PostgresStore;

use crate::support::{PostgresSubject, open};

/// A server of its own, with a migrated database and a world in it.
pub(crate) async fn own_server(settings: &Settings) -> (Cluster, String, World) {
    let cluster = Cluster::start(settings).expect("a server can be started");
    let database = cluster.create_database().unwrap();
    PostgresStore::migrate(&cluster.url(&database)).await.unwrap();
    let world = world(open(&cluster.url(&database)).await).await;
    (cluster, database, world)
}

pub(crate) async fn world(store: Arc<dyn Store>) -> World {
    let nil = uuid::Uuid::nil();
    let bare = World::bare(store, wherry_model::TenantId::from_uuid(nil), wherry_model::ProjectId::from_uuid(nil));
    bare.store.put_price_book(&wherry_model::PriceBook::default_book()).await.unwrap();
    bare.with_tenant("acme").await
}

/// Creates with a key until the answer is there, as a client would; how often it was told to try again.
async fn create_surely(world: &World, name: &str, node: wherry_model::NodeId) -> usize {
    let mut placed = world.create(name, node, 1);
    placed.idempotency = Some((name.to_owned(), [3; 32]));
    let mut refusals = 0;
    loop {
        match world.store.place_and_create(&placed).await {
            Ok(CreateOutcome::Created(made) | CreateOutcome::Replayed(made)) => {
                assert_eq!(made.id, placed.change.after.id);
                return refusals;
            }
            Ok(other) => panic!("the create of {name} ended as {other:?}"),
            Err(error) => {
                assert!(error.is_retryable(), "{name}: {error:?}");
                refusals += 1;
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// F07. Every create that was acknowledged is there, once, whatever moment the server was cut off at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_loses_nothing_acknowledged() {
    let (cluster, _, world) = own_server(&Settings::default()).await;
    let cluster = Arc::new(cluster);
    let node = world.node_for(100_000).await;
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (world, done, acknowledged) = (world.clone(), Arc::clone(&done), Arc::clone(&acknowledged));
        clients.spawn(async move {
            let mut names = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let name = format!("web-{client}-{}", names.len());
                create_surely(&world, &name, node).await;
                names.push(name);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            names
        });
    }
    for how in [Stop::Immediate, Stop::Fast, Stop::Immediate] {
        let before = acknowledged.load(Ordering::Relaxed);
        let began = Instant::now();
        while acknowledged.load(Ordering::Relaxed) < before + 30 {
            assert!(began.elapsed() < Duration::from_mins(1), "no creates after a restart");
            sleep(Duration::from_millis(10)).await;
        }
        let cluster = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || {
            cluster.stop(how).unwrap();
            cluster.start_again().unwrap();
        })
        .await
        .unwrap();
    }
    let before = acknowledged.load(Ordering::Relaxed);
    while acknowledged.load(Ordering::Relaxed) < before + 30 {
        sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    let names: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    for name in &names {
        let name = wherry_store_contract::world::name(name);
        let found = world.store.instance_by_name(world.tenant, world.project, &name).await.unwrap();
        assert!(found.is_some(), "{name} was acknowledged and is gone");
    }
    assert_eq!(usize::try_from(world.used(node).await).unwrap(), names.len());
    assert_eq!(world.events().await.len(), names.len());
    invariants::check(&world.store).await.unwrap();
}

/// F08. Calls end in time, say that trying again is right, and go on by themselves; nothing piles up at the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_unavailable_in_time_and_recovers() {
    let (cluster, database, world) = own_server(&Settings::default()).await;
    let node = world.node_for(1_000).await;
    let made = world.instance("web", node, 1).await;
    cluster.freeze();
    let mut calls = JoinSet::new();
    for number in 0..40 {
        let (world, made) = (world.clone(), made.clone());
        calls.spawn(async move {
            match number % 4 {
                0 => world.store.instance(world.tenant, made.id).await.map(drop),
                1 => world.store.apply(&asked(&made, Ask::Stop, 2)).await.map(drop),
                2 => world.store.nodes().await.map(drop),
                _ => world.store.place_and_create(&world.create(&format!("new-{number}"), node, 2)).await.map(drop),
            }
        });
    }
    let outcomes = timeout(Duration::from_mins(1), calls.join_all()).await.expect("every call ends");
    for outcome in outcomes {
        let refused: StoreError = outcome.expect_err("a frozen server answers nothing");
        assert!(refused.is_retryable(), "{refused:?}");
    }
    cluster.thaw();
    let began = Instant::now();
    while world.store.nodes().await.is_err() {
        assert!(began.elapsed() < Duration::from_mins(1), "it does not recover");
    }
    for number in 0..20 {
        create_surely(&world, &format!("after-{number}"), node).await;
    }
    // Of the frozen creates some may have been stored; the records say which. No more sessions than the pool and its ear.
    invariants::check(&world.store).await.unwrap();
    let began = Instant::now();
    loop {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wherry'";
        let sessions: u32 = cluster.psql(&database, sessions).unwrap().trim().parse().unwrap();
        if sessions <= 11 {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{sessions} sessions");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sessions that an operator or a proxy ends, one by one: no call fails for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_are_replaced() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(1_000).await;
    for round in 0..5 {
        // All of the pool is in use, and warm.
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let world = world.clone();
            tasks.spawn(async move { world.instance(&format!("web-{round}-{number}"), node, 1).await });
        }
        tasks.join_all().await;
        subject.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert_eq!(world.store.nodes().await.unwrap().len(), 1);
    }
    assert_eq!(world.used(node).await, 100);
    invariants::check(&world.store).await.unwrap();
}

/// A caller that goes away holds up nobody, and what it began is done or not done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_transaction() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(1_000).await;
    for round in 0..10_u64 {
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let placed = world.create(&format!("web-{round}-{number}"), node, 1);
            let store = world.store.clone();
            tasks.spawn(async move { store.place_and_create(&placed).await.map(drop) });
        }
        sleep(Duration::from_micros(round * 1_500)).await;
        tasks.shutdown().await;
        let next = format!("next-{round}");
        timeout(Duration::from_secs(30), world.instance(&next, node, 2)).await.expect("others go on");
    }
    invariants::check(&world.store).await.unwrap();
    assert_eq!(world.events().await.len(), usize::try_from(world.used(node).await).unwrap());
}

/// A stranger that sits on a row: calls end in time, and have done nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_is_unavailable_in_time() {
    use sqlx::Connection;
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let mut stranger = subject.stranger().await;
    let mut theirs = stranger.begin().await.unwrap();
    sqlx::query("SELECT * FROM nodes FOR UPDATE").execute(&mut *theirs).await.unwrap();
    let (stop, create) = (asked(&made, Ask::Delete, 2), world.create("db", node, 2));
    let both = async { tokio::join!(world.store.apply(&stop), world.store.place_and_create(&create)) };
    let (stopped, created) = timeout(Duration::from_secs(30), both).await.expect("they end");
    let (stopped, created) = (stopped.unwrap_err(), created.unwrap_err());
    assert!(stopped.is_retryable() && created.is_retryable(), "{stopped:?} {created:?}");
    // Reads go on meanwhile, and see nothing of it.
    assert_eq!(world.read(made.id).await, made);
    theirs.rollback().await.unwrap();
    assert_eq!(world.store.apply(&stop).await.unwrap(), Applied::Yes);
    world.created(&create).await;
    invariants::check(&world.store).await.unwrap();
}
