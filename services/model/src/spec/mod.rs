//! What a tenant asks for. A spec is checked once, here, and is right from then on.
//!
//! Everything that came after the first release has a default that means what was so before, and is left out of the record
//! while it has it: an older record reads as what it said.

mod check;
mod container;
mod cron;
mod limits;
mod naming;
mod place;
mod port;
mod probe;
mod schedule;
mod sealed;
mod secrets;
mod surroundings;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fleet::{Architecture, Demand};
use crate::isolation::Isolation;
use crate::name::{ContainerName, DnsLabel};
use crate::quantity::{CpuMillis, MemoryMib};
use crate::terms::{GpuDemand, ZoneName};

pub use container::{Condition, ContainerKind, ContainerSpec, Dependency, EnvVar, PullPolicy};
pub use limits::Limits;
pub use naming::DnsReuseScope;
pub use place::{LabelMatch, PlacementRules, Priority, SpreadRule};
pub use port::{Port, Protocol};
pub use probe::{Check, Header, Hooks, Probe, Probes};
pub use schedule::{OnOverlap, Schedule};
pub use sealed::{Sealed, SecretText};
pub use surroundings::{DnsSettings, HostAlias, RegistryCredential};
pub use volume::{Medium, Volume, VolumeMount, VolumeSource};

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

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// At least one main container, at most [`Limits::MAX_CONTAINERS`] in all; those of the beginning come first, in their
    /// order.
    pub containers: Vec<ContainerSpec>,
    /// What they share beside the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What the containers may write to the machine's disk, in their own file systems and in volumes on disk together; what
    /// the machine's agent gives when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_disk: Option<MemoryMib>,
    /// GPUs, which all its containers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuDemand>,
    /// Most processes and threads of all containers together; what the machine's agent gives when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// What happens when a container ends by itself.
    pub restart_policy: RestartPolicy,
    /// Restarts by policy of one container in one generation, after which it stays ended; without a bound when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// Only machines of this kind will do; any when absent.
    pub architecture: Option<Architecture>,
    /// Seconds between the stop signal and SIGKILL at a stop.
    pub stop_grace_seconds: u32,
    /// Seconds after its start at which it is ended, in each generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    /// Seconds after its end, by itself, at which it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// When it is started by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How far it is kept apart from what else runs on its machine.
    #[serde(default, skip_serializing_if = "Isolation::is_shared")]
    pub isolation: Isolation,
    /// What happens when its machine is lost.
    #[serde(default, skip_serializing_if = "OnNodeLoss::is_keep")]
    pub on_node_loss: OnNodeLoss,
    /// Name resolution inside.
    #[serde(default, skip_serializing_if = "DnsSettings::is_empty")]
    pub dns: DnsSettings,
    /// Lines of `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// The first label of its DNS name; its own name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_label: Option<DnsLabel>,
    /// Among whom its DNS name is unique, and who can have it later.
    #[serde(default, skip_serializing_if = "DnsReuseScope::is_project")]
    pub dns_reuse_scope: DnsReuseScope,
    /// Whether its name is answered while it is not ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_unready: bool,
    /// Who it is for registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_credentials: Vec<RegistryCredential>,
    /// Only machines of this zone will do; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Only a machine that no other tenant shares.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// Whether it makes room for others.
    #[serde(default, skip_serializing_if = "Priority::is_regular")]
    pub priority: Priority,
    /// Where, by the tenant's other instances.
    #[serde(default, skip_serializing_if = "PlacementRules::is_empty")]
    pub placement: PlacementRules,
    /// The tenant's own marks.
    pub labels: BTreeMap<String, String>,
}

impl InstanceSpec {
    /// An instance of which nothing else is asked: its containers are restarted when they fail, and get ten seconds to end.
    pub const fn new(containers: Vec<ContainerSpec>) -> Self {
        Self {
            containers,
            volumes: Vec::new(),
            ephemeral_disk: None,
            gpu: None,
            pids: None,
            restart_policy: RestartPolicy::OnFailure,
            max_restarts: None,
            architecture: None,
            stop_grace_seconds: 10,
            deadline_seconds: None,
            ttl_seconds: None,
            schedule: None,
            isolation: Isolation::Shared,
            on_node_loss: OnNodeLoss::Keep,
            dns: DnsSettings { servers: Vec::new(), searches: Vec::new(), options: Vec::new() },
            host_aliases: Vec::new(),
            dns_label: None,
            dns_reuse_scope: DnsReuseScope::Project,
            publish_unready: false,
            registry_credentials: Vec::new(),
            zone: None,
            dedicated: false,
            priority: Priority::Regular,
            placement: PlacementRules { spread: Vec::new(), near: Vec::new(), apart: Vec::new() },
            labels: BTreeMap::new(),
        }
    }

    /// What the instance takes from a node: what its main containers take together, or the largest of those of the beginning,
    /// which run alone.
    pub fn demand(&self) -> Demand {
        let cpu = CpuMillis::new(self.at_once(|container| container.cpu.get()));
        let memory = MemoryMib::new(self.at_once(|container| container.memory.get()));
        Demand {
            architecture: self.architecture,
            fenced: self.on_node_loss == OnNodeLoss::Replace,
            // What the first releases knew, every agent knows.
            protocol: Some(self.least_protocol()).filter(|least| *least > 2).unwrap_or(0),
            isolation: self.isolation,
            disk: self.ephemeral_disk.unwrap_or(MemoryMib::new(0)),
            gpu: self.gpu,
            zone: self.zone,
            dedicated: self.dedicated,
            spot: self.priority == Priority::Spot,
            ..Demand::new(cpu, memory)
        }
    }

    /// The most memory that its containers may take at one time, by their limits.
    pub fn most_memory(&self) -> MemoryMib {
        MemoryMib::new(self.at_once(|container| container.most_memory().get()))
    }

    fn at_once(&self, get: fn(&ContainerSpec) -> u32) -> u32 {
        ContainerSpec::at_once(self.containers.iter(), get)
    }

    /// Every offered port of every container.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.iter().flat_map(|container| &container.ports)
    }

    /// The container of that name.
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerSpec> {
        self.containers.iter().find(|container| &container.name == name)
    }

    /// Whether the container is there to come to its end once: one of the beginning, and one whose completion another waits
    /// for. After a success it is not started again, whatever the restart policy.
    pub fn runs_once(&self, container: &ContainerSpec) -> bool {
        crate::sequence::runs_once(&self.containers, container)
    }

    /// The same without what came later.
    fn of_the_first_release(&self) -> Self {
        Self {
            restart_policy: self.restart_policy,
            architecture: self.architecture,
            stop_grace_seconds: self.stop_grace_seconds,
            on_node_loss: self.on_node_loss,
            labels: self.labels.clone(),
            ..Self::new(self.containers.iter().map(ContainerSpec::of_the_first_release).collect())
        }
    }

    /// Whether the first release would keep all of it when it writes its record.
    pub fn is_of_the_first_release(&self) -> bool {
        self.containers.len() == 1 && *self == self.of_the_first_release()
    }

    /// The version of the agents' contract that knows everything which is asked for here: an older agent would ignore it
    /// silently.
    pub fn least_protocol(&self) -> u32 {
        let plain = self.of_the_first_release();
        // What only the control plane acts upon is no matter to the agent.
        let asked = Self {
            ttl_seconds: None,
            schedule: None,
            publish_unready: false,
            zone: None,
            dedicated: false,
            priority: Priority::Regular,
            placement: PlacementRules::default(),
            ..self.clone()
        };
        if plain == asked && self.containers.len() == 1 { 2 } else { 3 }
    }
}

impl ContainerSpec {
    /// What these take at one time: the main ones together, or the largest of those of the beginning, which run alone.
    pub fn at_once<'a>(all: impl Iterator<Item = &'a Self> + Clone, get: fn(&Self) -> u32) -> u32 {
        let of = |kind: ContainerKind| all.clone().filter(move |container| container.kind == kind).map(get);
        of(ContainerKind::Main).fold(0, u32::saturating_add).max(of(ContainerKind::Init).max().unwrap_or(0))
    }

    /// The same without what came later.
    fn of_the_first_release(&self) -> Self {
        let Self { name, image, command, args, env, working_dir, cpu, memory, ports, .. } = self.clone();
        let env = env.into_iter().map(|variable| EnvVar { secret: None, ..variable }).collect();
        let ports = ports.into_iter().map(|port| Port { public_port: None, ..port }).collect();
        Self { command, args, env, working_dir, ports, ..Self::new(name, image, cpu, memory) }
    }
}
