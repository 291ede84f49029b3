//! The store in memory passes the suite that every store must pass.

use std::sync::Arc;

use async_trait::async_trait;
use wherry_store::Store;
use wherry_store_contract::{Subject, World, damage};
use wherry_store_memory::{Calm, MemoryStore};

struct MemorySubject(MemoryStore);

#[async_trait]
impl Subject for MemorySubject {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    /// The data lives as long as any handle: another process comes up.
    async fn reopen(&mut self) {
        self.0 = self.0.handle(Arc::new(Calm));
    }
}

#[expect(clippy::unused_async, reason = "the suite waits for whatever makes its subject")]
async fn subject() -> MemorySubject {
    MemorySubject(MemoryStore::new())
}

wherry_store_contract::store_contract!(crate::subject);

#[tokio::test]
async fn a_broken_record_costs_itself_alone() {
    let subject = subject().await;
    let world = World::new(&subject).await;
    damage::a_broken_record_costs_itself_alone(&world, async |id| assert!(subject.0.break_record(id, true))).await;
}
