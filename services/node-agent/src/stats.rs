//! What instances use: read from the engine when somebody asks.
//!
//! A reading is good for a second, and whoever asks for the same instance meanwhile waits for it instead of asking the
//! engine too: many watchers cost one. Rates are over the time since the reading before; where there is none that is young
//! enough two are made, half a second apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wherry_agent_api::{ContainerStats, InstanceStats, NetworkStats, NodeError, StatsQuery};
use wherry_model::{ContainerName, Generation, InstanceId, Timestamp};
use wherry_runtime::{ContainerId, ContainerState, NetworkUsage, RuntimeError, SandboxId, Usage};

use crate::exec;
use crate::node::Node;
use crate::observer::Snapshot;

/// How long a reading is good.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How old a reading may be from which rates are counted.
const BASE_MOST: Duration = Duration::from_mins(1);
/// Between two readings where there was none before.
const FIRST_WINDOW: Duration = Duration::from_millis(500);
/// Questions to the engine at once.
const AT_ONCE: usize = 8;

/// Readings of this node.
#[derive(Debug)]
pub(crate) struct Readings {
    /// Of each instance that somebody asked about.
    kept: Mutex<BTreeMap<InstanceId, Arc<tokio::sync::Mutex<Kept>>>>,
    engine: Semaphore,
}

impl Default for Readings {
    fn default() -> Self {
        Self { kept: Mutex::default(), engine: Semaphore::new(AT_ONCE) }
    }
}

/// The latest reading of an instance.
#[derive(Debug, Default)]
struct Kept {
    reading: Option<Reading>,
    /// What was made of it.
    stats: Option<InstanceStats>,
}

/// What the engine said at one moment.
#[derive(Debug, Clone)]
struct Reading {
    sandbox: SandboxId,
    made: Instant,
    at: Timestamp,
    usage: Usage,
}

/// A container as the engine names it, and as its tenant does.
type Names = BTreeMap<ContainerId, (ContainerName, u32)>;

/// Answers for those that are to run here; of the others nothing is said.
pub(crate) async fn read(node: &Node, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
    tokio::select! {
        biased;
        () = node.stopping.cancelled() => Err(NodeError::Unavailable("the agent is stopping".to_owned())),
        stats = read_all(node, query) => stats,
    }
}

async fn read_all(node: &Node, query: StatsQuery) -> Result<Vec<InstanceStats>, NodeError> {
    let wanted = query.all().take(StatsQuery::MAX_INSTANCES);
    let wanted: Vec<(InstanceId, Generation)> =
        wanted.filter(|(instance, generation)| exec::owner(node, *instance, *generation).is_ok()).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let unavailable = |error: RuntimeError| NodeError::Unavailable(error.to_string());
    let snapshot = node.observer.fresh().await.map_err(unavailable)?;
    node.readings.forget_others(|instance| snapshot.instances.contains_key(instance));
    let all = wanted.iter().map(|(instance, generation)| one(node, &snapshot, *instance, *generation));
    let all = join_all(all).await;
    let mut told = Vec::new();
    for ((instance, _), stats) in wanted.iter().zip(all) {
        match stats {
            Ok(stats) => told.extend(stats),
            Err(error @ RuntimeError::Unavailable { .. }) => return Err(unavailable(error)),
            // Of one that goes wrong nothing is said; the others are not to blame.
            Err(error) => tracing::debug!(%instance, %error, "the engine does not say what it uses"),
        }
    }
    Ok(told)
}

async fn one(
    node: &Node,
    snapshot: &Snapshot,
    instance: InstanceId,
    generation: Generation,
) -> Result<Option<InstanceStats>, RuntimeError> {
    let Some(seen) = snapshot.instances.get(&instance) else { return Ok(None) };
    let Some(sandbox) = seen.sandbox_of(generation).filter(|sandbox| sandbox.ready) else { return Ok(None) };
    let running = seen
        .containers
        .iter()
        .filter(|container| container.generation == generation && container.state == ContainerState::Running);
    let names: Names =
        running.map(|container| (container.id.clone(), (container.name.clone(), container.run))).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let slot = node.readings.slot(instance);
    let mut kept = slot.lock().await;
    let is_good = |kept: &Kept| {
        kept.reading.as_ref().is_some_and(|reading| reading.made.elapsed() < GOOD_FOR && reading.sandbox == sandbox.id)
    };
    if is_good(&kept) && kept.stats.is_some() {
        return Ok(kept.stats.clone());
    }
    let base = kept.reading.take().filter(|reading| {
        reading.made.elapsed() < BASE_MOST
            && reading.sandbox == sandbox.id
            && names.keys().all(|id| reading.usage.containers.iter().any(|usage| usage.id == *id))
    });
    let base = if let Some(base) = base {
        base
    } else {
        let first = reading(node, instance, &sandbox.id).await?;
        tokio::time::sleep(FIRST_WINDOW).await;
        first
    };
    let latest = reading(node, instance, &sandbox.id).await?;
    let stats = stats(instance, &names, &base, &latest);
    (kept.reading, kept.stats) = (Some(latest), Some(stats.clone()));
    Ok(Some(stats))
}

async fn reading(node: &Node, instance: InstanceId, sandbox: &SandboxId) -> Result<Reading, RuntimeError> {
    let _permit = node.readings.engine.acquire().await;
    let usage = node.runtime.usage(sandbox, &instance.to_string()).await?;
    Ok(Reading { sandbox: sandbox.clone(), made: Instant::now(), at: node.clock.now(), usage })
}

fn stats(instance: InstanceId, names: &Names, base: &Reading, latest: &Reading) -> InstanceStats {
    let window = latest.made.saturating_duration_since(base.made);
    let mut containers: Vec<ContainerStats> = latest
        .usage
        .containers
        .iter()
        .filter_map(|now| {
            let (container, run) = names.get(&now.id)?.clone();
            let before = base.usage.containers.iter().find(|before| before.id == now.id);
            let nanocores = before.and_then(|before| {
                // By the engine's own times: it may have read some time before it answered.
                each_second(now.cpu_nanos.checked_sub(before.cpu_nanos)?, now.at.since(before.at))
            });
            Some(ContainerStats {
                container,
                run,
                cpu_nanos: now.cpu_nanos,
                cpu_nanocores: nanocores,
                throttled_nanos: now.throttled_nanos,
                memory_bytes: now.memory_bytes,
            })
        })
        .collect();
    containers.sort_by(|one, other| one.container.cmp(&other.container));
    InstanceStats {
        instance,
        at: latest.at,
        window_ms: u64::try_from(window.as_millis()).ok().filter(|window| *window > 0),
        network: latest.usage.network.map(|now| network(now, base.usage.network, window)),
        containers,
    }
}

fn network(now: NetworkUsage, before: Option<NetworkUsage>, window: Duration) -> NetworkStats {
    let rate = |now: u64, before: Option<u64>| each_second(now.checked_sub(before?)?, window);
    NetworkStats {
        received_bytes: now.received_bytes,
        sent_bytes: now.sent_bytes,
        received_bytes_per_second: rate(now.received_bytes, before.map(|before| before.received_bytes)),
        sent_bytes_per_second: rate(now.sent_bytes, before.map(|before| before.sent_bytes)),
    }
}

/// `amount` in `window`, in each second of it.
fn each_second(amount: u64, window: Duration) -> Option<u64> {
    let nanos = window.as_nanos();
    let rate = (u128::from(amount) * 1_000_000_000).checked_div(nanos)?;
    u64::try_from(rate).ok()
}

impl Readings {
    fn slot(&self, instance: InstanceId) -> Arc<tokio::sync::Mutex<Kept>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.entry(instance).or_default())
    }

    fn forget_others(&self, is_here: impl Fn(&InstanceId) -> bool) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_here(instance));
    }
}
