//! The output of containers: files that the engine writes, that the agent bounds, and that tenants read.
//!
//! The engine writes lines in CRI's format into `logs/<instance>/<container>.<run>.log`. When a file is full it is put aside
//! as `.log.1`, `.log.2` …, the oldest is dropped, and the engine is told to open its file again. Readers know files by
//! their inode, so neither a rotation nor a restart of the container makes them lose or double a line, unless they are
//! so slow that the file they stand in was dropped.

mod files;
mod follow;
mod line;
mod reader;
mod rotate;

pub(crate) use self::files::{prune_runs, remove_all};
pub(crate) use self::follow::{LogProgress, LogProgressSource, stream};
pub(crate) use self::rotate::keep_bounded;

/// Name of the file that the engine writes, relative to the instance's folder.
pub(crate) fn file_name(container: &wherry_model::ContainerName, run: u32) -> String {
    format!("{container}.{run}.log")
}
