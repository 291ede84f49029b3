//! Serialization failures and deadlocks (F10): whole transactions are run again, a bounded number of times.

use sqlx::Connection;
use wherry_model::lifecycle::Ask;
use wherry_store::{Applied, CreateOutcome};
use wherry_store_contract::world::asked;
use wherry_store_contract::{Subject, World, invariants};

use crate::support::{PostgresSubject, until};

/// Lets the first `$failures` inserts of an instance fail; a sequence counts them, because it is not rolled back.
fn fail(subject: &PostgresSubject, failures: u32, sqlstate: &str) {
    subject.psql(&format!(
        "CREATE SEQUENCE tried;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('tried') <= {failures} THEN
                 RAISE EXCEPTION USING ERRCODE = '{sqlstate}';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION fail();"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collision_is_run_again_as_a_whole() {
    for sqlstate in ["40001", "40P01"] {
        let subject = PostgresSubject::new().await;
        let world = World::new(&subject).await;
        let node = world.node_for(5).await;
        fail(&subject, 3, sqlstate);
        let mut placed = world.create("web", node, 1);
        placed.idempotency = Some(("key".to_owned(), [1; 32]));
        assert!(matches!(world.store.place_and_create(&placed).await.unwrap(), CreateOutcome::Created(_)));
        assert_eq!(subject.psql("SELECT last_value FROM tried"), "4\n");
        assert_eq!((world.used(node).await, world.events().await.len()), (1, 1));
        invariants::check(&world.store).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collisions_without_end_are_told() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    fail(&subject, 1_000, "40001");
    let refused = world.store.place_and_create(&world.create("web", node, 1)).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
    let tried: u32 = subject.psql("SELECT last_value FROM tried").trim().parse().unwrap();
    assert!((2..=10).contains(&tried), "{tried} attempts");
    assert_eq!(world.used(node).await, 0);
    invariants::check(&world.store).await.unwrap();
}

/// Another error is nobody's collision: it is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_rule_is_not_tried_again() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    fail(&subject, 1_000, "23514");
    let refused = world.store.place_and_create(&world.create("web", node, 1)).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused:?}");
    assert_eq!(subject.psql("SELECT last_value FROM tried"), "1\n");
}

/// A real one, with a session that takes locks in the other order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_survived() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let mut stranger = subject.stranger().await;
    let mut theirs = stranger.begin().await.unwrap();
    sqlx::query("SELECT * FROM nodes FOR UPDATE").execute(&mut *theirs).await.unwrap();
    let stop = asked(&made, Ask::Stop, 2);
    let ours = tokio::spawn({
        let (store, stop) = (subject.store(), stop.clone());
        async move { store.apply(&stop).await }
    });
    let mut observer = subject.stranger().await;
    until(
        &mut observer,
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'wherry' AND wait_event_type = 'Lock')",
    )
    .await;
    // Now each waits for the other, and the server ends one of the two.
    let locked = sqlx::query("SELECT * FROM instances FOR UPDATE").execute(&mut *theirs).await;
    drop(locked);
    theirs.rollback().await.unwrap();
    assert_eq!(ours.await.unwrap().unwrap(), Applied::Yes);
    assert_eq!(world.read(made.id).await, stop.after);
    invariants::check(&world.store).await.unwrap();
}

/// Writers that touch the same rows in any order wait for each other, and none is ended for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_are_taken_in_one_order() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(world.node_for(500).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..8_usize {
        let (world, nodes) = (world.clone(), nodes.clone());
        tasks.spawn(async move {
            for number in 0..15_usize {
                let node = nodes[(client + number) % nodes.len()];
                let made = world.instance(&format!("web-{client}-{number}"), node, 1).await;
                world.applied(asked(&made, Ask::Delete, 2)).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(subject.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), "0\n");
    invariants::check(&world.store).await.unwrap();
}
