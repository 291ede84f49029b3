//! Devices of the machine in a container.

use super::{Check, Fixture, Stage, ensure};
use crate::{ContainerRuntime, ContainerState, Device};

/// A device that every machine has stands for one that only some containers see.
fn given() -> Device {
    Device { host_path: "/dev/zero".into(), container_path: "/dev/wherry-check".into() }
}

/// In the container that was given it, under the name that was given, and in no other.
pub async fn devices_are_seen_where_they_are_given(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "devices").await?;
    let shell = "test -c /dev/wherry-check || exit 3; exit 0";
    for (name, devices, code) in [("with", vec![given()], 0), ("without", Vec::new(), 3)] {
        let (_, created) = stage.container_with(name, shell, devices).await?;
        let id = created?;
        runtime.start_container(&id).await?;
        let ended = stage.wait_for(&id, ContainerState::Exited).await?;
        ensure!(ended.exit_code == Some(code), "{name} a device it ended as {ended:?}");
    }
    stage.close().await
}

/// Nothing runs without what it was to see.
pub async fn missing_devices_are_refused(runtime: &dyn ContainerRuntime, fixture: &Fixture) -> Check {
    let stage = Stage::open(runtime, fixture, "no-device").await?;
    let missing = Device { host_path: "/dev/wherry-no-such-device".into(), ..given() };
    let (_, created) = stage.container_with("a", "exit 0", vec![missing]).await?;
    let begun = match created {
        Ok(id) => runtime.start_container(&id).await,
        Err(error) => Err(error),
    };
    ensure!(begun.is_err(), "a container began without its device");
    stage.close().await
}
