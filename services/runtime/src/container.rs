//! Containers: processes with a file system in a sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wherry_model::{SecretText, Timestamp};

use crate::{ContainerId, Labels, SandboxId};

/// A folder or file of the machine that the container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Path on the machine; must exist.
    pub host_path: PathBuf,
    /// Absolute path inside.
    pub container_path: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
    /// The folder is in memory and takes at most so many bytes: where containers see it on disk still, an empty file system
    /// is put in its place first. Removing the folder on the machine, once nobody uses it, gives the memory back.
    pub memory_bytes: Option<u64>,
    /// Only a folder inside of it is shown.
    pub part: Option<MountPart>,
    /// The folder is in memory and holds exactly these files, which are never written to a disk; a file system of their own is
    /// put in its place first, as with [`Self::memory_bytes`], and goes like it.
    pub secret_files: Option<SecretFiles>,
}

/// Files in memory, which are root's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFiles {
    /// File name → content.
    pub files: BTreeMap<String, SecretText>,
    /// Permission bits of each.
    pub mode: u32,
    /// Only this file is shown.
    pub shown: Option<String>,
}

/// A folder inside of a folder that containers write. Whatever links are or come to be on the way, nothing outside of the
/// whole is shown: the engine refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPart {
    /// Below the whole, without `..`; made, for everybody to write, when missing.
    pub path: PathBuf,
    /// A path on the machine of the mount's own, outside of the whole, at which the engine holds the folder. Goes like
    /// [`Mount::memory_bytes`] by removing it.
    pub stage: PathBuf,
}

/// A device file of the machine that the container sees, and may read and write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Path on the machine; must be a device.
    pub host_path: PathBuf,
    /// Absolute path inside.
    pub container_path: PathBuf,
}

/// What a container is to be. (`name`, `attempt`) is its unique key in the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerConfig {
    /// Name, unique in the instance.
    pub name: String,
    /// Counts runs of the same container.
    pub attempt: u32,
    /// Reference of an image that is on this machine, best [`crate::PulledImage::pinned_reference`].
    pub image: String,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Replaces the image's working folder.
    pub working_dir: Option<String>,
    /// Environment, in addition to the image's.
    pub env: BTreeMap<String, String>,
    /// Further environment, which is not printed.
    pub secret_env: BTreeMap<String, SecretText>,
    /// Labels.
    pub labels: Labels,
    /// Annotations, kept by the engine, not selectable.
    pub annotations: BTreeMap<String, String>,
    /// Log file in CRI format, relative to [`crate::SandboxConfig::log_directory`].
    pub log_path: PathBuf,
    /// Most CPU time, in thousandths of a core. 0: no limit.
    pub cpu_millis: u64,
    /// CPU that counts against others when there is too little for all, in thousandths of a core. 0: as `cpu_millis`.
    pub cpu_reserved_millis: u64,
    /// Most memory, in bytes; there is no swap beyond it. 0: no limit.
    pub memory_bytes: u64,
    /// Replaces the image's user: `uid`, `uid:gid` or a name from the image's `/etc/passwd`.
    pub user: Option<String>,
    /// Files and folders of the machine to show inside.
    pub mounts: Vec<Mount>,
    /// Devices of the machine to show inside, beside those that every container has.
    pub devices: Vec<Device>,
    /// Whether its input is kept open for [`crate::ContainerRuntime::attach`]; otherwise it is empty.
    pub stdin: bool,
    /// Whether that input is closed for good when one who attached ends it. Only with `stdin` and without `tty`.
    pub stdin_once: bool,
    /// Whether it runs on a terminal; its log has one stream then.
    pub tty: bool,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Its main process runs.
    Running,
    /// Its main process ended.
    Exited,
    /// The engine lost track of it; treat it as ended with an unknown result.
    Unknown,
}

/// A container as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Id given by the engine.
    pub id: ContainerId,
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// As in [`ContainerConfig::name`].
    pub name: String,
    /// As in [`ContainerConfig::attempt`].
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// The image that it was made of ([`crate::Image::id`]); empty where that is not known any more.
    pub image_id: String,
    /// As in [`ContainerConfig::labels`].
    pub labels: Labels,
}

/// A container in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Id given by the engine.
    pub id: ContainerId,
    /// As in [`ContainerConfig::name`].
    pub name: String,
    /// As in [`ContainerConfig::attempt`].
    pub attempt: u32,
    /// State.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its main process started.
    pub started_at: Option<Timestamp>,
    /// When its main process ended.
    pub finished_at: Option<Timestamp>,
    /// Exit code of the main process, 128 + signal when a signal ended it; only with [`ContainerState::Exited`].
    pub exit_code: Option<i32>,
    /// One word: `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`, or empty while it is not over.
    pub reason: String,
    /// A sentence about the reason, often empty.
    pub message: String,
    /// Main process in the machine's numbering, while it runs.
    pub pid: Option<u32>,
    /// Log file.
    pub log_path: PathBuf,
    /// The image's reference as the engine gives it.
    pub image: String,
    /// As in [`ContainerConfig::labels`].
    pub labels: Labels,
}
