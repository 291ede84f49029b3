//! A copy of the store in one file, taken while it is in use, and the way back.
//!
//! The copy is a database of its own (`VACUUM INTO`: one consistent moment, writers are not held up), with a table more that
//! holds the files that belong to it. It appears whole under its name or not at all.
//!
//! A restored store is older than what the world has seen of it. What others remember by number goes on above everything that
//! can have been given out since: serials of the zone, numbers of events and changes, revisions and epochs of nodes.
//! Who did what at that moment is forgotten: leases, replicas, calls.
//!
//! Rejected: copying the file (a WAL belongs to it), SQLite's backup interface (sqlx does not offer it), a tar (two formats to
//! check where one checks itself).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use thiserror::Error;

use crate::open::{OpenError, migrate};

/// What no store and no agent has counted since the backup.
const AHEAD: i64 = 1_000_000;
/// The zone's serials are taken in blocks of 100,000, one at each start.
const SERIALS_AHEAD: i64 = 1 << 24;

/// A file that goes along with a backup.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, without a folder.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is there already.
    #[error("{} is there already: name another file, or move it away", .0.display())]
    Exists(PathBuf),
    /// The database refuses.
    #[error("{} cannot be copied", path.display())]
    Database {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It contradicts itself.
    #[error("{} is damaged ({message}): it is of no use as a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// It is some other file.
    #[error("{} is not a backup that `wherry backup` has written", .0.display())]
    Foreign(PathBuf),
    /// It cannot be opened, or its schema not be brought up to date.
    #[error("the backup cannot be restored")]
    Open(#[from] OpenError),
}

/// Copies the store at `source` to the new file `target` (mode 0600), in use or not.
pub async fn back_up(source: &Path, target: &Path, attachments: &[Attachment]) -> Result<(), BackupError> {
    if target.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let failed = |error| BackupError::Database { path: source.to_owned(), source: error };
    let partial = partial(target);
    create_private(&partial)?;
    let work = async {
        let mut connection = quiet(source).connect().await.map_err(failed)?;
        let into = partial.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO ?").bind(into).execute(&mut connection).await.map_err(failed)?;
        drop(connection.close().await);
        let mut copy = alone(&partial).connect().await.map_err(failed)?;
        attach(&mut copy, attachments).await.map_err(failed)?;
        check(&partial, &mut copy).await?;
        copy.close().await.map_err(failed)
    };
    keep(work.await, &partial, target)
}

/// Makes the store `target`, which must not be there, from a backup, and gives what went along with it. Of a backup without
/// attachments the installation forgets `forget`, words that were settled; `*` is anything.
pub async fn restore(backup: &Path, target: &Path, forget: &[&str]) -> Result<Vec<Attachment>, BackupError> {
    if target.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let failed = |error| BackupError::Database { path: backup.to_owned(), source: error };
    let partial = partial(target);
    create_private(&partial)?;
    let mut attachments = Vec::new();
    let work = async {
        copy_into(backup, &partial)?;
        // What is no database at all is told by its first page.
        let mut copy = alone(&partial).connect().await.map_err(|_| BackupError::Foreign(backup.to_owned()))?;
        attachments = detach(&mut copy).await.map_err(|_| BackupError::Foreign(backup.to_owned()))?;
        check(backup, &mut copy).await?;
        migrate(backup, &mut copy).await?;
        advance(&mut copy).await.map_err(failed)?;
        if attachments.is_empty() {
            for name in forget {
                let statement = sqlx::query("DELETE FROM installation WHERE name GLOB ?").bind(*name);
                statement.execute(&mut copy).await.map_err(failed)?;
            }
        }
        copy.close().await.map_err(failed)
    };
    let outcome = work.await;
    keep(outcome, &partial, target)?;
    Ok(attachments)
}

/// A connection beside others.
fn quiet(path: &Path) -> SqliteConnectOptions {
    let busy = std::time::Duration::from_secs(30);
    SqliteConnectOptions::new().filename(path).busy_timeout(busy).disable_statement_logging()
}

/// The only connection to a file that nobody else knows yet.
fn alone(path: &Path) -> SqliteConnectOptions {
    quiet(path).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Full).foreign_keys(true)
}

async fn attach(copy: &mut SqliteConnection, attachments: &[Attachment]) -> Result<(), sqlx::Error> {
    let table = "CREATE TABLE backup_files (name TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT";
    sqlx::query(table).execute(&mut *copy).await?;
    for Attachment { name, content } in attachments {
        let statement = sqlx::query("INSERT INTO backup_files (name, content) VALUES (?, ?)").bind(name).bind(content);
        statement.execute(&mut *copy).await?;
    }
    Ok(())
}

async fn detach(copy: &mut SqliteConnection) -> Result<Vec<Attachment>, sqlx::Error> {
    let rows = sqlx::query("SELECT name, content FROM backup_files ORDER BY name").fetch_all(&mut *copy).await?;
    let read = |row: &sqlx::sqlite::SqliteRow| Ok(Attachment { name: row.try_get(0)?, content: row.try_get(1)? });
    let attachments = rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?;
    sqlx::query("DROP TABLE backup_files").execute(copy).await?;
    Ok(attachments)
}

async fn check(path: &Path, copy: &mut SqliteConnection) -> Result<(), BackupError> {
    let damaged = |message: String| BackupError::Damaged { path: path.to_owned(), message };
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut *copy)
        .await
        .map_err(|error| damaged(error.to_string()))?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    let loose =
        sqlx::query("PRAGMA foreign_key_check").fetch_all(copy).await.map_err(|error| damaged(error.to_string()))?;
    if loose.is_empty() { Ok(()) } else { Err(damaged(format!("{} rows point nowhere", loose.len()))) }
}

async fn advance(copy: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = copy.begin().await?;
    for statement in [
        "UPDATE nodes SET epoch = epoch + ?1, desired_revision = desired_revision + ?1 WHERE removed_at IS NULL",
        "UPDATE counters SET next = next + ?1 WHERE name = 'changes'",
        "UPDATE sqlite_sequence SET seq = seq + ?1 WHERE name = 'events'",
    ] {
        sqlx::query(statement).bind(AHEAD).execute(&mut *transaction).await?;
    }
    let serials = sqlx::query("UPDATE counters SET next = next + ? WHERE name = 'zone_serial'").bind(SERIALS_AHEAD);
    serials.execute(&mut *transaction).await?;
    for table in ["DELETE FROM leases", "DELETE FROM replicas", "DELETE FROM calls"] {
        sqlx::query(table).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

fn partial(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    target.with_file_name(name)
}

fn create_private(path: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    // Left by one that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop).map_err(failed)
}

fn copy_into(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(|source| BackupError::File { path: from.to_owned(), source })?;
    let failed = |source| BackupError::File { path: to.to_owned(), source };
    let mut target = OpenOptions::new().write(true).open(to).map_err(failed)?;
    io::copy(&mut source, &mut target).map(drop).map_err(failed)
}

/// Gives the finished file its name for good, or removes it.
fn keep(outcome: Result<(), BackupError>, partial: &Path, target: &Path) -> Result<(), BackupError> {
    let kept = outcome.and_then(|()| {
        let named = || -> io::Result<()> {
            File::open(partial)?.sync_all()?;
            // A link, because a rename would replace what somebody else has put there meanwhile.
            fs::hard_link(partial, target)?;
            fs::remove_file(partial)?;
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
        };
        named().map_err(|source| BackupError::File { path: target.to_owned(), source })
    });
    if kept.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(partial);
    }
    kept
}
