//! What may go wrong between a process and its database, and who looks on.

use async_trait::async_trait;
use wherry_model::{Instance, NodeRecord};
use wherry_store::StoreError;

/// Comes between a caller and the data. The caller may be dropped while either of the two waits.
#[async_trait]
pub trait Trouble: Send + Sync {
    /// Before anything is done: waits, or fails the call, which then does nothing.
    async fn before(&self, call: &'static str) -> Result<(), StoreError>;

    /// When all is done: waits, or fails the call although it was done. For a write that is an ambiguous commit.
    async fn after(&self, call: &'static str, wrote: bool) -> Result<(), StoreError>;

    /// Before a waiter learns of a commit; false when the wake-up is lost.
    async fn wakes(&self) -> bool;
}

/// No trouble.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calm;

#[async_trait]
impl Trouble for Calm {
    async fn before(&self, _call: &'static str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn after(&self, _call: &'static str, _wrote: bool) -> Result<(), StoreError> {
        Ok(())
    }

    async fn wakes(&self) -> bool {
        true
    }
}

/// Sees every commit, in order, while nobody else writes. It must not call the store.
pub trait Witness: Send + Sync {
    /// An instance was written; `after` is none when it was purged.
    fn instance_written(&self, before: Option<&Instance>, after: Option<&Instance>);

    /// A node's row was written.
    fn node_written(&self, before: Option<&NodeRecord>, after: &NodeRecord);
}
