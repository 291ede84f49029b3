//! How fast a container prints, and what of it is kept: a token bucket over the bytes of its log file.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::LogLimits;

/// Smaller excesses are not worth a file of their own.
const LEAST_EXCESS_BYTES: u64 = 64 * 1024;

/// One run's output as it grows.
#[derive(Debug)]
pub(super) struct Flow {
    at: Instant,
    /// Length of the file that is being written, when it was looked at last.
    length: u64,
    /// Bytes that it may still print at once. Negative when it printed more.
    credit: i64,
}

impl Flow {
    /// Begins with a file of any length: what was printed before anybody looked is not held against it beyond the burst.
    pub(super) fn new(now: Instant, limits: &LogLimits) -> Self {
        Self { at: now, length: 0, credit: signed(limits.burst_bytes) }
    }

    /// The file has this length now. Answers by how much too much was printed, when that is worth cutting.
    pub(super) fn grow(&mut self, length: u64, now: Instant, limits: &LogLimits) -> Option<u64> {
        let earned = bytes_in(now.duration_since(self.at), limits.rate_bytes);
        self.credit = self.credit.saturating_add(earned).min(signed(limits.burst_bytes));
        self.credit = self.credit.saturating_sub(signed(length.saturating_sub(self.length)));
        (self.at, self.length) = (now, length);
        let excess = u64::try_from(self.credit.saturating_neg()).unwrap_or(0);
        (excess > limits.rate_bytes.max(LEAST_EXCESS_BYTES)).then_some(excess)
    }

    /// A new file was begun, and so much of the last will be dropped.
    pub(super) fn begin_anew(&mut self, dropped: u64) {
        self.length = 0;
        self.credit = self.credit.saturating_add(signed(dropped));
    }
}

fn bytes_in(time: Duration, rate_bytes: u64) -> i64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    signed(u64::try_from(u128::from(micros) * u128::from(rate_bytes) / 1_000_000).unwrap_or(u64::MAX))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rate_is_kept() {
        let limits = LogLimits { rate_bytes: 100_000, burst_bytes: 1_000_000, ..LogLimits::default() };
        let begun = Instant::now();
        let mut flow = Flow::new(begun, &limits);
        assert_eq!(flow.grow(1_050_000, begun, &limits), None, "hardly too much");
        let later = begun + Duration::from_secs(1);
        assert_eq!(flow.grow(1_250_000, later, &limits), Some(150_000));
        flow.begin_anew(150_000);
        for second in 2..50 {
            assert_eq!(flow.grow((second - 1) * 100_000, begun + Duration::from_secs(second), &limits), None);
        }
        let rested = begun + Duration::from_secs(1_000);
        assert_eq!(flow.grow(4_800_000 + 1_000_000, rested, &limits), None);
        assert_eq!(flow.grow(4_800_000 + 1_100_001, rested, &limits), Some(100_001));
    }
}
