//! The store on PostgreSQL, for any number of processes at once.
//!
//! What holds here:
//! - a write is acknowledged after a COMMIT with `synchronous_commit` on: it survives a crash of the server; a COMMIT whose
//!   answer is lost is looked into, not guessed at (`transaction.rs`);
//! - every rule that two processes could race for is decided by a row or a constraint: guarded UPDATEs with their affected
//!   rows, unique indexes through `ON CONFLICT DO NOTHING`, exclusion constraints, triggers;
//! - locks are taken in one order: new rows and rows of instances (by id), rows of nodes (by id), numbering of projects. So
//!   transactions wait for each other but do not deadlock, and the rows of nodes, which everybody wants, are held shortest;
//! - everything waits for a bounded time: for a connection, a lock, a statement, an answer.
//!
//! A connection is a session: a pooler between must pool sessions, not transactions (advisory locks, LISTEN, statements that
//! are kept prepared).

mod audit;
mod columns;
mod error;
mod event;
mod feed;
mod fleet;
mod instance;
mod listener;
mod meter;
mod node;
mod open;
mod readable;
mod rows;
mod schema;
mod session;
mod tenant;
mod transaction;
mod webhook;

use std::sync::Arc;

pub use open::OpenError;
pub use session::PostgresSettings;

use instance::Lanes;
use listener::Listener;
use transaction::Connections;

/// The store on one PostgreSQL database. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct PostgresStore {
    connections: Arc<Connections>,
    lanes: Lanes,
    listener: Listener,
}
