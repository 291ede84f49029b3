//! One container of an instance.

use serde::{Deserialize, Serialize};

use crate::name::ContainerName;
use crate::quantity::{CpuMillis, MemoryMib};
use crate::reference::ImageReference;

use super::port::Port;
use super::probe::{Hooks, Probes};
use super::sealed::Sealed;
use super::volume::VolumeMount;

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// A name without `=` or NUL.
    pub name: String,
    /// Any text without NUL; empty where there is a secret.
    #[serde(default)]
    pub value: String,
    /// The value, where nobody may read it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Sealed>,
}

impl EnvVar {
    /// A variable that everybody may see who may see the instance.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), secret: None }
    }
}

/// When a container of an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// With the others, once the beginning is over.
    #[default]
    Main,
    /// At the beginning, one after the other in the order of the spec, each to its success, before any main container.
    Init,
}

impl ContainerKind {
    /// Whether it is the usual one, which stored records leave out.
    pub fn is_main(&self) -> bool {
        *self == Self::Main
    }
}

/// What must be true of a container before another is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It was started in this generation.
    Started,
    /// Its probes say that it is ready; without a startup or readiness probe as [`Self::Started`].
    Healthy,
    /// It has ended with 0. Such a container is not started again after that, whatever the restart policy.
    Completed,
}

/// One container waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// For which.
    pub container: ContainerName,
    /// Until what is true of it.
    pub condition: Condition,
}

/// When the registry is asked what an image reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// At the first start; from then on exactly that image is run, until a pull is asked for.
    #[default]
    Once,
    /// At each start that somebody asked for, never at a restart by policy.
    Always,
    /// Only when the machine has no image of this name.
    IfNotPresent,
}

impl PullPolicy {
    /// Whether it is the usual one, which stored records leave out.
    pub fn is_once(&self) -> bool {
        *self == Self::Once
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in the instance.
    pub name: ContainerName,
    /// When it runs.
    #[serde(default, skip_serializing_if = "ContainerKind::is_main")]
    pub kind: ContainerKind,
    /// What to run.
    pub image: ImageReference,
    /// When the registry is asked what that means.
    #[serde(default, skip_serializing_if = "PullPolicy::is_once")]
    pub pull: PullPolicy,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment.
    pub env: Vec<EnvVar>,
    /// Absolute path; the image's when absent.
    pub working_dir: Option<String>,
    /// `uid`, `uid:gid` or a name that the image knows; the image's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// CPU reserved and metered as asked; the limit too, unless there is another.
    pub cpu: CpuMillis,
    /// Memory reserved and metered as asked; the limit too, unless there is another.
    pub memory: MemoryMib,
    /// CPU limit, at least what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<CpuMillis>,
    /// Memory limit, at least what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<MemoryMib>,
    /// Offered ports.
    pub ports: Vec<Port>,
    /// What it sees of the instance's volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<VolumeMount>,
    /// For which containers it waits before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// How it is asked how it is.
    #[serde(default, skip_serializing_if = "Probes::is_empty")]
    pub probes: Probes,
    /// What is done at its start and before its end.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// The signal that asks it to end, for example `SIGINT`; the image's, or SIGTERM, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Whether its input is kept open for who attaches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Whether that input is closed for good when the first one who attached with input ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

impl ContainerSpec {
    /// A main container of which nothing else is asked.
    pub const fn new(name: ContainerName, image: ImageReference, cpu: CpuMillis, memory: MemoryMib) -> Self {
        Self {
            name,
            kind: ContainerKind::Main,
            image,
            pull: PullPolicy::Once,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            user: None,
            cpu,
            memory,
            cpu_limit: None,
            memory_limit: None,
            ports: Vec::new(),
            mounts: Vec::new(),
            depends_on: Vec::new(),
            probes: Probes { startup: None, liveness: None, readiness: None },
            hooks: Hooks { post_start: None, pre_stop: None },
            stop_signal: None,
            stdin: false,
            stdin_once: false,
            tty: false,
        }
    }

    /// The most CPU that it gets.
    pub fn most_cpu(&self) -> CpuMillis {
        self.cpu_limit.unwrap_or(self.cpu)
    }

    /// The most memory that it gets.
    pub fn most_memory(&self) -> MemoryMib {
        self.memory_limit.unwrap_or(self.memory)
    }
}
