//! Sandboxes.

use super::{Check, Fixture, Stage, ensure};
use crate::{ContainerRuntime, ContainerState, Readiness, RuntimeError, SandboxConfig, SandboxId, SandboxState};

/// It says who it is and that it is ready.
pub async fn engine_is_ready(runtime: &dyn ContainerRuntime, _fixture: &Fixture) -> Check {
    let version = runtime.version().await?;
    ensure!(!version.name.is_empty() && !version.version.is_empty(), "version is {version:?}");
    let readiness = runtime.status().await?;
    ensure!(readiness == Readiness::Ready, "engine is {readiness:?}");
    Ok(())
}

/// Run, found by label with all that was given, names unique, addresses different, stop and remove idempotent.
pub async fn sandboxes_live_once(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "once").await?;
    let config = stage.sandbox_config("a");
    let id = runtime.run_sandbox(&config).await?;
    let twin = runtime.run_sandbox(&config).await;
    ensure!(matches!(twin, Err(RuntimeError::AlreadyExists { .. })), "a second sandbox of the same name gave {twin:?}");
    let other = runtime.run_sandbox(&stage.sandbox_config("b")).await?;

    let listed = runtime.list_sandboxes(&stage.labels()).await?;
    ensure!(listed.len() == 2, "{} sandboxes are listed and not 2", listed.len());
    let Some(found) = listed.into_iter().find(|sandbox| sandbox.id == id) else {
        return Err(super::Failure::Broken("sandbox is not listed".into()));
    };
    ensure!(
        found.name == config.name && found.uid == config.uid && found.namespace == config.namespace,
        "listed as {found:?}"
    );
    ensure!(found.labels == config.labels && found.annotations == config.annotations, "listed as {found:?}");
    let addresses = (address(runtime, &id).await?, address(runtime, &other).await?);
    ensure!(
        addresses.0.is_some() && addresses.1.is_some() && addresses.0 != addresses.1,
        "addresses are {addresses:?}"
    );

    runtime.stop_sandbox(&id).await?;
    runtime.stop_sandbox(&id).await?;
    let stopped = runtime.sandbox(&id).await?;
    let Some(stopped) = stopped else {
        return Err(super::Failure::Broken("a stopped sandbox is gone".into()));
    };
    ensure!(stopped.sandbox.state == SandboxState::NotReady, "a stopped sandbox is {stopped:?}");
    ensure!(stopped.address.is_none(), "a stopped sandbox has an address");
    runtime.remove_sandbox(&id).await?;
    runtime.remove_sandbox(&id).await?;
    runtime.stop_sandbox(&id).await?;
    ensure!(runtime.sandbox(&id).await?.is_none(), "a removed sandbox is known");
    let again = runtime.run_sandbox(&config).await?;
    ensure!(again != id, "an id was used twice");
    stage.close().await
}

/// Removing a running sandbox removes its running containers.
pub async fn removed_sandboxes_take_all_along(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "along").await?;
    let (sandbox, container) = stage.container("a", "sleep 1000").await?;
    runtime.start_container(&container).await?;
    runtime.remove_sandbox(&sandbox).await?;
    ensure!(runtime.container(&container).await?.is_none(), "a container outlived its sandbox");
    ensure!(runtime.list_containers(&stage.labels()).await?.is_empty(), "a container is listed without its sandbox");
    stage.close().await
}

/// The runtime that is asked for makes the sandbox and what is in it; one that the engine does not have is refused. Engines under test
/// have one of the name `sandboxed`.
pub async fn another_runtime_makes_a_sandbox_and_its_containers(
    runtime: &dyn ContainerRuntime,
    fixture: &Fixture,
) -> Check {
    let stage = Stage::open(runtime, fixture, "handler").await?;
    let image = stage.pull(&fixture.image).await?;
    let asked = SandboxConfig { runtime_handler: "sandboxed".into(), ..stage.sandbox_config("a") };
    let sandbox = runtime.run_sandbox(&asked).await?;
    let config = stage.container_config(&image, "a", "exit 7");
    drop(std::fs::remove_file(fixture.log_root.join(&config.log_path)));
    let container = runtime.create_container(&sandbox, &asked, &config).await?;
    runtime.start_container(&container).await?;
    let ended = stage.wait_for(&container, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(7), "it ended as {ended:?}");
    let absent = SandboxConfig { runtime_handler: "not-there".into(), ..stage.sandbox_config("b") };
    let refused = runtime.run_sandbox(&absent).await;
    ensure!(
        matches!(refused, Err(RuntimeError::InvalidArgument { .. })),
        "a runtime that is not there gave {refused:?}"
    );
    stage.close().await
}

async fn address(runtime: &dyn ContainerRuntime, id: &SandboxId) -> Result<Option<std::net::Ipv4Addr>, super::Failure> {
    Ok(runtime.sandbox(id).await?.and_then(|status| status.address))
}
