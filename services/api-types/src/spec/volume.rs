//! Volumes and where containers see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::secret::SecretVolume;
use crate::text;

/// A folder that the containers of an instance share: exactly one of `empty_dir`, `config`, `secret` and `git`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"name": "scratch", "empty_dir": {"medium": "memory", "size": "64Mi"}})))]
pub struct Volume {
    /// Unique in the instance.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// Empty at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,
    /// Files, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigVolume>,
    /// Files that nobody can read back, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// What a git repository holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitVolume>,
}

/// What a git repository holds when the instance is started: one commit, without submodules and without what git LFS keeps
/// elsewhere. It is fetched from within the network of the instance, before any container starts, and kept with all that the
/// containers write there through their restarts; the next start of the instance fetches anew. Only with the isolation
/// `shared`: the machine's own kernel unpacks it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GitVolume {
    /// Its URL.
    #[schema(value_type = text::RepositoryUrl)]
    pub repository: String,
    /// A branch, a tag or a commit; what the repository says itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Revision>)]
    pub revision: Option<String>,
    /// A folder of the volume into which it is put; the volume itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InnerPath>)]
    pub directory: Option<String>,
}

/// Where an empty folder is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// On disk.
    #[default]
    Disk,
    /// In memory, which counts towards the memory of the containers that write it. Kept through restarts of containers, and
    /// gone when the instance stops or ends.
    Memory,
}

/// An empty folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyDirVolume {
    /// Where it is kept; `disk` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// The most that it takes. All volumes in memory together take no more than the containers may; when absent there, an equal
    /// part of what the others leave. On disk the instance is ended when it is exceeded; when absent there, what
    /// `ephemeral_disk` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MemoryQuantity>)]
    pub size: Option<String>,
}

/// Files that are given with the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigVolume {
    /// File name → content; at most 64 files, 256 KiB in all volumes together.
    #[schema(schema_with = text::files_schema)]
    pub files: BTreeMap<String, String>,
}

/// Where a container sees a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Which.
    #[schema(value_type = text::LabelName)]
    pub volume: String,
    /// Absolute path in the container.
    #[schema(value_type = text::AbsolutePath)]
    pub path: String,
    /// A folder in the volume, made when missing, or a file of a `config` or `secret`, instead of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InnerPath>)]
    pub sub_path: Option<String>,
    /// Whether writing is refused; a `config` and a `secret` always are read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}
