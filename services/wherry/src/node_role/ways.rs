//! The ways from this machine to the instances of the others.
//!
//! A note in the run folder says that there are some of ours: who cleans up removes nothing on a machine that never had any,
//! where another Wherry may have its own.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context as _;
use wherry_node_agent::{KernelRoutes, RouteMode, RouteTable as _, Vxlan};

use crate::data::DataFolder;
use crate::settings::{NetworkMode, Settings};

fn note(data: &DataFolder) -> PathBuf {
    data.run().join("has_routes")
}

fn vxlan(data: &DataFolder, settings: &Settings, local: Ipv4Addr) -> Vxlan {
    // As long as the kernel lets a name be.
    let device = format!("wherry-{}", data.short_id());
    Vxlan { device, id: settings.network.vxlan_id, port: settings.network.vxlan_port, local }
}

/// The table that the agent is to keep, of a machine that the others reach at `underlay`.
pub(super) fn make(
    data: &DataFolder,
    settings: &Settings,
    range: (Ipv4Addr, u8),
    underlay: Ipv4Addr,
) -> anyhow::Result<KernelRoutes> {
    let mode = match settings.network.mode {
        NetworkMode::None => return Ok(KernelRoutes::new(RouteMode::Unmanaged, range)),
        NetworkMode::HostRoutes => RouteMode::HostRoutes,
        NetworkMode::Vxlan => RouteMode::Vxlan(vxlan(data, settings, underlay)),
    };
    let note = note(data);
    std::fs::write(&note, b"").with_context(|| format!("cannot write {}", note.display()))?;
    Ok(KernelRoutes::new(mode, range))
}

/// Removes what is ours, if there is any.
pub(crate) async fn remove(data: &DataFolder, settings: &Settings, range: (Ipv4Addr, u8)) -> anyhow::Result<()> {
    let note = note(data);
    if !note.exists() {
        return Ok(());
    }
    // The settings may have named another mode when they were made: of this one, more is removed than of the others.
    let every_kind = RouteMode::Vxlan(vxlan(data, settings, Ipv4Addr::UNSPECIFIED));
    KernelRoutes::new(every_kind, range).remove().await.context("the routes to other nodes stay")?;
    match std::fs::remove_file(&note) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", note.display()))
        }
        _ => Ok(()),
    }
}
