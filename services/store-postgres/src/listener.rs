//! The connection that hears of other processes' commits, and tells them of ours.
//!
//! A commit is told after it, on this connection, at most once in [`PAUSE`]. NOTIFY in the transaction itself would make all
//! commits of the cluster queue for one lock that is held through their flush to disk: pgbench with 16 clients and one insert
//! each did 1,500 to 1,800 commits per second without, 360 to 480 with one NOTIFY of an empty payload each (PostgreSQL 15, two
//! cores, `fsync` on). If this process dies between the commit and the word of it, the others find it within their second of
//! polling.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::feed::Feed;
use crate::session::pool_options;

const CHANNEL: &str = "wherry";
/// Between two notifications: commits that meet are told together.
const PAUSE: Duration = Duration::from_millis(5);
/// After this long without news the connection is tried.
const QUIET: Duration = Duration::from_secs(10);
/// How long the server may take for a notification or a trial.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

/// The task of the listening connection. It ends with this handle.
#[derive(Debug)]
pub(crate) struct Listener {
    stop: Arc<Notify>,
}

impl Listener {
    pub(crate) fn start(options: PgConnectOptions, feed: Arc<Feed>) -> Self {
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stopped.notified() => {}
                () = run(options, &feed) => {}
            }
        });
        Self { stop }
    }

    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(options: PgConnectOptions, feed: &Feed) {
    loop {
        if let Err(error) = listen(&options, feed).await {
            tracing::warn!(%error, "the listening connection was lost; changes are found by polling meanwhile");
        }
        // What was missed is found by whoever looks.
        feed.wake();
        sleep(RETRY).await;
    }
}

/// Listens and tells until the connection fails.
async fn listen(options: &PgConnectOptions, feed: &Feed) -> Result<(), sqlx::Error> {
    let pool = pool_options(1, PATIENCE).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    feed.wake();
    loop {
        tokio::select! {
            biased;
            heard = timeout(QUIET, listener.try_recv()) => match heard {
                Ok(Ok(Some(notification))) => feed.heard(notification.payload()),
                Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
                Ok(Err(error)) => return Err(error),
                Err(_) => answer(sqlx::query("SELECT 1").execute(&mut listener)).await?,
            },
            () = feed.untold() => {
                answer(sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(feed.name()).execute(&mut listener)).await?;
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<(), sqlx::Error> {
    match timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map(drop),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
