//! The clock of the start benchmark.
//!
//! The measured program writes the monotonic clock as its first act, so the end of the measured span is exact and
//! nobody has to watch for it. Rejected: taking the time when the byte arrives here, which would charge each engine
//! for the way its logs are read.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// The first starts fill caches and are not counted.
pub(super) const WARM_UP: usize = 3;

/// Something that starts the program, once, and cleans up after it.
pub(super) trait Subject {
    /// Column in the table of results.
    fn name(&self) -> &str;

    /// Starts the program and waits until it has written; answers the time from the order to the first byte.
    fn start_once(&mut self, number: usize) -> Result<Duration>;
}

/// The monotonic clock, the one that the program writes.
pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Reads what the program wrote and answers the time since `ordered`.
pub(super) fn since(ordered: Duration, written: &str) -> Result<Duration> {
    let nanoseconds: u64 =
        written.trim().parse().with_context(|| format!("the program wrote {written:?}, no clock"))?;
    Duration::from_nanos(nanoseconds).checked_sub(ordered).context("the program wrote before it was ordered")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_exact_and_nonsense_is_refused() {
        let ordered = Duration::from_micros(1);
        assert_eq!(since(ordered, "1500\n").unwrap(), Duration::from_nanos(500));
        assert!(since(ordered, "900").is_err());
        assert!(since(ordered, "sh: not found").is_err());
    }
}
