//! What an agent saw. Facts are journaled on the node before they are sent, and are applied exactly once.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::instance::{EndReason, Generation};
use crate::name::ContainerName;
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
        /// When the next try begins.
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
    /// When the agent noticed.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
}
