//! Four replicas that place at the same time, against one store: how often a row refuses what one of them proposed because another was
//! first. `cargo xtask bench scale-out` builds and runs it.
//!
//! The replicas are whole ones (`control` with its background work, which follows the changes of the others), each with a store of its
//! own on PostgreSQL; on SQLite, which one process has, they share it. Machines are rows. Creates come at their times whether the ones
//! before have been answered or not. What the disk of this machine cannot do is done once more in virtual time, with the engine, rows in
//! memory and the delays that were measured.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

mod machines;
mod virtual_time;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _, TryRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wherry_control::{Background, Control, ControlConfig, CreateInstance};
use wherry_model::{Clock, Entropy, InstanceSpec, Principal, ProjectName, ScopeSet, Subject, TenantName, Timestamp};
use wherry_pg_cluster::{Cluster, Settings};
use wherry_store::Store;
use wherry_store_postgres::PostgresStore;
use wherry_store_sqlite::SqliteStore;
use wherry_testkit::{RecordingZone, sized};

pub(crate) const REPLICAS: usize = 4;

/// Creates that may be under way at once; beyond it the driver waits, and says that it did.
const UNDER_WAY: usize = 4_000;

/// The database has the disk of this machine and its two cores with everybody else.
const SECONDS: u64 = 15;

struct RealClock;
impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "measurements are made in real time")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap())
    }
}

struct RealEntropy;
impl Entropy for RealEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        SysRng.try_fill_bytes(bytes).unwrap();
    }
}

/// What one run gave.
pub(crate) struct Measured {
    what: String,
    /// Creates that were answered with an instance, a second.
    done_per_s: u64,
    full: u32,
    proposals: u64,
    refused: u64,
    /// From the scheduled time to the answer, sorted.
    pub(crate) answers: Vec<Duration>,
    /// From the decision to when another replica can know of it, sorted.
    pub(crate) delays: Vec<Duration>,
}

/// Hundredths of a percent, rounded up.
pub(crate) fn rate(refused: u64, proposals: u64) -> String {
    let hundredths = (refused * 10_000).div_ceil(proposals.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> String {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let micros = sorted.get(rank - 1).copied().unwrap_or_default().as_micros();
    format!("{}.{}", micros / 1_000, micros % 1_000 / 100)
}

impl Measured {
    fn row(&self) -> String {
        let Self { what, done_per_s, full, proposals, refused, answers, delays } = self;
        format!(
            "| {what} | {done_per_s} | {} | {} | {} | {} | {proposals} | {refused} | {} | {full} |",
            percentile(answers, 50),
            percentile(answers, 99),
            percentile(delays, 50),
            percentile(delays, 99),
            rate(*refused, *proposals)
        )
    }
}

/// Sizes of containers: many small ones, few large ones.
pub(crate) fn size(random: &mut StdRng) -> (u32, u32) {
    let cpu = [100, 250, 250, 500, 500, 1_000, 1_000, 2_000, 4_000][random.random_range(0..9)];
    (cpu, cpu * random.random_range(1..4) / 2 + 64)
}

/// On average, in thousandths of a core.
pub(crate) const MEAN_CPU: u64 = 1_066;

async fn replicas(stores: Vec<Arc<dyn Store>>) -> Vec<Control> {
    let mut controls = Vec::new();
    for store in stores {
        let mut config = ControlConfig::new([7; 32]);
        // These machines say nothing.
        config.detection = Duration::from_hours(24);
        let (clock, entropy, zone) = (Arc::new(RealClock), Arc::new(RealEntropy), Arc::new(RecordingZone::default()));
        controls.push(Control::open(store, clock, entropy, zone, config).await.unwrap());
    }
    controls
}

async fn create(control: &Control, caller: &Principal, spec: InstanceSpec) -> bool {
    let request = CreateInstance { project: ProjectName::default_project(), name: None, spec, idempotency_key: None };
    match control.create_instance(caller, request).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), "capacity_unavailable", "{error}");
            false
        }
    }
}

/// `per_s` creates a second for [`SECONDS`], evenly on the replicas.
async fn measure(what: &str, stores: Vec<Arc<dyn Store>>, per_s: u64) -> Measured {
    let watched = Arc::clone(stores.last().unwrap());
    let controls = replicas(stores).await;
    let tenant = controls[0].ensure_tenant(TenantName::new("acme").unwrap()).await.unwrap().id;
    let subject = Subject::External { issuer: "bench".to_owned(), subject: "bench".to_owned() };
    let caller = Principal { tenant, subject, scopes: ScopeSet::tenant() };
    let mut random = StdRng::seed_from_u64(1);
    let all = per_s * SECONDS;
    machines::join(&controls[0]).await;
    let background: Vec<Background> = controls.iter().map(Background::start).collect();
    for ballast in machines::ballast(&mut random, all) {
        assert!(create(&controls[0], &caller, sized(ballast.0, ballast.1)).await, "the ballast fits");
    }
    // Until every replica has seen all of it, and the others.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before: Vec<_> = controls.iter().map(Control::proposal_counts).collect();
    let watching = tokio::spawn(delays(watched));

    let (begun, room) = (Instant::now(), Arc::new(Semaphore::new(UNDER_WAY)));
    let mut under_way = JoinSet::new();
    for number in 0..all {
        let at = begun + Duration::from_micros(number * 1_000_000 / per_s);
        tokio::time::sleep_until(at).await;
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let (cpu, memory) = size(&mut random);
        let control = controls[usize::try_from(number).unwrap() % REPLICAS].clone();
        let caller = caller.clone();
        under_way.spawn(async move {
            let _permit = permit;
            create(&control, &caller, sized(cpu, memory)).await.then(|| at.elapsed())
        });
    }
    let answers: Vec<Option<Duration>> = under_way.join_all().await;
    let took = begun.elapsed();
    watching.abort();
    let delays = watching.await.unwrap_err();
    assert!(delays.is_cancelled());
    for background in background {
        background.stop().await;
    }
    let counts = controls.iter().zip(before).map(|(control, before)| {
        let after = control.proposal_counts();
        (after.made - before.made, after.refused - before.refused)
    });
    let (proposals, refused) = counts.fold((0, 0), |(made, refused), (m, r)| (made + m, refused + r));
    let full = u32::try_from(answers.iter().filter(|answer| answer.is_none()).count()).unwrap();
    let mut answers: Vec<Duration> = answers.into_iter().flatten().collect();
    answers.sort_unstable();
    let done_per_s = u64::try_from(answers.len()).unwrap() * 1_000 / u64::try_from(took.as_millis()).unwrap().max(1);
    let mut delays = std::mem::take(&mut *DELAYS.lock().unwrap());
    delays.sort_unstable();
    machines::check(&controls[0]).await;
    Measured { what: what.to_owned(), done_per_s, full, proposals, refused, answers, delays }
}

static DELAYS: std::sync::Mutex<Vec<Duration>> = std::sync::Mutex::new(Vec::new());

/// How long after its decision each new instance is read by who follows as replicas do.
async fn delays(store: Arc<dyn Store>) {
    let mut after = store.cursor().await.unwrap();
    loop {
        let seen = store.position();
        let changes = store.changes(after, 500).await.unwrap();
        after = changes.next;
        let now = RealClock.now();
        let new = changes.instances.iter().filter(|instance| instance.revision.0 == 1);
        let since = new.map(|instance| now.since(instance.created_at)).filter(|delay| *delay < Duration::from_secs(5));
        DELAYS.lock().unwrap().extend(since);
        if !changes.more {
            store.changed(seen).await;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

#[tokio::main]
async fn main() {
    let rates: Vec<u64> = std::env::args().skip(1).map(|rate| rate.parse().expect("rates are numbers")).collect();
    let rates = if rates.is_empty() { vec![2_000] } else { rates };
    println!(
        "| store | creates/s | answer p50 ms | p99 ms | known elsewhere p50 ms | p99 ms | proposals | refused by the row | conflicts | no room |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    let mut last = None;
    for per_s in rates {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path().join("wherry.db")).await.unwrap());
        let what = format!("SQLite, asked for {per_s}");
        println!("{}", measure(&what, vec![store; REPLICAS], per_s).await.row());
        let cluster = Cluster::start(&Settings { durable: true, ..Settings::default() }).unwrap();
        let url = cluster.url(&cluster.create_database().unwrap());
        PostgresStore::migrate(&url).await.unwrap();
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..REPLICAS {
            stores.push(Arc::new(PostgresStore::open(&url).await.unwrap()));
        }
        let measured = measure(&format!("PostgreSQL, asked for {per_s}"), stores, per_s).await;
        println!("{}", measured.row());
        last = Some(measured);
    }
    let Some(measured) = last else { return };
    println!("\n{}", virtual_time::report(&measured));
}
