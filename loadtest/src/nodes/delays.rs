//! How long a simulated node takes to start an instance.
//!
//! Drawn from what real starts took: `docs/benchmarks.md`, section "Start", row `wherry` (60 warm starts with containerd 1.6 and runc on
//! a machine of two cores, 2026-11-23: p50 79.2 ms, p99 101.5 ms from the call to the program's first byte). Only these two percentiles
//! are kept there, so the draw is a line through them: from as far below the median as the 99th lies above it, to a
//! hundredth that takes up to a second. Images are taken to be there; a pull is as long as its network likes and measures nothing of
//! a control plane.

use std::time::Duration;

use crate::system::Seeded;

/// (share of starts in permille, they take at most so many microseconds); linear in between.
const STARTS: [(u64, u64); 4] = [(0, 57_300), (500, 79_200), (990, 101_500), (1_000, 1_000_000)];

/// The delay of one start.
pub(crate) fn draw(random: &mut Seeded) -> Duration {
    // In millionths: permille have too few steps for the last hundredth.
    at(random.below(1_000_000))
}

fn at(millionths: u64) -> Duration {
    for pair in STARTS.windows(2) {
        let [(from, least), (to, most)] = [pair[0], pair[1]].map(|(permille, micros)| (permille * 1_000, micros));
        if millionths < to {
            return Duration::from_micros(least + (most - least) * (millionths - from) / (to - from));
        }
    }
    Duration::from_micros(STARTS[STARTS.len() - 1].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_percentiles_come_out() {
        assert_eq!(at(500_000), Duration::from_micros(79_200));
        assert_eq!(at(990_000), Duration::from_micros(101_500));
        assert!(at(0) < at(1) + Duration::from_nanos(1) && at(999_999) < Duration::from_secs(1));
        let mut random = Seeded::new(3);
        let mut drawn: Vec<Duration> = (0..10_000).map(|_| draw(&mut random)).collect();
        drawn.sort_unstable();
        let half = drawn[5_000].as_millis();
        assert!((77..=81).contains(&half), "the median of the draw is {half} ms");
    }
}
