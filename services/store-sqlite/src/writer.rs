//! The one writer: a task that owns the one connection that writes.
//!
//! A unit of work is a closure over the connection. The task takes what waits in the queue, opens one transaction, runs
//! each unit in a savepoint of its own, commits once and only then answers. So:
//! - a unit is all or nothing, and an error or refusal of one leaves its neighbours alone;
//! - units that meet share one fsync;
//! - a commit is counted for those who wait for changes if one of its units is news ([`Writer::run_quietly`] is none);
//! - a caller that is dropped or times out owns no transaction. If its unit has not begun it never will; if it has, it is
//!   carried through, and the caller that timed out waits for the answer, because "not done" must be true when said.
//!
//! When the transaction itself fails (disk full, I/O error, lock held by a stranger), nothing of the group is stored,
//! every unit is told so, and the connection is thrown away: the next group begins with a fresh one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use wherry_store::StoreError;

use crate::error::Context;

/// Units that wait for the writer; more callers wait to get into the queue.
const QUEUE: usize = 256;
/// Units that share one transaction: keeps the wait of the first one short.
const GROUP: usize = 32;
/// How long a caller waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a unit of work wants done with what it wrote.
pub(crate) enum Verdict<T> {
    /// Store it.
    Keep(T),
    /// Store nothing of it; this is the answer all the same.
    Undo(T),
}

/// Whether readers want to hear of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Yes,
    /// It is written all the time and looked for by the clock.
    No,
}

/// What a unit of work runs as.
pub(crate) type Running<'c, T> = Pin<Box<dyn Future<Output = Result<Verdict<T>, StoreError>> + Send + 'c>>;

/// The handle of the writer task. The task ends when it is closed or dropped, after what was queued before.
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Unit>>,
    commits: watch::Receiver<u64>,
    stop: Arc<Notify>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("commits", &*self.commits.borrow()).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let (queue, units) = mpsc::channel(QUEUE);
        let (counter, commits) = watch::channel(0);
        let stop = Arc::new(Notify::new());
        tokio::spawn(serve(units, Some(connection), options, counter, Arc::clone(&stop)));
        Self { queue, commits, stop }
    }

    /// Refuses new units, carries out those that wait, closes the connection.
    pub(crate) async fn close(&self) {
        self.stop.notify_one();
        self.queue.closed().await;
        let mut commits = self.commits();
        while commits.changed().await.is_ok() {}
    }

    /// Counts the commits of this process that are news.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Queues a unit of work and waits for its commit. `context` says what it does, for errors.
    pub(crate) async fn run<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Running<'c, T> + Send + 'static,
    {
        self.run_as(context, News::Yes, work).await
    }

    /// The same for what is written all the time and what nobody waits for: it wakes no reader.
    pub(crate) async fn run_quietly<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Running<'c, T> + Send + 'static,
    {
        self.run_as(context, News::No, work).await
    }

    /// The same, as news or not.
    pub(crate) async fn run_as<T, F>(&self, context: &'static str, news: News, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Running<'c, T> + Send + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        let claimed = Arc::new(AtomicBool::new(false));
        let (reply, mut answer) = oneshot::channel();
        let unit = Box::new(TypedUnit {
            work: Some(work),
            result: None,
            reply,
            claimed: Arc::clone(&claimed),
            context,
            is_news: news == News::Yes,
        });
        let waited_too_long = || unavailable(context, "the writer did not get to it in time");
        let stopped = |_| unavailable(context, "the writer has stopped");
        match timeout_at(deadline, self.queue.reserve()).await {
            Ok(permit) => permit.map_err(|_| unavailable(context, "the writer has stopped"))?.send(unit),
            Err(_) => return Err(waited_too_long()),
        }
        if let Ok(answered) = timeout_at(deadline, &mut answer).await {
            return answered.map_err(stopped)?;
        }
        if claimed.swap(true, Ordering::AcqRel) { answer.await.map_err(stopped)? } else { Err(waited_too_long()) }
    }
}

fn unavailable(context: &'static str, reason: &str) -> StoreError {
    StoreError::Unavailable { context: format!("{context}: {reason}"), source: None }
}

/// Why nothing of a group was stored. Told to each of its units.
pub(crate) enum GroupFailure {
    DiskFull,
    Other(Arc<StoreError>),
}

impl GroupFailure {
    pub(crate) fn of(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::DiskFull,
            other => Self::Other(Arc::new(other)),
        }
    }

    pub(crate) fn tell(&self, context: &'static str) -> StoreError {
        match self {
            Self::DiskFull => StoreError::DiskFull,
            Self::Other(cause) => StoreError::Unavailable {
                context: context.to_owned(),
                source: Some(Box::new(Shared(Arc::clone(cause)))),
            },
        }
    }
}

/// One cause with several readers.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ran {
    Kept,
    Undone,
}

/// A unit of work without its type.
#[async_trait]
trait Unit: Send {
    /// Takes it for running; false when its caller has given up.
    fn claim(&self) -> bool;
    async fn run(&mut self, connection: &mut SqliteConnection) -> Ran;
    /// Whether readers want to hear of it.
    fn is_news(&self) -> bool;
    /// Answers the caller, after the commit or the failure of the group.
    fn answer(self: Box<Self>, failure: Option<&GroupFailure>);
    /// What the unit itself failed with, for the failure of the group.
    fn take_error(&mut self) -> Option<StoreError>;
}

struct TypedUnit<T, F> {
    work: Option<F>,
    result: Option<Result<Verdict<T>, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    claimed: Arc<AtomicBool>,
    context: &'static str,
    is_news: bool,
}

#[async_trait]
impl<T, F> Unit for TypedUnit<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Running<'c, T> + Send + 'static,
{
    fn claim(&self) -> bool {
        !self.reply.is_closed() && !self.claimed.swap(true, Ordering::AcqRel)
    }

    async fn run(&mut self, connection: &mut SqliteConnection) -> Ran {
        if let Some(work) = self.work.take() {
            self.result = Some(work(connection).await);
        }
        if matches!(self.result, Some(Ok(Verdict::Keep(_)))) { Ran::Kept } else { Ran::Undone }
    }

    fn is_news(&self) -> bool {
        self.is_news
    }

    fn answer(self: Box<Self>, failure: Option<&GroupFailure>) {
        let answer = match (failure, self.result) {
            (None, Some(Ok(Verdict::Keep(value) | Verdict::Undo(value)))) => Ok(value),
            (None, Some(Err(error))) => Err(error),
            (Some(failure), _) => Err(failure.tell(self.context)),
            (None, None) => Err(unavailable(self.context, "it was not run")),
        };
        // A caller that has gone away does not need it.
        drop(self.reply.send(answer));
    }

    fn take_error(&mut self) -> Option<StoreError> {
        match self.result.take() {
            Some(Err(error)) => Some(error),
            other => {
                self.result = other;
                None
            }
        }
    }
}

async fn serve(
    mut units: mpsc::Receiver<Box<dyn Unit>>,
    mut connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    commits: watch::Sender<u64>,
    stop: Arc<Notify>,
) {
    loop {
        let first = tokio::select! {
            first = units.recv() => first,
            () = stop.notified() => {
                units.close();
                continue;
            }
        };
        let Some(first) = first else { break };
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = units.try_recv() else { break };
            group.push(next);
        }
        group.retain(|unit| unit.claim());
        if group.is_empty() {
            continue;
        }
        match run_group(&mut connection, &options, &mut group).await {
            Ok(is_news) => {
                if is_news {
                    commits.send_modify(|count| *count = count.wrapping_add(1));
                }
                for unit in group {
                    unit.answer(None);
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, units = group.len(), "a group of writes was not stored");
                if let Some(broken) = connection.take() {
                    drop(broken.close_hard().await);
                }
                let failure = GroupFailure::of(error);
                for unit in group {
                    unit.answer(Some(&failure));
                }
            }
        }
    }
    if let Some(connection) = connection {
        drop(connection.close().await);
    }
}

/// Runs the group in one transaction. Says whether anything was stored that is news; on an error nothing was stored.
async fn run_group(
    slot: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
    group: &mut [Box<dyn Unit>],
) -> Result<bool, StoreError> {
    let connection = match slot {
        Some(connection) => connection,
        None => slot.insert(options.connect().await.context("opening the database again")?),
    };
    let (mut stored, mut is_news) = (false, false);
    // Several statements in one text: each text is a message to the driver's thread and back.
    let mut next = "BEGIN IMMEDIATE; SAVEPOINT unit";
    for unit in group {
        execute(connection, next).await?;
        next = "RELEASE unit; SAVEPOINT unit";
        if unit.run(connection).await == Ran::Kept {
            stored = true;
            is_news |= unit.is_news();
        } else if let Err(gone) = execute(connection, "ROLLBACK TO unit").await {
            // SQLite gave up the whole transaction in the middle of this unit: its error is the cause.
            return Err(unit.take_error().unwrap_or(gone));
        }
    }
    if stored {
        execute(connection, "RELEASE unit; COMMIT").await?;
    } else {
        execute(connection, "ROLLBACK").await?;
    }
    Ok(is_news)
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.context("writing").map(drop)
}
