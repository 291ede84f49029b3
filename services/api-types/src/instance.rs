//! An instance as its tenant sees it. Fields that have no value yet are absent.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::spec::InstanceSpec;
use crate::state::{ContainerState, EndReason, InstanceState};
use crate::text;

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// For ever its own: a later instance of the same name has another one.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Unique in its project among instances that are not deleted.
    #[schema(value_type = text::InstanceName)]
    pub name: String,
    /// Its project.
    #[schema(value_type = text::LabelName)]
    pub project: String,
    /// Counts changes of its spec or placement. It is also the `ETag` of the instance.
    #[schema(minimum = 1, example = 1)]
    pub generation: u64,
    /// Where it is in its life.
    pub state: InstanceState,
    /// Why it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EndReason)]
    pub reason: Option<EndReason>,
    /// What a person should know about the present state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub message: Option<String>,
    /// Who asked for something of it last, as its events name them: of an instance that was stopped, who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub asked_by: Option<String>,
    /// Its DNS name, served while it has an address.
    #[schema(example = "web.4kq2x7.local.wherry.internal")]
    pub fqdn: String,
    /// Its IPv4 address, while it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = Ipv4, example = "10.77.0.2")]
    pub address: Option<String>,
    /// How far the fetching of its image is, while it is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Progress)]
    pub progress: Option<Progress>,
    /// Whether every container that is there to last runs and is found ready by its probes. Its DNS name is answered then.
    #[serde(default)]
    pub ready: bool,
    /// One per container of the spec, in its order.
    pub containers: Vec<Container>,
    /// Likewise, of those that run before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
    /// What it costs.
    pub cost: Cost,
    /// What was asked for, defaults filled in.
    pub spec: InstanceSpec,
    /// When the create was accepted.
    #[schema(value_type = text::Time)]
    pub created_at: String,
    /// When anything about it last changed.
    #[schema(value_type = text::Time)]
    pub updated_at: String,
    /// When a container first ran, since the instance was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub started_at: Option<String>,
    /// When its last container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub finished_at: Option<String>,
    /// When it is deleted by itself: `ttl_seconds` after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub expires_at: Option<String>,
    /// The next times at which its schedule starts it, at most five; none while that is suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Time>, max_items = 5)]
    pub next_runs: Vec<String>,
    /// The time for which a run could not be started yet, while that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = WaitingRun)]
    pub waiting_run: Option<WaitingRun>,
    /// How its latest run ended, if it has a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = FinishedRun)]
    pub last_run: Option<FinishedRun>,
    /// When it was gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub deleted_at: Option<String>,
}

/// A run that could not be started at its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingRun {
    /// The time of the schedule.
    #[schema(value_type = text::Time)]
    pub due: String,
    /// When it is tried again.
    #[schema(value_type = text::Time)]
    pub retry_at: String,
    /// Why it could not be started.
    pub message: String,
}

/// How a run of an instance with a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FinishedRun {
    /// The time of the schedule for which it was started; absent when somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub due: Option<String>,
    /// In which state: `succeeded`, `failed` or `stopped`.
    pub state: InstanceState,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EndReason)]
    pub reason: Option<EndReason>,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub message: Option<String>,
    /// When a container first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub started_at: Option<String>,
    /// When its last container ended.
    #[schema(value_type = text::Time)]
    pub finished_at: String,
}

/// One container of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// Its name in the spec.
    #[schema(value_type = text::LabelName)]
    pub name: String,
    /// The image that was asked for.
    #[schema(value_type = text::ImageReference)]
    pub image: String,
    /// What that meant at the first pull; every start runs exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::ImageDigest)]
    pub image_digest: Option<String>,
    /// Whether it runs.
    pub state: ContainerState,
    /// Whether it runs and its probes, if it has any, find it ready.
    #[serde(default)]
    pub ready: bool,
    /// How often the restart policy has started it again.
    pub restart_count: u32,
    /// How often it was started again because somebody asked for that, or for a change that takes it.
    #[serde(default)]
    pub asked_restart_count: u32,
    /// When the restart policy will start it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub restart_at: Option<String>,
    /// Its latest runs, oldest first.
    #[schema(max_items = 10)]
    pub runs: Vec<ContainerRun>,
}

/// One run of a container, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerRun {
    /// 1 for its first run.
    #[schema(minimum = 1)]
    pub number: u32,
    /// When its process was started.
    #[schema(value_type = text::Time)]
    pub started_at: String,
    /// When its process had ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Time)]
    pub finished_at: Option<String>,
    /// Exit code, 128 + signal number when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i32)]
    pub exit_code: Option<i32>,
    /// The signal, when one is known to have ended it: an exit code above 128 alone does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u8)]
    pub signal: Option<u8>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EndReason)]
    pub reason: Option<EndReason>,
    /// What a person should know about its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub message: Option<String>,
}

/// How far the fetching of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes that are known to be needed; grows while the image is explored.
    pub total_bytes: u64,
    /// Layers that are here.
    #[serde(default)]
    pub done_layers: u32,
    /// Layers that are known to be needed; 0 while nothing is known of them.
    #[serde(default)]
    pub total_layers: u32,
}

/// What an instance costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// From its creation to the last second that it is known to have run.
    #[schema(value_type = text::DecimalAmount)]
    pub so_far: String,
    /// While it runs.
    #[schema(value_type = text::DecimalAmount)]
    pub per_hour: String,
    /// Of both.
    #[schema(value_type = text::CurrencyCode)]
    pub currency: String,
}

/// A page of instances, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    /// The instances.
    pub items: Vec<Instance>,
    /// The `cursor` of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::PageCursor)]
    pub next: Option<String>,
}

/// What a create or an update would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// Whether there is room for it now.
    pub fits: bool,
    /// Why there is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub why_not: Option<String>,
    /// What it would cost while it runs.
    #[schema(value_type = text::DecimalAmount)]
    pub price_per_hour: String,
    /// Of the price.
    #[schema(value_type = text::CurrencyCode)]
    pub currency: String,
    /// Fields that an update would change, by their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Containers that an update would end and start again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarts: Vec<ContainerRestart>,
    /// The next times at which its schedule would start it, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Time>, max_items = 5)]
    pub next_runs: Vec<String>,
}

/// The answer of a change of an instance: the instance, or what a dry run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Updated {
    /// As it is now.
    Instance(Box<Instance>),
    /// What would become of it.
    DryRun(DryRun),
}

/// A container that an update would end and start again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerRestart {
    /// Which.
    #[schema(value_type = text::LabelName)]
    pub container: String,
    /// The fields of it that it cannot take while it runs.
    pub because: Vec<String>,
}

/// The answer of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// Whether the instance is as it was waited for. False after the time is over, or when it
    /// cannot get there any more without being asked to.
    pub reached: bool,
    /// The instance as it is now.
    pub instance: Instance,
}
