//! The store on one embedded SQLite file.
//!
//! What holds here:
//! - WAL with `synchronous=FULL`: an acknowledged write survives `kill -9` and a power cut;
//! - one writer connection, owned by one task (see [`writer`](self)); callers queue for it, and those that meet there
//!   share a transaction and its fsync. A caller that goes away leaves nothing half done: it owns no transaction;
//! - reads go to a small pool of read-only connections and never wait for the writer;
//! - every rule that two callers could race for is decided by a row: guarded UPDATEs with their affected rows, unique
//!   indexes through `ON CONFLICT DO NOTHING`, triggers for intervals and prices.
//!
//! Rejected: a writer out of a pool with `BEGIN IMMEDIATE` in the caller's future (a dropped future leaves its
//! transaction to a rollback "some time later", and every create pays its own fsync); a transaction object in the
//! contract (it would let two calls of a caller deadlock on the one writer).

mod audit;
mod backup;
mod columns;
mod error;
mod event;
mod feed;
mod fleet;
mod gather;
mod instance;
mod meter;
mod node;
mod open;
#[cfg(test)]
mod plan;
mod readable;
mod tenant;
mod webhook;
mod writer;

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool};
use wherry_store::{CreateOutcome, LifeOutcome, Placed, StoreError};

pub use backup::{Attachment, BackupError, back_up, restore};
pub use open::OpenError;

use error::Context;
use gather::Gather;
use node::Life;
use writer::Writer;

/// The store on one SQLite file. Cheap to share behind an `Arc`; open it once per process.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: Arc<Writer>,
    creates: Arc<Gather<Placed, CreateOutcome>>,
    lives: Arc<Gather<Life, LifeOutcome>>,
}

impl SqliteStore {
    async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.readers.acquire().await.context("waiting for a connection to read")
    }
}
