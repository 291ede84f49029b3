//! Creates a second over the HTTP API: SQLite, PostgreSQL with one replica, with two; side by side, round after round, so that
//! whatever else the machine does disturbs them alike.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wherry_model::Capacity;

use crate::agents::{self, Agent, Work};
use crate::api::Api;
use crate::figures::{Samples, median, millis};
use crate::plane::{Plane, Store};

/// Quick and in earnest.
const ROUNDS: [usize; 2] = [1, 5];
const ROUND: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(1);
/// Callers at once, shared among the replicas.
const CALLERS: usize = 32;
const MACHINES: usize = 24;
/// What a machine of 64 cores has; the number of instances ends first.
const CAPACITY: Capacity = Capacity { cpu_millis: 640_000, memory_mib: 2_621_440, instances: 10_000 };

/// One control plane under measurement.
struct Subject {
    name: &'static str,
    plane: Plane,
    apis: Vec<Api>,
    _agents: Vec<Agent>,
    rates: Vec<f64>,
    times: Samples,
}

impl Subject {
    async fn start(binary: &Path, name: &'static str, store: Store, replicas: usize) -> Result<Self> {
        let plane = Plane::start(binary, store, replicas).await?;
        let first = Api::connect(plane.replicas.first().context("there is no replica")?).await?;
        let agents = agents::join(&first, &plane.folder().join("agents"), MACHINES, CAPACITY, Work::Nothing).await?;
        let apis = plane.replicas.iter().map(|replica| first.at(replica)).collect();
        Ok(Self { name, plane, apis, _agents: agents, rates: Vec::new(), times: Samples::default() })
    }

    async fn round(&mut self, number: usize, time: Duration, counts: bool) -> Result<()> {
        let serial = Arc::new(AtomicU64::new(0));
        let (begun, mut callers) = (Instant::now(), tokio::task::JoinSet::new());
        for caller in 0..CALLERS {
            let (api, serial) = (self.apis[caller % self.apis.len()].clone(), Arc::clone(&serial));
            callers.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < time {
                    let key = format!("bench-{number}-{}", serial.fetch_add(1, Ordering::Relaxed));
                    let asked = Instant::now();
                    api.create(&key).await?;
                    times.push(asked.elapsed());
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(outcome) = callers.join_next().await {
            times.extend(outcome.context("a caller ended")?.with_context(|| self.name)?);
        }
        if counts {
            let count = f64::from(u32::try_from(times.len())?);
            let rate = count / begun.elapsed().as_secs_f64();
            eprintln!("{}: {rate:.0} creates/s", self.name);
            self.rates.push(rate);
            self.times.extend(times);
        }
        Ok(())
    }
}

/// Lines for the report.
pub(crate) async fn measure(binary: &Path, quick: bool) -> Result<Vec<String>> {
    let rounds = ROUNDS[usize::from(!quick)];
    let mut subjects = [
        Subject::start(binary, "SQLite, 1 replica", Store::Sqlite, 1).await?,
        Subject::start(binary, "PostgreSQL, 1 replica", Store::Postgres, 1).await?,
        Subject::start(binary, "PostgreSQL, 2 replicas", Store::Postgres, 2).await?,
    ];
    for subject in &mut subjects {
        subject.round(0, WARM_UP, false).await?;
    }
    for number in 1..=rounds {
        for subject in &mut subjects {
            subject.round(number, ROUND, true).await?;
        }
    }
    let mut lines = vec![
        "### Creates".to_owned(),
        String::new(),
        "| store | creates | per second, median round | least and most | ratio | p50 ms | p99 ms |".to_owned(),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    let first = median(subjects[0].rates.clone());
    for subject in &subjects {
        let rate = median(subject.rates.clone());
        let least = subject.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = subject.rates.iter().copied().fold(0.0, f64::max);
        ensure!(subject.plane.replicas.len() == subject.apis.len(), "each replica is asked");
        let [half, most_of_them] = [50, 99].map(|percent| millis(subject.times.percentile(percent)));
        lines.push(format!(
            "| {} | {} | {rate:.0} | {least:.0} to {most:.0} | {:.2} | {half} | {most_of_them} |",
            subject.name,
            subject.times.count(),
            rate / first,
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "- {rounds} rounds of {} s each in turn, {CALLERS} callers at once over HTTP with keep-alive, evenly on the replicas, each create with \
         an idempotency key of its own; every commit is flushed (SQLite `synchronous=FULL`, PostgreSQL `fsync=on`)",
        ROUND.as_secs()
    ));
    lines.push(format!(
        "- capacity is simulated: {MACHINES} fake agents each, which prove life and take no work, so nothing is started; callers, agents, \
         replicas and PostgreSQL share the machine"
    ));
    Ok(lines)
}
