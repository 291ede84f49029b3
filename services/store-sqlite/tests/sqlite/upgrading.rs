//! Databases of earlier versions: what is in them is there afterwards, and as well guarded as in a new one.

#![expect(clippy::unwrap_used, reason = "its helpers are parts of tests")]

use std::path::{Path, PathBuf};

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use wherry_model::lifecycle::Ask;
use wherry_model::{InstanceState, NodeState};
use wherry_store_contract::world::asked;
use wherry_store_contract::{World, invariants};
use wherry_store_sqlite::SqliteStore;

use crate::support::{SqliteSubject, database, open, raw};

fn migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite")
}

/// An empty database as the version that knew migrations up to `last` made it.
async fn database_of(folder: &Path, last: i64) -> SqliteConnection {
    let known = folder.join("known");
    std::fs::create_dir(&known).unwrap();
    for file in std::fs::read_dir(migrations()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name[..4].parse::<i64>().unwrap() <= last {
            std::fs::copy(file.path(), known.join(name)).unwrap();
        }
    }
    let mut connection = raw(&database(folder)).create_if_missing(true).connect().await.unwrap();
    Migrator::new(known).await.unwrap().run_direct(None, &mut connection, false).await.unwrap();
    connection
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> Vec<String> {
    let query = sqlx::query_scalar("SELECT name FROM pragma_table_info(?, 'main')").bind(table.to_owned());
    query.fetch_all(connection).await.unwrap()
}

/// Fills the database of an earlier version with what today's store wrote, as far as that version has places for it.
async fn fill(connection: &mut SqliteConnection, source: &Path) {
    sqlx::query("ATTACH DATABASE ? AS source").bind(source.to_str().unwrap()).execute(&mut *connection).await.unwrap();
    for table in [
        "tenants",
        "projects",
        "api_keys",
        "nodes",
        "journal_acknowledgements",
        "counters",
        "instances",
        "instance_labels",
        "idempotency",
        "events",
        "price_books",
        "price_book_current",
        "intervals",
    ] {
        let columns = columns(connection, table).await.join(", ");
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table}");
        sqlx::query(AssertSqlSafe(copy)).execute(&mut *connection).await.unwrap();
    }
    sqlx::query("DETACH DATABASE source").execute(&mut *connection).await.unwrap();
}

/// A fleet in full swing, of the version before fleets: nodes, journals, running and deleted instances, open intervals.
async fn world_of_0004() -> (tempfile::TempDir, World, Vec<wherry_model::Instance>) {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let nodes = [world.node_for(10).await, world.node_for(10).await, world.node_for(10).await];
    let mut instances = Vec::new();
    for number in 0..9_usize {
        let made = world.instance(&format!("web-{number}"), nodes[number % 3], 1).await;
        instances.push(world.running(&made, 2).await);
    }
    let last = instances.pop().unwrap();
    world.deleted(&last, 5).await;
    world.store.apply_report(nodes[0], world.journal(), 0, 7, &[], &[]).await.unwrap();
    world.store.set_node_state(nodes[1], NodeState::Cordoned).await.unwrap();
    world.store.set_node_state(nodes[2], NodeState::Silent).await.unwrap();
    let (source, path) = subject.closed().await;
    let folder = tempfile::tempdir().unwrap();
    let mut connection = database_of(folder.path(), 4).await;
    fill(&mut connection, &path).await;
    connection.close().await.unwrap();
    drop(source);
    (folder, world, instances)
}

#[tokio::test]
async fn a_database_before_fleets_keeps_all_that_it_has() {
    let (folder, world, instances) = world_of_0004().await;
    let store = open(folder.path()).await;
    let world = world.over(store.clone());
    invariants::check(&world.store).await.unwrap();
    let nodes = world.store.nodes().await.unwrap();
    let states: Vec<NodeState> = nodes.iter().map(|node| node.state).collect();
    assert_eq!(states, [NodeState::Ready, NodeState::Cordoned, NodeState::Silent]);
    let used: Vec<u32> = nodes.iter().map(|node| node.used.instances).collect();
    assert_eq!(used, [3, 3, 2]);
    for node in &nodes {
        assert_eq!((node.epoch, node.heartbeats, node.underlay, node.drain), (0, 0, None, None));
        assert!(node.desired_revision > 0);
    }
    for instance in &instances {
        assert_eq!(&world.read(instance.id).await, instance);
        assert_eq!(world.intervals(instance.id).await.len(), 1);
    }
    // All of it is followed from the beginning; what is written now from now.
    let from_the_beginning = world.store.changes(wherry_store::ChangeCursor::default(), 100).await.unwrap();
    assert_eq!(from_the_beginning.instances.len(), 9);
    let cursor = world.store.cursor().await.unwrap();
    assert_eq!(world.store.changes(cursor, 100).await.unwrap().instances, []);
    let stopping = world.applied(asked(&instances[0], Ask::Stop, 10)).await;
    assert_eq!(world.store.changes(cursor, 100).await.unwrap().instances, [stopping]);
    let waiting = world.displaced(&instances[1], 11).await;
    assert_eq!(waiting.state, InstanceState::Pending);
    invariants::check(&world.store).await.unwrap();
    store.close().await;
    // And it is an ordinary database of this version.
    open(folder.path()).await.close().await;
}

/// The table of nodes was made again: what points at it must still do so.
#[tokio::test]
async fn what_points_at_a_node_still_does() {
    let (folder, _, _) = world_of_0004().await;
    let store = open(folder.path()).await;
    store.close().await;
    let mut connection = raw(&database(folder.path())).connect().await.unwrap();
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await.unwrap();
    assert_eq!(broken.len(), 0);
    for table in ["instances", "intervals", "journal_acknowledgements"] {
        let keys = sqlx::query(AssertSqlSafe(format!("PRAGMA foreign_key_list({table})")))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let to: Vec<(String, String)> = keys.iter().map(|key| (key.get("from"), key.get("table"))).collect();
        assert!(to.contains(&("node".to_owned(), "nodes".to_owned())), "{table}: {to:?}");
    }
    for statement in ["DELETE FROM nodes", "UPDATE instances SET node = x'00000000000000000000000000000000'"] {
        let refused = sqlx::query(statement).execute(&mut connection).await.unwrap_err().to_string();
        assert!(refused.contains("FOREIGN KEY constraint failed"), "{statement}: {refused}");
    }
}

/// Nothing of a migration stays that fails in the middle.
#[tokio::test]
async fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let (folder, _, _) = world_of_0004().await;
    let path = database(folder.path());
    let mut connection = raw(&path).connect().await.unwrap();
    // One row that the new table must refuse.
    sqlx::query("PRAGMA ignore_check_constraints = ON").execute(&mut connection).await.unwrap();
    sqlx::query("UPDATE nodes SET state = 'lost' WHERE state = 'silent'").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    SqliteStore::open(&path).await.expect_err("the state is not allowed");
    let mut connection = raw(&path).connect().await.unwrap();
    let version: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    assert_eq!(version, 4);
    let nodes: i64 = sqlx::query_scalar("SELECT count(*) FROM nodes").fetch_one(&mut connection).await.unwrap();
    assert_eq!(nodes, 3);
    assert!(!columns(&mut connection, "instances").await.contains(&"changed".to_owned()));
}
