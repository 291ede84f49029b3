//! What volumes and limits of the disk need.

use std::time::Duration;

use tokio::time::Instant;

use super::{Check, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerRuntime, ContainerState, Fetched, RepositoryRequest, RuntimeError};

/// What a container wrote is known after a while, also of one that does not run.
pub async fn what_containers_write_is_measured(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "written").await?;
    let (sandbox, id) = stage.container("a", "sleep 600").await?;
    runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    let begun = Instant::now();
    while !runtime.written(&sandbox).await?.contains_key(&id) {
        ensure!(begun.elapsed() < PATIENCE, "nobody knows what a container wrote");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.close().await
}

/// `localhost` is the sandbox's own, and a sandbox that was stopped has no network to ask in.
pub async fn repositories_are_asked_from_inside(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "repository").await?;
    let config = stage.sandbox_config("a");
    let sandbox = runtime.run_sandbox(&config).await?;
    let into = fixture.log_root.join("repository");
    // The same engine may be asked again, and a try leaves what it had.
    drop(std::fs::remove_dir_all(&into));
    let made = std::fs::create_dir_all(&into);
    ensure!(made.is_ok(), "no folder for a repository: {made:?}");
    let request = RepositoryRequest {
        repository: "http://127.0.0.1:9/nothing.git".to_owned(),
        revision: None,
        into,
        cgroup_name: config.cgroup_name.clone(),
        dns: config.dns.clone(),
        timeout: PATIENCE,
        file_bytes: 1 << 20,
    };
    match runtime.fetch_repository(&sandbox, &request).await? {
        Fetched::Refused(why) => ensure!(why.contains("unable to access"), "it was said: {why}"),
        Fetched::Commit(commit) => ensure!(false, "nobody gave the commit {commit}"),
    }
    runtime.stop_sandbox(&sandbox).await?;
    let stopped = runtime.fetch_repository(&sandbox, &request).await;
    ensure!(matches!(stopped, Err(RuntimeError::NotFound { .. })), "a stopped sandbox gave {stopped:?}");
    stage.close().await
}
