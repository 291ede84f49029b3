//! Five hundred agents that lose the control plane at once and come back at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;
use wherry_api_types::NodeState;
use wherry_model::Capacity;

use crate::agents::{self, Work};
use crate::api::Api;
use crate::figures::{Samples, millis};
use crate::plane::{Plane, Store};

/// Quick and in earnest.
const AGENTS: [usize; 2] = [50, 500];
const CAPACITY: Capacity = Capacity { cpu_millis: 64_000, memory_mib: 262_144, instances: 500 };
/// Between two reads of who watches the API meanwhile.
const READ_EVERY: Duration = Duration::from_millis(50);
/// What is read each time.
const PAGE: usize = 20;
const CREATES: usize = 100;
const AWAY: Duration = Duration::from_secs(3);
/// For so long afterwards nobody may be judged silent: longer than it takes to judge.
const WATCHED: Duration = Duration::from_secs(25);

/// Lines for the report.
pub(crate) async fn measure(binary: &Path, quick: bool) -> Result<Vec<String>> {
    let count = AGENTS[usize::from(!quick)];
    let mut plane = Plane::start(binary, Store::Postgres, 2).await?;
    let api = Api::connect(&plane.replicas[0]).await?;
    let agents = agents::join(&api, &plane.folder().join("agents"), count, CAPACITY, Work::Follow).await?;
    for number in 0..CREATES {
        // Most likely answered; a 503 of a busy fleet leaves one less to list.
        let _ = api.create(&format!("bench-{number}")).await;
    }
    let calm = Reader::start(api.clone()).read_for(Duration::from_secs(5)).await?;

    for replica in &mut plane.replicas {
        replica.kill();
    }
    tokio::time::sleep(AWAY).await;
    let back = Instant::now();
    for replica in &mut plane.replicas {
        replica.begin()?;
    }
    for replica in &mut plane.replicas {
        replica.ready().await?;
    }
    let ready = back.elapsed();
    let reader = Reader::start(api.clone());
    let [first, half, last] = agents::until_heard(&agents, back).await.context("the agents do not come back")?;
    let storm = reader.end().await?;
    none_silent(&api, count).await?;

    let died = Instant::now();
    plane.replicas[1].kill();
    let reader = Reader::start(api.clone());
    let [_, moved_half, moved_last] = agents::until_heard(&agents, died).await.context("the agents do not move")?;
    let moving = reader.end().await?;
    none_silent(&api, count).await?;
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    Ok(vec![
        format!("### {count} agents at once"),
        String::new(),
        format!(
            "- both replicas killed, away for {} s, started again: ready after {}; agents heard after {} (first), {} (half), {} (all)",
            AWAY.as_secs(),
            seconds(ready),
            seconds(first),
            seconds(half),
            seconds(last)
        ),
        format!(
            "- one of two replicas killed: half of all agents heard after {}, all after {}",
            seconds(moved_half),
            seconds(moved_last)
        ),
        format!(
            "- a read of the API ({PAGE} instances) every {} ms: {} with all agents at rest, {} while they came back, {} while they moved",
            READ_EVERY.as_millis(),
            words(&calm),
            words(&storm),
            words(&moving)
        ),
        format!(
            "- PostgreSQL, 2 replicas; the agents are fake, but hold connections, long polls and heartbeats as real ones do, all from one process on \
             the same machine; none was judged silent in the {} s after each",
            WATCHED.as_secs()
        ),
    ])
}

fn words(reads: &Reads) -> String {
    let [half, most] = [50, 99].map(|percent| millis(reads.times.percentile(percent)));
    format!(
        "p50 {half} ms, p99 {most} ms ({}, and {} without an answer or with a 503)",
        reads.times.count(),
        reads.failed
    )
}

async fn none_silent(api: &Api, count: usize) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(nodes) = api.nodes().await else { continue };
        let nodes = nodes.items;
        let judged: Vec<_> =
            nodes.iter().filter(|node| node.state == NodeState::Silent).map(|node| &node.name).collect();
        ensure!(nodes.len() == count && judged.is_empty(), "judged silent and alive: {judged:?} of {}", nodes.len());
    }
    Ok(())
}

#[derive(Default)]
struct Reads {
    times: Samples,
    failed: u32,
}

/// Reads the API at a steady pace.
struct Reader {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Reads>,
}

impl Reader {
    fn start(api: Api) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut reads, mut ticks) = (Reads::default(), tokio::time::interval(READ_EVERY));
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let asked = Instant::now();
                match api.instances(PAGE).await {
                    Ok(_) => reads.times.add(asked.elapsed()),
                    Err(_) => reads.failed += 1,
                }
            }
            reads
        });
        Self { stop, task }
    }

    async fn read_for(self, time: Duration) -> Result<Reads> {
        tokio::time::sleep(time).await;
        self.end().await
    }

    async fn end(self) -> Result<Reads> {
        self.stop.cancel();
        self.task.await.context("the reader ended")
    }
}
