//! What an agent shows of itself, for metrics and `doctor`.

use std::collections::BTreeMap;

use tokio::sync::watch;
use wherry_model::{InstanceId, Timestamp};

use crate::images::ImagesStatus;

/// What the agent is doing about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Fetching its image, or waiting to try again.
    Pulling,
    /// Making sandbox and containers.
    Starting,
    /// Keeping it running.
    Running,
    /// Waiting for the next start by the restart policy.
    WaitingToRestart,
    /// Stopping or removing it.
    Stopping,
    /// Nothing of it runs, as desired.
    Ended,
    /// It could not be started.
    Failed,
    /// Its sandbox contradicts the desired state that is known; left alone until the control plane speaks.
    Unconfirmed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Pulling,
        Self::Starting,
        Self::Running,
        Self::WaitingToRestart,
        Self::Stopping,
        Self::Ended,
        Self::Failed,
        Self::Unconfirmed,
    ];

    /// The name of the phase in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::WaitingToRestart => "waiting_to_restart",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// The state of an agent at one moment. Troubles are sentences for the operator; none means that it works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentStatus {
    /// What is being done about each instance that the agent knows.
    pub instances: BTreeMap<InstanceId, Phase>,
    /// What keeps an instance from its desired state, for each that something does.
    pub instance_troubles: BTreeMap<InstanceId, String>,
    /// Instances that should run here and that the control plane may run elsewhere when this node is lost.
    pub replaceable: usize,
    /// Revision of the desired state that the agent works towards; none before the first.
    pub desired_revision: Option<u64>,
    /// Facts that the control plane has not taken.
    pub journal_facts: usize,
    /// Why the journal takes nothing.
    pub journal_trouble: Option<String>,
    /// When the control plane last took a proof of life.
    pub last_heartbeat: Option<Timestamp>,
    /// Why the container engine cannot be asked.
    pub runtime_trouble: Option<String>,
    /// Why the firewall could not be set.
    pub firewall_trouble: Option<String>,
    /// Why the control plane could not be reached.
    pub control_plane_trouble: Option<String>,
    /// Images on this machine.
    pub images: ImagesStatus,
    /// Names of the zone that this node answers.
    pub names: usize,
    /// Why names, other nodes and neighbours are not known anew; what was known goes on.
    pub surroundings_trouble: Option<String>,
    /// Why not every other node can be reached.
    pub routes_trouble: Option<String>,
}

impl AgentStatus {
    /// How many instances are in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        self.instances.values().filter(|known| **known == phase).count()
    }
}

/// Where the parts of the agent write what they see of themselves.
#[derive(Debug, Default)]
pub(crate) struct Board(watch::Sender<AgentStatus>);

impl Board {
    pub(crate) fn subscribe(&self) -> watch::Receiver<AgentStatus> {
        self.0.subscribe()
    }

    /// Sets one field; wakes nobody when it is as before.
    pub(crate) fn set<T: PartialEq>(&self, field: impl Fn(&mut AgentStatus) -> &mut T, value: T) {
        self.0.send_if_modified(|status| {
            let place = field(status);
            let changed = *place != value;
            *place = value;
            changed
        });
    }

    /// What is being done about an instance; no phase when it is gone.
    pub(crate) fn set_phase(&self, instance: InstanceId, phase: Option<Phase>) {
        self.0.send_if_modified(|status| {
            if let Some(phase) = phase {
                return status.instances.insert(instance, phase) != Some(phase);
            }
            let had_trouble = status.instance_troubles.remove(&instance).is_some();
            status.instances.remove(&instance).is_some() || had_trouble
        });
    }

    /// What keeps an instance from its desired state. Logged when it changes.
    pub(crate) fn set_trouble(&self, instance: InstanceId, trouble: Option<&str>) {
        self.0.send_if_modified(|status| {
            if status.instance_troubles.get(&instance).map(String::as_str) == trouble {
                return false;
            }
            match trouble {
                Some(trouble) => {
                    tracing::warn!(%instance, trouble, "the instance cannot be brought to its desired state now");
                    status.instance_troubles.insert(instance, trouble.to_owned());
                }
                None => {
                    status.instance_troubles.remove(&instance);
                }
            }
            true
        });
    }
}
