//! What is done to a container from outside of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::{Check, Failure, Fixture, PATIENCE, Stage, ensure};
use crate::{ContainerId, ContainerRuntime, ContainerState, RuntimeError};

/// A port is reached at the sandbox's own address, and only while somebody listens.
pub async fn addresses_are_reached_from_the_machine(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "reach").await?;
    let (sandbox, id) = stage.container("a", "nc -ll -p 7007 -e cat").await?;
    runtime.start_container(&id).await?;
    let status = runtime.sandbox(&sandbox).await?;
    let address = status.and_then(|status| status.address);
    let address = address.ok_or_else(|| Failure::Broken("a ready sandbox has no address".into()))?;
    let begun = Instant::now();
    let mut connection = loop {
        match runtime.reach(address, 7007).await {
            Ok(connection) => break connection,
            Err(RuntimeError::NothingListens { .. }) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let broken = |error: std::io::Error| Failure::Broken(format!("the connection broke: {error}"));
    connection.write_all(b"ping").await.map_err(broken)?;
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).await.map_err(broken)?;
    ensure!(&answer == b"ping", "{answer:?} came back");
    let nobody = runtime.reach(address, 7008).await;
    ensure!(matches!(nobody, Err(RuntimeError::NothingListens { port: 7008 })), "a port of nobody was reached");
    stage.close().await
}

/// A signal reaches the main process; one for what does not run any more is no error.
pub async fn signals_reach_the_main_process(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    const USR1: u8 = 10;
    let stage = Stage::open(runtime, fixture, "signal").await?;
    let (_, id) = stage.container("a", "trap 'exit 7' USR1; while true; do sleep 1; done").await?;
    runtime.start_container(&id).await?;
    stage.wait_for(&id, ContainerState::Running).await?;
    // The shell may not have come to its first line yet: until then, nobody hears.
    let begun = Instant::now();
    while stage.status(&id).await?.state == ContainerState::Running {
        ensure!(begun.elapsed() < PATIENCE, "SIGUSR1 does not arrive");
        runtime.signal_container(&id, USR1).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = stage.wait_for(&id, ContainerState::Exited).await?;
    ensure!(ended.exit_code == Some(7), "ended as {ended:?}");
    runtime.signal_container(&id, USR1).await?;
    runtime.signal_container(&ContainerId::new("no-such-container"), USR1).await?;
    stage.close().await
}
