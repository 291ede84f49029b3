//! `[secrets]`: what the secrets of instances are sealed with.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the keys are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Secrets {
    /// A key file of the operator's own, the same at every replica; `keys/sealing.keys` in the data folder when absent.
    pub(crate) key_file: Option<PathBuf>,
}
