//! Copies of the store and the way back.

use std::os::unix::fs::PermissionsExt;

use tokio::task::JoinSet;
use wherry_store::InstallationStore;
use wherry_store_contract::{World, invariants};
use wherry_store_sqlite::{Attachment, BackupError, SqliteStore, back_up, restore};

use crate::support::SqliteSubject;

/// A backup that is taken while others write is one moment of the store, and agents accept what is made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_one_moment_that_numbers_go_on_above() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(500).await;
    let before = world.instance("before", node, 1).await;
    let serial = world.store.reserve("zone_serial", 5).await.unwrap();
    assert_eq!(world.store.settle("naming_key", "one").await.unwrap(), "one");
    let target = subject.folder().join("backup");
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let world = world.clone();
        tasks.spawn(async move { world.instance(&format!("web-{number}"), node, 1).await });
    }
    back_up(&subject.path(), &target, &[]).await.unwrap();
    while tasks.join_next().await.is_some_and(|done| done.is_ok()) {}
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(back_up(&subject.path(), &target, &[]).await, Err(BackupError::Exists(_))));
    let last = world.store.node(node).await.unwrap().unwrap();
    let (events, newest) = (world.events().await, world.store.reserve("zone_serial", 1).await.unwrap());
    assert!(newest > serial);

    let (folder, path) = subject.closed().await;
    let restored = folder.path().join("restored.db");
    assert_eq!(restore(&target, &restored, &["naming_key"]).await.unwrap(), []);
    assert!(matches!(restore(&target, &path, &[]).await, Err(BackupError::Exists(_))));
    let store = std::sync::Arc::new(SqliteStore::open(&restored).await.unwrap());
    let mut world = world;
    world.store = store;
    invariants::check(&world.store).await.unwrap();
    assert_eq!(world.store.instance_of_any_tenant(before.id).await.unwrap().unwrap(), before);
    let now = world.store.node(node).await.unwrap().unwrap();
    assert!(now.desired_revision > last.desired_revision && now.epoch > last.epoch, "{now:?} is not above {last:?}");
    assert!(world.store.reserve("zone_serial", 1).await.unwrap() > newest);
    world.instance("after", node, 1).await;
    let after = world.events().await;
    assert!(after.last().unwrap().seq > events.last().unwrap().seq, "an event's number was given twice");
    // Without the keys, the next start may settle new ones.
    assert_eq!(world.store.settle("naming_key", "other").await.unwrap(), "other");
}

#[tokio::test]
async fn what_goes_along_comes_back_and_keeps_what_was_settled() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    world.store.settle("naming_key", "one").await.unwrap();
    let key = Attachment { name: "naming.key".to_owned(), content: vec![0, 255, 7] };
    let target = subject.folder().join("backup");
    back_up(&subject.path(), &target, std::slice::from_ref(&key)).await.unwrap();
    let (folder, _) = subject.closed().await;
    let restored = folder.path().join("restored.db");
    assert_eq!(restore(&target, &restored, &["naming_key"]).await.unwrap(), [key]);
    let store = SqliteStore::open(&restored).await.unwrap();
    assert_eq!(store.settle("naming_key", "other").await.unwrap(), "one");
    store.close().await;
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[tokio::test]
async fn what_is_no_backup_is_not_restored() {
    let subject = SqliteSubject::new().await;
    let world = World::new(&subject).await;
    let node = world.node_for(500).await;
    for number in 0..20 {
        world.instance(&format!("web-{number}"), node, 1).await;
    }
    let folder = subject.folder().to_owned();
    let target = folder.join("backup");
    back_up(&subject.path(), &target, &[]).await.unwrap();
    let restored = folder.join("restored.db");

    let text = folder.join("text");
    std::fs::write(&text, "not a database").unwrap();
    assert!(matches!(restore(&text, &restored, &[]).await, Err(BackupError::Foreign(_))));
    // The store itself is none: a copy that was taken by hand may lack its WAL.
    let (_folder, path) = subject.closed().await;
    assert!(matches!(restore(&path, &restored, &[]).await, Err(BackupError::Foreign(_))));
    let absent = folder.join("absent");
    assert!(matches!(restore(&absent, &restored, &[]).await, Err(BackupError::File { .. })));

    let mut bytes = std::fs::read(&target).unwrap();
    let (page, length) = (4096, bytes.len());
    assert!(length > 8 * page);
    for byte in &mut bytes[4 * page..length - page] {
        *byte ^= 0x5a;
    }
    let garbled = folder.join("garbled");
    std::fs::write(&garbled, bytes).unwrap();
    let refused = restore(&garbled, &restored, &[]).await;
    assert!(matches!(refused, Err(BackupError::Damaged { .. } | BackupError::Foreign(_))), "{refused:?}");
    assert!(!restored.exists() && !folder.join("restored.db.partial").exists());
}
