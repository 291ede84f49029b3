//! `wherry down`: ends what `wherry up` or `wherry node` left running, and removes every trace of it outside of the data folder.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use wherry_node_agent::Firewall as _;
use wherry_runtime::{ContainerRuntime as _, Labels};

use crate::data::DataFolder;
use crate::node_role::{engine_of, firewall_of, kept_range, remove_ways};
use crate::settings::Settings;

/// How long containers may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Ends everything; with `purge` deletes the data folder too.
pub(crate) async fn run(data: &DataFolder, purge: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        data.root().exists(),
        "{} does not exist: nothing was ever started there (another folder is given with --data)",
        data.root().display()
    );
    let lock = data.lock("wherry down").context("end it first with Ctrl-C, then run `wherry down` again")?;
    let settings = Settings::load(None, data.root())?;
    let range = kept_range(data, &settings)?;
    crate::forwarding::put_back(data)?;
    remove_ways(data, &settings, range).await?;
    let ended = end_instances(data, &settings, range).await?;
    firewall_of(data, &settings, range)?.remove().await?;
    drop(lock);
    if purge {
        std::fs::remove_dir_all(data.root()).with_context(|| format!("cannot delete {}", data.root().display()))?;
    }
    println!("{ended} instances ended, nothing runs any more{}.", if purge { ", the data is deleted" } else { "" });
    Ok(())
}

async fn end_instances(data: &DataFolder, settings: &Settings, range: (Ipv4Addr, u8)) -> anyhow::Result<usize> {
    let containerd = engine_of(data, settings, range)?;
    let mut ended = 0;
    if containerd.pid().is_some() {
        let runtime = containerd.runtime();
        let containers = runtime.list_containers(&Labels::new()).await.unwrap_or_default();
        let stops = containers.iter().map(|container| runtime.stop_container(&container.id, GRACE));
        futures_util::future::join_all(stops).await;
        for sandbox in runtime.list_sandboxes(&Labels::new()).await.unwrap_or_default() {
            // What the engine cannot remove any more is removed below, from outside.
            drop(runtime.stop_sandbox(&sandbox.id).await);
            drop(runtime.remove_sandbox(&sandbox.id).await);
            ended += 1;
        }
    }
    let left = containerd.destroy().await.context("the container engine cannot be cleaned up")?;
    anyhow::ensure!(left.is_empty(), "some things could not be removed, run `wherry down` again: {left:?}");
    Ok(ended)
}
