//! What a tenant asks for. A spec is checked once, here, and is right from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fleet::{Architecture, Demand};
use crate::name::ContainerName;
use crate::quantity::{CpuMillis, MemoryMib};
use crate::reference::ImageReference;

/// Bounds on a spec. Everything a tenant can make larger has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits;

impl Limits {
    /// Containers in one instance.
    pub const MAX_CONTAINERS: usize = 1;
    /// Ports of one container.
    pub const MAX_PORTS: usize = 64;
    /// Environment variables of one container.
    pub const MAX_ENV_VARS: usize = 256;
    /// Bytes of all names and values of the environment of one container.
    pub const MAX_ENV_BYTES: usize = 64 * 1024;
    /// Words of `command` and `args` together.
    pub const MAX_COMMAND_WORDS: usize = 256;
    /// Bytes of `command` and `args` together.
    pub const MAX_COMMAND_BYTES: usize = 32 * 1024;
    /// Labels of one instance.
    pub const MAX_LABELS: usize = 64;
    /// Bytes of a label's key or value.
    pub const MAX_LABEL_BYTES: usize = 255;
    /// The longest stop grace, in seconds.
    pub const MAX_STOP_GRACE_SECONDS: u32 = 600;
}

/// A field that is wrong, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The path of the field, for example `containers[0].ports[1].port`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl SpecError {
    /// Says what is wrong with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What happens when a container ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again, whatever its exit code.
    Always,
    /// It is started again unless it exited with 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// What happens when the machine of an instance is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNodeLoss {
    /// It waits for its machine: it is never run twice, and it runs on while only the network is cut.
    #[default]
    Keep,
    /// It is placed elsewhere, after its machine has ended it by itself or was confirmed off.
    Replace,
}

impl OnNodeLoss {
    /// Whether it is the usual one, which stored records and requests leave out.
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A port that the instance offers to everybody who can route to it. Ports not named here stay inside the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// A name without `=` or NUL.
    pub name: String,
    /// Any text without NUL.
    pub value: String,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique in the instance.
    pub name: ContainerName,
    /// What to run.
    pub image: ImageReference,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// Added to the image's environment.
    pub env: Vec<EnvVar>,
    /// Absolute path; the image's when absent.
    pub working_dir: Option<String>,
    /// CPU limit, reserved and metered as asked.
    pub cpu: CpuMillis,
    /// Memory limit, reserved and metered as asked.
    pub memory: MemoryMib,
    /// Offered ports.
    pub ports: Vec<Port>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// At least one, at most [`Limits::MAX_CONTAINERS`].
    pub containers: Vec<ContainerSpec>,
    /// What happens when a container ends by itself.
    pub restart_policy: RestartPolicy,
    /// Only machines of this kind will do; any when absent.
    pub architecture: Option<Architecture>,
    /// Seconds between SIGTERM and SIGKILL at a stop.
    pub stop_grace_seconds: u32,
    /// What happens when its machine is lost.
    #[serde(default, skip_serializing_if = "OnNodeLoss::is_keep")]
    pub on_node_loss: OnNodeLoss,
    /// The tenant's own marks.
    pub labels: BTreeMap<String, String>,
}

impl InstanceSpec {
    /// Refuses what breaks a bound or contradicts itself; names the first field at fault.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.containers.is_empty() || self.containers.len() > Limits::MAX_CONTAINERS {
            return Err(SpecError::new(
                "containers",
                format!("{} containers were given, exactly one is supported", self.containers.len()),
            ));
        }
        let mut names = BTreeSet::new();
        for (index, container) in self.containers.iter().enumerate() {
            let field = format!("containers[{index}]");
            container.check(&field)?;
            if !names.insert(&container.name) {
                return Err(SpecError::new(format!("{field}.name"), format!("{} is used twice", container.name)));
            }
        }
        if self.stop_grace_seconds > Limits::MAX_STOP_GRACE_SECONDS {
            return Err(SpecError::new(
                "stop_grace_seconds",
                format!("{} is too long, the most is {}", self.stop_grace_seconds, Limits::MAX_STOP_GRACE_SECONDS),
            ));
        }
        self.check_labels()
    }

    fn check_labels(&self) -> Result<(), SpecError> {
        if self.labels.len() > Limits::MAX_LABELS {
            let message = format!("{} labels were given, the most is {}", self.labels.len(), Limits::MAX_LABELS);
            return Err(SpecError::new("labels", message));
        }
        for (key, value) in &self.labels {
            let key_ok = !key.is_empty()
                && key.len() <= Limits::MAX_LABEL_BYTES
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
            if !key_ok {
                let message = "a label's key has 1 to 255 letters, digits, '.', '_', '-' or '/'";
                return Err(SpecError::new("labels", message));
            }
            if value.len() > Limits::MAX_LABEL_BYTES || value.chars().any(char::is_control) {
                let message = "a label's value has at most 255 bytes and no control characters";
                return Err(SpecError::new(format!("labels.{key}"), message));
            }
        }
        Ok(())
    }

    /// What the instance takes from a node.
    pub fn demand(&self) -> Demand {
        Demand {
            cpu: CpuMillis::new(self.containers.iter().fold(0_u32, |sum, c| sum.saturating_add(c.cpu.get()))),
            memory: MemoryMib::new(self.containers.iter().fold(0_u32, |sum, c| sum.saturating_add(c.memory.get()))),
            architecture: self.architecture,
        }
    }

    /// Every offered port of every container.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.iter().flat_map(|container| &container.ports)
    }
}

impl ContainerSpec {
    fn check(&self, field: &str) -> Result<(), SpecError> {
        let wrong = |name: &str, message: String| Err(SpecError::new(format!("{field}.{name}"), message));
        if self.cpu < CpuMillis::MIN || self.cpu > CpuMillis::MAX {
            return wrong("cpu", format!("{} is outside 10m to 1024 cores", self.cpu));
        }
        if self.memory < MemoryMib::MIN || self.memory > MemoryMib::MAX {
            return wrong("memory", format!("{} is outside 4Mi to 16Ti", self.memory));
        }
        let words = || self.command.iter().chain(&self.args);
        if words().count() > Limits::MAX_COMMAND_WORDS {
            return wrong("command", format!("with args it has more than {} words", Limits::MAX_COMMAND_WORDS));
        }
        if words().map(String::len).sum::<usize>() > Limits::MAX_COMMAND_BYTES {
            return wrong("command", format!("with args it has more than {} bytes", Limits::MAX_COMMAND_BYTES));
        }
        if words().any(|word| word.contains('\0')) {
            return wrong("command", "a NUL character cannot be passed to a program".to_owned());
        }
        self.check_env(field)?;
        if let Some(directory) = &self.working_dir
            && (!directory.starts_with('/') || directory.len() > 4096 || directory.contains('\0'))
        {
            return wrong(
                "working_dir",
                "give an absolute path of at most 4096 bytes, for example \"/srv\"".to_owned(),
            );
        }
        if self.ports.len() > Limits::MAX_PORTS {
            return wrong("ports", format!("{} ports were given, the most is {}", self.ports.len(), Limits::MAX_PORTS));
        }
        let mut seen = BTreeSet::new();
        for (index, port) in self.ports.iter().enumerate() {
            if port.port == 0 {
                return wrong(&format!("ports[{index}].port"), "0 is not a port, give 1 to 65535".to_owned());
            }
            if !seen.insert(port) {
                return wrong(&format!("ports[{index}]"), format!("port {} is given twice", port.port));
            }
        }
        Ok(())
    }

    fn check_env(&self, field: &str) -> Result<(), SpecError> {
        let wrong = |at: String, message: String| Err(SpecError::new(format!("{field}.env{at}"), message));
        if self.env.len() > Limits::MAX_ENV_VARS {
            return wrong(
                String::new(),
                format!("{} variables were given, the most is {}", self.env.len(), Limits::MAX_ENV_VARS),
            );
        }
        if self.env.iter().map(|v| v.name.len() + v.value.len()).sum::<usize>() > Limits::MAX_ENV_BYTES {
            return wrong(String::new(), format!("the variables have more than {} bytes", Limits::MAX_ENV_BYTES));
        }
        let mut names = BTreeSet::new();
        for (index, variable) in self.env.iter().enumerate() {
            if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
                return wrong(format!("[{index}].name"), "a name is not empty and has no '=' and no NUL".to_owned());
            }
            if variable.value.contains('\0') {
                return wrong(format!("[{index}].value"), "a value has no NUL".to_owned());
            }
            if !names.insert(&variable.name) {
                return wrong(format!("[{index}].name"), format!("{} is given twice", variable.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> InstanceSpec {
        InstanceSpec {
            containers: vec![ContainerSpec {
                name: ContainerName::new("main").unwrap(),
                image: "r.example/web:1".parse().unwrap(),
                command: vec![],
                args: vec![],
                env: vec![],
                working_dir: None,
                cpu: CpuMillis::new(250),
                memory: MemoryMib::new(64),
                ports: vec![],
            }],
            restart_policy: RestartPolicy::OnFailure,
            architecture: None,
            stop_grace_seconds: 10,
            on_node_loss: OnNodeLoss::Keep,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn a_good_spec_passes_and_sums_up() {
        let spec = good();
        assert_eq!(spec.check(), Ok(()));
        assert_eq!((spec.demand().cpu.get(), spec.demand().memory.get()), (250, 64));
    }

    #[test]
    fn every_bound_names_its_field() {
        type Break = fn(&mut InstanceSpec);
        let cases: [(&str, Break); 16] = [
            ("containers", |s| s.containers.clear()),
            ("containers", |s| s.containers.push(s.containers[0].clone())),
            ("containers[0].cpu", |s| s.containers[0].cpu = CpuMillis::new(9)),
            ("containers[0].memory", |s| s.containers[0].memory = MemoryMib::new(3)),
            ("containers[0].command", |s| s.containers[0].command = vec!["x".into(); 257]),
            ("containers[0].command", |s| s.containers[0].args = vec!["x".repeat(40_000)]),
            ("containers[0].command", |s| s.containers[0].args = vec!["a\0b".into()]),
            ("containers[0].working_dir", |s| s.containers[0].working_dir = Some("srv".into())),
            ("containers[0].ports[0].port", |s| {
                s.containers[0].ports = vec![Port { port: 0, protocol: Protocol::Tcp }];
            }),
            ("containers[0].ports[1]", |s| {
                s.containers[0].ports = vec![Port { port: 80, protocol: Protocol::Tcp }; 2];
            }),
            ("containers[0].env[0].name", |s| {
                s.containers[0].env = vec![EnvVar { name: "A=B".into(), value: String::new() }];
            }),
            ("containers[0].env[0].value", |s| {
                s.containers[0].env = vec![EnvVar { name: "A".into(), value: "\0".into() }];
            }),
            ("containers[0].env[1].name", |s| {
                s.containers[0].env = vec![EnvVar { name: "A".into(), value: String::new() }; 2];
            }),
            ("stop_grace_seconds", |s| s.stop_grace_seconds = 601),
            ("labels", |s| {
                s.labels.insert("bad key".into(), String::new());
            }),
            ("labels.a", |s| {
                s.labels.insert("a".into(), "\n".into());
            }),
        ];
        for (field, break_it) in cases {
            let mut spec = good();
            break_it(&mut spec);
            assert_eq!(spec.check().unwrap_err().field, field);
        }
    }
}
