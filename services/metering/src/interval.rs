//! One metered interval of one instance.

use wherry_model::lifecycle::MeterKind;
use wherry_model::{CpuMillis, Generation, InstanceId, InstanceName, MemoryMib, ProjectId, TenantId, Timestamp};

use crate::error::RatingError;
use crate::window::Window;

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

/// What an interval amounts to within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantity {
    /// Grid seconds.
    pub seconds: i64,
    /// Thousandths of a core, times seconds.
    pub cpu_milli_seconds: i64,
    /// MiB, times seconds.
    pub memory_mib_seconds: i64,
}

impl Interval {
    /// The seconds that it covers as far as is known at `now`. While it is open they end with the last proof of life, and
    /// never in the future. A run that began and ended within one second covers none.
    pub fn covered(&self, now: Timestamp) -> Window {
        let end = self.end_second.unwrap_or_else(|| now.min(self.proved_until).grid_second());
        Window::new(self.start_second, end.max(self.start_second))
    }

    /// What it amounts to within `window`, as far as is known at `now`; never negative.
    pub fn quantity(&self, window: Window, now: Timestamp) -> Result<Quantity, RatingError> {
        let too_large = || RatingError::QuantityTooLarge(self.instance);
        let seconds = i64::try_from(self.covered(now).overlap(window).seconds()).map_err(|_| too_large())?;
        Ok(Quantity {
            seconds,
            cpu_milli_seconds: seconds.checked_mul(i64::from(self.cpu.get())).ok_or_else(too_large)?,
            memory_mib_seconds: seconds.checked_mul(i64::from(self.memory.get())).ok_or_else(too_large)?,
        })
    }
}
