//! Opening the file: its mode, a check of its pages, migrations, the connections.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use thiserror::Error;

use crate::SqliteStore;
use crate::error::is_damage;
use crate::gather::Gather;
use crate::writer::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that only read.
const READERS: u32 = 4;
/// The WAL file is cut back to this after a checkpoint.
const WAL_LIMIT_BYTES: &str = "67108864";
/// Statements that are kept prepared, per connection: more than there are.
const STATEMENTS: usize = 200;

/// Why a database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be made, read or given its mode.
    #[error("{} cannot be opened: check that its folder exists, is writable and has space", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a database or its pages contradict each other.
    #[error(
        "{} is damaged ({message}): stop wherry, move the file and its -wal and -shm files aside, and put a backup \
         in their place; `sqlite3 FILE .recover` may read what is left",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A newer version of the program has written it.
    #[error(
        "{} was written by a newer version of wherry (schema {found}, this one knows up to {known}): \
         start that version, or a newer one",
        path.display()
    )]
    NewerVersion {
        /// Which file.
        path: PathBuf,
        /// The highest migration that it has.
        found: i64,
        /// The highest migration that this program has.
        known: i64,
    },
    /// The schema could not be brought up to date. The file is as it was before the step that failed.
    #[error("the schema of {} cannot be brought up to date", path.display())]
    Migration {
        /// Which file.
        path: PathBuf,
        /// What the driver said.
        #[source]
        source: MigrateError,
    },
    /// The database does not answer, for example because another process holds its lock.
    #[error("{} cannot be used: see that no other process has it open and that the disk is not full", path.display())]
    Unavailable {
        /// Which file.
        path: PathBuf,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
}

impl SqliteStore {
    /// Opens the database at `path`, makes it (mode 0600) if it is not there, checks it and brings its schema up to date.
    ///
    /// Call it inside a tokio runtime: the writer is a task of it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        make_private(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let options = options(path);
        let mut connection = options.connect().await.map_err(|error| driver_error(path, error))?;
        check(path, &mut connection).await?;
        migrate(path, &mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(READERS)
            .acquire_timeout(BUSY_TIMEOUT)
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(options.clone().read_only(true))
            .await
            .map_err(|error| driver_error(path, error))?;
        let writer = Arc::new(Writer::start(connection, options));
        Ok(Self { readers, writer, creates: Arc::default(), lives: Arc::new(Gather::patient()) })
    }

    /// Ends in order: waits for what was queued before, then closes the connections, which folds the WAL into the file.
    ///
    /// Later calls are refused as unavailable. Not needed for safety: a killed process loses nothing.
    pub async fn close(&self) {
        // The writer last: only a connection that may write can fold the WAL.
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .pragma("journal_size_limit", WAL_LIMIT_BYTES)
        .disable_statement_logging()
}

async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(|error| driver_error(path, error))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.to_owned(), message: verdict }) }
}

pub(crate) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    // Not `run`: its future is not `Send` for a bare connection ("Acquire is not general enough").
    match MIGRATIONS.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
            Err(OpenError::NewerVersion { path: path.to_owned(), found, known })
        }
        Err(MigrateError::Execute(error)) => Err(driver_error(path, error)),
        Err(source) => Err(OpenError::Migration { path: path.to_owned(), source }),
    }
}

fn driver_error(path: &Path, error: sqlx::Error) -> OpenError {
    if is_damage(&error) {
        OpenError::Damaged { path: path.to_owned(), message: error.to_string() }
    } else {
        OpenError::Unavailable { path: path.to_owned(), source: error }
    }
}
