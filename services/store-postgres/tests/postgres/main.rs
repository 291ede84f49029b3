//! The store on PostgreSQL: the suite that every store must pass, and what is its own.

mod support;

use support::PostgresSubject;

async fn subject() -> PostgresSubject {
    PostgresSubject::new().await
}

wherry_store_contract::store_contract!(crate::subject);
