//! The output of containers: files that the engine writes, that the agent bounds, and that tenants read.
//!
//! The engine writes lines in CRI's format into `logs/<instance>/<container>.<run>.log`. When a file is full it is put aside
//! under a number and the engine is told to begin another; when the engine has closed it, it is named complete (`files.rs`).
//! Readers know files by number and leave one only when it is complete, so neither that nor a restart of the container makes
//! them lose or double a line, and one that is too slow is told how many lines it misses (`reader.rs`). What a
//! container prints beyond its rate is not kept, and a line in its place says how much it was (`cut.rs`, ADR 6).
//!
//! Logs of deleted instances are kept for a time (`deleted.rs`).

mod bounds;
mod closings;
mod complete;
mod cut;
mod deleted;
mod files;
mod flow;
mod follow;
mod keep;
mod line;
mod reader;

use std::time::Duration;

pub(crate) use self::bounds::prune_runs;
pub(crate) use self::closings::Closings;
pub(crate) use self::deleted::retire;
pub(crate) use self::files::remove_all;
pub(crate) use self::follow::{LogProgress, LogProgressSource, stream};
pub(crate) use self::keep::keep;

/// After so long without a word that the engine has closed a file, it is taken to have.
const CLOSED_AFTER: Duration = Duration::from_secs(5);

/// Name of the file that the engine writes, relative to the instance's folder.
pub(crate) fn file_name(container: &wherry_model::ContainerName, run: u32) -> String {
    format!("{container}.{run}.log")
}
