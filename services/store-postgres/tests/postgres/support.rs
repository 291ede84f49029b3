//! A store on a database of its own, in the server that all tests share.

use std::sync::Arc;

use async_trait::async_trait;
use wherry_pg_cluster::{Database, Shared};
use wherry_store::Store;
use wherry_store_contract::Subject;
use wherry_store_postgres::{OpenError, PostgresStore};

pub(crate) struct PostgresSubject {
    store: Arc<PostgresStore>,
    database: Database,
}

impl PostgresSubject {
    pub(crate) async fn new() -> Self {
        let database = database().await;
        let store = open(&database.url()).await;
        Self { store, database }
    }
}

/// A migrated database without content.
pub(crate) async fn database() -> Database {
    let shared = Shared::join().expect("PostgreSQL is installed");
    let template = format!("wherry_{:016x}", PostgresStore::schema_fingerprint());
    let migrate = async |url: String| -> Result<(), OpenError> { PostgresStore::migrate(&url).await };
    shared.database(&template, migrate).await.expect("a database can be made")
}

pub(crate) async fn open(url: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(url).await.expect("the database can be opened"))
}

#[async_trait]
impl Subject for PostgresSubject {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = open(&self.database.url()).await;
    }
}
