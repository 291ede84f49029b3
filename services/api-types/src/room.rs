//! Where there is room, and why there is none: decisions of placement explained, and the fleet as it would be. For operators.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::{NodeCapacity, Packing};
use crate::state::InstanceState;
use crate::{number, text};

/// Why something would be placed where it would, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What is asked of a machine.
    pub demand: NodeCapacity,
    /// How many machines there are.
    pub nodes: u32,
    /// How many of them no rule refuses.
    pub fits: u32,
    /// How many each rule refuses; a machine can be refused by several. Rules that refuse none are absent.
    pub refused: Vec<RefusedBy>,
    /// The best of those that are left, the best first, at most three.
    pub best: Vec<Candidate>,
    /// What the tenant is told; absent when there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub told: Option<String>,
    /// How long it is expected to run; absent when that is not learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ExpectedLife)]
    pub lifetime: Option<ExpectedLife>,
    /// Of an instance: its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = InstanceState)]
    pub state: Option<InstanceState>,
    /// Of an instance: the machine on which it is placed. What it holds there is taken as free for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PlacedOn)]
    pub placed_on: Option<PlacedOn>,
}

/// How long an instance is expected to run on, learnt from those before it. It is placed where all on a machine end together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedLife {
    /// The mean. No more than a day is looked ahead.
    pub remaining_seconds: u64,
    /// From how many like it that was learnt.
    pub learnt_from: u32,
    /// The same in words, and what makes them like it.
    #[schema(example = "expected to run about 2 h more: learnt from 314 of the same image and size")]
    pub message: String,
}

/// A machine by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacedOn {
    /// Its id.
    #[schema(value_type = text::Id)]
    pub node_id: String,
    /// Its name.
    pub node: String,
}

/// How many machines a rule refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedBy {
    /// The rule.
    #[schema(example = "memory")]
    pub rule: String,
    /// How many machines it refuses.
    pub nodes: u32,
    /// What these have in common.
    #[schema(example = "with too little memory left")]
    pub message: String,
}

/// A machine that could take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Its id.
    #[schema(value_type = text::Id)]
    pub node_id: String,
    /// Its name.
    pub node: String,
    /// What was compared, the most important first; less is better.
    pub score: Vec<ScorePart>,
}

/// One part of a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScorePart {
    /// Which.
    #[schema(example = "residue_mib")]
    pub name: String,
    /// How much; less is better.
    pub value: u64,
}

/// How well the machines are used that take new instances, and what still fits on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Room {
    /// Machines that take new instances and have any.
    pub used_nodes: u32,
    /// How full these are.
    pub packing: Packing,
    /// CPU that would be left over if all were filled up with more of what is there: memory runs out before it.
    pub stranded_cpu_millis: u64,
    /// Memory that would be left over likewise.
    pub stranded_memory_mib: u64,
    /// The commonest sizes of instances, the commonest first, at most five.
    pub shapes: Vec<ShapeRoom>,
    /// Machines whose instances were looked at for that: all, or of a large fleet as many, evenly chosen.
    pub sampled_nodes: u32,
}

/// How many more instances of a size fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShapeRoom {
    /// Its CPU, in thousandths of a core.
    pub cpu_millis: u64,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// How many there are, on the machines that were looked at.
    pub instances: u32,
    /// How many more fit.
    pub fits: u64,
    /// How many more would fit if all that is free were on one machine. What `fits` is below it is lost to fragmentation.
    pub fits_by_totals: u64,
}

/// A change of the fleet to think through. Nothing is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"drain": ["lyon-3"], "add": {"count": 3, "cpu": "8", "memory": "32Gi"}})))]
pub struct WhatIf {
    /// Machines that are emptied, by name or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::NodeNameOrId>, max_items = 100)]
    pub drain: Vec<String>,
    /// Machines that join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<NodesToAdd>,
}

/// Machines that join: like one that is there, or of this size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesToAdd {
    /// How many.
    #[serde(deserialize_with = "number::whole")]
    #[schema(minimum = 1, maximum = 1000, example = 3)]
    pub count: u32,
    /// Name or id of one that is there. Without it give `cpu` and `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::NodeNameOrId>)]
    pub like: Option<String>,
    /// What each hands out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::CpuQuantity>)]
    pub cpu: Option<String>,
    /// What each hands out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MemoryQuantity>)]
    pub memory: Option<String>,
}

/// What would become of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhatIfAnswer {
    /// As it is.
    pub before: Room,
    /// As it would be.
    pub after: Room,
    /// What would leave the machines that are emptied; of many the first 1000.
    pub moves: Vec<Move>,
    /// How many instances would leave in all.
    pub moved: u32,
    /// How many of these would find no place. Their machines would not become empty.
    pub stuck: u32,
    /// Instances that wait for room now, counted up to 1000.
    pub waiting: u32,
    /// How many of these would get a place.
    pub waiting_placed: u32,
}

/// An instance that would leave its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Move {
    /// The instance.
    #[schema(value_type = text::Id)]
    pub instance_id: String,
    /// Its name.
    pub instance: String,
    /// Whose it is.
    #[schema(value_type = text::Id)]
    pub tenant_id: String,
    /// What it asks of a machine.
    pub demand: NodeCapacity,
    /// From which machine.
    pub from: String,
    /// To which one; absent when none would take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub to: Option<String>,
    /// Why none would take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub why_not: Option<String>,
}
