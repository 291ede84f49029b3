//! Where an instance may be placed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{number, text};

/// Where an instance is placed, by the tenant's other instances: of all its projects, those that are placed now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"spread": [{"label": "app", "over": "zone"}], "apart": ["app=batch"]})))]
pub struct Placement {
    /// Evenly: all rules hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4)]
    pub spread: Vec<Spread>,
    /// Only on a machine with an instance that carries the label, for each of these; the first one that carries it itself goes
    /// anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::LabelMatch>, max_items = 16)]
    pub near: Vec<String>,
    /// Only on a machine with no instance that carries one of these labels, and none that does comes there later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::LabelMatch>, max_items = 16)]
    pub apart: Vec<String>,
}

/// Even distribution of the instances that carry the same value of a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The key of a label that this instance carries.
    #[schema(value_type = text::LabelKey)]
    pub label: String,
    /// Where it goes there are then at most so many more than where there are fewest; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional::whole")]
    #[schema(minimum = 1, maximum = 1000, example = 1)]
    pub max_skew: Option<u32>,
    /// Over what; `node` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<SpreadOver>,
}

/// Over what instances are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpreadOver {
    /// Machines.
    #[default]
    Node,
    /// Zones. Machines without one are a zone together.
    Zone,
}

/// What an instance may cost others, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// It stays where it is.
    #[default]
    Regular,
    /// It is cheaper. When a regular instance has no other place it is stopped, with the reason `evicted`, 30 seconds after its event
    /// `leaving`.
    Spot,
}
