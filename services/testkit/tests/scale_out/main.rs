//! Four replicas with pictures of the past, one store: whatever they propose, the rows decide.

#![expect(clippy::unwrap_used, reason = "every line of this crate is a test")]

mod fleet;

use std::sync::Arc;

use wherry_pg_cluster::{Database, Shared};
use wherry_store::Store;
use wherry_store_postgres::{OpenError, PostgresStore};
use wherry_store_sqlite::SqliteStore;
use wherry_testkit::seeds;

use fleet::{Fleet, REPLICAS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_pictures_oversubscribe_no_machine_of_a_store_in_a_file() {
    for seed in seeds(2) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path().join("wherry.db")).await.unwrap());
        let stores = [(); REPLICAS].map(|()| Arc::clone(&store) as Arc<dyn Store>);
        Fleet::open(stores, seed).await.race().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_pictures_oversubscribe_no_machine_of_a_store_on_a_server() {
    for seed in seeds(2) {
        let database = database().await;
        let mut stores = Vec::new();
        for _ in 0..REPLICAS {
            stores.push(Arc::new(PostgresStore::open(&database.url()).await.unwrap()) as Arc<dyn Store>);
        }
        Fleet::open(stores.try_into().ok().unwrap(), seed).await.race().await;
    }
}

/// A migrated database without content.
async fn database() -> Database {
    let shared = Shared::join().expect("PostgreSQL is installed");
    let template = format!("wherry_{:016x}", PostgresStore::schema_fingerprint());
    let migrate = async |url: String| -> Result<(), OpenError> { PostgresStore::migrate(&url).await };
    shared.database(&template, migrate).await.expect("a database can be made")
}
