//! What containers use.

use std::time::Duration;

use tokio::time::Instant;

use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerId, ContainerRuntime, ContainerState, ContainerUsage, RuntimeError, SandboxId};

fn of<'a>(all: &'a [ContainerUsage], id: &ContainerId) -> Result<&'a ContainerUsage, Failure> {
    let found = all.iter().find(|usage| usage.id == *id);
    found.ok_or_else(|| Failure::Broken(format!("nothing is said of what {id} uses, though it runs")))
}

/// What computes uses more than what sleeps, is held back by its limit, and of what does not run nothing is said.
pub async fn containers_say_what_they_use(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "usage").await?;
    let (sandbox, busy) = stage.container("a", "while :; do :; done").await?;
    let sandbox_config = stage.sandbox_config("a");
    let image = stage.pull(&fixture.image).await?;
    let config = stage.container_config(&image, "idle", "sleep 600");
    let idle = runtime.create_container(&sandbox, &sandbox_config, &config).await?;
    let cgroup = sandbox_config.cgroup_name.as_str();
    let before = runtime.usage(&sandbox, cgroup).await?;
    ensure!(before.containers.is_empty(), "containers that were not started use {before:?}");
    for id in [&busy, &idle] {
        runtime.start_container(id).await?;
        stage.wait_for(id, ContainerState::Running).await?;
    }
    // A tenth of a second of a core, which a busy loop gets on any machine at some time.
    let begun = Instant::now();
    let (usage, spent) = loop {
        let usage = runtime.usage(&sandbox, cgroup).await?;
        let spent = of(&usage.containers, &busy)?.cpu_nanos;
        if spent > 100_000_000 {
            break (usage, spent);
        }
        ensure!(begun.elapsed() < PATIENCE, "a container that computes has used {spent} ns");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let resting = of(&usage.containers, &idle)?;
    ensure!(resting.cpu_nanos < spent, "what sleeps used {} ns, what computes {spent} ns", resting.cpu_nanos);
    ensure!((1..64 << 20).contains(&resting.memory_bytes), "what sleeps holds {} bytes", resting.memory_bytes);
    ensure!(
        usage.containers.windows(2).all(|two| two[0].id < two[1].id) && usage.containers.len() == 2,
        "not in order of their ids: {usage:?}"
    );
    ensure!(of(&usage.containers, &busy)?.throttled_nanos.is_some(), "nothing is said of what the limit holds back");
    runtime.stop_container(&busy, Duration::ZERO).await?;
    stage.wait_for(&busy, ContainerState::Exited).await?;
    let after = runtime.usage(&sandbox, cgroup).await?;
    ensure!(of(&after.containers, &busy).is_err(), "what ended still uses {after:?}");
    runtime.stop_sandbox(&sandbox).await?;
    let stopped = runtime.usage(&sandbox, cgroup).await?;
    ensure!(stopped.network.is_none(), "a stopped sandbox has a network: {stopped:?}");
    let nothing = runtime.usage(&SandboxId::new("no-such-sandbox"), cgroup).await?;
    ensure!(nothing == crate::Usage::default(), "a sandbox that is not there uses {nothing:?}");
    stage.close().await
}

/// What passes the network of a sandbox is counted in both directions.
pub async fn sandboxes_count_their_network(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "network").await?;
    let (sandbox, id) = stage.container("a", "nc -ll -p 7007 -e cat").await?;
    let cgroup = stage.sandbox_config("a").cgroup_name;
    runtime.start_container(&id).await?;
    let network = || async {
        let usage = runtime.usage(&sandbox, &cgroup).await?;
        usage.network.ok_or_else(|| Failure::Broken("a sandbox that is ready has no network".into()))
    };
    let before = network().await?;
    let status = runtime.sandbox(&sandbox).await?;
    let address = status.and_then(|status| status.address);
    let address = address.ok_or_else(|| Failure::Broken("a ready sandbox has no address".into()))?;
    let begun = Instant::now();
    while let Err(error) = runtime.reach(address, 7007).await {
        ensure!(matches!(error, RuntimeError::NothingListens { .. }), "the port cannot be reached: {error}");
        ensure!(begun.elapsed() < PATIENCE, "the port is not reached");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = network().await?;
    ensure!(
        after.received_bytes > before.received_bytes && after.sent_bytes > before.sent_bytes,
        "a connection passed and {before:?} became {after:?}"
    );
    stage.close().await
}
