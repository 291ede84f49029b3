//! The store on PostgreSQL: the suite that every store must pass, and what is its own: opening, following changes, and
//! faults of the server, the network and other sessions.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

mod collisions;
mod faults;
mod following;
mod lost_commits;
mod opening;
mod records;
mod schema;
mod support;

use support::PostgresSubject;

async fn subject() -> PostgresSubject {
    PostgresSubject::new().await
}

wherry_store_contract::store_contract!(crate::subject);
