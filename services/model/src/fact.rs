//! What an agent saw. Facts are journaled on the node before they are sent, and are applied exactly once.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::instance::{EndReason, Generation};
use crate::name::{ContainerName, VolumeName};
use crate::reference::Digest;
use crate::time::Timestamp;

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    /// When its process had ended.
    pub finished_at: Timestamp,
    /// Exit code; 128 + signal number when a signal ended it.
    pub exit_code: i32,
    /// The signal number, when one ended it.
    pub signal: Option<u8>,
    /// Why.
    pub reason: EndReason,
    /// What a person should know, for example how much memory it was allowed.
    pub message: Option<String>,
}

impl ContainerExit {
    /// Whether it is not as it should be that it ended so. What a probe, a hook or a deadline ended may well have ended with 0.
    pub const fn is_failure(&self) -> bool {
        let is_blamed = matches!(
            self.reason,
            EndReason::ProbeFailed | EndReason::HookFailed | EndReason::DeadlineExceeded | EndReason::DiskExceeded
        );
        self.exit_code != 0 || is_blamed
    }
}

/// One thing that happened on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The image of `container` is being fetched.
    PullStarted {
        /// Whose image.
        container: ContainerName,
    },
    /// Fetching failed; it is tried again at `retry_at`.
    PullRetrying {
        /// Whose image.
        container: ContainerName,
        /// What the registry said.
        message: String,
        /// When the next try begins. One that does not lie ahead when this is said, of an instance that runs: none does, what ran
        /// before runs on.
        retry_at: Timestamp,
    },
    /// The image of `container` is on the node.
    Pulled {
        /// Whose image.
        container: ContainerName,
        /// What its reference means.
        digest: Digest,
        /// Whether it was there before.
        cached: bool,
    },
    /// What a volume is to hold could not be fetched; it is tried again at `retry_at`.
    VolumeRetrying {
        /// Which volume.
        volume: VolumeName,
        /// What was answered.
        message: String,
        /// When the next try begins.
        retry_at: Timestamp,
    },
    /// A volume holds what was to be fetched.
    VolumeReady {
        /// Which volume.
        volume: VolumeName,
        /// What it holds.
        message: String,
    },
    /// The sandbox has an address and its place in the firewall.
    SandboxReady {
        /// The address.
        address: Ipv4Addr,
    },
    /// A process was started.
    ContainerStarted {
        /// Which container.
        container: ContainerName,
        /// Which run of it.
        run: u32,
        /// When.
        started_at: Timestamp,
    },
    /// What its probes find of a run that goes on.
    Readiness {
        /// Which container.
        container: ContainerName,
        /// Which run of it.
        run: u32,
        /// Whether it is ready.
        ready: bool,
        /// What the probe said, when it is not.
        message: Option<String>,
    },
    /// A process has ended.
    ContainerExited {
        /// Which container.
        container: ContainerName,
        /// Which run of it.
        run: u32,
        /// When it had been started; a start that was never reported is learnt from here.
        started_at: Timestamp,
        /// How.
        exit: ContainerExit,
        /// When it will be started again; never when absent.
        restart_at: Option<Timestamp>,
    },
    /// It cannot be started, now or later; nothing of it runs.
    Failed {
        /// Why.
        reason: EndReason,
        /// What a person should know and do.
        message: String,
    },
    /// Nothing of it runs any more and its sandbox is gone; its logs are kept.
    SandboxStopped,
    /// Every trace of it is gone from the node.
    Removed,
}

/// A fact about one instance, numbered by its agent's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Position in the agent's journal; contiguous, never used twice for another fact.
    pub seq: u64,
    /// Which instance.
    pub instance: InstanceId,
    /// Which generation of it.
    pub generation: Generation,
    /// Which revision of the container that it is about, if it is about one ([`crate::ContainerStatus::revision`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// When the agent noticed.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Fact {
    /// The version of the agents' contract that knows it. Whoever speaks an older one does not understand it and must not be
    /// told: an instance of which such a thing can be said is only given to agents that speak this one, but an agent may be
    /// at a replica that is older than itself for a while.
    pub const fn least_protocol(&self) -> u32 {
        let reason = match self {
            Self::Readiness { .. } | Self::VolumeRetrying { .. } | Self::VolumeReady { .. } => return 3,
            Self::ContainerExited { exit, .. } => exit.reason,
            Self::Failed { reason, .. } => *reason,
            Self::PullStarted { .. }
            | Self::PullRetrying { .. }
            | Self::Pulled { .. }
            | Self::SandboxReady { .. }
            | Self::ContainerStarted { .. }
            | Self::SandboxStopped
            | Self::Removed => return 2,
        };
        match reason {
            EndReason::ProbeFailed
            | EndReason::HookFailed
            | EndReason::DependencyFailed
            | EndReason::DeadlineExceeded
            | EndReason::Restarted
            | EndReason::VolumeFailed
            | EndReason::DiskExceeded
            | EndReason::Other => 3,
            EndReason::Exited
            | EndReason::OomKilled
            | EndReason::StoppedByUser
            | EndReason::ImagePullFailed
            | EndReason::ImageRefused
            | EndReason::StartFailed
            | EndReason::NodeLost
            | EndReason::Evicted => 2,
        }
    }
}
