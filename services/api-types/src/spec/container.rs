//! One container of an instance.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::probe::{Hook, Probe};
use super::secret::SecretText;
use super::volume::VolumeMount;
use crate::state::Protocol;
use crate::{number, text};

/// The CPU of a container that does not ask for any.
pub const DEFAULT_CPU: &str = "250m";
/// The memory of a container that does not ask for any.
pub const DEFAULT_MEMORY: &str = "128Mi";
/// The name of a container that has none.
pub const DEFAULT_CONTAINER_NAME: &str = "main";

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique in the instance; `main` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::LabelName>)]
    pub name: Option<String>,
    /// What to run.
    #[schema(value_type = text::ImageReference)]
    pub image: String,
    /// When the registry is asked what that means; `once` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Replaces the image's entrypoint when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::PlainText>, max_items = 256)]
    pub command: Vec<String>,
    /// Replaces the image's command when not empty. Together with `command` at most 32 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::PlainText>, max_items = 256)]
    pub args: Vec<String>,
    /// Added to the image's environment, at most 64 KiB in all. Of two entries with the same name the later wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub env: Vec<EnvVar>,
    /// Where the program starts; the image's directory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::AbsolutePath>)]
    pub working_dir: Option<String>,
    /// As whom the program runs: `uid`, `uid:gid` or a name that the image knows; as the image says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::UserName>)]
    pub user: Option<String>,
    /// CPU: reserved and metered as asked, and the limit unless there is another; `250m` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::CpuQuantity>)]
    pub cpu: Option<String>,
    /// Memory: reserved and metered as asked, and the limit (without swap) unless there is another; `128Mi` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MemoryQuantity>)]
    pub memory: Option<String>,
    /// How much more it may take while the machine has it. Refused where the operator has not allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceLimits>,
    /// Ports offered to everybody who can route to the instance, as a set: naming one twice is naming it once. Ports
    /// that are not named stay inside the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub ports: Vec<Port>,
    /// Where it sees volumes of the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub volume_mounts: Vec<VolumeMount>,
    /// Which containers must be how before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub depends_on: Vec<Dependency>,
    /// Until it succeeds the other probes are not asked; when it fails for good the container is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// When it fails the container is ended, and the restart policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// While it fails the DNS name of the instance is not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// What is done right after its start; if that fails the container is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    /// What is done before it gets the stop signal, inside the stop grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
    /// The signal that asks it to end, as signal(7) names it; the image's, or SIGTERM, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::SignalName>)]
    pub stop_signal: Option<String>,
    /// Whether its input is kept open for who attaches to it; otherwise its input is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin: bool,
    /// Whether that input is closed for good when the first one who attached with input ends it. Needs `stdin`; not with `tty`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    /// Whether it runs on a terminal: output and errors are one stream then, also in its log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

/// Limits above what is reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// CPU; what is reserved when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::CpuQuantity>)]
    pub cpu: Option<String>,
    /// Memory; what is reserved when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MemoryQuantity>)]
    pub memory: Option<String>,
}

/// When the registry is asked what an image reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// At the first start; from then on exactly that image is run, until a pull is asked for.
    #[default]
    Once,
    /// At each start that somebody asked for, or on another machine; never at a restart by policy.
    Always,
    /// Only when the machine has no image of this name.
    IfNotPresent,
}

/// What must be true of a container before another is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It was started.
    #[default]
    Started,
    /// Its probes find it ready.
    Healthy,
    /// It has ended with 0. It is not started again after that, whatever the restart policy.
    Completed,
}

/// One container waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// For which.
    #[schema(value_type = text::LabelName)]
    pub container: String,
    /// Until what is true of it; `started` when absent.
    #[serde(default)]
    pub condition: Condition,
}

/// One environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    #[schema(value_type = text::EnvName)]
    pub name: String,
    /// Its value, for everybody to read who may see the instance; empty when absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(value_type = text::PlainText, required = false)]
    pub value: String,
    /// Its value in place of `value`, to set, where nobody may read it back. Never in an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// Whether its value is a secret. In an update, `true` without `secret` keeps the one that is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_set: bool,
}

impl EnvVar {
    /// One that may be read back.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), ..Self::default() }
    }

    /// One that may not.
    pub fn secret(name: impl Into<String>, value: SecretText) -> Self {
        Self { name: name.into(), secret: Some(value), ..Self::default() }
    }
}

/// One offered port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// On which the container listens.
    #[serde(deserialize_with = "number::whole")]
    #[schema(minimum = 1, maximum = 65535, example = 80)]
    pub port: u16,
    /// `tcp` when absent.
    #[serde(default)]
    pub protocol: Protocol,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::LabelName>)]
    pub name: Option<String>,
    /// At which the others reach it, on the instance's address; `port` itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 65535, example = 80)]
    pub public_port: Option<u16>,
}

impl Port {
    /// A port without name, reached where the container listens.
    pub const fn new(port: u16, protocol: Protocol) -> Self {
        Self { port, protocol, name: None, public_port: None }
    }
}
