//! What was used and what it costs, so that anyone can recompute it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::MeterKind;
use crate::text;

/// What was used in a window of time. The lines sum up to the total exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// First second of the window.
    #[schema(value_type = text::Time)]
    pub from: String,
    /// First second after the window.
    #[schema(value_type = text::Time)]
    pub to: String,
    /// Sum of all lines.
    #[schema(value_type = text::DecimalAmount)]
    pub total: String,
    /// Of all amounts.
    #[schema(value_type = text::CurrencyCode)]
    pub currency: String,
    /// By instance, kind of meter, and time.
    pub lines: Vec<UsageLine>,
}

/// One metered interval within the window, rated for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// Which instance.
    #[schema(value_type = text::Id)]
    pub instance_id: String,
    /// That instance's name.
    #[schema(value_type = text::InstanceName)]
    pub instance: String,
    /// Which meter.
    pub kind: MeterKind,
    /// Which resource.
    pub resource: Resource,
    /// First second that is covered.
    #[schema(value_type = text::Time)]
    pub from: String,
    /// First second that is not covered any more.
    #[schema(value_type = text::Time)]
    pub to: String,
    /// Seconds in between.
    #[schema(minimum = 0)]
    pub seconds: i64,
    /// What was asked for, times the seconds, in `unit`.
    #[schema(pattern = "^[0-9]{1,19}$", example = "250000")]
    pub quantity: String,
    /// Unit of the quantity.
    pub unit: UsageUnit,
    /// Price of one unit.
    #[schema(value_type = text::DecimalAmount)]
    pub unit_price: String,
    /// `quantity` × `unit_price`.
    #[schema(value_type = text::DecimalAmount)]
    pub amount: String,
    /// Whether the interval is still open, so that the line grows.
    pub open: bool,
    /// Whether it was booked after the instance's machine had been silent.
    pub late: bool,
}

/// What is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
}

/// Units of quantities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageUnit {
    /// A thousandth of a core during one second.
    MilliCoreSecond,
    /// One MiB during one second.
    MibSecond,
}
