//! How long to wait before something is tried again.
//!
//! A container that ends is started again after 1 s, 2 s, 4 s … up to 60 s. Kubernetes waits 10 s to 300 s; here the
//! tenant pays for nothing while it waits and one container's restarts cannot starve another, so waiting that long would
//! only annoy. A run of ten minutes counts as success: the next wait is short again.

use std::time::Duration;

/// A run that lasted so long ends the count of restarts in a row.
pub(crate) const RESET_AFTER: Duration = Duration::from_mins(10);

/// No container waits longer than this for its next run or pull. A moment that lies further ahead says that the clock was
/// set back.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A doubling wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// Between two runs of a container.
    pub(crate) const RESTART: Self = Self { first: Duration::from_secs(1), most: LONGEST_WAIT };
    /// Between two tries of a pull.
    pub(crate) const PULL: Self = Self { first: Duration::from_secs(1), most: LONGEST_WAIT };
    /// Between two tries of anything that the machine itself hinders (engine, firewall, disk).
    pub(crate) const MACHINE: Self = Self { first: Duration::from_millis(200), most: Duration::from_secs(5) };
    /// Between two tries to reach the control plane.
    pub(crate) const CONTROL_PLANE: Self = Self { first: Duration::from_millis(100), most: Duration::from_secs(5) };

    /// The wait after the failure number `failures` in a row; none before the first.
    pub(crate) fn delay(self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                self.first.saturating_mul(1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX)).min(self.most)
            }
        }
    }
}

/// The number of the coming restart in a row, after `so_far` of them and a run that lasted `ran`.
pub(crate) fn next_in_a_row(so_far: u32, ran: Duration) -> u32 {
    if ran >= RESET_AFTER { 1 } else { so_far.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn restarts_wait_one_second_doubling_to_sixty() {
        let waits: Vec<u64> = (0..9).map(|failures| Backoff::RESTART.delay(failures).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    proptest! {
        #[test]
        fn waits_never_shrink_and_never_exceed_the_bound(failures in 1_u32..u32::MAX) {
            let (this, next) = (Backoff::RESTART.delay(failures), Backoff::RESTART.delay(failures + 1));
            prop_assert!(this <= next);
            prop_assert!(next <= LONGEST_WAIT);
            prop_assert!(this >= Duration::from_secs(1));
        }

        #[test]
        fn a_long_run_resets_and_a_short_one_counts(so_far in 0_u32..1_000, ran_seconds in 0_u64..2_000) {
            let next = next_in_a_row(so_far, Duration::from_secs(ran_seconds));
            prop_assert_eq!(next, if ran_seconds >= 600 { 1 } else { so_far + 1 });
        }
    }
}
