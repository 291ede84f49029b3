//! Units of work and how they are carried through.
//!
//! - A unit runs in one transaction on one connection. What it collides with (40001, 40P01) and what ends its connection
//!   before its COMMIT undoes all of it, so it is run again, a bounded number of times and within [`PATIENCE`].
//! - Every writing transaction holds a shared advisory lock with a number of its own. So others see in `pg_locks` which
//!   transactions are under way (`feed.rs`), and after a lost COMMIT this process can wait for the end of its own.
//! - A COMMIT whose answer is lost has an unknown outcome. It is never repeated blindly: first the old transaction is waited
//!   for (or ended), then the unit looks in the database for what only it can have written ([`Unit::stored`]).
//! - A caller that goes away drops its transaction, which PostgreSQL rolls back. A connection that did not answer in time is
//!   closed, not given back: nobody waits behind it.
//!
//! Rejected: `pg_xact_status` for lost COMMITs (after a crash an id of a transaction that was never flushed is given out
//! again, and a stranger's commit would answer for ours); running units in a task of their own (a dropped caller does no
//! harm here, unlike on SQLite, whose one connection it would block).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Execute, PgPool, Postgres};
use tokio::time::{Instant, sleep, timeout_at};
use wherry_store::StoreError;

use crate::error::{Context, Meaning, meaning, meaning_behind, store_error, unavailable, violation};
use crate::feed::Feed;
use crate::session::Losses;

/// How long a caller waits for the outcome of a unit, retries included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the outcome of a lost COMMIT is looked for, in addition.
const RESOLUTION: Duration = Duration::from_secs(10);
/// How often a unit is run.
const ATTEMPTS: u32 = 6;
/// How often a read is tried on another connection.
const READ_ATTEMPTS: u32 = 3;
/// The class of the advisory locks that writing transactions hold.
pub(crate) const WRITERS: i32 = 0x7768_6572;
/// The class of the advisory locks under which events of a project are numbered.
pub(crate) const NUMBERING: i32 = 0x7768_6576;

/// What a unit of work wants done with what it wrote.
pub(crate) enum Verdict<T> {
    /// Store it.
    Keep(T),
    /// Store nothing of it; this is the answer all the same.
    Undo(T),
}

/// A unit of work. It may be run several times, each time in a transaction that has seen nothing of the earlier ones.
#[async_trait]
pub(crate) trait Unit: Sync {
    /// What the caller gets.
    type Answer: Send;

    /// Does the work.
    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<Self::Answer>, StoreError>;

    /// Looks for what the unit has written, after its transaction has ended with an unknown outcome. None when it is not
    /// there, or when running the unit again does no harm: it is then run again.
    async fn stored(&self, _connection: &mut PgConnection) -> Result<Option<Self::Answer>, StoreError> {
        Ok(None)
    }

    /// Whether others are told of it: what nobody waits for wakes nobody.
    fn is_news(&self) -> bool {
        true
    }
}

/// Numbers of the transactions of this process, and the spread of its pauses.
#[derive(Debug)]
pub(crate) struct Numbers(AtomicU32);

impl Numbers {
    /// `first` must differ from process to process.
    pub(crate) const fn from(first: u32) -> Self {
        Self(AtomicU32::new(first))
    }

    fn next(&self) -> i32 {
        self.0.fetch_add(1, Ordering::Relaxed).cast_signed()
    }

    /// Up to twice `usual`, differently each time.
    fn jittered(&self, usual: Duration) -> Duration {
        let mixed = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        usual.mul_f64(f64::from(mixed >> 16) / f64::from(1_u32 << 15))
    }
}

/// Why an attempt did not end with an answer.
enum Failure {
    /// Nothing was stored; another attempt may go better.
    Again(StoreError),
    /// Nothing was stored, and that is the answer.
    Final(StoreError),
    /// The COMMIT of the transaction with this number was not answered.
    Unanswered(i32),
}

/// The connections of a store, and what it knows of them.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) pool: PgPool,
    pub(crate) losses: Losses,
    pub(crate) numbers: Numbers,
    pub(crate) feed: Arc<Feed>,
}

impl Connections {
    /// Carries a unit of work through. `context` says what it does, for errors.
    pub(crate) async fn write<U: Unit>(&self, context: &'static str, unit: &U) -> Result<U::Answer, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(context, unit, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let error = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Again(error) => error,
                Failure::Unanswered(number) => {
                    tracing::warn!(context, "the answer to a COMMIT was lost: looking for what it has stored");
                    if let Some(answer) = self.resolve(context, unit, number).await? {
                        self.feed.committed();
                        return Ok(answer);
                    }
                    unavailable(context, "the connection was lost at the commit, nothing was stored")
                }
            };
            let pause = self.numbers.jittered(Duration::from_millis(4 << attempt));
            if attempt == ATTEMPTS || Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(context, attempt, %error, "a transaction is run again");
            sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt<U: Unit>(&self, context: &'static str, unit: &U, deadline: Instant) -> Result<U::Answer, Failure> {
        let mut connection = self.acquire(context, deadline).await?;
        let (answered, usable) = self.on(&mut connection, context, unit, deadline).await;
        if !usable {
            self.discard(connection);
        }
        answered
    }

    /// One attempt on this connection, and whether the connection is of use afterwards.
    async fn on<U: Unit>(
        &self,
        connection: &mut PgConnection,
        context: &'static str,
        unit: &U,
        deadline: Instant,
    ) -> (Result<U::Answer, Failure>, bool) {
        let number = self.numbers.next();
        let begin = format!("BEGIN; SELECT pg_advisory_xact_lock_shared({WRITERS}, {number})");
        let worked = timeout_at(deadline, async {
            let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await.context(context)?;
            let verdict = unit.run(&mut transaction).await?;
            Ok::<_, StoreError>((transaction, verdict))
        })
        .await;
        let (transaction, verdict) = match worked {
            Ok(Ok(worked)) => worked,
            Ok(Err(error)) => {
                return match meaning_behind(&error) {
                    Meaning::Collision => (Err(Failure::Again(error)), true),
                    Meaning::ConnectionLost => (Err(Failure::Again(error)), false),
                    Meaning::Locked | Meaning::Other => (Err(Failure::Final(error)), true),
                };
            }
            Err(_) => {
                return (Err(Failure::Final(unavailable(context, "the database did not answer in time"))), false);
            }
        };
        let answer = match verdict {
            Verdict::Keep(answer) => answer,
            Verdict::Undo(answer) => {
                let undone = timeout_at(deadline, transaction.rollback()).await;
                return (Ok(answer), matches!(undone, Ok(Ok(()))));
            }
        };
        match timeout_at(deadline, transaction.commit()).await {
            Ok(Ok(())) => {
                if unit.is_news() {
                    self.feed.committed();
                }
                (Ok(answer), true)
            }
            Ok(Err(error)) => match (meaning(&error), &error) {
                (Meaning::Collision, _) => (Err(Failure::Again(store_error(error, context))), true),
                // The server has said that it was not stored. Class 57 is said also after it was.
                (Meaning::Other, sqlx::Error::Database(database))
                    if !database.code().unwrap_or_default().starts_with("57") =>
                {
                    (Err(Failure::Final(store_error(error, context))), true)
                }
                _ => (Err(Failure::Unanswered(number)), false),
            },
            Err(_) => (Err(Failure::Unanswered(number)), false),
        }
    }

    async fn acquire(&self, context: &'static str, deadline: Instant) -> Result<PoolConnection<Postgres>, Failure> {
        match timeout_at(deadline, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if meaning(&error) == Meaning::ConnectionLost => {
                Err(Failure::Again(store_error(error, context)))
            }
            Ok(Err(error)) => Err(Failure::Final(store_error(error, context))),
            Err(_) => Err(Failure::Final(unavailable(context, "no connection to the database was free in time"))),
        }
    }

    /// Closes a connection that is of no use any more, without a word to a server that may not listen; those that are as
    /// old are likely to be lost too.
    fn discard(&self, connection: PoolConnection<Postgres>) {
        self.losses.note();
        drop(connection.detach());
    }

    /// Finds out what became of the transaction with this number, which was told to commit.
    async fn resolve<U: Unit>(
        &self,
        context: &'static str,
        unit: &U,
        number: i32,
    ) -> Result<Option<U::Answer>, StoreError> {
        let deadline = Instant::now() + RESOLUTION;
        loop {
            let error = match timeout_at(deadline, self.look(context, unit, number)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => {
                    unavailable(context, "the connection was lost at the commit, and it cannot be asked what became")
                }
            };
            let pause = self.numbers.jittered(Duration::from_millis(200));
            if !error.is_retryable() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn look<U: Unit>(
        &self,
        context: &'static str,
        unit: &U,
        number: i32,
    ) -> Result<Option<U::Answer>, StoreError> {
        let mut connection = self.pool.acquire().await.context(context)?;
        let mut transaction =
            connection.begin_with("BEGIN; SET LOCAL lock_timeout = '500ms'").await.context(context)?;
        // Granted when nobody holds it: when that transaction has ended.
        let ended = sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(WRITERS)
            .bind(number)
            .execute(&mut *transaction)
            .await;
        match ended {
            Ok(_) => {}
            Err(error) if meaning(&error) == Meaning::Locked => {
                transaction.rollback().await.context(context)?;
                end_transaction(&mut connection, number).await.context(context)?;
                return Err(unavailable(context, "its transaction has not ended"));
            }
            Err(error) => return Err(store_error(error, context)),
        }
        let found = unit.stored(&mut transaction).await?;
        transaction.rollback().await.context(context)?;
        Ok(found)
    }

    /// All rows of a query, on another connection when the first one is lost.
    pub(crate) async fn fetch_all(
        &self,
        context: &'static str,
        mut query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let arguments = query.take_arguments().map_err(|error| violation(format!("{context}: {error}")))?;
        let arguments = arguments.unwrap_or_default();
        let statement = query.sql();
        let deadline = Instant::now() + PATIENCE;
        let mut attempt = 1;
        loop {
            let mut connection = match self.acquire(context, deadline).await {
                Ok(connection) => connection,
                Err(Failure::Again(_)) if attempt < READ_ATTEMPTS => {
                    attempt += 1;
                    sleep(self.numbers.jittered(Duration::from_millis(50))).await;
                    continue;
                }
                Err(Failure::Again(error) | Failure::Final(error)) => return Err(error),
                Err(Failure::Unanswered(_)) => return Err(unavailable(context, "nothing was asked")),
            };
            let read = sqlx::query_with(statement.clone(), arguments.clone()).fetch_all(&mut *connection);
            let read = timeout_at(deadline, read).await;
            match read {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => {
                    let again = match meaning(&error) {
                        Meaning::ConnectionLost => {
                            self.discard(connection);
                            true
                        }
                        Meaning::Collision => true,
                        Meaning::Locked | Meaning::Other => false,
                    };
                    if !again || attempt == READ_ATTEMPTS {
                        return Err(store_error(error, context));
                    }
                    attempt += 1;
                }
                Err(_) => {
                    self.discard(connection);
                    return Err(unavailable(context, "the database did not answer in time"));
                }
            }
        }
    }

    /// The first row of a query.
    pub(crate) async fn fetch_one(
        &self,
        context: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Option<PgRow>, StoreError> {
        Ok(self.fetch_all(context, query).await?.into_iter().next())
    }
}

/// Ends the session of a transaction whose client has gone; nobody else has its number, or would at worst run again.
async fn end_transaction(connection: &mut PgConnection, number: i32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE locktype = 'advisory' AND classid = $1::int4::oid AND objid = $2::int4::oid AND mode = 'ShareLock'
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND pid <> pg_backend_pid()",
    )
    .bind(WRITERS)
    .bind(number)
    .execute(connection)
    .await
    .map(drop)
}
