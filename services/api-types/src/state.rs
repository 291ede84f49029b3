//! The closed sets of the API.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It had to leave its machine and waits for room on another one. Nothing is metered meanwhile.
    Pending,
    /// Accepted and placed; nothing of it has begun yet.
    Scheduled,
    /// Its image is being fetched.
    Pulling,
    /// It is being started, or waits for its next restart.
    Starting,
    /// At least one container runs.
    Running,
    /// A stop is under way.
    Stopping,
    /// Stopped; name and logs are kept, nothing is metered.
    Stopped,
    /// All containers ended with exit code 0 and are not restarted.
    Succeeded,
    /// It ended otherwise, or could not be started.
    Failed,
    /// A delete is under way.
    Deleting,
    /// Gone; readable by its id for some days.
    Deleted,
    /// Its machine is silent. Nothing is metered meanwhile.
    Unknown,
}

impl InstanceState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Scheduled,
        Self::Pulling,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Succeeded,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
        Self::Unknown,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it stays so until somebody asks for something else.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Stopped | Self::Succeeded | Self::Failed | Self::Deleted)
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can be waited for: a state, or what several of them have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitState {
    /// It has to leave its machine and waits for room on another one.
    Pending,
    /// Accepted and placed.
    Scheduled,
    /// Its image is being fetched.
    Pulling,
    /// It is being started.
    Starting,
    /// At least one container runs.
    Running,
    /// A stop is under way.
    Stopping,
    /// Stopped.
    Stopped,
    /// All containers ended with exit code 0.
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// A delete is under way.
    Deleting,
    /// Gone.
    Deleted,
    /// Its machine is silent.
    Unknown,
    /// It runs, and every container that is there to last is found ready by its probes.
    Ready,
    /// It is stopped, succeeded, failed or deleted: nothing of it goes on by itself.
    Ended,
}

impl WaitState {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Pending,
        Self::Scheduled,
        Self::Pulling,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Succeeded,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
        Self::Unknown,
        Self::Ready,
        Self::Ended,
    ];

    /// The state that it is; none when it is more than one.
    pub const fn state(self) -> Option<InstanceState> {
        match self {
            Self::Pending => Some(InstanceState::Pending),
            Self::Scheduled => Some(InstanceState::Scheduled),
            Self::Pulling => Some(InstanceState::Pulling),
            Self::Starting => Some(InstanceState::Starting),
            Self::Running => Some(InstanceState::Running),
            Self::Stopping => Some(InstanceState::Stopping),
            Self::Stopped => Some(InstanceState::Stopped),
            Self::Succeeded => Some(InstanceState::Succeeded),
            Self::Failed => Some(InstanceState::Failed),
            Self::Deleting => Some(InstanceState::Deleting),
            Self::Deleted => Some(InstanceState::Deleted),
            Self::Unknown => Some(InstanceState::Unknown),
            Self::Ready | Self::Ended => None,
        }
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match (self.state(), self) {
            (Some(state), _) => state.as_str(),
            (None, Self::Ready) => "ready",
            (None, _) => "ended",
        }
    }
}

impl From<InstanceState> for WaitState {
    fn from(state: InstanceState) -> Self {
        match state {
            InstanceState::Pending => Self::Pending,
            InstanceState::Scheduled => Self::Scheduled,
            InstanceState::Pulling => Self::Pulling,
            InstanceState::Starting => Self::Starting,
            InstanceState::Running => Self::Running,
            InstanceState::Stopping => Self::Stopping,
            InstanceState::Stopped => Self::Stopped,
            InstanceState::Succeeded => Self::Succeeded,
            InstanceState::Failed => Self::Failed,
            InstanceState::Deleting => Self::Deleting,
            InstanceState::Deleted => Self::Deleted,
            InstanceState::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for WaitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// It has not run in this generation, or waits for its next restart.
    Waiting,
    /// Its process runs.
    Running,
    /// It has ended.
    Ended,
}

/// Why an instance or a run of a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The program ended by itself.
    Exited,
    /// It wanted more memory than it had asked for.
    OomKilled,
    /// Somebody asked for a stop.
    StoppedByUser,
    /// The image could not be fetched.
    ImagePullFailed,
    /// The image may not run here.
    ImageRefused,
    /// The container could not be started, for example because its program does not exist.
    StartFailed,
    /// Its machine restarted or lost it, or was lost itself; when exactly it ended is not known.
    NodeLost,
    /// The service needed its machine and stopped it. Starting it again runs it elsewhere.
    Evicted,
    /// Its liveness or startup probe failed too often in a row.
    ProbeFailed,
    /// What was to be done right after its start failed.
    HookFailed,
    /// A container for which others wait came to its end and will not be what they wait for.
    DependencyFailed,
    /// The time that it was given was over.
    DeadlineExceeded,
    /// It was ended to be started again: somebody asked for that, or for a change that takes it.
    Restarted,
    /// What a volume is to hold could not be fetched.
    VolumeFailed,
    /// The instance wrote more to the disk than it may.
    DiskExceeded,
    /// Another reason, which a later release knows.
    #[serde(other)]
    Other,
}

impl EndReason {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::OomKilled => "oom_killed",
            Self::StoppedByUser => "stopped_by_user",
            Self::ImagePullFailed => "image_pull_failed",
            Self::ImageRefused => "image_refused",
            Self::StartFailed => "start_failed",
            Self::NodeLost => "node_lost",
            Self::Evicted => "evicted",
            Self::ProbeFailed => "probe_failed",
            Self::HookFailed => "hook_failed",
            Self::DependencyFailed => "dependency_failed",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Restarted => "restarted",
            Self::VolumeFailed => "volume_failed",
            Self::DiskExceeded => "disk_exceeded",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens when a container ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It is started again, whatever its exit code.
    Always,
    /// It is started again unless it exited with 0.
    #[default]
    OnFailure,
    /// It stays ended.
    Never,
}

/// What happens when the machine of an instance is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNodeLoss {
    /// It is never run twice: it waits, `unknown`, until its machine is heard of again. While only a network between
    /// is cut it runs on. If its machine is found to be gone for good it ends as `failed` with the reason `node_lost`.
    #[default]
    Keep,
    /// It is run elsewhere, once it is certain that it does not run any more where it was: that takes some minutes. An
    /// instance whose machine is cut off from the service for that long is stopped there.
    Replace,
}

impl OnNodeLoss {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Replace => "replace",
        }
    }
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
}

/// Instruction set of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64
    Amd64,
    /// AArch64
    Arm64,
}

/// How far an instance is kept apart from what else runs on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, cgroups and a filter of system calls on the machine's own kernel. Every machine offers it.
    #[default]
    Shared,
    /// A kernel of its own in user space, as gVisor has it.
    Sandboxed,
    /// A virtual machine of its own, as Kata Containers have it.
    VirtualMachine,
}

/// Among whom the label of an instance is unique, and who can have its DNS name when it is gone. A name is never another tenant's
/// later, whatever the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DnsReuseScope {
    /// Instances of the same project. They also find each other by the label alone.
    #[default]
    Project,
    /// Instances of any project of the same tenant.
    Tenant,
    /// Nobody: the instance gets a domain of its own, which nothing gets again.
    None,
}

/// What happened to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name says it; the message of an event tells the rest")]
pub enum EventKind {
    Created,
    PullStarted,
    PullRetrying,
    Pulled,
    VolumeRetrying,
    VolumeReady,
    ContainerStarted,
    ContainerReady,
    ContainerUnready,
    ContainerExited,
    StopRequested,
    StartRequested,
    RestartRequested,
    Updated,
    Stopped,
    Succeeded,
    Failed,
    DeleteRequested,
    Deleted,
    Unknown,
    Recovered,
    Leaving,
    Displaced,
    Scheduled,
    RunSkipped,
    RunMissed,
    RunPostponed,
    #[serde(other)]
    Other,
}

impl EventKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::PullStarted => "pull_started",
            Self::PullRetrying => "pull_retrying",
            Self::Pulled => "pulled",
            Self::VolumeRetrying => "volume_retrying",
            Self::VolumeReady => "volume_ready",
            Self::ContainerStarted => "container_started",
            Self::ContainerReady => "container_ready",
            Self::ContainerUnready => "container_unready",
            Self::ContainerExited => "container_exited",
            Self::StopRequested => "stop_requested",
            Self::StartRequested => "start_requested",
            Self::RestartRequested => "restart_requested",
            Self::Updated => "updated",
            Self::Stopped => "stopped",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::DeleteRequested => "delete_requested",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
            Self::Recovered => "recovered",
            Self::Leaving => "leaving",
            Self::Displaced => "displaced",
            Self::Scheduled => "scheduled",
            Self::RunSkipped => "run_skipped",
            Self::RunMissed => "run_missed",
            Self::RunPostponed => "run_postponed",
            Self::Other => "other",
        }
    }
}

/// One permission of a key or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    /// Read instances, events and projects.
    #[serde(rename = "instances:read")]
    InstancesRead,
    /// Create, stop, start and delete instances and projects.
    #[serde(rename = "instances:write")]
    InstancesWrite,
    /// Run programs inside of containers.
    #[serde(rename = "instances:exec")]
    InstancesExec,
    /// Read what containers print.
    #[serde(rename = "logs:read")]
    LogsRead,
    /// Read usage and cost.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// Make, list and revoke API keys of the own tenant.
    #[serde(rename = "keys:write")]
    KeysWrite,
    /// Operate the service: tenants, keys of any tenant, machines. Implied by no other scope.
    #[serde(rename = "admin")]
    Admin,
}

/// Which meter an interval belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Containers ran.
    Run,
    /// An image was pulled; free unless the operator says otherwise.
    Pull,
}

/// What happens to instances that are still on a machine when the grace of its drain is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainThen {
    /// They are stopped there and then run elsewhere, never in two places.
    #[default]
    Move,
    /// They are stopped, with the reason `evicted`; their owners may start them again.
    Stop,
}

impl DrainThen {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Stop => "stop",
        }
    }
}

/// What happened to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name says it; the message of an event tells the rest")]
pub enum FleetEventKind {
    NodeJoined,
    NodeChanged,
    NodeReady,
    NodeCordoned,
    NodeDraining,
    NodeDrained,
    NodeSilent,
    NodeFenced,
    NodeRemoved,
    BrakeOn,
    BrakeOff,
    Placed,
    Asked,
}

impl FleetEventKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeJoined => "node_joined",
            Self::NodeChanged => "node_changed",
            Self::NodeReady => "node_ready",
            Self::NodeCordoned => "node_cordoned",
            Self::NodeDraining => "node_draining",
            Self::NodeDrained => "node_drained",
            Self::NodeSilent => "node_silent",
            Self::NodeFenced => "node_fenced",
            Self::NodeRemoved => "node_removed",
            Self::BrakeOn => "brake_on",
            Self::BrakeOff => "brake_off",
            Self::Placed => "placed",
            Self::Asked => "asked",
        }
    }
}

/// Whether a machine takes new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Takes new instances.
    Ready,
    /// Keeps what it has, takes nothing new.
    Cordoned,
    /// Is being emptied, takes nothing new.
    Draining,
    /// Not heard of for longer than the detection time.
    Silent,
}
