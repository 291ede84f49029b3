//! `surroundings.json`: what was believed last, so that names and ways are there after a restart with the control plane away.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wherry_agent_api::Surroundings;

use crate::durable_file;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Whether it is just what the control plane said under this tag, and need not be fetched again.
    pub(super) as_told: bool,
    /// As believed, with this node's own serial.
    pub(super) surroundings: Surroundings,
}

/// The file, and what it said when it was opened.
#[derive(Debug)]
pub(crate) struct KeptFile {
    path: PathBuf,
    pub(super) found: Option<Kept>,
}

impl KeptFile {
    /// A file that cannot be read is no reason not to begin: the control plane says all of it again.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("surroundings.json");
        let found = durable_file::read(&path)?.and_then(|bytes| match serde_json::from_slice(&bytes) {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::error!(%error, "the stored surroundings cannot be read; waiting for the control plane");
                None
            }
        });
        Ok(Self { path, found })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Blocks.
pub(super) fn store(path: &Path, kept: &Kept) -> io::Result<()> {
    durable_file::replace(path, &serde_json::to_vec(kept)?)
}
