//! Waking up when something was written, and numbers that only grow.

use async_trait::async_trait;

use crate::error::StoreError;

/// Tells readers that something may have changed. It wakes, it does not say what: readers read state.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// A position to wait from. Taken before reading state, so that no change is missed.
    fn position(&self) -> u64;

    /// Returns a newer position after the next commit, or the same one after at most a second.
    async fn changed(&self, seen: u64) -> u64;
}

/// Numbers that only grow, also over restarts.
#[async_trait]
pub trait Counters: Send + Sync {
    /// Takes `count` numbers of the counter `name` for the caller alone and returns the first.
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError>;
}
