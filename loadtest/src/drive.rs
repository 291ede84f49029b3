//! The open loop: each create is sent at its scheduled time, whatever became of those before, and its latency counts from that time. So
//! a service that stalls pays for every request that waited meanwhile (no coordinated omission).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wherry_api_client::{Client, ClientError};
use wherry_api_types::{ContainerSpec, InstanceCreate, RestartPolicy};

use crate::arrivals::Arrival;
use crate::ledger::{Acknowledged, Ledger};
use crate::nodes;
use crate::system::Seeded;

/// Requests that may be under way. What is due beyond that waits, and its wait counts.
const MOST_UNDER_WAY: usize = 4_000;
/// An image that is fetched by nobody: simulated nodes have every image.
const IMAGE: &str = "registry.invalid/loadtest/none:1";

/// How the load is asked for.
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) arrivals: Vec<Arrival>,
    /// Creates go to these in turn.
    pub(crate) projects: Vec<String>,
    /// Of a thousand that have an end so many are deleted then; the others end by themselves.
    pub(crate) deleted_permille: u64,
    pub(crate) seed: u64,
}

struct Shared {
    client: Client,
    ledger: Mutex<Ledger>,
    room: Semaphore,
    run: String,
}

/// Asks for all of it; ends when every create is answered. Deletes that are due after `end` are left out.
pub(crate) async fn run(load: Load, end: Duration, bar: &ProgressBar) -> Result<Ledger> {
    let mut random = Seeded::new(load.seed ^ 0xd00d);
    let shared = Arc::new(Shared {
        client: load.client,
        ledger: Mutex::new(Ledger::new()?),
        room: Semaphore::new(MOST_UNDER_WAY),
        // Keys of two runs with the same seed are different requests.
        run: format!("{:x}", std::process::id()),
    });
    bar.set_message("creates");
    bar.set_length(u64::try_from(load.arrivals.len())?);
    bar.set_position(0);
    let (begun, mut creates) = (Instant::now(), JoinSet::new());
    for (number, arrival) in load.arrivals.into_iter().enumerate() {
        tokio::time::sleep_until(begun + arrival.at).await;
        let project = load.projects.get(number % load.projects.len().max(1)).context("there is no project")?.clone();
        let is_deleted = random.chance(load.deleted_permille);
        let (shared, bar) = (Arc::clone(&shared), bar.clone());
        creates.spawn(async move {
            let outcome = one(&shared, number, &arrival, (begun, end), project, is_deleted).await;
            bar.inc(1);
            outcome
        });
        while let Some(ended) = creates.try_join_next() {
            ended.context("a create ended in the middle")??;
        }
    }
    while let Some(ended) = creates.join_next().await {
        ended.context("a create ended in the middle")??;
    }
    let shared = Arc::into_inner(shared).context("a create is still under way")?;
    Ok(shared.ledger.into_inner())
}

async fn one(
    shared: &Arc<Shared>,
    number: usize,
    arrival: &Arrival,
    (begun, end): (Instant, Duration),
    project: String,
    is_deleted: bool,
) -> Result<()> {
    let room = shared.room.acquire().await.context("the load has ended")?;
    let scheduled = begun + arrival.at;
    let key = format!("load-{}-{number}", shared.run);
    let body = body(arrival, is_deleted);
    let sent = Instant::now();
    let answer = shared.client.create_instance(&project, &body, Some(&key)).await;
    let took = (scheduled.elapsed(), sent.elapsed());
    let id = match answer {
        Ok(instance) => {
            let id = instance.id.parse().context("the service gave an id that is none")?;
            let (cpu_millis, memory_mib) = (arrival.cpu_millis, arrival.memory_mib);
            let entry =
                Acknowledged { project: project.clone(), cpu_millis, memory_mib, delete_asked: false, deleted: false };
            shared.ledger.lock().await.acknowledge(id, entry, arrival.at, took)?;
            id
        }
        Err(error) => return shared.ledger.lock().await.fail(arrival.at, reason(&error)),
    };
    drop(room);
    let Some(life) = arrival.life.filter(|_| is_deleted) else { return Ok(()) };
    let due = Instant::now() + life;
    if due > begun + end {
        return Ok(());
    }
    tokio::time::sleep_until(due).await;
    if let Some(entry) = shared.ledger.lock().await.acknowledged.get_mut(&id) {
        entry.delete_asked = true;
    }
    let answer = shared.client.delete_instance(&project, &id.to_string()).await;
    let mut ledger = shared.ledger.lock().await;
    match answer {
        Ok(_) => {
            if let Some(entry) = ledger.acknowledged.get_mut(&id) {
                entry.deleted = true;
            }
        }
        Err(error) => *ledger.failed_deletes.entry(reason(&error)).or_default() += 1,
    }
    Ok(())
}

fn body(arrival: &Arrival, is_deleted: bool) -> InstanceCreate {
    let container = ContainerSpec {
        image: IMAGE.to_owned(),
        command: nodes::command(arrival.life.filter(|_| !is_deleted)),
        cpu: Some(format!("{}m", arrival.cpu_millis)),
        memory: Some(format!("{}Mi", arrival.memory_mib)),
        ..ContainerSpec::default()
    };
    InstanceCreate {
        containers: vec![container],
        restart_policy: Some(RestartPolicy::Never),
        ..InstanceCreate::default()
    }
}

fn reason(error: &ClientError) -> String {
    error.code().map_or_else(|| error.to_string(), str::to_owned)
}
