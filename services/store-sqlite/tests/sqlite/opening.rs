//! Opening: what is refused, and with which way out.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use sqlx::{ConnectOptions, Connection};
use wherry_store_contract::{World, invariants};
use wherry_store_sqlite::{OpenError, SqliteStore};

use crate::support::{SqliteSubject, database, open, raw};

#[tokio::test]
async fn only_its_owner_reads_the_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(database(folder.path()), b"").unwrap();
    fs::set_permissions(database(folder.path()), fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(folder.path()).await;
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 3, "database, WAL and index: {files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_file_of_another_kind_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path());
    let text = "a diary, not a database\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Damaged { path: named, .. } if *named == path), "{refused:?}");
    assert!(refused.to_string().contains("backup"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(100).await;
    for number in 0..50 {
        world.instance(&format!("web-{number}"), node, number).await;
    }
    let (folder, path) = subject.closed().await;
    assert!(!path.with_extension("db-wal").exists(), "closing folds the WAL into the file");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4_096 * 4_096;
    file.write_all_at(&[0xEE; 4_096], middle).unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    drop(folder);
}

#[tokio::test]
async fn a_newer_database_is_refused_and_not_changed() {
    let subject = SqliteSubject::new().await;
    let (folder, path) = subject.closed().await;
    let mut connection = raw(&path).connect().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(refused, OpenError::NewerVersion { found: 9_999, .. }), "{refused:?}");
    assert!(refused.to_string().contains("newer version of wherry"), "{refused}");
    drop(folder);
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing").join("wherry.db"), folder.path().to_owned()] {
        let refused = SqliteStore::open(&path).await.unwrap_err();
        assert!(matches!(&refused, OpenError::File { path: named, .. } if *named == path), "{refused:?}");
    }
}

/// That there is only one process is somebody else's promise; if it is broken, the facts still hold.
#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_file_do_no_harm() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let second = world.over(open(subject.folder()).await);
    let node = world.node_for(30).await;
    let write = |world: World, who: &'static str| async move {
        let mut made = 0;
        for number in 0..30 {
            let placed = world.create(&format!("{who}-{number}"), node, number);
            let outcome = world.store.place_and_create(&placed).await.unwrap();
            made += u32::from(matches!(outcome, wherry_store::CreateOutcome::Created(_)));
        }
        made
    };
    let (first, other) =
        tokio::join!(tokio::spawn(write(world.clone(), "a")), tokio::spawn(write(second.clone(), "b")));
    assert_eq!(first.unwrap() + other.unwrap(), 30);
    assert_eq!(world.used(node).await, 30);
    for world in [world, second] {
        invariants::check(&world.store).await.unwrap();
        assert_eq!(world.events().await.len(), 30);
    }
}
