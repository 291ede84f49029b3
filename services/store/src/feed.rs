//! Waking up when something was written, and numbers that only grow.

use async_trait::async_trait;

use wherry_model::Instance;

use crate::error::StoreError;

/// Up to where a reader has read changes. Only the store that gave it understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeCursor(pub u64);

/// Instances that were written, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// As they are now, each once, in no order that matters.
    pub instances: Vec<Instance>,
    /// Where to read on.
    pub next: ChangeCursor,
    /// Whether there is more to read at once.
    pub more: bool,
}

/// Tells readers that something may have changed. It wakes, it does not say what: readers read state.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// A position to wait from. Taken before reading state, so that no change is missed.
    fn position(&self) -> u64;

    /// Returns a newer position after the next commit that is news, or the same one after at most a second. No news is what
    /// is written all the time and looked for by the clock: proofs of life, leases, presence of replicas, calls that were
    /// taken, numbers that were reserved, what was learnt.
    async fn changed(&self, seen: u64) -> u64;

    /// The cursor of now: what is written after this call is found from it. Taken before reading state.
    async fn cursor(&self) -> Result<ChangeCursor, StoreError>;

    /// Instances written since `after`, about `limit` of them: every write is found at least once, whatever the order in
    /// which transactions commit; a record may come again. Deleted ones come as long as they are kept.
    async fn changes(&self, after: ChangeCursor, limit: u32) -> Result<Changes, StoreError>;
}

/// Numbers that only grow, also over restarts.
#[async_trait]
pub trait Counters: Send + Sync {
    /// Takes `count` numbers of the counter `name` for the caller alone and returns the first.
    async fn reserve(&self, name: &str, count: u32) -> Result<u64, StoreError>;
}
