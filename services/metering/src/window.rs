//! A span of grid seconds.

/// The grid seconds from `from_second` up to, not including, `to_second`; none when that is not later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// First second since the Unix epoch that belongs to it.
    pub from_second: i64,
    /// First second after it.
    pub to_second: i64,
}

impl Window {
    /// Every second.
    pub const ALWAYS: Self = Self { from_second: i64::MIN, to_second: i64::MAX };

    /// The seconds from `from_second` up to, not including, `to_second`.
    pub const fn new(from_second: i64, to_second: i64) -> Self {
        Self { from_second, to_second }
    }

    /// Whether no second belongs to it.
    pub const fn is_empty(self) -> bool {
        self.to_second <= self.from_second
    }

    /// How many seconds belong to it.
    pub const fn seconds(self) -> u64 {
        if self.is_empty() { 0 } else { self.to_second.abs_diff(self.from_second) }
    }

    /// The seconds that belong to both.
    #[must_use]
    pub fn overlap(self, other: Self) -> Self {
        Self { from_second: self.from_second.max(other.from_second), to_second: self.to_second.min(other.to_second) }
    }
}
