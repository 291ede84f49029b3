//! Records that earlier versions wrote.
//!
//! `record-0003.json` was written by the first version. It is never edited: if this fails, the change to `Instance`
//! lacks a `#[serde(default)]` or a migration that rewrites what users have stored (migrations/README.md, rule 6).

use sqlx::ConnectOptions;
use wherry_model::{Instance, InstanceId, InstanceState};
use wherry_store_contract::{World, damage};

use crate::support::{SqliteSubject, raw};

const FIRST: &str = include_str!("record-0003.json");

#[tokio::test]
async fn the_first_version_can_be_read() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(5).await;
    let made = world.instance("web", node, 1).await;
    let mut connection = raw(&subject.path()).connect().await.unwrap();
    sqlx::query("UPDATE instances SET record = ?").bind(FIRST).execute(&mut connection).await.unwrap();
    let read = world.read(made.id).await;
    assert_eq!((read.name.as_str(), read.state, read.revision.0), ("shop-1", InstanceState::Running, 5));
    assert_eq!(read.spec.labels.get("app").map(String::as_str), Some("shop"));
    let runs: Vec<_> = read.containers[0].runs.iter().map(|run| (run.number, run.end.is_some())).collect();
    assert_eq!(runs, [(1, true), (2, false)]);
    assert!(read.run_meter.open_since.is_some() && read.pull_meter.until.is_some() && read.address.is_some());
    // What is written today is read by today's code as the same.
    let again: Instance = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
    assert_eq!(again, read);
}

#[tokio::test]
async fn a_broken_record_costs_itself_alone() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    damage::a_broken_record_costs_itself_alone(&world, async |id: InstanceId| {
        let mut connection = raw(&subject.path()).connect().await.unwrap();
        let broken = sqlx::query("UPDATE instances SET record = json_set(record, '$.revision', 'broken') WHERE id = ?")
            .bind(id.as_uuid().as_bytes().to_vec())
            .execute(&mut connection);
        assert_eq!(broken.await.unwrap().rows_affected(), 1);
    })
    .await;
}
