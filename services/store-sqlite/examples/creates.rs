//! How fast creates are: `cargo run --release -p wherry-store-sqlite --example creates -- FOLDER`.
//!
//! Prints creates per second and p50/p99 of `place_and_create`, for one client and for 16 at once, on a database in
//! FOLDER (made if it is not there, best on the disk that will serve). Each create is durable when it is counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wherry_model::{NodeId, PriceBook, ProjectId, TenantId};
use wherry_store::{CreateOutcome, MeterStore};
use wherry_store_contract::World;
use wherry_store_sqlite::SqliteStore;

const CREATES: u32 = 4_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map(PathBuf::from).ok_or("say in which folder the database may be made")?;
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("creates.db");
    for old in ["db", "db-wal", "db-shm"] {
        match std::fs::remove_file(path.with_extension(old)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let store = Arc::new(SqliteStore::open(&path).await?);
    store.put_price_book(&PriceBook::default_book()).await?;
    let nobody = (TenantId::from_uuid(uuid::Uuid::nil()), ProjectId::from_uuid(uuid::Uuid::nil()));
    let world = World::bare(store.clone(), nobody.0, nobody.1).with_tenant("acme").await;
    let node = world.node_for(1_000_000).await;
    println!("{:>8} {:>12} {:>9} {:>9} {:>9}", "clients", "creates/s", "p50 ms", "p99 ms", "max ms");
    for clients in [1, 4, 16, 64] {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            tasks.spawn(create(world.clone(), node, format!("c{clients}-{client}"), CREATES / clients));
        }
        let mut taken: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
        let passed = began.elapsed();
        taken.sort_unstable();
        let millis = |part: usize| {
            taken.get((taken.len() * part / 100).min(taken.len() - 1)).map_or(0.0, |t| t.as_secs_f64() * 1e3)
        };
        let rate = f64::from(CREATES) / passed.as_secs_f64();
        println!("{clients:>8} {rate:>12.0} {:>9.2} {:>9.2} {:>9.2}", millis(50), millis(99), millis(100));
    }
    store.close().await;
    Ok(())
}

async fn create(world: World, node: NodeId, prefix: String, count: u32) -> Vec<Duration> {
    let mut taken = Vec::new();
    for number in 0..count {
        let mut placed = world.create_with(&format!("{prefix}-{number}"), node, i64::from(number), |spec| {
            spec.labels.insert("app".to_owned(), "bench".to_owned());
        });
        placed.idempotency = Some((format!("{prefix}-{number}"), [7; 32]));
        let began = Instant::now();
        let outcome = world.store.place_and_create(&placed).await;
        taken.push(began.elapsed());
        assert!(matches!(outcome, Ok(CreateOutcome::Created(_))), "{outcome:?}");
    }
    taken
}
