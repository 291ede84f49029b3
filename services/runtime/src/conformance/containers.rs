//! Containers.

use std::time::Duration;

use tokio::time::Instant;

use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerId, ContainerRuntime, ContainerState, RuntimeError, RuntimeEvent, SandboxId};

/// No container without a running sandbox and a present image.
pub async fn containers_need_sandbox_and_image(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "need").await?;
    let image = stage.pull(&fixture.image).await?;
    let sandbox_config = stage.sandbox_config("a");
    let config = stage.container_config(&image, "a", "sleep 1000");

    let nowhere = SandboxId::new("no-such-sandbox");
    let lost = runtime.create_container(&nowhere, &sandbox_config, &config).await;
    ensure!(matches!(lost, Err(RuntimeError::NotFound { .. })), "a container in no sandbox gave {lost:?}");

    let sandbox = runtime.run_sandbox(&sandbox_config).await?;
    let mut imageless = config.clone();
    imageless.image.clone_from(&fixture.missing_image);
    let unpulled = runtime.create_container(&sandbox, &sandbox_config, &imageless).await;
    ensure!(matches!(unpulled, Err(RuntimeError::ImageNotFound { .. })), "a missing image gave {unpulled:?}");

    runtime.stop_sandbox(&sandbox).await?;
    let late = runtime.create_container(&sandbox, &sandbox_config, &config).await;
    ensure!(late.is_err(), "a stopped sandbox took a container");
    stage.close().await
}

/// Created, running, ended, removed: each once, and told in full.
pub async fn containers_live_once(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "life").await?;
    let (sandbox, id) = stage.container("a", "sleep 1000").await?;
    let created = stage.status(&id).await?;
    ensure!(created.state == ContainerState::Created && created.started_at.is_none(), "created as {created:?}");
    let image = stage.pull(&fixture.image).await?;
    let config = stage.container_config(&image, "a", "sleep 1000");
    let twin = runtime.create_container(&sandbox, &stage.sandbox_config("a"), &config).await;
    ensure!(
        matches!(twin, Err(RuntimeError::AlreadyExists { .. })),
        "a second container of the same name gave {twin:?}"
    );

    runtime.start_container(&id).await?;
    let running = stage.wait_for(&id, ContainerState::Running).await?;
    ensure!(running.pid.is_some_and(|pid| pid > 0), "a running container has no pid");
    ensure!(running.started_at >= Some(running.created_at), "started at {:?}", running.started_at);
    ensure!(running.finished_at.is_none() && running.exit_code.is_none(), "running as {running:?}");
    let twice = runtime.start_container(&id).await;
    ensure!(twice.is_err(), "a container started twice");

    let listed = runtime.list_containers(&stage.labels()).await?;
    ensure!(
        listed.len() == 1 && listed.iter().all(|container| container.id == id && container.sandbox == sandbox),
        "listed as {listed:?}"
    );
    runtime.stop_container(&id, Duration::ZERO).await?;
    let ended = stage.wait_for(&id, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(137) && ended.pid.is_none(), "killed as {ended:?}");
    ensure!(ended.finished_at >= ended.started_at, "ended at {:?}", ended.finished_at);
    runtime.stop_container(&id, Duration::ZERO).await?;
    runtime.remove_container(&id).await?;
    runtime.remove_container(&id).await?;
    runtime.stop_container(&id, Duration::ZERO).await?;
    ensure!(runtime.container(&id).await?.is_none(), "a removed container is known");
    let gone = runtime.start_container(&ContainerId::new("no-such-container")).await;
    ensure!(matches!(gone, Err(RuntimeError::NotFound { .. })), "starting nothing gave {gone:?}");
    stage.close().await
}

/// The exit code arrives, with a wake-up, and the output is in the log file in CRI's format.
pub async fn containers_end_with_their_code(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "code").await?;
    for (name, shell, code, reason) in
        [("fine", "echo hello", 0, "Completed"), ("bad", "echo hello; exit 3", 3, "Error")]
    {
        let (_, id) = stage.container(name, shell).await?;
        let mut events = runtime.events();
        runtime.start_container(&id).await?;
        let ended = stage.wait_for(&id, ContainerState::Exited).await?;
        ensure!(ended.exit_code == Some(code) && ended.reason == reason, "ended as {ended:?}");
        let log = std::fs::read_to_string(&ended.log_path)
            .map_err(|error| Failure::Broken(format!("log {} cannot be read: {error}", ended.log_path.display())))?;
        ensure!(log.lines().last().is_some_and(|line| line.ends_with(" stdout F hello")), "log is {log:?}");
        let expected = RuntimeEvent::Exited { id: id.to_string() };
        let woken = tokio::time::timeout(PATIENCE, async {
            while let Ok(event) = events.recv().await {
                if event == expected {
                    return true;
                }
            }
            false
        });
        ensure!(woken.await == Ok(true), "no wake-up came for the exit");
    }
    stage.close().await
}

/// A container that ignores SIGTERM is killed after the grace, not before.
pub async fn stop_kills_after_grace(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "grace").await?;
    let (_, id) = stage.container("a", "trap '' TERM; sleep 1000").await?;
    runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    let started = Instant::now();
    runtime.stop_container(&id, Duration::from_secs(1)).await?;
    ensure!(
        started.elapsed() >= Duration::from_millis(990),
        "killed after {:?}, before the grace was over",
        started.elapsed()
    );
    let ended = stage.wait_for(&id, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(137), "killed as {ended:?}");
    stage.close().await
}

/// A command that is not in the image is the tenant's mistake, not the engine's.
pub async fn missing_commands_cannot_start(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "command").await?;
    let image = stage.pull(&fixture.image).await?;
    let sandbox_config = stage.sandbox_config("a");
    let sandbox = runtime.run_sandbox(&sandbox_config).await?;
    let mut config = stage.container_config(&image, "a", "");
    config.command = vec!["/no/such/command".to_owned()];
    let id = runtime.create_container(&sandbox, &sandbox_config, &config).await?;
    let started = runtime.start_container(&id).await;
    ensure!(matches!(started, Err(RuntimeError::CannotStart { .. })), "a missing command gave {started:?}");
    let status = stage.status(&id).await?;
    ensure!(status.state == ContainerState::Exited && status.reason == "StartError", "then it is {status:?}");
    stage.close().await
}

/// After a rename of the log file, the engine goes on in a new one.
pub async fn logs_reopen(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "reopen").await?;
    let (_, id) = stage.container("a", "echo one; sleep 2; echo two; sleep 1000").await?;
    runtime.start_container(&id).await?;
    let log_path = stage.wait_for(&id, ContainerState::Running).await?.log_path;
    wait_for_line(&log_path, "one").await?;
    let renamed = log_path.with_extension("1");
    std::fs::rename(&log_path, &renamed).map_err(|error| Failure::Broken(format!("log cannot be renamed: {error}")))?;
    runtime.reopen_log(&id).await?;
    wait_for_line(&log_path, "two").await?;
    let before = std::fs::read_to_string(&renamed).unwrap_or_default();
    ensure!(before.contains(" one") && !before.contains(" two"), "renamed log is {before:?}");
    stage.close().await
}

async fn wait_for_line(path: &std::path::Path, text: &str) -> Check {
    let started = Instant::now();
    while !std::fs::read_to_string(path).unwrap_or_default().lines().any(|line| line.ends_with(text)) {
        ensure!(started.elapsed() < PATIENCE, "no line {text:?} in {}", path.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
