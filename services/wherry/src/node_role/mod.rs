//! This machine as a node: part of `wherry up`, or alone as `wherry node`.

mod engine;
mod machine;
mod part;

use std::net::Ipv4Addr;

pub(crate) use machine::name as machine_name;
pub(crate) use part::{NodePart, Place, engine_of, firewall_of, leave_clean, resolver, start_engine};

use crate::data::DataFolder;
use crate::settings::{Settings, parse_range};

/// The range of what may be left of this data folder's node.
pub(crate) fn kept_range(_data: &DataFolder, settings: &Settings) -> anyhow::Result<(Ipv4Addr, u8)> {
    parse_range(&settings.network.range)
}
