//! The change feed of one process is its count of commits; counters are rows.
//!
//! Every write of an instance takes the next number of the counter `changes`. There is one writer, so numbers appear in
//! their order: whoever has read up to one has missed none below.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use tokio::time::{sleep, timeout};
use wherry_store::{ChangeCursor, ChangeFeed, Changes, Counters, StoreError};

use crate::SqliteStore;
use crate::columns::Fields;
use crate::error::Context;
use crate::instance;
use crate::readable::readable;
use crate::writer::Verdict;

/// After this a waiter looks for itself: another process may have written.
const POLL: Duration = Duration::from_secs(1);

#[async_trait]
impl ChangeFeed for SqliteStore {
    fn position(&self) -> u64 {
        *self.writer.commits().borrow()
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut commits = self.writer.commits();
        let newer = timeout(POLL, commits.wait_for(|count| *count != seen)).await;
        match newer.map(|found| found.map(|count| *count)) {
            Ok(Ok(count)) => count,
            Err(_) => seen,
            Ok(Err(_)) => {
                // The writer has ended. Waiters keep their pace, they must not spin.
                sleep(POLL).await;
                seen
            }
        }
    }

    async fn cursor(&self) -> Result<ChangeCursor, StoreError> {
        let next: i64 = sqlx::query_scalar("SELECT next FROM counters WHERE name = 'changes'")
            .fetch_one(&self.readers)
            .await
            .context("reading the number of the latest change")?;
        Ok(ChangeCursor(u64::try_from(next - 1).unwrap_or(0)))
    }

    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
        let limit = limit.max(1);
        let rows = sqlx::query("SELECT id, record, changed FROM instances WHERE changed > ? ORDER BY changed LIMIT ?")
            .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .context("reading what was changed")?;
        let next = match rows.last() {
            Some(row) => ChangeCursor(Fields { table: "instances", row }.count("changed")?),
            None => after,
        };
        let more = u64::try_from(rows.len()).is_ok_and(|found| found >= u64::from(limit));
        Ok(Changes { instances: readable(&rows, instance::record), next, more })
    }
}

/// The first of `count` numbers of writes that are about to be made.
pub(crate) async fn next_changes(connection: &mut SqliteConnection, count: usize) -> Result<i64, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query_scalar("UPDATE counters SET next = next + ?1 WHERE name = 'changes' RETURNING next - ?1")
        .bind(count)
        .fetch_one(connection)
        .await
        .context("numbering changes")
}

#[async_trait]
impl Counters for SqliteStore {
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError> {
        let name = name.to_owned();
        let first: i64 = self
            .writer
            .run_quietly("taking numbers of a counter", move |connection| {
                Box::pin(async move {
                    let first = sqlx::query_scalar(
                        "INSERT INTO counters (name, next) VALUES (?1, 1 + ?2)
                         ON CONFLICT (name) DO UPDATE SET next = next + ?2 RETURNING next - ?2",
                    )
                    .bind(name)
                    .bind(count)
                    .fetch_one(connection)
                    .await
                    .context("taking numbers of a counter")?;
                    Ok(Verdict::Keep(first))
                })
            })
            .await?;
        u64::try_from(first).map_err(|_| StoreError::Corrupt {
            table: "counters",
            key: "next".to_owned(),
            message: "is negative".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use sqlx::QueryBuilder;

    use crate::plan::assert_plan;

    /// What followers, placers and agents ask for all the time costs what it finds.
    #[tokio::test]
    async fn what_is_polled_is_read_by_index() {
        for (statement, step) in [
            (
                "SELECT id, record, changed FROM instances WHERE changed > 1 ORDER BY changed LIMIT 9",
                "instances_by_change",
            ),
            ("SELECT 1 FROM calls WHERE node = x'00' AND expires_at > 1", "calls_of_node"),
        ] {
            assert_plan(QueryBuilder::new(statement), &[step]).await;
        }
    }
}
