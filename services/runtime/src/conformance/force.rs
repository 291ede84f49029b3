//! Ending past the engine.

use super::{Check, Fixture, Stage, ensure};
use crate::{ContainerRuntime, ContainerState};

/// Everything in the cgroup ends, nothing beside it does, and the engine tells the end as any other.
pub async fn what_is_in_a_cgroup_ends_by_force(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "force").await?;
    let (_, id) = stage.container("a", "trap '' TERM; sleep 1000").await?;
    let (_, beside) = stage.container("b", "sleep 1000").await?;
    let (cgroup, other) = (stage.sandbox_config("a").cgroup_name, stage.sandbox_config("b").cgroup_name);
    ensure!(!runtime.alive_in_cgroup(&cgroup).await?.contains(&id), "what was not started is alive");
    for id in [&id, &beside] {
        runtime.start_container(id).await?;
        stage.wait_for(id, ContainerState::Running).await?;
    }
    let alive = runtime.alive_in_cgroup(&cgroup).await?;
    ensure!(alive.contains(&id) && !alive.contains(&beside), "alive are {alive:?}");
    runtime.end_by_force(&cgroup).await?;
    let alive = runtime.alive_in_cgroup(&cgroup).await?;
    ensure!(alive.is_empty(), "ended by force and alive: {alive:?}");
    let ended = stage.wait_for(&id, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(137) && ended.finished_at >= ended.started_at, "ended as {ended:?}");
    runtime.end_by_force(&cgroup).await?;
    runtime.end_by_force("conformance-no-such-cgroup").await?;
    ensure!(runtime.alive_in_cgroup("conformance-no-such-cgroup").await?.is_empty(), "something is alive nowhere");
    ensure!(runtime.alive_in_cgroup(&other).await?.contains(&beside), "what is beside it was ended too");
    let untouched = stage.status(&beside).await?;
    ensure!(untouched.state == ContainerState::Running, "what is beside it is {untouched:?}");
    stage.close().await
}

/// After its end by force the same name is made and started as if nothing had been, in a new sandbox.
pub async fn what_was_ended_by_force_can_run_again(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "forced").await?;
    let (_, id) = stage.container("a", "sleep 1000").await?;
    runtime.start_container(&id).await?;
    runtime.end_by_force(&stage.sandbox_config("a").cgroup_name).await?;
    stage.wait_for(&id, ContainerState::Exited).await?;
    stage.close().await?;
    let (_, again) = stage.container("a", "sleep 1; exit 5").await?;
    runtime.start_container(&again).await?;
    let ended = stage.wait_for(&again, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(5), "it cannot begin processes: {ended:?}");
    stage.close().await
}
