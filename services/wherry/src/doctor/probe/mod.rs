//! Looks at the host. Judges nothing.

mod kernel;
mod network;
mod occupancy;
mod programs;
mod resources;
mod service;

use super::host::{Essentials, Host};
use crate::data::DataFolder;
use crate::settings::Settings;

/// Everything; takes a second or two, most of it for programs that say their version.
pub(super) fn everything(data: &DataFolder, settings: &Settings) -> Host {
    Host {
        privileges: kernel::privileges(),
        kernel: kernel::kernel(),
        cgroups: kernel::cgroups(),
        overlay: resources::overlay(data.root()),
        programs: programs::programs(settings, true),
        network_namespace: network::namespace(),
        nft: network::nft(),
        network: network::network(settings),
        disk: resources::disk(data.root()),
        memory: resources::memory(),
        clock: resources::clock(data),
        occupancy: occupancy::occupancy(data),
        health: service::health(data, settings),
    }
}

/// What `wherry up` cannot work without.
pub(super) fn for_up(data: &DataFolder, settings: &Settings) -> Essentials {
    Essentials {
        privileges: kernel::privileges(),
        cgroups: kernel::cgroups(),
        overlay: resources::overlay(data.root()),
        programs: programs::programs(settings, false),
        nft: network::nft(),
        network: network::network(settings),
        occupancy: occupancy::occupancy(data),
    }
}
