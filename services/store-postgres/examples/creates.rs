//! How fast creates are: `cargo run --release -p wherry-store-postgres --example creates`.
//!
//! Prints creates per second and p50/p99 of `place_and_create` on SQLite and on PostgreSQL with one and with two replicas,
//! in one run on one disk, for 1, 4, 16 and 64 clients in all. Each create is durable when it is counted: the server that
//! is started here has `fsync` on. All creates go to one project; to one node, and then spread over eight.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wherry_model::{NodeId, PriceBook, ProjectId, TenantId};
use wherry_pg_cluster::{Cluster, Settings};
use wherry_store::{CreateOutcome, Store};
use wherry_store_contract::World;
use wherry_store_postgres::PostgresStore;
use wherry_store_sqlite::SqliteStore;

const CREATES: usize = 4_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<24} {:>6} {:>8} {:>12} {:>9} {:>9}", "store", "nodes", "clients", "creates/s", "p50 ms", "p99 ms");
    let cluster = Cluster::start(&Settings { durable: true, ..Settings::default() })?;
    let folder = cluster.log().parent().map(Path::to_owned).ok_or("the server's log is in no folder")?;
    // Beside the server's files: the same disk.
    let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.join("creates.db")).await?);
    measure("sqlite", &[sqlite]).await?;
    for replicas in [1, 2] {
        let url = cluster.url(&cluster.create_database()?);
        PostgresStore::migrate(&url).await?;
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..replicas {
            stores.push(Arc::new(PostgresStore::open(&url).await?));
        }
        measure(&format!("postgres, {replicas} replicas"), &stores).await?;
    }
    Ok(())
}

async fn measure(name: &str, stores: &[Arc<dyn Store>]) -> Result<(), Box<dyn std::error::Error>> {
    let first = stores.first().ok_or("no store")?;
    first.put_price_book(&PriceBook::default_book()).await?;
    let nobody = (TenantId::from_uuid(uuid::Uuid::nil()), ProjectId::from_uuid(uuid::Uuid::nil()));
    let world = World::bare(Arc::clone(first), nobody.0, nobody.1).with_tenant("acme").await;
    for nodes in [1, 8] {
        let mut places = Vec::new();
        for _ in 0..nodes {
            places.push(world.node_for(1_000_000).await);
        }
        for clients in [1, 4, 16, 64] {
            let began = Instant::now();
            let mut tasks = JoinSet::new();
            for (client, store) in stores.iter().cycle().take(clients).enumerate() {
                let prefix = format!("n{nodes}-c{clients}-{client}");
                tasks.spawn(create(world.over(Arc::clone(store)), places.clone(), prefix, client, CREATES / clients));
            }
            let mut taken: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
            let passed = began.elapsed();
            taken.sort_unstable();
            let millis = |part: usize| {
                taken.get((taken.len() * part / 100).min(taken.len() - 1)).map_or(0.0, |t| t.as_secs_f64() * 1e3)
            };
            let rate = f64::from(u32::try_from(taken.len())?) / passed.as_secs_f64();
            println!("{name:<24} {nodes:>6} {clients:>8} {rate:>12.0} {:>9.2} {:>9.2}", millis(50), millis(99));
        }
    }
    Ok(())
}

async fn create(world: World, places: Vec<NodeId>, prefix: String, client: usize, count: usize) -> Vec<Duration> {
    let mut taken = Vec::new();
    for number in 0..count {
        let name = format!("{prefix}-{number}");
        let node = places[(client + number) % places.len()];
        let mut placed = world.create_with(&name, node, 1, |spec| {
            spec.labels.insert("app".to_owned(), "bench".to_owned());
        });
        placed.idempotency = Some((name, [7; 32]));
        let began = Instant::now();
        let outcome = world.store.place_and_create(&placed).await;
        taken.push(began.elapsed());
        assert!(matches!(outcome, Ok(CreateOutcome::Created(_))), "{outcome:?}");
    }
    taken
}
