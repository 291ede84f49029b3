//! Volumes: folders that the containers of an instance share. They live as long as the instance is on its machine, through
//! every restart of its containers; those in memory until it stops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::VolumeName;
use crate::quantity::MemoryMib;

use super::Sealed;

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique in the instance.
    pub name: VolumeName,
    /// What is in it at first.
    #[serde(flatten)]
    pub source: VolumeSource,
}

/// Where an empty folder is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// On the machine's disk.
    #[default]
    Disk,
    /// In memory, which counts towards the memory of the containers that write it.
    Memory,
}

/// What a volume holds at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VolumeSource {
    /// Nothing.
    EmptyDir {
        /// Where it is kept.
        #[serde(default)]
        medium: Medium,
        /// The most that it takes. When absent, in memory an equal part of what the others leave of the instance's, and on disk
        /// what the instance may write there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<MemoryMib>,
    },
    /// Files that nobody can read back from the service, kept in memory on the machine.
    Secret {
        /// File name → content.
        files: BTreeMap<String, Sealed>,
        /// Permission bits of each file, which is root's; [`VolumeSource::SECRET_MODE`] when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// Files.
    Config {
        /// File name → content.
        files: BTreeMap<String, String>,
    },
    /// What a repository held when the instance was started, to be written to by everybody, on the machine's disk.
    Git {
        /// Its URL: `https`, `http` or `git`, without a password.
        repository: String,
        /// A branch, a tag or a commit; what the repository says itself when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
        /// A folder of the volume into which it is put; the volume itself when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
}

impl VolumeSource {
    /// Permission bits of a secret's files unless others are asked for: root of the container reads them, nobody writes.
    pub const SECRET_MODE: u32 = 0o400;
}

/// Where a container sees a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Which.
    pub volume: VolumeName,
    /// Absolute path in the container.
    pub path: String,
    /// A folder in the volume, or a file of a `config` or `secret` one, instead of all of it; without `..`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// Whether writing is refused. `secret` and `config` always are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}
