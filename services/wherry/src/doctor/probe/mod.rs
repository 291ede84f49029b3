//! Looks at the host. Judges nothing.

mod fleet;
mod kernel;
mod network;
mod occupancy;
mod programs;
mod resources;
mod service;

use std::net::Ipv4Addr;

use super::host::{Essentials, Host, OpenFiles, Plane};
use crate::cli::Role;
use crate::data::DataFolder;
use crate::open_files;
use crate::settings::Settings;

/// Everything about a machine that runs containers; takes a second or two, most of it for programs that say their version,
/// and some more where a control plane or a database does not answer.
pub(super) fn everything(role: Role, data: &DataFolder, settings: &Settings) -> Host {
    let membership = (role == Role::Node).then(|| fleet::membership(data));
    let range = match &membership {
        Some(membership) => membership.as_ref().ok().map(|membership| membership.range),
        None => network::configured_range(settings),
    };
    Host {
        role,
        privileges: kernel::privileges(),
        kernel: kernel::kernel(),
        cgroups: kernel::cgroups(),
        overlay: resources::overlay(data.root()),
        programs: programs::programs(settings, true),
        network_namespace: network::namespace(),
        nft: network::nft(),
        network: network::network(role, settings, range),
        disk: resources::disk(data.root()),
        memory: resources::memory(),
        open_files: OpenFiles { most: open_files::most() },
        clock: resources::clock(data),
        occupancy: occupancy::occupancy(data),
        health: service::health(role, data, settings),
        store: (role == Role::Up).then(|| fleet::store(data, settings)),
        membership,
    }
}

/// Everything about a replica of the control plane.
pub(super) fn plane(data: &DataFolder, settings: &Settings) -> Plane {
    Plane {
        ports: network::ports(Role::Control, settings),
        disk: resources::disk(data.root()),
        memory: resources::memory(),
        open_files: OpenFiles { most: open_files::most() },
        clock: resources::clock(data),
        occupancy: occupancy::occupancy(data),
        health: service::health(Role::Control, data, settings),
        store: fleet::store(data, settings),
        keys: fleet::keys(data, settings),
    }
}

/// What `wherry up` and `wherry node` cannot work without. `range` is that of the instances, once it is known.
pub(super) fn for_start(
    role: Role,
    data: &DataFolder,
    settings: &Settings,
    range: Option<(Ipv4Addr, u8)>,
) -> Essentials {
    Essentials {
        role,
        privileges: kernel::privileges(),
        cgroups: kernel::cgroups(),
        overlay: resources::overlay(data.root()),
        programs: programs::programs(settings, false),
        nft: network::nft(),
        network: network::network(role, settings, range),
        occupancy: occupancy::occupancy(data),
    }
}
