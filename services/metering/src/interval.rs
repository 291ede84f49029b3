//! One metered interval of one instance.

use wherry_model::lifecycle::MeterKind;
use wherry_model::{CpuMillis, Generation, InstanceId, InstanceName, MemoryMib, ProjectId, TenantId, Timestamp};

/// An interval as the store keeps it. `(instance, kind, number)` is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Whose time it is.
    pub instance: InstanceId,
    /// That instance's name, for the reader of a bill.
    pub name: InstanceName,
    /// Who pays.
    pub tenant: TenantId,
    /// Under which project.
    pub project: ProjectId,
    /// Running, or pulling an image.
    pub kind: MeterKind,
    /// 1 for the first interval of this kind, counting up.
    pub number: u32,
    /// The generation that ran.
    pub generation: Generation,
    /// CPU that was asked for.
    pub cpu: CpuMillis,
    /// Memory that was asked for.
    pub memory: MemoryMib,
    /// The price book it is rated with.
    pub price_book: String,
    /// First grid second that is covered.
    pub start_second: i64,
    /// First grid second that is not covered any more; absent while it is open.
    pub end_second: Option<i64>,
    /// While open: the last moment for which the node has proved that it runs.
    pub proved_until: Timestamp,
    /// Whether it was booked after its node had been silent.
    pub late: bool,
}
