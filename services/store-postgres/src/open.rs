//! Opening the database, and bringing its schema up to date, which opening never does.

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use thiserror::Error;
use tokio::time::timeout;

use crate::PostgresStore;
use crate::feed::Feed;
use crate::instance::Lanes;
use crate::listener::Listener;
use crate::schema::{self, Fit, MIGRATIONS};
use crate::session::{self, Losses, PostgresSettings};
use crate::transaction::{Connections, Numbers};

/// The oldest server that is supported.
const OLDEST_SERVER: u32 = 140_000;
/// How long a server may take to take a connection when a store is opened.
const PATIENCE: Duration = Duration::from_secs(10);
/// A migration gives up rather than have every request queue behind its lock.
const MIGRATION_LOCK_TIMEOUT: &str = "5s";

/// Why a database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL is not one of PostgreSQL.
    #[error("the database's URL is not understood: write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url(#[source] sqlx::Error),
    /// The server cannot be reached, or does not let us in.
    #[error("the database does not answer: see that PostgreSQL runs, and that address, user and password are right")]
    Unavailable(#[source] sqlx::Error),
    /// The server takes connections and says nothing.
    #[error("the database did not answer in time: see what its server does")]
    Silent,
    /// The server is older than what is supported.
    #[error("the database is PostgreSQL {found}: version 14 or later is needed")]
    OldServer {
        /// Its version.
        found: String,
    },
    /// The server is a standby.
    #[error("the database is a standby, which can only be read: name the primary in the URL")]
    Standby,
    /// The schema is older than this program.
    #[error("the database's schema is at {found}, this version of wherry needs {known}: run `wherry migrate`")]
    NotMigrated {
        /// The highest migration that it has; 0 for none.
        found: i64,
        /// The highest migration that this program has.
        known: i64,
    },
    /// A newer version has taken away what this one needs.
    #[error(
        "the database's schema is at {found}, too new for this version of wherry (it knows {known}): start a newer one"
    )]
    NewerVersion {
        /// The migration that did.
        found: i64,
        /// The highest migration that this program has.
        known: i64,
    },
    /// A migration was applied that is not the one of this program.
    #[error("migration {version} of the database is not that of this version of wherry: was another build used on it?")]
    ForeignMigration {
        /// Which one.
        version: i64,
    },
    /// The schema could not be brought up to date. It is as it was before the step that failed.
    #[error("the schema of the database cannot be brought up to date")]
    Migration(#[source] MigrateError),
}

impl PostgresStore {
    /// Opens the database with the usual settings. Changes nothing of its schema.
    ///
    /// Call it inside a tokio runtime: the listener is a task of it.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Self::open_with(url, &PostgresSettings::default()).await
    }

    /// The same with other settings.
    pub async fn open_with(url: &str, settings: &PostgresSettings) -> Result<Self, OpenError> {
        check_scheme(url)?;
        let options = session::options(url, settings).map_err(OpenError::Url)?;
        let mut connection = connect(&options).await?;
        check_server(&mut connection).await?;
        match schema::fit(&mut connection).await.map_err(OpenError::Unavailable)? {
            Fit::Fits => {}
            Fit::Behind { found } => return Err(OpenError::NotMigrated { found, known: schema::known() }),
            Fit::TooNew { found } => return Err(OpenError::NewerVersion { found, known: schema::known() }),
            Fit::Differs { version } => return Err(OpenError::ForeignMigration { version }),
        }
        let first = prepare(&mut connection).await.map_err(OpenError::Unavailable)?;
        drop(connection.close().await);
        let losses = Losses::default();
        let pool = session::pool(options.clone(), settings, &losses);
        let feed = Arc::new(Feed::new(first));
        let listener = Listener::start(options, Arc::clone(&feed));
        let connections = Arc::new(Connections { pool, losses, numbers: Numbers::from(first), feed });
        let lanes = Lanes::start(&connections);
        Ok(Self { connections, lanes, listener })
    }

    /// Brings the schema up to date. Safe beside running replicas and beside another one that does the same: an advisory
    /// lock lets one after the other. A schema of a newer release is left as it is.
    pub async fn migrate(url: &str) -> Result<(), OpenError> {
        check_scheme(url)?;
        let options: PgConnectOptions = url.parse().map_err(OpenError::Url)?;
        let options = options.application_name("wherry migrate").options([("lock_timeout", MIGRATION_LOCK_TIMEOUT)]);
        let mut connection = connect(&options).await?;
        check_server(&mut connection).await?;
        match schema::fit(&mut connection).await.map_err(OpenError::Unavailable)? {
            Fit::Fits => return Ok(()),
            Fit::TooNew { found } => return Err(OpenError::NewerVersion { found, known: schema::known() }),
            Fit::Differs { version } => return Err(OpenError::ForeignMigration { version }),
            Fit::Behind { .. } => {}
        }
        // Not `run`: its future is not `Send` for a bare connection ("Acquire is not general enough").
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        drop(connection.close().await);
        migrated.map_err(OpenError::Migration)
    }

    /// A number that changes with the schema: names a template of migrated databases.
    pub fn schema_fingerprint() -> u64 {
        schema::fingerprint()
    }

    /// Ends in order: no call begins any more, those under way are waited for. Not needed for safety.
    pub async fn close(&self) {
        self.listener.stop();
        self.connections.pool.close().await;
    }
}

/// The driver takes any.
fn check_scheme(url: &str) -> Result<(), OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(())
    } else {
        Err(OpenError::Url(sqlx::Error::Configuration("the scheme is not postgres".into())))
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    match timeout(PATIENCE, options.connect()).await {
        Ok(connected) => connected.map_err(OpenError::Unavailable),
        Err(_) => Err(OpenError::Silent),
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), pg_is_in_recovery(),
             current_setting('fsync') = 'on'",
    )
    .fetch_one(connection)
    .await
    .map_err(OpenError::Unavailable)?;
    let read = || Ok((row.try_get::<i32, _>(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    let (number, version, standby, fsync): (i32, String, bool, bool) = read().map_err(OpenError::Unavailable)?;
    if u32::try_from(number).unwrap_or(0) < OLDEST_SERVER {
        return Err(OpenError::OldServer { found: version });
    }
    if standby {
        return Err(OpenError::Standby);
    }
    if !fsync {
        tracing::warn!("the database server runs with fsync = off: a power cut may lose or damage everything");
    }
    Ok(())
}

/// Makes numbers of transactions comparable again after a dump was restored into a server that has counted fewer, and gives
/// a number that differs from process to process.
async fn prepare(connection: &mut PgConnection) -> Result<u32, sqlx::Error> {
    sqlx::query(
        "UPDATE instances SET changed = pg_current_xact_id()::text::bigint
         WHERE changed >= (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)",
    )
    .execute(&mut *connection)
    .await?;
    let first: i64 = sqlx::query_scalar("SELECT (random() * 4294967295)::bigint").fetch_one(connection).await?;
    Ok(u32::try_from(first).unwrap_or(0))
}
