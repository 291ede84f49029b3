//! The fleet as its operator sees it: machines, how they join, are emptied and leave. Tenants see none of this.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::room::Room;
use crate::state::{Architecture, DrainThen, FleetEventKind, Isolation, NodeState};
use crate::{number, text};

/// Seconds for which a join token works unless something else is asked for.
pub const DEFAULT_JOIN_TOKEN_TTL_SECONDS: u32 = 3_600;

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// For ever its own.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// What operators call it.
    pub name: String,
    /// Its kind.
    pub architecture: Architecture,
    /// The isolation classes that it offers.
    #[serde(default)]
    pub isolation: Vec<Isolation>,
    /// Whether it takes new instances.
    pub state: NodeState,
    /// What it can hand out.
    pub capacity: NodeCapacity,
    /// What it has handed out.
    pub used: NodeCapacity,
    /// The part of the fleet in which it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::ZoneName)]
    pub zone: Option<String>,
    /// Disk for instances that ask for an amount of it; absent where it is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = NodeDisk)]
    pub disk: Option<NodeDisk>,
    /// Its GPUs; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = NodeGpus)]
    pub gpus: Option<NodeGpus>,
    /// The tenant that has it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Id)]
    pub sole_tenant_id: Option<String>,
    /// How much of what it has it hands out; absent when that is all of it and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Overcommit)]
    pub overcommit: Option<Overcommit>,
    /// The range its instances get addresses from.
    #[schema(value_type = text::AddressRange)]
    pub address_range: String,
    /// The address at which the other machines reach it; absent where there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = Ipv4, example = "192.0.2.7")]
    pub underlay: Option<String>,
    /// The last moment for which it has proved what runs on it.
    #[schema(value_type = text::Time)]
    pub proof_at: String,
    /// For how many seconds nothing has been heard of it, when that is longer than the detection time; also of one that is
    /// cordoned or being emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, example = 42)]
    pub silent_seconds: Option<u64>,
    /// While it is being emptied, and afterwards until that is cancelled or it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = NodeDrain)]
    pub drain: Option<NodeDrain>,
}

/// Disk of a machine for what instances write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeDisk {
    /// All of it, in MiB.
    pub total_mib: u64,
    /// What it has handed out, in MiB.
    pub used_mib: u64,
}

/// GPUs of a machine, all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeGpus {
    /// Their kind; absent where the machine does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::GpuModel)]
    pub model: Option<String>,
    /// How much of each it has handed out, in percent, in the order of their numbers.
    #[schema(max_items = 16)]
    pub used_percent: Vec<u8>,
}

/// How much of what it has a machine hands out, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overcommit {
    /// Of CPU.
    #[schema(minimum = 1, maximum = 1000, example = 150)]
    pub cpu_percent: u16,
    /// Of memory.
    #[schema(minimum = 1, maximum = 1000, example = 100)]
    pub memory_percent: u16,
    /// Of disk.
    #[schema(minimum = 1, maximum = 1000, example = 100)]
    pub disk_percent: u16,
}

/// Amounts of what a machine can hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NodeCapacity {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// MiB of memory.
    pub memory_mib: u64,
    /// Number of instances.
    pub instances: u32,
}

/// How far the emptying of a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeDrain {
    /// When it was asked for.
    #[schema(value_type = text::Time)]
    pub asked_at: String,
    /// Until then instances may end by themselves.
    #[schema(value_type = text::Time)]
    pub grace_until: String,
    /// What happens to those that have not.
    pub then: DrainThen,
    /// Instances that still hold a part of the machine. It is empty at 0.
    pub left: u32,
    /// Of those: being stopped to be placed elsewhere.
    pub moving: u32,
    /// Of those: being stopped for good.
    pub stopping: u32,
    /// Of those: running on, because their grace is not over, because no other machine has room for them now, or because
    /// the machine is silent.
    pub staying: u32,
    /// Instances that have left since the answering replica saw the drain first.
    pub gone: u32,
    /// Whether the machine is silent: nothing can be stopped on it until it is heard again or confirmed to be off.
    pub waits_for_node: bool,
}

/// All machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// The machines.
    pub items: Vec<Node>,
}

/// Body of a drain. An empty object is a drain without grace that moves what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"grace_seconds": 300, "then": "move"})))]
pub struct NodeDrainRequest {
    /// Seconds in which instances may end by themselves; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 0, maximum = 604_800, example = 300)]
    pub grace_seconds: Option<u32>,
    /// What happens to those that have not; `move` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<DrainThen>,
}

/// Body of a join token's create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"ttl_seconds": 3600})))]
pub struct JoinTokenCreate {
    /// Seconds for which it works; 3600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 60, maximum = 604_800, example = 3_600)]
    pub ttl_seconds: Option<u32>,
    /// The range that the machine's instances get addresses from; the next free one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::AddressRange>)]
    pub address_range: Option<String>,
}

/// A join token that was just made, with all that a machine needs to use it. It works once, and is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenCreated {
    /// Its public part.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// The token.
    #[schema(example = "wjt_0193573e-7a00-7000-8000-0000000000a1_J2uXf1mYb0Qk8h3oZq7Xw5cT9dL4vEsRn1aGpKiUyM")]
    pub token: String,
    /// When it stops working.
    #[schema(value_type = text::Time)]
    pub expires_at: String,
    /// The range that the machine will get, when one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::AddressRange)]
    pub address_range: Option<String>,
    /// Where the machine has to join.
    #[schema(example = "https://192.0.2.1:7443")]
    pub join_url: String,
    /// SHA-256 of the certificate authority that the service proves itself with there, so that the token is given to
    /// nobody else.
    #[schema(
        pattern = "^sha256:[0-9a-f]{64}$",
        example = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    )]
    pub ca_fingerprint: String,
}

impl std::fmt::Debug for JoinTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinTokenCreated").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A process that answers for the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    /// New at each start.
    #[schema(value_type = text::Id)]
    pub id: String,
    /// Where machines call it; absent when it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, example = "https://192.0.2.1:7443")]
    pub agents_url: Option<String>,
    /// When it was last seen.
    #[schema(value_type = text::Time)]
    pub seen_at: String,
}

/// All replicas that were seen lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaList {
    /// The replicas.
    pub items: Vec<Replica>,
}

/// Some secrets, sealed with the newest key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretsResealed {
    /// The id of that key.
    #[schema(example = "2026-11")]
    pub key: String,
    /// Instances and webhooks that were looked at for this answer.
    pub examined: u32,
    /// Those among them of which secrets were sealed anew; the others need nothing.
    pub resealed: u32,
    /// Secrets that could not be opened, because their key is not at the replica that answers: they stay as they are.
    pub unopened: u32,
    /// Ask again with this as `after`; absent when all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::ResealCursor)]
    pub next: Option<String>,
}

/// The whole fleet in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// How many machines are in which state.
    pub nodes: NodeCounts,
    /// What all machines can hand out.
    pub capacity: NodeCapacity,
    /// What all machines have handed out.
    pub used: NodeCapacity,
    /// `used` as a part of `capacity`, in thousandths.
    pub packing: Packing,
    /// Their GPUs; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = FleetGpus)]
    pub gpus: Option<FleetGpus>,
    /// How well the machines are used, and what still fits.
    #[serde(default)]
    pub room: Room,
    /// Instances that wait for room on a machine, counted up to 1000.
    pub pending_instances: u32,
    /// Why nothing is placed anew although machines are lost: too many are silent at once, so it is taken for a fault of
    /// the network. Absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub brake: Option<String>,
}

/// The GPUs of all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetGpus {
    /// How many there are.
    pub count: u32,
    /// What is handed out of them, in percent of one.
    pub used_percent: u64,
}

/// Machines by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// Take new instances.
    pub ready: u32,
    /// Keep what they have.
    pub cordoned: u32,
    /// Are being emptied.
    pub draining: u32,
    /// Are not heard of.
    pub silent: u32,
}

/// How full the fleet is, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Packing {
    /// Of the CPU.
    #[schema(minimum = 0, maximum = 1000, example = 815)]
    pub cpu_permille: u32,
    /// Of the memory.
    #[schema(minimum = 0, maximum = 1000, example = 640)]
    pub memory_permille: u32,
    /// Of the places for instances.
    #[schema(minimum = 0, maximum = 1000, example = 120)]
    pub instances_permille: u32,
}

/// One thing that happened to the fleet: the `data` of a server-sent event whose `id` is `seq` and whose `event` is `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetEvent {
    /// Counts what the answering replica has seen since it started. Another replica has other numbers.
    #[schema(minimum = 1)]
    pub seq: u64,
    /// When it was seen.
    #[schema(value_type = text::Time)]
    pub at: String,
    /// What happened.
    pub kind: FleetEventKind,
    /// To which machine, if to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = text::Id)]
    pub node_id: Option<String>,
    /// What an operator should know.
    #[schema(example = "the node lyon-3 is silent")]
    pub message: String,
}

/// One server-sent event of the fleet, as a client of the stream receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetEventMessage {
    /// The event's `seq`.
    #[schema(pattern = "^[0-9]+$", example = "42")]
    pub id: String,
    /// The event's `kind`.
    pub event: FleetEventKind,
    /// A FleetEvent as JSON.
    #[schema(content_media_type = "application/json")]
    pub data: String,
}
