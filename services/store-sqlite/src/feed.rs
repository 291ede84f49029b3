//! The change feed of one process is its count of commits; counters are rows.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use wherry_store::{ChangeFeed, Counters, StoreError};

use crate::SqliteStore;
use crate::error::Context;
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
}

#[async_trait]
impl Counters for SqliteStore {
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError> {
        let name = name.to_owned();
        let first: i64 = self
            .writer
            .run("taking numbers of a counter", move |connection| {
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
