//! What was written since.
//!
//! `instances.changed` is the id of the transaction of the latest write. Ids are given out when a transaction first writes,
//! and seen when it commits: in another order. So a reader may go on only from the oldest transaction that is still under
//! way; what younger ones have written comes again. Which ones are under way is told by the snapshot, and which of those are strangers' by
//! `pg_locks`: ours hold an advisory lock (`transaction.rs`).
//!
//! Rejected: `pg_snapshot_xmin` as the horizon (one long transaction in any database of the server would have every replica
//! read everything since then again, at each wake-up); a sequence under a lock (all commits would queue for it).

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use wherry_store::{ChangeCursor, ChangeFeed, Changes, Counters, StoreError};

use crate::PostgresStore;
use crate::columns::Fields;
use crate::error::{Context, violation};
use crate::instance;
use crate::readable::readable;
use crate::transaction::{Unit, Verdict, WRITERS};

/// After this a waiter looks for itself: a notification may have been lost.
const POLL: Duration = Duration::from_secs(1);

/// Counts what was heard of commits, of this process and of others.
#[derive(Debug)]
pub(crate) struct Feed {
    position: watch::Sender<u64>,
    untold: Notify,
    name: String,
}

impl Feed {
    pub(crate) fn new(number: u32) -> Self {
        Self { position: watch::channel(0).0, untold: Notify::new(), name: number.to_string() }
    }

    /// This process has committed.
    pub(crate) fn committed(&self) {
        self.wake();
        self.untold.notify_one();
    }

    /// Something may have been committed.
    pub(crate) fn wake(&self) {
        self.position.send_modify(|position| *position = position.wrapping_add(1));
    }

    /// Some process has told of a commit; of our own we know.
    pub(crate) fn heard(&self, name: &str) {
        if name != self.name {
            self.wake();
        }
    }

    /// Waits for a commit of this process that others were not told of.
    pub(crate) async fn untold(&self) {
        self.untold.notified().await;
    }

    /// Who tells.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl ChangeFeed for PostgresStore {
    fn position(&self) -> u64 {
        *self.connections.feed.position.borrow()
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut position = self.connections.feed.position.subscribe();
        let newer = timeout(POLL, position.wait_for(|position| *position != seen)).await;
        match newer.map(|found| found.map(|position| *position)) {
            Ok(Ok(position)) => position,
            Err(_) => seen,
            Ok(Err(_)) => {
                // Not while this store exists. Waiters keep their pace, they must not spin.
                sleep(POLL).await;
                seen
            }
        }
    }

    async fn cursor(&self) -> Result<ChangeCursor, StoreError> {
        self.horizon().await
    }

    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
        const CONTEXT: &str = "reading what was changed";
        // Before the rows: what ends in between is seen with them.
        let horizon = self.horizon().await?;
        let limit = limit.max(1);
        let from = i64::try_from(after.0).unwrap_or(i64::MAX);
        // With ties: all that one transaction wrote, so that the next read may begin behind it.
        let query = sqlx::query(
            "SELECT id, record::text AS record, changed FROM instances WHERE changed >= $1 AND changed < $2
             ORDER BY changed FETCH FIRST $3 ROWS WITH TIES",
        );
        let settled = query.bind(from).bind(i64::try_from(horizon.0).unwrap_or(i64::MAX)).bind(i64::from(limit));
        let mut rows = self.connections.fetch_all(CONTEXT, settled).await?;
        let more = u64::try_from(rows.len()).is_ok_and(|found| found >= u64::from(limit));
        let next = match rows.last() {
            Some(row) if more => {
                let last: u64 = Fields { table: "instances", row }.count("changed")?;
                ChangeCursor(last + 1)
            }
            _ => {
                // Up to the present: also what is beyond the horizon, which comes again.
                let query =
                    sqlx::query("SELECT id, record::text AS record, changed FROM instances WHERE changed >= $1");
                let recent = query.bind(from.max(i64::try_from(horizon.0).unwrap_or(i64::MAX)));
                rows.extend(self.connections.fetch_all(CONTEXT, recent).await?);
                ChangeCursor(horizon.0.max(after.0))
            }
        };
        Ok(Changes { instances: readable(&rows, instance::record), next, more })
    }
}

impl PostgresStore {
    /// Every transaction of ours with a lower id has ended.
    async fn horizon(&self) -> Result<ChangeCursor, StoreError> {
        const CONTEXT: &str = "reading which writes are under way";
        // The snapshot is older than what `pg_locks` tells: what has ended in between counts as under way, as does what has an
        // id but not its lock yet. Only what is known to be a stranger's is passed over.
        let query = sqlx::query(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next,
                 ARRAY(SELECT id::text::bigint FROM pg_snapshot_xip(pg_current_snapshot()) AS id) AS running,
                 ARRAY(
                     SELECT id.transactionid::text::bigint FROM pg_locks AS id
                     WHERE id.locktype = 'transactionid' AND id.mode = 'ExclusiveLock' AND id.granted
                       AND NOT EXISTS (
                           SELECT 1 FROM pg_locks AS writer
                           WHERE writer.virtualtransaction = id.virtualtransaction AND writer.locktype = 'advisory'
                             AND writer.classid = $1::int4::oid AND writer.mode = 'ShareLock'
                             AND writer.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       )
                 ) AS strangers",
        );
        let rows = self.connections.fetch_all(CONTEXT, query.bind(WRITERS)).await?;
        let row = rows.first().ok_or_else(|| violation(CONTEXT))?;
        let next: i64 = row.try_get("next").context(CONTEXT)?;
        let (running, strangers): (Vec<i64>, Vec<i64>) =
            (row.try_get("running").context(CONTEXT)?, row.try_get("strangers").context(CONTEXT)?);
        Ok(ChangeCursor(u64::try_from(oldest(next, &running, &strangers)).unwrap_or(0)))
    }
}

/// The lowest of `next` and the running transactions but the strangers', of whose ids `pg_locks` tells the lower 32 bits.
fn oldest(next: i64, running: &[i64], strangers: &[i64]) -> i64 {
    let ours = running.iter().filter(|id| !strangers.contains(&(*id & 0xffff_ffff)));
    ours.copied().min().unwrap_or(next)
}

struct Reserve<'a> {
    name: &'a str,
    count: u32,
}

#[async_trait]
impl Unit for Reserve<'_> {
    type Answer = u64;

    async fn run(&self, connection: &mut PgConnection) -> Result<Verdict<u64>, StoreError> {
        let row = sqlx::query(
            "INSERT INTO counters AS counter (name, next) VALUES ($1, 1 + $2)
             ON CONFLICT (name) DO UPDATE SET next = counter.next + $2 RETURNING name, counter.next - $2 AS first",
        )
        .bind(self.name)
        .bind(i64::from(self.count))
        .fetch_one(connection)
        .await
        .context("taking numbers of a counter")?;
        Fields { table: "counters", row: &row }.count("first").map(Verdict::Keep)
    }

    fn is_news(&self) -> bool {
        false
    }
}

#[async_trait]
impl Counters for PostgresStore {
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError> {
        self.connections.write("taking numbers of a counter", &Reserve { name, count }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_a_strangers_is_passed_over() {
        assert_eq!(oldest(1_000, &[], &[]), 1_000);
        assert_eq!(oldest(1_000, &[990, 995], &[]), 990);
        assert_eq!(oldest(1_000, &[990, 995], &[990]), 995);
        assert_eq!(oldest(1_000, &[990, 995], &[990, 995, 1_004]), 1_000);
        let epoch = 1_i64 << 32;
        assert_eq!(oldest(epoch + 9, &[epoch + 3, epoch + 5], &[3]), epoch + 5);
    }
}
