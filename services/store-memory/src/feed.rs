//! The change feed is the count of commits; changes are found by the number of each instance's latest write.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep_until, timeout_at};
use wherry_store::{ChangeCursor, ChangeFeed, Changes, Counters, StoreError};

use crate::MemoryStore;
use crate::database::Verdict;
use crate::state::InstanceRow;

/// After this a waiter looks for itself.
const POLL: Duration = Duration::from_secs(1);

#[async_trait]
impl ChangeFeed for MemoryStore {
    fn position(&self) -> u64 {
        *self.commits().borrow()
    }

    async fn changed(&self, seen: u64) -> u64 {
        let deadline = tokio::time::Instant::now() + POLL;
        let mut commits = self.commits();
        let newer = async {
            let count = commits.wait_for(|count| *count != seen).await.map(|count| *count);
            (count.unwrap_or(seen), self.trouble.wakes().await)
        };
        match timeout_at(deadline, newer).await {
            Ok((count, true)) => count,
            Ok((_, false)) => {
                sleep_until(deadline).await;
                seen
            }
            Err(_) => seen,
        }
    }

    async fn cursor(&self) -> Result<ChangeCursor, StoreError> {
        self.read("reading the cursor of changes", |state| ChangeCursor(state.last_write)).await
    }

    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError> {
        self.read("reading changes", |state| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
            let mut newer = state.writes.range(after.0.saturating_add(1)..).peekable();
            let (mut instances, mut next) = (Vec::new(), after);
            while instances.len() < limit
                && let Some((write, id)) = newer.next()
            {
                next = ChangeCursor(*write);
                instances
                    .extend(state.instances.get(id).and_then(InstanceRow::readable).map(|record| (**record).clone()));
            }
            Changes { instances, next, more: newer.peek().is_some() }
        })
        .await
    }
}

#[async_trait]
impl Counters for MemoryStore {
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError> {
        self.write_quietly("taking numbers of a counter", |state| {
            let first = state.counters.get(&name.to_owned()).copied().unwrap_or(1);
            state.counters.put(name.to_owned(), first + u64::from(count));
            Ok(Verdict::Keep(first))
        })
        .await
    }
}
