//! Connections: what each session is told, and which ones are not used any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool, Postgres};
use tokio::time::{Instant, timeout};

/// Statements that are kept prepared, per connection: more than there are.
const STATEMENTS: usize = 200;
/// A connection that was idle for longer is asked whether it still lives.
const IDLE_TRUST: Duration = Duration::from_secs(5);
/// How long it may take to answer that.
const PING: Duration = Duration::from_secs(1);

/// How a store uses its database.
#[derive(Debug, Clone, Copy)]
pub struct PostgresSettings {
    /// Connections at most, one more for notifications. The sum over all replicas must fit into the server's `max_connections`.
    pub max_connections: u32,
    /// How long a call waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// After this long without a word from us, the server ends a transaction: its locks are in the way of others.
    pub idle_in_transaction_timeout: Duration,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(4),
            lock_timeout: Duration::from_secs(3),
            idle_in_transaction_timeout: Duration::from_secs(5),
        }
    }
}

/// When connections were last found to be lost. Those that are older are not trusted: a server that restarted has ended all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses(Arc<Mutex<Option<Instant>>>);

impl Losses {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn came_after(&self, age: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < age)
    }
}

/// What every session of ours is told. What the URL says of the application's name stays.
pub(crate) fn options(url: &str, settings: &PostgresSettings) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    let named = options.get_application_name().is_some();
    let options = if named { options } else { options.application_name("wherry") };
    let millis = |time: Duration| time.as_millis().to_string();
    Ok(options
        .options([
            ("statement_timeout", millis(settings.statement_timeout)),
            ("lock_timeout", millis(settings.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(settings.idle_in_transaction_timeout)),
            ("default_transaction_isolation", "read committed".to_owned()),
            ("tcp_keepalives_idle", "10".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ])
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging())
}

pub(crate) fn pool(options: PgConnectOptions, settings: &PostgresSettings, losses: &Losses) -> PgPool {
    let losses = losses.clone();
    pool_options(settings.max_connections, settings.acquire_timeout)
        .before_acquire(move |connection, meta| {
            let lost = losses.came_after(meta.age);
            Box::pin(async move {
                if lost {
                    return Ok(false);
                }
                Ok(meta.idle_for < IDLE_TRUST || matches!(timeout(PING, connection.ping()).await, Ok(Ok(()))))
            })
        })
        .connect_lazy_with(options)
}

/// A pool whose sessions commit durably.
pub(crate) fn pool_options(connections: u32, acquire_timeout: Duration) -> PoolOptions<Postgres> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(acquire_timeout)
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(Duration::from_mins(10))
        .after_connect(|connection, _| Box::pin(commit_durably(connection)))
}

/// Whatever the server, the role or the database say by default: an acknowledged write is on disk. Stricter settings stay.
async fn commit_durably(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let setting: String = sqlx::query_scalar(
        "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
             ELSE current_setting('synchronous_commit') END, false)",
    )
    .fetch_one(connection)
    .await?;
    if setting == "off" {
        let message = "the server insists on synchronous_commit = off, with which a crash loses acknowledged writes";
        return Err(sqlx::Error::Configuration(message.into()));
    }
    Ok(())
}
