//! The change feed over several processes and transactions that commit out of order.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;
use wherry_model::InstanceId;
use wherry_model::lifecycle::Ask;
use wherry_store::{ChangeCursor, ChangeFeed, Changes};
use wherry_store_contract::world::asked;
use wherry_store_contract::{Subject, World};

use crate::support::{PostgresSubject, open};

/// What marks a transaction of ours (`transaction.rs`).
const WRITERS: i32 = 0x7768_6572;

/// Positions move only when something was heard: the poll returns the position that it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_other_replica() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let other = open(&subject.url()).await;
    let heard = async |seen: u64| {
        let mut position = seen;
        while position == seen {
            position = other.changed(seen).await;
        }
        position
    };
    // Its listener is there once it has heard anything.
    let mut number = 0;
    let mut seen = other.position();
    while timeout(Duration::from_secs(2), heard(seen)).await.is_err() {
        number += 1;
        assert!(number < 30, "the listener does not come up");
        world.instance(&format!("early-{number}"), node, 1).await;
    }
    for number in 0..3 {
        seen = other.position();
        world.instance(&format!("web-{number}"), node, 1).await;
        timeout(Duration::from_mins(1), heard(seen)).await.expect("the other replica hears of it");
    }
}

fn ids(changes: &Changes) -> Vec<InstanceId> {
    let mut ids: Vec<InstanceId> = changes.instances.iter().map(|instance| instance.id).collect();
    ids.sort_unstable();
    ids
}

async fn touch(transaction: &mut PgConnection, id: InstanceId) {
    sqlx::query("UPDATE instances SET changed = pg_current_xact_id()::text::bigint WHERE id = $1")
        .bind(id.as_uuid())
        .execute(transaction)
        .await
        .unwrap();
}

/// The trap of every "changed since": an earlier number that is committed later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_commit_is_not_missed() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let (late, early) = (world.instance("late", node, 1).await, world.instance("early", node, 1).await);
    let store = subject.store();
    let cursor = store.cursor().await.unwrap();
    let mut slow = subject.stranger().await;
    let mut slow = slow.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1, 1)").bind(WRITERS).execute(&mut *slow).await.unwrap();
    touch(&mut slow, late.id).await;
    let early = world.applied(asked(&early, Ask::Stop, 2)).await;
    let first = store.changes(cursor, 10).await.unwrap();
    assert_eq!(ids(&first), [early.id]);
    assert!(!first.more);
    slow.commit().await.unwrap();
    let second = store.changes(first.next, 10).await.unwrap();
    assert!(ids(&second).contains(&late.id), "{second:?}");
    // And then there is rest.
    let third = store.changes(second.next, 10).await.unwrap();
    assert_eq!(ids(&third), []);
}

/// A transaction of nobody we know does not make us read everything again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_long_transaction_holds_nobody_up() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let mut stranger = subject.stranger().await;
    let mut theirs = stranger.begin().await.unwrap();
    sqlx::query("CREATE TABLE theirs ()").execute(&mut *theirs).await.unwrap();
    let store = subject.store();
    let cursor = store.cursor().await.unwrap();
    let made = world.applied(asked(&made, Ask::Stop, 2)).await;
    let read = store.changes(cursor, 10).await.unwrap();
    assert_eq!(ids(&read), [made.id]);
    // Transactions that were about to end when the first read was made may be read once more.
    let again = store.changes(read.next, 10).await.unwrap();
    assert_eq!(ids(&store.changes(again.next, 10).await.unwrap()), []);
    theirs.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_come_in_pages() {
    let subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(50).await;
    let store = subject.store();
    let mut cursor = store.cursor().await.unwrap();
    let mut made = Vec::new();
    for number in 0..25 {
        made.push(world.instance(&format!("web-{number}"), node, 1).await.id);
    }
    made.sort_unstable();
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = store.changes(cursor, 4).await.unwrap();
        found.extend(ids(&page));
        pages += 1;
        assert!(pages < 50, "it does not end");
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, made);
    assert!(pages > 3, "{pages} pages");
    // From the beginning of time, too.
    assert_eq!(ids(&store.changes(ChangeCursor::default(), 100).await.unwrap()), made);
}

/// A dump that was put into a server which has counted fewer transactions: its numbers are of the future.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_the_future_are_taken_back_when_a_store_is_opened() {
    let mut subject = PostgresSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    subject.psql("UPDATE instances SET changed = 1000000000000");
    subject.reopen().await;
    let store = subject.store();
    let cursor = store.cursor().await.unwrap();
    assert!(cursor.0 < 1_000_000_000_000);
    assert_eq!(ids(&store.changes(cursor, 10).await.unwrap()), []);
    let made = world.on(&subject).applied(asked(&made, Ask::Stop, 2)).await;
    assert_eq!(ids(&store.changes(cursor, 10).await.unwrap()), [made.id]);
}
