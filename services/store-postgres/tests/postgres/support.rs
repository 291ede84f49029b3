//! A store on a database of its own, in the server that all tests share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
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

    pub(crate) fn url(&self) -> String {
        self.database.url()
    }

    /// Does something to the database past the store.
    pub(crate) fn psql(&self, statements: &str) -> String {
        self.database.psql(statements).expect("the statements are right")
    }

    /// A session of somebody else.
    pub(crate) async fn stranger(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("the database takes connections")
    }
}

/// Waits until the server says `true`. For conditions that must come true, however slow the machine is.
pub(crate) async fn until(connection: &mut PgConnection, condition: &'static str) {
    let began = Instant::now();
    loop {
        let met: bool = sqlx::query_scalar(condition).fetch_one(&mut *connection).await.expect("a condition");
        if met {
            return;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "never came true: {condition}");
        sleep(Duration::from_millis(20)).await;
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
