//! Sandboxes: what the containers of one instance share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use wherry_model::Timestamp;

use crate::SandboxId;

/// Labels, and the selector "has all of these".
pub type Labels = BTreeMap<String, String>;

/// Content of the sandbox's `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, for example `ndots:1`.
    pub options: Vec<String>,
}

/// What a sandbox is to be. (`name`, `namespace`, `uid`, `attempt`) is its unique key in the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Name of the instance, or anything else that is unique in the namespace.
    pub name: String,
    /// Id of the instance.
    pub uid: String,
    /// Free grouping, for example tenant and project.
    pub namespace: String,
    /// Counts sandboxes made for the same instance.
    pub attempt: u32,
    /// Labels; the agent finds its sandboxes by them after a restart.
    pub labels: Labels,
    /// Annotations, kept by the engine, not selectable.
    pub annotations: BTreeMap<String, String>,
    /// Host name inside.
    pub hostname: String,
    /// Name resolution inside.
    pub dns: DnsConfig,
    /// Folder below which the containers' log files are; must exist.
    pub log_directory: PathBuf,
    /// Name of the instance's own cgroup, one path component; the adapter puts it below its own root. Removed with the
    /// sandbox.
    pub cgroup_name: String,
    /// Most processes and threads in the whole sandbox.
    pub pids_max: u32,
    /// Most memory of the whole sandbox, in bytes, that of volumes in memory counted whoever wrote them. 0: no limit.
    /// [`crate::ContainerRuntime::create_container`] sets this and `pids_max` anew.
    pub memory_bytes: u64,
    /// Further namespaced kernel settings beside those of the fixed profile.
    pub sysctls: BTreeMap<String, String>,
    /// Which of the engine's runtimes makes it and its containers; the usual one when empty. One that the engine does not have
    /// is an invalid argument.
    pub runtime_handler: String,
}

/// State of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    /// Containers can be created in it.
    Ready,
    /// It was stopped, or its first process died.
    NotReady,
}

/// A sandbox as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Id given by the engine.
    pub id: SandboxId,
    /// As in [`SandboxConfig::name`].
    pub name: String,
    /// As in [`SandboxConfig::uid`].
    pub uid: String,
    /// As in [`SandboxConfig::namespace`].
    pub namespace: String,
    /// As in [`SandboxConfig::attempt`].
    pub attempt: u32,
    /// State.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// As in [`SandboxConfig::labels`].
    pub labels: Labels,
    /// As in [`SandboxConfig::annotations`].
    pub annotations: BTreeMap<String, String>,
}

/// A sandbox in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStatus {
    /// What listings show too.
    pub sandbox: Sandbox,
    /// Its address, `None` once it was stopped.
    pub address: Option<Ipv4Addr>,
}
