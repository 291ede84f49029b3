//! The store on SQLite: the suite that every store must pass, and what is its own: opening, faults of disk and process.

mod backup;
mod crashes;
mod gathering;
mod opening;
mod records;
mod schema;
mod support;
mod upgrading;
mod writing;

use support::SqliteSubject;

async fn subject() -> SqliteSubject {
    SqliteSubject::new().await
}

wherry_store_contract::store_contract!(crate::subject);
