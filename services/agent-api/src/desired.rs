//! Down: what a node must keep.

use serde::{Deserialize, Serialize};
use wherry_model::{
    Action, ContainerSpec, Digest, Generation, InstanceId, InstanceName, Port, ProjectId, RestartPolicy, TenantId,
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
}

impl DesiredInstance {
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
}
