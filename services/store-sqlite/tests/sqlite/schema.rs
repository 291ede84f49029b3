//! What the schema itself forbids, tried past all of the store's code.

use sqlx::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions};
use wherry_model::PriceBook;
use wherry_model::lifecycle::{MeterEdge, MeterKind};
use wherry_store_contract::World;
use wherry_store_contract::world::{at, edges, name};

use crate::support::{SqliteSubject, raw};

/// A database with one closed interval [10, 20) and one open one [30, …), and a connection to it that may do anything.
async fn metered() -> (SqliteSubject, World, SqliteConnection) {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let kind = MeterKind::Run;
    let meter = vec![
        MeterEdge::Open { kind, at: at(10), late: false },
        MeterEdge::Close { kind, at: at(20) },
        MeterEdge::Open { kind, at: at(30), late: false },
    ];
    world.applied(edges(&made, meter)).await;
    let connection = raw(&subject.path()).connect().await.expect("it can be opened twice");
    (subject, world, connection)
}

/// The constraint or trigger that refused the statement; empty when it was done.
async fn refusal(connection: &mut SqliteConnection, statement: String) -> String {
    match sqlx::query(AssertSqlSafe(statement)).execute(connection).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn insert(number: u32, start: i64, end: Option<i64>) -> String {
    let zero = at(0).grid_second();
    let end = end.map_or("NULL".to_owned(), |end| (zero + end).to_string());
    format!(
        "INSERT INTO intervals SELECT instance, kind, {number}, tenant, project, name, node, generation, cpu_millis, \
         memory_mib, price_book, {}, {end}, late FROM intervals WHERE number = 1",
        zero + start
    )
}

#[tokio::test]
async fn intervals_never_overlap() {
    let (_subject, _world, mut connection) = metered().await;
    for (start, end) in [(10, Some(20)), (15, Some(16)), (5, Some(11)), (19, Some(25)), (5, Some(25)), (5, None)] {
        let refused = refusal(&mut connection, insert(9, start, end)).await;
        assert!(refused.contains("intervals_do_not_overlap"), "[{start}, {end:?}): {refused:?}");
    }
    let second_open = refusal(&mut connection, insert(9, 25, None)).await;
    assert!(second_open.contains("intervals_do_not_overlap"), "{second_open:?}");
    // Neighbours touch, and an empty one is nowhere.
    for (number, start, end) in [(10, 20, Some(30)), (11, 5, Some(10)), (12, 15, Some(15)), (13, 40, Some(40))] {
        assert_eq!(refusal(&mut connection, insert(number, start, end)).await, "", "[{start}, {end:?})");
    }
}

#[tokio::test]
async fn a_closed_interval_stays_as_it_is() {
    let (_subject, _world, mut connection) = metered().await;
    for statement in [
        "UPDATE intervals SET end_second = end_second + 1 WHERE number = 1",
        "UPDATE intervals SET end_second = NULL WHERE number = 1",
        "UPDATE intervals SET cpu_millis = 1 WHERE number = 1",
        "UPDATE intervals SET start_second = start_second - 1 WHERE number = 2",
        "UPDATE intervals SET price_book = 'other', end_second = start_second + 1 WHERE number = 2",
    ] {
        let refused = refusal(&mut connection, statement.to_owned()).await;
        assert!(refused.contains("intervals_only_close"), "{statement}: {refused:?}");
    }
    let gone = refusal(&mut connection, "DELETE FROM intervals WHERE number = 1".to_owned()).await;
    assert!(gone.contains("intervals_are_kept"), "{gone:?}");
    let backwards = "UPDATE intervals SET end_second = start_second - 1 WHERE number = 2".to_owned();
    assert!(refusal(&mut connection, backwards).await.contains("intervals_end"));
    let closing = "UPDATE intervals SET end_second = start_second WHERE number = 2".to_owned();
    assert_eq!(refusal(&mut connection, closing).await, "");
}

#[tokio::test]
async fn prices_stay_as_they_are() {
    let (subject, world, mut connection) = metered().await;
    let update = "UPDATE price_books SET record = '{}'".to_owned();
    assert!(refusal(&mut connection, update).await.contains("price_books_are_immutable"));
    assert!(refusal(&mut connection, "DELETE FROM price_books".to_owned()).await.contains("price_books_are_kept"));
    let book = world.store.price_book("default-1").await.unwrap();
    assert_eq!(book, Some(PriceBook::default_book()));
    drop(subject);
}

#[tokio::test]
async fn ranges_of_the_fleet_never_overlap_and_enrolments_only_end() {
    let subject = SqliteSubject::new().await;
    let mut connection = raw(&subject.path()).connect().await.unwrap();
    let insert = |number: u8, first: u32, prefix: u8, removed: &str| {
        format!("INSERT INTO enrolments VALUES (x'{number:032x}', 'n{number}', {first}, {prefix}, 0, {removed})")
    };
    assert_eq!(refusal(&mut connection, insert(1, 512, 24, "NULL")).await, "");
    for (first, prefix) in [(512, 24), (640, 25), (0, 8), (767, 32)] {
        let refused = refusal(&mut connection, insert(9, first, prefix, "NULL")).await;
        assert!(refused.contains("enrolments_do_not_overlap"), "{first}/{prefix}: {refused:?}");
    }
    for (first, prefix) in [(2_049, 24), (1 << 20, 8)] {
        let refused = refusal(&mut connection, insert(9, first, prefix, "NULL")).await;
        assert!(refused.contains("CHECK constraint failed: enrolments_range"), "{first}/{prefix}: {refused:?}");
    }
    assert_eq!(refusal(&mut connection, insert(2, 768, 24, "NULL")).await, "");
    for statement in [
        "UPDATE enrolments SET name = 'other'",
        "UPDATE enrolments SET range_first = 0, removed_at = 1 WHERE name = 'n1'",
    ] {
        let refused = refusal(&mut connection, statement.to_owned()).await;
        assert!(refused.contains("enrolments_only_end"), "{statement}: {refused:?}");
    }
    assert_eq!(refusal(&mut connection, "UPDATE enrolments SET removed_at = 1 WHERE name = 'n1'".to_owned()).await, "");
    let revived = refusal(&mut connection, "UPDATE enrolments SET removed_at = NULL".to_owned()).await;
    assert!(revived.contains("enrolments_only_end"), "{revived:?}");
    assert_eq!(refusal(&mut connection, insert(3, 512, 25, "NULL")).await, "");
}

#[tokio::test]
async fn a_node_is_in_one_state_at_a_time() {
    let (_subject, _world, mut connection) = metered().await;
    for (statement, constraint) in [
        ("UPDATE nodes SET state = 'draining'", "nodes_drain"),
        ("UPDATE nodes SET drain_asked_at = 1, drain_grace_until = 2, drain_then = 'move'", "nodes_drain"),
        ("UPDATE nodes SET resolved_doubt = doubt + 1", "nodes_doubts"),
        ("UPDATE nodes SET removed_at = 1", "nodes_removed_is_empty"),
        ("UPDATE nodes SET state = 'lost'", "nodes_state"),
    ] {
        let refused = refusal(&mut connection, statement.to_owned()).await;
        assert!(refused.contains(constraint), "{statement}: {refused:?}");
    }
    let settled = "INSERT INTO installation VALUES ('key', '1')".to_owned();
    assert_eq!(refusal(&mut connection, settled).await, "");
    let refused = refusal(&mut connection, "UPDATE installation SET value = '2'".to_owned()).await;
    assert!(refused.contains("installation_is_settled"), "{refused:?}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named() {
    let (subject, world, mut connection) = metered().await;
    assert_eq!(refusal(&mut connection, "UPDATE instances SET record = '{\"id\":1}'".to_owned()).await, "");
    let refused = world.store.instance_by_name(world.tenant, world.project, &name("web")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with("instances row ") && text.contains("cannot be read"), "{text}");
    assert!(!refused.is_retryable());
    drop(subject);
}
