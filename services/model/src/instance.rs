//! The instance as a record: what was asked, where it is, what was last seen of it.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::fact::ContainerExit;
use crate::fleet::Demand;
use crate::id::{InstanceId, NodeId, ProjectId, TenantId};
use crate::name::{ContainerName, InstanceName, ProjectName};
use crate::reference::Digest;
use crate::spec::{ContainerKind, InstanceSpec};
use crate::terms::{DeviceSet, GpuDemand, Terms};
use crate::time::Timestamp;

/// Counts changes of an instance's spec or placement. Every message about an instance carries it; an older one loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// That of a new instance.
    pub const FIRST: Self = Self(1);

    /// The following one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts writes of the record; the guard of every update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// That it runs, within its restart policy.
    Run,
    /// That it does not run but can be started again.
    Stop,
    /// That it is gone.
    Delete,
}

/// Where an instance is in its life (DESIGN section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It left its node and waits for a place on another.
    Pending,
    /// Placed; its node has not begun yet.
    Scheduled,
    /// Its image is being fetched.
    Pulling,
    /// Sandbox and container are being made, or it waits for its next restart.
    Starting,
    /// At least one container runs.
    Running,
    /// A stop was asked for and is under way.
    Stopping,
    /// Stopped by the user; name and logs are kept, nothing is reserved or metered.
    Stopped,
    /// All containers ended with exit code 0 and are not restarted.
    Succeeded,
    /// It ended otherwise, or could not be started.
    Failed,
    /// A delete was asked for and is under way.
    Deleting,
    /// Gone; readable for the retention time.
    Deleted,
    /// Its node is silent; nobody knows.
    Unknown,
}

impl InstanceState {
    /// Every state.
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

    /// Whether it stays so until the user asks for something else.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Stopped | Self::Succeeded | Self::Failed | Self::Deleted)
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an instance or a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The program ended by itself.
    Exited,
    /// It wanted more memory than it asked for.
    OomKilled,
    /// Somebody asked for a stop.
    StoppedByUser,
    /// The image could not be fetched.
    ImagePullFailed,
    /// The image may not run here.
    ImageRefused,
    /// The container could not be started, for example because its program does not exist.
    StartFailed,
    /// The machine restarted or lost the container; when exactly it ended is not known.
    NodeLost,
    /// The service needed its machine.
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
    /// It wrote more to the disk than it may.
    DiskExceeded,
    /// A reason that a later release has written and this one does not know.
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

/// One run of one container, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRun {
    /// 1 for the first run of the container's life, never used twice.
    pub number: u32,
    /// When its process was started.
    pub started_at: Timestamp,
    /// How it ended; absent while it runs.
    pub end: Option<ContainerExit>,
}

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its name in the spec.
    pub name: ContainerName,
    /// What the image reference meant at the first pull; every later start runs exactly this.
    pub image_digest: Option<Digest>,
    /// Its latest runs, oldest first, at most [`Self::MAX_RUNS_KEPT`].
    pub runs: Vec<ContainerRun>,
    /// Starts by the restart policy, over all generations.
    pub restart_count: u32,
    /// Starts that follow a run which was ended because somebody asked for that, or for a change that takes it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked_restart_count: u32,
    /// When the restart policy will start it again.
    pub restart_at: Option<Timestamp>,
    /// What its agent said last of its present run: that its probes do not find it ready (yet).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unready: bool,
    /// Counts what makes a run of it out of date: changes of its spec that it cannot take while it runs, and restarts that
    /// somebody asked for. Its agent ends a run that was started for a lower one and starts another. 0 in a new generation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u32,
    /// Whether a run of that revision was asked for, has not begun, and follows another of this generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_due: bool,
    /// Whether somebody has asked that the registry be asked what its image reference means, and it has not been yet: what the
    /// same reference means to others on its machine does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_registry: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ContainerStatus {
    /// Runs that are kept in the record; the events know older ones.
    pub const MAX_RUNS_KEPT: usize = 10;

    /// Of a container that never ran.
    pub fn new(name: ContainerName) -> Self {
        Self {
            name,
            image_digest: None,
            runs: Vec::new(),
            restart_count: 0,
            asked_restart_count: 0,
            restart_at: None,
            unready: false,
            revision: 0,
            is_due: false,
            asks_registry: false,
        }
    }

    /// The latest run.
    pub fn latest_run(&self) -> Option<&ContainerRun> {
        self.runs.last()
    }

    /// Whether it runs and its probes, if it has any, find it ready.
    pub fn is_ready(&self) -> bool {
        self.is_running() && !self.unready
    }

    /// Its latest run, if that was started by or after the run `first_run` of its instance's generation.
    pub fn run_since(&self, first_run: u32) -> Option<&ContainerRun> {
        self.latest_run().filter(|run| run.number >= first_run)
    }

    /// Whether its latest run has not ended.
    pub fn is_running(&self) -> bool {
        self.latest_run().is_some_and(|run| run.end.is_none())
    }
}

/// Why a node must end an instance that its user wants to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Once it has ended there it is placed elsewhere.
    Move,
    /// It is stopped, with `evicted` as the reason.
    Evict,
}

/// Where one meter of an instance stands. The intervals themselves are rows of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meter {
    /// Start of the open interval, if one is open.
    pub open_since: Option<Timestamp>,
    /// End of the latest closed interval: nothing before it may be metered again.
    pub until: Option<Timestamp>,
}

/// Where an instance with a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timetable {
    /// The time for which a run is to be begun next, or was to be and could not yet. None while it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// When that is looked at: at that time, or later when it is tried again. The stores find what is due by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// How often that was tried in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// Why in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The time for which the present or latest run was begun; none when somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_of: Option<Timestamp>,
    /// How the run before the present one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<FinishedRun>,
}

/// How a run of an instance with a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// The time of the schedule for which it was begun; none when somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Timestamp>,
    /// In which state.
    pub state: InstanceState,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When a container first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the last container ended.
    pub finished_at: Timestamp,
}

/// What a node has to do about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Keep it running, within its restart policy.
    Run,
    /// Keep it stopped, with its logs.
    Stop,
    /// Remove every trace of it, then say so.
    Remove,
}

/// The whole record of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// For ever its own.
    pub id: InstanceId,
    /// Who pays.
    pub tenant: TenantId,
    /// Which folder of the tenant.
    pub project: ProjectId,
    /// That folder's name.
    pub project_name: ProjectName,
    /// Unique in tenant and project among instances that are not deleted.
    pub name: InstanceName,
    /// What was asked.
    pub spec: InstanceSpec,
    /// Counts changes of spec or placement.
    pub generation: Generation,
    /// Counts changes of the spec that were made in place, over all generations. They are no new generation: what runs is kept.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub updates: u64,
    /// Counts writes of this record.
    pub revision: Revision,
    /// What the user wants.
    pub intent: Intent,
    /// Where it is placed, or was last: its logs are there.
    pub node: Option<NodeId>,
    /// Whether its demand is taken from that node's row.
    pub holds_resources: bool,
    /// Which GPUs of that node it has, or had last.
    #[serde(default, skip_serializing_if = "DeviceSet::is_empty")]
    pub gpus: DeviceSet,
    /// While its node is being emptied of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// While its room is needed for others: when it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_at: Option<Timestamp>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// Why it ended, once it has.
    pub reason: Option<EndReason>,
    /// What a person should know about the present state.
    pub message: Option<String>,
    /// Who asked for something of it last, as its events name them; once a stop or a delete was asked for, who asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// Its address while it has a sandbox.
    pub address: Option<Ipv4Addr>,
    /// One per container of the spec, in its order.
    pub containers: Vec<ContainerStatus>,
    /// The number that the first run of this generation gets.
    pub first_run: u32,
    /// While its node is silent: the last proof of life, at which its meter was closed.
    pub unknown_since: Option<Timestamp>,
    /// The meter of running time.
    pub run_meter: Meter,
    /// The meter of image pulls; a line of its own on the bill.
    pub pull_meter: Meter,
    /// When the create was accepted.
    pub created_at: Timestamp,
    /// When the record was last written.
    pub updated_at: Timestamp,
    /// When a container first ran in this generation.
    pub started_at: Option<Timestamp>,
    /// When the last container of this generation ended.
    pub finished_at: Option<Timestamp>,
    /// When it is deleted by the service, because its spec says how long it is kept after its end. Follows from the rest of the
    /// record; stands in it because the stores find what is due by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where it stands with its schedule, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timetable: Option<Timetable>,
    /// When it was gone.
    pub deleted_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_none_yet(count: &u64) -> bool {
    *count == 0
}

impl Instance {
    /// Counts every change of spec or placement: what tenants call the generation, and name when they want to change exactly
    /// what they have read.
    pub const fn version(&self) -> Generation {
        Generation(self.generation.0.saturating_add(self.updates))
    }

    /// What it takes from its node, or would from another while it holds nothing.
    pub fn demand(&self) -> Demand {
        let devices = if self.holds_resources { self.gpus } else { DeviceSet::default() };
        Demand { gpu: self.gpu_on(devices), tenant: Some(self.tenant), ..self.spec.demand() }
    }

    /// What it has taken from its node, or had before it was given back.
    pub fn demand_held(&self) -> Demand {
        Demand { gpu: self.gpu_on(self.gpus), ..self.demand() }
    }

    fn gpu_on(&self, devices: DeviceSet) -> Option<GpuDemand> {
        self.spec.gpu.map(|asked| GpuDemand { devices, ..asked })
    }

    /// What it asks about the other instances on its node, and what they may ask about it.
    pub fn terms(&self) -> Terms {
        self.spec.terms(self.tenant)
    }

    /// Whether a container is known to run.
    pub fn any_container_runs(&self) -> bool {
        self.containers.iter().any(ContainerStatus::is_running)
    }

    /// What its node has to do.
    pub fn action(&self) -> Action {
        match self.intent {
            Intent::Delete => Action::Remove,
            Intent::Run if !self.state.is_settled() && self.leaving.is_none() => Action::Run,
            Intent::Run | Intent::Stop => Action::Stop,
        }
    }

    /// Whether every main container runs and is found ready by its probes.
    pub fn is_ready(&self) -> bool {
        let main = self.spec.containers.iter().filter(|container| container.kind == ContainerKind::Main);
        let mut lasting = main.filter(|container| !self.spec.runs_once(container));
        self.state == InstanceState::Running
            && lasting.all(|spec| self.container(&spec.name).is_some_and(ContainerStatus::is_ready))
    }

    /// The status of the container `name`.
    pub fn container(&self, name: &ContainerName) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| &container.name == name)
    }
}

/// What happened to an instance. Events are what `GET …/events` streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each name says it; the message of an event tells the rest. `Other` is what a later release wrote"
)]
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
    /// Every kind that this release writes.
    pub const ALL: [Self; 27] = [
        Self::Created,
        Self::PullStarted,
        Self::PullRetrying,
        Self::Pulled,
        Self::VolumeRetrying,
        Self::VolumeReady,
        Self::ContainerStarted,
        Self::ContainerReady,
        Self::ContainerUnready,
        Self::ContainerExited,
        Self::StopRequested,
        Self::StartRequested,
        Self::RestartRequested,
        Self::Updated,
        Self::Stopped,
        Self::Succeeded,
        Self::Failed,
        Self::DeleteRequested,
        Self::Deleted,
        Self::Unknown,
        Self::Recovered,
        Self::Leaving,
        Self::Displaced,
        Self::Scheduled,
        Self::RunSkipped,
        Self::RunMissed,
        Self::RunPostponed,
    ];

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

/// One event, before the store numbers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When it happened.
    pub at: Timestamp,
    /// The state afterwards.
    pub state: InstanceState,
    /// The generation it belongs to.
    pub generation: Generation,
    /// A sentence for a person; never names a node.
    pub message: String,
    /// Who asked for it, for events that somebody asked for.
    pub actor: Option<String>,
}
