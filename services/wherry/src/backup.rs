//! `wherry backup` and `wherry restore`, for the SQLite store. A running Wherry does not notice a backup; a restore wants a
//! folder that nobody uses and nothing is in.

use std::fs;

use anyhow::Context as _;
use wherry_store_sqlite::{Attachment, back_up, restore as restore_store};

use crate::cli::{BackupArgs, RestoreArgs};
use crate::data::{DataFolder, write_private};
use crate::keys::SEALING_FILE;
use crate::settings::Settings;

/// What of `keys/` is fingerprinted in the store; `*` is anything.
const SETTLED_KEYS: [&str; 4] = ["token_key", "naming_key", "node_authority", "sealing_key_*"];

/// Copies the store to a file.
pub(crate) async fn save(data: &DataFolder, args: &BackupArgs) -> anyhow::Result<()> {
    require_sqlite(data, "pg_dump or pg_basebackup")?;
    let database = data.database();
    anyhow::ensure!(
        database.exists(),
        "{} does not exist: no Wherry with a store was ever started there (another folder is given with --data)",
        database.display()
    );
    let keys = if args.with_keys { read_keys(data)? } else { Vec::new() };
    back_up(&database, &args.file, &keys).await.context("there is no backup")?;
    let bytes = fs::metadata(&args.file).map_or(0, |metadata| metadata.len());
    let which = if args.with_keys { "with the keys, so keep it as safe as them" } else { "without the keys" };
    println!("{} holds the store, {which} ({} KiB, checked).", args.file.display(), bytes.div_ceil(1024));
    match Settings::load(None, data.root())?.secrets.key_file {
        Some(file) => {
            println!("Secrets of instances are sealed in it. Their keys are in {}, and are not in it.", file.display());
        }
        None if args.with_keys => println!("So it holds secrets of instances, sealed, together with what opens them."),
        None => println!("Secrets of instances are sealed in it: without keys/{SEALING_FILE} nobody can open them."),
    }
    Ok(())
}

/// Makes the store, and the keys if they are in it, from a backup.
pub(crate) async fn restore(data: &DataFolder, args: &RestoreArgs) -> anyhow::Result<()> {
    require_sqlite(data, "pg_restore")?;
    // The lock is a file in the folder: it goes again when the restore is refused.
    let was_there = data.root().exists();
    data.create_for_control()?;
    let lock = data.lock("wherry restore").context("end it first; a restore needs a folder that nobody uses")?;
    let keys = restore_locked(data, args).await.inspect_err(|_| {
        if !was_there {
            // Nothing else can be in it.
            let _ = fs::remove_dir_all(data.root());
        }
    })?;
    drop(lock);
    println!("The store is in {}. What was created after the backup is unknown to it:", data.database().display());
    println!("nodes are told so when they are heard again, and end what it does not want.");
    if !keys {
        println!();
        println!(
            "The backup holds no keys. Before the next start, put those of the installation into {}:",
            data.keys().display()
        );
        println!(
            "with new ones instances get other names, tokens end, and machines have to join again, and secrets of instances"
        );
        println!("cannot be opened: they are to be given anew.");
    }
    Ok(())
}

async fn restore_locked(data: &DataFolder, args: &RestoreArgs) -> anyhow::Result<bool> {
    for path in [data.database(), data.node(), data.containerd(), data.identity()] {
        anyhow::ensure!(
            !path.exists(),
            "{} is there: a backup is put into an empty data folder only, give another one with --data or move this one away",
            path.display()
        );
    }
    let has_keys = fs::read_dir(data.keys()).is_ok_and(|mut entries| entries.next().is_some());
    let keys = restore_store(&args.file, &data.database(), &SETTLED_KEYS).await.context("nothing was restored")?;
    for Attachment { name, content } in &keys {
        anyhow::ensure!(!name.contains('/'), "the backup holds a key with the name {name:?}, which is none");
        // Keys that were put there first are the operator's choice.
        if !has_keys {
            write_private(&data.keys().join(name), content)?;
        }
    }
    Ok(has_keys || !keys.is_empty())
}

fn require_sqlite(data: &DataFolder, other: &str) -> anyhow::Result<()> {
    let settings = Settings::load(None, data.root())?;
    anyhow::ensure!(
        settings.store.url.is_none(),
        "this installation is on PostgreSQL: use {other}, and keep a copy of keys/"
    );
    Ok(())
}

fn read_keys(data: &DataFolder) -> anyhow::Result<Vec<Attachment>> {
    let folder = data.keys();
    let mut keys = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let content = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
        keys.push(Attachment { name, content });
    }
    anyhow::ensure!(!keys.is_empty(), "{} is empty: there are no keys to back up", folder.display());
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn installation(folder: &std::path::Path) -> DataFolder {
        let data = DataFolder::new(folder).unwrap();
        data.create_for_control().unwrap();
        write_private(&data.keys().join("naming.key"), &[7; 32]).unwrap();
        let store = wherry_store_sqlite::SqliteStore::open(data.database()).await.unwrap();
        store.close().await;
        data
    }

    #[tokio::test]
    async fn there_and_back_with_keys() {
        let scratch = tempfile::tempdir().unwrap();
        let data = installation(&scratch.path().join("old")).await;
        let file = scratch.path().join("backup");
        let held = data.lock("wherry up").unwrap();
        save(&data, &BackupArgs { file: file.clone(), with_keys: true }).await.unwrap();
        let new = DataFolder::new(&scratch.path().join("new")).unwrap();
        restore(&new, &RestoreArgs { file: file.clone() }).await.unwrap();
        assert_eq!(fs::read(new.keys().join("naming.key")).unwrap(), [7; 32]);
        // Neither over a store nor into a folder that is in use.
        let refused = restore(&new, &RestoreArgs { file: file.clone() }).await.unwrap_err();
        assert!(format!("{refused:#}").contains("empty data folder"), "{refused:#}");
        let refused = restore(&data, &RestoreArgs { file }).await.unwrap_err();
        assert!(format!("{refused:#}").contains("another Wherry"), "{refused:#}");
        drop(held);
    }

    #[tokio::test]
    async fn a_refused_restore_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("backup");
        fs::write(&file, "nothing").unwrap();
        let new = DataFolder::new(&scratch.path().join("new")).unwrap();
        assert!(restore(&new, &RestoreArgs { file }).await.is_err());
        assert!(!new.root().exists());
    }
}
