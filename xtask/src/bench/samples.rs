//! Measured durations and their percentiles.

use std::fmt;
use std::time::Duration;

/// Durations of one subject.
#[derive(Debug, Default)]
pub(super) struct Samples {
    sorted: Vec<Duration>,
}

impl Samples {
    pub(super) fn add(&mut self, sample: Duration) {
        let position = self.sorted.partition_point(|other| *other < sample);
        self.sorted.insert(position, sample);
    }

    /// Nearest rank: the smallest sample that at least `percent` of all do not exceed. Zero without samples.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// Milliseconds with one digit.
pub(super) struct Milliseconds(pub(super) Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.1}", self.0.as_secs_f64() * 1000.0);
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let mut samples = Samples::default();
        for millis in (1..=100).rev() {
            samples.add(Duration::from_millis(millis));
        }
        assert_eq!(samples.percentile(50), Duration::from_millis(50));
        assert_eq!(samples.percentile(99), Duration::from_millis(99));
        assert_eq!(samples.percentile(100), Duration::from_millis(100));
        let mut single = Samples::default();
        single.add(Duration::from_millis(7));
        assert_eq!(single.percentile(1), Duration::from_millis(7));
        assert_eq!(Samples::default().percentile(99), Duration::ZERO);
    }
}
