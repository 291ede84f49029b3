//! Down: what a node must keep.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wherry_model::{
    Action, ContainerName, ContainerSpec, Digest, DnsSettings, Generation, GpuDemand, HostAlias, Instance, InstanceId,
    InstanceName, Isolation, MemoryMib, OnNodeLoss, Port, ProjectId, RegistryCredential, RestartPolicy, Sealed,
    SecretText, TenantId, Volume,
};

/// One instance as its node must keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredInstance {
    /// Which instance.
    pub id: InstanceId,
    /// Which generation of it.
    pub generation: Generation,
    /// What to do with it.
    pub action: Action,
    /// Whose it is: the firewall lets instances of one tenant and project reach each other.
    pub tenant: TenantId,
    /// See [`Self::tenant`].
    pub project: ProjectId,
    /// Its name, which is also its host name.
    pub name: InstanceName,
    /// The domain in which its project's instances are found by their bare names.
    pub search_domain: String,
    /// What to run.
    pub containers: Vec<DesiredContainer>,
    /// What to do when a container ends.
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_grace_seconds: u32,
    /// The number of the first run of this generation.
    pub first_run: u32,
    /// When present, the node ends this instance by itself once its lease has not been renewed for this many seconds on
    /// the boot clock, because the control plane may run it elsewhere after that. When absent it runs on, however long
    /// the control plane is away: it is never run twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_after_seconds: Option<u32>,
    /// What came with the third version of this contract.
    #[serde(flatten)]
    pub more: DesiredMore,
}

/// What an agent of the version before does not know of an instance. It is never given one for which that would matter
/// ([`wherry_model::InstanceSpec::least_protocol`]).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DesiredMore {
    /// What the containers share beside the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What the containers may write to the disk together; what the agent gives when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_disk: Option<MemoryMib>,
    /// The GPUs of its machine that its containers see, by their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuDemand>,
    /// Most processes and threads together; what the agent gives when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Restarts by policy of one container, after which it stays ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// Seconds after the first start of this generation at which the node ends the instance by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    /// Name resolution inside.
    #[serde(default, skip_serializing_if = "DnsSettings::is_empty")]
    pub dns: DnsSettings,
    /// Lines of `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// How far it is kept apart from what else runs there.
    #[serde(default, skip_serializing_if = "Isolation::is_shared")]
    pub isolation: Isolation,
    /// Who it is for registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_credentials: Vec<RegistryCredential>,
    /// What is sealed in all of the above, opened.
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
}

/// Secrets in plain text by what they are sealed as. Only for a node that has to use them, and only on the line to it: what it
/// keeps on disk it seals again.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, SecretText>);

impl Secrets {
    /// Adds one.
    pub fn insert(&mut self, sealed: &Sealed, opened: SecretText) {
        self.0.insert(sealed.as_str().to_owned(), opened);
    }

    /// The one that was sealed so; none when the control plane could not open it.
    pub fn get(&self, sealed: &Sealed) -> Option<&SecretText> {
        self.0.get(sealed.as_str())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by what they are sealed as.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretText)> {
        self.0.iter().map(|(sealed, opened)| (sealed.as_str(), opened))
    }
}

/// Only how many there are.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl DesiredInstance {
    /// The instance as its node must keep it. `fence_after_seconds` counts only where it may be replaced.
    pub fn of(instance: &Instance, search_domain: String, fence_after_seconds: u32) -> Self {
        let spec = &instance.spec;
        let containers = spec.containers.iter().map(|spec| {
            let status = instance.container(&spec.name);
            DesiredContainer {
                spec: spec.clone(),
                digest: status.and_then(|status| status.image_digest.clone()),
                revision: status.map_or(0, |status| status.revision),
                asks_registry: status.is_some_and(|status| status.asks_registry),
            }
        });
        Self {
            id: instance.id,
            generation: instance.generation,
            action: instance.action(),
            tenant: instance.tenant,
            project: instance.project,
            name: instance.name.clone(),
            search_domain,
            containers: containers.collect(),
            restart_policy: spec.restart_policy,
            stop_grace_seconds: spec.stop_grace_seconds,
            first_run: instance.first_run,
            fence_after_seconds: (spec.on_node_loss == OnNodeLoss::Replace).then_some(fence_after_seconds),
            more: DesiredMore {
                volumes: spec.volumes.clone(),
                ephemeral_disk: spec.ephemeral_disk,
                gpu: instance.demand_held().gpu,
                pids: spec.pids,
                max_restarts: spec.max_restarts,
                deadline_seconds: spec.deadline_seconds,
                dns: spec.dns.clone(),
                host_aliases: spec.host_aliases.clone(),
                isolation: spec.isolation,
                registry_credentials: spec.registry_credentials.clone(),
                secrets: Secrets::default(),
            },
        }
    }

    /// What was asked of each container.
    pub fn specs(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.containers.iter().map(|container| &container.spec)
    }

    /// The most memory that its containers may take at one time, by their limits.
    pub fn most_memory(&self) -> MemoryMib {
        let specs = self.containers.iter().map(|container| &container.spec);
        MemoryMib::new(ContainerSpec::at_once(specs, |container| container.most_memory().get()))
    }

    /// The container of that name.
    pub fn container(&self, name: &ContainerName) -> Option<&DesiredContainer> {
        self.containers.iter().find(|container| &container.spec.name == name)
    }

    /// Ports that everybody who can route to the instance may reach.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.iter().flat_map(|container| &container.spec.ports)
    }
}

/// One container as its node must run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredContainer {
    /// What was asked.
    pub spec: ContainerSpec,
    /// What its image reference meant at the first pull; absent until then.
    pub digest: Option<Digest>,
    /// Counts what makes a run of it out of date: a change of its spec that cannot be made while it runs, a restart that
    /// somebody asked for. A run that was started for a lower one is ended and followed by another.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// Whether the registry is to be asked what its image reference means, whatever it means to others on the machine. An agent
    /// that does not know this asks as the pull policy says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_registry: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl DesiredContainer {
    /// One that was never changed.
    pub const fn new(spec: ContainerSpec, digest: Option<Digest>) -> Self {
        Self { spec, digest, revision: 0, asks_registry: false }
    }
}

/// Everything that one node must keep: instances that are not listed are not its any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Grows with every change; an agent refuses an older one.
    pub revision: u64,
    /// The node's lease epoch. It grows when the control plane fences the node: what it may run elsewhere is then not in
    /// `instances` any more. An agent takes a higher epoch only together with the instances that it comes with, and only
    /// a heartbeat of the present epoch renews the lease.
    #[serde(default)]
    pub epoch: u64,
    /// All of them.
    pub instances: Vec<DesiredInstance>,
    /// Instances of this node of which the control plane cannot say what they are to be, because it cannot read their records: they
    /// go on as the agent knows them. Never given to an agent of the version before, which would end them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<InstanceId>,
}
